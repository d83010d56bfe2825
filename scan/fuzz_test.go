package scan

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weightseal/weightseal/model"
)

// seeds gives the files of the corpus that end in one of the names, up to a
// size that a fuzzer can work with.
func seeds(f *testing.F, ends ...string) [][]byte {
	f.Helper()
	var out [][]byte
	err := filepath.WalkDir("../testdata", func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for _, e := range ends {
			if !strings.HasSuffix(p, e) {
				continue
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if len(b) < 16<<10 {
				out = append(out, b)
			}
			break
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		f.Fatal(len(out), err)
	}
	return out
}

func blobOf(b []byte) *member {
	return &member{ReaderAt: bytes.NewReader(b), size: int64(len(b)), place: place{budget: new(budget)}}
}

// within fails a run that takes far too long.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > limit {
		t.Fatalf("took %v", d)
	}
}

// Any bytes under any name: no panic, no hang, a verdict, and a rule for each
// finding.
func FuzzRun(f *testing.F) {
	names := []string{"a.pkl", "a.pt", "a.safetensors", "config.json", "a.gguf", "a.onnx", "a.h5", "a.keras", "a.npz", "a.txt", "a"}
	for i, b := range seeds(f, "") {
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		name := names[int(n)%len(names)]
		within(t, 10*time.Second, func() {
			format, err := model.Sniff(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			declared := model.DeclaredFormat(name)
			file := model.File{Entry: model.Entry{Path: name, Size: int64(len(b))}, Format: refine(format, declared), Declared: declared}
			v, fs, err := judge(context.Background(), Default(), file, &guardedBlob{Blob: blobOf(b)})
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			if v < Safe || v > Unsafe {
				t.Fatalf("verdict %d", v)
			}
			for _, fd := range fs {
				if r, ok := rulesByID()[fd.Rule]; !ok || r.Verdict > v || fd.Offset != nil && *fd.Offset < 0 {
					t.Fatalf("finding %+v of a file called %s", fd, v)
				}
			}
		})
	})
}

// scanAs runs one detector on bytes that it may not have asked for.
func scanAs(f *testing.F, d Detector, file model.File, ends ...string) {
	for _, b := range seeds(f, ends...) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		within(t, 10*time.Second, func() {
			v, _, err := d.Scan(context.Background(), file, blobOf(b))
			if err != nil || v < Safe || v > Unsafe {
				t.Fatalf("%v %v", v, err)
			}
		})
	})
}

func FuzzNumpy(f *testing.F) {
	scanAs(f, numpyDetector{}, model.File{Format: model.NPY}, ".npy")
}

func FuzzGGUF(f *testing.F) {
	scanAs(f, ggufDetector{}, model.File{Format: model.GGUF}, ".gguf")
}

func FuzzONNX(f *testing.F) {
	scanAs(f, protobufDetector{}, model.File{Format: model.ONNX}, ".onnx", ".pb", ".model")
}

func FuzzProtobuf(f *testing.F) {
	scanAs(f, protobufDetector{}, model.File{Format: model.Protobuf}, ".onnx", ".pb", ".model", ".mlmodel")
}

func FuzzHDF5(f *testing.F) {
	scanAs(f, hdf5Detector{}, model.File{Format: model.HDF5}, ".h5")
}

func FuzzZip(f *testing.F) {
	scanAs(f, archiveDetector{}, model.File{Format: model.ZIP}, ".zip", ".npz", ".keras", "bad/zip_prefix.pt", "bad/zip_dup_pkl.pt")
}

func FuzzSevenZip(f *testing.F) {
	scanAs(f, archiveDetector{}, model.File{Format: model.SevenZip}, "nullifai_7z.pt")
}

func FuzzTar(f *testing.F) {
	scanAs(f, archiveDetector{}, model.File{Format: model.TAR}, ".tar", ".nemo")
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{ messages[0]['content'] }}", "{% for m in x %}{{ m.__class__ }}{% endfor %}", `{{ ''['\x5f'] | attr("a") }}`, "{#", "{{'", "{%-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		within(t, 5*time.Second, func() { checkTemplate(&report{}, s, 0, "t") })
	})
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: !!python/name:os.system\n", "- !x\n", "%TAG ! x", "_target_: a # b", "a: [!", " !"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkYAML(&report{}, blobOf([]byte(s))) })
}

func FuzzPython(f *testing.F) {
	for _, s := range []string{"import os\nos.system('x')", "'''", "\"\\", "# x", "a.", "os.", "eval (x)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { scanPython(&report{}, s) })
}

type noEvents struct{ depth int }

func (n *noEvents) begin(byte, int64)    { n.depth++ }
func (n *noEvents) end()                 { n.depth-- }
func (n *noEvents) key(string, int64)    {}
func (n *noEvents) text(string, int64)   {}
func (n *noEvents) scalar(string, int64) {}
