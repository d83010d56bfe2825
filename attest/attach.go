package attest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/oci"
)

// How often the legacy tag is looked at and repaired, and the least pause
// before, which is jittered and grows with every loss: on a busy machine another
// writer may come that much later with what it read before we wrote.
const (
	legacyTries = 8
	legacyPause = 150 * time.Millisecond
)

// Stored is where an attestation went.
type Stored struct {
	Bundle ocispec.Descriptor // the referrer
	Legacy ocispec.Descriptor // the manifest behind the .att tag
}

// ErrLostUpdate says that other writers kept replacing the legacy tag, and that
// what was written there is gone.
var ErrLostUpdate = errors.New("another writer keeps replacing the attestation tag")

// Attach signs nothing: it stores a signed envelope beside its subject, in
// both forms, and reads it back. signer is the one that signed: the envelope
// is checked with its public key first. An envelope that is already there is
// not stored twice, and what others have stored is kept as it is. Concurrent
// writers of the legacy tag are merged as far as a registry allows: it has no
// conditional write, so a lost update is looked for and repaired (ErrLostUpdate
// when that does not succeed).
func Attach(ctx context.Context, s oci.Store, subject ocispec.Descriptor, envelope []byte, signer Signer) (*Stored, error) {
	a, err := newAttachment(s, subject, envelope, signer)
	if err != nil {
		return nil, fmt.Errorf("attestation not stored: %w", err)
	}
	out := &Stored{}
	var written legacyWrite
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { out.Bundle, err = a.writeBundle(gctx); return err })
	g.Go(func() (err error) { written, err = a.writeLegacy(gctx); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.Go(func() error { return a.checkBundle(gctx, out.Bundle) })
	g.Go(func() (err error) { out.Legacy, err = a.settleLegacy(gctx, written); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// attachment is an envelope about to be stored, in both forms.
type attachment struct {
	store    oci.Store
	subject  ocispec.Descriptor
	envelope []byte
	bundle   []byte
	tag      string
}

func newAttachment(s oci.Store, subject ocispec.Descriptor, raw []byte, signer Signer) (*attachment, error) {
	e, err := decodeEnvelope(raw)
	if err != nil {
		return nil, err
	}
	if len(e.signatures) != 1 {
		return nil, fmt.Errorf("envelope has %d signatures: a bundle holds one", len(e.signatures))
	}
	der, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	keys, err := loadTrusted([]PublicKey{{Name: "signer", DER: der}})
	if err != nil {
		return nil, err
	}
	if _, ok := e.signedBy(keys); !ok {
		return nil, errors.New("envelope is not signed by the signer's key")
	}
	st, err := decodeStatement(e.payload)
	if err != nil {
		return nil, err
	}
	if err := st.checkSubject(subject.Digest.String()); err != nil {
		return nil, err
	}
	if err := st.checkTypes(); err != nil {
		return nil, err
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	b, err := encodeBundle(raw, e, pub)
	if err != nil {
		return nil, err
	}
	return &attachment{store: s, subject: subject, envelope: raw, bundle: b, tag: legacyTag(subject.Digest)}, nil
}

// pushBytes stores a small blob.
func (a *attachment) pushBytes(ctx context.Context, mediaType string, b []byte) (ocispec.Descriptor, error) {
	d, err := a.store.PushBlob(ctx, oci.Content{
		MediaType: mediaType, Reader: bytes.NewReader(b), Size: int64(len(b)),
		Digest: digest.FromBytes(b).String(),
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d.Digest, Size: d.Size}, nil
}

// writeBundle stores the bundle as referrer. cosign also notes the time in the
// manifest; without it the same envelope has the same digest and is stored
// once.
func (a *attachment) writeBundle(ctx context.Context) (ocispec.Descriptor, error) {
	var layer, config ocispec.Descriptor
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { layer, err = a.pushBytes(gctx, bundleMediaType, a.bundle); return err })
	g.Go(func() (err error) { config, err = a.pushBytes(gctx, emptyMediaType, []byte("{}")); return err })
	if err := g.Wait(); err != nil {
		return ocispec.Descriptor{}, err
	}
	config.ArtifactType = bundleMediaType
	subject := bare(a.subject)
	annotations := map[string]string{bundleContentKey: dsseEnvelopeContents, bundlePredicateKey: PredicateType}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: bundleMediaType, Config: config, Layers: []ocispec.Descriptor{layer},
		Subject: &subject, Annotations: annotations,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.store.AddReferrer(ctx, a.subject, manifest, bundleMediaType, annotations)
}

// checkBundle reads the list of referrers back.
func (a *attachment) checkBundle(ctx context.Context, bundle ocispec.Descriptor) error {
	refs, err := a.store.Referrers(ctx, a.subject.Digest.String())
	if isLimit(err) {
		return nil // it may be behind what is listed
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(refs, func(d ocispec.Descriptor) bool { return d.Digest == bundle.Digest }) {
		return fmt.Errorf("attestation %s is stored, but %s does not list it as referrer",
			bundle.Digest, a.store.Reference(a.subject.Digest.String()))
	}
	return nil
}

// legacyWrite is what writing the legacy tag came to.
type legacyWrite struct {
	manifest ocispec.Descriptor
	// window is the time between the last look at the tag and the end of the
	// write: another writer who looked before may write that much later. 0
	// when nothing was written.
	window time.Duration
}

// settleLegacy reads the legacy tag back until it stays as it is with our
// layer in it, and writes again when another writer has replaced it.
func (a *attachment) settleLegacy(ctx context.Context, last legacyWrite) (ocispec.Descriptor, error) {
	if last.window == 0 {
		return last.manifest, nil
	}
	losses := 0
	for range legacyTries {
		if err := pause(ctx, max(legacyPause, 2*last.window)<<min(losses, 3)); err != nil {
			return ocispec.Descriptor{}, err
		}
		m, d, err := a.readLegacy(ctx)
		switch {
		case err != nil && !errors.Is(err, oci.ErrNotFound):
			return ocispec.Descriptor{}, err
		case err != nil || !m.has(a.layer()):
			losses++
			if last, err = a.writeLegacy(ctx); err != nil {
				return ocispec.Descriptor{}, err
			}
		case d.Digest == last.manifest.Digest:
			return d, nil
		default: // others are writing: look again
			last.manifest = d
		}
	}
	if m, d, err := a.readLegacy(ctx); err == nil && m.has(a.layer()) {
		return d, nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s: %w", a.tag, ErrLostUpdate)
}

// pause waits for about d.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d/2 + rand.N(d)):
		return nil
	}
}

// writeLegacy appends our layer to what the tag holds, unless it is there.
func (a *attachment) writeLegacy(ctx context.Context) (legacyWrite, error) {
	if _, err := a.pushBytes(ctx, envelopeMediaType, a.envelope); err != nil {
		return legacyWrite{}, err
	}
	for range legacyTries {
		m, base, err := a.readLegacy(ctx)
		switch {
		case errors.Is(err, oci.ErrNotFound):
			m = newLegacyManifest()
		case err != nil:
			return legacyWrite{}, err
		case m.has(a.layer()):
			return legacyWrite{manifest: base}, nil
		}
		w, err := a.replaceLegacy(ctx, m, base)
		if !errors.Is(err, errMoved) {
			return w, err
		}
	}
	return legacyWrite{}, fmt.Errorf("%s: %w", a.tag, ErrLostUpdate)
}

// errMoved: the legacy tag is no longer what was read.
var errMoved = errors.New("tag moved")

// replaceLegacy adds our layer to m, and puts it under the tag if that still
// holds base. Between that last look and the write others may write all the
// same: settleLegacy sees to that.
func (a *attachment) replaceLegacy(ctx context.Context, m *legacyManifest, base ocispec.Descriptor) (legacyWrite, error) {
	config, err := m.add(a.layer())
	if err != nil {
		return legacyWrite{}, fmt.Errorf("%s: %w", a.tag, err)
	}
	if _, err := a.pushBytes(ctx, m.configType, config); err != nil {
		return legacyWrite{}, err
	}
	raw, err := m.encode()
	if err != nil {
		return legacyWrite{}, err
	}
	looked := time.Now()
	now, err := a.store.Resolve(ctx, a.tag)
	if err != nil && !errors.Is(err, oci.ErrNotFound) {
		return legacyWrite{}, err
	}
	if now.Digest != base.Digest {
		return legacyWrite{}, errMoved
	}
	d, err := a.store.PushManifest(ctx, m.mediaType, raw, a.tag)
	return legacyWrite{manifest: d, window: time.Since(looked)}, err
}

func (a *attachment) readLegacy(ctx context.Context) (*legacyManifest, ocispec.Descriptor, error) {
	d, err := a.store.Resolve(ctx, a.tag)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	raw, err := a.store.Manifest(ctx, bare(d))
	if err != nil {
		return nil, d, err
	}
	m, err := parseLegacyManifest(raw, d.MediaType)
	if err != nil {
		return nil, d, fmt.Errorf("%s holds no attestations and is left alone: %w", a.tag, err)
	}
	return m, d, nil
}

func (a *attachment) layer() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: envelopeMediaType, Digest: digest.FromBytes(a.envelope), Size: int64(len(a.envelope)),
		Annotations: map[string]string{legacySignatureKey: "", legacyPredicateKey: PredicateType},
	}
}
