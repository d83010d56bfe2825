package scan

import "strings"

// References are what others call a rule's subject: published controls,
// weaknesses and advisories, by their ids.
type References struct {
	AISVS      []string // OWASP AI Security Verification Standard 1.0, such as C4.1.2
	AICM       []string // CSA AI Controls Matrix, such as MDS-13
	CWE        []string // Common Weakness Enumeration, such as CWE-502
	Advisories []string // CVE and GHSA ids of attacks of this kind
}

// References gives the ids that a rule maps to: its own row where there is one,
// else that of its family, which is the middle part of the id.
func (r Rule) References() References {
	family := r.ID
	if parts := strings.Split(r.ID, "-"); len(parts) == 3 {
		family = parts[1]
	}
	ref := familyReferences(family)
	own := ruleReferences()[r.ID]
	if own.cwe != "" {
		ref.CWE = strings.Fields(own.cwe)
	}
	ref.Advisories = append(strings.Fields(own.advisories), strings.Fields(githubAdvisories(r.ID))...)
	return ref
}

// familyReferences maps a family of rules. Every rule is a part of scanning
// before import (AISVS C6.1.1, AICM MDS-02); what can execute is also about
// formats that cannot (AISVS C4.1.2, AICM MDS-13).
func familyReferences(family string) References {
	scans := References{AISVS: []string{"C6.1.1"}, AICM: []string{"MDS-02"}}
	formats := References{AISVS: []string{"C4.1.2", "C6.1.1"}, AICM: []string{"MDS-13", "MDS-02"}}
	switch family {
	case "PICKLE", "NUMPY", "RDS":
		formats.CWE = []string{"CWE-502"}
		return formats
	case "TORCH", "FORMAT", "NAME":
		formats.CWE = []string{"CWE-436"}
		return formats
	case "TF", "PROGRAM", "KERAS", "CODE":
		formats.CWE = []string{"CWE-94"}
		return formats
	case "ONNX", "HDF5", "SAFETENSORS", "GGUF":
		formats.CWE = []string{"CWE-20"}
		return formats
	case "ARCHIVE":
		scans.CWE = []string{"CWE-436"}
	case "CONFIG", "TEMPLATE":
		scans.CWE = []string{"CWE-94"}
	case "LIMIT":
		scans.CWE = []string{"CWE-400"}
	default:
		scans.CWE = []string{"CWE-20"}
	}
	return scans
}

// references is a row of its own: ids separated by blanks.
type references struct{ cwe, advisories string }

// ruleReferences holds the rules that differ from their family, or that
// advisories are about.
func ruleReferences() map[string]references {
	return map[string]references{
		"WS-PICKLE-001": {"CWE-502", "CVE-2025-10157"},
		"WS-PICKLE-002": {"CWE-502 CWE-94", "CVE-2025-1716 CVE-2025-10157 CVE-2026-22608 CVE-2026-56304 CVE-2026-56315"},
		"WS-PICKLE-006": {"CWE-502 CWE-470", ""},
		"WS-PICKLE-007": {"CWE-502", "CVE-2025-32434"},
		"WS-PICKLE-010": {"CWE-502 CWE-915", "CVE-2025-32434"},
		"WS-PICKLE-011": {"CWE-502 CWE-915", ""},
		"WS-PICKLE-014": {"CWE-436", ""},
		"WS-PICKLE-016": {"CWE-436", ""},
		"WS-PICKLE-017": {"CWE-436 CWE-502", ""},
		"WS-PICKLE-018": {"CWE-674", ""},
		"WS-PICKLE-019": {"CWE-470", ""},
		"WS-PICKLE-022": {"CWE-502 CWE-20", ""},
		"WS-PICKLE-024": {"CWE-502", "CVE-2025-32434 CVE-2026-24747"},

		"WS-TORCH-001": {"CWE-436", "CVE-2025-1944 CVE-2025-1945 CVE-2025-10156"},
		"WS-TORCH-003": {"CWE-502 CWE-20", "CVE-2025-1944 CVE-2025-1945 CVE-2025-10156"},
		"WS-TORCH-004": {"CWE-125", "CVE-2026-24747"},
		"WS-TORCH-005": {"CWE-94", ""},
		"WS-TORCH-008": {"CWE-20", ""},
		"WS-TORCH-009": {"CWE-20", ""},
		"WS-TORCH-010": {"CWE-94", ""},

		"WS-ARCHIVE-001": {"CWE-436", "CVE-2025-1944"},
		"WS-ARCHIVE-003": {"CWE-22", ""},
		"WS-ARCHIVE-004": {"CWE-59", ""},
		"WS-ARCHIVE-005": {"CWE-693", ""},
		"WS-ARCHIVE-006": {"CWE-436", "CVE-2025-1945"},
		"WS-ARCHIVE-007": {"CWE-436", "CVE-2025-10156"},
		"WS-ARCHIVE-009": {"CWE-693", ""},

		"WS-NUMPY-002":       {"CWE-20", ""},
		"WS-SAFETENSORS-001": {"CWE-436", ""},
		"WS-GGUF-001":        {"CWE-125 CWE-190", ""},
		"WS-GGUF-002":        {"CWE-436", ""},
		"WS-ONNX-001":        {"CWE-22", ""},
		"WS-ONNX-002":        {"CWE-94", ""},
		"WS-ONNX-003":        {"CWE-829", ""},
		"WS-TF-003":          {"CWE-829", ""},
		"WS-KERAS-001":       {"CWE-94 CWE-502", ""},
		"WS-KERAS-003":       {"CWE-436", ""},
		"WS-HDF5-001":        {"CWE-22 CWE-73", ""},
		"WS-HDF5-002":        {"CWE-502", ""},
		"WS-HDF5-005":        {"CWE-829", ""},

		"WS-CONFIG-001":   {"CWE-829 CWE-94", ""},
		"WS-CONFIG-003":   {"CWE-436", ""},
		"WS-CONFIG-004":   {"CWE-436", ""},
		"WS-CONFIG-005":   {"CWE-829", ""},
		"WS-CONFIG-006":   {"CWE-22 CWE-73", ""},
		"WS-TEMPLATE-001": {"CWE-1336", ""},
		"WS-TEMPLATE-002": {"CWE-1336", ""},
		"WS-TEXT-001":     {"CWE-611", ""},
		"WS-TEXT-002":     {"CWE-94", ""},
		"WS-TEXT-003":     {"CWE-353", ""},
		"WS-CODE-001":     {"CWE-506", ""},
		"WS-CODE-003":     {"CWE-506 CWE-94", ""},
		"WS-CODE-006":     {"CWE-506", ""},

		"WS-NAME-001":   {"CWE-436 CWE-502", "CVE-2025-1889 CVE-2025-10155"},
		"WS-NAME-003":   {"CWE-436", "CVE-2025-10155"},
		"WS-FORMAT-002": {"CWE-693", ""},
		"WS-FORMAT-003": {"CWE-502", ""},
		"WS-LIMIT-001":  {"CWE-400 CWE-409", ""},
		"WS-READ-001":   {"CWE-693", ""},
	}
}
