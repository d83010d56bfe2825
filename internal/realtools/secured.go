package realtools

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Security is what a registry asks of its clients. The zero value is plain HTTP
// for everybody.
type Security struct {
	// User and Password are whom it lets in; nobody needs them when User is
	// empty.
	User, Password string
	// CA, Certificate and Key are PEM files for TLS: see NewSecurity.
	CA, Certificate, Key string
}

// NewSecurity makes a certificate for 127.0.0.1, localhost and registry.example, signed by
// itself, and asks for a user with a password.
func NewSecurity(tb testing.TB, user, password string) Security {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test registry"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost", "registry.example"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", "CERTIFICATE", der)
	return Security{User: user, Password: password, CA: ca, Certificate: ca, Key: write("key.pem", "PRIVATE KEY", private)}
}

// SecuredRegistry is Registry, with TLS and a password.
func SecuredRegistry(tb testing.TB, sec Security) string {
	tb.Helper()
	addr, _ := registryWith(tb, sec)
	return addr
}

// config is what goes after the http section of the registry's configuration.
func (s Security) config(tb testing.TB) string {
	tb.Helper()
	text := ""
	if s.CA != "" {
		text += fmt.Sprintf("  tls:\n    certificate: %s\n    key: %s\n", s.Certificate, s.Key)
	}
	if s.User != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(s.Password), bcrypt.MinCost)
		if err != nil {
			tb.Fatal(err)
		}
		file := filepath.Join(tb.TempDir(), "htpasswd")
		if err := os.WriteFile(file, []byte(s.User+":"+string(hash)+"\n"), 0o600); err != nil {
			tb.Fatal(err)
		}
		text += fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s\n", file)
	}
	return text
}
