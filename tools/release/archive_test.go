package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"testing"
	"time"
)

var someDate = time.Date(2026, 5, 4, 3, 2, 2, 0, time.UTC)

// TestArchives: the same entries give the same bytes in whatever order they
// come, sorted, with their modes, of one time and nobody's.
func TestArchives(t *testing.T) {
	t.Parallel()
	entries := []entry{
		{name: "weightseal", content: bytes.Repeat([]byte("x"), 5000), program: true},
		{name: "LICENSE", content: []byte("text")}, {name: "man/man1/a.1"},
	}
	for name, write := range map[string]func(io.Writer, []entry, time.Time) error{"tar.gz": writeTarGz, "zip": writeZip} {
		var first, second bytes.Buffer
		if err := write(&first, entries, someDate); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(entries)
		if err := write(&second, entries, someDate.In(time.FixedZone("x", 7200))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: the order of the entries or the time zone changes the bytes", name)
		}
		var got []string
		if name == "zip" {
			got = listZip(t, first.Bytes())
		} else {
			got = listTar(t, first.Bytes())
		}
		if want := []string{"LICENSE 644 4", "man/man1/a.1 644 0", "weightseal 755 5000"}; !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

func listTar(t *testing.T, raw []byte) (list []string) {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(someDate) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s: of %v, owned by %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		list = append(list, listed(h.Name, h.Mode, h.Size))
	}
}

func listZip(t *testing.T, raw []byte) (list []string) {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range zr.File {
		if !f.Modified.Equal(someDate) {
			t.Errorf("%s: of %v", f.Name, f.Modified)
		}
		list = append(list, listed(f.Name, int64(f.Mode().Perm()), int64(f.UncompressedSize64)))
	}
	return list
}
