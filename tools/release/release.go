package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/weightseal/weightseal/attest"
)

// release is one release in the making.
type release struct {
	source    string // the checkout
	out       string // where it goes
	tag       string // v1.2.3
	version   string // 1.2.3
	url       string // where it will be fetched from
	builder   string // who builds it, a URI
	date      time.Time
	platforms []platform
	log       io.Writer

	binaries map[platform][]byte
	digests  map[string]string // of the files written, hexadecimal SHA-256
}

var versions = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func newRelease(source, out, tag string) (*release, error) {
	if !versions.MatchString(tag) {
		return nil, fmt.Errorf("version %q: want one such as v1.2.3", tag)
	}
	return &release{
		source: source, out: out, tag: tag, version: tag[1:],
		url:      "https://" + module + "/releases/download/" + tag,
		builder:  "https://" + module + "/blob/main/tools/release",
		log:      io.Discard,
		binaries: map[platform][]byte{}, digests: map[string]string{},
	}, nil
}

func host() platform { return platform{runtime.GOOS, runtime.GOARCH} }

// compile builds for all platforms, and for this one where it is not among
// them: the completions come from a program that runs.
func (r *release) compile(ctx context.Context, platforms []platform) error {
	for _, p := range platforms {
		if r.binaries[p] != nil {
			continue
		}
		fmt.Fprintf(r.log, "build %s\n", p)
		program, err := r.build(ctx, p)
		if err != nil {
			return err
		}
		r.binaries[p] = program
	}
	return nil
}

// make writes the whole release. A nil signer makes an unsigned one.
func (r *release) make(ctx context.Context, signer attest.Signer) error {
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.compile(ctx, append(slices.Clone(r.platforms), host())); err != nil {
		return err
	}
	shared, err := r.shared(ctx)
	if err != nil {
		return err
	}
	for _, p := range r.platforms {
		if err := r.pack(p, shared); err != nil {
			return err
		}
	}
	if !slices.Contains(r.platforms, host()) {
		delete(r.binaries, host()) // it is not in the release
	}
	var public []byte
	if signer != nil {
		der, err := signer.PublicKey()
		if err != nil {
			return err
		}
		public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	plugin, err := r.helmPlugin(public)
	if err != nil {
		return err
	}
	if err := r.write("weightseal-"+r.version+".tgz", plugin); err != nil {
		return err
	}
	if err := r.write("weightseal.krew.yaml", r.krewManifest()); err != nil {
		return err
	}
	bill, err := r.sbom(ctx)
	if err != nil {
		return err
	}
	if err := r.write("weightseal_"+r.version+"_sbom.cdx.json", bill); err != nil {
		return err
	}
	return r.seal(ctx, signer, public)
}

// prepare makes the folder. What an earlier release left there would be taken
// for part of this one.
func (r *release) prepare() error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(r.out, "weightseal*"))
	if err != nil {
		return err
	}
	sums, err := filepath.Glob(filepath.Join(r.out, "checksums.txt*"))
	if err != nil {
		return err
	}
	for _, name := range append(old, sums...) {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// shared is what every archive holds beside the program.
func (r *release) shared(ctx context.Context) ([]entry, error) {
	list, err := r.completions(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"LICENSE", "README.md"} {
		content, err := os.ReadFile(filepath.Join(r.source, name))
		if err != nil {
			return nil, err
		}
		list = append(list, entry{name: name, content: content})
	}
	pages, err := r.manual()
	return append(list, pages...), err
}

// manual takes the man pages, which are generated from the commands and lie in
// the sources.
func (r *release) manual() ([]entry, error) {
	var list []entry
	err := filepath.WalkDir(filepath.Join(r.source, "docs"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".1" {
			return err
		}
		content, err := os.ReadFile(name)
		list = append(list, entry{name: "man/man1/" + filepath.Base(name), content: content})
		return err
	})
	return list, err
}

func (r *release) pack(p platform, shared []entry) error {
	list := append(slices.Clone(shared), entry{name: p.program(), content: r.binaries[p], program: true})
	var b bytes.Buffer
	pack := writeTarGz
	if p.os == "windows" {
		pack = writeZip
	}
	if err := pack(&b, list, r.date); err != nil {
		return err
	}
	return r.write(p.archive(r.version), b.Bytes())
}

func (r *release) write(name string, content []byte) error {
	sum := sha256.Sum256(content)
	r.digests[name] = hex.EncodeToString(sum[:])
	fmt.Fprintf(r.log, "%s  %s\n", r.digests[name], name)
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644)
}

// seal writes the checksums and, with a key, what proves them.
func (r *release) seal(ctx context.Context, signer attest.Signer, public []byte) error {
	names := make([]string, 0, len(r.digests))
	for name := range r.digests {
		names = append(names, name)
	}
	slices.Sort(names)
	var sums strings.Builder
	for _, name := range names {
		fmt.Fprintf(&sums, "%s  %s\n", r.digests[name], name)
	}
	if err := r.write("checksums.txt", []byte(sums.String())); err != nil {
		return err
	}
	if signer == nil {
		fmt.Fprintln(r.log, "not signed")
		return nil
	}
	sig, err := attest.SignBlob(ctx, signer, strings.NewReader(sums.String()))
	if err != nil {
		return err
	}
	envelope, err := r.attestation(ctx, signer, names)
	if err != nil {
		return err
	}
	return errors.Join(
		r.write("checksums.txt.sig", []byte(sig+"\n")),
		r.write("weightseal_"+r.version+"_provenance.intoto.json", append(envelope, '\n')),
		r.write("weightseal.pub", public),
		r.selfCheck(ctx, public, names),
	)
}

// selfCheck verifies what was written, from the disk, as who fetches it will.
func (r *release) selfCheck(ctx context.Context, public []byte, names []string) error {
	block, _ := pem.Decode(public)
	trust := attest.Trust{Keys: []attest.PublicKey{{Name: "weightseal.pub", DER: block.Bytes}}}
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(r.out, path.Base(name))) }
	sig, err := read("checksums.txt.sig")
	if err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return os.Open(filepath.Join(r.out, "checksums.txt")) }
	if _, err := attest.VerifyBlob(ctx, open, string(sig), trust); err != nil {
		return fmt.Errorf("checksums.txt: %w", err)
	}
	envelope, err := read("weightseal_" + r.version + "_provenance.intoto.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := read(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		if _, err := attest.VerifyBlobStatement(envelope, "sha256:"+hex.EncodeToString(sum[:]), provenanceType, trust); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
