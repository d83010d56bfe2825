package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

// The exit codes: an interface that scripts rely on (docs/exit-codes.md).
const (
	exitOK          = 0
	exitError       = 1   // unexpected error
	exitUsage       = 2   // the command line is wrong
	exitPolicy      = 3   // policy violated, or findings at or above --fail-on
	exitAttestation = 4   // attestation missing, invalid or not trusted
	exitLossy       = 5   // cannot convert without loss
	exitNetwork     = 6   // network or registry
	exitInterrupted = 130 // SIGINT or SIGTERM
)

// failure is an error with its exit code and what to do about it.
type failure struct {
	code  int
	err   error
	hints []string
	told  bool // the cause has been printed already, as part of the result
	aided bool // so have been the hints
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, err error, hints ...string) error {
	return &failure{code: code, err: err, hints: hints}
}

func usage(hint, format string, args ...any) error {
	f := &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
	if hint != "" {
		f.hints = []string{hint}
	}
	return f
}

// report prints an error with what to do about it, and gives the exit code.
// called is the command that ends in it.
func report(s *streams, err error, called string) int {
	if err == nil {
		return exitOK
	}
	f := classify(err)
	p := s.errPage()
	if !f.told {
		fmt.Fprintf(p, "%s %s\n", p.paint(bad, "error:"), printable(f.err.Error()))
	}
	hints := f.hints
	if len(hints) == 0 && !f.aided {
		hints = lastHints(f, called)
	}
	for _, h := range hints {
		fmt.Fprintf(p, "%s %s\n", p.paint(doubtful, "hint:"), printable(h))
	}
	return f.code
}

// classify finds the exit code and the hints for an error of any package.
func classify(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	if code, hints, ok := classifyTrust(err); ok {
		return &failure{code: code, err: err, hints: hints}
	}
	if code, hints, ok := classifyConversion(err); ok {
		return &failure{code: code, err: err, hints: hints}
	}
	code, hints := classifyWorld(err)
	return &failure{code: code, err: err, hints: hints}
}

func classifyTrust(err error) (int, []string, bool) {
	var verify *attest.VerifyError
	switch {
	case errors.Is(err, attest.ErrNoAttestation):
		return exitAttestation, []string{"push it with a key, and the attestation is made: weightseal push SOURCE REF --key cosign.key"}, true
	case errors.Is(err, attest.ErrFailed):
		return exitPolicy, nil, true
	case errors.As(err, &verify):
		return exitAttestation, nil, true
	case errors.Is(err, attest.ErrPassword):
		return exitError, []string{"the password of the key is taken from COSIGN_PASSWORD, or asked for on a terminal"}, true
	}
	return 0, nil, false
}

func classifyConversion(err error) (int, []string, bool) {
	var (
		forbidden *torch.ForbiddenError
		ambiguous *torch.AmbiguousError
		clash     *convert.ClashError
		index     *convert.IndexError
		proof     *convert.ProofError
		refused   *torch.RefusedError
		malformed *torch.FormatError
		stream    *pickle.Error
		broken    *safetensors.Error
		lossy     interface {
			error
			NextStep() string
		}
	)
	switch {
	case errors.As(err, &forbidden) && !forbidden.Inert:
		return exitPolicy, []string{"nothing of it was executed; do not load it with torch.load(weights_only=False)"}, true
	case errors.As(err, new(*numpy.ForbiddenError)):
		return exitPolicy, []string{"nothing of it was executed; do not load it with pickle.load or joblib.load"}, true
	case errors.As(err, &forbidden):
		return exitLossy, []string{"take the tensors alone: --weights-only"}, true
	case errors.As(err, &ambiguous):
		hints := make([]string, 0, len(ambiguous.Candidates))
		for _, c := range ambiguous.Candidates {
			hints = append(hints, "--select "+c)
		}
		return exitLossy, hints, true
	case errors.As(err, &lossy), errors.As(err, new(*format.Error)):
		return exitLossy, nextSteps(err), true
	case errors.As(err, &clash):
		return exitLossy, []string{"choose one of them: --exclude " + quoted(clash.Exclude, " --exclude "), "see, in the model's folder, whether they hold the same weights: weightseal diff " + quoted(clash.Inputs[:min(2, len(clash.Inputs))], " ")}, true
	case errors.As(err, &index):
		return exitLossy, []string{"get the set complete, or remove its index (a push can leave it out: --exclude " + index.Path + ")"}, true
	case errors.As(err, &proof), errors.As(err, &refused), errors.As(err, &malformed),
		errors.As(err, &stream), errors.As(err, &broken), errors.Is(err, torch.ErrNotTorch):
		return exitLossy, nil, true
	case errors.Is(err, convert.ErrNoConverter):
		return exitLossy, noConverterHints(err), true
	}
	return 0, nil, false
}

