package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/workload"
)

// clusterReport is what scan-cluster prints as JSON
// (docs/cluster-report-v1.schema.json).
type clusterReport struct {
	SchemaVersion int            `json:"schemaVersion"`
	Source        string         `json:"source"`
	Policy        string         `json:"policy"`
	Models        []clusterModel `json:"models"`
	Unread        []unreadSource `json:"unread"`
	Summary       clusterSummary `json:"summary"`
	ExitCode      int            `json:"exitCode"`

	list bool
}

// clusterModel is one place that names a model, with what is known of it.
type clusterModel struct {
	clusterVerdict
	Reference string             `json:"reference"` // as it is written
	Registry  string             `json:"registry,omitempty"`
	Pinned    bool               `json:"pinned"` // to a digest
	Certainty workload.Certainty `json:"certainty"`
	Workload  workload.Workload  `json:"workload"`
	Place     string             `json:"place"`
	Via       string             `json:"via"`
	Pods      int                `json:"pods,omitempty"`
	Pod       string             `json:"pod,omitempty"`
	Running   bool               `json:"running"`
	Origin    workload.Origin    `json:"origin"`
}

// clusterSummary counts. References and workloads are counted once each, states
// by reference.
type clusterSummary struct {
	Objects     int            `json:"objects"`
	Others      int            `json:"others"` // documents that are no Kubernetes objects
	Workloads   int            `json:"workloads"`
	References  int            `json:"references"`
	States      map[string]int `json:"states"`
	NotVerified int            `json:"notVerified"` // references that count and are not verified
	Failed      int            `json:"failed"`      // those of them that the policy does not allow
	NotCounted  int            `json:"notCounted"`  // references that are only mentioned
}

func newClusterReport(o *scanClusterOptions, found *foundWorkloads, rows []workload.Row, verdicts map[string]*clusterVerdict) *clusterReport {
	r := &clusterReport{
		SchemaVersion: 1, Source: found.source, Policy: o.policy, Models: []clusterModel{}, Unread: found.unread, list: o.list,
		Summary: clusterSummary{Objects: found.set.Len(), Others: found.others, States: map[string]int{}},
	}
	if r.Policy == "" {
		r.Policy = policy.DefaultName
	}
	if r.Unread == nil {
		r.Unread = []unreadSource{}
	}
	workloads := map[workload.Workload]bool{}
	counts := map[string]bool{} // references, and whether they count
	for _, row := range rows {
		v := verdicts[row.Reference.Key()]
		if row.Running && tagLeadsTo(rows, verdicts, row) {
			continue
		}
		r.Models = append(r.Models, clusterModel{
			clusterVerdict: *v, Reference: row.Reference.Text, Registry: row.Reference.Registry, Pinned: row.Reference.Digest != "",
			Certainty: row.Certainty, Workload: row.Workload, Place: row.Place, Via: row.Via, Pods: row.Pods, Pod: row.Pod,
			Running: row.Running, Origin: row.Origin,
		})
		workloads[row.Workload] = true
		counts[row.Reference.Key()] = counts[row.Reference.Key()] || row.Certainty == workload.Declared || o.strict
	}
	r.Summary.Workloads, r.Summary.References = len(workloads), len(counts)
	r.count(counts, verdicts)
	return r
}

// tagLeadsTo says whether what runs is what the reference beside it leads to:
// then it is told already.
func tagLeadsTo(rows []workload.Row, verdicts map[string]*clusterVerdict, running workload.Row) bool {
	return slices.ContainsFunc(rows, func(r workload.Row) bool {
		return !r.Running && r.Workload == running.Workload && r.Reference.Scheme == workload.OCI &&
			r.Reference.At(running.Reference.Digest).Registry == running.Reference.Registry &&
			verdicts[r.Reference.Key()].Digest == running.Reference.Digest
	})
}

