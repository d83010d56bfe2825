package scan

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/model"
)

// shardFolder is a source in memory.
type shardFolder map[string][]byte

func (s shardFolder) List(context.Context) ([]model.Entry, error) {
	var all []model.Entry
	for p, b := range s {
		all = append(all, model.Entry{Path: p, Size: int64(len(b))})
	}
	slices.SortFunc(all, func(a, b model.Entry) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (s shardFolder) Open(_ context.Context, p string) (model.Blob, error) {
	b, ok := s[p]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &member{ReaderAt: bytes.NewReader(b), size: int64(len(b))}, nil
}

func readShards(t *testing.T) shardFolder {
	t.Helper()
	s := shardFolder{}
	for _, name := range []string{".metadata", "__0_0.distcp", "__1_0.distcp"} {
		b, err := os.ReadFile(filepath.Join("../format/dcp/testdata/train", name))
		if err != nil {
			t.Fatal(err)
		}
		s[name] = b
	}
	return s
}

func verdicts(t *testing.T, s shardFolder) map[string]Verdict {
	t.Helper()
	m, err := model.Load(context.Background(), "test", s)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Run(context.Background(), m, Default())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Verdict{}
	for _, f := range rep.Files {
		out[f.Path] = f.Verdict
	}
	return out
}

// TestDCP judges a distributed checkpoint, and ones that something was hidden
// in.
func TestDCP(t *testing.T) {
	t.Parallel()
	evil, err := os.ReadFile("../testdata/checkpoints/handmade/bad/pickle_reduce.pt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file string
		want       Verdict
		change     func(shardFolder)
	}{
		{"as it is", "__0_0.distcp", Convertible, func(shardFolder) {}},
		{"metadata", ".metadata", Convertible, func(shardFolder) {}},
		{"a blob that acts", "__1_0.distcp", Unsafe, func(s shardFolder) { s["__1_0.distcp"] = append(s["__1_0.distcp"], evil...) }},
		{"a blob that acts, in front", "__1_0.distcp", Unsafe, func(s shardFolder) { s["__1_0.distcp"] = append(slices.Clone(evil), s["__1_0.distcp"]...) }},
		{"bytes between", "__1_0.distcp", Unsafe, func(s shardFolder) { s["__1_0.distcp"] = append([]byte("cposix\nsystem\n."), s["__1_0.distcp"]...) }},
		{"metadata that names more", ".metadata", Unsafe, func(s shardFolder) {
			s[".metadata"] = bytes.Replace(s[".metadata"], []byte("\x8c'torch.distributed.checkpoint.filesystem\x94\x8c\x0c_StorageInfo"), []byte("\x8c'torch.distributed.checkpoint.filesystem\x94\x8c\x0c__import____"), 1)
		}},
		{"metadata that acts", ".metadata", Unsafe, func(s shardFolder) {
			s[".metadata"] = append(s[".metadata"][:len(s[".metadata"])-1], []byte("cposix\nsystem\n(S'true'\ntR.")...)
		}},
		// The names are for metadata: elsewhere they are what they always were.
		{"the same pickle by another name", "weights.pkl", Review, func(s shardFolder) { s["weights.pkl"] = s[".metadata"] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := readShards(t)
			c.change(s)
			if got := verdicts(t, s)[c.file]; got < c.want || c.want <= Convertible && got != c.want {
				t.Errorf("%s is %s, want %s", c.file, got, c.want)
			}
		})
	}
}
