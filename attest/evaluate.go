package attest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The results.
const (
	Passed = "PASSED"
	Warned = "WARNED"
	Failed = "FAILED"
)

// Names that the predicate uses. They are those of packages model and scan,
// written out because they are part of the predicate, not of a program.
const (
	formatSafetensors = "safetensors"
	roleWeight        = "weight"
	roleCode          = "code"
	equalityBitwise   = "bitwise"
)

// pickleFormats execute what they hold when they are loaded.
var pickleFormats = []string{"torch-zip", "torch-legacy", "torch-tar", "torchscript", "pickle"}

// tensorFormats hold tensors, whatever role a file was given.
var tensorFormats = append([]string{"npy", "npz", "gguf", "onnx", "hdf5", "keras"}, pickleFormats...)

// opaqueFormats are code, or cannot be told to hold none.
var opaqueFormats = []string{
	"python", "script", "notebook", "elf", "pe", "mach-o",
	"zip", "tar", "gzip", "bzip2", "xz", "lzma", "zstd", "zlib", "7z", "unknown",
}

// Evaluate computes result and level from the facts in the predicate; the
// Result and Level fields themselves are not looked at. reasons says what kept
// the result from PASSED and the level from 4, worst first.
//
// FAILED: a file is blocked or pickle-based without an exception, a pickle was
// executed, or a conversion is not proven equal. WARNED: the level is 0, or a
// finding above info remains that no exception covers. Exceptions count when
// they had not expired at TimeEvaluated; they never raise the level.
func (p *Predicate) Evaluate() (result string, level int, reasons []string) {
	f := facts{Predicate: p, paths: make(map[string]*FileEntry, len(p.Files))}
	for i := range p.Files {
		f.paths[p.Files[i].Path] = &p.Files[i]
	}
	fails := f.failures()
	warns := f.uncovered()
	level, missing := f.level()
	switch {
	case len(fails) > 0:
		result = Failed
	case len(warns) > 0 || level < 1:
		result = Warned
	default:
		result = Passed
	}
	return result, level, slices.Concat(fails, warns, missing)
}

// facts are a predicate with its files by path.
type facts struct {
	*Predicate
	paths map[string]*FileEntry
}

// failures lists what makes the result FAILED.
func (p *facts) failures() []string {
	var out []string
	blocked := 0
	for _, f := range p.Files {
		switch {
		case f.Blocked:
			blocked++
			out = append(out, f.Path+": refused by the policy")
		case slices.Contains(pickleFormats, f.Format.Detected) && !p.excepted("", f.Path):
			out = append(out, fmt.Sprintf("%s: %s is pickle-based", f.Path, f.Format.Detected))
		}
	}
	if p.Summary.Blocked > blocked {
		out = append(out, fmt.Sprintf("the summary counts %d blocked files", p.Summary.Blocked))
	}
	for _, c := range p.Conversions {
		if why := p.unproven(c); why != "" {
			out = append(out, "conversion of "+c.Source.Path+": "+why)
		}
	}
	return out
}

// unproven says why a conversion does not count as lossless; "" when it does.
func (p *facts) unproven(c Conversion) string {
	e := c.Equality
	switch {
	case c.ExecutedPickle:
		return "a pickle was executed"
	case e.Kind != equalityBitwise:
		return fmt.Sprintf("equality is %q, not %q", e.Kind, equalityBitwise)
	case !isDigest(e.TensorSetDigestSource) || e.TensorSetDigestSource != e.TensorSetDigestOutput:
		return "source and output differ in their tensor-set digests"
	case len(c.Outputs) == 0:
		return "has no output"
	}
	for _, o := range c.Outputs {
		f := p.paths[o.Path]
		if f == nil || f.LayerDigest != o.Digest {
			return fmt.Sprintf("its output %s is not a file of the artifact", o.Path)
		}
		// With one output the proof is about exactly that file's tensors.
		if st := f.Safetensors; st != nil && len(c.Outputs) == 1 && st.TensorSetDigest != e.TensorSetDigestOutput {
			return fmt.Sprintf("its output %s has another tensor-set digest", o.Path)
		}
	}
	return ""
}

// uncovered lists findings that make the result WARNED.
func (p *facts) uncovered() []string {
	var out []string
	for _, f := range p.Files {
		for _, n := range f.Findings {
			if severity(n.Severity) > severityInfo && !p.excepted(n.Rule, f.Path) {
				out = append(out, fmt.Sprintf("%s: %s (%s)", f.Path, n.Rule, n.Severity))
			}
		}
	}
	return out
}

// level gives the compliance level and what is missing for the next one.
func (p *facts) level() (int, []string) {
	for i, missing := range [...]func() []string{p.missingST1, p.missingST2, p.missingST3, p.missingST4} {
		if m := missing(); len(m) > 0 {
			for j := range m {
				m[j] = fmt.Sprintf("not ST%d: %s", i+1, m[j])
			}
			return i, m
		}
	}
	return 4, nil
}

