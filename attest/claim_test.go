package attest

import (
	"errors"
	"testing"
	"time"

	"github.com/weightseal/weightseal/oci"
)

// A claim is the newest statement about the manifest, whoever signed it; its
// result follows from its facts.
func TestClaimOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	m := pushModel(t, openLayout(t), "v1", "claim")
	claim := func() (*Claim, error) { return ClaimOf(t.Context(), m.store, m.subject) }
	if _, err := claim(); !errors.Is(err, ErrNoAttestation) {
		t.Fatalf("without a statement: %v", err)
	}
	ours, other := key(t, ourKey), key(t, otherKey)
	at := func(hours int) func(*Predicate) {
		return func(p *Predicate) { p.TimeEvaluated = now.Add(time.Duration(hours) * time.Hour).Format(time.RFC3339) }
	}
	m.attach(t, ours, m.statement(t, at(0)))
	c, err := claim()
	if err != nil || c.Result != Passed || c.Level != 4 || c.WeightsDigest != sha("weights") || !c.Time.Equal(now) || c.Where == "" {
		t.Fatalf("%+v, %v", c, err)
	}
	// Another model's statement, garbage and an older one change nothing.
	elsewhere := pushModel(t, openLayout(t), "v1", "elsewhere")
	m.plant(t, ours, sign(t, ours, elsewhere.statement(t, at(9))), inBundle)
	m.plantBundle(t, []byte("{"))
	m.attach(t, other, m.statement(t, at(-3), func(p *Predicate) { p.WeightsDigest = sha("others") }))
	if c, err = claim(); err != nil || c.WeightsDigest != sha("weights") {
		t.Errorf("%+v, %v", c, err)
	}
	// A newer one counts, and what it claims is computed again.
	lie := altered(t, sign(t, other, m.statement(t, at(1), func(p *Predicate) { p.Files[1].Blocked = true })), `"result":"FAILED"`, `"result":"PASSED"`)
	m.plant(t, other, lie, inLegacy)
	if c, err = claim(); err != nil || c.Result != Failed {
		t.Errorf("%+v, %v", c, err)
	}
}

// A registry that does not answer must not look like one without statements.
func TestClaimOfStoreErrors(t *testing.T) {
	t.Parallel()
	s, _, err := oci.Open("127.0.0.1:1/team/model:v1", oci.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	m := pushModel(t, openLayout(t), "v1", "m")
	var network *oci.NetworkError
	if _, err := ClaimOf(t.Context(), s, m.subject); !errors.As(err, &network) {
		t.Errorf("%v", err)
	}
}
