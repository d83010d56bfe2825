// Package attest makes, signs, stores, finds and verifies the safetensors
// compliance statement: an in-toto Statement v1 in a DSSE envelope, stored as
// a Sigstore bundle v0.3 referrer and under cosign's legacy attestation tag.
package attest

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
)

// PredicateType is compared as an exact string.
const PredicateType = "https://weightseal.dev/safetensors-compliance/v1"

// NewStatement builds the statement over one subject, the manifest's digest
// ("sha256:..."). The predicate's Result is recomputed.
func NewStatement(name, digest string, p *Predicate) ([]byte, error) { panic("unbuilt") }

// GenerateKey makes a cosign key pair: the encrypted private key and the
// public key, both PEM.
func GenerateKey(password []byte) (private, public []byte, err error) { panic("unbuilt") }

// Signer signs statements.
type Signer interface {
	// Sign gives the DSSE envelope as JSON.
	Sign(ctx context.Context, statement []byte) ([]byte, error)
	// PublicKey is the PKIX DER form.
	PublicKey() ([]byte, error)
}

// LoadSigner reads a private key: a cosign key file. password is asked for
// only when the key is encrypted.
func LoadSigner(keyFile string, password func() ([]byte, error)) (Signer, error) { panic("unbuilt") }

// Attach signs nothing: it stores a signed envelope beside its subject, in
// both forms, and reads it back. Concurrent writers of the legacy tag are
// merged as far as a registry allows.
func Attach(ctx context.Context, s oci.Store, subject ocispec.Descriptor, envelope []byte, signer Signer) (*Stored, error) {
	panic("unbuilt")
}

// Stored is where an attestation went.
type Stored struct {
	Bundle ocispec.Descriptor // the referrer
	Legacy ocispec.Descriptor // the manifest behind the .att tag
}

// Trust says whose statements count.
type Trust struct {
	Keys []PublicKey
	// MaxAge, when positive, refuses statements that are older.
	MaxAge time.Duration
}

// PublicKey is a key that is trusted.
type PublicKey struct {
	Name string // the file it came from
	DER  []byte // PKIX
}

// LoadPublicKey reads a PEM public key (also out of a cosign.pub or a PEM
// certificate).
func LoadPublicKey(path string) (PublicKey, error) { panic("unbuilt") }

// Verified is a statement whose signature, types and subject have been
// checked. Only Verify makes one.
type Verified struct {
	subject   string
	predicate Predicate
	payload   []byte
	checks    []Check
}

// Check is one thing that was checked, or that was skipped on request.
type Check struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Done   bool   `json:"done"`
}

// Verify finds the attestations of subject in both forms and verifies them.
// It needs one good statement; what does not verify is ignored but told in the
// error when nothing is good. The newest statement of a trusted signer that
// says FAILED blocks. ErrNoAttestation and *VerifyError are its errors, beside
// those of the store.
func Verify(ctx context.Context, s oci.Store, subject ocispec.Descriptor, trust Trust) (*Verified, error) {
	panic("unbuilt")
}
