// Package modeltest holds what every model.Source must do, so that a directory,
// an OCI layout and a registry cannot differ in it.
package modeltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/weightseal/weightseal/model"
)

// Files is a model to build sources from: folders, an empty file, names whose
// order in a tree is not the order of the paths, letters beyond ASCII, a file
// larger than any buffer.
func Files() map[string][]byte {
	big := make([]byte, 3<<20+7)
	for i := range big {
		big[i] = byte(i * i >> 7)
	}
	return map[string][]byte{
		"config.json":             []byte(`{"model_type":"x"}`),
		"a/b/c.txt":               []byte("deep"),
		"a-b.txt":                 []byte("sorts before a/"),
		"a.txt":                   []byte("sorts before a/ too"),
		"Z.txt":                   []byte("upper case first"),
		"empty.bin":               {},
		"modèle 1.txt":            []byte("blank and accent"),
		"weights/big.safetensors": big,
		"with#?%25 & +=@!.txt":    []byte("not to be taken for a URL"),
	}
}

// TestSource runs the suite over a source that build makes of the given files.
func TestSource(t *testing.T, build func(files map[string][]byte) model.Source) {
	files := Files()
	src := build(files)
	t.Run("list", func(t *testing.T) { testList(t, src, files) })
	t.Run("read", func(t *testing.T) { testRead(t, src, files) })
	t.Run("random access", func(t *testing.T) { testRandomAccess(t, src, files) })
	t.Run("concurrent", func(t *testing.T) { testConcurrent(t, src, files) })
	t.Run("end", func(t *testing.T) { testEnd(t, src, files) })
	t.Run("missing", func(t *testing.T) { testMissing(t, src) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, src) })
	t.Run("load", func(t *testing.T) { testLoad(t, src, files) })
	t.Run("empty", func(t *testing.T) {
		entries, err := build(map[string][]byte{}).List(t.Context())
		if err != nil || len(entries) != 0 {
			t.Errorf("no files: %v, %v", entries, err)
		}
	})
}

func testList(t *testing.T, src model.Source, files map[string][]byte) {
	for range 2 { // a second listing is the same
		entries, err := src.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(files) {
			t.Errorf("%d entries, want %d: %+v", len(entries), len(files), entries)
		}
		for i, e := range entries {
			b, ok := files[e.Path]
			if !ok || e.Size != int64(len(b)) {
				t.Errorf("entry %+v, want %d bytes", e, len(b))
			}
			if i > 0 && entries[i-1].Path >= e.Path {
				t.Errorf("%q is listed before %q", entries[i-1].Path, e.Path)
			}
			if hex, ok := strings.CutPrefix(e.Digest, "sha256:"); e.Digest != "" && (!ok || len(hex) != 64) {
				t.Errorf("digest %q", e.Digest)
			}
		}
	}
}

// open opens a file that must be there.
func open(t *testing.T, src model.Source, path string) model.Blob {
	t.Helper()
	b, err := src.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close %s: %v", path, err)
		}
	})
	return b
}

func testRead(t *testing.T, src model.Source, files map[string][]byte) {
	for path, want := range files {
		b := open(t, src, path)
		if b.Size() != int64(len(want)) {
			t.Errorf("%s: size %d, want %d", path, b.Size(), len(want))
		}
		got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
		if err := b.Unchanged(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func testRandomAccess(t *testing.T, src model.Source, files map[string][]byte) {
	for path, want := range files {
		if len(want) > 1<<10 {
			want = want[:1<<10] // TestReader reads byte by byte
		}
		b := open(t, src, path)
		if err := iotest.TestReader(io.NewSectionReader(b, 0, int64(len(want))), want); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	want := files["weights/big.safetensors"]
	b := open(t, src, "weights/big.safetensors")
	for range 50 {
		checkPiece(t, b, want, rng)
	}
}

// checkPiece reads somewhere and compares.
func checkPiece(t *testing.T, b model.Blob, want []byte, rng *rand.Rand) {
	off := rng.IntN(len(want))
	p := make([]byte, rng.IntN(min(len(want)-off, 100_000))+1)
	p = p[:min(len(p), len(want)-off)]
	n, err := b.ReadAt(p, int64(off))
	if err != nil && (!errors.Is(err, io.EOF) || off+n != len(want)) {
		t.Errorf("%d bytes at %d: %v", len(p), off, err)
	}
	if n != len(p) || !bytes.Equal(p, want[off:off+n]) {
		t.Errorf("%d bytes at %d: %d, equal %v", len(p), off, n, bytes.Equal(p[:n], want[off:off+n]))
	}
}

func testConcurrent(t *testing.T, src model.Source, files map[string][]byte) {
	want := files["weights/big.safetensors"]
	b := open(t, src, "weights/big.safetensors")
	var all sync.WaitGroup
	for i := range uint64(8) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(i, 3))
			for range 25 {
				checkPiece(t, b, want, rng)
			}
		})
	}
	all.Wait()
}

func testEnd(t *testing.T, src model.Source, files map[string][]byte) {
	for _, path := range []string{"config.json", "empty.bin", "weights/big.safetensors"} {
		want := files[path]
		b := open(t, src, path)
		size := int64(len(want))
		for _, off := range []int64{size, size + 1, size + 1<<40} {
			if n, err := b.ReadAt(make([]byte, 4), off); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%s: read at %d of %d bytes: %d, %v, want io.EOF", path, off, size, n, err)
			}
		}
		tail := want[max(0, len(want)-3):]
		p := make([]byte, len(tail)+5)
		if n, err := b.ReadAt(p, size-int64(len(tail))); n != len(tail) || !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], tail) {
			t.Errorf("%s: read over the end: %d, %v, want %d and io.EOF", path, n, err, len(tail))
		}
		if n, err := b.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
			t.Errorf("%s: read before the beginning: %d, %v", path, n, err)
		}
	}
}

func testMissing(t *testing.T, src model.Source) {
	for _, path := range []string{"nothing.txt", "a/nothing.txt", "config.json/x", "", "a/../config.json", "../config.json", "/config.json", "./config.json", "a//b/c.txt", "a\x00"} {
		b, err := src.Open(t.Context(), path)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want fs.ErrNotExist", path, err)
		}
		if err == nil {
			b.Close()
		}
	}
	for _, path := range []string{"a", "weights"} {
		if b, err := src.Open(t.Context(), path); err == nil {
			b.Close()
			t.Errorf("the folder %q can be opened", path)
		}
	}
}

func testCancelled(t *testing.T, src model.Source) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := src.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v, want context.Canceled", err)
	}
	if b, err := src.Open(ctx, "config.json"); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v, want context.Canceled", err)
		if err == nil {
			b.Close()
		}
	}
}

func testLoad(t *testing.T, src model.Source, files map[string][]byte) {
	m, err := model.Load(t.Context(), "name", src)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range m.Files {
		got = append(got, fmt.Sprintf("%s %s %s", f.Path, f.Format, f.Role))
	}
	want := strings.Join([]string{
		"Z.txt text other", "a-b.txt text other", "a.txt text other", "a/b/c.txt text other", "config.json json config",
		"empty.bin empty other", "modèle 1.txt text other", "weights/big.safetensors unknown weight", "with#?%25 & +=@!.txt text other",
	}, "\n")
	if strings.Join(got, "\n") != want || len(files) != len(m.Files) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}
