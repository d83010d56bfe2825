package realtools

import (
	"os/exec"
	"testing"
)

// Python finds an interpreter that has torch: Debian's, where the package
// python3-torch puts it, or the first on the path.
func Python(tb testing.TB) string {
	tb.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import torch").Run() == nil {
			return python
		}
	}
	tb.Fatal("no python3 with torch: install Debian's python3-torch, or run `make test-deps`")
	return ""
}
