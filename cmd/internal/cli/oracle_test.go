package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/internal/picklegen"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

// sample is a model of one file in memory.
type sample struct {
	name string
	data []byte
}

func (f sample) List(context.Context) ([]model.Entry, error) {
	return []model.Entry{{Path: f.name, Size: int64(len(f.data))}}, nil
}

func (f sample) Open(context.Context, string) (model.Blob, error) { return f.blob(), nil }
func (f sample) blob() model.Blob                                 { return inMemory{bytes.NewReader(f.data)} }

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error     { return nil }
func (inMemory) Unchanged() error { return nil }

func scanOne(tb testing.TB, f sample) *scan.Report {
	tb.Helper()
	m, err := model.Load(context.Background(), "test", f)
	if err != nil {
		tb.Fatal(err)
	}
	rep, err := scan.Run(context.Background(), m, scan.Default())
	if err != nil {
		tb.Fatal(err)
	}
	return rep
}

// converts carries out the conversion, every byte of it. Where a checkpoint
// has weights in several parts, or tensors that safetensors holds in pieces,
// the user has to say what is wanted; everything is, here.
func converts(f sample) error {
	ctx, in := context.Background(), convert.Input{Path: f.name, Blob: f.blob()}
	p, err := convert.File(ctx, in, convert.Options{})
	var ambiguous *torch.AmbiguousError
	var unsupported *torch.UnsupportedError
	if errors.As(err, &ambiguous) || errors.As(err, &unsupported) {
		p, err = convert.File(ctx, in, convert.Options{Select: torch.WholeRoot, SplitQuantized: true, SplitSparse: true})
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.NewSectionReader(p, 0, p.Size()))
	return err
}

// streamsOf gives the pickles of a file that was called convertible, each to
// where pickletools says that it ends.
func streamsOf(tb testing.TB, g *realtools.Genops, kind model.Format, b []byte) error {
	tb.Helper()
	switch kind {
	case model.TorchZip:
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		for _, e := range z.File {
			if filepath.Base(e.Name) != "data.pkl" {
				continue
			}
			r, err := e.Open()
			if err != nil {
				return err
			}
			stream, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if err := whole(tb, g, stream, 1, true); err != nil {
				return err
			}
		}
		return nil
	case model.TorchLegacy:
		return whole(tb, g, b, 5, false)
	case model.Pickle:
		return whole(tb, g, b, 1, true)
	}
	return nil
}

// whole asks pickletools for n pickles, one after the other.
func whole(tb testing.TB, g *realtools.Genops, b []byte, n int, all bool) error {
	tb.Helper()
	for range n {
		at, failed := g.Offsets(tb, b)
		if failed != "" || len(at) == 0 {
			return fmt.Errorf("pickletools: %s", failed)
		}
		b = b[at[len(at)-1]+1:]
	}
	if all && len(b) > 0 {
		return fmt.Errorf("%d bytes follow the pickle", len(b))
	}
	return nil
}

// empty says that a file is refused only because it holds plain values and no
// tensor: there is nothing that a conversion could lose.
func empty(err error) bool {
	var unsupported *format.UnsupportedError
	return errors.As(err, &unsupported) && strings.HasSuffix(unsupported.What, "without any array in it")
}

// oracle checks what the verdict promises: convertible means that the
// conversion succeeds and that CPython reads the same opcodes.
func oracle(tb testing.TB, g *realtools.Genops, f sample) scan.Verdict {
	tb.Helper()
	rep := scanOne(tb, f)
	if rep.Verdict != scan.Convertible {
		return rep.Verdict
	}
	if err := converts(f); err != nil && !empty(err) {
		tb.Errorf("%s, %s, is called convertible, and is not: %v", f.name, rep.Files[0].Format, err)
	}
	if err := streamsOf(tb, g, rep.Files[0].Format, f.data); err != nil {
		tb.Errorf("%s, %s, is called convertible: %v", f.name, rep.Files[0].Format, err)
	}
	return rep.Verdict
}

// generateCheckpoint makes a file of a kind, valid or not.
func generateCheckpoint(c *picklegen.Choices, kind byte, broken bool) sample {
	var k *picklegen.Checkpoint
	switch kind % 3 {
	case 0, 1:
		k = picklegen.Torch(c)
	default:
		k = picklegen.Arrays(c)
	}
	f := sample{k.Name, k.Data}
	switch {
	case !broken:
	case k.Archive != nil && c.Below(3) > 0:
		k.Archive.Mutate(c)
		f.data = k.Archive.Bytes()
	default:
		f.data = picklegen.Mutate(c, k.Data)
	}
	return f
}

func TestGeneratedConvert(t *testing.T) {
	t.Parallel()
	g := realtools.StartGenops(t)
	count := map[bool]map[scan.Verdict]int{false: {}, true: {}}
	for seed := range uint64(1500) {
		for _, broken := range []bool{false, true} {
			f := generateCheckpoint(picklegen.FromSeed(seed), byte(seed), broken)
			v := oracle(t, g, f)
			count[broken][v]++
			if !broken && v != scan.Convertible {
				rep, _ := json.Marshal(scanOne(t, f))
				t.Errorf("seed %d: a valid checkpoint is called %s\n%s", seed, v, rep)
			}
			if t.Failed() {
				t.Fatalf("seed %d, broken %v\n%q", seed, broken, f.data)
			}
		}
	}
	t.Logf("valid: %v, changed: %v", count[false], count[true])
}

// The same for all that the corpus calls convertible, and what is changed in it.
func TestConvertibleCorpus(t *testing.T) {
	t.Parallel()
	g := realtools.StartGenops(t)
	n := 0
	for _, dir := range []string{"threats", "checkpoints"} {
		err := filepath.WalkDir(filepath.Join("..", "..", "..", "testdata", dir), func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			t.Run(p, func(t *testing.T) {
				f := sample{filepath.Base(p), b}
				if oracle(t, g, f) != scan.Convertible {
					return
				}
				n++
				c := picklegen.FromSeed(uint64(n))
				for range 20 {
					if len(b) < 64<<10 {
						oracle(t, g, sample{f.name, picklegen.Mutate(c, b)})
					}
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 30 {
		t.Errorf("only %d files of the corpus are called convertible", n)
	}
}

func FuzzConvertible(f *testing.F) {
	for i := range byte(12) {
		f.Add([]byte{i, i * 7, i * 31}, i, i%2 == 1, false)
	}
	g := realtools.StartGenops(f)
	f.Fuzz(func(t *testing.T, in []byte, kind byte, broken, raw bool) {
		if raw {
			oracle(t, g, sample{[]string{"a.pt", "a.pkl", "a.pth"}[kind%3], in})
			return
		}
		oracle(t, g, generateCheckpoint(picklegen.FromBytes(in), kind, broken))
	})
}
