package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// readOutputs reads GITHUB_OUTPUT as the runner does: name=value, or name<<END
// and lines up to END.
func readOutputs(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		name, end, several := strings.Cut(lines[i], "<<")
		if n, v, ok := strings.Cut(lines[i], "="); ok && (!several || len(n) < len(name)) {
			got[n] = v
			continue
		}
		if !several {
			t.Fatalf("line %d: %q", i+1, lines[i])
		}
		var value []string
		for i++; i < len(lines) && lines[i] != end; i++ {
			value = append(value, lines[i])
		}
		if i == len(lines) {
			t.Fatalf("%s does not end", name)
		}
		got[name] = strings.Join(value, "\n")
	}
	return got
}

// TestOutputsCannotBeInjected: no value gets to write another one.
func TestOutputsCannotBeInjected(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "plain", "a\nb", "x\nverdict=PASSED", "x\nend-\nverdict<<E\nPASSED\nE", "a<<b", "=", "\n\n", "%0A", "::set-output name=verdict::PASSED",
	} {
		path := filepath.Join(t.TempDir(), "out")
		s := &streams{env: map[string]string{githubOutput: path}}
		for range 2 { // it is appended to
			if err := announce(s, []named{{"first", "1"}, {"reference", value}, {"last", "2"}}, new(resultFlags), nil); err != nil {
				t.Fatal(err)
			}
		}
		got := readOutputs(t, path)
		if len(got) != 3 || got["reference"] != value || got["first"] != "1" || got["last"] != "2" {
			t.Errorf("%q is read as %q", value, got)
		}
	}
}

// TestSummaryStaysShown: what would be too long is left out, what others wrote
// stays.
func TestSummaryStaysShown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "summary")
	for _, text := range []string{"# one\n", "# two\n" + strings.Repeat("x", maxSummary), "# three\n"} {
		if err := appendSummary(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "# one\n\n# two\n\nToo long for this page.\n# three\n\n"; string(b) != want {
		t.Errorf("summary is %q, want %q", clipped(b), want)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("y"), maxSummary), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := appendSummary(path, []byte("# four\n")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != maxSummary {
		t.Errorf("a full summary became %d bytes (%v)", info.Size(), err)
	}
}

func clipped(b []byte) []byte { return b[:min(len(b), 200)] }

// TestScanAnnounces: a scan in a pipeline leaves its verdict and a summary,
// also when it fails, and names of files are no markup in it.
func TestScanAnnounces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := "a`|<b>[x](y).bin"
	if err := os.WriteFile(filepath.Join(dir, name), []byte("\x80\x04cos\nsystem\n."), 0o600); err != nil {
		t.Fatal(err)
	}
	out, summary := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "summary")
	var stdout, stderr bytes.Buffer
	s := &streams{in: strings.NewReader(""), out: &stdout, err: &stderr, env: map[string]string{githubOutput: out, githubSummary: summary}}
	if code := run(context.Background(), []string{program, "scan", dir}, s); code != exitPolicy {
		t.Fatalf("exit code %d: %s%s", code, &stdout, &stderr)
	}
	if got := readOutputs(t, out); got["verdict"] != scan.Unsafe.String() || got["failed"] != "true" || got["files"] != "1" {
		t.Errorf("outputs are %q", got)
	}
	b, err := os.ReadFile(summary)
	if err != nil || !bytes.Contains(b, []byte("## weightseal scan: failed")) || !bytes.Contains(b, []byte("`` a`\\|<b>[x](y).bin ``")) {
		t.Errorf("summary is %s (%v)", b, err)
	}
}

// TestResultFiles: each command writes all that it says it can, as it is, also
// when it fails by policy, and refuses a name that it does not know before it
// does anything.
func TestResultFiles(t *testing.T) {
	t.Parallel()
	dir, key, pub := t.TempDir(), keyFile(t, "ours.key"), keyFile(t, "ours.pub")
	ref := "oci:" + filepath.Join(dir, "layout") + ":v1"
	model := placed(t, map[string][]byte{"pytorch_model.bin": demoCheckpoint})
	for _, c := range []struct {
		args  []string
		names []string
		code  int
		want  map[string]string
	}{
		{[]string{"push", model, ref, "--key", key}, pushResults(), exitOK, map[string]string{"verdict": "PASSED", "attested": "true"}},
		{[]string{"verify", ref, "--key", pub}, verifyResults(), exitOK, map[string]string{"verdict": "PASSED", "allowed": "true"}},
		{[]string{"scan", model}, scanResults(), exitPolicy, map[string]string{"verdict": "convertible", "failed": "true", "files": "1"}},
	} {
		args := c.args
		for _, name := range c.names {
			args = append(args, "--result", name+"="+filepath.Join(dir, name))
		}
		if r := execute(t, args...); r.code != c.code {
			t.Fatalf("%v: exit code %d\n%s", c.args, r.code, r.err)
		}
		for _, name := range c.names {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if want := c.want[name]; err != nil || len(b) == 0 || bytes.ContainsAny(b, "\r\n") || want != "" && string(b) != want {
				t.Errorf("%s: %s is %q, want %q (%v)", c.args[0], name, b, want, err)
			}
			_ = os.Remove(filepath.Join(dir, name))
		}
		for _, bad := range []string{"nothing=x", "digest", "=x", "verdict="} {
			if r := execute(t, append(c.args, "--result", bad)...); r.code != exitUsage || !strings.Contains(r.err, "--result") {
				t.Errorf("%s --result %s: exit code %d\n%s", c.args[0], bad, r.code, r.err)
			}
		}
	}
}

// TestReportFiles: one scan writes as many reports as are asked for, also when
// it fails, and they are those of --output.
func TestReportFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model := placed(t, map[string][]byte{"pytorch_model.bin": demoCheckpoint})
	args := []string{"scan", model}
	for _, form := range scanOutputs {
		args = append(args, "--report", form.name+"="+filepath.Join(dir, form.name))
	}
	if r := execute(t, args...); r.code != exitPolicy {
		t.Fatalf("exit code %d\n%s", r.code, r.err)
	}
	for _, form := range scanOutputs {
		b, err := os.ReadFile(filepath.Join(dir, form.name))
		if want := execute(t, "scan", model, "--output", form.name).out; err != nil || string(b) != want || want == "" {
			t.Errorf("%s: the report is\n%s\nwant\n%s (%v)", form.name, b, want, err)
		}
	}
	for _, bad := range []string{"sarif", "yaml=x", "sarif="} {
		if r := execute(t, "scan", model, "--report", bad); r.code != exitUsage || !strings.Contains(r.err, "report") {
			t.Errorf("--report %s: exit code %d\n%s", bad, r.code, r.err)
		}
	}
	own := filepath.Join(model, "pytorch_model.bin")
	if r := execute(t, "scan", model, "--report", "json="+own); r.code != exitUsage || !strings.Contains(r.err, "part of what is scanned") {
		t.Errorf("a report over the model: exit code %d\n%s", r.code, r.err)
	}
	if got, err := os.ReadFile(own); err != nil || !bytes.Equal(got, demoCheckpoint) {
		t.Errorf("a report over the model: it is gone (%v)", err)
	}
	if r := execute(t, "scan", model, "--report", "json="+filepath.Join(dir, "no", "such")); r.code != exitError {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
}