// noConverterHints says what to convert instead, where there is something.
func noConverterHints(err error) []string {
	var none *convert.NoConverterError
	if !errors.As(err, &none) {
		return nil
	}
	switch {
	case none.To != model.Safetensors && noConverter(none.From) == nil:
		return []string{"convert it to safetensors first, and the result with the same --to"}
	case none.From == model.JSON:
		return []string{"a JSON file holds no tensors; an index is rewritten with its shards: weightseal convert DIR OUTDIR"}
	}
	return nil
}

// quoted joins names as words that can be pasted.
func quoted(names []string, sep string) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = policy.ShellQuote(n)
	}
	return strings.Join(words, sep)
}

func classifyWorld(err error) (int, []string) {
	var (
		unknown   *policy.UnknownError
		reference *oci.ReferenceError
		network   *oci.NetworkError
		manifest  *oci.ManifestError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted, nil
	case errors.As(err, &unknown):
		return exitUsage, []string{oneOfHint("policy", unknown.Name, unknown.Known)}
	case errors.Is(err, model.ErrNotFollowed):
		return exitError, []string{"a copy has files in place of links: cp -rL SOURCE COPY"}
	case errors.Is(err, model.ErrChanged):
		return exitError, []string{"try again when nobody writes to it"}
	case errors.As(err, &reference):
		return exitUsage, []string{"a reference is REGISTRY/REPOSITORY:TAG, or oci:DIR:TAG for a layout on disk"}
	case errors.Is(err, oci.ErrUnauthorized):
		return exitNetwork, unauthorizedHints(err)
	case errors.As(err, new(*oci.HelperError)):
		return exitError, []string{"docker's config.json names this helper (credsStore, credHelpers): install it, or give another file: --registry-config FILE"}
	case errors.As(err, &network), errors.Is(err, oci.ErrNotFound):
		return exitNetwork, networkHints(err)
	case errors.As(err, &manifest), errors.As(err, new(*oci.UnsupportedError)):
		return exitNetwork, []string{"what the registry holds under this reference cannot be taken as files; see its manifest: oras manifest fetch"}
	}
	return exitError, nil
}

func networkHints(err error) []string {
	var (
		tlsRecord tls.RecordHeaderError
		dns       *net.DNSError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &tlsRecord), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return []string{"a registry without TLS needs --plain-http"}
	case errors.Is(err, oci.ErrNotFound):
		return notFoundHints(err)
	case errors.As(err, &dns), errors.As(err, &op):
		return unreachableHints(err)
	}
	return nil
}

// nextSteps gives what every error in err that cannot be converted without loss
// says to do next: a folder may have several such files.
func nextSteps(err error) []string {
	if u, ok := err.(interface{ NextStep() string }); ok { // this walks the chain itself
		if u.NextStep() == "" {
			return nil
		}
		return []string{u.NextStep()}
	}
	var causes []error
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() []error }:
		causes = e.Unwrap()
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	}
	var steps []string
	for _, cause := range causes {
		for _, step := range nextSteps(cause) {
			if !slices.Contains(steps, step) {
				steps = append(steps, step)
			}
		}
	}
	return steps
}

// printable makes text from outside safe for a terminal: control characters
// are escaped, apart from the newlines that our own messages have, and so are
// the characters that nobody sees but that change what is seen.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool { return isControl(r) || isInvisible(r) }) >= 0 {
		var b strings.Builder
		for i, r := range s {
			_, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1: // a byte of no character
				fmt.Fprintf(&b, "\\x%02x", s[i])
			case isControl(r):
				fmt.Fprintf(&b, "\\x%02x", r)
			case isInvisible(r):
				fmt.Fprintf(&b, "\\u{%x}", r)
			default:
				b.WriteRune(r)
			}
		}
		s = b.String()
	}
	if strings.Contains(s, "::") {
		s = colonCommand.ReplaceAllString(s, `$1\::`)
	}
	return hashCommand.ReplaceAllString(s, `#\#$1`)
}

// What a CI system takes for a command where it stands in the log of a job: a
// line that begins with two colons (GitHub), and ##[...] or ##word[...] anywhere
// (Azure Pipelines, TeamCity). A name in a model must not give commands.
var (
	colonCommand = regexp.MustCompile(`(?m)^([ \t]*)::`)
	hashCommand  = regexp.MustCompile(`##([A-Za-z]*\[)`)
)

func isControl(r rune) bool {
	return r != '\n' && r != '\t' && (r < 0x20 || r >= 0x7f && r <= 0x9f)
}

// isInvisible says whether a character has no width, ends a line, or turns the
// direction of what follows (Unicode's categories Cf, Zl and Zp, and the Hangul
// fillers): a name could then read as another.
func isInvisible(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x3164, 0xffa0:
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}
