package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/attest"
)

// How far what is attached to an artifact can be believed.
const (
	trustUnsigned   = "unsigned"   // there is nothing
	trustUnverified = "unverified" // nobody was named to trust
	trustUntrusted  = "untrusted"  // somebody was named, and this is not verified by them
	trustVerified   = "verified"   // signed by somebody who is trusted, and all checks passed
)

// trustFlags say whose statements count, named as cosign names them.
type trustFlags struct {
	keys []string
	// For certificates.
	identity, identityRegexp string
	issuer, issuerRegexp     string
	trustedRoot              string
	ignoreTlog               bool
}

func (t *trustFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&t.keys, "key", nil, "public key `file` to trust, or env://VARIABLE (repeatable)")
	f.StringVar(&t.identity, "certificate-identity", "", "`identity` to trust in certificates")
	f.StringVar(&t.identityRegexp, "certificate-identity-regexp", "", "`regular expression` for such identities")
	f.StringVar(&t.issuer, "certificate-oidc-issuer", "", "`URL` of who vouches for the identity")
	f.StringVar(&t.issuerRegexp, "certificate-oidc-issuer-regexp", "", "`regular expression` for such URLs")
	f.StringVar(&t.trustedRoot, "trusted-root", "", "`file` with the certificate authorities and logs to trust (trusted_root.json)")
	f.BoolVar(&t.ignoreTlog, "insecure-ignore-tlog", false, "ask certificates for no entry in a transparency log; with a key none is asked for")
}

// given says whether anybody is named.
func (t *trustFlags) given() bool { return len(t.keys) > 0 || t.certificates() }

// certificates says whether identities in certificates are named.
func (t *trustFlags) certificates() bool {
	return t.identity != "" || t.identityRegexp != "" || t.issuer != "" || t.issuerRegexp != "" || t.trustedRoot != ""
}

// maxTrustedRoot is the largest trusted root read, in bytes: the public one has
// some ten thousand.
const maxTrustedRoot = 4 << 20

// load reads what the flags name.
func (t *trustFlags) load(s *streams) (attest.Trust, error) {
	trusted, err := trust(s, t.keys)
	if err != nil || !t.certificates() {
		return trusted, err
	}
	for _, pair := range []struct{ name, exact, expression string }{
		{"certificate-identity", t.identity, t.identityRegexp}, {"certificate-oidc-issuer", t.issuer, t.issuerRegexp},
	} {
		switch {
		case pair.exact == "" && pair.expression == "":
			return trusted, usage("", "certificates are trusted by identity and issuer together: --%s or --%[1]s-regexp is missing", pair.name)
		case pair.exact != "" && pair.expression != "":
			return trusted, usage("", "--%s and --%[1]s-regexp exclude each other", pair.name)
		}
	}
	if t.trustedRoot == "" {
		return trusted, usage("cosign trusted-root create makes one; nothing is fetched here",
			"which authorities issue certificates? --trusted-root is missing")
	}
	c := &attest.Certificates{IgnoreLog: t.ignoreTlog, Identities: []attest.Identity{{
		Subject: t.identity, SubjectRegexp: t.identityRegexp, Issuer: t.issuer, IssuerRegexp: t.issuerRegexp,
	}}}
	if c.Root, err = readLimited(t.trustedRoot, maxTrustedRoot); err != nil {
		return trusted, fail(exitUsage, fmt.Errorf("--trusted-root: %w", err))
	}
	if err := c.Check(); err != nil {
		return trusted, t.wrongCertificates(err)
	}
	trusted.Certificates = c
	return trusted, nil
}

// optional loads whom the flags name; nil for nobody.
func (t *trustFlags) optional(s *streams) (*attest.Trust, error) {
	if !t.given() {
		return nil, nil
	}
	trusted, err := t.load(s)
	return &trusted, err
}

// wrongCertificates says which flag an error is about.
func (t *trustFlags) wrongCertificates(err error) error {
	if errors.As(err, new(*attest.RootError)) {
		return usage("", "--trusted-root %s: %w", t.trustedRoot, err)
	}
	return usage("", "--certificate-identity, --certificate-oidc-issuer: %w", err)
}

// trust loads public keys.
func trust(s *streams, keys []string) (attest.Trust, error) {
	var t attest.Trust
	for _, k := range keys {
		pub, err := publicKey(s, k)
		if err != nil {
			return t, err
		}
		t.Keys = append(t.Keys, pub)
	}
	return t, nil
}

func publicKey(s *streams, name string) (attest.PublicKey, error) {
	content, fromEnv, err := keyFromEnv(s, name)
	if err != nil {
		return attest.PublicKey{}, err
	}
	var pub attest.PublicKey
	if fromEnv {
		pub, err = attest.ParsePublicKey(name, content)
	} else {
		pub, err = attest.LoadPublicKey(name)
	}
	if err != nil {
		err = fail(exitUsage, fmt.Errorf("--key %s: %w", name, err), "give the public half: --key cosign.pub")
	}
	return pub, err
}

// signingKey loads a private key. Where its password is needed, it is taken as
// cosign takes it.
func signingKey(s *streams, name string) (attest.Signer, error) {
	content, fromEnv, err := keyFromEnv(s, name)
	if err != nil {
		return nil, err
	}
	var signer attest.Signer
	if fromEnv {
		signer, err = attest.ParseSigner(name, content, password(s, false))
	} else {
		signer, err = attest.LoadSigner(name, password(s, false))
	}
	if err != nil {
		return nil, signerError(name, err)
	}
	return signer, nil
}

// keyFromEnv gives the content of a key that --key names as cosign does:
// env://VARIABLE. cosign's other schemes lead to key services, tokens and
// servers, which are not asked here.
func keyFromEnv(s *streams, name string) (content []byte, ok bool, err error) {
	scheme, variable, isURI := strings.Cut(name, "://")
	switch {
	case !isURI:
		return nil, false, nil
	case scheme != "env":
		return nil, false, usage("for verifying, write the public key to a file: cosign public-key --key "+name+" > cosign.pub",
			"--key %s: a key is a file, or env://VARIABLE", name)
	case !s.has(variable) || s.getenv(variable) == "":
		return nil, false, usage("", "--key %s: the environment variable %s is not set", name, variable)
	}
	return []byte(s.getenv(variable)), true, nil
}
