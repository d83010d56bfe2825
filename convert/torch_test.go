package convert

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/model"
)

// loaded is what torch sees in a file.
type loaded struct {
	File    string
	Error   string
	Tensors map[string]loadedTensor
	// Reference is the digest of the safetensors file in the reference's
	// layout, Aliases what is left out of it.
	Reference string
	Aliases   map[string]string
}

type loadedTensor struct {
	DType  string
	Shape  []uint64
	SHA256 string
	Ptr    uint64
}

// torchLoad lets the real torch load files.
func torchLoad(tb testing.TB, args ...string) []loaded {
	tb.Helper()
	cmd := exec.Command(realtools.Python(tb), append([]string{filepath.Join("testdata", "tensors.py")}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("tensors.py: %v\n%s", err, errs.String())
	}
	var all []loaded
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l loaded
		if err := dec.Decode(&l); err == io.EOF {
			return all
		} else if err != nil {
			tb.Fatal(err)
		}
		all = append(all, l)
	}
}

// torchNames are torch's names of the dtypes that torch 1.13 has.
var torchNames = map[safetensors.DType]string{
	safetensors.F64: "float64", safetensors.F32: "float32", safetensors.F16: "float16", safetensors.BF16: "bfloat16",
	safetensors.I64: "int64", safetensors.I32: "int32", safetensors.I16: "int16", safetensors.I8: "int8",
	safetensors.U8: "uint8", safetensors.BOOL: "bool", safetensors.C64: "complex64",
}

