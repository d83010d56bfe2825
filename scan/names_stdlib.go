package scan

import (
	"strings"
	"sync"

	"github.com/weightseal/weightseal/format/pickle"
)

// words makes a set of a list of words, when it is first asked.
func words(s string) func(string) bool {
	set := sync.OnceValue(func() map[string]struct{} {
		m := map[string]struct{}{}
		for _, w := range strings.Fields(s) {
			m[w] = struct{}{}
		}
		return m
	})
	return func(w string) bool { _, ok := set()[w]; return ok }
}

func isStdlib(top string) bool        { return pickle.IsStandardLibrary(top) }
func isCommonPackage(top string) bool { return pickle.IsCommonPackage(top) }
