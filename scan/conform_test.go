package scan_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

// conforming are small files that each detector takes for its own and finds
// nothing wrong with but what its formats are.
var conforming = []struct {
	detector string
	file     string // of the module, or a name for content
	content  string
	format   model.Format
	// open says that a file of this kind may end anywhere: a beginning of it
	// is a whole one.
	open bool
	// endless says that the content may be followed by anything.
	endless bool
}{
	{"safetensors", "a.safetensors", safetensorsOf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "1234"), model.Safetensors, false, false},
	{"torch", "testdata/checkpoints/bare_tensor.pt", "", model.TorchZip, false, false},
	{"torch", "testdata/checkpoints/empty_scalar_legacy.pt", "", model.TorchLegacy, false, false},
	{"torch", "testdata/checkpoints/jit_frozen.pt", "", model.TorchScript, false, false},
	{"dcp", "format/dcp/testdata/train/.metadata", "", model.DCP, false, false},
	{"dcp-shard", "format/dcp/testdata/train/__0_0.distcp", "", model.DCPShard, false, false},
	{"pickle", "testdata/checkpoints/numpy_p2.pkl", "", model.Pickle, false, false},
	{"pickle", "testdata/checkpoints/joblib_raw.joblib", "", model.Pickle, false, false},
	{"numpy", "testdata/checkpoints/array.npy", "", model.NPY, false, false},
	{"numpy", "testdata/checkpoints/arrays.npz", "", model.NPZ, false, false},
	{"gguf", "a.gguf", ggufOf(binary.LittleEndian, "general.architecture", "llama"), model.GGUF, false, false},
	{"flax", "testdata/checkpoints/complex.msgpack", "", model.Flax, false, false},
	{"keras", "testdata/threats/benign/keras/dense.keras", "", model.Keras, false, false},
	{"hdf5", "testdata/threats/benign/h5/keras.h5", "", model.HDF5, false, false},
	{"protobuf", "testdata/threats/benign/onnx/add.onnx", "", model.ONNX, true, false},
	{"archive", "a.zip", zipOf("a.txt", "hello", "b.txt", strings.Repeat("world ", 50)), model.ZIP, false, false},
	{"archive", "a.7z", sevenZipOf(seven{name: "a.txt", data: "hello"}, seven{name: "b.txt", data: "world"}), model.SevenZip, false, false},
	{"archive", "a.tar", tarOf("a.txt", "hello"), model.TAR, true, false},
	{"archive", "a.txt.gz", gzipOf("hello world"), model.Gzip, false, false},
	{"archive", "a.txt.z", zlibOf("hello world"), model.Zlib, false, false},
	{"archive", "a.txt.zst", zstdOf("hello world"), model.Zstd, false, false},
	{"executable", "a.so", "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57), model.ELF, false, false},
	{"python", "a.py", "import torch\nclass A:\n    pass\n", model.Python, false, false},
	{"json", "config.json", `{"model_type": "x", "a": [1, 2, {"b": "c"}]}`, model.JSON, false, false},
	{"text", "README.md", "# A model\n\nIt is large.\n", model.Markdown, true, false},
	{"text", "a.yaml", "a: 1\nb: [x, y]\n", model.YAML, true, false},
	{"image", "a.png", "\x89PNG\r\n\x1a\n" + strings.Repeat("\x00", 50), model.Image, true, true},
	{"unknown", "a.xyz", "\xff\xfe\x01\x02\x03\x99\x98", model.Unknown, false, false},
}

// fixed is a model of one file of a given format.
type fixed struct {
	name   string
	format model.Format
	b      model.Blob
}

func (f *fixed) List(context.Context) ([]model.Entry, error) {
	return []model.Entry{{Path: f.name, Size: f.b.Size()}}, nil
}
func (f *fixed) Open(context.Context, string) (model.Blob, error) { return f.b, nil }

func (f *fixed) scan(ctx context.Context) (scan.FileReport, error) {
	m := &model.Model{Name: "test", Source: f, Files: []model.File{{
		Entry: model.Entry{Path: f.name, Size: f.b.Size()}, Format: f.format, Declared: model.DeclaredFormat(f.name), Role: model.Other,
	}}}
	rep, err := scan.Run(ctx, m, scan.Default())
	if err != nil {
		return scan.FileReport{}, err
	}
	return rep.Files[0], nil
}

