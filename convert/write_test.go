package convert

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// fileOnDisk is a blob with a file behind it.
type fileOnDisk struct {
	*os.File
	size    int64
	changed error
}

func (f *fileOnDisk) Size() int64      { return f.size }
func (f *fileOnDisk) Unchanged() error { return f.changed }

// withFile has the method that kernel copies need.
type withFile struct {
	model.Blob
	f *os.File
}

func (w withFile) File() *os.File { return w.f }

func onDisk(tb testing.TB, content []byte) withFile {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "source")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return withFile{Blob: &fileOnDisk{File: f, size: int64(len(content))}, f: f}
}

// listing gives the names in a directory.
func listing(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// mixed has plain ranges long enough for kernel copies, short ones, and views.
func mixed(tb testing.TB) *fixture {
	tb.Helper()
	f, st := simple(3 << 20)
	f.state.Tensors = []torch.Tensor{
		contiguousTensor("b.big", st, 1000, 2<<20), contiguousTensor("c.small", st, 5, 10), contiguousTensor("a.big", st, 2<<20, 1<<20),
	}
	turned := contiguousTensor("t", st, 0, 1500, 1000)
	turned.Stride = []int64{1, 1500}
	f.state.Tensors = append(f.state.Tensors, turned)
	return f
}

// TestWriteFile writes with and without kernel copies.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	want := whole(t, f.plan(t, Options{}))
	for _, blob := range []model.Blob{blobOf(f.file), onDisk(t, f.file)} {
		p, err := fromState(Input{Path: "x.bin", Format: model.TorchZip, Blob: blob}, f.state, false, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := blob.(withFile); ok != (p.file() != nil) {
			t.Fatal("the file of the blob is not used")
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "out.safetensors")
		if err := os.WriteFile(path, []byte("what was there before"), 0o600); err != nil {
			t.Fatal(err)
		}
		var done int64
		if err := p.WriteFileProgress(context.Background(), path, func(n int64) {
			if n < done {
				t.Errorf("progress from %d to %d", done, n)
			}
			done = n
		}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%T: written bytes differ: %v", blob, err)
		}
		if done != p.Size() {
			t.Errorf("progress ended at %d of %d", done, p.Size())
		}
		if names := listing(t, dir); len(names) != 1 {
			t.Errorf("left: %v", names)
		}
	}
}

// TestWriteFileFails checks that nothing is left, and that what was there is
// untouched.
func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	changed := errors.New("changed")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	onTheWay, stop := context.WithCancel(context.Background())
	disk := onDisk(t, f.file)
	short := onDisk(t, f.file)
	if err := os.Truncate(short.f.Name(), int64(len(f.file)/2)); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name     string
		ctx      context.Context
		blob     model.Blob
		progress func(int64)
		want     error
	}{
		{"cancelled before", cancelled, disk, nil, context.Canceled},
		{"cancelled on the way", onTheWay, disk, func(int64) { stop() }, context.Canceled},
		{"source changed", context.Background(), memory{Reader: bytes.NewReader(f.file), changed: changed, closed: new(int)}, nil, changed},
		{"source cut", context.Background(), short, nil, nil},
	}
	for _, c := range cases {
		p, err := fromState(Input{Path: "x.bin", Format: model.TorchZip, Blob: c.blob}, f.state, false, Options{})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "out")
		if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		err = p.WriteFileProgress(c.ctx, path, c.progress)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if names := listing(t, dir); len(names) != 1 {
			t.Errorf("%s: left %v", c.name, names)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "before" {
			t.Errorf("%s: target holds %q, %v", c.name, b, err)
		}
	}
	p := f.plan(t, Options{})
	if err := p.WriteFile(context.Background(), filepath.Join(t.TempDir(), "no", "such")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// bigView is a plan over a generated source, for measurements.
func bigView(b *testing.B, n int64, change func(*torch.Tensor), big bool) *Plan {
	b.Helper()
	content := make([]byte, n)
	rand.NewChaCha8([32]byte{4}).Read(content)
	blob := onDisk(b, content)
	_, st := simple(1)
	st.Length, st.Numel, st.Data = n, n/4, blob
	x := contiguousTensor("x", st, 0, n/4)
	change(&x)
	p, err := fromState(Input{Path: "x.bin", Format: model.TorchZip, Blob: blob}, &torch.StateDict{Tensors: []torch.Tensor{x}}, big, Options{})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func view(size, stride []int64) func(*torch.Tensor) {
	return func(x *torch.Tensor) {
		x.Size, x.Stride, x.Shape = size, stride, nil
		for _, n := range size {
			x.Shape = append(x.Shape, uint64(n))
		}
	}
}

// BenchmarkRead streams 64 MiB plans through a buffer, from a file in the page
// cache.
func BenchmarkRead(b *testing.B) {
	const n = 64 << 20
	half := func(x *torch.Tensor) {
		x.DType, x.Storage.ElementSize = safetensors.F16, 2
		view([]int64{4096, 8192}, []int64{1, 4096})(x)
	}
	for _, c := range []struct {
		name   string
		change func(*torch.Tensor)
		big    bool
		buf    int
	}{
		{"plain", func(*torch.Tensor) {}, false, 1 << 20},
		{"swap", func(*torch.Tensor) {}, true, 1 << 20},
		{"negative", func(x *torch.Tensor) { x.Neg = true }, false, 1 << 20},
		{"transpose", view([]int64{4096, 4096}, []int64{1, 4096}), false, 1 << 20},
		{"transpose-32k-buffer", view([]int64{4096, 4096}, []int64{1, 4096}), false, 32 << 10},
		{"transpose-f16", half, false, 1 << 20},
		{"transpose-tall", view([]int64{32, 1 << 19}, []int64{1, 32}), false, 1 << 20},
		{"transpose-wide", view([]int64{1 << 19, 32}, []int64{1, 1 << 19}), false, 1 << 20},
		{"channels-last", view([]int64{512, 512, 8, 8}, []int64{512 * 64, 1, 512 * 8, 512}), false, 1 << 20},
		{"columns", view([]int64{8192, 1000}, []int64{2048, 1}), false, 1 << 20},
		{"every-second", view([]int64{8 << 20}, []int64{2}), false, 1 << 20},
		{"short-runs", view([]int64{1 << 20, 5}, []int64{16, 1}), false, 1 << 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := bigView(b, n, c.change, c.big)
			buf := make([]byte, c.buf)
			b.SetBytes(p.Size())
			for b.Loop() {
				for at := int64(0); at < p.Size(); {
					k, err := p.ReadAt(buf[:min(int64(len(buf)), p.Size()-at)], at)
					if err != nil {
						b.Fatal(err)
					}
					at += int64(k)
				}
			}
		})
	}
}

// BenchmarkPlan opens and plans the file of 3000 tensors.
func BenchmarkPlan(b *testing.B) {
	content, err := os.ReadFile(filepath.Join(checkpoints, "many.pt"))
	if err != nil {
		b.Fatal(err)
	}
	blob := blobOf(content)
	b.ReportAllocs()
	for b.Loop() {
		p, err := File(context.Background(), Input{Path: "many.pt", Format: model.TorchZip, Blob: blob}, Options{})
		if err != nil || len(p.Header.Tensors) != 3000 {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlanToTorch is the way back.
func BenchmarkPlanToTorch(b *testing.B) {
	content, err := os.ReadFile(filepath.Join(checkpoints, "many.pt"))
	if err != nil {
		b.Fatal(err)
	}
	p, err := File(context.Background(), Input{Path: "many.pt", Format: model.TorchZip, Blob: blobOf(content)}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	st := blobOf(whole(b, p))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := File(context.Background(), Input{Path: "x", Format: model.Safetensors, Blob: st}, Options{To: model.TorchZip}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecorder is what proving costs beside an upload; BenchmarkWitness
// the other half.
func BenchmarkRecorder(b *testing.B) {
	p := bigView(b, 64<<20, func(*torch.Tensor) {}, false)
	out := whole(b, p)
	b.SetBytes(p.Size())
	for b.Loop() {
		r := p.NewRecorder()
		for at := 0; at < len(out); at += 1 << 20 {
			r.Write(out[at:min(len(out), at+1<<20)])
		}
	}
}

func BenchmarkWitness(b *testing.B) {
	for name, change := range map[string]func(*torch.Tensor){
		"plain": func(*torch.Tensor) {}, "transpose": view([]int64{4096, 4096}, []int64{1, 4096}),
	} {
		b.Run(name, func(b *testing.B) {
			p := bigView(b, 64<<20, change, false)
			b.SetBytes(p.Size())
			for b.Loop() {
				if _, err := p.Witness(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
