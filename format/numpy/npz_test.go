package numpy

import (
	"archive/zip"
	"bytes"
	"io"
	"strings"
	"testing"
)

// stored makes an archive of one array "a" of n times four bytes.
func stored(tb testing.TB, n int) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "a.npy", Method: zip.Store})
	if err != nil {
		tb.Fatal(err)
	}
	text := "{'descr': '<f4', 'fortran_order': False, 'shape': (" + strings.Repeat("2, ", n) + "), }\n"
	head := append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), 0)
	if _, err := w.Write(append(append(head, text...), bytes.Repeat([]byte("abcd"), 1<<n)...)); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestNPZChecksum damages each byte of a stored array's numbers: however they
// are read, the reader says so, as numpy does.
func TestNPZChecksum(t *testing.T) {
	t.Parallel()
	whole := stored(t, 4)
	first := bytes.Index(whole, []byte("abcd"))
	for _, order := range [][]int64{{0, 16, 32, 48}, {48, 0}, {32}, {0, 32}} {
		read := func(b []byte) (err error) {
			ck, err := OpenNPZ(bytes.NewReader(b), int64(len(b)), Limits{})
			if err != nil {
				return err
			}
			for _, at := range order {
				p := make([]byte, 16)
				if _, err = ck.Tensors[0].Storage.Data.ReadAt(p, at); err != nil && err != io.EOF {
					return err
				}
				if !bytes.Equal(p, bytes.Repeat([]byte("abcd"), 4)) {
					t.Logf("%v: other bytes at %d before the checksum is known", order, at)
				}
			}
			return nil
		}
		if err := read(whole); err != nil {
			t.Fatalf("%v: %v", order, err)
		}
		for i := range 64 {
			bad := bytes.Clone(whole)
			bad[first+i] ^= 1
			if err := read(bad); err == nil || !strings.Contains(err.Error(), "checksum differs") {
				t.Errorf("%v: byte %d of the array is another: %v", order, i, err)
			}
		}
	}
}

// TestNPZEnd reads archives behind which, or before whose directory, bytes lie
// that belong to nothing.
func TestNPZEnd(t *testing.T) {
	t.Parallel()
	whole := stored(t, 2)
	directory := bytes.LastIndex(whole, []byte("PK\x01\x02"))
	commented := append(bytes.Clone(whole), 'x')
	commented[len(whole)-2] = 1
	moved := append(append(bytes.Clone(whole[:directory]), make([]byte, 40)...), whole[directory:]...)
	at := len(moved) - 22 + 16
	moved[at] += 40
	for name, b := range map[string][]byte{
		"suffix": append(bytes.Clone(whole), 'x'), "prefix": append([]byte("x"), whole...),
		"comment": commented, "hole": moved,
	} {
		if _, err := OpenNPZ(bytes.NewReader(b), int64(len(b)), Limits{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := OpenNPZ(bytes.NewReader(whole), int64(len(whole)), Limits{}); err != nil {
		t.Error(err)
	}
}
