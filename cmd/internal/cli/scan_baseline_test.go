package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weightseal/weightseal/scan"
)

const goodEntry = `schemaVersion: 1
accepted:
- rule: WS-PICKLE-003
  path: a.pkl
  fingerprint: 0123456789abcdef0123456789abcdef
  owner: me
  reason: because
  expires: 2030-01-31
`

func TestBaselineIsComplete(t *testing.T) {
	t.Parallel()
	if b, err := parseBaseline("b", []byte(goodEntry)); err != nil || len(b.entries) != 1 || b.entries[0].line != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	asJSON := `{"schemaVersion":1,"accepted":[{"rule":"WS-PICKLE-003","path":"a.pkl","fingerprint":"0123456789abcdef0123456789abcdef","owner":"me","reason":"r","expires":"2030-01-31"}]}`
	if b, err := parseBaseline("b", []byte(asJSON)); err != nil || len(b.entries) != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
	tests := []struct{ from, to, want string }{
		{"schemaVersion: 1", "schemaVersion: 2", "schemaVersion is 2"},
		{"schemaVersion: 1\n", "", "schemaVersion is 0"},
		{"accepted", "acepted", "acepted"},
		{"  owner: me\n", "", "line 3: no owner"},
		{"owner: me", "owner: ' '", "no owner"},
		{"  reason: because\n", "", "no reason"},
		{"  expires: 2030-01-31\n", "", "no expires"},
		{"2030-01-31", "never", `expires "never"`},
		{"2030-01-31", "2030-02-31", "expires"},
		{"  fingerprint: 0123456789abcdef0123456789abcdef\n", "", "neither fingerprint nor digest"},
		{"0123456789abcdef0123456789abcdef", "0123", "not 32 hexadecimal digits"},
		{"fingerprint: 0123456789abcdef0123456789abcdef", "digest: sha256:00", "not sha256:"},
		{"WS-PICKLE-003", "WS-PICKLE-999", `rule "WS-PICKLE-999"`},
		{"  path: a.pkl\n", "", "no path"},
		{"owner: me", "owner: me\n  forever: true", `unknown key "forever"`},
		{"- rule", "- [x]\n- rule", "an entry is a mapping"},
		{"schemaVersion: 1", "schemaVersion: 1\n---\nschemaVersion: 1", "more than one document"},
	}
	for _, test := range tests {
		text := strings.Replace(goodEntry, test.from, test.to, 1)
		if text == goodEntry {
			t.Fatalf("%q is not in the entry", test.from)
		}
		if _, err := parseBaseline("b", []byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q: got %v, want %q", test.to, test.from, err, test.want)
		}
	}
}

// TestBaselineExpiry: a day counts to its end in UTC, a moment to itself.
func TestBaselineExpiry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		expires, now string
		want         bool
	}{
		{"2030-01-31", "2030-01-31T23:59:59Z", true},
		{"2030-01-31", "2030-02-01T00:00:00Z", false},
		{"2030-01-31T12:00:00+02:00", "2030-01-31T09:59:59Z", true},
		{"2030-01-31T12:00:00+02:00", "2030-01-31T10:00:00Z", false},
	} {
		b, err := parseBaseline("b", []byte(strings.Replace(goodEntry, "2030-01-31", test.expires, 1)))
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, test.now)
		if err != nil {
			t.Fatal(err)
		}
		f := &scanFile{Path: "a.pkl", Verdict: scan.Review, Findings: []scanFinding{{
			Finding:     scan.Finding{Rule: "WS-PICKLE-003", Verdict: scan.Review},
			Fingerprint: "0123456789abcdef0123456789abcdef",
		}}}
		if err := b.accept(f, now, nil); err != nil {
			t.Fatal(err)
		}
		if got := f.count() == scan.Safe; got != test.want {
			t.Errorf("%s at %s: accepted is %v", test.expires, test.now, got)
		}
		if remarks := b.report(now).Remarks; len(remarks) == 0 != test.want {
			t.Errorf("%s at %s: %v", test.expires, test.now, remarks)
		}
	}
}

