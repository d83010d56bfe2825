package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"github.com/weightseal/weightseal/scan"
)

// The part of SARIF 2.1.0 that scan writes (OASIS, Static Analysis Results
// Interchange Format 2.1.0; the section is named at each type). Members without
// a value are left out: null is allowed nowhere.
const (
	sarifVersion = "2.1.0"
	sarifSchema  = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	projectURI   = "https://github.com/weightseal/weightseal"
	rulesURI     = projectURI + "/blob/main/docs/rules.md"
)

type sarifLog struct { // 3.13
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct { // 3.14
	Tool        sarifTool         `json:"tool"`
	Invocations []sarifInvocation `json:"invocations"`
	Artifacts   []sarifArtifact   `json:"artifacts"`
	Results     []sarifResult     `json:"results"`
	ColumnKind  string            `json:"columnKind"`
	Properties  map[string]any    `json:"properties"`
}

type sarifTool struct { // 3.18
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct { // 3.19
	Name           string      `json:"name"`
	Version        string      `json:"version"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifText struct { // 3.12
	Text     string `json:"text"`
	Markdown string `json:"markdown,omitempty"`
}

type sarifRule struct { // 3.49
	ID               string             `json:"id"`
	Name             string             `json:"name"`
	ShortDescription sarifText          `json:"shortDescription"`
	FullDescription  sarifText          `json:"fullDescription"`
	Help             sarifText          `json:"help"`
	HelpURI          string             `json:"helpUri"`
	Configuration    sarifConfiguration `json:"defaultConfiguration"`
	Properties       sarifRuleBag       `json:"properties"`
}

type sarifConfiguration struct { // 3.50
	Level string `json:"level"`
}

// sarifRuleBag is what code scanning of GitHub reads of a rule.
type sarifRuleBag struct {
	Tags             []string `json:"tags"`
	Precision        string   `json:"precision"`
	SecuritySeverity string   `json:"security-severity,omitempty"`
}

type sarifInvocation struct { // 3.20
	Successful    bool                `json:"executionSuccessful"`
	Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
}

type sarifNotification struct { // 3.58
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations,omitempty"`
}

type sarifArtifact struct { // 3.24
	Location   sarifArtifactLocation `json:"location"`
	Length     int64                 `json:"length"`
	Roles      []string              `json:"roles"`
	Hashes     map[string]string     `json:"hashes,omitempty"`
	Properties map[string]any        `json:"properties"`
}

type sarifArtifactLocation struct { // 3.4
	URI   string `json:"uri"`
	Index *int   `json:"index,omitempty"`
}

type sarifResult struct { // 3.27
	RuleID       string             `json:"ruleId"`
	RuleIndex    int                `json:"ruleIndex"`
	Level        string             `json:"level"`
	Message      sarifText          `json:"message"`
	Locations    []sarifLocation    `json:"locations"`
	Fingerprints map[string]string  `json:"partialFingerprints"`
	Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	Properties   map[string]any     `json:"properties"`
}

type sarifLocation struct { // 3.28
	Physical sarifPhysical  `json:"physicalLocation"`
	Logical  []sarifLogical `json:"logicalLocations,omitempty"`
}

type sarifPhysical struct { // 3.29
	Artifact sarifArtifactLocation `json:"artifactLocation"`
	Region   *sarifRegion          `json:"region,omitempty"`
}

// sarifRegion is both a binary and a text region (3.30.4): the offset is the
// truth, and the first line is there because code scanning of GitHub shows
// nothing without a line.
type sarifRegion struct { // 3.30
	StartLine  int    `json:"startLine"`
	ByteOffset *int64 `json:"byteOffset,omitempty"`
	ByteLength *int64 `json:"byteLength,omitempty"`
}

type sarifLogical struct { // 3.33
	Name          string `json:"name"`
	QualifiedName string `json:"fullyQualifiedName"`
	Kind          string `json:"kind"`
}

type sarifSuppression struct { // 3.35
	Kind          string `json:"kind"`
	Status        string `json:"status"`
	Justification string `json:"justification"`
}

// sarifLimit is the most results that code scanning of GitHub takes of a run:
// it refuses a log with more, and shows 5,000.
const sarifLimit = 25_000

// printSARIF writes the report for code scanning. Nothing is left out silently:
// what is ignored or accepted is a suppressed result, what is excluded or over
// sarifLimit a notification.
func printSARIF(w io.Writer, o *scanOutput) error {
	rules := o.usedRules()
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: o.Tool.Name, Version: o.Tool.Version, InformationURI: projectURI, Rules: []sarifRule{},
		}},
		Invocations: []sarifInvocation{{Successful: o.Totals.Unread == 0, Notifications: o.sarifNotifications()}},
		Artifacts:   []sarifArtifact{}, Results: []sarifResult{},
		ColumnKind: "unicodeCodePoints",
		Properties: map[string]any{
			"verdict": o.Verdict, "counted": o.Counted, "failOn": o.FailOn, "failed": o.Failed,
			"bytesRead": o.Totals.BytesRead, "bytes": o.Totals.Bytes,
		},
	}
	index := map[string]int{}
	for i, r := range rules {
		index[r.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, newSARIFRule(r))
	}
	least, left := o.sarifLeast(sarifLimit)
	for i := range o.Files {
		f := &o.Files[i]
		run.Artifacts = append(run.Artifacts, f.sarifArtifact())
		for _, x := range f.Findings {
			if x.Verdict < least || x.Verdict == least && left == 0 {
				continue
			}
			if x.Verdict == least {
				left--
			}
			run.Results = append(run.Results, f.sarifResult(x, i, index[x.Rule]))
		}
	}
	if n := o.Totals.Findings - len(run.Results); n > 0 {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{
			Level: "warning", Message: sarifText{Text: fmt.Sprintf(
				"%d of %d results, those of the least weight, are left out: code scanning takes %d of a run. The JSON output has all", n, o.Totals.Findings, sarifLimit)},
		})
	}
	return printJSON(w, sarifLog{Schema: sarifSchema, Version: sarifVersion, Runs: []sarifRun{run}})
}