// stFile makes a safetensors file.
func stFile(tb testing.TB, specs []safetensors.Spec, metadata map[string]string) ([]byte, *safetensors.Header) {
	tb.Helper()
	h, raw, err := safetensors.NewHeader(specs, metadata)
	if err != nil {
		tb.Fatal(err)
	}
	var n uint64
	for _, x := range h.Tensors {
		n = max(n, x.End)
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	for _, x := range h.Tensors {
		if x.DType == safetensors.BOOL {
			for i := x.Begin; i < x.End; i++ {
				data[i] &= 1
			}
		}
	}
	return append(raw, data...), h
}

// knownSpecs has every dtype that torch 1.13 loads, and odd shapes.
func knownSpecs() ([]safetensors.Spec, map[string]string) {
	var specs []safetensors.Spec
	for d, name := range torchNames {
		specs = append(specs, safetensors.Spec{Name: name, DType: d, Shape: []uint64{3, 5}})
	}
	specs = append(specs,
		safetensors.Spec{Name: "scalar", DType: safetensors.F32, Shape: []uint64{}},
		safetensors.Spec{Name: "empty", DType: safetensors.F32, Shape: []uint64{0}},
		safetensors.Spec{Name: "empty.3", DType: safetensors.I64, Shape: []uint64{2, 0, 3}},
		safetensors.Spec{Name: "größe/层.weight", DType: safetensors.F16, Shape: []uint64{300, 7}},
		safetensors.Spec{Name: "long", DType: safetensors.U8, Shape: []uint64{70000}},
	)
	return specs, map[string]string{"format": "pt", "tied.a": "float32", "tied.b": "float32", "also.empty": "empty", "note": "lost"}
}

func toTorchPlan(tb testing.TB, file []byte) *Plan {
	tb.Helper()
	p, err := File(context.Background(), Input{Path: "model.safetensors", Format: model.Safetensors, Blob: blobOf(file)}, Options{To: model.TorchZip})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// TestToTorch lets torch load an archive of ours.
func TestToTorch(t *testing.T) {
	t.Parallel()
	specs, meta := knownSpecs()
	file, h := stFile(t, specs, meta)
	p := toTorchPlan(t, file)
	name := filepath.Join(t.TempDir(), "pytorch_model.bin")
	if err := p.WriteFile(context.Background(), name); err != nil {
		t.Fatal(err)
	}
	got := torchLoad(t, "--weights-only", name)[0]
	if got.Error != "" {
		t.Fatal(got.Error)
	}
	sums := digestsOf(t, h, file)
	if len(got.Tensors) != len(sums) {
		t.Errorf("torch has %d tensors, want %d", len(got.Tensors), len(sums))
	}
	for _, want := range sums {
		g := got.Tensors[want.Name]
		if g.SHA256 != want.Digest || g.DType != torchNames[want.DType] || !slices.Equal(g.Shape, want.Shape) {
			t.Errorf("%s: torch has %v, want %v", want.Name, g, want)
		}
	}
	if a, b := got.Tensors["tied.a"].Ptr, got.Tensors["float32"].Ptr; a != b || a != got.Tensors["tied.b"].Ptr || a == 0 {
		t.Errorf("ties lie at %x and %x", a, b)
	}
	if len(p.Dropped) != 1 || p.Dropped[0].Path != "__metadata__.note" {
		t.Errorf("dropped %v", p.Dropped)
	}
}

func digestsOf(tb testing.TB, h *safetensors.Header, file []byte) []safetensors.TensorDigest {
	tb.Helper()
	d := safetensors.NewDigester(h)
	d.Write(file)
	sums, err := d.Sum()
	if err != nil {
		tb.Fatal(err)
	}
	return sums
}

// TestToTorchArchive reads the archive with another zip reader, checksums
// included, and reads the plan in every way.
func TestToTorchArchive(t *testing.T) {
	t.Parallel()
	specs, meta := knownSpecs()
	file, h := stFile(t, specs, meta)
	p := toTorchPlan(t, file)
	out := whole(t, p)
	if again := whole(t, toTorchPlan(t, file)); !bytes.Equal(out, again) {
		t.Error("two plans differ")
	}
	z, err := zip.NewReader(bytes.NewReader(out), int64(len(out)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i, f := range z.File {
		off, err := f.DataOffset()
		if err != nil {
			t.Fatal(err)
		}
		if off%64 != 0 {
			t.Errorf("%s at %d", f.Name, off)
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if k := i - 2; k >= 0 && k < len(h.Tensors) {
			x := h.Tensors[k]
			if want := file[uint64(h.DataStart())+x.Begin : uint64(h.DataStart())+x.End]; !bytes.Equal(content, want) {
				t.Errorf("%s is not %s", f.Name, x.Name)
			}
		}
		names = append(names, strings.TrimPrefix(f.Name, "archive/"))
	}
	if n := len(names); n != len(h.Tensors)+3 || names[0] != "data.pkl" || names[1] != "byteorder" || names[2] != "data/0" || names[n-1] != "version" {
		t.Errorf("records %v", names)
	}
	// Backwards, so that every checksum is asked for before its data.
	back := toTorchPlan(t, file)
	for end := len(out); end > 0; {
		n := min(end, 100)
		b := make([]byte, n)
		if _, err := back.ReadAt(b, int64(end-n)); err != nil || !bytes.Equal(b, out[end-n:end]) {
			t.Fatalf("backwards at %d: %v", end-n, err)
		}
		end -= n
	}
	proof := proveAll(t, p, out)
	if !slices.EqualFunc(proof.Tensors, digestsOf(t, h, file), equalDigest) {
		t.Errorf("proof lists %v", proof.Tensors)
	}
	if !p.InOrder {
		t.Error("not in order")
	}
}

// TestToTorchNewer takes the dtypes that only newer torch has through the
// archive and back.
func TestToTorchNewer(t *testing.T) {
	t.Parallel()
	var specs []safetensors.Spec
	for d := safetensors.BOOL; d <= safetensors.U64; d++ {
		if d != safetensors.F6E2M3 && d != safetensors.F6E3M2 {
			specs = append(specs, safetensors.Spec{Name: d.String(), DType: d, Shape: []uint64{3, 6}}, safetensors.Spec{Name: d.String() + "0", DType: d, Shape: []uint64{0, 2}})
		}
	}
	file, _ := stFile(t, specs, map[string]string{"format": "pt", "tied": "F4"})
	archive := whole(t, toTorchPlan(t, file))
	p, err := File(context.Background(), Input{Path: "x.bin", Blob: blobOf(archive)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole(t, p), file) {
		t.Error("there and back differs")
	}
	if len(p.Notes)+len(p.Dropped) > 0 {
		t.Errorf("notes %v, dropped %v", p.Notes, p.Dropped)
	}
}

// TestToTorchRefuses has what torch has no type for.
func TestToTorchRefuses(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]safetensors.Spec{
		"F6_E2M3":           {Name: "x", DType: safetensors.F6E2M3, Shape: []uint64{4}},
		"last dimension is": {Name: "x", DType: safetensors.F4, Shape: []uint64{2, 3}},
		"overflow torch's":  {Name: "x", DType: safetensors.F32, Shape: []uint64{0, 1 << 62, 4}},
	} {
		file, _ := stFile(t, []safetensors.Spec{spec}, nil)
		_, err := File(context.Background(), Input{Path: "x.safetensors", Format: model.Safetensors, Blob: blobOf(file)}, Options{To: model.TorchZip})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// sparseST is a safetensors file of zeros that is not in memory.
type sparseST struct {
	header []byte
	size   int64
}

func (s *sparseST) ReadAt(b []byte, off int64) (int, error) {
	n := int(min(int64(len(b)), s.size-off))
	clear(b[:n])
	if off < int64(len(s.header)) {
		copy(b[:n], s.header[off:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (s *sparseST) Size() int64      { return s.size }
func (s *sparseST) Close() error     { return nil }
func (s *sparseST) Unchanged() error { return nil }

// TestToTorchZip64 lays out a storage beyond 4 GiB with small ones behind it,
// and reads the archive with another zip reader.
func TestToTorchZip64(t *testing.T) {
	t.Parallel()
	specs := []safetensors.Spec{
		{Name: "big", DType: safetensors.F32, Shape: []uint64{1<<30 + 7}},
		{Name: "small", DType: safetensors.U8, Shape: []uint64{5}},
		{Name: "none", DType: safetensors.U8, Shape: []uint64{0}},
	}
	h, raw, err := safetensors.NewHeader(specs, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := &sparseST{header: raw, size: int64(len(raw)) + int64(h.Tensors[len(h.Tensors)-1].End)}
	p, err := File(context.Background(), Input{Path: "model.safetensors", Format: model.Safetensors, Blob: src}, Options{To: model.TorchZip})
	if err != nil {
		t.Fatal(err)
	}
	ck, err := torch.Open(p, p.Size(), torch.Limits{})
	if err != nil || len(ck.Findings) > 0 {
		t.Fatalf("our own reader: %v, %v", err, ck)
	}
	z, err := zip.NewReader(p, p.Size())
	if err != nil {
		t.Fatal(err)
	}
	if n := z.File[2].UncompressedSize64; n != 4<<30+28 {
		t.Errorf("the large storage has %d bytes", n)
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if err != nil || n != int64(f.UncompressedSize64) {
			t.Errorf("%s: %d bytes, %v", f.Name, n, err)
		}
	}
}

var _ model.Blob = (*sparseST)(nil)
