package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// memory is a blob of bytes.
type memory struct {
	*bytes.Reader
	changed error
	closed  *int
}

func blobOf(b []byte) memory { return memory{Reader: bytes.NewReader(b), closed: new(int)} }

func (m memory) Close() error     { *m.closed++; return nil }
func (m memory) Unchanged() error { return m.changed }

// naive gives a tensor's row-major little-endian bytes by the definition.
func naive(t *torch.Tensor, elem int64, bigEndian bool) []byte {
	var out []byte
	index := make([]int64, len(t.Size))
	if slices.Contains(t.Size, 0) {
		return nil
	}
	for {
		at := t.Offset
		for d, i := range index {
			at += i * t.Stride[d]
		}
		one := make([]byte, elem)
		if _, err := t.Storage.Data.ReadAt(one, at*elem); err != nil && err != io.EOF {
			panic(err)
		}
		out = append(out, naiveElement(t, one, bigEndian)...)
		d := len(index) - 1
		for ; d >= 0; d-- {
			if index[d]++; index[d] < t.Size[d] {
				break
			}
			index[d] = 0
		}
		if d < 0 {
			return out
		}
	}
}

// naiveElement makes the lazy bits of one element real, through numbers where
// the bits allow it.
func naiveElement(t *torch.Tensor, b []byte, bigEndian bool) []byte {
	parts := [][]byte{b}
	if t.DType == safetensors.C64 {
		parts = [][]byte{b[:4], b[4:]}
	}
	for i, p := range parts {
		if bigEndian {
			slices.Reverse(p)
		}
		flip := t.Neg
		if i == 1 && t.Conj {
			flip = !flip
		}
		if !flip {
			continue
		}
		switch t.DType {
		case safetensors.F16, safetensors.BF16, safetensors.F32, safetensors.F64, safetensors.C64:
			p[len(p)-1] ^= 0x80
		default:
			var v [8]byte
			copy(v[:], p)
			binary.LittleEndian.PutUint64(v[:], -binary.LittleEndian.Uint64(v[:]))
			copy(p, v[:])
		}
	}
	return b
}

// sequential hides that a storage can be read here and there.
func deflated(st *torch.Storage, content []byte) {
	st.Deflated, st.Offset, st.Data = true, 0, bytes.NewReader(content)
}

type fixture struct {
	file  []byte
	state *torch.StateDict
	big   bool
}

var testDTypes = []safetensors.DType{
	safetensors.BOOL, safetensors.U8, safetensors.I8, safetensors.F8E4M3, safetensors.I16, safetensors.U16, safetensors.F16, safetensors.BF16,
	safetensors.I32, safetensors.U32, safetensors.F32, safetensors.C64, safetensors.F64, safetensors.I64, safetensors.U64,
}

