package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// legacyManifest is the image manifest behind a legacy tag, with everything
// that is not ours kept as it was written.
type legacyManifest struct {
	mediaType  string
	configType string
	config     json.RawMessage
	layers     []json.RawMessage
	digests    []digest.Digest            // of the layers
	rest       map[string]json.RawMessage // other keys
}

// dockerConfigType is the config of a manifest with docker's media types,
// which cosign writes on request.
const dockerConfigType = "application/vnd.docker.container.image.v1+json"

func newLegacyManifest() *legacyManifest {
	return &legacyManifest{mediaType: ocispec.MediaTypeImageManifest, configType: ocispec.MediaTypeImageConfig}
}

// parseLegacyManifest takes an image manifest apart. mediaType is the one that
// the registry gives, for manifests that do not tell their own.
func parseLegacyManifest(raw []byte, mediaType string) (*legacyManifest, error) {
	typed, err := decodeManifest(raw)
	if err != nil {
		return nil, err
	}
	m := newLegacyManifest()
	if typed.MediaType != "" {
		mediaType = typed.MediaType
	}
	switch mediaType {
	case ocispec.MediaTypeImageManifest:
	case dockerManifestType:
		m.mediaType, m.configType = dockerManifestType, dockerConfigType
	default:
		return nil, fmt.Errorf("media type is %s, not an image manifest", quote(mediaType))
	}
	if err := json.Unmarshal(raw, &m.rest); err != nil {
		return nil, err
	}
	if l, ok := m.rest["layers"]; ok {
		if err := json.Unmarshal(l, &m.layers); err != nil {
			return nil, err
		}
	}
	for _, l := range typed.Layers {
		m.digests = append(m.digests, l.Digest)
	}
	for _, own := range []string{"schemaVersion", "mediaType", "config", "layers"} {
		delete(m.rest, own)
	}
	return m, nil
}

func (m *legacyManifest) has(l ocispec.Descriptor) bool { return slices.Contains(m.digests, l.Digest) }

// add appends a layer and gives the new config: an image config with a history
// entry and a diff id for each layer, as cosign writes it.
func (m *legacyManifest) add(l ocispec.Descriptor) ([]byte, error) {
	if len(m.layers) >= maxLayers {
		return nil, fmt.Errorf("holds %d attestations already, and readers stop there", len(m.layers))
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	m.layers = append(m.layers, raw)
	m.digests = append(m.digests, l.Digest)
	type moment struct {
		Created string `json:"created"`
	}
	zero := moment{"0001-01-01T00:00:00Z"}
	type rootFS struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	}
	config, err := json.Marshal(struct {
		Architecture string   `json:"architecture"`
		Created      string   `json:"created"`
		History      []moment `json:"history"`
		OS           string   `json:"os"`
		RootFS       rootFS   `json:"rootfs"`
		Config       struct{} `json:"config"`
	}{Created: zero.Created, History: slices.Repeat([]moment{zero}, len(m.digests)), RootFS: rootFS{"layers", m.digests}})
	if err != nil {
		return nil, err
	}
	m.config, err = json.Marshal(ocispec.Descriptor{
		MediaType: m.configType, Digest: digest.FromBytes(config), Size: int64(len(config)),
	})
	return config, err
}

// encode gives the manifest: the keys in the specification's order, then
// whatever else was there, sorted. Values are copied as they are: json.Marshal
// would compact and escape those of others.
func (m *legacyManifest) encode() ([]byte, error) {
	mediaType, err := json.Marshal(m.mediaType)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(`{"schemaVersion":2,"mediaType":`)
	out.Write(mediaType)
	out.WriteString(`,"config":`)
	out.Write(m.config)
	out.WriteString(`,"layers":[`)
	for i, l := range m.layers {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(l)
	}
	out.WriteByte(']')
	for _, k := range slices.Sorted(maps.Keys(m.rest)) {
		key, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		out.WriteByte(',')
		out.Write(key)
		out.WriteByte(':')
		out.Write(m.rest[k])
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
