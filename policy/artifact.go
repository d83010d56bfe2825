package policy

import "fmt"

// ArtifactFacts is what a verified statement says about an artifact that is to
// be pulled or deployed.
type ArtifactFacts struct {
	Result string // PASSED, WARNED or FAILED, recomputed by the verifier
	Level  int    // compliance level, recomputed by the verifier
	Files  []ArtifactFile
}

// ArtifactFile is a file of the artifact.
type ArtifactFile struct {
	Path   string
	Format string
	Role   string
}

// Artifact decides about an artifact. Every file that the policy does not
// allow is in the decision.
func (p *Policy) Artifact(a ArtifactFacts) *Decision {
	d := &Decision{Policy: p.doc.Name, Allowed: true}
	say := func(fd FileDecision) {
		if fd.Action == Refuse {
			d.Allowed = false
		}
		d.Files = append(d.Files, fd)
	}
	if a.Result == "FAILED" {
		say(FileDecision{Action: Refuse, Class: Violation, Reason: "the statement's own result is FAILED"})
	}
	if a.Level < p.doc.MinLevel {
		say(FileDecision{Action: Refuse, Class: Violation,
			Reason: fmt.Sprintf("compliance level ST%d is below ST%d", a.Level, p.doc.MinLevel)})
	}
	for _, f := range a.Files {
		switch {
		case p.Converts(f.Format) && !dataOnly(f.Format):
			say(FileDecision{Path: f.Path, Action: Refuse, Class: Violation, Reason: f.Format + " is pickle-based",
				Hint: "push it again: weightseal converts it on the way"})
		case f.Role == "weight" && !p.allowsWeights(f.Format):
			say(FileDecision{Path: f.Path, Action: Refuse, Class: Violation,
				Reason: fmt.Sprintf("%s is not safetensors, and policy %s allows nothing else", f.Format, p.doc.Name)})
		default:
			say(FileDecision{Path: f.Path, Action: Keep, Reason: f.Format})
		}
	}
	return d
}