// sarifLeast says which findings are among the limit worst: all above the
// verdict, and so many that have it.
func (o *scanOutput) sarifLeast(limit int) (least scan.Verdict, left int) {
	var counts [scan.Unsafe + 1]int
	for _, f := range o.Files {
		for _, x := range f.Findings {
			counts[max(0, min(x.Verdict, scan.Unsafe))]++
		}
	}
	left = limit
	for least = scan.Unsafe; least > 0 && counts[least] <= left; least-- {
		left -= counts[least]
	}
	return least, left
}

func newSARIFRule(r scan.Rule) sarifRule {
	ref := r.References()
	anchor := rulesURI + "#" + strings.ToLower(r.ID)
	ids := fmt.Sprintf("%s; OWASP AISVS %s; CSA AICM %s.", strings.Join(ref.CWE, ", "),
		strings.Join(ref.AISVS, ", "), strings.Join(ref.AICM, ", "))
	advisories, linked := "", ""
	if len(ref.Advisories) > 0 {
		var links []string
		for _, id := range ref.Advisories {
			links = append(links, fmt.Sprintf("[%s](%s)", id, scan.AdvisoryURL(id)))
		}
		advisories = "\n\nAdvisories: " + strings.Join(ref.Advisories, ", ") + "."
		linked = "\n\nAdvisories: " + strings.Join(links, ", ") + "."
	}
	tags := []string{"security", "model-supply-chain"}
	for _, c := range ref.CWE {
		tags = append(tags, "external/cwe/"+strings.ToLower(c))
	}
	return sarifRule{
		ID: r.ID, Name: pascal(r.Title),
		ShortDescription: sarifText{Text: r.Title},
		FullDescription:  sarifText{Text: r.Means},
		Help: sarifText{
			Text: fmt.Sprintf("%s\n\nWhat to do: %s.\n\n%s%s", r.Means, strings.TrimSuffix(r.Fix, "."), ids, advisories),
			Markdown: fmt.Sprintf("%s\n\n**What to do:** %s.\n\n%s%s\n\n[%s](%s)", markdownText(r.Means),
				markdownText(strings.TrimSuffix(r.Fix, ".")), ids, linked, r.ID, anchor),
		},
		HelpURI: anchor, Configuration: sarifConfiguration{sarifLevel(r.Verdict)},
		Properties: sarifRuleBag{Tags: tags, Precision: "high", SecuritySeverity: securitySeverity(r.Severity)},
	}
}

// sarifLevel is a verdict as SARIF has it (3.27.10).
func sarifLevel(v scan.Verdict) string {
	switch {
	case v >= scan.Unsafe:
		return "error"
	case v >= scan.Review:
		return "warning"
	}
	return "note"
}

