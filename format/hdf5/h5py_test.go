package hdf5

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/internal/realtools"
)

// read is what h5py read of a dataset.
type read struct {
	DType  string   `json:"dtype"`
	Shape  []uint64 `json:"shape"`
	SHA256 string   `json:"sha256"`
}

// TestH5py writes files of every kind with h5py, and reads what it reads.
func TestH5py(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), realtools.Python(t), "testdata/write.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\nnot there? Debian's python3-h5py, or `make test-deps`", err, out)
	}
	lists, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(lists) < 10 {
		t.Fatal(len(lists), err)
	}
	for _, list := range lists {
		t.Run(strings.TrimSuffix(filepath.Base(list), ".json"), func(t *testing.T) {
			t.Parallel()
			var want map[string]read
			if b, err := os.ReadFile(list); err != nil {
				t.Fatal(err)
			} else if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(strings.TrimSuffix(list, "json") + "h5")
			if err != nil {
				t.Fatal(err)
			}
			ck, err := openBytes(b, Options{})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, b, ck, want)
		})
	}
}

func openBytes(b []byte, opt Options) (*format.Checkpoint, error) {
	return Open(bytes.NewReader(b), int64(len(b)), opt)
}

func compare(t *testing.T, file []byte, ck *format.Checkpoint, want map[string]read) {
	t.Helper()
	if len(ck.Tensors) != len(want) {
		t.Errorf("%d tensors, h5py reads %d", len(ck.Tensors), len(want))
	}
	for i := range ck.Tensors {
		x := &ck.Tensors[i]
		w, ok := want[x.Name]
		if !ok {
			t.Errorf("%s: not seen by h5py", x.Name)
			continue
		}
		sum := sha256.Sum256(content(t, file, x))
		if got := hex.EncodeToString(sum[:]); x.DType.String() != w.DType || !slices.Equal(x.Shape, w.Shape) || got != w.SHA256 {
			t.Errorf("%s: %s %v %s, h5py reads %s %v %s", x.Name, x.DType, x.Shape, got, w.DType, w.Shape, w.SHA256)
		}
	}
}

// content gives a tensor's bytes, little-endian.
func content(tb testing.TB, file []byte, x *format.Tensor) []byte {
	tb.Helper()
	b := make([]byte, x.Storage.Length)
	if n, err := x.Storage.Data.ReadAt(b, 0); n < len(b) {
		tb.Fatalf("%s: %v", x.Name, err)
	}
	if at := x.Storage.Offset; at >= 0 && !bytes.Equal(b, file[at:at+x.Storage.Length]) {
		tb.Fatalf("%s: does not lie at %d", x.Name, at)
	}
	if x.Swap > 0 {
		for part := range slices.Chunk(b, int(x.Swap)) {
			slices.Reverse(part)
		}
	}
	return b
}
