package scan_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// TestHDF5 judges files that h5py wrote, in folders named after the verdict:
// groups and attributes in heaps, datasets in chunks, values of variable length.
func TestHDF5(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), realtools.Python(t), "testdata/hdf5.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\nnot there? Debian's python3-h5py, or `make test-deps`", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.h5"))
	if err != nil || len(files) < 30 {
		t.Fatal(len(files), err)
	}
	for _, p := range files {
		want := filepath.Base(filepath.Dir(p))
		t.Run(want+" "+filepath.Base(p), func(t *testing.T) {
			t.Parallel()
			if rep := scanPath(t, p); rep.Verdict.String() != want {
				t.Errorf("%s, want %s\n%s", rep.Verdict, want, explain(rep))
			}
		})
	}
}
