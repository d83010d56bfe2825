package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/scan"
)

// scanOutput is what every output of scan is made from, and what it prints as
// JSON (docs/scan-report-v1.schema.json).
type scanOutput struct {
	SchemaVersion int             `json:"schemaVersion"`
	Tool          scanTool        `json:"tool"`
	Verdict       scan.Verdict    `json:"verdict"` // the worst of all files, also ignored and accepted ones
	Counted       scan.Verdict    `json:"counted"` // the worst of what counts against failOn
	FailOn        scan.Verdict    `json:"failOn"`
	Failed        bool            `json:"failed"` // something counts at or above failOn, or could not be read
	Counts        map[string]int  `json:"counts"` // files by verdict
	Totals        scanTotals      `json:"totals"`
	Sources       []scannedSource `json:"sources"`
	Files         []scanFile      `json:"files"`
	Excluded      []excludedFile  `json:"excluded"`
	Limits        []limitHit      `json:"limits"`
	Baseline      *baselineReport `json:"baseline,omitempty"`
}

type scanTool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type scanTotals struct {
	Files     int   `json:"files"`
	Ignored   int   `json:"ignored"`
	Excluded  int   `json:"excluded"`
	Unread    int   `json:"unread"` // files that could not be read
	Findings  int   `json:"findings"`
	Accepted  int   `json:"accepted"` // findings
	Bytes     int64 `json:"bytes"`
	BytesRead int64 `json:"bytesRead"`
}

