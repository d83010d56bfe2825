package cli

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The JUnit XML that CI systems read: a suite with a case for each file.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Name    string       `xml:"name,attr"`
	Tests   int          `xml:"tests,attr"`
	Failed  int          `xml:"failures,attr"`
	Errors  int          `xml:"errors,attr"`
	Skipped int          `xml:"skipped,attr"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failed     int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
	SystemOut  string          `xml:"system-out,omitempty"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	Class     string        `xml:"classname,attr"`
	File      string        `xml:"file,attr,omitempty"`
	Skipped   *junitMessage `xml:"skipped"`
	Error     *junitMessage `xml:"error"`
	Failure   *junitMessage `xml:"failure"`
	SystemOut string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// printJUnit writes the report as JUnit XML: what counts at or above --fail-on
// is a failure, what could not be read an error, and what is ignored or
// excluded is skipped with the reason.
func printJUnit(w io.Writer, o *scanOutput) error {
	suite := junitSuite{Name: "weightseal scan", Properties: []junitProperty{
		{"verdict", o.Verdict.String()}, {"counted", o.Counted.String()}, {"failOn", o.FailOn.String()},
		{"version", o.Tool.Version},
		{"bytesRead", fmt.Sprint(o.Totals.BytesRead)}, {"bytes", fmt.Sprint(o.Totals.Bytes)},
	}}
	for i := range o.Files {
		suite.add(o.Files[i].junitCase(o))
	}
	for _, x := range o.Excluded {
		suite.add(junitCase{
			Name: oneLine(x.Path), Class: "weightseal.excluded", File: oneLine(x.Path),
			Skipped: &junitMessage{Message: oneLine(x.String())},
		})
	}
	var out strings.Builder
	printRemarks(&out, o)
	suite.SystemOut = strings.TrimSpace(out.String())
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	err := enc.Encode(junitSuites{
		Name: suite.Name, Tests: suite.Tests, Failed: suite.Failed, Errors: suite.Errors, Skipped: suite.Skipped,
		Suites: []junitSuite{suite},
	})
	if err == nil {
		_, err = io.WriteString(w, "\n")
	}
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Error != nil:
		s.Errors++
	case c.Failure != nil:
		s.Failed++
	case c.Skipped != nil:
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

func (f *scanFile) junitCase(o *scanOutput) junitCase {
	c := junitCase{Name: oneLine(f.Path), Class: "weightseal." + string(f.Format), File: oneLine(f.Path)}
	var text strings.Builder
	for _, x := range f.Findings {
		printFinding(&page{Writer: &text}, f.Path, x)
	}
	listed := strings.TrimSpace(text.String())
	switch {
	case f.judged() >= o.FailOn:
		c.Failure = &junitMessage{f.Verdict.String() + ": " + f.headline(), f.Verdict.String(), listed}
	case f.err != nil:
		c.Error = &junitMessage{"could not be read: " + oneLine(f.Error), "unread", listed}
	case f.Ignored != nil:
		c.Skipped = &junitMessage{Message: oneLine(f.status())}
		c.SystemOut = listed
	default:
		c.SystemOut = listed
	}
	return c
}

// headline is the message of the worst finding that counts.
func (f *scanFile) headline() string {
	worst := -1
	for i, x := range f.Findings {
		if x.Accepted == nil && (worst < 0 || x.Verdict > f.Findings[worst].Verdict) {
			worst = i
		}
	}
	if worst < 0 {
		return string(f.Format)
	}
	return f.Findings[worst].Rule + " " + oneLine(f.Findings[worst].Message)
}