// randomCheckpoint makes storages in a file and tensors over them.
func randomCheckpoint(r *rand.Rand) *fixture {
	f := &fixture{state: &torch.StateDict{}, big: r.IntN(4) == 0}
	f.file = randomBytes(r, r.IntN(100))
	var storages []*torch.Storage
	for i := range 1 + r.IntN(4) {
		d := testDTypes[r.IntN(len(testDTypes))]
		elem := int64(d.Bits() / 8)
		n := int64(1 + r.IntN(3000))
		content := randomBytes(r, int(n*elem))
		st := &torch.Storage{Key: fmt.Sprint(i), DType: d, ElementSize: elem, Numel: n, Length: n * elem}
		if r.IntN(4) == 0 {
			deflated(st, content)
		} else {
			st.Offset = int64(len(f.file))
			f.file = append(f.file, content...)
			f.file = append(f.file, randomBytes(r, r.IntN(20))...)
			st.Data = bytes.NewReader(content)
		}
		storages = append(storages, st)
	}
	for i := range 1 + r.IntN(12) {
		t := randomTensor(r, storages[r.IntN(len(storages))])
		t.Name = fmt.Sprintf("%c%d", 'a'+r.IntN(5), i)
		f.state.Tensors = append(f.state.Tensors, t)
		if r.IntN(5) == 0 { // a tie
			t.Name = fmt.Sprintf("%c%dt", 'a'+r.IntN(5), i)
			f.state.Tensors = append(f.state.Tensors, t)
		}
	}
	return f
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// randomTensor is a view that fits: permuted, sliced, stepped, broadcast or
// overlapping.
func randomTensor(r *rand.Rand, st *torch.Storage) torch.Tensor {
	t := torch.Tensor{DType: st.DType, Storage: st, Shape: []uint64{}, Size: []int64{}, Stride: []int64{}}
	left := st.Numel // elements that the view may still reach
	t.Offset = r.Int64N(min(left, 50))
	left -= t.Offset
	step := int64(1)
	for range r.IntN(5) {
		stride := step
		switch r.IntN(8) {
		case 0:
			stride = 0
		case 1:
			stride = r.Int64N(20)
		case 2:
			stride += r.Int64N(5)
		}
		n := 1 + r.Int64N(9)
		if stride > 0 {
			n = min(n, (left-1)/stride+1)
			left -= (n - 1) * stride
		}
		if r.IntN(60) == 0 {
			n = 0
		}
		t.Size, t.Stride = append(t.Size, n), append(t.Stride, stride)
		step = max(1, stride) * max(1, n)
	}
	if r.IntN(3) > 0 {
		slices.Reverse(t.Size)
		slices.Reverse(t.Stride)
	} else {
		r.Shuffle(len(t.Size), func(i, j int) {
			t.Size[i], t.Size[j] = t.Size[j], t.Size[i]
			t.Stride[i], t.Stride[j] = t.Stride[j], t.Stride[i]
		})
	}
	for _, n := range t.Size {
		t.Shape = append(t.Shape, uint64(n))
	}
	if r.IntN(5) == 0 {
		t.Conj = t.DType == safetensors.C64
	}
	if r.IntN(5) == 0 {
		t.Neg = t.DType != safetensors.BOOL && t.DType != safetensors.F8E4M3
	}
	return t
}

func (f *fixture) plan(tb testing.TB, opt Options) *Plan {
	tb.Helper()
	p, err := fromState(Input{Path: "pytorch_model.bin", Format: model.TorchZip, Blob: blobOf(f.file)}, f.state, f.big, opt)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func whole(tb testing.TB, p *Plan) []byte {
	tb.Helper()
	b, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
	if err != nil {
		tb.Fatal(err)
	}
	if int64(len(b)) != p.Size() {
		tb.Fatalf("%d bytes of %d", len(b), p.Size())
	}
	return b
}

// TestPlanRandom compares plans over random views with the definition of a
// strided tensor, whole and in windows, and proves each.
func TestPlanRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		f := randomCheckpoint(r)
		p := f.plan(t, Options{KeepAliases: seed%2 == 0})
		out := whole(t, p)
		h, err := safetensors.ReadHeader(bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := h.Strict(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got := map[string][]byte{}
		for _, x := range h.Tensors {
			got[x.Name] = out[uint64(h.DataStart())+x.Begin : uint64(h.DataStart())+x.End]
		}
		for removed, kept := range h.Aliases() {
			got[removed] = got[kept]
		}
		if len(got) != len(f.state.Tensors) {
			t.Fatalf("seed %d: %d names, want %d", seed, len(got), len(f.state.Tensors))
		}
		for i := range f.state.Tensors {
			x := &f.state.Tensors[i]
			if want := naive(x, int64(x.DType.Bits()/8), f.big); !bytes.Equal(got[x.Name], want) {
				t.Fatalf("seed %d: tensor %s %v %v differs", seed, x.Name, x.Size, x.Stride)
			}
		}
		for range 50 {
			off := r.Int64N(p.Size() + 1)
			b := make([]byte, r.IntN(500))
			n, err := p.ReadAt(b, off)
			if want := min(int64(len(b)), p.Size()-off); int64(n) != want || (n < len(b)) != (err == io.EOF) || !bytes.Equal(b[:n], out[off:off+int64(n)]) {
				t.Fatalf("seed %d: window %d+%d: %d, %v", seed, off, len(b), n, err)
			}
		}
		proveAll(t, p, out)
	}
}

// proveAll proves an output, and compares with the digester of the format.
func proveAll(tb testing.TB, p *Plan, out []byte) *Proof {
	tb.Helper()
	rec := p.NewRecorder()
	for b := out; len(b) > 0; {
		n := min(len(b), 1+len(out)/3)
		if _, err := rec.Write(b[:n]); err != nil {
			tb.Fatal(err)
		}
		b = b[n:]
	}
	w, err := p.Witness(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	proof, err := p.Prove(rec, w)
	if err != nil {
		tb.Fatal(err)
	}
	if p.Format == model.Safetensors {
		d := safetensors.NewDigester(p.Header)
		if _, err := d.Write(out); err != nil {
			tb.Fatal(err)
		}
		want, err := d.Sum()
		if err != nil {
			tb.Fatal(err)
		}
		if !slices.EqualFunc(want, proof.Tensors, equalDigest) {
			tb.Fatalf("proof lists %v, the digester %v", proof.Tensors, want)
		}
	}
	return proof
}

func equalDigest(a, b safetensors.TensorDigest) bool {
	return a.Name == b.Name && a.DType == b.DType && a.Digest == b.Digest && slices.Equal(a.Shape, b.Shape)
}

// TestGatherLarge runs the shapes for which blocks, read-through, packing and
// direct runs were made, at sizes that need several blocks.
func TestGatherLarge(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name         string
		size, stride []int64
		elem         safetensors.DType
	}{
		{"transpose", []int64{1500, 1100}, []int64{1, 1500}, safetensors.F32},
		{"transpose-narrow", []int64{7, 300000}, []int64{1, 7}, safetensors.F32},
		{"transpose-wide", []int64{300000, 7}, []int64{1, 300000}, safetensors.F16},
		{"transpose-bytes", []int64{1300, 1700}, []int64{1, 1300}, safetensors.U8},
		{"transpose-long-rows", []int64{40, 70000}, []int64{1, 40}, safetensors.F64},
		{"columns", []int64{3000, 300}, []int64{1000, 1}, safetensors.F32},
		{"every-second", []int64{1000000}, []int64{2}, safetensors.F32},
		{"wide-runs", []int64{30, 20000}, []int64{50000, 1}, safetensors.F32},
		{"channels-last", []int64{16, 3, 200, 200}, []int64{120000, 1, 600, 3}, safetensors.F32},
		{"expanded-rows", []int64{300, 3000}, []int64{0, 1}, safetensors.F32},
		{"expanded-columns", []int64{3000, 300}, []int64{1, 0}, safetensors.F32},
		{"unfold", []int64{5000, 400}, []int64{3, 1}, safetensors.F32},
		{"permuted", []int64{60, 70, 300}, []int64{1, 18000, 60}, safetensors.F32},
		{"permuted-far", []int64{70, 60, 300}, []int64{300, 1, 21000}, safetensors.BF16},
		{"one-column", []int64{2000}, []int64{3000}, safetensors.F32},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			last := int64(0)
			for i, n := range c.size {
				last += (n - 1) * c.stride[i]
			}
			elem := int64(c.elem.Bits() / 8)
			content := make([]byte, (last+1)*elem)
			rand.NewChaCha8([32]byte{1}).Read(content)
			x := torch.Tensor{Name: "x", DType: c.elem, Size: c.size, Stride: c.stride}
			for _, n := range c.size {
				x.Shape = append(x.Shape, uint64(n))
			}
			for _, compressed := range []bool{false, true} {
				st := &torch.Storage{DType: c.elem, ElementSize: elem, Length: int64(len(content)), Data: bytes.NewReader(content)}
				st.Deflated = compressed
				x.Storage = st
				f := &fixture{file: content, state: &torch.StateDict{Tensors: []torch.Tensor{x}}}
				p := f.plan(t, Options{})
				out := whole(t, p)
				if want := naive(&x, elem, false); !bytes.Equal(out[p.Header.DataStart():], want) {
					t.Fatalf("deflated %v: differs", compressed)
				}
				for i := range p.segments {
					if g := p.segments[i].gather; g != nil && g.chunk*g.inner > maxBlock {
						t.Errorf("block of %d bytes", g.chunk*g.inner)
					}
				}
				proveAll(t, p, out)
				one := make([]byte, len(out))
				if _, err := p.ReadAt(one, 0); err != nil || !bytes.Equal(one, out) {
					t.Fatalf("deflated %v: one read differs: %v", compressed, err)
				}
			}
		})
	}
}