// scannedSource is one SOURCE of the command line.
type scannedSource struct {
	Source    string `json:"source"`
	Digest    string `json:"digest,omitempty"` // of an artifact's manifest
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`
	BytesRead int64  `json:"bytesRead"` // from a registry: fetched
}

// scanFile is the judgement on one file.
type scanFile struct {
	Path      string        `json:"path"`
	Size      int64         `json:"size"`
	BytesRead int64         `json:"bytesRead"`
	Digest    string        `json:"digest,omitempty"` // sha256:..., where it is known
	Format    model.Format  `json:"format"`
	Declared  model.Format  `json:"declared,omitempty"`
	Role      model.Role    `json:"role"`
	Verdict   scan.Verdict  `json:"verdict"`
	Counted   scan.Verdict  `json:"counted"`
	Ignored   *ignoreMark   `json:"ignored,omitempty"`
	Error     string        `json:"error,omitempty"` // why it could not be read
	Findings  []scanFinding `json:"findings"`

	err      error
	location string // as a URI reference, for SARIF
}

// scanFinding is a finding with what the report knows of it.
type scanFinding struct {
	scan.Finding
	Title       string        `json:"title"`
	Fingerprint string        `json:"fingerprint"`
	Accepted    *acceptedMark `json:"accepted,omitempty"`
}

// acceptedMark says who has accepted a finding.
type acceptedMark struct {
	Owner   string `json:"owner"`
	Reason  string `json:"reason"`
	Expires string `json:"expires"`
	Line    int    `json:"line"` // of the baseline
}

// limitHit is a bound that kept something from being judged or listed.
type limitHit struct {
	Path    string `json:"path"`
	Inner   string `json:"inner,omitempty"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

func newScanOutput(failOn scan.Verdict) *scanOutput {
	o := &scanOutput{
		SchemaVersion: 1, Tool: scanTool{program, strings.TrimPrefix(buildVersion(), "v")},
		Verdict: scan.Safe, Counted: scan.Safe, FailOn: failOn, Counts: map[string]int{},
		Sources: []scannedSource{}, Files: []scanFile{}, Excluded: []excludedFile{}, Limits: []limitHit{},
	}
	for v := scan.Safe; v <= scan.Unsafe; v++ {
		o.Counts[v.String()] = 0
	}
	return o
}

// scanJob is one SOURCE on its way into the report.
type scanJob struct {
	source   string
	digest   string // of an artifact's manifest
	files    *scanSource
	model    *model.Model
	report   *scan.Report
	rules    []ignoreRule
	prefix   string // of paths, where there are several sources
	location string // of the files, as a URI reference: "" or ends in "/"
}

// add takes a source's report in.
func (o *scanOutput) add(ctx context.Context, job *scanJob, accept acceptFunc) error {
	titles := ruleTitles()
	total := scannedSource{Source: job.source, Digest: job.digest, Files: len(job.report.Files)}
	digests := map[string]string{}
	for _, f := range job.model.Files {
		digests[f.Path] = f.Digest
	}
	for _, r := range job.report.Files {
		f := scanFile{
			Path: job.prefix + r.Path, Size: r.Size, Digest: digests[r.Path],
			Format: r.Format, Declared: r.Declared, Role: r.Role, Verdict: r.Verdict,
			Ignored: ignored(job.rules, r.Path), err: r.Err, location: job.location + uriPath(r.Path),
			Findings: []scanFinding{},
		}
		findings := r.Explained()
		prints := scan.Fingerprints(f.Path, findings)
		for i, x := range findings {
			f.Findings = append(f.Findings, scanFinding{Finding: x, Title: titles[x.Rule], Fingerprint: prints[i]})
		}
		err := accept(&f, func() (string, error) {
			if f.Digest != "" {
				return f.Digest, nil
			}
			return fileDigest(ctx, job.files, r.Path)
		})
		if err != nil {
			return err
		}
		f.BytesRead = job.files.bytesRead(r.Path)
		total.Bytes += f.Size
		total.BytesRead += f.BytesRead
		o.addFile(f)
	}
	for _, x := range job.files.excluded {
		x.Path = job.prefix + x.Path
		o.Excluded = append(o.Excluded, x)
	}
	o.Sources = append(o.Sources, total)
	o.Totals.Files += total.Files
	o.Totals.Bytes += total.Bytes
	o.Totals.BytesRead += total.BytesRead
	o.Totals.Excluded = len(o.Excluded)
	return nil
}

// acceptFunc marks the accepted findings of a file.
type acceptFunc func(f *scanFile, digest func() (string, error)) error

func (o *scanOutput) addFile(f scanFile) {
	f.Counted = f.count()
	if f.err != nil {
		f.Error = f.err.Error()
		o.Totals.Unread++
	}
	if f.Ignored != nil {
		o.Totals.Ignored++
	}
	o.Totals.Findings += len(f.Findings)
	for _, x := range f.Findings {
		if x.Accepted != nil {
			o.Totals.Accepted++
		}
		if x.Rule == "WS-LIMIT-001" || x.Rule == "WS-MORE-001" {
			o.Limits = append(o.Limits, limitHit{Path: f.Path, Inner: x.Inner, Rule: x.Rule, Message: x.Message})
		}
	}
	o.Counts[f.Verdict.String()]++
	o.Verdict = max(o.Verdict, f.Verdict)
	o.Counted = max(o.Counted, f.judged())
	o.Failed = o.Failed || f.err != nil || f.Counted >= o.FailOn
	o.Files = append(o.Files, f)
}

// count is the verdict that a file counts as. An ignored file counts only when
// it is unsafe or could not be read; accepted findings do not count. Nothing
// that a user sets makes an unsafe file count as less.
func (f *scanFile) count() scan.Verdict {
	switch {
	case f.Verdict == scan.Unsafe || f.err != nil:
		return f.Verdict
	case f.Ignored != nil:
		return scan.Safe
	}
	rest, accepted := scan.Safe, false
	for _, x := range f.Findings {
		switch {
		case x.Rule == "WS-MORE-001":
			return f.Verdict // what is not listed cannot be accepted
		case x.Accepted == nil:
			rest = max(rest, x.Verdict)
		case x.Verdict == f.Verdict:
			accepted = true
		}
	}
	if !accepted {
		return f.Verdict
	}
	return rest
}

// judged is what a file adds to the report's verdict. That one could not be read
// is told by itself; what was found in it before counts.
func (f *scanFile) judged() scan.Verdict {
	if f.err == nil {
		return f.Counted
	}
	worst := scan.Safe
	for _, x := range f.Findings {
		if x.Rule != "WS-READ-001" {
			worst = max(worst, x.Verdict)
		}
	}
	return worst
}

// err is the error that a scan ends in: findings outweigh files that could not
// be read, and those are never exit code 0.
func (o *scanOutput) err() error {
	var unread []error
	for _, f := range o.Files {
		if f.err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", f.Path, f.err))
		}
	}
	switch {
	case o.Counted >= o.FailOn:
		return fail(exitPolicy, fmt.Errorf("the verdict is %s (--fail-on %s)", o.Counted, o.FailOn), o.hints()...)
	case len(unread) > 0:
		return fail(exitError, errors.Join(unread...))
	}
	return nil
}

