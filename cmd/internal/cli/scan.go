package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/scan"
)

type scanOptions struct {
	registry      registryFlags
	selection     selection
	progress      progressFlags
	failOn        string
	output        string
	baseline      string
	writeBaseline string
	noIgnore      bool
	stdinLimit    string
	memory        string
	reports       []string
	results       resultFlags
}

// scanOutputs are the forms of the report.
var scanOutputs = []struct {
	name  string
	print func(*page, *scanOutput) error
}{
	{"text", printScan},
	{"json", func(w *page, o *scanOutput) error { return printJSON(w, o) }},
	{"sarif", func(w *page, o *scanOutput) error { return printSARIF(w, o) }},
	{"junit", func(w *page, o *scanOutput) error { return printJUnit(w, o) }},
	{"markdown", func(w *page, o *scanOutput) error { return printMarkdown(w, o) }},
}

func newScan(s *streams) *cobra.Command {
	var o scanOptions
	cmd := &cobra.Command{
		Use:   "scan SOURCE...",
		Short: "Judge every file of a model by its content",
		Long: `Scan models: a directory, a file, oci:DIR[:TAG], a reference in a registry, or -
for an archive or a file on standard input. Each file gets a verdict; nothing is
executed and no tensor is read.

  safe         data only, validated to the last byte
  convertible  pickle-based, but only what the converter knows: nothing is lost
  review       understood, no known danger, but needs classes or code
  unknown      not recognised, encrypted, over a limit, or could not be read
  unsafe       reaches code, files or network; or readers disagree; or malformed

The exit code is 3 when a verdict is at or above --fail-on, and 1 when a file
could not be read.

Files that match a line of ` + ignoreName + ` in the scanned directory are judged and
listed, but do not count unless they are unsafe. Findings that --baseline FILE
accepts do not count until they expire; unsafe ones always do.`,
		Example: `  weightseal scan ./my-model
  weightseal scan . --report sarif=weightseal.sarif --report junit=weightseal.xml
  git archive HEAD | weightseal scan - --fail-on review`,
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
	f.StringVarP(&o.output, "output", "o", "text", "text, json, sarif, junit or markdown")
	f.StringVar(&o.baseline, "baseline", "", "`file` of accepted findings, each with owner, reason and expiry")
	f.StringVar(&o.writeBaseline, "write-baseline", "", "write a draft of a baseline to this `file`, to be filled in")
	f.BoolVar(&o.noIgnore, "no-ignore", false, "do not heed "+ignoreName+": for models from elsewhere")
	f.StringVar(&o.memory, "memory", "16MiB", "most that the values of one pickle may take, a `SIZE`; one that needs more is unknown")
	f.StringVar(&o.stdinLimit, "stdin-limit", "16GiB", "most that is read of standard input, a `SIZE`")
	f.StringArrayVar(&o.reports, "report", nil, "also write the report to a file, `FORM=FILE`, in one of the forms of --output (repeatable)")
	o.results.add(f, scanResults())
	o.selection.add(f)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

// scanForm finds the form of a report.
func scanForm(flag, name string) (func(*page, *scanOutput) error, error) {
	var names []string
	for _, form := range scanOutputs {
		if form.name == name {
			return form.print, nil
		}
		names = append(names, form.name)
	}
	return nil, oneOf(flag, name, names...)
}

// scanReport is a file that a report goes to, beside the one on standard
// output: what people read and what machines read come from one scan.
type scanReport struct {
	path  string
	print func(*page, *scanOutput) error
}

func scanReports(flags []string) ([]scanReport, error) {
	var list []scanReport
	for _, text := range flags {
		form, path, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return nil, usage("--report sarif=weightseal.sarif", "--report %q: want FORM=FILE", text)
		}
		print, err := scanForm("report", form)
		if err != nil {
			return nil, err
		}
		list = append(list, scanReport{path: path, print: print})
	}
	return list, nil
}

// overModel refuses a report that would take the place of a file that is scanned
// and cannot be the report of an earlier run: reports are text.
func overModel(list []scanReport, sources []string) error {
	for _, r := range list {
		target, err := filepath.EvalSymlinks(r.path)
		if err != nil {
			continue // nothing is there
		}
		for _, source := range sources {
			root, err := filepath.EvalSymlinks(source)
			if err != nil {
				continue // no path: a reference or standard input
			}
			inside, err := filepath.Rel(root, target)
			if err == nil && filepath.IsLocal(inside) && !isReport(target) {
				return usage("--report FORM=FILE with a FILE beside the model", "--report %s: it is there already, and part of what is scanned", r.path)
			}
		}
	}
	return nil
}

func isReport(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	switch format, err := model.Sniff(f, info.Size()); format {
	case model.JSON, model.Markdown, model.Text, model.YAML, model.Empty:
		return err == nil
	}
	return false
}

func writeReports(list []scanReport, out *scanOutput) error {
	for _, r := range list {
		var b bytes.Buffer
		if err := r.print(&page{Writer: &b}, out); err != nil {
			return err
		}
		if err := os.WriteFile(r.path, b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	return nil
}

// scanRun is what the flags of a scan come to.
type scanRun struct {
	print      func(*page, *scanOutput) error
	failOn     scan.Verdict
	baseline   *baseline
	registry   oci.Options
	stdinLimit int64
	memory     int64
	reports    []scanReport
	now        time.Time
}

func (o *scanOptions) check(s *streams, sources []string) (*scanRun, error) {
	run := &scanRun{now: time.Now()}
	var err error
	if run.print, err = scanForm("output", o.output); err != nil {
		return nil, err
	}
	if run.reports, err = scanReports(o.reports); err != nil {
		return nil, err
	}
	if err := overModel(run.reports, sources); err != nil {
		return nil, err
	}
	if err := o.results.check(scanResults()); err != nil {
		return nil, err
	}
	if run.failOn, err = scan.ParseVerdict(o.failOn); err != nil {
		return nil, usage("--fail-on review", "--fail-on: %w", err)
	}
	if run.stdinLimit, err = parseSize(o.stdinLimit); err != nil {
		return nil, usage("a size is a number with a unit: --stdin-limit 10GB", "--stdin-limit %q: %w", o.stdinLimit, err)
	}
	if run.memory, err = parseSize(o.memory); err != nil {
		return nil, usage("a size is a number with a unit: --memory 64MiB", "--memory %q: %w", o.memory, err)
	}
	if err := o.progress.check(); err != nil {
		return nil, err
	}
	if slices.Contains(sources, "-") {
		if o.registry.passwordStdin {
			return nil, usage("put the archive into a file: weightseal scan FILE", "--password-stdin and - both want standard input")
		}
		if slices.Index(sources, "-") != len(sources)-1-slices.Index(reversed(sources), "-") {
			return nil, usage("weightseal scan -", "- is there twice: there is one standard input")
		}
	}
	if o.baseline != "" {
		if run.baseline, err = readBaseline(o.baseline); err != nil {
			return nil, err
		}
	}
	run.registry, err = o.registry.options(s)
	return run, err
}

// scanHeap is from where on garbage is collected whatever it costs, in bytes.
// The program itself takes some 15 MiB beside it.
const scanHeap = 38 << 20

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func runScan(ctx context.Context, s *streams, sources []string, o *scanOptions) error {
	run, err := o.check(s, sources)
	if err != nil {
		return err
	}
	// Garbage is collected early: the memory of a scan is bounded, whatever
	// the file says.
	defer debug.SetGCPercent(debug.SetGCPercent(40))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(scanHeap + 2*max(0, run.memory-scan.DefaultMemory)))
	bar := o.progress.start(s)
	defer bar.close()
	out := newScanOutput(run.failOn)
	for _, source := range sources {
		if err := scanInto(ctx, s, out, source, len(sources) > 1, o, run, bar); err != nil {
			return err
		}
	}
	if run.baseline != nil {
		out.Baseline = run.baseline.report(run.now)
	}
	bar.finish("scanned")
	if o.writeBaseline != "" {
		if err := writeDraft(s, out, o.writeBaseline); err != nil {
			return err
		}
	}
	if err := errors.Join(writeReports(run.reports, out), run.print(s.page(), out), announceScan(s, out, &o.results)); err != nil {
		return err
	}
	return out.err()
}

// scanInto scans one SOURCE and takes it into the report.
func scanInto(ctx context.Context, s *streams, out *scanOutput, source string, several bool, o *scanOptions, run *scanRun, bar *progress) error {
	job := &scanJob{source: source, location: locationOf(source)}
	if several {
		job.prefix = source + "/"
	}
	found, err := findScanned(ctx, s, source, run)
	if err != nil {
		return err
	}
	if in, ok := found.files.(*spooled); ok {
		defer in.close()
		job.source, job.prefix = stdinName, ""
	}
	job.digest = found.digest
	if !o.noIgnore && found.store == nil && isFolder(source) {
		if job.rules, err = readIgnore(source); err != nil {
			return err
		}
	}
	if job.files, err = newScanSource(found.files, &o.selection); err != nil {
		return err
	}
	bar.again()
	bar.say("scan", source)
	if job.model, job.report, err = job.files.run(ctx, found.name, run.memory, bar); err != nil {
		return err
	}
	return out.add(ctx, job, func(f *scanFile, digest func() (string, error)) error {
		if run.baseline == nil {
			return nil
		}
		return run.baseline.accept(f, run.now, digest)
	})
}

func findScanned(ctx context.Context, s *streams, source string, run *scanRun) (*foundSource, error) {
	if source != "-" {
		return findSource(ctx, source, run.registry)
	}
	in, err := spool(ctx, s.in, run.stdinLimit)
	if err != nil {
		return nil, err
	}
	return &foundSource{name: stdinName, files: in}, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// locationOf is where a source's files are, as the start of a URI reference: a
// path relative to where the command runs, as code scanning wants it, or an
// absolute address.
func locationOf(source string) string {
	if source == "-" {
		return ""
	}
	info, err := os.Stat(source)
	if err != nil || strings.HasPrefix(source, "oci:") {
		return uriPath(strings.TrimSuffix(source, "/") + "/")
	}
	dir := source
	if !info.IsDir() {
		dir = filepath.Dir(source)
	}
	dir = filepath.ToSlash(filepath.Clean(dir))
	switch {
	case dir == ".":
		return ""
	case filepath.IsAbs(source):
		return "file:///" + strings.TrimPrefix(uriPath(strings.TrimSuffix(dir, "/")+"/"), "/")
	}
	return uriPath(dir + "/")
}

// writeDraft writes what stands in the way as a baseline without owners. It
// replaces nothing: who has accepted what must not be lost.
func writeDraft(s *streams, out *scanOutput, path string) error {
	b, err := out.draft()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return usage("choose a name that is not there yet: --write-baseline NEW.json", "--write-baseline: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "wrote %s: each entry needs an owner, a reason and a day of expiry\n", printable(path))
	return nil
}
