package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/oci"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	untrusted := attest.Attempt{Where: "referrer a", Reason: "not signed", Err: errors.New("not signed")}
	failed := attest.Attempt{Where: "referrer b", Reason: "FAILED", Err: fmt.Errorf("%w at noon", attest.ErrFailed)}
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"no attestation": {fmt.Errorf("%w of x", attest.ErrNoAttestation), exitAttestation},
		"not trusted":    {&attest.VerifyError{Tried: []attest.Attempt{untrusted}}, exitAttestation},
		"says FAILED":    {&attest.VerifyError{Tried: []attest.Attempt{failed, untrusted}}, exitPolicy},
		"lossy":          {&torch.UnsupportedError{What: "sparse tensor"}, exitLossy},
		"network":        {&oci.NetworkError{Err: errors.New("reset")}, exitNetwork},
		"interrupted":    {context.Canceled, exitInterrupted},
		"anything else":  {errors.New("else"), exitError},
	} {
		for _, err := range []error{test.err, fmt.Errorf("file: %w", test.err)} {
			if got := classify(err).code; got != test.want {
				t.Errorf("%s: %v gives %d, want %d", name, err, got, test.want)
			}
		}
	}
}

// What to do next is told once, and for every file that needs something else.
func TestNextStepIsAHint(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	report(&streams{err: &out}, &torch.UnsupportedError{Path: "w", What: "sparse tensor", Next: "save w.to_dense()"}, program)
	if got := out.String(); strings.Count(got, "to_dense") != 1 || !strings.HasSuffix(got, "\nhint: save w.to_dense()\n") {
		t.Errorf("%s", got)
	}
	sparse, meta := &torch.UnsupportedError{Next: "one"}, &torch.UnsupportedError{Next: "two"}
	err := fmt.Errorf("dir: %w", errors.Join(fmt.Errorf("a: %w", sparse), meta, sparse))
	if got := classify(err).hints; !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q", got)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain: a\tb\nc":                 "plain: a\tb\nc",
		"grüße, 模型, ünï":                 "grüße, 模型, ünï",
		"\x1b[2J":                        `\x1b[2J`,
		"a\rb\x00\x7f\u009b":             `a\x0db\x00\x7f\x9b`,
		"model\u202esrotsnetefas.bin":    `model\u{202e}srotsnetefas.bin`,
		"\u202a\u202b\u202c\u202d\u202e": `\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}`,
		"\u2066\u2067\u2068\u2069":       `\u{2066}\u{2067}\u{2068}\u{2069}`,
		"\u200b\u200c\u200d\u200e\u200f": `\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}`,
		"\ufeffx":                        `\u{feff}x`,
		"\u200a\u2010\u202f\u2065x":      "\u200a\u2010\u202f\u2065x",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}
