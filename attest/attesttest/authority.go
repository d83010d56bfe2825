// Package attesttest signs as Sigstore does, without a network: authorities for
// certificates and time stamps and a transparency log in this process.
package attesttest

import (
	"encoding/base64"
	"encoding/hex"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"google.golang.org/protobuf/encoding/protojson"
)

// bundleMediaType is the bundle that is made.
const bundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// Authority is such a Sigstore.
type Authority struct{ *ca.VirtualSigstore }

// New makes one, with keys of its own.
func New(tb testing.TB) Authority {
	tb.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		tb.Fatal(err)
	}
	return Authority{v}
}

// Root is the trusted root for it, as JSON; with ctLogs it names a log for
// certificates, in which none of them is.
func (a Authority) Root(tb testing.TB, ctLogs bool) []byte {
	tb.Helper()
	logs := map[string]*root.TransparencyLog{}
	for id, l := range a.RekorLogs() {
		raw, err := hex.DecodeString(id)
		if err != nil {
			tb.Fatal(err)
		}
		l.ID = raw
		logs[id] = l
	}
	certificateLogs := map[string]*root.TransparencyLog{}
	if ctLogs {
		for id, l := range a.CTLogs() {
			l.ID, _ = hex.DecodeString(id)
			l.SignatureHashFunc = l.HashFunc
			certificateLogs[id] = l
		}
	}
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, a.FulcioCertificateAuthorities(), certificateLogs, a.TimestampingAuthorities(), logs)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := tr.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// Bundle is a Sigstore bundle with a statement that identity has signed; change
// may damage it.
func (a Authority) Bundle(tb testing.TB, identity, issuer string, statement []byte, change ...func(*protobundle.Bundle)) []byte {
	tb.Helper()
	entity, err := a.AttestHashedRekordV2(identity, issuer, statement)
	if err != nil {
		tb.Fatal(err)
	}
	certificate, err := entity.VerificationContent()
	if err != nil {
		tb.Fatal(err)
	}
	content, err := entity.SignatureContent()
	if err != nil {
		tb.Fatal(err)
	}
	entries, err := entity.TlogEntries()
	if err != nil {
		tb.Fatal(err)
	}
	stamps, err := entity.Timestamps()
	if err != nil {
		tb.Fatal(err)
	}
	envelope := content.EnvelopeContent().RawEnvelope()
	payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
	if err != nil {
		tb.Fatal(err)
	}
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: certificate.Certificate().Raw}},
		TimestampVerificationData: &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}},
		},
	}
	for _, e := range entries {
		material.TlogEntries = append(material.TlogEntries, e.TransparencyLogEntry())
	}
	b := &protobundle.Bundle{
		MediaType: bundleMediaType, VerificationMaterial: material,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: envelope.PayloadType,
			Signatures: []*protodsse.Signature{{Sig: content.Signature()}},
		}},
	}
	for _, c := range change {
		c(b)
	}
	raw, err := protojson.Marshal(b)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}
