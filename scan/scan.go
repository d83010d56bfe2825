// Package scan judges every file of a model: what a real loader would be able
// to do with it. What is allowed is enumerated and every byte is accounted
// for; lists of bad names only explain.
package scan

import (
	"context"
	"fmt"

	"github.com/weightseal/weightseal/model"
)

// Verdict is the judgement on one file; the worst one is the model's.
type Verdict int

// The verdicts, in the order that a threshold uses.
const (
	Safe        Verdict = iota + 1 // data only, validated to the last byte
	Convertible                    // pickle-based, only what the converter knows: converts and loses nothing
	Review                         // understood, no known danger, but needs classes or code
	Unknown                        // not recognised, encrypted, over a limit, could not be read
	Unsafe                         // reaches code, files, network; or readers disagree; or malformed so that a loader may act before it fails
)

var verdictNames = [...]string{"", "safe", "convertible", "review", "unknown", "unsafe"}

func (v Verdict) String() string {
	if v < Safe || v > Unsafe {
		return fmt.Sprintf("Verdict(%d)", int(v))
	}
	return verdictNames[v]
}

// MarshalText gives the lower-case name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// ParseVerdict reads a verdict's name, as --fail-on takes it.
func ParseVerdict(s string) (Verdict, error) {
	for v := Safe; v <= Unsafe; v++ {
		if verdictNames[v] == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("unknown verdict %q (safe, convertible, review, unknown, unsafe)", s)
}

// Finding is one thing found in a file.
type Finding struct {
	Rule     string  `json:"rule"`     // WS-..., stable
	Severity string  `json:"severity"` // info, low, medium, high, critical
	Message  string  `json:"message"`
	Inner    string  `json:"inner,omitempty"`  // path inside the file
	Offset   *int64  `json:"offset,omitempty"` // byte offset in the file, or in Inner
	Opcode   string  `json:"opcode,omitempty"`
	Global   string  `json:"global,omitempty"`
	Fix      string  `json:"fix,omitempty"`
	Verdict  Verdict `json:"verdict"` // the least that this finding makes of the file
}

// same says whether another finding says the same of the same place. Without an
// offset the place is not known, and neither is that it is the same.
func (f Finding) same(o Finding) bool {
	return f.Offset != nil && o.Offset != nil && *f.Offset == *o.Offset &&
		f.Rule == o.Rule && f.Inner == o.Inner && f.Message == o.Message
}

// FileReport is the judgement on one file.
type FileReport struct {
	Path     string       `json:"path"`
	Size     int64        `json:"size"`
	Format   model.Format `json:"format"`
	Declared model.Format `json:"declared,omitempty"`
	Role     model.Role   `json:"role"`
	Verdict  Verdict      `json:"verdict"`
	Findings []Finding    `json:"findings"`
	// Err is set where the file could not be read: the verdict is Unknown
	// and a command must not exit 0.
	Err error `json:"-"`
}

// Report is the judgement on a model.
type Report struct {
	Verdict Verdict        `json:"verdict"`
	Files   []FileReport   `json:"files"`
	Counts  map[string]int `json:"counts"` // files by verdict
}

// Detector judges the files of some formats.
type Detector interface {
	Name() string
	// Wants says, from the inventory alone, whether the file is this
	// detector's.
	Wants(f model.File) bool
	// Scan judges the file. It gives findings and a verdict; the file's is
	// the worst of the two, so that a finding of little weight never makes
	// a pickle look like data.
	Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error)
}
