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

// trustView says how far an artifact can be trusted.
type trustView struct {
	State  string `json:"state"`
	Key    string `json:"key,omitempty"`    // that signed
	Result string `json:"result,omitempty"` // of the statement
	Level  int    `json:"level,omitempty"`
	Reason string `json:"reason,omitempty"` // for not trusting it
}

// trustIn finds the state of trust. Where somebody is
// trusted, the attestations are verified; an error is a failure to look, not a
// verdict.
func trustIn(ctx context.Context, store oci.Store, d ocispec.Descriptor, attached int, trusted *attest.Trust) (trustView, error) {
	switch {
	case trusted == nil && attached == 0:
		return trustView{State: trustUnsigned}, nil
	case trusted == nil:
		return trustView{State: trustUnverified}, nil
	}
	v, err := attest.Verify(ctx, store, d, *trusted)
	switch {
	case errors.Is(err, attest.ErrNoAttestation):
		return trustView{State: trustUnsigned}, nil
	case errors.As(err, new(*attest.VerifyError)):
		return trustView{State: trustUntrusted, Reason: err.Error()}, nil
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
	case trustUntrusted:
		return "not trusted: " + strings.ReplaceAll(t.Reason, "\n", "; ")
	case trustUnverified:
		return "attested, not verified: weightseal verify " + policy.ShellQuote(ref) + " --key cosign.pub"
	}
	return "not signed: nobody vouches for it"
}
