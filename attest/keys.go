package attest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"bytes"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/cryptoutils/goodkey"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// maxKeyFile is the largest key file read, in bytes.
const maxKeyFile = 1 << 20

// Signer signs statements.
type Signer interface {
	// Sign gives the DSSE envelope as JSON.
	Sign(ctx context.Context, statement []byte) ([]byte, error)
	// PublicKey is the PKIX DER form.
	PublicKey() ([]byte, error)
}

// PublicKey is a key that is trusted.
type PublicKey struct {
	Name string // the file it came from
	DER  []byte // PKIX
}

// GenerateKey makes a cosign key pair (ECDSA P-256): the encrypted private key
// and the public key, both PEM. An empty password is allowed, as cosign allows
// it: the key is then encrypted with an empty one.
func GenerateKey(password []byte) (private, public []byte, err error) {
	kb, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, nil, err
	}
	return kb.PrivateBytes, kb.PublicBytes, nil
}

// LoadSigner reads a private key: a cosign key file, or an unencrypted PEM key
// (PKCS #8, SEC 1 or PKCS #1). password is asked for only when the key is
// encrypted. Errors are *KeyError; ErrPassword is inside when the password is
// wrong.
func LoadSigner(keyFile string, password func() ([]byte, error)) (Signer, error) {
	raw, err := readKeyFile(keyFile)
	if err != nil {
		return nil, err
	}
	return ParseSigner(keyFile, raw, password)
}

// ParseSigner is LoadSigner for a key that was read already; name is what
// errors call it.
func ParseSigner(name string, pemKey []byte, password func() ([]byte, error)) (Signer, error) {
	key, err := parsePrivate(pemKey, password)
	if err != nil {
		return nil, &KeyError{File: name, Err: err}
	}
	// Always SHA-256, and pure Ed25519: what verifiers take for a bare public
	// key. cosign's own loader picks the curve's hash and Ed25519ph, whose
	// signatures a key file alone does not verify.
	sv, err := signature.LoadSignerVerifier(key, crypto.SHA256)
	if err != nil {
		return nil, &KeyError{File: name, Err: err}
	}
	return &keySigner{sv: sv}, nil
}

type keySigner struct{ sv signature.SignerVerifier }

// Sign implements Signer.
func (s *keySigner) Sign(ctx context.Context, statement []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return dsse.WrapSigner(s.sv, in_toto.PayloadType).SignMessage(bytes.NewReader(statement), options.WithContext(ctx))
}

// PublicKey implements Signer.
func (s *keySigner) PublicKey() ([]byte, error) {
	pub, err := s.sv.PublicKey()
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// LoadPublicKey reads a PEM public key (also out of a cosign.pub or a PEM
// certificate, whose names and dates are not looked at). Errors are *KeyError.
func LoadPublicKey(path string) (PublicKey, error) {
	raw, err := readKeyFile(path)
	if err != nil {
		return PublicKey{}, err
	}
	return ParsePublicKey(path, raw)
}

// ParsePublicKey is LoadPublicKey for a key that was read already.
func ParsePublicKey(name string, pemKey []byte) (PublicKey, error) {
	pub, err := parsePublic(pemKey)
	if err != nil {
		return PublicKey{}, &KeyError{File: name, Err: err}
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return PublicKey{}, &KeyError{File: name, Err: err}
	}
	return PublicKey{Name: name, DER: der}, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &KeyError{File: path, Err: pathless(err)}
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, &KeyError{File: path, Err: pathless(err)}
	}
	if len(raw) > maxKeyFile {
		return nil, &KeyError{File: path, Err: fmt.Errorf("larger than %d bytes: not a key", maxKeyFile)}
	}
	return raw, nil
}

// pathless drops the path that os puts into its errors: KeyError names it.
func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func parsePrivate(raw []byte, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	switch block.Type {
	case cosign.SigstorePrivateKeyPemType, cosign.CosignPrivateKeyPemType:
		return decryptPrivate(block.Bytes, password)
	case cosign.PrivateKeyPemType:
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case cosign.ECPrivateKeyPemType:
		return x509.ParseECPrivateKey(block.Bytes)
	case cosign.RSAPrivateKeyPemType:
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PUBLIC KEY", "CERTIFICATE":
		return nil, fmt.Errorf("holds a %s: signing needs the private key", strings.ToLower(block.Type))
	}
	return nil, fmt.Errorf("PEM type %q is not a private key that can be used", block.Type)
}

// decryptPrivate opens the box that cosign keeps private keys in: JSON with
// scrypt parameters and a NaCl secretbox.
func decryptPrivate(box []byte, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	var form struct {
		KDF struct {
			Name string `json:"name"`
		} `json:"kdf"`
		Cipher struct {
			Name string `json:"name"`
		} `json:"cipher"`
	}
	if err := json.Unmarshal(box, &form); err != nil || form.KDF.Name == "" || form.Cipher.Name == "" {
		return nil, errors.New("damaged: the encrypted part is not what cosign writes")
	}
	var pass []byte
	if password != nil {
		var err error
		if pass, err = password(); err != nil {
			return nil, err
		}
	}
	der, err := encrypted.Decrypt(box, pass)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrPassword, err)
	}
	return x509.ParsePKCS8PrivateKey(der)
}

func parsePublic(raw []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if strings.Contains(block.Type, "PRIVATE KEY") {
		return nil, errors.New("holds a private key: verifying needs the public key (cosign.pub)")
	}
	var pub crypto.PublicKey
	if block.Type == "CERTIFICATE" {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pub = cert.PublicKey
	} else {
		var err error
		if pub, err = cryptoutils.UnmarshalPEMToPublicKey(pem.EncodeToMemory(block)); err != nil {
			return nil, err
		}
	}
	if err := goodkey.ValidatePubKey(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// trustedKey is a trusted key, ready to verify. Most keys have one way to
// verify; two where tools differ in the hash that they use with that key.
type trustedKey struct {
	name      string
	verifiers []signature.Verifier
}

func loadTrusted(keys []PublicKey) ([]trustedKey, error) {
	out := make([]trustedKey, 0, len(keys))
	for _, k := range keys {
		pub, err := x509.ParsePKIXPublicKey(k.DER)
		if err != nil {
			return nil, &KeyError{File: k.Name, Err: err}
		}
		vs, err := verifiersFor(pub)
		if err != nil {
			return nil, &KeyError{File: k.Name, Err: err}
		}
		out = append(out, trustedKey{name: k.Name, verifiers: vs})
	}
	return out, nil
}

func verifiersFor(pub crypto.PublicKey) ([]signature.Verifier, error) {
	first, err := signature.LoadVerifier(pub, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	vs := []signature.Verifier{first}
	var second signature.Verifier
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P384():
			second, err = signature.LoadVerifier(k, crypto.SHA384)
		case elliptic.P521():
			second, err = signature.LoadVerifier(k, crypto.SHA512)
		}
	case ed25519.PublicKey:
		second, err = signature.LoadED25519phVerifier(k)
	case *rsa.PublicKey: // PKCS #1 v1.5 with SHA-256, whatever the size
	}
	if err != nil {
		return nil, err
	}
	if second != nil {
		vs = append(vs, second)
	}
	return vs, nil
}

// verifies says whether sig is this key's signature over message.
func (k trustedKey) verifies(message, sig []byte) bool {
	for _, v := range k.verifiers {
		if v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
			return true
		}
	}
	return false
}
