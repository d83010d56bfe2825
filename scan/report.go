package scan

import (
	"fmt"
	"slices"

	"github.com/weightseal/weightseal/format/pickle"
)

// maxFindings bounds the findings kept for one file. The verdict counts all of
// them.
const maxFindings = 200

// report collects what one detector says about one file.
type report struct {
	verdict  Verdict
	findings []Finding
	more     int
	least    Verdict // of the findings kept
	inner    string  // path inside the file that findings belong to
	imports  bool    // a pickle that was judged names a global
}

// at least raises the verdict.
func (r *report) atLeast(v Verdict) { r.verdict = max(r.verdict, v) }

// add records a finding of a rule; off is negative where there is no offset.
// The finding is returned so that more can be said; it is valid until the next
// call.
func (r *report) add(rule string, off int64, format string, args ...any) *Finding {
	ru := ruleByID(rule)
	if len(r.findings) >= maxFindings && ru.Verdict <= r.least {
		r.atLeast(ru.Verdict)
		r.more++
		return new(Finding) // would not be listed
	}
	f := Finding{
		Rule: rule, Severity: ru.Severity, Verdict: ru.Verdict, Fix: ru.Fix,
		Message: fmt.Sprintf(format, args...), Inner: r.inner,
	}
	if off >= 0 {
		f.Offset = &off
	}
	return r.keep(f)
}

func (r *report) keep(f Finding) *Finding {
	r.atLeast(f.Verdict)
	// Two ways into the same bytes find the same: it is said once.
	if i := slices.IndexFunc(r.findings, f.same); i >= 0 {
		return &r.findings[i]
	}
	if len(r.findings) >= maxFindings {
		// A worse finding takes the place of a milder one, so that the
		// reason for the verdict is always listed.
		r.more++
		i := slices.IndexFunc(r.findings, func(o Finding) bool { return o.Verdict < f.Verdict })
		if i < 0 {
			return &f
		}
		r.findings[i] = f
		r.least = leastOf(r.findings)
		return &r.findings[i]
	}
	r.findings = append(r.findings, f)
	r.least = leastOf(r.findings)
	return &r.findings[len(r.findings)-1]
}

func leastOf(fs []Finding) Verdict {
	v := Unsafe
	for _, f := range fs {
		v = min(v, f.Verdict)
	}
	return v
}

// merge takes over what was found in a member of this file.
func (r *report) merge(inner string, v Verdict, fs []Finding) {
	r.atLeast(v)
	for _, f := range fs {
		f.Inner = joinInner(inner, f.Inner)
		r.keep(f)
	}
}

// result is what a Detector's Scan gives.
func (r *report) result() (Verdict, []Finding, error) {
	fs := r.findings
	if r.more > 0 {
		ru := ruleByID("WS-MORE-001")
		fs = append(fs, Finding{Rule: ru.ID, Severity: ru.Severity, Verdict: ru.Verdict, Fix: ru.Fix,
			Message: fmt.Sprintf("%d more findings are not listed", r.more)})
	}
	return max(r.verdict, Safe), fs, nil
}

// joinInner joins paths inside files as "outer!inner", the way that archives
// in archives are usually written.
func joinInner(outer, inner string) string {
	switch {
	case outer == "":
		return inner
	case inner == "":
		return outer
	}
	return outer + "!" + inner
}

// withOpcode fills what is known of the place in a pickle.
func (f *Finding) withOpcode(op byte) {
	f.Opcode = opcodeName(op)
}

func (f *Finding) withGlobal(g *pickle.Global) *Finding {
	f.Global = globalName(g)
	f.Opcode = opcodeName(g.Opcode)
	return f
}

// clipName shortens a part of a name that is longer than any real one: there
// may be very many findings.
func clipName(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:most], len(s))
}

func globalName(g *pickle.Global) string {
	m, n := g.Mapped()
	if m == g.Module && n == g.Name {
		return clipName(g.Module) + "." + clipName(g.Name)
	}
	return fmt.Sprintf("%s.%s (%s.%s in the file)", clipName(m), clipName(n), clipName(g.Module), clipName(g.Name))
}
