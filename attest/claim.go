package attest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
)

// Claim is what an attestation says, whoever wrote it: anybody who may push
// can attach one. It is for showing, beside a word that it is not verified;
// nothing that decides takes it.
type Claim struct {
	Where         string // the referrer or layer that it was found in
	Time          time.Time
	Result        string // computed from the facts that it gives
	Level         int
	WeightsDigest string
}

// ClaimOf gives the newest claim about subject. Signatures are not looked at.
// Errors: one that wraps ErrNoAttestation, and those of the store.
func ClaimOf(ctx context.Context, s oci.Store, subject ocispec.Descriptor) (*Claim, error) {
	if _, err := digestHex(subject.Digest.String()); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	find := &search{store: s, subject: subject.Digest}
	found, err := find.run(ctx)
	if err != nil {
		return nil, err
	}
	var best *Claim
	for _, l := range found {
		if c, err := l.claim(subject.Digest.String()); err == nil && (best == nil || c.Time.After(best.Time)) {
			best = c
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w of %s", ErrNoAttestation, subject.Digest)
	}
	return best, nil
}

// claim reads one attestation, if it is a statement about the subject.
func (l located) claim(subject string) (*Claim, error) {
	if l.err != nil {
		return nil, l.err
	}
	st, err := decodeStatement(l.envelope.payload)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(st.checkTypes(), st.checkSubject(subject)); err != nil {
		return nil, err
	}
	p, err := st.decodePredicate()
	if err != nil {
		return nil, err
	}
	t, err := time.Parse(time.RFC3339, p.TimeEvaluated)
	if err != nil {
		return nil, errors.New("no time")
	}
	c := &Claim{Where: l.where, Time: t.UTC(), WeightsDigest: p.WeightsDigest}
	c.Result, c.Level, _ = p.Evaluate()
	if p.Result == Failed {
		c.Result = Failed
	}
	return c, nil
}
