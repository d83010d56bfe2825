package convert

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

// repack compresses the records of an archive.
func repack(tb testing.TB, archive []byte) []byte {
	tb.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			tb.Fatal(err)
		}
		to, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Deflate})
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := io.Copy(to, r); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// TestDeflated converts a compressed archive, the output and the witness side
// by side.
func TestDeflated(t *testing.T) {
	t.Parallel()
	file, _ := stFile(t, []safetensors.Spec{
		{Name: "large", DType: safetensors.F32, Shape: []uint64{1000, 1000}}, {Name: "half", DType: safetensors.F16, Shape: []uint64{700, 900}},
		{Name: "tiny", DType: safetensors.I64, Shape: []uint64{}},
	}, map[string]string{"format": "pt"})
	packed := repack(t, whole(t, toTorchPlan(t, file)))
	p, err := File(context.Background(), Input{Path: "x.bin", Blob: blobOf(packed)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		w   *Witness
		err error
	}
	seen := make(chan answer)
	go func() {
		w, err := p.Witness(context.Background())
		seen <- answer{w, err}
	}()
	rec := p.NewRecorder()
	var out bytes.Buffer
	if _, err := io.Copy(io.MultiWriter(rec, &out), io.NewSectionReader(p, 0, p.Size())); err != nil {
		t.Fatal(err)
	}
	a := <-seen
	if a.err != nil {
		t.Fatal(a.err)
	}
	if _, err := p.Prove(rec, a.w); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), file) {
		t.Error("differs from what was packed")
	}
}

// TestDeflatedWork refuses what would inflate a record over and over.
func TestDeflatedWork(t *testing.T) {
	t.Parallel()
	for _, backwards := range []bool{false, true} {
		f, st := simple(10)
		st.Deflated, st.Length, st.Numel = true, 1<<30, 1<<28
		for i := range int64(100) {
			at := i
			if backwards {
				at = 99 - i
			}
			f.state.Tensors = append(f.state.Tensors, contiguousTensor(fmt.Sprintf("t%02d", i), st, 1<<27+at*10, 10))
		}
		_, err := fromState(Input{Path: "x", Blob: blobOf(f.file)}, f.state, false, Options{})
		var unsupported *format.UnsupportedError
		if errors.As(err, &unsupported) != backwards {
			t.Errorf("backwards %v: %v", backwards, err)
		}
	}
}
