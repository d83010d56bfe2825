package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	cbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	"github.com/sigstore/cosign/v2/pkg/types"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// Limits on what is read from a store.
const (
	// maxEnvelope bounds a bundle or an envelope, in bytes.
	maxEnvelope = 16 << 20
	// maxSignatures bounds the signatures of one envelope.
	maxSignatures = 16
)

// envelopeMediaType is the media type of a layer under the legacy tag: the
// bare DSSE envelope.
const envelopeMediaType = types.DssePayloadType

// errForeign marks what is no attestation at all or one about something else:
// it is passed over without a word.
var errForeign = errors.New("not a safetensors compliance attestation")

// envelope is a decoded DSSE envelope
// (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md).
// Nothing of it is verified.
type envelope struct {
	payloadType string
	payload     []byte
	signatures  [][]byte
	bundle      []byte // what it was wrapped in; nil where it was not
}

// id tells envelopes apart, whatever they were wrapped in.
func (e *envelope) id() [sha256.Size]byte {
	h := sha256.New()
	h.Write(dsse.PAE(e.payloadType, e.payload))
	for _, s := range e.signatures {
		sum := sha256.Sum256(s)
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// decodeEnvelope decodes the JSON form.
func decodeEnvelope(raw []byte) (*envelope, error) {
	var form dsse.Envelope
	if err := decodeStrict(raw, &form); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	payload, err := decodeBase64(form.Payload)
	if err != nil {
		return nil, fmt.Errorf("envelope: payload: %w", err)
	}
	e := &envelope{payloadType: form.PayloadType, payload: payload}
	for i, s := range form.Signatures {
		sig, err := decodeBase64(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("envelope: signature %d: %w", i, err)
		}
		e.signatures = append(e.signatures, sig)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

// check applies the limits and wants an in-toto payload.
func (e *envelope) check() error {
	if n := len(e.signatures); n == 0 || n > maxSignatures {
		return fmt.Errorf("envelope has %d signatures: want 1 to %d", n, maxSignatures)
	}
	if e.payloadType != in_toto.PayloadType {
		return fmt.Errorf("payload type is %s, not %s", quote(e.payloadType), in_toto.PayloadType)
	}
	return nil
}

// decodeBase64 takes the standard or the URL alphabet, with padding, as DSSE
// says.
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		b, err = base64.URLEncoding.Strict().DecodeString(s)
	}
	return b, err
}

// signedBy gives the name of the first trusted key that signed the envelope.
// The signature is over the pre-authentication encoding of type and payload.
func (e *envelope) signedBy(keys []trustedKey) (string, bool) {
	pae := dsse.PAE(e.payloadType, e.payload)
	for _, k := range keys {
		for _, sig := range e.signatures {
			if k.verifies(pae, sig) {
				return k.name, true
			}
		}
	}
	return "", false
}

// foreign says, of an envelope that nobody trusted has signed, whether it is
// about something else than safetensors compliance. It only chooses the words
// of an error.
func (e *envelope) foreign() bool {
	st, err := decodeStatement(e.payload)
	return err == nil && st.PredicateType != PredicateType
}

// bundleMediaType is the Sigstore bundle that is written.
const bundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// bundleMediaTypes are the Sigstore bundles that are read: all versions carry
// an envelope in the same place.
var bundleMediaTypes = []string{
	bundleMediaType,
	"application/vnd.dev.sigstore.bundle+json;version=0.3",
	"application/vnd.dev.sigstore.bundle+json;version=0.2",
	"application/vnd.dev.sigstore.bundle+json;version=0.1",
}

// encodeBundle wraps an envelope as Sigstore bundle v0.3 with a hint to the
// key, as cosign does: base64 of the SHA-256 of its PKIX form. The same input
// gives the same bytes.
func encodeBundle(raw []byte, e *envelope, publicKey any) ([]byte, error) {
	b, err := cbundle.MakeNewBundle(publicKey, nil, e.payload, raw, nil, nil)
	if err != nil {
		return nil, err
	}
	// protojson varies its white space from build to build on purpose.
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decodeBundle gives the envelope in a Sigstore bundle
// (https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto).
// Certificates, log entries and time stamps in it are not looked at here.
func decodeBundle(raw []byte) (*envelope, error) {
	if err := checkStrict(raw, nil); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	pb := &protobundle.Bundle{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if !isBundleType(pb.GetMediaType()) {
		return nil, fmt.Errorf("bundle: media type is %s", quote(pb.GetMediaType()))
	}
	env := pb.GetDsseEnvelope()
	if env == nil {
		return nil, fmt.Errorf("bundle: no DSSE envelope: %w", errForeign)
	}
	e := &envelope{payloadType: env.GetPayloadType(), payload: env.GetPayload(), bundle: raw}
	for _, s := range env.GetSignatures() {
		e.signatures = append(e.signatures, s.GetSig())
	}
	if len(e.signatures) > 1 {
		return nil, fmt.Errorf("bundle: %d signatures, not one", len(e.signatures))
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

func isBundleType(t string) bool {
	for _, known := range bundleMediaTypes {
		if t == known {
			return true
		}
	}
	return false
}
