package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/scan"
)

type scanOptions struct {
	registry  registryFlags
	selection selection
	progress  progressFlags
	failOn    string
	output    string
}

func newScan(s *streams) *cobra.Command {
	var o scanOptions
	cmd := &cobra.Command{
		Use:   "scan SOURCE...",
		Short: "Judge every file of a model by its content",
		Long: `Scan models: a directory, a file, oci:DIR[:TAG] or a reference in a registry. Each
file gets a verdict; nothing is executed and no tensor is read.

  safe         data only, validated to the last byte
  convertible  pickle-based, but only what the converter knows: nothing is lost
  review       understood, no known danger, but needs classes or code
  unknown      not recognised, encrypted, over a limit, or could not be read
  unsafe       reaches code, files or network; or readers disagree; or malformed

The exit code is 3 when a verdict is at or above --fail-on.`,
		Example: `  weightseal scan ./my-model
  weightseal scan pytorch_model.bin --output json --fail-on review`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd.CommandPath()+" --help", "missing argument SOURCE (usage: %s)", cmd.UseLine())
			}
			return runScan(cmd.Context(), s, args, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.failOn, "fail-on", "convertible", "lowest `verdict` that fails: convertible, review, unknown, unsafe")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.selection.add(f)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

// scanOutput is what scan prints as JSON.
type scanOutput struct {
	SchemaVersion int               `json:"schemaVersion"`
	Verdict       scan.Verdict      `json:"verdict"`
	Counts        map[string]int    `json:"counts"`
	Files         []scan.FileReport `json:"files"`
}

func runScan(ctx context.Context, s *streams, sources []string, o *scanOptions) error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	threshold, err := scan.ParseVerdict(o.failOn)
	if err != nil {
		return usage("", "--fail-on: %w", err)
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	out := scanOutput{SchemaVersion: 1, Verdict: scan.Safe, Counts: map[string]int{}, Files: []scan.FileReport{}}
	for _, source := range sources {
		report, err := scanSource(ctx, source, opt, &o.selection, bar)
		if err != nil {
			return err
		}
		out.add(source, report, len(sources) > 1)
	}
	bar.close()
	if o.output == "json" {
		err = printJSON(s.out, out)
	} else {
		err = printScan(s, out)
	}
	if err != nil {
		return err
	}
	return out.verdict(threshold)
}

func scanSource(ctx context.Context, source string, opt oci.Options, sel *selection, bar *progress) (*scan.Report, error) {
	m, _, err := openModel(ctx, source, opt)
	if err != nil {
		return nil, err
	}
	if err := sel.apply(m); err != nil {
		return nil, err
	}
	if len(m.Files) == 0 {
		return nil, usage("", "%s: no files to scan", source)
	}
	bar.say("scan", source)
	return scan.Run(ctx, m, scan.Default())
}

// add takes a source's report in. With several sources the paths begin with
// the source.
func (o *scanOutput) add(source string, r *scan.Report, several bool) {
	o.Verdict = max(o.Verdict, r.Verdict)
	for k, n := range r.Counts {
		o.Counts[k] += n
	}
	for _, f := range r.Files {
		if f.Findings == nil {
			f.Findings = []scan.Finding{}
		}
		if several {
			f.Path = source + "/" + f.Path
		}
		o.Files = append(o.Files, f)
	}
}

// verdict is the error that a scan ends in: findings outweigh files that could
// not be read, and those are never exit code 0.
func (o *scanOutput) verdict(threshold scan.Verdict) error {
	var unread []error
	judged := scan.Safe
	for _, f := range o.Files {
		if f.Err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", f.Path, f.Err))
			continue
		}
		judged = max(judged, f.Verdict)
	}
	switch {
	case judged >= threshold:
		return fail(exitPolicy, fmt.Errorf("the verdict is %s (--fail-on %s)", judged, threshold))
	case len(unread) > 0:
		return fail(exitError, errors.Join(unread...))
	}
	return nil
}

func printScan(s *streams, o scanOutput) error {
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tFORMAT\tVERDICT")
	for _, f := range o.Files {
		fmt.Fprintf(w, "%s\t%s\t%s\n", printable(f.Path), f.Format, f.Verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range o.Files {
		for _, x := range f.Findings {
			fmt.Fprintf(s.out, "\n%s  %s  %s%s\n  %s\n", x.Severity, x.Rule, printable(f.Path), place(x), printable(x.Message))
			if x.Fix != "" {
				fmt.Fprintf(s.out, "  fix: %s\n", printable(x.Fix))
			}
		}
	}
	_, err := fmt.Fprintf(s.out, "\nverdict: %s (%d files)\n", o.Verdict, len(o.Files))
	return err
}

func place(f scan.Finding) string {
	var at string
	if f.Inner != "" {
		at += " in " + printable(f.Inner)
	}
	if f.Offset != nil {
		at += fmt.Sprintf(" at offset %d", *f.Offset)
	}
	return at
}
