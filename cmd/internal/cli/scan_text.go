package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/weightseal/weightseal/scan"
)

// printScan writes the report for people at a terminal.
func printScan(out io.Writer, o *scanOutput) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tFORMAT\tVERDICT")
	for _, f := range o.Files {
		fmt.Fprintf(w, "%s\t%s\t%s\n", oneLine(f.Path), f.Format, oneLine(f.status()))
	}
	for _, x := range o.Excluded {
		fmt.Fprintf(w, "%s\t-\t%s\n", oneLine(x.Path), oneLine(x.String()))
	}
	if err := w.Flush(); err != nil {
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
	_, err := fmt.Fprintf(out, "\nverdict: %s (%s)\n", o.Verdict, plural(o.Totals.Files, "file"))
	return err
}

func printFinding(out io.Writer, path string, x scanFinding) {
	fmt.Fprintf(out, "\n%s  %s  %s%s\n  %s\n", x.Severity, x.Rule, oneLine(path), place(x.Finding), oneLine(x.Message))
	if x.Accepted != nil {
		fmt.Fprintf(out, "  accepted until %s by %s: %s\n", oneLine(x.Accepted.Expires), oneLine(x.Accepted.Owner), oneLine(x.Accepted.Reason))
	} else if x.Fix != "" {
		fmt.Fprintf(out, "  fix: %s\n", oneLine(x.Fix))
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
