package attest

import (
	"strings"
	"testing"
)

func TestEvaluate(t *testing.T) {
	t.Parallel()
	native := func(p *Predicate) { p.Conversions = nil }
	for name, test := range map[string]struct {
		change func(*Predicate)
		result string
		level  int
		reason string // first reason contains
	}{
		"converted, everything proven": {nil, Passed, 4, ""},
		"blocked":                      {func(p *Predicate) { p.Files[1].Blocked = true }, Failed, 4, "refused by the policy"},
		"blocked by count":             {func(p *Predicate) { p.Summary.Blocked = 1 }, Failed, 4, "counts 1 blocked"},
		"executed":                     {func(p *Predicate) { p.Conversions[0].ExecutedPickle = true }, Failed, 3, "a pickle was executed"},
		"not equal":                    {func(p *Predicate) { p.Conversions[0].Equality.TensorSetDigestOutput = sha("else") }, Failed, 3, "differ in their tensor-set digests"},
		"no digest":                    {func(p *Predicate) { p.Conversions[1].Equality = Equality{Kind: "bitwise"} }, Failed, 3, "differ in their tensor-set digests"},
		"another kind":                 {func(p *Predicate) { p.Conversions[0].Equality.Kind = "close" }, Failed, 3, `equality is "close"`},
		"no output":                    {func(p *Predicate) { p.Conversions[0].Outputs = nil }, Failed, 3, "has no output"},
		"output of another artifact":   {func(p *Predicate) { p.Conversions[0].Outputs[0].Digest = sha("else") }, Failed, 3, "is not a file of the artifact"},
		"proof of another file":        {func(p *Predicate) { p.Files[2].Safetensors.TensorSetDigest = sha("else") }, Failed, 3, "has another tensor-set digest"},
		"pickle":                       {func(p *Predicate) { p.Files[2].Format.Detected = "torch-zip" }, Failed, 0, "torch-zip is pickle-based"},
		"pickle with exception": {func(p *Predicate) {
			p.Files[2].Format.Detected = "torch-zip"
			p.Exceptions = append(p.Exceptions, Exception{Rule: "WS-X", Path: p.Files[2].Path})
		}, Warned, 0, "not ST1"},
		"gguf":            {func(p *Predicate) { p.Files[2].Format.Detected = "gguf" }, Warned, 0, "not ST1: model-00002-of-00002.safetensors: gguf, not safetensors"},
		"undescribed":     {func(p *Predicate) { p.Files[2].Safetensors = nil }, Warned, 0, "header is not described"},
		"index not there": {func(p *Predicate) { p.Files[2].Safetensors.Index = "gone.json" }, Warned, 0, "its index gone.json"},
		"no weights":      {func(p *Predicate) { p.Files, p.Conversions = p.Files[:2], nil }, Warned, 0, "no safetensors file"},
		"code":            {func(p *Predicate) { p.Files[1].Role, p.Files[1].Format.Detected = "code", "python" }, Passed, 1, "python may be executed"},
		"unknown content": {func(p *Predicate) { p.Files[1].Format.Detected = "unknown" }, Passed, 1, "unknown may be executed"},
		"archive":         {func(p *Predicate) { p.Files[1].Format.Detected = "zip" }, Passed, 1, "zip may be executed"},
		"finding":         {func(p *Predicate) { p.Files[1].Findings = []FindingEntry{{Rule: "WS-A", Severity: "high"}} }, Warned, 1, "WS-A (high)"},
		"unusual template": {func(p *Predicate) {
			p.Files[1].Findings = []FindingEntry{{Rule: "WS-TEMPLATE-002", Severity: "medium"}}
		}, Warned, 2, "WS-TEMPLATE-002 (medium)"},
		"bad template": {func(p *Predicate) {
			p.Files[1].Findings = []FindingEntry{{Rule: "WS-TEMPLATE-001", Severity: "critical"}}
		}, Warned, 1, "WS-TEMPLATE-001"},
		"odd severity":       {func(p *Predicate) { p.Files[1].Findings = []FindingEntry{{Rule: "WS-A", Severity: "dire"}} }, Warned, 1, "WS-A (dire)"},
		"info":               {func(p *Predicate) { p.Files[1].Findings = []FindingEntry{{Rule: "WS-A", Severity: "info"}} }, Passed, 4, ""},
		"template alone":     {func(p *Predicate) { p.Exceptions = nil }, Warned, 2, "WS-TEMPLATE (low)"},
		"exception too late": {func(p *Predicate) { p.Exceptions[0].Expires = "2026-05-03" }, Warned, 2, "WS-TEMPLATE"},
		"exception that day": {func(p *Predicate) { p.Exceptions[0].Expires = "2026-05-04" }, Passed, 4, ""},
		"exception for good": {func(p *Predicate) { p.Exceptions[0].Expires = "" }, Passed, 4, ""},
		"no origin":          {func(p *Predicate) { p.Origin = nil }, Passed, 3, "origin is not pinned"},
		"origin unpinned":    {func(p *Predicate) { p.Origin.Files = nil }, Passed, 3, "origin is not pinned"},
		"other origin":       {func(p *Predicate) { p.Origin.Files[0].Digest = sha("else") }, Passed, 3, "neither of the origin"},
		"native, unpinned":   {native, Passed, 3, "neither of the origin"},
		"native, pinned": {func(p *Predicate) {
			native(p)
			for _, f := range p.Files {
				p.Origin.Files = append(p.Origin.Files, OriginFile{Path: f.Path, Digest: f.LayerDigest})
			}
		}, Passed, 4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fullPredicate()
			p.Result, p.Level = "BELIEVE ME", 9
			if test.change != nil {
				test.change(p)
			}
			result, level, reasons := p.Evaluate()
			if result != test.result || level != test.level {
				t.Errorf("got %s %d, want %s %d: %v", result, level, test.result, test.level, reasons)
			}
			switch {
			case test.reason == "" && len(reasons) > 0:
				t.Errorf("reasons for perfection: %v", reasons)
			case test.reason != "" && (len(reasons) == 0 || !strings.Contains(reasons[0], test.reason)):
				t.Errorf("first reason %q, want %q", reasons, test.reason)
			}
		})
	}
}
