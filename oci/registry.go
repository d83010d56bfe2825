package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest is the largest manifest read or written, in bytes: what the
// distribution specification asks registries to accept.
const MaxManifest = 4 << 20

// manifestTypes are the manifests asked for.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json",
	dockerListType,
}

const dockerListType = "application/vnd.docker.distribution.manifest.list.v2+json"

// registry is a repository in a registry. Authentication is
// go-containerregistry's; requests are made here.
type registry struct {
	repo    name.Repository
	pull    *session
	push    *session
	pause   time.Duration
	stall   time.Duration
	workers int
	buffers bufferPool

	// putOnly is set once the registry has refused a streamed upload.
	putOnly atomic.Bool
	// fallback serialises our own changes to fallback tags.
	fallback sync.Mutex
	recent   manifestCache
}

func newRegistry(repo name.Repository, opt Options) (*registry, error) {
	base, err := baseTransport(opt, repo.Registry)
	if err != nil {
		return nil, err
	}
	agent := opt.UserAgent
	if agent == "" {
		agent = defaultUserAgent
	}
	auth := authenticator(opt, repo)
	open := func(scope string) *session {
		return &session{repo: repo, scope: scope, base: base, auth: auth, agent: agent}
	}
	return &registry{
		repo: repo, pull: open(transport.PullScope), push: open(transport.PushScope),
		pause: firstPause, stall: stallTimeout, workers: opt.concurrency(),
	}, nil
}

// reader is the session for reading: the one for pushing where that exists,
// so that a push makes one handshake.
func (r *registry) reader() *session {
	if r.push.ready() {
		return r.push
	}
	return r.pull
}

// Reference gives REGISTRY/REPO@DIGEST, or :TAG for what is not a digest.
func (r *registry) Reference(id string) string { return withIdentifier(r.repo.Name(), id) }

func withIdentifier(base, id string) string {
	if isDigest(id) {
		return base + "@" + id
	}
	return base + ":" + id
}

// Resolve gets the manifest itself rather than its headers, and hashes it.
func (r *registry) Resolve(ctx context.Context, id string) (ocispec.Descriptor, error) {
	if !isDigest(id) && !tagPattern.MatchString(id) {
		return ocispec.Descriptor{}, &ReferenceError{Ref: id, Reason: "neither a tag nor a sha256 digest"}
	}
	ref := r.Reference(id)
	body, contentType, err := r.getManifest(ctx, "resolve", id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := describeManifest(body, contentType)
	if err == nil && isDigest(id) {
		err = matchManifest(body, ocispec.Descriptor{Digest: digest.Digest(id), Size: d.Size})
	}
	if err != nil {
		return ocispec.Descriptor{}, networkError(ctx, "resolve", ref, err)
	}
	r.recent.put(d.Digest.String(), body)
	return d, nil
}

// Manifest reads a manifest by digest.
func (r *registry) Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	id := d.Digest.String()
	if err := checkManifestDescriptor(d); err != nil {
		return nil, err
	}
	body, ok := r.recent.get(id)
	if !ok {
		var err error
		if body, _, err = r.getManifest(ctx, "read manifest", id); err != nil {
			return nil, err
		}
	}
	if err := matchManifest(body, d); err != nil {
		return nil, networkError(ctx, "read manifest", r.Reference(id), err)
	}
	r.recent.put(id, body)
	return bytes.Clone(body), nil
}

func (r *registry) getManifest(ctx context.Context, op, id string) ([]byte, string, error) {
	a, err := r.small(ctx, r.reader(), op, r.Reference(id), request{
		method: http.MethodGet, url: r.endpoint("manifests", id),
		header: http.Header{"Accept": {strings.Join(manifestTypes, ", ")}}, want: []int{http.StatusOK},
	}, MaxManifest)
	if err != nil {
		return nil, "", err
	}
	return a.body, a.header.Get("Content-Type"), nil
}

// PushManifest stores a manifest under its digest, and under tag. The tag
// comes last: it never points to what is not there.
func (r *registry) PushManifest(ctx context.Context, mediaType string, manifest []byte, tag string) (ocispec.Descriptor, error) {
	d, err := newManifestDescriptor(mediaType, manifest, tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	id := tag
	if tag == "" {
		id = d.Digest.String()
	}
	if _, err := r.putManifest(ctx, "push manifest", d, manifest, id); err != nil {
		return ocispec.Descriptor{}, err
	}
	return d, nil
}

// putManifest stores a manifest under one name: registries keep what has a
// tag under its digest too (distribution-spec, "Pushing Manifests").
func (r *registry) putManifest(ctx context.Context, op string, d ocispec.Descriptor, manifest []byte, id string) (answer, error) {
	a, err := r.small(ctx, r.push, op, r.Reference(id), request{
		method: http.MethodPut, url: r.endpoint("manifests", id),
		header: http.Header{"Content-Type": {d.MediaType}},
		get:    bytesBody(manifest), length: int64(len(manifest)),
	}, maxErrorBody)
	if err != nil {
		return answer{}, err
	}
	if got := a.header.Get("Docker-Content-Digest"); isDigest(got) && got != d.Digest.String() {
		return answer{}, networkError(ctx, op, r.Reference(id), &DigestError{
			What: "manifest as stored", Want: d.Digest.String(), Got: got, WantSize: d.Size, GotSize: d.Size,
		})
	}
	return a, nil
}

// Exists asks for a blob's headers. A blob whose size is not the
// descriptor's is not the one.
func (r *registry) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	return r.exists(ctx, r.reader(), d)
}

