package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/weightseal/weightseal/convert"
)

// checkOrigin checks what was written into a staging directory from a layout or
// registry, whose ranges are read unverified: that each conversion is of the
// bytes that the manifest names, and that each copy is of them.
func checkOrigin(ctx context.Context, set *convert.Set, from *origin, dir string, bar *progress) error {
	if from == nil {
		return nil
	}
	digests := map[string]string{}
	for _, f := range from.statement.Files {
		digests[f.Path] = f.Digest
	}
	bySource := map[string][]*convert.Plan{}
	for _, p := range set.Plans {
		bySource[p.Source.Path] = append(bySource[p.Source.Path], p)
	}
	for source, plans := range bySource {
		bar.say("check", source)
		if err := checkConverted(ctx, plans, digests, dir); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	for _, f := range set.Kept {
		sum := sha256.New()
		if err := readInto(sum, filepath.Join(dir, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
		if err := sameDigest(f.Path, hex.EncodeToString(sum.Sum(nil)), digests); err != nil {
			return err
		}
	}
	return nil
}

// checkConverted reads the source once more as a whole, and proves that the
// plans' files on disk are made of it.
func checkConverted(ctx context.Context, plans []*convert.Plan, digests map[string]string, dir string) error {
	seen, err := convert.WitnessAll(ctx, plans)
	if err != nil {
		return err
	}
	for _, p := range plans {
		r := p.NewRecorder()
		if err := readInto(r, filepath.Join(dir, filepath.FromSlash(p.Path))); err != nil {
			return err
		}
		proof, err := p.Prove(r, seen)
		if err != nil {
			return err
		}
		for _, part := range proof.SourceParts {
			if err := sameDigest(part.Path, part.Digest, digests); err != nil {
				return err
			}
		}
		if len(proof.SourceParts) == 0 {
			if err := sameDigest(p.Source.Path, proof.SourceDigest, digests); err != nil {
				return err
			}
		}
	}
	return nil
}

func readInto(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func sameDigest(path, got string, digests map[string]string) error {
	if want := digests[path]; want != "sha256:"+got {
		return fmt.Errorf("%s: the bytes that were read are sha256:%s, the manifest names %s; nothing was written", path, got, want)
	}
	return nil
}
