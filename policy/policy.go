// Package policy decides: plain facts about a model in, a decision with
// reasons out. It knows nothing of registries, signatures or commands.
package policy

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed builtin/*.json
var builtin embed.FS

// DefaultName is the policy that applies when none is asked for.
const DefaultName = "safetensors-only"

// Policy is a set of rules. The same policy decides what a push does with each
// file and whether an artifact may be pulled or deployed.
type Policy struct {
	doc    document
	digest string
}

// document is the form a policy is written in.
type document struct {
	SchemaVersion  int      `json:"schemaVersion"`
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	WeightFormats  []string `json:"weightFormats"`  // kept as they are
	ConvertFormats []string `json:"convertFormats"` // become safetensors on push
	MinLevel       int      `json:"minLevel"`       // compliance level that a gate asks for
}

// Builtin gives a policy that the tool brings along.
func Builtin(name string) (*Policy, error) {
	b, err := builtin.ReadFile("builtin/" + name + ".json")
	if err != nil || strings.ContainsAny(name, "/\\") {
		return nil, &UnknownError{Name: name, Known: Names()}
	}
	p := &Policy{}
	if err := json.Unmarshal(b, &p.doc); err != nil {
		return nil, fmt.Errorf("built-in policy %s: %w", name, err)
	}
	sum := sha256.Sum256(b)
	p.digest = hex.EncodeToString(sum[:])
	return p, nil
}

// Names lists the built-in policies.
func Names() []string {
	entries, _ := builtin.ReadDir("builtin") // an embedded folder can always be read
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	return names
}

// UnknownError says that there is no policy of that name.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no policy %q (built in: %s)", e.Name, strings.Join(e.Known, ", "))
}

// Name is the policy's name.
func (p *Policy) Name() string { return p.doc.Name }

// Digest is the SHA-256, in hex, of the policy document's bytes.
func (p *Policy) Digest() string { return p.digest }

// Description says in a sentence what the policy is for.
func (p *Policy) Description() string { return p.doc.Description }

func (p *Policy) allowsWeights(format string) bool {
	return slices.Contains(p.doc.WeightFormats, format)
}

// MinLevel is the compliance level that an artifact must have.
func (p *Policy) MinLevel() int { return p.doc.MinLevel }

// Converts says whether files of this format become safetensors on push.
func (p *Policy) Converts(format string) bool {
	return slices.Contains(p.doc.ConvertFormats, format)
}
