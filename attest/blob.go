package attest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/common"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// maxBlobSubjects bounds the subjects of a statement about files.
const maxBlobSubjects = 10_000

// ErrBlobSignature: no trusted key has signed the file, or the statement about
// it.
var ErrBlobSignature = errors.New("no trusted key signed it")

// BlobSubject is a file that a statement is about.
type BlobSubject struct {
	Name   string
	Digest string // sha256:...
}

// SignBlob signs a file's bytes: base64 of the signature, as cosign sign-blob
// writes it and openssl verifies it after decoding. For ECDSA and RSA the hash
// is SHA-256.
func SignBlob(ctx context.Context, s Signer, file io.Reader) (string, error) {
	ks, ok := s.(*keySigner)
	if !ok {
		return "", errors.New("this signer signs statements only")
	}
	sig, err := ks.sv.SignMessage(&stoppable{ctx, file}, options.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(sig), nil
}

// stoppable ends reading when its context ends.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// VerifyBlob wants one of the keys to have signed the file and gives that
// key's name. sig is base64, as SignBlob and cosign sign-blob write it.
func VerifyBlob(ctx context.Context, open func() (io.ReadCloser, error), sig string, trust Trust) (string, error) {
	raw, err := decodeBase64(strings.TrimSpace(sig))
	if err != nil {
		return "", fmt.Errorf("signature: %w: %w", ErrBlobSignature, err)
	}
	keys, err := loadTrusted(trust.Keys)
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		for _, v := range k.verifiers {
			good, err := verifyOpened(ctx, open, raw, v)
			if err != nil {
				return "", err
			}
			if good {
				return k.name, nil
			}
		}
	}
	return "", fmt.Errorf("signature: %w", ErrBlobSignature)
}

func verifyOpened(ctx context.Context, open func() (io.ReadCloser, error), sig []byte, v signature.Verifier) (bool, error) {
	f, err := open()
	if err != nil {
		return false, err
	}
	watched := &watchedReader{r: &stoppable{ctx, f}}
	wrong := v.VerifySignature(bytes.NewReader(sig), watched)
	if err := errors.Join(watched.err, f.Close()); err != nil {
		return false, err // the file could not be read: nothing is known of its signature
	}
	return wrong == nil, nil
}

// watchedReader remembers why reading failed.
type watchedReader struct {
	r   io.Reader
	err error
}

func (f *watchedReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// NewBlobStatement builds an in-toto Statement v1 over files, as deterministic
// JSON: the subjects are sorted by name, the predicate is any JSON object.
func NewBlobStatement(subjects []BlobSubject, predicateType string, predicate json.RawMessage) ([]byte, error) {
	if len(subjects) == 0 || len(subjects) > maxBlobSubjects {
		return nil, fmt.Errorf("a statement about %d files: want 1 to %d", len(subjects), maxBlobSubjects)
	}
	if predicateType == "" {
		return nil, errors.New("the predicate has no type")
	}
	if err := checkStrict(predicate, nil); err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	if trimmed := bytes.TrimSpace(predicate); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, errors.New("predicate: not a JSON object")
	}
	header := in_toto.StatementHeader{ //nolint:staticcheck // the protobuf message has no stable JSON
		Type: in_toto.StatementInTotoV1, PredicateType: predicateType,
	}
	for _, s := range slices.SortedFunc(slices.Values(subjects), func(a, b BlobSubject) int { return strings.Compare(a.Name, b.Name) }) {
		hexDigest, err := digestHex(s.Digest)
		if err != nil {
			return nil, fmt.Errorf("subject %s: %w", quote(s.Name), err)
		}
		header.Subject = append(header.Subject, in_toto.Subject{Name: s.Name, Digest: common.DigestSet{"sha256": hexDigest}}) //nolint:staticcheck // see above
	}
	return json.Marshal(statement{StatementHeader: header, Predicate: predicate})
}

// BlobStatement is a verified statement about files.
type BlobStatement struct {
	Key           string // the name of the key that signed it
	PredicateType string
	Subject       string // the name that the statement gives the file
	Payload       []byte // the signed bytes
}

// VerifyBlobStatement wants a DSSE envelope (JSON) signed by one of the keys,
// with a statement of this predicate type that has the digest (sha256:...)
// among its subjects. predicateType "" takes any.
func VerifyBlobStatement(envelopeJSON []byte, digest, predicateType string, trust Trust) (*BlobStatement, error) {
	want, err := digestHex(digest)
	if err != nil {
		return nil, err
	}
	if len(envelopeJSON) > maxEnvelope {
		return nil, fmt.Errorf("envelope has %d bytes: the most is %d", len(envelopeJSON), maxEnvelope)
	}
	env, err := decodeEnvelope(envelopeJSON)
	if err != nil {
		return nil, err
	}
	keys, err := loadTrusted(trust.Keys)
	if err != nil {
		return nil, err
	}
	by, ok := env.signedBy(keys)
	if !ok {
		return nil, fmt.Errorf("statement: %w", ErrBlobSignature)
	}
	st, err := decodeStatement(env.payload)
	if err != nil {
		return nil, err
	}
	if st.Type != in_toto.StatementInTotoV1 && st.Type != in_toto.StatementInTotoV01 {
		return nil, fmt.Errorf("statement type is %s, not %s", quote(st.Type), in_toto.StatementInTotoV1)
	}
	if predicateType != "" && st.PredicateType != predicateType {
		return nil, fmt.Errorf("predicate type is %s, not %s", quote(st.PredicateType), quote(predicateType))
	}
	for _, s := range st.Subject {
		if s.Digest["sha256"] == want {
			return &BlobStatement{Key: by, PredicateType: st.PredicateType, Subject: s.Name, Payload: env.payload}, nil
		}
	}
	return nil, fmt.Errorf("statement is about %d files, none of them %s", len(st.Subject), digest)
}