// TestCount: what nothing may hide.
func TestCount(t *testing.T) {
	t.Parallel()
	mark := &acceptedMark{Owner: "me"}
	of := func(v scan.Verdict, accepted *acceptedMark) scanFinding {
		return scanFinding{Finding: scan.Finding{Rule: "WS-X-001", Verdict: v}, Accepted: accepted}
	}
	more := scanFinding{Finding: scan.Finding{Rule: "WS-MORE-001", Verdict: scan.Safe}}
	tests := []struct {
		name string
		f    scanFile
		want scan.Verdict
	}{
		{"plain", scanFile{Verdict: scan.Review, Findings: []scanFinding{of(scan.Review, nil)}}, scan.Review},
		{"accepted", scanFile{Verdict: scan.Review, Findings: []scanFinding{of(scan.Review, mark)}}, scan.Safe},
		{"one of two", scanFile{Verdict: scan.Review, Findings: []scanFinding{of(scan.Review, mark), of(scan.Review, nil)}}, scan.Review},
		{"a lesser one is left", scanFile{Verdict: scan.Unknown, Findings: []scanFinding{of(scan.Unknown, mark), of(scan.Review, nil)}}, scan.Review},
		{"only a lesser one", scanFile{Verdict: scan.Unknown, Findings: []scanFinding{of(scan.Review, mark)}}, scan.Unknown},
		{"some not listed", scanFile{Verdict: scan.Review, Findings: []scanFinding{of(scan.Review, mark), more}}, scan.Review},
		{"unsafe", scanFile{Verdict: scan.Unsafe, Findings: []scanFinding{of(scan.Unsafe, mark)}}, scan.Unsafe},
		{"ignored", scanFile{Verdict: scan.Unknown, Ignored: &ignoreMark{}}, scan.Safe},
		{"ignored, unsafe", scanFile{Verdict: scan.Unsafe, Ignored: &ignoreMark{}}, scan.Unsafe},
		{"ignored, unread", scanFile{Verdict: scan.Unknown, Ignored: &ignoreMark{}, err: os.ErrPermission}, scan.Unknown},
	}
	for _, test := range tests {
		if got := test.f.count(); got != test.want {
			t.Errorf("%s counts as %s, want %s", test.name, got, test.want)
		}
	}
}

// TestDraft: a written baseline is refused until it is filled in, and then does
// what it says.
func TestDraft(t *testing.T) {
	t.Parallel()
	draft := filepath.Join(t.TempDir(), "b.yaml")
	args := []string{"testdata/scan/model", "--exclude", "evil.bin", "--write-baseline", draft}
	if code, _, stderr := scanned(t, nil, args...); code != exitPolicy || !strings.Contains(stderr, "needs an owner") {
		t.Fatalf("%d: %s", code, stderr)
	}
	if code, _, stderr := scanned(t, nil, args...); code != exitUsage || !strings.Contains(stderr, "exists") {
		t.Errorf("written over: %d: %s", code, stderr)
	}
	args = []string{"testdata/scan/model", "--exclude", "evil.bin", "--baseline", draft}
	if code, _, stderr := scanned(t, nil, args...); code != exitUsage || !strings.Contains(stderr, "no owner") {
		t.Errorf("%d: %s", code, stderr)
	}
	b, err := os.ReadFile(draft)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`owner: ""`, "owner: me", `reason: ""`, "reason: r", `expires: ""`, "expires: 2999-01-01").Replace(string(b))
	if err := os.WriteFile(draft, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := scanned(t, nil, args...); code != exitOK || !strings.Contains(out, "4 findings accepted") {
		t.Errorf("%d: %s%s", code, out, stderr)
	}
}

func FuzzBaseline(f *testing.F) {
	f.Add([]byte(goodEntry))
	f.Add([]byte("schemaVersion: 1\naccepted: [{rule: WS-CODE-002, path: x, digest: abc}]"))
	f.Add([]byte("schemaVersion: 1\naccepted: &a [*a]"))
	f.Add([]byte(`{"schemaVersion":1,"accepted":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := parseBaseline("b", in)
		if err != nil {
			return
		}
		for _, a := range b.entries {
			if a.Owner == "" || a.Reason == "" || a.until.IsZero() || a.Fingerprint == "" && a.Digest == "" {
				t.Errorf("%+v is not complete", a)
			}
		}
	})
}
