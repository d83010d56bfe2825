package scan_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

type sample struct {
	File      string `json:"file"`
	Expected  string `json:"expected"`
	Technique string `json:"technique"`
}

func manifest(t testing.TB, dir string) []sample {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []sample
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// scanPath judges a file as a command would.
func scanPath(t testing.TB, p string) *scan.Report {
	t.Helper()
	st, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	src := model.SingleFile(p)
	if st.IsDir() {
		src = model.Dir(p)
	}
	m, err := model.Load(context.Background(), p, src)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := scan.Run(context.Background(), m, scan.Default())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func explain(rep *scan.Report) string {
	var b strings.Builder
	for _, f := range rep.Files {
		fmt.Fprintf(&b, "  %s: %s (%s, named %s)\n", f.Path, f.Verdict, f.Format, f.Declared)
		for i, fd := range f.Findings {
			if i == 8 {
				break
			}
			off := int64(-1)
			if fd.Offset != nil {
				off = *fd.Offset
			}
			fmt.Fprintf(&b, "    %s %s %s @%d %s: %s\n", fd.Rule, fd.Verdict, fd.Inner, off, fd.Opcode, fd.Message)
		}
	}
	return b.String()
}

// mismatches are the samples whose verdict is another than the manifest's, and
// why. The list may only become shorter.
var mismatches = map[string]struct{ verdict, why string }{}

// Every sample of both halves gets the verdict that its manifest expects.
func TestThreats(t *testing.T) {
	t.Parallel()
	for _, half := range []string{"malicious", "benign"} {
		dir := filepath.Join("..", "testdata", "threats", half)
		for _, s := range manifest(t, dir) {
			key := path.Join(half, s.File)
			t.Run(key, func(t *testing.T) {
				t.Parallel()
				rep := scanPath(t, filepath.Join(dir, filepath.FromSlash(s.File)))
				checkVerdict(t, half, key, s, rep)
			})
		}
	}
}

func checkVerdict(t *testing.T, half, key string, s sample, rep *scan.Report) {
	t.Helper()
	want, err := scan.ParseVerdict(s.Expected)
	if err != nil {
		t.Fatal(err)
	}
	got := rep.Verdict
	if want == scan.Unsafe && got < scan.Unknown {
		t.Errorf("%s (%s): an unsafe file is called %s\n%s", key, s.Technique, got, explain(rep))
	}
	if want == scan.Review && got < scan.Review {
		t.Errorf("%s (%s): a file for review is called %s\n%s", key, s.Technique, got, explain(rep))
	}
	if known, ok := mismatches[key]; ok {
		if known.verdict != got.String() {
			t.Errorf("%s: %s, but the list of known differences says %s: %s", key, got, known.verdict, known.why)
		}
		return
	}
	if got != want {
		t.Errorf("%s (%s): %s, expected %s\n%s", key, s.Technique, got, want, explain(rep))
	}
}
