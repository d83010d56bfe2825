package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/weightseal/weightseal/scan"
)

// printScan writes the report for people at a terminal.
func printScan(out *page, o *scanOutput) error {
	t := newTable(column{title: "FILE", cut: cutMiddle, least: 16}, column{title: "FORMAT", drop: 1}, column{title: "VERDICT", cut: cutEnd, least: 11})
	for _, f := range o.Files {
		t.row(text(f.Path), text(string(f.Format)), styled(verdictStyle(f.Verdict.String()), f.status()))
	}
	for _, x := range o.Excluded {
		t.row(text(x.Path), text("-"), styled(faint, x.String()))
	}
	if err := t.print(out); err != nil {
		return err
	}
	for _, f := range o.Files {
		for _, x := range f.Findings {
			// That a file is pickle-based is in its line of the table.
			if x.Rule != "WS-FORMAT-003" {
				printFinding(out, f.Path, x)
			}
		}
	}
	printRemarks(out, o)
	verdict := o.Verdict.String()
	_, err := fmt.Fprintf(out, "\nverdict: %s (%s)\n", out.paint(verdictStyle(verdict), verdict), plural(o.Totals.Files, "file"))
	return err
}

func printFinding(out *page, path string, x scanFinding) {
	fmt.Fprintf(out, "\n%s  %s  %s%s\n", out.paint(verdictStyle(x.Severity), x.Severity), x.Rule, out.paint(strong, oneLine(path)), place(x.Finding))
	out.paragraph("  ", oneLine(x.Message))
	if x.Accepted != nil {
		out.paragraph("  ", oneLine(fmt.Sprintf("accepted until %s by %s: %s", x.Accepted.Expires, x.Accepted.Owner, x.Accepted.Reason)))
	} else if x.Fix != "" {
		out.paragraph("  ", "fix: "+oneLine(x.Fix))
	}
}

// printRemarks says what was read, which limits were hit, and what does not
// count.
func printRemarks(out io.Writer, o *scanOutput) {
	fmt.Fprintf(out, "\nread %s of %s\n", bytesText(o.Totals.BytesRead), bytesText(o.Totals.Bytes))
	for _, l := range o.Limits {
		fmt.Fprintf(out, "limit: %s: %s\n", oneLine(joinPlace(l.Path, l.Inner)), oneLine(l.Message))
	}
	for _, n := range o.notes() {
		fmt.Fprintln(out, oneLine(n))
	}
	if o.Baseline != nil {
		for _, e := range o.Baseline.Remarks {
			fmt.Fprintf(out, "baseline %s\n", oneLine(e.String()))
		}
	}
}

func joinPlace(path, inner string) string {
	if inner == "" {
		return path
	}
	return path + "!" + inner
}

// oneLine makes a text from outside harmless and keeps it on its line: a name in
// an archive must not write lines of the report.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(printable(s), "\n", `\n`), "\t", `\t`)
}

// String says why a file was kept out.
func (x excludedFile) String() string {
	switch x.By {
	case "--include":
		return "excluded (no --include matches)"
	case program:
		return "excluded (never part of a model)"
	}
	return fmt.Sprintf("excluded (%s %s)", x.By, x.Pattern)
}

func place(f scan.Finding) string {
	var at string
	if f.Inner != "" {
		at += " in " + oneLine(f.Inner)
	}
	if f.Offset != nil {
		at += fmt.Sprintf(" at offset %d", *f.Offset)
	}
	return at
}
