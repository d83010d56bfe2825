package scan_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

var update = flag.Bool("update", false, "rewrite docs/rules.md and testdata/rule-ids.txt")

// TestRuleIDsAreStable: an id that was ever given stays. Baselines and
// dashboards hold them.
func TestRuleIDsAreStable(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "rule-ids.txt")
	known := map[string]bool{}
	for id := range strings.FieldsSeq(readFile(t, golden)) {
		known[id] = true
	}
	var fresh []string
	for _, r := range scan.Rules() {
		if !known[r.ID] {
			fresh = append(fresh, r.ID)
		}
		delete(known, r.ID)
	}
	for id := range known {
		t.Errorf("%s is gone: an id may be retired in its text, but never removed or renamed", id)
	}
	if *update && len(known) == 0 {
		var all []string
		for _, r := range scan.Rules() {
			all = append(all, r.ID)
		}
		writeFile(t, golden, strings.Join(all, "\n")+"\n")
		return
	}
	if len(fresh) > 0 {
		t.Errorf("%v are not in %s: make golden", fresh, golden)
	}
}

// TestReferences: every rule maps to controls and weaknesses, in the form that
// their publishers write them.
func TestReferences(t *testing.T) {
	t.Parallel()
	forms := []struct {
		name string
		form *regexp.Regexp
		get  func(scan.References) []string
		must bool
	}{
		{"AISVS", regexp.MustCompile(`^C\d+\.\d+\.\d+$`), func(r scan.References) []string { return r.AISVS }, true},
		{"AICM", regexp.MustCompile(`^MDS-\d{2}$`), func(r scan.References) []string { return r.AICM }, true},
		{"CWE", regexp.MustCompile(`^CWE-\d+$`), func(r scan.References) []string { return r.CWE }, true},
		{"advisories", regexp.MustCompile(`^(CVE-\d{4}-\d{4,}|GHSA(-[23456789cfghjmpqrvwx]{4}){3})$`), func(r scan.References) []string { return r.Advisories }, false},
	}
	advisories := 0
	for _, r := range scan.Rules() {
		ref := r.References()
		advisories += len(ref.Advisories)
		for _, f := range forms {
			ids := f.get(ref)
			if f.must && len(ids) == 0 {
				t.Errorf("%s maps to no %s", r.ID, f.name)
			}
			for _, id := range ids {
				if !f.form.MatchString(id) {
					t.Errorf("%s: %q is not written as %s writes ids", r.ID, id, f.name)
				}
			}
			if unique := slices.Compact(slices.Sorted(slices.Values(ids))); len(unique) != len(ids) {
				t.Errorf("%s: %s %v has one twice", r.ID, f.name, ids)
			}
		}
	}
	if advisories < 70 {
		t.Errorf("only %d advisories", advisories)
	}
}

// TestRulesDoc: docs/rules.md is what the tables say.
func TestRulesDoc(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "rules.md")
	want := rulesDoc()
	if *update {
		writeFile(t, path, want)
	}
	if readFile(t, path) != want {
		t.Errorf("%s is not what Rules() says: make golden", path)
	}
}

func rulesDoc() string {
	var b bytes.Buffer
	b.WriteString(`# Rules

Every finding of ` + "`weightseal scan`" + ` names one of these rules. The ids are stable:
none is ever renamed, removed or used again. The verdict is the least that a
finding of the rule makes of its file; [scanner.md](scanner.md) says what the
verdicts mean. This page is made from the tables in
[scan/rules.go](../scan/rules.go) and [scan/references.go](../scan/references.go).

Controls are those of the OWASP AI Security Verification Standard 1.0 (AISVS)
and of the CSA AI Controls Matrix (AICM). Advisories are published attacks of
the kind that the rule finds.

| rule | finds | severity | verdict |
|---|---|---|---|
`)
	for _, r := range scan.Rules() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s |\n", r.ID, strings.ToLower(r.ID), r.Title, r.Severity, r.Verdict)
	}
	for _, r := range scan.Rules() {
		ref := r.References()
		fmt.Fprintf(&b, "\n## %s\n\n%s: severity %s, verdict %s.\n\n%s\n\nWhat to do: %s.\n\n", r.ID,
			capital(r.Title), r.Severity, r.Verdict, r.Means, strings.TrimSuffix(r.Fix, "."))
		fmt.Fprintf(&b, "AISVS %s · AICM %s · %s", strings.Join(ref.AISVS, ", "), strings.Join(ref.AICM, ", "), strings.Join(ref.CWE, ", "))
		if len(ref.Advisories) > 0 {
			b.WriteString("\n\nAdvisories:")
			for _, id := range ref.Advisories {
				fmt.Fprintf(&b, "\n[%s](%s)", id, scan.AdvisoryURL(id))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func readFile(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func writeFile(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		tb.Fatal(err)
	}
}

// TestFingerprints: what belongs to a finding changes its name, what does not
// belong to it does not.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	at := func(n int64) *int64 { return &n }
	base := scan.Finding{Rule: "WS-PICKLE-003", Message: "needs a.B at 17", Offset: at(17), Global: "a.B", Opcode: "GLOBAL"}
	first := scan.Fingerprints("m.bin", []scan.Finding{base})[0]
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(first) {
		t.Fatalf("%q", first)
	}
	moved := base
	moved.Offset, moved.Message = at(99), "needs a.B at 99"
	other := base
	other.Global, other.Message = "a.C", "needs a.C at 17"
	two := scan.Fingerprints("m.bin", []scan.Finding{other, moved, base})
	if two[1] != first || two[2] == first || two[0] == first {
		t.Errorf("%v, the first alone is %s", two, first)
	}
	inner := base
	inner.Inner = "x"
	if scan.Fingerprints("m.bin", []scan.Finding{inner})[0] == first || scan.Fingerprints("n.bin", []scan.Finding{base})[0] == first {
		t.Error("path and inner path must tell findings apart")
	}
}

// TestExplained: over the corpus, some finding accounts for every verdict.
func TestExplained(t *testing.T) {
	t.Parallel()
	explained := 0
	for _, half := range []string{"malicious", "benign"} {
		dir := filepath.Join("..", "testdata", "threats", half)
		for _, s := range manifest(t, dir) {
			for _, f := range scanPath(t, filepath.Join(dir, filepath.FromSlash(s.File))).Files {
				worst := scan.Safe
				all := f.Explained()
				for _, x := range all {
					worst = max(worst, x.Verdict)
				}
				if worst != f.Verdict {
					t.Errorf("%s is %s, its findings %s", s.File, f.Verdict, worst)
				}
				if n := len(all) - len(f.Findings); n > 0 {
					explained++
					if f.Verdict != scan.Convertible {
						t.Errorf("%s is %s and no finding says why", s.File, f.Verdict)
					}
				}
			}
		}
	}
	if explained == 0 {
		t.Error("no convertible file was seen")
	}
}
