package cli

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Files that a GitHub runner gives a step; other runners that follow it set
// the same variables.
const (
	githubOutput  = "GITHUB_OUTPUT"
	githubSummary = "GITHUB_STEP_SUMMARY"
)

// maxSummary is what GitHub takes of a step's summary, in bytes: a longer one
// is not shown at all.
const maxSummary = 1 << 20

// named is a value for the steps after this one.
type named struct{ name, value string }

// resultFlags are the files that single results go to: what Tekton and Argo
// read as results of a step, without a shell in it.
type resultFlags struct{ files []string }

func (r *resultFlags) add(f *pflag.FlagSet, names []string) {
	f.StringArrayVar(&r.files, "result", nil, "write one result to a file, `NAME=FILE`: "+strings.Join(names, ", ")+" (repeatable)")
}

// check refuses what is no result before any work is done.
func (r *resultFlags) check(names []string) error {
	for _, text := range r.files {
		name, path, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return usage("--result "+names[0]+"=FILE", "--result %q: want NAME=FILE", text)
		}
		if !slices.Contains(names, name) {
			return usage("one of "+strings.Join(names, ", "), "--result %s: there is no such result", name)
		}
	}
	return nil
}

// write writes each value as it is: no newline that a reader would take for a
// part of it.
func (r *resultFlags) write(values []named) error {
	for _, text := range r.files {
		name, path, _ := strings.Cut(text, "=")
		for _, v := range values {
			if v.name != name {
				continue
			}
			if err := os.WriteFile(path, []byte(v.value), 0o644); err != nil {
				return fmt.Errorf("--result: %w", err)
			}
		}
	}
	return nil
}

// The results of each command, by name.
func pushResults() []string {
	return []string{"reference", "digest", "verdict", "level", "policy", "weights-digest", "attested"}
}

func verifyResults() []string {
	return []string{"reference", "digest", "verdict", "level", "policy", "weights-digest", "allowed"}
}

func scanResults() []string { return []string{"verdict", "counted", "failed", "files"} }

// announce tells the pipeline around us what came out: values for later steps,
// and a piece of Markdown for people. Outside of a pipeline it writes only the
// files that flags name.
func announce(s *streams, values []named, results *resultFlags, summary func(io.Writer) error) error {
	if err := results.write(values); err != nil {
		return err
	}
	if path := s.getenv(githubOutput); path != "" {
		text, err := outputLines(values)
		if err != nil {
			return err
		}
		if err := appendTo(path, []byte(text)); err != nil {
			return fmt.Errorf("%s: %w", githubOutput, err)
		}
	}
	if path := s.getenv(githubSummary); path != "" && summary != nil {
		var b bytes.Buffer
		if err := summary(&b); err != nil {
			return err
		}
		if err := appendSummary(path, b.Bytes()); err != nil {
			return fmt.Errorf("%s: %w", githubSummary, err)
		}
	}
	return nil
}

// outputLines writes values in the form for several lines, each with an end
// mark that was drawn by chance: whatever a value holds, it cannot end itself
// and start another one. Source: "Workflow commands for GitHub Actions".
func outputLines(values []named) (string, error) {
	var b strings.Builder
	for _, v := range values {
		mark := "end-" + rand.Text()
		if strings.Contains(v.value, mark) {
			return "", errors.New("the end mark is in the value")
		}
		fmt.Fprintf(&b, "%s<<%s\n%s\n%s\n", v.name, mark, v.value, mark)
	}
	return b.String(), nil
}

// appendSummary adds to what earlier commands of the step have written, as
// long as all of it is shown.
func appendSummary(path string, text []byte) error {
	text = append(text, '\n')
	var before int64
	if info, err := os.Stat(path); err == nil {
		before = info.Size()
	}
	if before+int64(len(text)) > maxSummary {
		line, _, _ := bytes.Cut(text, []byte("\n"))
		text = append(bytes.Clone(line), "\n\nToo long for this page.\n"...)
	}
	if before+int64(len(text)) > maxSummary {
		return nil
	}
	return appendTo(path, text)
}

func appendTo(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// writeDigestFile writes the digest, and no more: no newline that a reader
// would take for a part of it.
func writeDigestFile(path, digest string) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, []byte(digest), 0o644); err != nil {
		return fmt.Errorf("--digest-file: %w", err)
	}
	return nil
}

// announcePushed tells the pipeline about a model that was pushed.
func announcePushed(s *streams, p *pushed, signed string, results *resultFlags) error {
	values := []named{
		{"reference", p.Reference}, {"digest", p.Digest}, {"verdict", p.Result}, {"level", strconv.Itoa(p.Level)},
		{"policy", p.Policy}, {"weights-digest", p.WeightsDigest}, {"attested", strconv.FormatBool(len(p.Attestations) > 0 || signed == signedBefore)},
	}
	return announce(s, values, results, func(w io.Writer) error {
		fmt.Fprintf(w, "## weightseal push: %s, ST%d\n\n%s, policy %s, %s.\n\n", markdownText(p.Result), p.Level,
			markdownCode(p.Reference), markdownCode(p.Policy), signed)
		fmt.Fprint(w, "| file | size | format | converted from |\n|---|---|---|---|\n")
		shown := min(len(p.Files), markdownFiles)
		for _, f := range p.Files[:shown] {
			from := ""
			if f.ConvertedFrom != "" {
				from = markdownCode(f.ConvertedFrom)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s |\n", markdownCode(f.Path), bytesText(f.Size), markdownText(f.Format), from)
		}
		if n := len(p.Files) - shown; n > 0 {
			fmt.Fprintf(w, "\n%s not listed here.\n", plural(n, "more file"))
		}
		return nil
	})
}

// announceVerified tells the pipeline about a model whose attestation is good.
func announceVerified(s *streams, v *verifiedOutput, results *resultFlags) error {
	values := []named{
		{"reference", v.Reference}, {"digest", v.Digest}, {"verdict", v.Result}, {"level", strconv.Itoa(v.Level)},
		{"policy", v.Policy.Policy}, {"weights-digest", v.WeightsDigest}, {"allowed", strconv.FormatBool(v.Allowed)},
	}
	return announce(s, values, results, func(w io.Writer) error {
		fmt.Fprintf(w, "## weightseal verify: %s, ST%d, %s\n\n%s, policy %s.\n", markdownText(v.Result), v.Level,
			allowedText(v.Policy), markdownCode(v.Reference), markdownCode(v.Policy.Policy))
		for _, r := range v.Policy.Refusals() {
			fmt.Fprintf(w, "- %s\n", markdownCode(strings.TrimPrefix(r.Path+": "+r.Reason, ": ")))
		}
		fmt.Fprint(w, "\n| | check | |\n|---|---|---|\n")
		for _, c := range v.Checks {
			mark := "checked"
			if !c.Done {
				mark = "not checked"
			}
			fmt.Fprintf(w, "| %s | %s | %s |\n", mark, markdownText(c.Name), markdownCode(c.Detail))
		}
		return nil
	})
}

// announceScan tells the pipeline about a scan.
func announceScan(s *streams, o *scanOutput, results *resultFlags) error {
	values := []named{
		{"verdict", o.Verdict.String()}, {"counted", o.Counted.String()}, {"failed", strconv.FormatBool(o.Failed)},
		{"files", strconv.Itoa(o.Totals.Files)},
	}
	return announce(s, values, results, func(w io.Writer) error { return printMarkdown(w, o) })
}
