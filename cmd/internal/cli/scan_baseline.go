package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

// maxBaseline bounds a baseline file, in bytes.
const maxBaseline = 4 << 20

// baseline is a list of findings that somebody has accepted until a day.
type baseline struct {
	file    string
	entries []*acceptance
}

// acceptance is one entry: for a finding by its fingerprint, or for every
// finding of a rule in a file of one digest.
type acceptance struct {
	Rule        string `yaml:"rule" json:"rule"`
	Path        string `yaml:"path" json:"path"`
	Fingerprint string `yaml:"fingerprint,omitempty" json:"fingerprint,omitempty"`
	Digest      string `yaml:"digest,omitempty" json:"digest,omitempty"`
	Owner       string `yaml:"owner" json:"owner"`
	Reason      string `yaml:"reason" json:"reason"`
	Expires     string `yaml:"expires" json:"expires"`

	line    int
	until   time.Time // the first moment at which it no longer holds
	refused bool      // its rule is one of unsafe files
	used    bool
}

// readBaseline reads a baseline, in YAML or JSON.
func readBaseline(path string) (*baseline, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage("", "--baseline: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBaseline+1))
	if err != nil {
		return nil, usage("", "--baseline: %w", err)
	}
	if len(b) > maxBaseline {
		return nil, usage("", "--baseline %s: more than %s", path, bytesText(maxBaseline))
	}
	bl, err := parseBaseline(path, b)
	if err != nil {
		return nil, usage("what the file holds: "+toolURI+"/blob/main/docs/scanner.md#what-does-not-count", "--baseline %s: %w", path, err)
	}
	return bl, nil
}

func parseBaseline(name string, b []byte) (*baseline, error) {
	var doc struct {
		SchemaVersion int         `yaml:"schemaVersion"`
		Accepted      []yaml.Node `yaml:"accepted"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if doc.SchemaVersion != 1 {
		return nil, fmt.Errorf("schemaVersion is %d, want 1", doc.SchemaVersion)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	rules := map[string]scan.Rule{}
	for _, r := range scan.Rules() {
		rules[r.ID] = r
	}
	bl := &baseline{file: name}
	for i := range doc.Accepted {
		n := &doc.Accepted[i]
		a := &acceptance{line: n.Line}
		if err := a.read(n, rules); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		bl.entries = append(bl.entries, a)
	}
	return bl, nil
}

// read checks that an entry says everything it must.
func (a *acceptance) read(n *yaml.Node, rules map[string]scan.Rule) error {
	known := []string{"rule", "path", "fingerprint", "digest", "owner", "reason", "expires"}
	if n.Kind != yaml.MappingNode {
		return errors.New("an entry is a mapping")
	}
	for i := 0; i < len(n.Content); i += 2 {
		if k := n.Content[i].Value; !slices.Contains(known, k) {
			return fmt.Errorf("unknown key %q (%s)", k, strings.Join(known, ", "))
		}
	}
	if err := n.Decode(a); err != nil {
		return err
	}
	rule, ok := rules[a.Rule]
	switch {
	case !ok:
		return fmt.Errorf("rule %q is not one of docs/rules.md", a.Rule)
	case a.Path == "":
		return errors.New("no path")
	case strings.TrimSpace(a.Owner) == "":
		return errors.New("no owner: somebody must answer for an accepted finding")
	case strings.TrimSpace(a.Reason) == "":
		return errors.New("no reason")
	case a.Expires == "":
		return errors.New("no expires: an accepted finding is accepted until a day")
	case !isHex(a.Fingerprint, 32) && a.Fingerprint != "":
		return fmt.Errorf("fingerprint %q is not 32 hexadecimal digits", a.Fingerprint)
	case !isHex(strings.TrimPrefix(a.Digest, "sha256:"), 64) && a.Digest != "":
		return fmt.Errorf("digest %q is not sha256: and 64 hexadecimal digits", a.Digest)
	case a.Fingerprint == "" && a.Digest == "":
		return errors.New("neither fingerprint nor digest: weightseal scan -o json gives the fingerprint of each finding")
	}
	if a.Digest != "" && !strings.HasPrefix(a.Digest, "sha256:") {
		a.Digest = "sha256:" + a.Digest
	}
	a.refused = rule.Verdict == scan.Unsafe
	return a.readExpiry()
}

// readExpiry takes a day, which is accepted to its end in UTC, or a moment.
func (a *acceptance) readExpiry() error {
	if day, err := time.Parse(time.DateOnly, a.Expires); err == nil {
		a.until = day.AddDate(0, 0, 1)
		return nil
	}
	t, err := time.Parse(time.RFC3339, a.Expires)
	if err != nil {
		return fmt.Errorf("expires %q is neither a day such as 2030-01-31 nor a time of RFC 3339", a.Expires)
	}
	a.until = t
	return nil
}

func isHex(s string, digits int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == digits && s == strings.ToLower(s)
}

// accept marks the findings of a file that the baseline accepts at the time
// now. digest is called only where an entry asks for the file's digest.
func (b *baseline) accept(f *scanFile, now time.Time, digest func() (string, error)) error {
	for i := range f.Findings {
		x := &f.Findings[i]
		for _, a := range b.entries {
			if a.Rule != x.Rule || a.Path != f.Path || a.Fingerprint != "" && a.Fingerprint != x.Fingerprint {
				continue
			}
			if a.Digest != "" {
				d, err := digest()
				if err != nil {
					return err
				}
				if f.Digest = d; d != a.Digest {
					continue
				}
			}
			a.used = true
			if now.Before(a.until) && !a.refused && x.Verdict < scan.Unsafe {
				x.Accepted = &acceptedMark{Owner: a.Owner, Reason: a.Reason, Expires: a.Expires, Line: a.line}
				break
			}
		}
	}
	return nil
}

// baselineReport says what became of the entries of a baseline.
type baselineReport struct {
	File    string          `json:"file"`
	Entries int             `json:"entries"`
	Remarks []baselineEntry `json:"remarks"`
}

// baselineEntry is an entry that accepts nothing, and why.
type baselineEntry struct {
	Line    int    `json:"line"`
	Rule    string `json:"rule"`
	Path    string `json:"path"`
	Owner   string `json:"owner"`
	Expires string `json:"expires"`
	Status  string `json:"status"` // expired, refused, unmatched
}

func (b *baseline) report(now time.Time) *baselineReport {
	r := &baselineReport{File: b.file, Entries: len(b.entries), Remarks: []baselineEntry{}}
	for _, a := range b.entries {
		e := baselineEntry{Line: a.line, Rule: a.Rule, Path: a.Path, Owner: a.Owner, Expires: a.Expires}
		switch {
		case a.refused:
			e.Status = "refused"
		case !now.Before(a.until):
			e.Status = "expired"
		case !a.used:
			e.Status = "unmatched"
		default:
			continue
		}
		r.Remarks = append(r.Remarks, e)
	}
	return r
}

// String says what to do about an entry that accepts nothing.
func (e baselineEntry) String() string {
	why := map[string]string{
		"expired":   "expired on " + e.Expires + "; " + e.Owner + " owns it",
		"refused":   "not accepted: a finding that makes a file unsafe cannot be",
		"unmatched": "matches no finding any more: remove it",
	}[e.Status]
	return fmt.Sprintf("line %d, %s in %s: %s", e.Line, e.Rule, e.Path, why)
}

// fileDigest reads a whole file.
func fileDigest(ctx context.Context, src model.Source, path string) (string, error) {
	b, err := src.Open(ctx, path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, &contextReader{ctx, io.NewSectionReader(b, 0, b.Size())})
	if err = errors.Join(err, b.Unchanged(), b.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// draft is a baseline of what is not accepted yet, to be filled in: it is
// refused until each entry names its owner, a reason and a day.
func (o *scanOutput) draft() ([]byte, error) {
	doc := struct {
		SchemaVersion int          `yaml:"schemaVersion"`
		Accepted      []acceptance `yaml:"accepted"`
	}{SchemaVersion: 1, Accepted: []acceptance{}}
	for _, f := range o.Files {
		if f.Counted < o.FailOn {
			continue
		}
		for _, x := range f.Findings {
			if x.Accepted == nil && x.Verdict >= o.FailOn && x.Verdict < scan.Unsafe && x.Rule != "WS-READ-001" {
				doc.Accepted = append(doc.Accepted, acceptance{Rule: x.Rule, Path: f.Path, Fingerprint: x.Fingerprint})
			}
		}
	}
	return yaml.Marshal(doc)
}
