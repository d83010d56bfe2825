package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(tb testing.TB, name string, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// keyPair writes an unencrypted key of any kind and gives both files.
func keyPair(tb testing.TB, k crypto.Signer) (private, public string) {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return write(tb, "key.pem", asPEM("PRIVATE KEY", der)), write(tb, "pub.pem", asPEM("PUBLIC KEY", pub))
}

func someKeys(tb testing.TB) map[string]crypto.Signer {
	tb.Helper()
	out := map[string]crypto.Signer{}
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			tb.Fatal(err)
		}
		return k
	}
	for name, c := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		out[name] = must(ecdsa.GenerateKey(c, rand.Reader))
	}
	out["RSA"] = must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	out["Ed25519"] = must(ed, err)
	return out
}

func TestKeysSignAndVerify(t *testing.T) {
	t.Parallel()
	for name, k := range someKeys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			private, public := keyPair(t, k)
			s, err := LoadSigner(private, func() ([]byte, error) { return nil, errors.New("asked for a password") })
			if err != nil {
				t.Fatal(err)
			}
			pub, err := LoadPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			if der, err := s.PublicKey(); err != nil || !bytes.Equal(der, pub.DER) {
				t.Errorf("signer's public key: %v, %v", der, err)
			}
			raw, err := s.Sign(context.Background(), []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			e, err := decodeEnvelope(raw)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := loadTrusted([]PublicKey{key(t, otherKey).trusted, pub})
			if err != nil {
				t.Fatal(err)
			}
			if who, ok := e.signedBy(keys); !ok || who != public {
				t.Errorf("signed by %q, %v", who, ok)
			}
			e.payload = append(e.payload, ' ')
			if _, ok := e.signedBy(keys); ok {
				t.Error("an altered payload verifies")
			}
		})
	}
}

func TestLoadSignerCosign(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	asked := 0
	if _, err := LoadSigner(k.private, func() ([]byte, error) { asked++; return []byte(testPassword), nil }); err != nil || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	_, err := LoadSigner(k.private, func() ([]byte, error) { return []byte("wrong"), nil })
	var ke *KeyError
	if !errors.Is(err, ErrPassword) || !errors.As(err, &ke) || ke.File != k.private {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := LoadSigner(k.private, nil); !errors.Is(err, ErrPassword) {
		t.Errorf("no password: %v", err)
	}
	cancelled := errors.New("no terminal")
	if _, err := LoadSigner(k.private, func() ([]byte, error) { return nil, cancelled }); !errors.Is(err, cancelled) || errors.Is(err, ErrPassword) {
		t.Errorf("no terminal: %v", err)
	}
}

func TestEmptyPassword(t *testing.T) {
	t.Parallel()
	private, _, err := GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSigner(write(t, "k", private), nil); err != nil {
		t.Error(err)
	}
}

func TestLoadKeyErrors(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	private, err := os.ReadFile(k.private)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	smallDER, err := x509.MarshalPKIXPublicKey(small.Public())
	if err != nil {
		t.Fatal(err)
	}
	load := func(path string) error { _, err := LoadPublicKey(path); return err }
	loadSigner := func(path string) error {
		_, err := LoadSigner(path, func() ([]byte, error) { return []byte(testPassword), nil })
		return err
	}
	for name, test := range map[string]struct {
		load func(string) error
		path string
		want string
	}{
		"public: missing":       {load, filepath.Join(t.TempDir(), "gone"), "no such file"},
		"public: directory":     {load, t.TempDir(), "is a directory"},
		"public: no PEM":        {load, write(t, "k", []byte("hello")), "no PEM block"},
		"public: private given": {load, k.private, "holds a private key"},
		"public: damaged":       {load, write(t, "k", asPEM("PUBLIC KEY", []byte{1, 2, 3})), "asn1"},
		"public: weak":          {load, write(t, "k", asPEM("PUBLIC KEY", smallDER)), "size"},
		"public: too large":     {load, write(t, "k", make([]byte, maxKeyFile+1)), "not a key"},
		"private: public given": {loadSigner, k.public, "holds a public key"},
		"private: truncated":    {loadSigner, write(t, "k", private[:len(private)/2]), "no PEM block"},
		"private: damaged box":  {loadSigner, write(t, "k", asPEM("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("{}"))), "damaged"},
		"private: other PEM":    {loadSigner, write(t, "k", asPEM("CAT", nil)), `PEM type "CAT"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.load(test.path)
			var ke *KeyError
			if !errors.As(err, &ke) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestLoadPublicKeyCertificate(t *testing.T) {
	t.Parallel()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "us"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	got, err := LoadPublicKey(write(t, "cert.pem", asPEM("CERTIFICATE", der)))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := x509.MarshalPKIXPublicKey(k.Public()); !bytes.Equal(got.DER, want) {
		t.Error("another key than the certificate's")
	}
}
