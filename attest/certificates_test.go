package attest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/weightseal/weightseal/attest/attesttest"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
)

const (
	testIdentity = "https://ci.example/team/model/build.yml@refs/heads/main"
	testIssuer   = "https://issuer.example"
)

func exactly(subject, issuer string) []Identity {
	return []Identity{{Subject: subject, Issuer: issuer}}
}

// A statement signed with a certificate counts when its identity is trusted, and
// what was checked is told.
func TestVerifyCertificate(t *testing.T) {
	t.Parallel()
	a := attesttest.New(t)
	m := pushModel(t, openLayout(t), "v1", "certificate")
	st := m.statement(t)
	m.plantBundle(t, a.Bundle(t, testIdentity, testIssuer, st))
	for name, ids := range map[string][]Identity{
		"exact":       exactly(testIdentity, testIssuer),
		"expressions": {{SubjectRegexp: `^https://ci\.example/team/`, IssuerRegexp: `issuer\.example$`}},
		"one of two":  {{Subject: "somebody@example.com", Issuer: testIssuer}, {Subject: testIdentity, Issuer: testIssuer}},
	} {
		v, err := verify(m, Trust{Certificates: &Certificates{Identities: ids, Root: a.Root(t, false)}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v.KeyName() != testIdentity || string(v.Payload()) != string(st) {
			t.Errorf("%s: %+v", name, v)
		}
		told := map[string]bool{}
		for _, c := range v.Checks() {
			told[c.Name] = c.Done
		}
		for check, done := range map[string]bool{"signature": true, "transparency log": true, "signing time": true, "certificate transparency": false, "subject": true} {
			if got, ok := told[check]; !ok || got != done {
				t.Errorf("%s: check %q: told %v, done %v", name, check, ok, got)
			}
		}
	}
	// Keys count beside certificates.
	both := trustOurs(t)
	both.Certificates = &Certificates{Identities: exactly(testIdentity, testIssuer), Root: a.Root(t, false)}
	if v, err := verify(m, both); err != nil || v.KeyName() != testIdentity {
		t.Errorf("key and certificate: %v", err)
	}
	k := key(t, ourKey)
	keyed := pushModel(t, openLayout(t), "v1", "keyed")
	keyed.attach(t, k, keyed.statement(t))
	if v, err := verify(keyed, both); err != nil || v.KeyName() != k.public {
		t.Errorf("key and certificate: %v", err)
	}
}

// What is not exactly right with certificate, log, time, signature or statement
// does not count.
func TestVerifyCertificateRefuses(t *testing.T) {
	t.Parallel()
	a, stranger := attesttest.New(t), attesttest.New(t)
	right := exactly(testIdentity, testIssuer)
	noLog := func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil }
	noTime := func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil }
	for name, test := range map[string]struct {
		by     attesttest.Authority
		ids    []Identity
		change func(*protobundle.Bundle)
		pred   func(*Predicate)
		ignore bool
		ctLogs bool
		says   string // "" for good
	}{
		"good":                  {by: a, ids: right},
		"another identity":      {by: a, ids: exactly("https://ci.example/other", testIssuer), says: "no matching CertificateIdentity"},
		"another issuer":        {by: a, ids: exactly(testIdentity, "https://other.example"), says: "no matching CertificateIdentity"},
		"part of the identity":  {by: a, ids: exactly(testIdentity[:20], testIssuer), says: "no matching CertificateIdentity"},
		"another authority":     {by: stranger, ids: right, says: "not signed by a trusted identity"},
		"no log":                {by: a, ids: right, change: noLog, says: "log"},
		"no log, ignored":       {by: a, ids: right, change: noLog, ignore: true},
		"no time, no log":       {by: a, ids: right, change: func(b *protobundle.Bundle) { noLog(b); noTime(b) }, ignore: true, says: "timestamp"},
		"payload exchanged":     {by: a, ids: right, change: func(b *protobundle.Bundle) { p := b.GetDsseEnvelope().Payload; p[len(p)-2] ^= 1 }, says: "not signed by a trusted identity"},
		"signature exchanged":   {by: a, ids: right, change: func(b *protobundle.Bundle) { b.GetDsseEnvelope().Signatures[0].Sig[10] ^= 1 }, says: "not signed by a trusted identity"},
		"no promise of a log":   {by: a, ids: right, ctLogs: true, says: "signed certificate timestamp"},
		"signed, but refused":   {by: a, ids: right, pred: func(p *Predicate) { p.Files[1].Blocked = true }, says: ErrFailed.Error()},
		"evaluated after it":    {by: a, ids: right, pred: func(p *Predicate) { p.TimeEvaluated = time.Now().Add(9 * time.Minute).UTC().Format(time.RFC3339) }},
		"evaluated long before": {by: a, ids: right, pred: func(p *Predicate) { p.TimeEvaluated = "2026-01-01T00:00:00Z" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, openLayout(t), "v1", name)
			var changes []func(*protobundle.Bundle)
			if test.change != nil {
				changes = append(changes, test.change)
			}
			var pred []func(*Predicate)
			if test.pred != nil {
				pred = append(pred, test.pred)
			}
			m.plantBundle(t, test.by.Bundle(t, testIdentity, testIssuer, m.statement(t, pred...), changes...))
			_, err := verify(m, Trust{Certificates: &Certificates{Identities: test.ids, Root: a.Root(t, test.ctLogs), IgnoreLog: test.ignore}})
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var ve *VerifyError
			if !errors.As(err, &ve) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v: want %q in it", err, test.says)
			}
		})
	}
}

