package attest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigverify "github.com/sigstore/sigstore-go/pkg/verify"
)

// Identity is who a signer's certificate must name: a subject, such as the
// address of a person or the URL of a workflow, and who vouched for it. Each is
// an exact text or a regular expression, which matches anywhere unless it is
// anchored; one of the two is needed for both.
type Identity struct {
	Subject, SubjectRegexp string
	Issuer, IssuerRegexp   string
}

// Certificates says which short-lived certificates count, beside keys.
type Certificates struct {
	Identities []Identity
	// Root is a Sigstore trusted root as JSON (trusted_root.json): the
	// authorities for certificates and time stamps, and the logs. Nothing is
	// fetched.
	Root []byte
	// IgnoreLog asks for no entry in a transparency log. A time stamp of an
	// authority is then needed.
	IgnoreLog bool
}

// certificateVerifier verifies bundles that are signed with certificates.
type certificateVerifier struct {
	verifier   *sigverify.Verifier
	identities []sigverify.CertificateIdentity
	log, sct   bool
}

// Check says whether everything that is needed is there and well-formed. Errors
// are *RootError and *IdentityError.
func (c *Certificates) Check() error {
	_, err := c.load()
	return err
}

// load checks what is trusted, as Check says.
func (c *Certificates) load() (*certificateVerifier, error) {
	trusted, err := root.NewTrustedRootFromJSON(c.Root)
	if err != nil {
		return nil, &RootError{Err: err}
	}
	if len(trusted.FulcioCertificateAuthorities()) == 0 {
		return nil, &RootError{Err: errors.New("it names no certificate authority")}
	}
	out := &certificateVerifier{log: !c.IgnoreLog, sct: len(trusted.CTLogs()) > 0}
	options := []sigverify.VerifierOption{sigverify.WithObserverTimestamps(1)}
	if out.log {
		options = append(options, sigverify.WithTransparencyLog(1))
	}
	if out.sct {
		options = append(options, sigverify.WithSignedCertificateTimestamps(1))
	}
	if out.verifier, err = sigverify.NewVerifier(trusted, options...); err != nil {
		return nil, &RootError{Err: err}
	}
	for _, id := range c.Identities {
		known, err := sigverify.NewShortCertificateIdentity(id.Issuer, id.IssuerRegexp, id.Subject, id.SubjectRegexp)
		if err != nil {
			return nil, &IdentityError{Err: err}
		}
		out.identities = append(out.identities, known)
	}
	if len(out.identities) == 0 {
		return nil, &IdentityError{Err: errors.New("no identity is named")}
	}
	return out, nil
}

// signing is who signed an envelope, and how that is known.
type signing struct {
	name   string // of the key or of the identity
	how    string // for people
	log    Check
	rest   []Check
	before time.Time // the signature was made before it; zero where nobody says
}

// verify verifies a bundle about the manifest with this SHA-256: the
// certificate's chain and identity, the time, the log's entry, and the
// signature.
func (c *certificateVerifier) verify(raw, sha256 []byte) (*signing, error) {
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	if content, err := b.VerificationContent(); err != nil || content.Certificate() == nil {
		return nil, errors.New("no certificate with it")
	}
	options := make([]sigverify.PolicyOption, len(c.identities))
	for i, id := range c.identities {
		options[i] = sigverify.WithCertificateIdentity(id)
	}
	result, err := c.verifier.Verify(b, sigverify.NewPolicy(sigverify.WithArtifactDigest("sha256", sha256), options...))
	if err != nil {
		return nil, err
	}
	cert := result.Signature.Certificate
	if cert == nil {
		return nil, errors.New("not signed with its certificate")
	}
	sig := &signing{
		name: cert.SubjectAlternativeName,
		how:  fmt.Sprintf("%s, for whom %s vouches, with a certificate of a trusted authority", quote(cert.SubjectAlternativeName), quote(cert.Issuer)),
		log:  Check{"transparency log", "an entry for it is in a trusted log", true},
		rest: []Check{{"certificate transparency", "the certificate is promised to a trusted log", true}},
	}
	if !c.log {
		sig.log = Check{"transparency log", "skipped on request", false}
	}
	if !c.sct {
		sig.rest[0] = Check{"certificate transparency", "the trusted root names no log for certificates", false}
	}
	var seen []string
	for _, t := range result.VerifiedTimestamps {
		seen = append(seen, t.Type)
		if sig.before.IsZero() || t.Timestamp.Before(sig.before) {
			sig.before = t.Timestamp
		}
	}
	sig.rest = append(sig.rest, Check{"signing time", sig.before.UTC().Format(time.RFC3339) + ", by " + strings.Join(seen, ", "), true})
	return sig, nil
}
