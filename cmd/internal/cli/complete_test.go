package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commandLine runs a command line in this process.
func commandLine(t *testing.T, args ...string) (code int, out, stderr string) {
	t.Helper()
	return commandLineWith(t, map[string]string{"HOME": t.TempDir()}, args...)
}

func commandLineWith(t *testing.T, env map[string]string, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	s := &streams{in: strings.NewReader(""), out: &o, err: &e, env: env}
	code = run(t.Context(), append([]string{program}, args...), s)
	return code, o.String(), e.String()
}

// The words that shells complete are those that the commands take: a wrong one
// is refused with a list of the right ones.
func TestCompletedWordsAreTaken(t *testing.T) {
	t.Parallel()
	root := newRoot(&streams{env: map[string]string{}}, host{name: program})
	checked := 0
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			words := flagWords(cmd.Name(), f.Name)
			if words == nil || f.Name == "policy" || f.Name == "fail-on" {
				return
			}
			args := []string{cmd.Name(), "--" + f.Name, "no-such-word"}
			for range strings.Count(strings.TrimSuffix(cmd.Use, " [OUT]"), " ") {
				args = append(args, "x")
			}
			code, _, stderr := commandLine(t, args...)
			if want := "want one of " + strings.Join(words, ", ") + "\n"; code != exitUsage || !strings.Contains(stderr, want) {
				t.Errorf("%q: exit code %d, want %q in\n%s", args, code, want, stderr)
			}
			checked++
		})
	}
	if checked < 15 {
		t.Errorf("only %d flags were checked", checked)
	}
}

// Every command that has arguments says what to complete there, or that nothing
// is to be.
func TestArgumentsHaveACompletion(t *testing.T) {
	t.Parallel()
	files := map[string]bool{"sign-blob": true, "verify-blob": true, "attest-blob": true, "verify-blob-attestation": true}
	root := newRoot(&streams{env: map[string]string{}}, host{name: program})
	known := map[string]bool{}
	for _, cmd := range root.Commands() {
		known[cmd.Name()] = true
		if cmd.Hidden || cmd.HasSubCommands() || !strings.Contains(cmd.Use, " ") || files[cmd.Name()] {
			continue
		}
		if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil {
			t.Errorf("%s: shells complete its arguments with files: is that what it takes?", cmd.Use)
		}
	}
	for name := range argumentsOf() {
		if !known[name] {
			t.Errorf("%s is completed, but is no command", name)
		}
	}
	if cmd, _, err := root.Find([]string{"verify"}); err != nil || cmd.ValidArgsFunction == nil {
		t.Errorf("verify has no completion: %v", err)
	}
}

// A registry that does not answer costs a shell little time, and no message.
func TestCompletionGivesUp(t *testing.T) {
	t.Parallel()
	for _, ref := range []string{"127.0.0.1:1/a/b:", "no such:", "oci:/nowhere/at/all:", "oci:\x00:"} {
		code, out, stderr := commandLine(t, cobra.ShellCompRequestCmd, "verify", ref)
		if code != exitOK || !strings.HasPrefix(out, ":") || strings.Contains(stderr, "error") {
			t.Errorf("%q: exit code %d, output %q, errors %q", ref, code, out, stderr)
		}
	}
}
