// Package oci moves models in and out of registries and OCI image layouts:
// the ModelPack manifest, the transport of blobs, referrers. What a file holds
// is not its business: a layer is an opener with a size.
package oci

import (
	"context"
	"hash"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/model"
)

// Media types of the CNCF ModelPack specification.
const (
	ArtifactType          = "application/vnd.cncf.model.manifest.v1+json"
	ConfigMediaType       = "application/vnd.cncf.model.config.v1+json"
	WeightMediaType       = "application/vnd.cncf.model.weight.v1.raw"
	WeightConfigMediaType = "application/vnd.cncf.model.weight.config.v1.raw"
	DocMediaType          = "application/vnd.cncf.model.doc.v1.raw"
	CodeMediaType         = "application/vnd.cncf.model.code.v1.raw"

	FilepathAnnotation = "org.cncf.model.filepath"
)

// Options is how registries are reached. The zero value does what docker does.
type Options struct {
	PlainHTTP bool
	Insecure  bool   // TLS without verification
	CAFile    string // PEM, added to the system's
	Username  string // instead of the docker configuration
	Password  string
	// AuthFile is the only file with credentials to look into, of the form
	// of docker's config.json; empty for docker's own, and MoreAuthFiles.
	AuthFile string
	// MoreAuthFiles are files of that form that are looked into after
	// docker's, such as podman's auth.json. They need not exist.
	MoreAuthFiles []string
	Concurrency   int // layers in flight; default 4
	UserAgent     string
	Transport     http.RoundTripper // for tests; nil for the real one
}

// Store is one repository, in a registry or in an OCI layout on disk. All
// methods may be called concurrently.
type Store interface {
	// Reference gives the printable form with a digest: REPO@sha256:...
	Reference(digest string) string
	// Resolve gives the descriptor of a tag or digest. ErrNotFound when
	// there is none.
	Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error)
	// Manifest gives a manifest's bytes, checked against its digest; at
	// most 4 MiB.
	Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error)
	// Blob opens a blob for reading by range. The ranges are not
	// authenticated: only Fetch is. Reading ends with ctx.
	Blob(ctx context.Context, d ocispec.Descriptor) (model.Blob, error)
	// Fetch reads a blob from its first byte; the reader fails on its last
	// read, or on Close, when size or digest are not the descriptor's.
	Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
	// Exists says whether the store has the blob.
	Exists(ctx context.Context, d ocispec.Descriptor) (bool, error)
	// PushBlob stores content in one pass and returns its descriptor. A
	// connection that breaks is retried from a fresh read.
	PushBlob(ctx context.Context, c Content) (ocispec.Descriptor, error)
	// PushManifest stores a manifest under its digest, and under tag unless
	// that is empty.
	PushManifest(ctx context.Context, mediaType string, manifest []byte, tag string) (ocispec.Descriptor, error)
	// Referrers lists the manifests whose subject is digest, from the
	// referrers API or the fallback tag. Entries that are no descriptors of
	// manifests are passed over. Where there are more than 1000, the first
	// come with an error that wraps *LimitError.
	Referrers(ctx context.Context, digest string) ([]ocispec.Descriptor, error)
	// AddReferrer stores a manifest that has a subject, and where there is
	// no referrers API enters it into the fallback tag's index. What others
	// have in there stays; a manifest of another kind there is an error.
	AddReferrer(ctx context.Context, subject ocispec.Descriptor, manifest []byte, artifactType string, annotations map[string]string) (ocispec.Descriptor, error)
}

// Content is what becomes a blob. Its size is known before its digest.
type Content struct {
	MediaType string
	Reader    io.ReaderAt
	Size      int64
	// Digest is set where it is known beforehand: then the blob is skipped
	// if the store has it.
	Digest string
	// Tap makes a writer that sees every byte once and in order; called
	// again when an upload starts again. It sees them also where the blob is
	// skipped: then the content is read for it alone. nil for none.
	// A HashingTap saves the store a reading of its own.
	Tap func() io.Writer
}

// HashingTap is a tap that adds the bytes that it takes to whole as well, the
// hash of the blob: whoever hashes parts of a blob can do both at once.
type HashingTap interface {
	io.Writer
	WriteHashing(p []byte, whole hash.Hash) (int, error)
}

// Layer is one file of an artifact.
type Layer struct {
	Path    string
	Content Content
	// Done is called with the final descriptor, when the blob is in the
	// store; never for two layers at the same time.
	Done func(ocispec.Descriptor)
}

// Artifact is a model to be pushed.
type Artifact struct {
	Layers []Layer
	Config ModelConfig
}

// ModelConfig is the part of the ModelPack config that we know.
type ModelConfig struct {
	Name         string
	Architecture string
	Format       string // "safetensors"
	ParamSize    string // such as "124M"
	Precision    string // such as "F16"
}

// Pushed is the result of a push.
type Pushed struct {
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor // sorted by path, as in the manifest
	Skipped  int                  // blobs that the store had
}

// Staged is an artifact whose blobs are in the store and whose manifest is
// built but not yet pushed.
type Staged struct {
	Pushed
	ManifestBytes []byte
}

// Event reports progress of long work: each change of a blob's state, and its
// bytes at intervals.
type Event struct {
	Path  string
	Phase string // "upload", "download", "skip", "done", "retry"
	Done  int64
	Total int64
}

// File is a file of an artifact that was read back: path and descriptor.
type File struct {
	Path string
	ocispec.Descriptor
}