// securitySeverity is a score that GitHub sorts into the severity of the same
// name (over 9 critical, from 7 high, from 4 medium, else low).
func securitySeverity(severity string) string {
	return map[string]string{"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}[severity]
}

// pascal makes an identifier of a title, as names of rules are written.
func pascal(title string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(title, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

func (f *scanFile) sarifArtifact() sarifArtifact {
	a := sarifArtifact{
		Location: sarifArtifactLocation{URI: f.location}, Length: f.Size, Roles: []string{"analysisTarget"},
		Properties: map[string]any{
			"format": f.Format, "verdict": f.Verdict, "counted": f.Counted, "bytesRead": f.BytesRead,
		},
	}
	if digest, ok := strings.CutPrefix(f.Digest, "sha256:"); ok {
		if _, err := hex.DecodeString(digest); err == nil {
			a.Hashes = map[string]string{"sha-256": digest}
		}
	}
	return a
}

func (f *scanFile) sarifResult(x scanFinding, artifact, rule int) sarifResult {
	// Square brackets before a parenthesis would be a link (3.11.6).
	message := sarifLink.ReplaceAllString(printable(x.Message), `\[$1](`)
	if message == "" {
		message = x.Title
	}
	r := sarifResult{
		RuleID: x.Rule, RuleIndex: rule, Level: sarifLevel(x.Verdict), Message: sarifText{Text: message},
		Locations: []sarifLocation{f.sarifLocation(x, artifact)},
		Fingerprints: map[string]string{
			"primaryLocationLineHash": x.Fingerprint + ":1", "weightsealFinding/v1": x.Fingerprint,
		},
		Properties: map[string]any{"severity": x.Severity, "verdict": x.Verdict},
	}
	for key, value := range map[string]string{"inner": x.Inner, "opcode": x.Opcode, "global": x.Global, "fix": x.Fix} {
		if value != "" {
			r.Properties[key] = printable(value)
		}
	}
	if x.Offset != nil {
		r.Properties["offset"] = *x.Offset
	}
	switch {
	case x.Accepted != nil:
		r.Suppressions = []sarifSuppression{{"external", "accepted", printable(fmt.Sprintf("accepted until %s by %s: %s", x.Accepted.Expires, x.Accepted.Owner, x.Accepted.Reason))}}
	case f.Ignored != nil && f.Counted < f.Verdict:
		r.Suppressions = []sarifSuppression{{"external", "accepted", printable("ignored: " + f.Ignored.String())}}
	}
	return r
}

var sarifLink = regexp.MustCompile(`\[([^\[\]]*)\]\(`)

// sarifLocation gives the place in the file. An offset in a file inside the
// file is none of the outer one: it is a property of the result.
func (f *scanFile) sarifLocation(x scanFinding, artifact int) sarifLocation {
	region := &sarifRegion{StartLine: 1}
	if x.Offset != nil && x.Inner == "" && *x.Offset >= 0 && *x.Offset <= f.Size {
		region.ByteOffset = x.Offset
		if *x.Offset < f.Size {
			one := int64(1)
			region.ByteLength = &one
		}
	}
	l := sarifLocation{Physical: sarifPhysical{
		Artifact: sarifArtifactLocation{URI: f.location, Index: &artifact}, Region: region,
	}}
	if x.Inner != "" {
		l.Logical = append(l.Logical, sarifLogical{printable(x.Inner), printable(joinPlace(f.Path, x.Inner)), "resource"})
	}
	if x.Global != "" {
		l.Logical = append(l.Logical, sarifLogical{printable(x.Global), printable(x.Global), "function"})
	}
	return l
}

func (o *scanOutput) sarifNotifications() []sarifNotification {
	var list []sarifNotification
	add := func(level, text string) {
		list = append(list, sarifNotification{Level: level, Message: sarifText{Text: printable(text)}})
	}
	for _, f := range o.Files {
		if f.err != nil {
			add("error", f.Path+": could not be read: "+f.Error)
		}
		if f.Ignored != nil {
			add("note", f.Path+": "+f.status())
		}
	}
	for _, x := range o.Excluded {
		add("note", x.Path+": "+x.String())
	}
	for _, l := range o.Limits {
		add("warning", joinPlace(l.Path, l.Inner)+": "+l.Message)
	}
	if o.Baseline != nil {
		for _, e := range o.Baseline.Remarks {
			add("warning", "baseline "+e.String())
		}
	}
	return list
}

// uriPath is a slash-separated path as a relative URI reference (RFC 3986).
func uriPath(p string) string { return (&url.URL{Path: p}).String() }
