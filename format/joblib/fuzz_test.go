package joblib

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
)

func FuzzJoblib(f *testing.F) {
	files, err := filepath.Glob("../../testdata/checkpoints/*.joblib")
	if err != nil || len(files) < 7 {
		f.Fatal(files, err)
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
	}
	small := Limits{Inflate: 1 << 22, Memory: 1 << 20, Pickle: pickle.Limits{Ops: 1 << 16, Memory: 16 << 20, String: 1 << 20}}
	f.Fuzz(func(t *testing.T, b []byte) {
		ck, err := Open(bytes.NewReader(b), int64(len(b)), small)
		if err != nil {
			var e *format.Error
			var u *format.UnsupportedError
			var p *pickle.Error
			var forbidden *numpy.ForbiddenError
			if !errors.As(err, &e) && !errors.As(err, &u) && !errors.As(err, &p) && !errors.As(err, &forbidden) {
				t.Fatalf("untyped error %T %v", err, err)
			}
			return
		}
		for _, x := range ck.Tensors {
			n, ok := numpy.Count(x.Size, int64(x.DType.Bits()/8))
			if !ok || n != x.Storage.Length {
				t.Fatalf("tensor %+v of a storage of %d bytes", x, x.Storage.Length)
			}
			content := make([]byte, min(n, 1<<22))
			if k, err := x.Storage.Data.ReadAt(content, 0); k < len(content) && err == nil {
				t.Fatalf("tensor %q: %d of %d bytes, no error", x.Name, k, n)
			}
		}
	})
}
