package scan

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// Fingerprints gives one name to each finding of the file at path, in their
// order: 32 hexadecimal digits. It stays the same when unrelated bytes of the
// file, other files or the order of findings change: numbers and offsets are
// not part of it, while rule, path, inner path, opcode, global and message are.
// Of findings that are equal in all that, the first, second, ... are told apart.
func Fingerprints(path string, findings []Finding) []string {
	seen := map[[sha256.Size]byte]int{}
	out := make([]string, len(findings))
	for i, f := range findings {
		key := fingerprintKey(path, f)
		seen[key]++
		sum := sha256.Sum256(strconv.AppendInt(key[:], int64(seen[key]), 10))
		out[i] = hex.EncodeToString(sum[:16])
	}
	return out
}

// wholeNumber is a number that stands by itself: an offset or a count, and not
// a part of a name such as layer1.
var wholeNumber = pattern(`\b(0x[0-9a-fA-F]+|[0-9]+)\b`)

func fingerprintKey(path string, f Finding) [sha256.Size]byte {
	var b []byte
	for _, part := range []string{
		f.Rule, path, f.Inner, f.Opcode, f.Global, wholeNumber().ReplaceAllLiteralString(f.Message, "#"),
	} {
		// The length keeps the parts apart, whatever is in them.
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(b, ':')
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}

// Explained gives the findings of a file, with one more where the verdict
// follows from the format alone and no finding accounts for it.
func (f FileReport) Explained() []Finding {
	worst := Safe
	for _, x := range f.Findings {
		worst = max(worst, x.Verdict)
	}
	if f.Verdict <= worst {
		return f.Findings
	}
	ru := ruleByID("WS-FORMAT-003")
	if f.Verdict > ru.Verdict {
		ru = ruleByID("WS-FORMAT-002")
	}
	return append(f.Findings[:len(f.Findings):len(f.Findings)], Finding{
		Rule: ru.ID, Severity: ru.Severity, Verdict: f.Verdict, Fix: ru.Fix,
		Message: "the format " + string(f.Format) + " is not data only",
	})
}
