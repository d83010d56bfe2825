package scan_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// TestFlax: a whole file is safe, what is damaged or has more in it is not
// known, and what is named as a pickle is judged as one.
func TestFlax(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(checkpoints + "/flax.msgpack")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want scan.Verdict
	}{
		"whole.msgpack":  {file, scan.Safe},
		"cut.msgpack":    {file[:len(file)-1], scan.Unknown},
		"longer.msgpack": {append(file[:len(file):len(file)], 0), scan.Unknown},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if rep := scanPath(t, path); rep.Verdict != c.want {
			t.Errorf("%s: %s, want %s\n%s", name, rep.Verdict, c.want, explain(rep))
		}
	}
	path := filepath.Join(t.TempDir(), "model.pkl")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if rep := scanPath(t, path); rep.Verdict == scan.Safe {
		t.Errorf("named as a pickle: %s", explain(rep))
	}
	if rep := scanPath(t, checkpoints+"/complex.msgpack"); rep.Verdict != scan.Safe {
		t.Errorf("complex128: %s", explain(rep))
	}
}
