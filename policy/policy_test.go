package policy

import (
	"errors"
	"strings"
	"testing"
)

func mustBuiltin(t *testing.T, name string) *Policy {
	t.Helper()
	p, err := Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBuiltin(t *testing.T) {
	t.Parallel()
	if got := strings.Join(Names(), " "); got != "safetensors-first safetensors-only" {
		t.Errorf("Names() = %q", got)
	}
	for _, name := range Names() {
		p := mustBuiltin(t, name)
		if p.Name() != name || len(p.Digest()) != 64 || p.Description() == "" || p.doc.SchemaVersion != 1 {
			t.Errorf("%s: incomplete: %+v", name, p)
		}
	}
	for _, name := range []string{"", "nope", "../builtin/safetensors-only"} {
		var unknown *UnknownError
		if _, err := Builtin(name); !errors.As(err, &unknown) || len(unknown.Known) != 2 {
			t.Errorf("Builtin(%q) = %v, want *UnknownError with the known names", name, err)
		}
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	unsafe := []FindingFact{{Rule: "WS-X", Message: "posix.system at offset 2", Verdict: "unsafe", Fix: "do not load it"}}
	tests := []struct {
		name     string
		policy   string
		in       FileFacts
		want     Action
		class    Class
		reason   string
		hint     string
		wantPath string
	}{
		{"native safetensors", "safetensors-only", FileFacts{Format: "safetensors", Role: "weight", Verdict: "safe"}, Keep, "", "strictly valid", "", ""},
		{"broken safetensors", "safetensors-only", FileFacts{Format: "safetensors", Role: "weight", Verdict: "unsafe", Findings: unsafe}, Refuse, Violation, "posix.system", "do not load", ""},
		{"plain checkpoint", "safetensors-only", FileFacts{Format: "torch-zip", Role: "weight", Verdict: "convertible", Conversion: &ConversionFact{Output: "model.safetensors"}}, Convert, "", "only tensors", "", "model.safetensors"},
		{"checkpoint with inert objects", "safetensors-only", FileFacts{Format: "torch-zip", Verdict: "review", Conversion: &ConversionFact{Error: "argparse.Namespace beside the weights", Next: "--weights-only"}}, Refuse, Inconvertible, "argparse.Namespace", "--weights-only", ""},
		{"accepted losses", "safetensors-only", FileFacts{Format: "torch-zip", Verdict: "review", Conversion: &ConversionFact{Output: "m"}}, Convert, "", "weights only", "", "m"},
		{"unknown global", "safetensors-only", FileFacts{Format: "torch-zip", Verdict: "review", Conversion: &ConversionFact{Error: "names acme.Thing at offset 7", Forbidden: true}}, Refuse, Violation, "acme.Thing", "", ""},
		{"quantised", "safetensors-only", FileFacts{Format: "torch-zip", Verdict: "convertible", Conversion: &ConversionFact{Error: "w: quantised tensor", Next: "dequantise first"}}, Refuse, Inconvertible, "quantised", "dequantise", ""},
		{"unsafe wins over convertible", "safetensors-first", FileFacts{Format: "torch-zip", Verdict: "unsafe", Findings: unsafe, Conversion: &ConversionFact{Output: "m"}}, Refuse, Violation, "posix.system", "", ""},
		{"never planned", "safetensors-only", FileFacts{Format: "pickle", Verdict: "convertible"}, Refuse, Inconvertible, "not planned", "", ""},
		{"optimizer", "safetensors-only", FileFacts{Path: "my optimizer.pt", Format: "torch-zip", Verdict: "convertible", Training: true, Conversion: &ConversionFact{Output: "o"}}, Refuse, Violation, "training leftover", "--exclude 'my optimizer.pt'", ""},
		{"part of a DeepSpeed checkpoint", "safetensors-only", FileFacts{Path: "global_step1/zero_pp_rank_0_mp_rank_00_optim_states.pt", Format: "torch-zip", Verdict: "convertible", Training: true, Conversion: &ConversionFact{Output: "o"}}, Refuse, Violation, "training leftover", "gather them: python zero_to_fp32.py", ""},
		{"gguf, only", "safetensors-only", FileFacts{Format: "gguf", Role: "weight", Verdict: "safe"}, Refuse, Violation, "gguf is not safetensors", "safetensors-first", ""},
		{"gguf, first", "safetensors-first", FileFacts{Format: "gguf", Role: "weight", Verdict: "safe"}, Keep, "", "gguf", "", ""},
		{"code", "safetensors-only", FileFacts{Format: "python", Role: "code", Verdict: "review", Findings: []FindingFact{{Message: "python code"}}}, Keep, "", "python code", "", ""},
		{"text", "safetensors-only", FileFacts{Format: "text", Role: "doc", Verdict: "safe"}, Keep, "", "text", "", ""},
		{"unknown bytes", "safetensors-first", FileFacts{Path: "x.bin", Format: "unknown", Role: "other", Verdict: "unknown"}, Refuse, Violation, "not recognised", "--exclude x.bin", ""},
		{"unreadable", "safetensors-first", FileFacts{Verdict: "unknown", ReadError: "permission denied"}, Refuse, Unjudged, "permission denied", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := mustBuiltin(t, tt.policy).Push([]FileFacts{tt.in})
			got := d.Files[0]
			if got.Action != tt.want || got.Class != tt.class || got.Output != tt.wantPath {
				t.Errorf("decision %+v, want action %q class %q output %q", got, tt.want, tt.class, tt.wantPath)
			}
			if d.Allowed != (tt.want != Refuse) || d.Worst() != tt.class {
				t.Errorf("Allowed = %v, Worst = %q", d.Allowed, d.Worst())
			}
			if !strings.Contains(got.Reason, tt.reason) || !strings.Contains(got.Hint, tt.hint) {
				t.Errorf("reason %q, hint %q; want them to hold %q and %q", got.Reason, got.Hint, tt.reason, tt.hint)
			}
		})
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	p := mustBuiltin(t, "safetensors-only")
	unreadable := FileFacts{ReadError: "gone"}
	lossy := FileFacts{Format: "torch-zip", Conversion: &ConversionFact{Error: "no"}}
	bad := FileFacts{Verdict: "unsafe"}
	for _, tt := range []struct {
		in   []FileFacts
		want Class
	}{
		{[]FileFacts{unreadable}, Unjudged},
		{[]FileFacts{unreadable, lossy}, Inconvertible},
		{[]FileFacts{lossy, unreadable}, Inconvertible},
		{[]FileFacts{unreadable, lossy, bad}, Violation},
		{[]FileFacts{bad, lossy}, Violation},
		{nil, ""},
	} {
		if got := p.Push(tt.in).Worst(); got != tt.want {
			t.Errorf("Worst(%+v) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestArtifact(t *testing.T) {
	t.Parallel()
	weights := func(format string) []ArtifactFile { return []ArtifactFile{{Path: "w", Format: format, Role: "weight"}} }
	for _, tt := range []struct {
		policy string
		in     ArtifactFacts
		want   string // "" = allowed
	}{
		{"safetensors-only", ArtifactFacts{Result: "PASSED", Level: 2, Files: weights("safetensors")}, ""},
		{"safetensors-only", ArtifactFacts{Result: "WARNED", Level: 1, Files: weights("safetensors")}, ""},
		{"safetensors-only", ArtifactFacts{Result: "FAILED", Level: 4, Files: weights("safetensors")}, "FAILED"},
		{"safetensors-only", ArtifactFacts{Result: "PASSED", Level: 0, Files: weights("safetensors")}, "ST0 is below ST1"},
		{"safetensors-only", ArtifactFacts{Result: "PASSED", Level: 1, Files: weights("gguf")}, "gguf is not safetensors"},
		{"safetensors-only", ArtifactFacts{Result: "PASSED", Level: 1, Files: weights("hdf5")}, "hdf5 is not safetensors"},
		{"safetensors-first", ArtifactFacts{Result: "PASSED", Level: 0, Files: weights("hdf5")}, ""},
		{"safetensors-first", ArtifactFacts{Result: "PASSED", Level: 0, Files: weights("gguf")}, ""},
		{"safetensors-first", ArtifactFacts{Result: "PASSED", Level: 1, Files: weights("torch-zip")}, "pickle-based"},
	} {
		d := mustBuiltin(t, tt.policy).Artifact(tt.in)
		var reasons []string
		for _, r := range d.Refusals() {
			reasons = append(reasons, r.Reason)
		}
		got := strings.Join(reasons, "; ")
		if d.Allowed != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s, %+v: allowed %v, reasons %q; want %q", tt.policy, tt.in, d.Allowed, got, tt.want)
		}
	}
}
