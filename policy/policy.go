// Package policy decides: plain facts about a model in, a decision with
// reasons out. It knows nothing of registries, signatures or commands.
package policy

// Action is what is to happen to a file.
type Action string

// The actions.
const (
	Keep    Action = "keep"
	Convert Action = "convert"
	Refuse  Action = "refuse"
)

// Class says why a file is refused; it decides the exit code.
type Class string

// The classes of refusal.
const (
	Violation     Class = "violation"     // the policy says no
	Inconvertible Class = "inconvertible" // cannot be converted without loss
	Unjudged      Class = "unjudged"      // could not be read or judged
)

// FileFacts is what is known about one file before it is pushed.
type FileFacts struct {
	Path     string
	Format   string
	Declared string
	Role     string
	Size     int64
	Training bool   // optimizer, scheduler, rng state, training_args
	Verdict  string // of the scan
	Findings []FindingFact
	// Conversion is set for pickle-based files: what planning it gave.
	Conversion *ConversionFact
}

// FindingFact is a scan finding.
type FindingFact struct {
	Rule, Severity, Message, Verdict string
	Fix                              string
}

// ConversionFact is what planning a conversion gave.
type ConversionFact struct {
	Output      string // path of the safetensors file; "" when it failed
	Tensors     int
	Losses      []string // content that would be lost: "epoch (int)"
	CodeLost    bool     // known inert objects or code beside the weights
	WeightsOnly bool     // the user accepted that
	Error       string   // why it cannot be converted
	Next        string   // what to do then
	Forbidden   bool     // the error is a global outside the allow-list
}

// FileDecision is what happens to one file, and why.
type FileDecision struct {
	Path   string `json:"path"`
	Action Action `json:"action"`
	Output string `json:"output,omitempty"` // where it goes, when converted
	Class  Class  `json:"class,omitempty"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// Decision is about a whole model.
type Decision struct {
	Policy  string         `json:"policy"`
	Allowed bool           `json:"allowed"`
	Files   []FileDecision `json:"files"`
}

// Policy decides.
type Policy struct {
	Name string
	// unexported: rules
}
