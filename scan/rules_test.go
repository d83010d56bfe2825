package scan_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// The table is sorted and complete, and every rule says what it means.
func TestRules(t *testing.T) {
	t.Parallel()
	rules := scan.Rules()
	ids := map[string]bool{}
	for _, r := range rules {
		if ids[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		ids[r.ID] = true
		if r.Title == "" || r.Means == "" || r.Fix == "" || r.Verdict < scan.Safe || r.Verdict > scan.Unsafe {
			t.Errorf("%s is incomplete: %+v", r.ID, r)
		}
		if !slices.Contains([]string{"info", "low", "medium", "high", "critical"}, r.Severity) {
			t.Errorf("%s has the severity %q", r.ID, r.Severity)
		}
	}
	if !slices.IsSortedFunc(rules, func(a, b scan.Rule) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("the table is not sorted")
	}
	used := map[string]bool{}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`WS-[A-Z0-9]+-\d{3}`)
	for _, p := range sources {
		if strings.HasSuffix(p, "_test.go") || p == "rules.go" {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range id.FindAllString(string(b), -1) {
			used[m] = true
			if !ids[m] {
				t.Errorf("%s uses %s, which is not in the table", p, m)
			}
		}
	}
	for i := range ids {
		if !used[i] {
			t.Errorf("nothing uses %s", i)
		}
	}
}

// Every finding over the whole corpus carries what its rule says.
func TestFindingsHaveRules(t *testing.T) {
	t.Parallel()
	rules := map[string]scan.Rule{}
	for _, r := range scan.Rules() {
		rules[r.ID] = r
	}
	n := 0
	for _, half := range []string{"malicious", "benign"} {
		dir := filepath.Join("..", "testdata", "threats", half)
		for _, s := range manifest(t, dir) {
			for _, f := range scanPath(t, filepath.Join(dir, filepath.FromSlash(s.File))).Files {
				for _, fd := range f.Findings {
					n++
					r, ok := rules[fd.Rule]
					if !ok || fd.Severity != r.Severity || fd.Verdict != r.Verdict || fd.Fix != r.Fix || fd.Message == "" {
						t.Errorf("%s: %+v is not what the table says", s.File, fd)
					}
					if fd.Verdict > f.Verdict {
						t.Errorf("%s: the finding %s is worse than the file", s.File, fd.Rule)
					}
				}
			}
		}
	}
	if n < 300 {
		t.Errorf("only %d findings", n)
	}
}