// A certificate's statement about another model is not about this one, and one
// under the legacy tag has no certificate with it.
func TestVerifyCertificateElsewhere(t *testing.T) {
	t.Parallel()
	a := attesttest.New(t)
	trust := Trust{Certificates: &Certificates{Identities: exactly(testIdentity, testIssuer), Root: a.Root(t, false)}}
	other, m := pushModel(t, openLayout(t), "v1", "other"), pushModel(t, openLayout(t), "v1", "this")
	m.plantBundle(t, a.Bundle(t, testIdentity, testIssuer, other.statement(t)))
	if _, err := verify(m, trust); !errors.As(err, new(*VerifyError)) {
		t.Errorf("another's statement: %v", err)
	}
	legacy := pushModel(t, openLayout(t), "v1", "legacy")
	k := key(t, ourKey)
	legacy.plant(t, k, sign(t, k, legacy.statement(t)), inLegacy)
	if _, err := verify(legacy, trust); err == nil || !strings.Contains(err.Error(), "only a Sigstore bundle") {
		t.Errorf("legacy form: %v", err)
	}
	if _, err := verify(legacy, trustOurs(t)); err != nil {
		t.Errorf("legacy form with the key: %v", err)
	}
}

// What is trusted must be complete and well-formed.
func TestCertificatesLoad(t *testing.T) {
	t.Parallel()
	a := attesttest.New(t)
	good := a.Root(t, false)
	for name, test := range map[string]struct {
		c    Certificates
		root bool // a *RootError, else an *IdentityError
	}{
		"no root":         {Certificates{Identities: exactly("a", "b")}, true},
		"not JSON":        {Certificates{Identities: exactly("a", "b"), Root: []byte("{")}, true},
		"another type":    {Certificates{Identities: exactly("a", "b"), Root: []byte(`{"mediaType":"x/y"}`)}, true},
		"no authority":    {Certificates{Identities: exactly("a", "b"), Root: []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)}, true},
		"no identity":     {Certificates{Root: good}, false},
		"no issuer":       {Certificates{Identities: []Identity{{Subject: "a"}}, Root: good}, false},
		"no subject":      {Certificates{Identities: []Identity{{Issuer: "a"}}, Root: good}, false},
		"no regular expr": {Certificates{Identities: []Identity{{SubjectRegexp: "(", Issuer: "a"}}, Root: good}, false},
	} {
		_, err := test.c.load()
		if test.root && !errors.As(err, new(*RootError)) || !test.root && !errors.As(err, new(*IdentityError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The real cosign verifies the same bundle with the same root, and refuses the
// same wrong identity.
func TestCertificateWithCosign(t *testing.T) {
	t.Parallel()
	a := attesttest.New(t)
	addr := realtools.Registry(t)
	s, _, err := oci.Open(addr+"/team/model:v1", oci.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	m := pushModel(t, s, "v1", "cosign")
	m.plantBundle(t, a.Bundle(t, testIdentity, testIssuer, m.statement(t)))
	rootFile := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(rootFile, a.Root(t, false), 0o600); err != nil {
		t.Fatal(err)
	}
	for identity, want := range map[string]bool{testIdentity: true, "https://ci.example/other": false} {
		_, err := verify(m, Trust{Certificates: &Certificates{Identities: exactly(identity, testIssuer), Root: a.Root(t, false)}})
		if (err == nil) != want {
			t.Errorf("%s: %v", identity, err)
		}
		cmd := exec.CommandContext(t.Context(), realtools.Path(t, "cosign3"), "verify-attestation", s.Reference(m.subject.Digest.String()),
			"--type", PredicateType, "--trusted-root", rootFile, "--certificate-identity", identity, "--certificate-oidc-issuer", testIssuer,
			"--use-signed-timestamps", "--insecure-ignore-sct", "--allow-http-registry")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if (err == nil) != want {
			t.Errorf("cosign with %s: %v\n%s", identity, err, out)
		}
		if want && !json.Valid(out[strings.LastIndexByte(strings.TrimSpace(string(out)), '\n')+1:]) {
			t.Errorf("cosign prints no envelope:\n%s", out)
		}
	}
}
