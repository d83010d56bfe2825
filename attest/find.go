package attest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/oci"
)

// Limits on a search.
const (
	// maxAttestationBytes bounds what one search downloads, in bytes: ours
	// are read first, so that a flood of others costs little.
	maxAttestationBytes = 64 << 20
	// maxLayers bounds the attestations under one legacy tag, as cosign does.
	maxLayers = 1000
	// fetchers is how many attestations are downloaded at a time.
	fetchers = 8
)

// Media types and annotations of the two storage forms, as cosign v2 and v3
// write them.
const (
	bundleTypePrefix     = "application/vnd.dev.sigstore.bundle"
	emptyMediaType       = ocispec.MediaTypeEmptyJSON
	bundleContentKey     = "dev.sigstore.bundle.content"
	bundlePredicateKey   = "dev.sigstore.bundle.predicateType"
	legacyPredicateKey   = "predicateType"
	legacySignatureKey   = "dev.cosignproject.cosign/signature"
	dockerManifestType   = "application/vnd.docker.distribution.manifest.v2+json"
	legacyTagSuffix      = ".att"
	dsseEnvelopeContents = "dsse-envelope"
)

// legacyTag is the tag under which cosign v2 keeps the attestations of a
// manifest: sha256-<hex>.att in the same repository.
func legacyTag(subject digest.Digest) string {
	return strings.Replace(subject.String(), ":", "-", 1) + legacyTagSuffix
}

// located is an attestation and where it was found. Either envelope or err is
// set.
type located struct {
	where    string
	envelope *envelope
	err      error
}

// search looks for attestations in both forms.
type search struct {
	store   oci.Store
	subject digest.Digest
	left    atomic.Int64 // bytes that may still be downloaded
	skipped atomic.Int64 // attestations left out for that
	cut     error        // why the list of referrers is not the whole; nil when it is
}

