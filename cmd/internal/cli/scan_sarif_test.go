package cli

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	gosarif "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/weightseal/weightseal/scan"
)

// TestScanSARIF: SARIF of the corpus is valid, its references lead somewhere,
// and every file that is not safe has a result.
func TestScanSARIF(t *testing.T) {
	t.Parallel()
	schema, standard := closed(t, "testdata/scan/sarif.schema.json"), sarifStandard(t)
	_, text, _ := scanned(t, nil, append(slices.Clone(fixture), "-o", "sarif")...)
	for _, dir := range corpora() {
		_, text, _ := scanned(t, nil, filepath.Join("../../../testdata", dir), "-o", "sarif")
		validate(t, schema, dir, text)
		validate(t, standard, dir, text)
		checkSARIF(t, dir, text)
	}
	validate(t, schema, "fixture", text)
	validate(t, standard, "fixture", text)

	// The reader of another project finds in it what was written.
	report, err := gosarif.FromString(text)
	if err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal([]byte(text), &log); err != nil {
		t.Fatal(err)
	}
	ours, theirs := log.Runs[0], report.Runs[0]
	if len(theirs.Results) != len(ours.Results) || len(theirs.Tool.Driver.Rules) != len(ours.Tool.Driver.Rules) || len(ours.Results) == 0 {
		t.Errorf("%d results, %d rules, %d were written", len(theirs.Results), len(theirs.Tool.Driver.Rules), len(ours.Results))
	}
	for i, r := range theirs.Results {
		if r.RuleID == nil || *r.RuleID != ours.Results[i].RuleID || r.PartialFingerprints["primaryLocationLineHash"] == "" {
			t.Errorf("result %d is %v with %v", i, r.RuleID, r.PartialFingerprints)
		}
	}
}

// sarifStandard is the schema that OASIS publishes beside the standard, as the
// module go-sarif has it in a constant of its own.
func sarifStandard(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	list := exec.CommandContext(tb.Context(), "go", "list", "-f", "{{.Dir}}", reflect.TypeFor[gosarif.Report]().PkgPath())
	list.Stderr = os.Stderr
	dir, err := list.Output()
	if err != nil {
		tb.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "schema.go"), nil, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && text == "" {
			text, err = strconv.Unquote(l.Value)
		}
		return err == nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	if id := doc.(map[string]any)["id"]; id != sarifSchema {
		tb.Fatalf("the schema is %v, the log names %s", id, sarifSchema)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(sarifSchema, doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile(sarifSchema)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func checkSARIF(t *testing.T, dir, text string) {
	t.Helper()
	var log sarifLog
	if err := json.Unmarshal([]byte(text), &log); err != nil {
		t.Fatal(err)
	}
	r := log.Runs[0]
	told := map[string]bool{}
	for _, x := range r.Results {
		if x.RuleIndex >= len(r.Tool.Driver.Rules) || r.Tool.Driver.Rules[x.RuleIndex].ID != x.RuleID {
			t.Fatalf("%s: rule %d is not %s", dir, x.RuleIndex, x.RuleID)
		}
		l := x.Locations[0].Physical
		if i := *l.Artifact.Index; i >= len(r.Artifacts) || r.Artifacts[i].Location.URI != l.Artifact.URI {
			t.Fatalf("%s: artifact %d is not %s", dir, i, l.Artifact.URI)
		}
		size := r.Artifacts[*l.Artifact.Index].Length
		if l.Region.ByteOffset != nil && *l.Region.ByteOffset > size {
			t.Errorf("%s: offset %d of %d", l.Artifact.URI, *l.Region.ByteOffset, size)
		}
		told[l.Artifact.URI] = true
	}
	for _, a := range r.Artifacts {
		if a.Properties["verdict"] != "safe" && !told[a.Location.URI] {
			t.Errorf("%s is %v, and no result says so", a.Location.URI, a.Properties["verdict"])
		}
	}
}

// TestScanSARIFSeverities: each rule gets the level and score that code
// scanning sorts into the severity of the same name.
func TestScanSARIFSeverities(t *testing.T) {
	t.Parallel()
	names := map[string]string{}
	for _, r := range scan.Rules() {
		s := newSARIFRule(r)
		score := s.Properties.SecuritySeverity
		want := map[string]bool{
			"critical": score > "9.0", "high": score >= "7.0" && score < "9.0", "medium": score >= "4.0" && score < "7.0",
			"low": score >= "0.1" && score < "4.0", "info": score == "",
		}[r.Severity]
		if !want {
			t.Errorf("%s is %s and has the score %q", r.ID, r.Severity, score)
		}
		if names[s.Name] == "" {
			names[s.Name] = r.ID
		}
		if s.Help.Text == "" || s.Help.Markdown == "" || !strings.HasSuffix(s.HelpURI, strings.ToLower(r.ID)) {
			t.Errorf("%s: help %+v at %s", r.ID, s.Help, s.HelpURI)
		}
	}
}

// TestCodeScanningLimits: what code scanning of GitHub refuses or cuts off is not
// in the rules: names up to 255 characters, descriptions up to 1,024, 10 tags.
func TestCodeScanningLimits(t *testing.T) {
	t.Parallel()
	for _, r := range scan.Rules() {
		s := newSARIFRule(r)
		if len(s.Name) > 255 || len(s.ShortDescription.Text) > 1024 || len(s.FullDescription.Text) > 1024 || len(s.Properties.Tags) > 10 {
			t.Errorf("%s: %d, %d and %d characters, %d tags", r.ID, len(s.Name), len(s.ShortDescription.Text), len(s.FullDescription.Text), len(s.Properties.Tags))
		}
		for _, id := range r.References().Advisories {
			if !strings.Contains(s.Help.Text, id) || !strings.Contains(s.Help.Markdown, "["+id+"]("+scan.AdvisoryURL(id)+")") {
				t.Errorf("%s: the help does not name %s", r.ID, id)
			}
		}
	}
}

// TestSARIFLimit: of more results than code scanning takes, the worst are kept in
// their order, and the log says how many are missing.
func TestSARIFLimit(t *testing.T) {
	t.Parallel()
	o := newScanOutput(scan.Unsafe)
	for i := range 200 {
		f := scanFile{Path: strconv.Itoa(i) + ".pkl", Verdict: scan.Unsafe, location: strconv.Itoa(i) + ".pkl"}
		for j := range 200 {
			x := scanFinding{Finding: scan.Finding{Rule: "WS-PICKLE-016", Verdict: scan.Review, Message: "x"}}
			if j%2 == 0 {
				x.Rule, x.Verdict = "WS-PICKLE-001", scan.Unsafe
			}
			f.Findings = append(f.Findings, x)
		}
		o.Files = append(o.Files, f)
		o.Totals.Findings += len(f.Findings)
	}
	var b bytes.Buffer
	if err := printSARIF(&b, o); err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	r := log.Runs[0]
	counts := map[string]int{}
	for _, x := range r.Results {
		counts[x.RuleID]++
	}
	said := r.Invocations[0].Notifications
	if counts["WS-PICKLE-001"] != 20_000 || counts["WS-PICKLE-016"] != 5_000 || len(said) != 1 || !strings.HasPrefix(said[0].Message.Text, "15000 of 40000 ") {
		t.Errorf("%v, %+v", counts, said)
	}
}