func content(t *testing.T, file, given string) []byte {
	t.Helper()
	if given != "" {
		return []byte(given)
	}
	b, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// flaky fails every read that reaches an offset.
type flaky struct {
	b      []byte
	at     int64
	failed atomic.Bool
}

var errFlaky = errors.New("the disk is broken")

func (f *flaky) Size() int64      { return int64(len(f.b)) }
func (f *flaky) Close() error     { return nil }
func (f *flaky) Unchanged() error { return nil }
func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if end > f.at && off < f.Size() && end > off {
		f.failed.Store(true)
		n := 0
		if off < f.at {
			n = copy(p, f.b[off:min(f.at, f.Size())])
		}
		return n, errFlaky
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

// steps gives some numbers up to n: all of a small one.
func steps(n int) []int {
	by := max(1, n/300)
	var out []int
	for i := 0; i < n; i += by {
		out = append(out, i)
	}
	return out
}

// Every detector is in the table, and takes its samples.
func TestConformanceIsComplete(t *testing.T) {
	t.Parallel()
	for _, d := range scan.Default() {
		found := false
		for _, c := range conforming {
			if c.detector != d.Name() {
				continue
			}
			found = true
			if !d.Wants(model.File{Entry: model.Entry{Path: path.Base(c.file)}, Format: c.format}) {
				t.Errorf("%s does not take %s", d.Name(), c.file)
			}
		}
		if !found {
			t.Errorf("%s has no sample", d.Name())
		}
	}
}

// What holds for all detectors: nothing, a part, a file that cannot be read,
// one that is far too large, and no time.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, c := range conforming {
		name := path.Base(c.file)
		t.Run(c.detector+" "+name, func(t *testing.T) {
			t.Parallel()
			b := content(t, c.file, c.content)
			t.Run("cut", func(t *testing.T) {
				for _, n := range steps(len(b)) {
					f := &fixed{name, c.format, blob{bytes.NewReader(b[:n]), int64(n)}}
					rep, err := f.scan(context.Background())
					if err != nil || rep.Err != nil {
						t.Fatalf("%d bytes: %v %v", n, err, rep.Err)
					}
					if n > 0 && rep.Verdict < scan.Review && !c.open {
						t.Errorf("%d of %d bytes: %s %v", n, len(b), rep.Verdict, rep.Findings)
					}
				}
			})
			t.Run("unreadable", func(t *testing.T) {
				for _, n := range steps(len(b)) {
					broken := &flaky{b: b, at: int64(n)}
					rep, err := (&fixed{name, c.format, broken}).scan(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					if broken.failed.Load() && (rep.Verdict < scan.Unknown || !errors.Is(rep.Err, errFlaky)) {
						t.Errorf("no byte from %d on can be read: %s, %v", n, rep.Verdict, rep.Err)
					}
				}
			})
			t.Run("cancelled", func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if _, err := (&fixed{name, c.format, blob{bytes.NewReader(b), int64(len(b))}}).scan(ctx); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

// A file of a tebibyte of which only the beginning is there takes neither the
// memory nor the time that its size promises.
func TestConformanceHuge(t *testing.T) { //nolint:paralleltest // measures memory
	for _, c := range conforming {
		b := content(t, c.file, c.content)
		s := &sparse{size: 1 << 40, parts: []part{{0, b}}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		rep, err := (&fixed{path.Base(c.file), c.format, blob{s, s.size}}).scan(context.Background())
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Verdict < scan.Review && !c.endless {
			t.Errorf("%s: %s", c.file, rep.Verdict)
		}
		t.Logf("%s: %s, %d MiB of memory in all, %d MiB read", c.file, time.Since(start).Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20, s.read>>20)
		if got := after.TotalAlloc - before.TotalAlloc; got > 512<<20 || s.read > 2<<30 {
			t.Errorf("%s: %d MiB of memory, %d MiB read", c.file, got>>20, s.read>>20)
		}
	}
}

var _ io.ReaderAt = (*flaky)(nil)
