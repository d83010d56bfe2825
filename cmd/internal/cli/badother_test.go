//go:build !unix

package cli

import "testing"

// makePipe: there are no named pipes in folders here, and a test that is about
// them must not pass.
func makePipe(tb testing.TB, path string) {
	tb.Helper()
	tb.Fatalf("%s: no named pipes on this system", path)
}
