package cli

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// Flags that mean what they mean in oras, crane and cosign have the name that
// they have there: the real programs are asked. That they do what they say is
// shown by the scripts login, flags and line.
func TestFlagsOfPeers(t *testing.T) {
	t.Parallel()
	type command struct{ tool, args string }
	var (
		orasPull    = command{"oras", "pull"}
		orasLogin   = command{"oras", "login"}
		orasTags    = command{"oras", "repo tags"}
		craneLogin  = command{"crane", "auth login"}
		cosignCheck = command{"cosign2", "verify-attestation"}
		cosignSign  = command{"cosign2", "attest"}
		cosignBlob  = command{"cosign2", "sign-blob"}
		checkBlob   = command{"cosign2", "verify-blob"}
	)
	readers := []string{"pull", "verify", "scan", "inspect", "convert", "diff", "push", "tags", "ls", "history"}
	certificates := []string{"verify", "pull", "ls", "history"}
	for _, test := range []struct {
		flag string
		peer []command
		ours []string
	}{
		{"--plain-http", []command{orasPull, orasLogin, orasTags}, append(readers, "login")},
		{"--insecure", []command{orasPull, orasLogin, craneLogin}, append(readers, "login")},
		{"--ca-file", []command{orasPull, orasLogin}, append(readers, "login")},
		{"--registry-config", []command{orasPull, orasLogin, orasTags}, append(readers, "login", "logout")},
		{"-u, --username", []command{orasPull, orasLogin, craneLogin}, append(readers, "login")},
		{"--password-stdin", []command{orasPull, orasLogin, craneLogin}, append(readers, "login")},
		{"--concurrency", []command{orasPull}, readers},
		{"--key", []command{cosignCheck, cosignSign, cosignBlob, checkBlob}, []string{"verify", "pull", "push", "ls", "history", "sign-blob", "verify-blob"}},
		{"--certificate-identity", []command{cosignCheck}, certificates},
		{"--certificate-identity-regexp", []command{cosignCheck}, certificates},
		{"--certificate-oidc-issuer", []command{cosignCheck}, certificates},
		{"--certificate-oidc-issuer-regexp", []command{cosignCheck}, certificates},
		{"--trusted-root", []command{cosignCheck}, certificates},
		{"--insecure-ignore-tlog", []command{cosignCheck}, certificates},
		{"--output-signature", []command{cosignBlob}, []string{"sign-blob"}},
		{"--signature", []command{checkBlob}, []string{"verify-blob"}},
	} {
		listed := regexp.MustCompile(`(?m)^ +(-\w, )?` + regexp.QuoteMeta(test.flag) + `[ =\[\n]`)
		for _, p := range test.peer {
			// Help goes to either stream.
			out, err := exec.CommandContext(t.Context(), realtools.Path(t, p.tool), append(strings.Fields(p.args), "--help")...).CombinedOutput()
			if err != nil || !listed.Match(out) {
				t.Errorf("%s %s has no %s (%v)", p.tool, p.args, test.flag, err)
			}
		}
		for _, name := range test.ours {
			if code, out, _ := commandLine(t, name, "--help"); code != exitOK || !listed.MatchString(out) {
				t.Errorf("%s has no %s", name, test.flag)
			}
		}
	}
}
