package oci

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxConfig is the largest config that Describe reads, in bytes.
const maxConfig = 1 << 20

// Description is what a manifest and its config say about themselves. Nothing
// of it is verified but the digests.
type Description struct {
	// ArtifactType is the manifest's, or the media type of its config.
	ArtifactType string
	// Layers are the manifest's blobs, without its config; for an index its
	// manifests.
	Layers []ocispec.Descriptor
	// Bytes are the layers together.
	Bytes int64
	// Format is what ModelPack's or docker's config calls the weights, such
	// as "safetensors"; empty where it does not say.
	Format string
	// Created is from the manifest's annotation or from the config; zero
	// where neither says.
	Created time.Time
	// Base is the digest of the manifest that this one was made from, by its
	// annotation (image-spec, "Pre-Defined Annotation Keys"); empty without.
	Base string
}

// Describe describes a manifest of a store. It reads the config, and no layer;
// a config that is missing, large, or not JSON says nothing. Errors are those of
// the store, and *ManifestError for what is no manifest.
func Describe(ctx context.Context, s Store, manifest []byte) (*Description, error) {
	var m struct {
		manifestFields
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, &ManifestError{Layer: -1, Reason: err.Error(), Err: err}
	}
	out := &Description{ArtifactType: m.ArtifactType, Layers: m.Layers, Created: parseTime(m.Annotations[ocispec.AnnotationCreated])}
	if m.Layers == nil {
		out.Layers = m.Manifests
	}
	if out.ArtifactType == "" && m.Config != nil {
		out.ArtifactType = m.Config.MediaType
	}
	for _, l := range out.Layers {
		if l.Size > 0 && out.Bytes+l.Size > out.Bytes {
			out.Bytes += l.Size
		}
	}
	if base := m.Annotations[ocispec.AnnotationBaseImageDigest]; isDigest(base) {
		out.Base = base
	}
	return out, out.readConfig(ctx, s, m.Config)
}

// readConfig takes what is there from a config of the kinds that describe
// models.
func (desc *Description) readConfig(ctx context.Context, s Store, d *ocispec.Descriptor) error {
	if d == nil || !strings.HasSuffix(d.MediaType, "+json") || d.MediaType == ocispec.MediaTypeEmptyJSON ||
		checkBlobDescriptor(*d) != nil || d.Size > maxConfig {
		return nil
	}
	data, err := readConfig(ctx, s, *d)
	if errors.Is(err, ErrNotFound) || isA[*DigestError](err) {
		return nil
	}
	if err != nil {
		return err
	}
	var doc struct {
		Created    string `json:"created"`
		Descriptor struct {
			Created   string `json:"created"`   // docker
			CreatedAt string `json:"createdAt"` // ModelPack
		} `json:"descriptor"`
		Config struct {
			Format string `json:"format"`
		} `json:"config"`
	}
	if json.Unmarshal(data, &doc) != nil {
		return nil
	}
	desc.Format = clip(doc.Config.Format)
	for _, text := range []string{doc.Descriptor.CreatedAt, doc.Descriptor.Created, doc.Created} {
		if desc.Created.IsZero() {
			desc.Created = parseTime(text)
		}
	}
	return nil
}

func readConfig(ctx context.Context, s Store, d ocispec.Descriptor) ([]byte, error) {
	body, err := s.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	return data, errors.Join(err, body.Close())
}

// parseTime reads an RFC 3339 time. The times that tools write where they
// want none, the epoch and the year 1, are none.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}
	}
	return t.UTC()
}