// count sums the states up, and finds the exit code: the worst of 3, 4 and 6,
// and 1 where something was not read.
func (r *clusterReport) count(counts map[string]bool, verdicts map[string]*clusterVerdict) {
	codes := stateCodes()
	found := map[int]bool{}
	for key, counted := range counts {
		state := verdicts[key].State
		r.Summary.States[state]++
		code := codes[state]
		switch {
		case !counted:
			r.Summary.NotCounted++
		case code != 0 && !r.list:
			r.Summary.NotVerified++
			found[code] = true
			if code == exitPolicy {
				r.Summary.Failed++
			}
		}
	}
	found[exitError] = len(r.Unread) > 0
	for _, code := range []int{exitPolicy, exitAttestation, exitNetwork, exitError} {
		if found[code] {
			r.ExitCode = code
			return
		}
	}
}

// printCluster writes the report for people at a terminal.
func printCluster(out *page, r *clusterReport) error {
	if len(r.Models) > 0 {
		t := newTable(column{title: "STATE"}, column{title: "MODEL", cut: cutMiddle, least: 24},
			column{title: "WORKLOAD", cut: cutMiddle, least: 16}, column{title: "WHERE", cut: cutEnd, least: 12, first: true, drop: 1})
		for _, m := range r.Models {
			t.row(styled(stateStyle(m.State), m.stateText()), text(m.Reference), text(workloadText(m.Workload)), text(m.where()))
		}
		if err := t.print(out); err != nil {
			return err
		}
	}
	told := map[string]bool{}
	for _, m := range r.Models {
		if m.Detail == "" || told[m.key()] || m.State == stateUnsupported || m.State == stateNotAModel {
			continue
		}
		told[m.key()] = true
		fmt.Fprintf(out, "\n%s  %s\n", out.paint(stateStyle(m.State), m.State), oneLine(m.Reference))
		out.paragraph("  ", oneLine(m.Detail))
	}
	if len(r.Unread) > 0 {
		fmt.Fprintln(out)
	}
	for _, u := range r.Unread {
		fmt.Fprintf(out, "not read  %s: %s\n", oneLine(u.What), oneLine(u.Detail))
	}
	_, err := fmt.Fprintf(out, "%s%s\n", map[bool]string{true: "", false: "\n"}[len(r.Models)+len(r.Unread) == 0], r.Summary.text())
	return err
}

// stateStyle is the style of a state: green is only what is verified.
func stateStyle(state string) style {
	switch state {
	case stateVerified:
		return good
	case stateFailed, stateUnsigned, stateUntrusted, stateInvalid:
		return bad
	case stateUnsupported, stateUnreachable:
		return doubtful
	}
	return faint
}

// key is the same for references that lead to the same artifact.
func (m *clusterModel) key() string { return cmp.Or(m.Registry, m.Reference) }

func (m *clusterModel) stateText() string {
	text := m.State
	if m.State == stateVerified {
		text = fmt.Sprintf("%s ST%d", text, m.Level)
	}
	if m.Certainty == workload.Mentioned {
		text += " (mentioned)"
	}
	return text
}

// where says what names the model, and in which place.
func (m *clusterModel) where() string {
	text := m.Via + ": " + m.Place
	if m.Pods > 0 {
		text += fmt.Sprintf(" (%s, %s)", plural(m.Pods, "pod"), m.Pod)
	}
	if m.Origin.Line > 0 {
		text += ", " + m.Origin.String()
	}
	return text
}

func workloadText(w workload.Workload) string {
	text := w.Kind + "/" + w.Name
	if w.Namespace != "" {
		text = w.Namespace + "/" + text
	}
	return text
}

func (s *clusterSummary) text() string {
	var states []string
	for _, state := range []string{
		stateVerified, stateFailed, stateUnsigned, stateUntrusted, stateUnsupported, stateInvalid, stateUnreachable, stateNotAModel, stateNotChecked,
	} {
		if n := s.States[state]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := fmt.Sprintf("%s in %s (%s read)", plural(s.References, "model reference"), plural(s.Workloads, "workload"), plural(s.Objects, "object"))
	if len(states) > 0 {
		text += ": " + strings.Join(states, ", ")
	}
	if s.NotCounted > 0 {
		text += fmt.Sprintf("; %d only mentioned, not counted without --strict", s.NotCounted)
	}
	if s.Others > 0 {
		text += "; " + plural(s.Others, "document") + " without apiVersion and kind"
	}
	return text
}
