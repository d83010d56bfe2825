package format

import (
	"iter"
	"strings"
)

// Why no conversion writes a tensor under a name that its format allows.
const (
	NameNUL   = "name with a NUL, where some readers would end it" // safetensors.Strict refuses to read it
	NameTwice = "name that two tensors have once their keys are joined"
)

// BadName finds the first of a checkpoint's names that no conversion writes, and
// why: NameNUL or NameTwice, "" for none.
func BadName(names iter.Seq[string]) (name, why string) {
	seen := map[string]struct{}{}
	for name := range names {
		if strings.Contains(name, "\x00") {
			return name, NameNUL
		}
		if _, twice := seen[name]; twice {
			return name, NameTwice
		}
		seen[name] = struct{}{}
	}
	return "", ""
}
