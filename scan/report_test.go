package scan

import "testing"

// TestFindingOnce: the same about the same bytes is one finding; another offset,
// member or message is another.
func TestFindingOnce(t *testing.T) {
	t.Parallel()
	var r report
	r.add("WS-PICKLE-002", 7, "posix.system is imported and called")
	r.add("WS-PICKLE-002", 7, "posix.system is imported and called")
	if len(r.findings) != 1 {
		t.Fatalf("%d findings of one place", len(r.findings))
	}
	r.add("WS-PICKLE-002", 8, "posix.system is imported and called")
	r.add("WS-PICKLE-002", 7, "nt.system is imported and called")
	r.inner = "b.pkl"
	r.add("WS-PICKLE-002", 7, "posix.system is imported and called")
	if len(r.findings) != 4 {
		t.Fatalf("%d findings of four places", len(r.findings))
	}
}
