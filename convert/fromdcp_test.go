package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

const dcpFolder = "../format/dcp/testdata"

// dcpFiles reads a distributed checkpoint, below a folder of the model.
func dcpFiles(tb testing.TB, name, below string) *folder {
	tb.Helper()
	f := &folder{files: map[string][]byte{}}
	entries, err := os.ReadDir(filepath.Join(dcpFolder, name))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if f.files[below+e.Name()], err = os.ReadFile(filepath.Join(dcpFolder, name, e.Name())); err != nil {
			tb.Fatal(err)
		}
	}
	return f
}

func loadFolder(tb testing.TB, f *folder) *model.Model {
	tb.Helper()
	m, err := model.Load(context.Background(), "test", f)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestDCP converts checkpoints of several ranks, proves the output, and holds
// it against what was saved.
func TestDCP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, below, sel, prefix string }{
		{"fsdp", "", "", "model."}, {"flat", "a/step-100/", "", ""}, {"grid", "", "", ""}, {"train", "ckpt/", "model", "model."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := dcpFiles(t, c.name, c.below)
			s, err := Model(context.Background(), loadFolder(t, f), Options{Select: c.sel}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Plans) != 1 || len(s.Kept) != 0 || len(s.Gone) != len(f.files) || s.Plans[0].Path != c.below+"model.safetensors" {
				t.Fatalf("%+v", s)
			}
			p := s.Plans[0]
			out, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
			if err != nil {
				t.Fatal(err)
			}
			checkParts(t, f, p, proveAll(t, p, out))
			checkSaved(t, c.name, c.prefix, out)
			if err := s.Close(); err != nil || f.open.Load() != 0 {
				t.Errorf("%d files are open: %v", f.open.Load(), err)
			}
		})
	}
}

// checkParts recomputes the digests of the whole source and of its files.
func checkParts(t *testing.T, f *folder, p *Plan, proof *Proof) {
	t.Helper()
	whole := sha256.New()
	if len(proof.SourceParts) != len(f.files) || len(p.Source.Parts) != len(f.files) {
		t.Fatalf("%d of %d parts", len(proof.SourceParts), len(f.files))
	}
	for i, part := range proof.SourceParts {
		b := f.files[part.Path]
		sum := sha256.Sum256(b)
		if part.Size != int64(len(b)) || part.Digest != hex.EncodeToString(sum[:]) || p.Source.Parts[i] != (SourcePart{part.Path, part.Size}) {
			t.Errorf("%+v", part)
		}
		whole.Write(b)
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != proof.SourceDigest {
		t.Errorf("whole: %s, want %s", proof.SourceDigest, got)
	}
}

func checkSaved(t *testing.T, name, prefix string, out []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dcpFolder, name+".oracle.json"))
	if err != nil {
		t.Fatal(err)
	}
	saved := map[string]struct{ SHA256 string }{}
	if err := json.Unmarshal(raw, &saved); err != nil {
		t.Fatal(err)
	}
	h, err := safetensors.ReadHeader(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range h.Tensors {
		sum := sha256.Sum256(out[h.DataStart()+int64(x.Begin) : h.DataStart()+int64(x.End)])
		if saved[prefix+x.Name].SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: other bytes than were saved", x.Name)
		}
	}
}

func TestDCPRefused(t *testing.T) {
	t.Parallel()
	f := dcpFiles(t, "train", "")
	_, err := planModel(t, f, Options{}, nil)
	var ambiguous *torch.AmbiguousError
	if !errors.As(err, &ambiguous) || !slices.Contains(ambiguous.Candidates, "model") {
		t.Errorf("weights beside training state: %v", err)
	}
	// One file of it is not to be converted: then none is.
	s, err := Model(context.Background(), loadFolder(t, f), Options{Select: "model"}, func(f model.File) bool { return f.Path == "__1_0.distcp" })
	if err != nil || len(s.Kept) != len(f.files) || len(s.Plans) != 0 {
		t.Errorf("a part that is not to be converted: %v, %+v", err, s)
	}
	delete(f.files, "__1_0.distcp")
	if _, err := planModel(t, f, Options{Select: "model"}, nil); err == nil {
		t.Error("converted without one of its files")
	}
	// A shard by itself.
	alone := &folder{files: map[string][]byte{"__0_0.distcp": dcpFiles(t, "grid", "").files["__0_0.distcp"]}}
	if s, err := planModel(t, alone, Options{}, nil); err == nil && len(s.Plans) > 0 {
		t.Error("a shard without metadata was converted")
	}
}

// TestParts changes one file of several, after planning.
func TestParts(t *testing.T) {
	t.Parallel()
	changed := memory{Reader: bytes.NewReader([]byte("cd")), closed: new(int), changed: model.ErrChanged}
	a, b, empty := blobOf([]byte("ab")), changed, blobOf(nil)
	whole, err := join([]Part{{"a", a}, {"empty", empty}, {"b", b}})
	if err != nil {
		t.Fatal(err)
	}
	for at := range 5 {
		for n := range 6 {
			got := make([]byte, n)
			k, err := whole.ReadAt(got, int64(at))
			want := "abcd"[at:min(4, at+n)]
			if string(got[:k]) != want || (err == io.EOF) != (at+n > 4) {
				t.Errorf("%d bytes at %d: %q, %v", n, at, got[:k], err)
			}
		}
	}
	if err := whole.Unchanged(); !errors.Is(err, model.ErrChanged) {
		t.Errorf("unchanged: %v", err)
	}
	if err := whole.Close(); err != nil || *a.closed+*b.closed+*empty.closed != 3 {
		t.Errorf("closing: %v", err)
	}
}