// missingST1: every tensor-bearing file is strict safetensors, and the index
// that a shard names is there.
func (p *facts) missingST1() []string {
	var out []string
	weights := 0
	for _, f := range p.Files {
		switch {
		case f.Format.Detected == formatSafetensors && f.Safetensors == nil:
			out = append(out, f.Path+": its safetensors header is not described")
		case f.Format.Detected == formatSafetensors:
			weights++
			if i := f.Safetensors.Index; i != "" && p.paths[i] == nil {
				out = append(out, fmt.Sprintf("%s: its index %s is not in the artifact", f.Path, i))
			}
		case f.Role == roleWeight || slices.Contains(tensorFormats, f.Format.Detected):
			out = append(out, fmt.Sprintf("%s: %s, not safetensors", f.Path, f.Format.Detected))
		}
	}
	if weights == 0 && len(out) == 0 {
		out = append(out, "no safetensors file")
	}
	return out
}

// missingST2: nothing executable or pickled anywhere, no configuration that
// makes a loader run code: no finding above low, other than about templates,
// which are ST3's.
func (p *facts) missingST2() []string {
	var out []string
	for _, f := range p.Files {
		if f.Role == roleCode || slices.Contains(opaqueFormats, f.Format.Detected) {
			out = append(out, fmt.Sprintf("%s: %s may be executed", f.Path, f.Format.Detected))
		}
		for _, n := range f.Findings {
			if severity(n.Severity) > severityLow && !n.template() {
				out = append(out, fmt.Sprintf("%s: %s (%s)", f.Path, n.Rule, n.Severity))
			}
		}
	}
	return out
}

// missingST3: text programs are pinned. Every file is listed by digest, so
// what is left are findings about them that nobody approved.
func (p *facts) missingST3() []string { return p.uncovered() }

// missingST4: provenance. The origin is pinned by digests, and every weight
// file is one of the origin's or was converted, with proof, from one of them.
func (p *facts) missingST4() []string {
	if p.Origin == nil || len(p.Origin.Files) == 0 {
		return []string{"the origin is not pinned"}
	}
	origin := map[string]bool{}
	for _, f := range p.Origin.Files {
		origin[f.Digest] = isDigest(f.Digest)
	}
	proven := map[string]bool{}
	for _, c := range p.Conversions {
		for _, o := range c.Outputs {
			proven[o.Digest] = c.Source.within(origin) && p.unproven(c) == ""
		}
	}
	var out []string
	for _, f := range p.Files {
		if f.Format.Detected == formatSafetensors && !origin[f.LayerDigest] && !proven[f.LayerDigest] {
			out = append(out, f.Path+": neither of the origin nor converted from it")
		}
	}
	return out
}

// within says whether the source, or every file of it, is one of the origin's.
func (s *SourceInfo) within(origin map[string]bool) bool {
	if len(s.Parts) == 0 {
		return origin[s.Digest]
	}
	for _, p := range s.Parts {
		if !origin[p.Digest] {
			return false
		}
	}
	return true
}

// excepted says whether an exception covers a finding at the time of the
// evaluation. An empty rule asks for any exception on the path.
func (p *facts) excepted(rule, path string) bool {
	at, err := time.Parse(time.RFC3339, p.TimeEvaluated)
	for _, e := range p.Exceptions {
		if e.Path != path || (rule != "" && e.Rule != rule) {
			continue
		}
		until, never, bad := e.expiry()
		if bad == nil && (never || (err == nil && at.Before(until))) {
			return true
		}
	}
	return false
}

// expiry gives the time from which an exception no longer counts.
func (e Exception) expiry() (until time.Time, never bool, err error) {
	if e.Expires == "" {
		return time.Time{}, true, nil
	}
	if day, err := time.Parse(time.DateOnly, e.Expires); err == nil {
		return day.AddDate(0, 0, 1), false, nil
	}
	until, err = time.Parse(time.RFC3339, e.Expires)
	return until, false, err
}

// templateRules begins the ids of rules about chat templates.
const templateRules = "WS-TEMPLATE-"

// template says whether a finding is about a template that may be unusual but
// does not reach out of its sandbox.
func (n FindingEntry) template() bool {
	return strings.HasPrefix(n.Rule, templateRules) && severity(n.Severity) <= severityMedium
}

// The severities, in order. One that is not known counts as the worst.
const (
	severityInfo = iota
	severityLow
	severityMedium
	severityWorse
)

func severity(s string) int {
	switch strings.ToLower(s) {
	case "info":
		return severityInfo
	case "low":
		return severityLow
	case "medium":
		return severityMedium
	}
	return severityWorse
}