func (r *registry) exists(ctx context.Context, s *session, d ocispec.Descriptor) (there bool, err error) {
	if err := checkDigest(d.Digest.String()); err != nil {
		return false, err
	}
	err = r.retry(ctx, "look for blob", r.Reference(d.Digest.String()), nil, func(int) error {
		there, err = r.existsOnce(ctx, s, d)
		return err
	})
	return there, err
}

func (r *registry) existsOnce(ctx context.Context, s *session, d ocispec.Descriptor) (bool, error) {
	a, err := r.smallOnce(ctx, s, request{
		method: http.MethodHead, url: r.endpoint("blobs", d.Digest.String()), want: []int{http.StatusOK},
	}, 0, stallTimeout)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64)
	return err != nil || d.Size <= 0 || n == d.Size, nil
}

func bytesBody(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// digestOf hashes bytes in memory.
func digestOf(b []byte) digest.Digest {
	sum := sha256.Sum256(b)
	return digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// manifestFields is what this package wants to know of any manifest.
type manifestFields struct {
	MediaType    string              `json:"mediaType"`
	ArtifactType string              `json:"artifactType"`
	Config       *ocispec.Descriptor `json:"config"`
	Subject      *ocispec.Descriptor `json:"subject"`
	Annotations  map[string]string   `json:"annotations"`
}

// describeManifest makes the descriptor of manifest bytes. The manifest's own
// media type decides; an answer that calls it something else is refused,
// since two readers would then see two things (image-spec, "mediaType").
func describeManifest(body []byte, contentType string) (ocispec.Descriptor, error) {
	var m manifestFields
	if err := json.Unmarshal(body, &m); err != nil {
		return ocispec.Descriptor{}, &ManifestError{Layer: -1, Reason: "not JSON: " + err.Error(), Err: err}
	}
	known := false
	for _, t := range manifestTypes {
		known = known || t == contentType
	}
	mediaType := m.MediaType
	switch {
	case mediaType == "":
		mediaType = contentType
	case known && mediaType != contentType:
		return ocispec.Descriptor{}, &ManifestError{Layer: -1, Reason: fmt.Sprintf("it says it is %s, the registry says it is %s", clip(mediaType), contentType)}
	}
	return ocispec.Descriptor{
		MediaType: mediaType, Digest: digestOf(body), Size: int64(len(body)), ArtifactType: m.ArtifactType,
	}, nil
}

func checkManifestDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest.String()); err != nil {
		return err
	}
	if d.Size < 0 || d.Size > MaxManifest {
		return &LimitError{What: "bytes in a manifest", Limit: MaxManifest}
	}
	return nil
}

// matchManifest checks bytes against a descriptor; a size of zero is unknown.
func matchManifest(body []byte, d ocispec.Descriptor) error {
	got := digestOf(body)
	if got != d.Digest || (d.Size > 0 && d.Size != int64(len(body))) {
		return &DigestError{What: "manifest", Want: d.Digest.String(), Got: got.String(), WantSize: d.Size, GotSize: int64(len(body))}
	}
	return nil
}

// newManifestDescriptor checks what is to be pushed.
func newManifestDescriptor(mediaType string, manifest []byte, tag string) (ocispec.Descriptor, error) {
	if len(manifest) > MaxManifest {
		return ocispec.Descriptor{}, &LimitError{What: "bytes in a manifest", Limit: MaxManifest}
	}
	if tag != "" && !tagPattern.MatchString(tag) {
		return ocispec.Descriptor{}, &ReferenceError{Ref: tag, Reason: "not a valid tag"}
	}
	var m manifestFields
	if err := json.Unmarshal(manifest, &m); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("manifest is not JSON: %w", err)
	}
	return ocispec.Descriptor{
		MediaType: mediaType, Digest: digestOf(manifest), Size: int64(len(manifest)), ArtifactType: m.ArtifactType,
	}, nil
}

// manifestCache keeps the last few manifests by digest: resolving, reading
// and listing referrers would otherwise get the same bytes again.
type manifestCache struct {
	mu   sync.Mutex
	ids  [8]string
	data [8][]byte
	next int
}

// maxCached is the largest manifest kept.
const maxCached = 64 << 10

func (c *manifestCache) get(id string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.ids {
		if c.ids[i] == id {
			return c.data[i], true
		}
	}
	return nil, false
}

func (c *manifestCache) put(id string, b []byte) {
	if len(b) > maxCached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.ids {
		if c.ids[i] == id {
			return
		}
	}
	c.ids[c.next], c.data[c.next] = id, b
	c.next = (c.next + 1) % len(c.ids)
}

// digestFrom is the typed form of a digest already checked.
func digestFrom(id string) digest.Digest { return digest.Digest(id) }