// run reads both forms at the same time. What is damaged is in the result;
// only what keeps the search from being complete is an error: a registry that
// does not answer must not look like one that has no FAILED statement.
func (s *search) run(ctx context.Context) ([]located, error) {
	s.left.Store(maxAttestationBytes)
	var bundles, legacy []located
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { bundles, err = s.bundles(ctx); return err })
	g.Go(func() (err error) { legacy, err = s.legacy(ctx); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return append(bundles, legacy...), nil
}

// bundles reads the referrers that look like Sigstore bundles.
func (s *search) bundles(ctx context.Context) ([]located, error) {
	refs, err := s.store.Referrers(ctx, s.subject.String())
	var out []located
	switch {
	case errors.Is(err, oci.ErrNotFound):
	case isLimit(err):
		s.cut = err // what was listed is read
	case isContentError(err):
		out = append(out, located{where: "referrers", err: err})
	case err != nil:
		return nil, err
	}
	refs = slices.DeleteFunc(slices.Clone(refs), func(d ocispec.Descriptor) bool { return !mayBeBundle(d) })
	oursFirst(refs, bundlePredicateKey)
	found, err := s.each(ctx, "referrer", refs, s.bundle)
	return append(out, found...), err
}

// mayBeBundle says whether a referrer is worth a look. Some writers enter the
// config's media type into the fallback index instead of the artifact's.
func mayBeBundle(d ocispec.Descriptor) bool {
	switch d.MediaType {
	case ocispec.MediaTypeImageManifest, "":
	default:
		return false
	}
	return d.ArtifactType == "" || d.ArtifactType == emptyMediaType || strings.HasPrefix(d.ArtifactType, bundleTypePrefix)
}

// oursFirst sorts descriptors that are annotated as ours to the front. The
// annotation is a hint and no more: cosign itself writes wrong ones.
func oursFirst(ds []ocispec.Descriptor, key string) {
	slices.SortStableFunc(ds, func(a, b ocispec.Descriptor) int {
		rank := func(d ocispec.Descriptor) int {
			if d.Annotations[key] == PredicateType {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
}

// each fetches attestations several at a time, and keeps their order.
func (s *search) each(ctx context.Context, what string, ds []ocispec.Descriptor,
	fetch func(context.Context, ocispec.Descriptor) (*envelope, error),
) ([]located, error) {
	out := make([]located, len(ds))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, d := range ds {
		g.Go(func() error {
			e, err := fetch(ctx, d)
			if err != nil && !isContentError(err) {
				return err
			}
			out[i] = located{where: what + " " + d.Digest.String(), envelope: e, err: err}
			return nil
		})
	}
	return out, g.Wait()
}

// bundle reads one referrer.
func (s *search) bundle(ctx context.Context, d ocispec.Descriptor) (*envelope, error) {
	raw, err := s.store.Manifest(ctx, bare(d))
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case len(m.Layers) != 1 || !strings.HasPrefix(m.Layers[0].MediaType, bundleTypePrefix):
		return nil, content(errForeign)
	case m.Subject == nil || m.Subject.Digest != s.subject:
		return nil, content(errors.New("its manifest has another subject"))
	}
	b, err := s.fetch(ctx, m.Layers[0])
	if err != nil {
		return nil, err
	}
	e, err := decodeBundle(b)
	return e, content(err)
}

// legacy reads the layers under the legacy tag.
func (s *search) legacy(ctx context.Context) ([]located, error) {
	tag := legacyTag(s.subject)
	bad := func(err error) ([]located, error) {
		if !isContentError(err) {
			return nil, err
		}
		return []located{{where: "tag " + tag, err: err}}, nil
	}
	d, err := s.store.Resolve(ctx, tag)
	if errors.Is(err, oci.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return bad(err)
	}
	raw, err := s.store.Manifest(ctx, bare(d))
	if err != nil {
		return bad(err)
	}
	m, err := decodeManifest(raw)
	if err != nil {
		return bad(err)
	}
	if len(m.Layers) > maxLayers {
		return bad(content(fmt.Errorf("%d layers: at most %d are read", len(m.Layers), maxLayers)))
	}
	layers := slices.DeleteFunc(m.Layers, func(l ocispec.Descriptor) bool { return l.MediaType != envelopeMediaType })
	oursFirst(layers, legacyPredicateKey)
	return s.each(ctx, "layer under "+tag, layers, func(ctx context.Context, l ocispec.Descriptor) (*envelope, error) {
		b, err := s.fetch(ctx, l)
		if err != nil {
			return nil, err
		}
		e, err := decodeEnvelope(b)
		return e, content(err)
	})
}

// fetch downloads a blob whole, within the limits, and checks its digest.
func (s *search) fetch(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size <= 0 || d.Size > maxEnvelope {
		return nil, content(fmt.Errorf("attestation of %d bytes: at most %d are read", d.Size, maxEnvelope))
	}
	if s.left.Add(-d.Size) < 0 {
		s.left.Add(d.Size)
		s.skipped.Add(1)
		return nil, content(fmt.Errorf("not read: the attestations together are larger than %d bytes", int64(maxAttestationBytes)))
	}
	return fetchBlob(ctx, s.store, d)
}

func fetchBlob(ctx context.Context, s oci.Store, d ocispec.Descriptor) ([]byte, error) {
	rc, err := s.Fetch(ctx, bare(d))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(rc, d.Size+1))
	if cerr := rc.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return b, content(checkBytes(b, d))
}

// checkBytes compares bytes with their descriptor. The store does so too; this
// package does not rely on it.
func checkBytes(b []byte, d ocispec.Descriptor) error {
	sum := sha256.Sum256(b)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != d.Digest.String() || int64(len(b)) != d.Size {
		return fmt.Errorf("is %s of %d bytes, not %s of %d bytes", got, len(b), d.Digest, d.Size)
	}
	return nil
}

// decodeManifest decodes an image manifest.
func decodeManifest(raw []byte) (*ocispec.Manifest, error) {
	m := &ocispec.Manifest{}
	if err := decodeStrict(raw, m); err != nil {
		return nil, content(fmt.Errorf("manifest: %w", err))
	}
	switch m.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifestType, "":
		return m, nil
	}
	return nil, content(fmt.Errorf("manifest: media type is %s", quote(m.MediaType)))
}

// bare drops what a descriptor from outside could smuggle in: data, URLs.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// contentError marks an error about what was read, as against one of reading.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

func content(err error) error {
	if err == nil {
		return nil
	}
	return &contentError{err}
}

// isContentError says whether the fault is with the attestation itself: then
// it is passed over, since anybody may attach a broken one. Anything else (no
// connection, refused, server error) ends the search.
func isContentError(err error) bool {
	var (
		ours        *contentError
		wrong       *oci.DigestError
		large       *oci.LimitError
		unsupported *oci.UnsupportedError
		malformed   *oci.ManifestError
	)
	return errors.As(err, &ours) || errors.As(err, &malformed) || errors.Is(err, oci.ErrNotFound) || errors.As(err, &wrong) ||
		errors.As(err, &large) || errors.As(err, &unsupported)
}

func isLimit(err error) bool {
	var large *oci.LimitError
	return errors.As(err, &large)
}