// TestConcurrent reads one plan from several goroutines.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	f := randomCheckpoint(r)
	p := f.plan(t, Options{KeepAliases: true})
	want := whole(t, p)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(9, uint64(g)))
			for range 200 {
				off := r.Int64N(p.Size())
				b := make([]byte, r.Int64N(min(300, p.Size()-off)+1))
				if _, err := p.ReadAt(b, off); err != nil || !bytes.Equal(b, want[off:off+int64(len(b))]) {
					t.Errorf("at %d: %v", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func contiguousTensor(name string, st *torch.Storage, offset int64, shape ...int64) torch.Tensor {
	x := torch.Tensor{Name: name, DType: st.DType, Storage: st, Offset: offset, Size: shape, Stride: make([]int64, len(shape))}
	step := int64(1)
	for i := len(shape) - 1; i >= 0; i-- {
		x.Stride[i] = step
		step *= max(1, shape[i])
	}
	for _, n := range shape {
		x.Shape = append(x.Shape, uint64(n))
	}
	return x
}

func simple(n int64) (*fixture, *torch.Storage) {
	content := make([]byte, 4*n)
	rand.NewChaCha8([32]byte{2}).Read(content)
	st := &torch.Storage{Key: "0", DType: safetensors.F32, ElementSize: 4, Numel: n, Length: 4 * n, Data: bytes.NewReader(content)}
	return &fixture{file: content, state: &torch.StateDict{}}, st
}

// TestProveTamper flips bytes between the two readings, and cuts and extends
// the output.
func TestProveTamper(t *testing.T) {
	t.Parallel()
	f, st := simple(3000)
	f.state.Tensors = []torch.Tensor{contiguousTensor("first", st, 0, 500), contiguousTensor("second", st, 500, 50, 50)}
	third := contiguousTensor("third", st, 0, 40, 30)
	third.Size, third.Stride, third.Shape = []int64{30, 40}, []int64{1, 30}, []uint64{30, 40}
	f.state.Tensors = append(f.state.Tensors, third)
	p := f.plan(t, Options{})
	out := whole(t, p)
	proveAll(t, p, out)
	at := map[string]int64{}
	for _, x := range p.Header.Tensors {
		at[x.Name] = p.Header.DataStart() + int64(x.Begin)
	}
	prove := func(out []byte) error {
		rec := p.NewRecorder()
		rec.Write(out)
		w, err := p.Witness(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Prove(rec, w)
		return err
	}
	for name, off := range at {
		bad := bytes.Clone(out)
		bad[off+77] ^= 1
		var e *ProofError
		if err := prove(bad); !errors.As(err, &e) || e.Tensor != name {
			t.Errorf("output byte of %s flipped: %v", name, err)
		}
	}
	bad := bytes.Clone(out)
	bad[20] ^= 1
	var e *ProofError
	if err := prove(bad); !errors.As(err, &e) || e.Tensor != "" {
		t.Errorf("header byte flipped: %v", err)
	}
	if err := prove(out[:len(out)-1]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
	if err := prove(append(bytes.Clone(out), 0)); !errors.As(err, &e) {
		t.Errorf("extended: %v", err)
	}
	// The source changes between the two readings, in a plain and in a
	// gathered tensor.
	f.file[4*600] ^= 1
	if err := prove(out); !errors.As(err, &e) || e.Tensor != "second" {
		t.Errorf("source changed: %v", err)
	}
	f.file[4*600] ^= 1
	f.file[0] ^= 1
	if err := prove(out); !errors.As(err, &e) || e.Tensor != "first" {
		t.Errorf("source changed: %v", err)
	}
}

// TestWitnessOverlaps has more open views than the pass has room for.
func TestWitnessOverlaps(t *testing.T) {
	t.Parallel()
	const n = 1 << 19 // two megabytes
	f, st := simple(n)
	for i := range int64(mostOpen + 10) {
		f.state.Tensors = append(f.state.Tensors, contiguousTensor(fmt.Sprintf("t%05d", i), st, n/2-20000+i, 30000))
	}
	p := f.plan(t, Options{})
	w, err := p.Witness(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	rec := p.NewRecorder()
	if _, err := io.Copy(rec, io.NewSectionReader(p, 0, p.Size())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Prove(rec, w); err != nil {
		t.Fatal(err)
	}
}

// A source cut short fails to be read; that it changed is the reason to tell.
func TestWitnessTellsOfChange(t *testing.T) {
	t.Parallel()
	f, _ := simple(100)
	changed := errors.New("changed")
	for _, content := range [][]byte{f.file, f.file[:len(f.file)/2]} {
		blob := memory{Reader: bytes.NewReader(f.file), changed: changed, closed: new(int)}
		p, err := fromState(Input{Path: "x.bin", Format: model.TorchZip, Blob: blob}, f.state, false, Options{})
		if err != nil {
			t.Fatal(err)
		}
		blob.Reset(content)
		if _, err := p.Witness(context.Background()); !errors.Is(err, changed) {
			t.Errorf("%d of %d bytes: %v", len(content), len(f.file), err)
		}
	}
}

// TestTies covers what is one tensor and what only looks like it.
func TestTies(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	_, other := simple(100)
	x := func(name string, st *torch.Storage, offset int64, shape ...int64) torch.Tensor {
		return contiguousTensor(name, st, offset, shape...)
	}
	strided := x("strided", st, 0, 10, 10)
	strided.Stride = []int64{1, 10}
	negative := x("negative", st, 0, 100)
	negative.Neg = true
	retyped := x("retyped", st, 0, 100)
	retyped.DType = safetensors.I32
	f.state.Tensors = []torch.Tensor{
		x("m", st, 0, 100), x("z", st, 0, 100), x("b", st, 0, 100), // one
		x("reshaped", st, 0, 10, 10), strided, negative, retyped, x("part", st, 0, 50), x("moved", st, 1, 50),
		x("part2", st, 0, 50), x("elsewhere", other, 0, 100), x("empty", st, 0, 0), x("empty2", st, 0, 0),
		x("format", st, 7, 3), x("aformat", st, 7, 3),
	}
	p := f.plan(t, Options{})
	want := []Alias{{"m", "b"}, {"part2", "part"}, {"z", "b"}}
	if !slices.Equal(p.Aliases, want) {
		t.Errorf("aliases %v, want %v", p.Aliases, want)
	}
	if p.Header.Metadata["format"] != "pt" || p.Header.Metadata["m"] != "b" || len(p.Header.Metadata) != 4 {
		t.Errorf("metadata %v", p.Header.Metadata)
	}
	if p := f.plan(t, Options{KeepAliases: true}); len(p.Aliases) != 0 || len(p.Header.Tensors) != len(f.state.Tensors) || len(p.Header.Metadata) != 1 {
		t.Errorf("kept aliases: %v, %d tensors", p.Aliases, len(p.Header.Tensors))
	}
}

// TestMerged joins ranges that continue each other, and notices the order.
func TestMerged(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	f.state.Tensors = []torch.Tensor{contiguousTensor("a", st, 0, 30), contiguousTensor("b", st, 30, 30), contiguousTensor("c", st, 60, 40)}
	if p := f.plan(t, Options{}); len(p.segments) != 2 || !p.InOrder {
		t.Errorf("%d segments, in order %v", len(p.segments), p.InOrder)
	}
	f.state.Tensors[0].Name = "d"
	if p := f.plan(t, Options{}); len(p.segments) != 3 || p.InOrder {
		t.Errorf("%d segments, in order %v", len(p.segments), p.InOrder)
	}
}

// TestPlanRefuses lists what fromState does not plan.
func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	cases := map[string]func() []torch.Tensor{
		"two tensors": func() []torch.Tensor {
			return []torch.Tensor{contiguousTensor("x", st, 0, 3), contiguousTensor("x", st, 5, 3)}
		},
		"reaches": func() []torch.Tensor { return []torch.Tensor{contiguousTensor("x", st, 98, 3)} },
		"negative": func() []torch.Tensor {
			x := contiguousTensor("x", st, 0, 3)
			x.Stride[0] = -1
			return []torch.Tensor{x}
		},
		"past all": func() []torch.Tensor {
			x := contiguousTensor("x", st, 0, 3, 3)
			x.Stride[0] = 1 << 62
			x.Stride[1] = 1 << 62
			return []torch.Tensor{x}
		},
		"no safetensors header": func() []torch.Tensor { return []torch.Tensor{contiguousTensor("__metadata__", st, 0, 3)} },
		"not UTF-8":             func() []torch.Tensor { return []torch.Tensor{contiguousTensor("\xff", st, 0, 3)} },
		"conjugate bit": func() []torch.Tensor {
			x := contiguousTensor("x", st, 0, 3)
			x.Conj = true
			return []torch.Tensor{x}
		},
		"negative bit": func() []torch.Tensor {
			x := contiguousTensor("x", st, 0, 3)
			x.DType, x.Neg = safetensors.BOOL, true
			return []torch.Tensor{x}
		},
		"bytes of storage become": func() []torch.Tensor {
			x := contiguousTensor("x", st, 0, 1<<29, 1)
			x.Stride[0] = 0
			return []torch.Tensor{x}
		},
	}
	for want, tensors := range cases {
		f := &fixture{file: f.file, state: &torch.StateDict{Tensors: tensors()}}
		_, err := fromState(Input{Path: "x", Blob: blobOf(f.file)}, f.state, false, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestSourceEnds has a source that is shorter than planned.
func TestSourceEnds(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	f.state.Tensors = []torch.Tensor{contiguousTensor("x", st, 0, 100)}
	f.file = f.file[:300]
	p := f.plan(t, Options{})
	if _, err := p.ReadAt(make([]byte, p.Size()), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read: %v", err)
	}
	if _, err := p.Witness(context.Background()); err == nil {
		t.Error("witness saw a tensor that is not there")
	}
	dir := t.TempDir()
	if err := p.WriteFile(context.Background(), filepath.Join(dir, "out")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("write: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestReadAtEdges(t *testing.T) {
	t.Parallel()
	f, st := simple(10)
	f.state.Tensors = []torch.Tensor{contiguousTensor("x", st, 0, 10)}
	p := f.plan(t, Options{})
	if _, err := p.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset")
	}
	if n, err := p.ReadAt(make([]byte, 5), p.Size()); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := p.ReadAt(make([]byte, 5), p.Size()-5); n != 5 || err != nil {
		t.Errorf("last bytes: %d, %v", n, err)
	}
	if n, err := p.ReadAt(nil, 3); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}

// FuzzReadAt reads windows of random plans.
func FuzzReadAt(f *testing.F) {
	f.Add(uint64(1), uint32(0), uint16(100))
	f.Add(uint64(2), uint32(500), uint16(1))
	f.Add(uint64(3), uint32(1<<20), uint16(60000))
	f.Fuzz(func(t *testing.T, seed uint64, off uint32, n uint16) {
		fx := randomCheckpoint(rand.New(rand.NewPCG(seed, 1)))
		p := fx.plan(t, Options{KeepAliases: seed%3 == 0})
		want := whole(t, p)
		at := int64(off) % (p.Size() + 10)
		b := make([]byte, n)
		got, err := p.ReadAt(b, at)
		rest := want[min(at, p.Size()):]
		if k := min(len(rest), len(b)); got != k || !bytes.Equal(b[:k], rest[:k]) || (k < len(b)) != (err == io.EOF) {
			t.Fatalf("window %d+%d of %d: %d, %v", at, n, p.Size(), got, err)
		}
	})
}
