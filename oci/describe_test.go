package oci_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// What manifests and configs of several tools say about themselves.
func TestDescribe(t *testing.T) {
	t.Parallel()
	const modelpack = oci.ConfigMediaType
	base := "sha256:" + strings.Repeat("b", 64)
	for name, test := range map[string]struct {
		configType, config string
		annotations        map[string]string
		created, format    string
	}{
		"ModelPack":    {modelpack, `{"descriptor":{"createdAt":"2026-01-02T03:04:05Z"},"config":{"format":"safetensors"}}`, nil, "2026-01-02T03:04:05Z", "safetensors"},
		"docker model": {"application/vnd.docker.ai.model.config.v0.2+json", `{"descriptor":{"created":"2026-01-02T04:04:05+01:00"},"config":{"format":"gguf"}}`, nil, "2026-01-02T03:04:05Z", "gguf"},
		"image":        {ocispec.MediaTypeImageConfig, `{"created":"2025-01-01T00:00:00Z","config":{}}`, nil, "2025-01-01T00:00:00Z", ""},
		"annotation first": {
			modelpack, `{"descriptor":{"createdAt":"2020-01-01T00:00:00Z"}}`,
			map[string]string{ocispec.AnnotationCreated: "2026-05-06T07:08:09Z"}, "2026-05-06T07:08:09Z", "",
		},
		"no time":       {modelpack, `{"descriptor":{"createdAt":"1970-01-01T00:00:00Z"}}`, map[string]string{ocispec.AnnotationCreated: "today"}, "", ""},
		"other kinds":   {modelpack, `{"descriptor":7}`, nil, "", ""},
		"no JSON":       {modelpack, `{"descriptor"`, nil, "", ""},
		"not described": {"application/octet-stream", `{"created":"2025-01-01T00:00:00Z"}`, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "oci:"+filepath.Join(t.TempDir(), "layout"))
			push := func(mediaType string, b []byte) ocispec.Descriptor {
				d, err := s.PushBlob(t.Context(), oci.Content{MediaType: mediaType, Reader: bytes.NewReader(b), Size: int64(len(b))})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			notes := map[string]string{ocispec.AnnotationBaseImageDigest: base}
			for k, v := range test.annotations {
				notes[k] = v
			}
			manifest, err := json.Marshal(ocispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
				Config: push(test.configType, []byte(test.config)), Annotations: notes,
				Layers: []ocispec.Descriptor{push(oci.WeightMediaType, ocitest.Random(100, 1)), {MediaType: "x/y", Digest: digest.FromString("absent"), Size: 23}},
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := oci.Describe(t.Context(), s, manifest)
			if err != nil {
				t.Fatal(err)
			}
			created := ""
			if !got.Created.IsZero() {
				created = got.Created.Format("2006-01-02T15:04:05Z07:00")
			}
			if created != test.created || got.Format != test.format || got.Bytes != 123 || len(got.Layers) != 2 || got.Base != base || got.ArtifactType != test.configType {
				t.Errorf("%+v", got)
			}
		})
	}
}

// An index is described too, and a config that is not there says nothing.
func TestDescribeOthers(t *testing.T) {
	t.Parallel()
	s := open(t, "oci:"+filepath.Join(t.TempDir(), "layout"))
	absent := ocispec.Descriptor{MediaType: oci.ConfigMediaType, Digest: digest.FromString("absent"), Size: 6}
	for name, manifest := range map[string]any{
		"index":     ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{absent}},
		"no config": ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: absent, Layers: []ocispec.Descriptor{absent}},
	} {
		raw, err := json.Marshal(manifest)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := oci.Describe(t.Context(), s, raw); err != nil || got.Bytes != 6 || len(got.Layers) != 1 || !got.Created.IsZero() {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
