package numpy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
)

const corpus = "../../testdata/checkpoints/"

// seeds adds the files of the corpus that match.
func seeds(f *testing.F, patterns ...string) {
	f.Helper()
	n := 0
	for _, p := range patterns {
		files, err := filepath.Glob(corpus + p)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, ".json") {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
			n++
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
}

var small = Limits{Inflate: 1 << 22, Entries: 1000, Memory: 1 << 20, Pickle: pickle.Limits{Ops: 1 << 16, Memory: 16 << 20, String: 1 << 20}}

// checkOpened wants a typed error, or tensors that lie in their storages.
func checkOpened(t *testing.T, ck *format.Checkpoint, err error, size int64) {
	t.Helper()
	if err != nil {
		var e *format.Error
		var u *format.UnsupportedError
		var p *pickle.Error
		var forbidden *ForbiddenError
		if !errors.As(err, &e) && !errors.As(err, &u) && !errors.As(err, &p) && !errors.As(err, &forbidden) {
			t.Fatalf("untyped error %T %v", err, err)
		}
		return
	}
	for _, x := range ck.Tensors {
		n, ok := Count(x.Size, int64(x.DType.Bits()/8))
		if !ok || n != x.Storage.Length || x.Offset != 0 || len(x.Stride) != len(x.Size) || len(x.Shape) != len(x.Size) {
			t.Fatalf("tensor %+v of a storage of %d bytes", x, x.Storage.Length)
		}
		if at := x.Storage.Offset; at >= 0 && (at > size || n > size-at) {
			t.Fatalf("tensor %q reaches past the file", x.Name)
		}
		if n > 0 && n < 1<<22 {
			b := make([]byte, n)
			if k, err := x.Storage.Data.ReadAt(b, 0); int64(k) < n && err == nil {
				t.Fatalf("tensor %q: %d of %d bytes, no error", x.Name, k, n)
			}
		}
	}
}

func FuzzNPY(f *testing.F) {
	seeds(f, "*.npy")
	f.Fuzz(func(t *testing.T, b []byte) {
		ck, err := Open(bytes.NewReader(b), int64(len(b)), small)
		checkOpened(t, ck, err, int64(len(b)))
	})
}

func FuzzNPZ(f *testing.F) {
	seeds(f, "*.npz")
	f.Fuzz(func(t *testing.T, b []byte) {
		ck, err := OpenNPZ(bytes.NewReader(b), int64(len(b)), small)
		checkOpened(t, ck, err, int64(len(b)))
	})
}

func FuzzPickle(f *testing.F) {
	seeds(f, "*.pkl", "*.pdparams")
	f.Fuzz(func(t *testing.T, b []byte) {
		ck, err := OpenPickle(bytes.NewReader(b), int64(len(b)), small)
		checkOpened(t, ck, err, int64(len(b)))
	})
}
