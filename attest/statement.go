package attest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/common"
)

// NewStatement builds the statement over one subject, the manifest's digest
// ("sha256:..."), as deterministic JSON: an in-toto Statement v1
// (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md). What
// is written is p.Completed(), and p's Result, Level and Summary are set to
// what was written.
func NewStatement(name, digest string, p *Predicate) ([]byte, error) {
	hexDigest, err := digestHex(digest)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	q, err := p.Completed()
	if err != nil {
		return nil, err
	}
	// The generic struct, not the protobuf message: that one keeps the
	// predicate as float64 maps and its JSON is not stable between builds.
	st := in_toto.Statement{ //nolint:staticcheck // see above
		StatementHeader: in_toto.StatementHeader{ //nolint:staticcheck // see above
			Type:          in_toto.StatementInTotoV1,
			PredicateType: PredicateType,
			Subject:       []in_toto.Subject{{Name: name, Digest: common.DigestSet{"sha256": hexDigest}}}, //nolint:staticcheck // see above
		},
		Predicate: q,
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	p.Result, p.Level, p.Summary = q.Result, q.Level, q.Summary
	return raw, nil
}

// statement is a statement as it is read: header and raw predicate.
type statement struct {
	in_toto.StatementHeader
	Predicate json.RawMessage `json:"predicate"`
}

// decodeStatement decodes a payload. Only its form is checked.
func decodeStatement(payload []byte) (*statement, error) {
	st := &statement{}
	if err := decodeStrict(payload, st); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	return st, nil
}

// decodePredicate decodes and validates the predicate of a statement.
func (st *statement) decodePredicate() (*Predicate, error) {
	if len(st.Predicate) == 0 || st.Predicate[0] != '{' {
		return nil, errors.New("predicate: not a JSON object")
	}
	p := &Predicate{}
	if err := decodeStrict(st.Predicate, p); err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	return p, nil
}

// checkTypes compares _type and predicateType, as exact strings. v0.1 is what
// cosign's command line writes.
func (st *statement) checkTypes() error {
	if st.Type != in_toto.StatementInTotoV1 && st.Type != in_toto.StatementInTotoV01 {
		return fmt.Errorf("statement type is %s, not %s", quote(st.Type), in_toto.StatementInTotoV1)
	}
	if st.PredicateType != PredicateType {
		return fmt.Errorf("predicate type is %s, not %s", quote(st.PredicateType), PredicateType)
	}
	return nil
}

// checkSubject wants exactly one subject with exactly one digest, the sha256
// that was asked about: no verifier can then match another one.
func (st *statement) checkSubject(digest string) error {
	if n := len(st.Subject); n != 1 {
		return fmt.Errorf("statement has %d subjects, not one", n)
	}
	set := st.Subject[0].Digest
	got, ok := set["sha256"]
	switch {
	case !ok || len(set) != 1:
		return fmt.Errorf("statement's subject has %d digests: want sha256 alone", len(set))
	case "sha256:"+got != digest:
		return fmt.Errorf("statement is about %s, not %s", quote("sha256:"+got), digest)
	}
	return nil
}

// digestHex takes "sha256:<64 lower-case hex digits>" apart.
func digestHex(d string) (string, error) {
	h, ok := strings.CutPrefix(d, "sha256:")
	if b, err := hex.DecodeString(h); !ok || err != nil || len(b) != 32 || h != strings.ToLower(h) {
		return "", fmt.Errorf("%s is not a sha256 digest (sha256: and 64 lower-case hex digits)", quote(d))
	}
	return h, nil
}

func isDigest(d string) bool {
	_, err := digestHex(d)
	return err == nil
}
