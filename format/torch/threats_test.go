package torch

import (
	"encoding/json"
	"errors"
	"testing"
)

const threats = "../../testdata/threats"

// No hostile file gives tensors without at least a finding, whether inert
// objects are allowed or not; every benign torch file that can be converted
// is.
func TestThreats(t *testing.T) {
	t.Parallel()
	var list []struct {
		File, Family, Technique, Expected string
	}
	// A restricted loader takes these; to convert them, the user must say what
	// is wanted.
	asks := map[string]bool{"torch/lightning.ckpt": true, "torch/sparse.pt": true}
	for _, half := range []string{"malicious", "benign"} {
		if err := json.Unmarshal(readFile(t, threats+"/"+half+"/manifest.json"), &list); err != nil {
			t.Fatal(err)
		}
		recognised := 0
		for _, f := range list {
			b := readFile(t, threats+"/"+half+"/"+f.File)
			c, err := open(b)
			if errors.Is(err, ErrNotTorch) {
				continue
			}
			recognised++
			findings := 0
			if c != nil {
				findings = len(c.Findings)
			}
			var sd *StateDict
			if err == nil {
				if sd, err = c.SelectWith(SelectOptions{AllowInert: true}); err == nil {
					findings += len(sd.Findings)
				}
			}
			if err != nil {
				checkTyped(t, err)
			}
			switch {
			case half == "malicious" && f.Expected == "unsafe" && err == nil && findings == 0:
				t.Errorf("%s (%s): accepted without a finding", f.File, f.Technique)
			case half == "benign" && f.Expected == "convertible" && err != nil && !asks[f.File]:
				t.Errorf("%s (%s): %v", f.File, f.Technique, err)
			}
		}
		if recognised < 10 {
			t.Errorf("only %d torch containers among the %s files", recognised, half)
		}
	}
}
