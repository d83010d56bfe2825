package policy

import (
	"fmt"
	"strings"
)

// Action is what is to happen to a file.
type Action string

// The actions.
const (
	Keep    Action = "keep"
	Convert Action = "convert"
	Refuse  Action = "refuse"
)

// Class says why a file is refused; it decides a command's exit code.
type Class string

// The classes of refusal.
const (
	Violation     Class = "violation"     // the policy says no
	Inconvertible Class = "inconvertible" // cannot be converted without loss
	Unjudged      Class = "unjudged"      // could not be read, so nothing can be said
)

// FileFacts is what is known about one file before it is pushed.
type FileFacts struct {
	Path     string
	Format   string // by content
	Role     string // weight, config, tokenizer, code, doc, other
	Training bool   // optimizer, scheduler, rng state, training_args
	Verdict  string // of the scan: safe, convertible, review, unknown, unsafe
	Findings []FindingFact
	// ReadError is set where the file could not be read.
	ReadError string
	// Conversion is set for files of a format that the policy converts.
	Conversion *ConversionFact
}

// FindingFact is a scan finding.
type FindingFact struct {
	Rule    string
	Message string
	Verdict string // what the finding makes of the file
	Fix     string
}

// ConversionFact is what planning a conversion gave.
type ConversionFact struct {
	Output    string // path of the safetensors file; "" when planning failed
	Error     string // why it cannot be converted
	Next      string // what to do then
	Forbidden bool   // the error is a global that the converter does not know
}

// FileDecision is what happens to one file, and why.
type FileDecision struct {
	Path   string `json:"path"`
	Action Action `json:"action"`
	Output string `json:"output,omitempty"` // where it goes, when converted
	Class  Class  `json:"class,omitempty"`  // of a refusal
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// Decision is about a whole model.
type Decision struct {
	Policy  string         `json:"policy"`
	Allowed bool           `json:"allowed"`
	Files   []FileDecision `json:"files"`
}

// Refusals gives the files that are refused, in order.
func (d *Decision) Refusals() []FileDecision {
	var out []FileDecision
	for _, f := range d.Files {
		if f.Action == Refuse {
			out = append(out, f)
		}
	}
	return out
}

// Worst gives the class that decides the exit code: a violation outweighs what
// cannot be converted, and that outweighs what could not be read.
func (d *Decision) Worst() Class {
	var worst Class
	for _, f := range d.Refusals() {
		switch {
		case f.Class == Violation:
			return Violation
		case f.Class == Inconvertible, worst == "":
			worst = f.Class
		}
	}
	return worst
}

// Push decides about every file of a model that is to be pushed. All refusals
// are in the decision, not only the first.
func (p *Policy) Push(files []FileFacts) *Decision {
	d := &Decision{Policy: p.doc.Name, Allowed: true}
	for _, f := range files {
		fd := p.pushFile(f)
		if fd.Action == Refuse {
			d.Allowed = false
		}
		d.Files = append(d.Files, fd)
	}
	return d
}

func (p *Policy) pushFile(f FileFacts) FileDecision {
	switch {
	case f.ReadError != "":
		return refuse(f, Unjudged, "cannot be read: "+f.ReadError, "")
	case f.Verdict == "unsafe":
		return refuse(f, Violation, worstFindings(f, "unsafe"), firstFix(f, "unsafe"))
	case f.Training:
		return refuse(f, Violation, "training leftover (optimizer, scheduler, rng state or arguments): not part of a model",
			trainingHint(f.Path))
	case p.Converts(f.Format):
		return convertOrRefuse(f)
	case f.Verdict == "unknown":
		return refuse(f, Violation, "not recognised: "+worstFindings(f, "unknown"), "leave it out: --exclude "+ShellQuote(f.Path))
	case f.Role == "weight" && !p.allowsWeights(f.Format):
		return refuse(f, Violation, fmt.Sprintf("%s is not safetensors, and policy %s allows nothing else", f.Format, p.doc.Name), p.weightHint(f))
	}
	return FileDecision{Path: f.Path, Action: Keep, Reason: keepReason(f)}
}

// dataOnly says that a format of weights executes nothing, as safetensors-first
// has it.
func dataOnly(format string) bool {
	first, err := Builtin("safetensors-first")
	return err == nil && first.allowsWeights(format)
}

func (p *Policy) weightHint(f FileFacts) string {
	if dataOnly(f.Format) && f.Verdict == "safe" {
		return "data-only formats are allowed by --policy safetensors-first"
	}
	return "leave it out: --exclude " + ShellQuote(f.Path)
}

// trainingHint says what to do with what training left behind. In DeepSpeed's
// checkpoints the weights are there as well, in parts.
func trainingHint(path string) string {
	leave := "leave it out: --exclude " + ShellQuote(path)
	if IsDeepSpeed(path) {
		return leave + "; or, for the weights in it, " + GatherDeepSpeed
	}
	return leave
}

// GatherDeepSpeed is what makes weights of a checkpoint of DeepSpeed.
const GatherDeepSpeed = "gather them: python zero_to_fp32.py CHECKPOINT_DIR OUT_DIR (DeepSpeed leaves the script beside the checkpoint), and take OUT_DIR"

// IsDeepSpeed says whether a file is named as DeepSpeed's save_checkpoint names
// its parts: *_model_states.pt and *_optim_states.pt.
func IsDeepSpeed(path string) bool {
	path = strings.ToLower(path)
	return strings.HasSuffix(path, "_model_states.pt") || strings.HasSuffix(path, "_optim_states.pt")
}

func convertOrRefuse(f FileFacts) FileDecision {
	c := f.Conversion
	switch {
	case c == nil:
		return refuse(f, Inconvertible, f.Format+" was not planned for conversion", "")
	case c.Forbidden:
		return refuse(f, Violation, c.Error, c.Next)
	case c.Error != "":
		return refuse(f, Inconvertible, c.Error, c.Next)
	}
	reason := f.Format + " holds only tensors and plain data"
	if f.Verdict == "review" {
		reason = f.Format + ": weights only, without the objects around them"
	}
	return FileDecision{Path: f.Path, Action: Convert, Output: c.Output, Reason: reason}
}

func refuse(f FileFacts, class Class, reason, hint string) FileDecision {
	return FileDecision{Path: f.Path, Action: Refuse, Class: class, Reason: reason, Hint: hint}
}

func keepReason(f FileFacts) string {
	if f.Format == "safetensors" {
		return "strictly valid safetensors"
	}
	if len(f.Findings) > 0 {
		return f.Format + ", with findings: " + worstFindings(f, "")
	}
	return f.Format
}

// maxListed is how many findings a reason spells out.
const maxListed = 8

func worstFindings(f FileFacts, verdict string) string {
	var msgs []string
	for _, x := range f.Findings {
		if verdict == "" || x.Verdict == verdict {
			msgs = append(msgs, x.Message)
		}
	}
	if len(msgs) == 0 {
		return "the scan says " + f.Verdict
	}
	if n := len(msgs) - maxListed; n > 0 {
		msgs = append(msgs[:maxListed], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(msgs, "; ")
}

func firstFix(f FileFacts, verdict string) string {
	for _, x := range f.Findings {
		if x.Verdict == verdict && x.Fix != "" {
			return x.Fix
		}
	}
	return ""
}

// shellQuote makes a path safe to paste after a flag.
// ShellQuote writes a name as one word of a shell, so that a hint with it can be
// pasted.
func ShellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/+=:@,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
