package scan_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

const checkpoints = "../testdata/checkpoints"

// What converts is never worse than review; what the oracle only refuses
// because safetensors has no place for it is not called safe.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	oracles, err := filepath.Glob(checkpoints + "/*.oracle.json")
	if err != nil || len(oracles) < 50 {
		t.Fatal(len(oracles), err)
	}
	for _, o := range oracles {
		t.Run(filepath.Base(o), func(t *testing.T) {
			t.Parallel()
			var oracle struct{ File, Expect string }
			b, err := os.ReadFile(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &oracle); err != nil {
				t.Fatal(err)
			}
			rep := scanPath(t, strings.TrimSuffix(o, ".oracle.json"))
			t.Logf("%s %s %s", rep.Verdict, oracle.Expect, oracle.File)
			if strings.HasPrefix(oracle.Expect, "convert") && rep.Verdict > scan.Review {
				t.Errorf("%s\n%s", oracle.Expect, explain(rep))
			}
		})
	}
}

// Hand-made files: what is to be rejected is never called safe or convertible.
func TestHandmade(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(checkpoints + "/handmade/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var list map[string]struct{ Outcome, Why string }
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	for name, want := range list {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rep := scanPath(t, filepath.Join(checkpoints, "handmade", filepath.FromSlash(name)))
			t.Logf("%s %s %s: %s", rep.Verdict, want.Outcome, name, want.Why)
			switch want.Outcome {
			case "reject":
				if rep.Verdict < scan.Review {
					t.Errorf("%s (%s) is called %s\n%s", name, want.Why, rep.Verdict, explain(rep))
				}
			case "ok":
				if rep.Verdict > scan.Review {
					t.Errorf("%s (%s) is called %s\n%s", name, want.Why, rep.Verdict, explain(rep))
				}
			}
		})
	}
}
