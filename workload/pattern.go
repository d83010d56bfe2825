package workload

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is first wanted: no
// command that reads no workload pays for it at its start.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