// hints say what comes after a verdict. One that only asks for a conversion is
// helped by the command for it, and what is unsafe cannot be accepted.
func (o *scanOutput) hints() []string {
	rules := "what each rule means: " + toolURI + "/blob/main/docs/rules.md"
	switch {
	case o.Counted == scan.Convertible && len(o.Sources) == 1 && o.Sources[0].Source != stdinName:
		source := policy.ShellQuote(o.Sources[0].Source)
		return []string{
			"convert it: weightseal convert " + source + " OUT, or on the way into a registry: weightseal push " + source + " REF --key cosign.key",
			"accept what can become safetensors: --fail-on review",
		}
	case o.Counted == scan.Convertible:
		return []string{"accept what can become safetensors: --fail-on review"}
	case o.Counted == scan.Unsafe:
		return []string{rules}
	}
	return []string{rules, "accept findings until a day, each with an owner and a reason: --write-baseline baseline.yaml writes the draft"}
}

// notes are the sentences about what does not count, for people.
func (o *scanOutput) notes() []string {
	var notes []string
	if n := o.Totals.Unread; n > 0 {
		notes = append(notes, fmt.Sprintf("%s could not be read", plural(n, "file")))
	}
	if n := o.Totals.Ignored; n > 0 {
		notes = append(notes, fmt.Sprintf("%s ignored by %s; an unsafe one counts all the same", plural(n, "file"), ignoreName))
	}
	if n := o.Totals.Excluded; n > 0 {
		notes = append(notes, fmt.Sprintf("%s excluded and not looked at", plural(n, "file")))
	}
	if n := o.Totals.Accepted; n > 0 {
		notes = append(notes, fmt.Sprintf("%s accepted in %s", plural(n, "finding"), o.Baseline.File))
	}
	if o.Counted != o.Verdict && o.Totals.Unread == 0 {
		notes = append(notes, fmt.Sprintf("what counts is %s", o.Counted))
	}
	return notes
}

// status is the verdict of a file with what has been said about it.
func (f *scanFile) status() string {
	s := f.Verdict.String()
	switch {
	case f.err != nil:
		s += " (could not be read)"
	case f.Ignored != nil && f.Verdict == scan.Unsafe:
		s += fmt.Sprintf(" (counts in spite of %s)", f.Ignored)
	case f.Ignored != nil:
		s += fmt.Sprintf(" (ignored: %s)", f.Ignored)
	case f.Counted != f.Verdict:
		s += fmt.Sprintf(" (accepted, counts as %s)", f.Counted)
	}
	return s
}

func ruleTitles() map[string]string {
	titles := map[string]string{}
	for _, r := range scan.Rules() {
		titles[r.ID] = r.Title
	}
	return titles
}

// usedRules are the rules that some finding names, by id.
func (o *scanOutput) usedRules() []scan.Rule {
	used := map[string]scan.Rule{}
	all := map[string]scan.Rule{}
	for _, r := range scan.Rules() {
		all[r.ID] = r
	}
	for _, f := range o.Files {
		for _, x := range f.Findings {
			used[x.Rule] = all[x.Rule]
		}
	}
	rules := make([]scan.Rule, 0, len(used))
	for _, id := range slices.Sorted(maps.Keys(used)) {
		rules = append(rules, used[id])
	}
	return rules
}
