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
	report(&streams{err: &out}, &torch.UnsupportedError{Path: "w", What: "sparse tensor", Next: "save w.to_dense()"})
	if got := out.String(); strings.Count(got, "to_dense") != 1 || !strings.HasSuffix(got, "\nhint: save w.to_dense()\n") {
		t.Errorf("%s", got)
	}
	sparse, meta := &torch.UnsupportedError{Next: "one"}, &torch.UnsupportedError{Next: "two"}
	err := fmt.Errorf("dir: %w", errors.Join(fmt.Errorf("a: %w", sparse), meta, sparse))
	if got := classify(err).hints; !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q", got)
	}
}
