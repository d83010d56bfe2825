package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/scan"
)

// What a summary shows at most: CI systems cut long ones.
const (
	markdownFindings = 20
	markdownFiles    = 100
)

// printMarkdown writes a summary for the page of a CI run: counts, the worst
// files and the worst findings. Whatever comes from a model is in a code span,
// where it is no markup, link or mention.
func printMarkdown(w io.Writer, o *scanOutput) error {
	result := "passed"
	if o.Failed {
		result = "failed"
	}
	fmt.Fprintf(w, "## weightseal scan: %s\n\nVerdict **%s**, `--fail-on %s`. Read %s of %s.\n\n", result,
		o.Verdict, o.FailOn, bytesText(o.Totals.BytesRead), bytesText(o.Totals.Bytes))
	fmt.Fprintf(w, "| safe | convertible | review | unknown | unsafe | ignored | excluded |\n|---|---|---|---|---|---|---|\n|")
	for v := scan.Safe; v <= scan.Unsafe; v++ {
		fmt.Fprintf(w, " %d |", o.Counts[v.String()])
	}
	fmt.Fprintf(w, " %d | %d |\n", o.Totals.Ignored, o.Totals.Excluded)
	o.markdownNotes(w)
	o.markdownFiles(w)
	return o.markdownFindings(w)
}

func (o *scanOutput) markdownNotes(w io.Writer) {
	notes := o.notes()
	for _, l := range o.Limits {
		notes = append(notes, "limit: "+joinPlace(l.Path, l.Inner)+": "+l.Message)
	}
	if o.Baseline != nil {
		for _, e := range o.Baseline.Remarks {
			notes = append(notes, "baseline "+e.String())
		}
	}
	if len(notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range notes {
		fmt.Fprintf(w, "- %s\n", markdownCode(n))
	}
}

// markdownFiles lists the files, the worst first.
func (o *scanOutput) markdownFiles(w io.Writer) {
	files := slices.Clone(o.Files)
	slices.SortStableFunc(files, func(a, b scanFile) int {
		return cmp.Or(cmp.Compare(b.Counted, a.Counted), cmp.Compare(b.Verdict, a.Verdict))
	})
	fmt.Fprint(w, "\n| file | format | verdict | findings |\n|---|---|---|---|\n")
	shown := min(len(files), markdownFiles)
	for _, f := range files[:shown] {
		fmt.Fprintf(w, "| %s | %s | %s | %d |\n", markdownCode(f.Path), f.Format, f.markdownStatus(), len(f.Findings))
	}
	for _, x := range o.Excluded[:min(len(o.Excluded), markdownFiles-shown)] {
		fmt.Fprintf(w, "| %s | | excluded %s | |\n", markdownCode(x.Path), markdownCode(strings.TrimSpace(x.By+" "+x.Pattern)))
	}
	if n := len(o.Files) + len(o.Excluded) - markdownFiles; n > 0 {
		fmt.Fprintf(w, "\n%s not listed here.\n", plural(n, "more file"))
	}
}

func (f *scanFile) markdownStatus() string {
	s := f.Verdict.String()
	if v := strings.TrimPrefix(f.status(), s+" "); v != f.status() {
		s += " " + markdownCode(strings.Trim(v, "()"))
	}
	return s
}

// markdownFindings lists the worst findings.
func (o *scanOutput) markdownFindings(w io.Writer) error {
	type row struct {
		path string
		scanFinding
	}
	var rows []row
	for _, f := range o.Files {
		for _, x := range f.Findings {
			if x.Verdict > scan.Convertible {
				rows = append(rows, row{f.Path, x})
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	weight := map[string]int{"critical": 4, "high": 3, "medium": 2, "low": 1}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.Verdict, a.Verdict), cmp.Compare(weight[b.Severity], weight[a.Severity]))
	})
	fmt.Fprint(w, "\n### Findings\n\n| severity | rule | where | what | fix |\n|---|---|---|---|---|\n")
	for _, x := range rows[:min(len(rows), markdownFindings)] {
		where := x.path + place(x.Finding)
		fix := markdownText(x.Fix)
		if x.Accepted != nil {
			fix = "accepted until " + markdownCode(x.Accepted.Expires) + " by " + markdownCode(x.Accepted.Owner)
		}
		fmt.Fprintf(w, "| %s | [%s](%s#%s) %s | %s | %s | %s |\n", x.Severity, x.Rule, rulesURI, strings.ToLower(x.Rule),
			markdownText(x.Title), markdownCode(where), markdownCode(x.Message), fix)
	}
	if n := len(rows) - markdownFindings; n > 0 {
		fmt.Fprintf(w, "\n%s not listed here: see the JSON or SARIF output.\n", plural(n, "more finding"))
	}
	return nil
}

// markdownCode is a text from outside as a code span (CommonMark 6.1; a pipe is
// escaped as GitHub's tables want it).
func markdownCode(s string) string {
	s = strings.NewReplacer("\n", " ", "\t", " ", "\r", " ").Replace(printable(s))
	fence, run := 0, 0
	for i := range len(s) {
		if s[i] != '`' {
			run = 0
			continue
		}
		run++
		fence = max(fence, run)
	}
	ticks := strings.Repeat("`", fence+1)
	if s == "" || fence > 0 || strings.HasPrefix(s, " ") {
		s = " " + s + " "
	}
	// A pipe behind a backslash cannot be escaped: the first escapes the second.
	s = strings.ReplaceAll(s, `\|`, `\ |`)
	return ticks + strings.ReplaceAll(s, "|", `\|`) + ticks
}

// markdownText is a text of our own, with nothing in it that is markup.
func markdownText(s string) string {
	return strings.NewReplacer(
		`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "\n", " ",
	).Replace(s)
}
