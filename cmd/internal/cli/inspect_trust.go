package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

// The states of trust in an artifact.
const (
	trustUnsigned = "unsigned"     // nothing is attached
	trustAttested = "not-verified" // something is, and no key was given to check it
	trustVerified = "verified"     // a key that was given signed a statement that says PASSED or FAILED
	trustBad      = "not-trusted"  // no key that was given signed a statement
)

// trustView says how far an artifact can be trusted.
type trustView struct {
	State  string `json:"state"`
	Key    string `json:"key,omitempty"`    // that signed
	Result string `json:"result,omitempty"` // of the statement
	Level  int    `json:"level,omitempty"`
	Reason string `json:"reason,omitempty"` // for not trusting it
}

// trustIn finds the state of trust. With keys the attestations are verified; an
// error is a failure to look, not a verdict.
func trustIn(ctx context.Context, store oci.Store, d ocispec.Descriptor, attached int, keys []string) (trustView, error) {
	switch {
	case len(keys) == 0 && attached == 0:
		return trustView{State: trustUnsigned}, nil
	case len(keys) == 0:
		return trustView{State: trustAttested}, nil
	}
	trusted, err := trust(keys)
	if err != nil {
		return trustView{}, err
	}
	v, err := attest.Verify(ctx, store, d, trusted)
	switch {
	case errors.Is(err, attest.ErrNoAttestation):
		return trustView{State: trustUnsigned}, nil
	case errors.As(err, new(*attest.VerifyError)):
		return trustView{State: trustBad, Reason: err.Error()}, nil
	case err != nil:
		return trustView{}, err
	}
	p := v.Predicate()
	result, level, _ := p.Evaluate()
	return trustView{State: trustVerified, Key: v.KeyName(), Result: result, Level: level}, nil
}

// text says it to people, with what to do.
func (t trustView) text(ref string) string {
	switch t.State {
	case trustVerified:
		return fmt.Sprintf("%s, ST%d, signed by %s", t.Result, t.Level, t.Key)
	case trustBad:
		return "not trusted: " + strings.ReplaceAll(t.Reason, "\n", "; ")
	case trustAttested:
		return "attested, not verified: weightseal verify " + policy.ShellQuote(ref) + " --key cosign.pub"
	}
	return "not signed: nobody vouches for it"
}
