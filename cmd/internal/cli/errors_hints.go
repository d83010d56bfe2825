package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

// lastHints say what to do about an error that does not say it itself. called is
// the command, such as weightseal push.
func lastHints(f *failure, called string) []string {
	if f.code == exitInterrupted {
		return nil
	}
	for _, hints := range [][]string{fileHints(f.err), trustHints(f.err), registryHints(f.err)} {
		if len(hints) > 0 {
			return hints
		}
	}
	switch f.code {
	case exitUsage:
		return []string{called + " --help"}
	case exitPolicy:
		return policyHints(called)
	case exitLossy:
		return []string{"see what the file is: weightseal scan SOURCE; when it was downloaded, download it again"}
	case exitAttestation:
		return []string{"see what is attached: weightseal inspect REF"}
	case exitNetwork:
		return []string{"try again; what has been transferred is not sent twice"}
	}
	return []string{"weightseal version, and what you have done: https://github.com/weightseal/weightseal/issues"}
}

// fileHints are about files and folders of this machine.
func fileHints(err error) []string {
	var path *fs.PathError
	switch found := errors.As(err, &path); {
	case !found:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return missingHints(path.Path)
	case errors.Is(err, fs.ErrPermission):
		return []string{"ls -ld " + policy.ShellQuote(path.Path)}
	case errors.Is(err, syscall.ENOSPC):
		return []string{"make room, and run it again: df -h " + policy.ShellQuote(filepath.Dir(path.Path))}
	case errors.Is(err, syscall.EISDIR):
		return []string{"name a file in it: ls " + policy.ShellQuote(path.Path)}
	}
	return []string{"ls -l " + policy.ShellQuote(path.Path)}
}

// missingHints say what may have been meant by a path that is not there.
func missingHints(path string) []string {
	if near := nearFile(path); near != "" {
		return []string{"did you mean: " + policy.ShellQuote(near)}
	}
	return []string{"see what is there: ls " + policy.ShellQuote(filepath.Dir(path))}
}

func trustHints(err error) []string {
	switch {
	case errors.Is(err, attest.ErrFailed):
		return []string{"read why: weightseal verify REF --key cosign.pub --output statement"}
	case errors.As(err, new(*attest.VerifyError)):
		return []string{"name the public half of the key that signed it: --key OTHER.pub; weightseal inspect REF says what is attached"}
	}
	return nil
}

func registryHints(err error) []string {
	var (
		digest *oci.DigestError
		limit  *oci.LimitError
		answer *oci.RegistryError
	)
	switch {
	case errors.As(err, &digest):
		return []string{"the bytes are not those that the manifest names; fetch them again, or push the model again: weightseal push SOURCE REF --key cosign.key"}
	case errors.As(err, &limit):
		return []string{"push fewer files: --exclude 'GLOB'"}
	case !errors.As(err, &answer):
		return nil
	case answer.Status == http.StatusForbidden:
		return []string{"log in as who may do that: " + loginCommand(err)}
	case answer.Status == http.StatusTooManyRequests:
		return []string{"wait a minute, and ask for less at a time: --concurrency 1"}
	}
	return []string{"run it again; when it stays, ask who runs the registry about: " + answer.Method + " " + policy.ShellQuote(answer.URL)}
}

func policyHints(called string) []string {
	switch {
	case strings.HasSuffix(called, " diff"):
		return []string{"all of them: --limit 0 --output json"}
	case strings.HasSuffix(called, " push"):
		return []string{"see every file's decision: --dry-run"}
	}
	return []string{called + " --help says what a policy allows; another one: --policy " + policy.Names()[0]}
}

// registryHost is the host that a network error is about; "" for none.
func registryHost(err error) string {
	var network *oci.NetworkError
	if !errors.As(err, &network) {
		return ""
	}
	host, _, ok := strings.Cut(network.Ref, "/")
	if !ok || strings.HasPrefix(network.Ref, "oci:") {
		return ""
	}
	return host
}

// notFoundHints are for a name or tag that is not there.
func notFoundHints(err error) []string {
	const look = "look at the name and the tag: no tag means latest"
	var network *oci.NetworkError
	if registryHost(err) == "" || !errors.As(err, &network) {
		return []string{look + ": ls DIR, or weightseal inspect oci:DIR:TAG"}
	}
	repository := network.Ref
	if i := strings.LastIndexAny(repository, ":@"); i > strings.LastIndex(repository, "/") {
		repository, _, _ = strings.Cut(repository, "@")
		if i < len(repository) {
			repository = repository[:i]
		}
	}
	return []string{look + "; the tags that are there: weightseal tags " + policy.ShellQuote(repository)}
}

func loginCommand(err error) string {
	if host := registryHost(err); host != "" {
		return "weightseal login " + policy.ShellQuote(host)
	}
	return "weightseal login REGISTRY"
}

// dockerHub is the host of a reference that names none, as docker has it.
const dockerHub = "index.docker.io"

const withoutRegistry = "a reference without a registry is one of Docker Hub; another is written REGISTRY/REPOSITORY:TAG"

// unauthorizedHints are for a registry that wants to know who asks.
func unauthorizedHints(err error) []string {
	hints := []string{"log in first: " + loginCommand(err)}
	if registryHost(err) == dockerHub {
		hints = append(hints, withoutRegistry)
	}
	return hints
}

// unreachableHints are for a registry that does not answer.
func unreachableHints(err error) []string {
	host := registryHost(err)
	if host == "" {
		return []string{"is the registry's name right, and does it answer?"}
	}
	if host == dockerHub {
		return []string{withoutRegistry, "does it answer? curl -sS https://" + dockerHub + "/v2/"}
	}
	var op *net.OpError
	if errors.As(err, &op) && errors.Is(err, syscall.ECONNREFUSED) {
		return []string{"nothing listens there: is the port right, and does the registry run? curl -sS " + policy.ShellQuote("https://"+host+"/v2/")}
	}
	return []string{"is the registry's name right, and does it answer? curl -sS " + policy.ShellQuote("https://"+host+"/v2/")}
}

// flagError is the error for flags that cannot be read.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := nearest(unknown.GetSpecifiedName(), names); near != "" {
			return fail(exitUsage, err, "did you mean: "+cmd.CommandPath()+" --"+near, cmd.CommandPath()+" --help")
		}
	}
	return usage(cmd.CommandPath()+" --help", "%w", err)
}

// oneOfHint is the word that a flag's value was probably meant to be, or one that
// it can have.
func oneOfHint(flag, value string, words []string) string {
	if near := nearest(value, words); near != "" {
		return fmt.Sprintf("did you mean: --%s %s", flag, near)
	}
	return fmt.Sprintf("--%s %s", flag, words[0])
}
