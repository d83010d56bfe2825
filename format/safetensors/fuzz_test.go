package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzReadHeader: no panic; a header that is taken is valid JSON, fills the
// file, and survives being written and read again.
func FuzzReadHeader(f *testing.F) {
	names, err := filepath.Glob(filepath.Join(checkpoints, "handmade/st/*"))
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHeader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) || bad.Error() == "" {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		if text := b[8:h.DataStart()]; !json.Valid(text) {
			t.Fatalf("accepted, but no JSON: %q", text)
		}
		checkAccepted(t, h, b)
	})
}

// checkAccepted holds what every accepted header must.
func checkAccepted(t *testing.T, h *Header, b []byte) {
	var specs []Spec
	var end uint64
	for _, x := range h.Tensors {
		size, err := ByteSize(x.DType, x.Shape)
		if err != nil || x.Begin != end || x.End-x.Begin != size {
			t.Fatalf("tensor %+v does not fit: %d bytes, %v", x, size, err)
		}
		end = x.End
		specs = append(specs, Spec{x.Name, x.DType, x.Shape})
	}
	if binary.LittleEndian.Uint64(b)+8+end != uint64(len(b)) {
		t.Fatal("the tensors do not fill the file")
	}
	w, raw, err := NewHeader(specs, h.Metadata)
	if err != nil {
		t.Fatalf("read but not written: %v", err)
	}
	again, err := ReadHeader(bytes.NewReader(raw), int64(len(raw))+int64(end))
	if err != nil || !equal(again, w) {
		t.Fatalf("%v: %+v", err, again)
	}
	d := NewDigester(h)
	d.Write(b)
	sums, err := d.Sum()
	if err != nil || len(sums) != len(h.Tensors)+len(h.Aliases()) {
		t.Fatalf("%d digests, %v", len(sums), err)
	}
	if _, err := SetDigest(sums); err != nil {
		t.Fatal(err)
	}
}
