package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/model"
)

const (
	// legacyFilepathAnnotation is the name before ModelPack moved to the CNCF.
	legacyFilepathAnnotation = "org.cnai.model.filepath"
	// unpackAnnotation marks what oras packed from a directory.
	unpackAnnotation = "io.deis.oras.content.unpack"
	// maxJSONDepth bounds the nesting of a manifest.
	maxJSONDepth = 64
)

// Prefixes of media types whose layers are files by their type.
var modelPrefixes = []string{
	"application/vnd.cncf.model.",
	"application/vnd.cnai.model.",
	"application/vnd.docker.ai.",
}

// IsWeight says whether a layer's media type calls it weights: ModelPack's, its
// older name, or docker's.
func IsWeight(mediaType string) bool {
	for _, prefix := range []string{
		"application/vnd.cncf.model.weight.v1.", "application/vnd.cnai.model.weight.v1.",
		"application/vnd.docker.ai.safetensors", "application/vnd.docker.ai.gguf",
	} {
		if strings.HasPrefix(mediaType, prefix) {
			return true
		}
	}
	return false
}

// ManifestError says what makes a manifest unfit to be read as files.
type ManifestError struct {
	Layer  int // from 0; negative for the manifest as a whole
	Reason string
	Err    error // the cause, where another package has found it
}

// Unwrap gives the cause.
func (e *ManifestError) Unwrap() error { return e.Err }

func (e *ManifestError) Error() string {
	if e.Layer < 0 {
		return "manifest: " + e.Reason
	}
	return fmt.Sprintf("manifest, layer %d: %s", e.Layer, e.Reason)
}

// Files reads a manifest's layers as files: ModelPack raw layers, and any
// artifact that gives org.opencontainers.image.title (oras). Paths are checked
// by model.CheckPaths. Layers that are archives are an *UnsupportedError;
// what two readers could understand in two ways is a *ManifestError. The
// result is sorted by path.
func Files(manifest []byte) ([]File, error) {
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(m.Layers))
	paths := make([]string, len(m.Layers))
	for i, d := range m.Layers {
		if err := checkBlobDescriptor(d); err != nil {
			return nil, &ManifestError{Layer: i, Reason: err.Error()}
		}
		if paths[i], err = layerPath(i, d); err != nil {
			return nil, err
		}
		files[i] = File{Path: paths[i], Descriptor: d}
	}
	if err := model.CheckPaths(paths); err != nil {
		return nil, &ManifestError{Layer: -1, Reason: err.Error(), Err: err}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	return files, nil
}

// parseManifest reads an image manifest in the one way it can be read.
func parseManifest(manifest []byte) (*ocispec.Manifest, error) {
	if len(manifest) > MaxManifest {
		return nil, &LimitError{What: "bytes in a manifest", Limit: MaxManifest}
	}
	if err := checkJSON(manifest); err != nil {
		return nil, &ManifestError{Layer: -1, Reason: err.Error()}
	}
	var m struct {
		ocispec.Manifest
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, &ManifestError{Layer: -1, Reason: err.Error()}
	}
	switch {
	case m.Manifests != nil && m.Layers == nil:
		return nil, &UnsupportedError{What: "manifest", Type: m.MediaType, Reason: "it is an index of several manifests; name one of them by digest"}
	case m.Manifests != nil || m.FSLayers != nil:
		return nil, &ManifestError{Layer: -1, Reason: "it has the fields of two kinds of manifest"}
	case m.SchemaVersion != 2:
		return nil, &UnsupportedError{What: "manifest", Type: m.MediaType, Reason: fmt.Sprintf("schema version %d", m.SchemaVersion)}
	case len(m.Layers) == 0:
		return nil, &UnsupportedError{What: "manifest", Type: m.MediaType, Reason: "it has no layers"}
	}
	return &m.Manifest, nil
}

// layerPath gives the path of a layer that is a file.
func layerPath(i int, d ocispec.Descriptor) (string, error) {
	path, err := annotatedPath(i, d.Annotations)
	if err != nil {
		return "", err
	}
	what := fmt.Sprintf("layer %d", i)
	if path != "" {
		what += " " + clip(path)
	}
	typed := hasPrefix(d.MediaType, modelPrefixes)
	switch {
	case d.Annotations[unpackAnnotation] == "true", typed && isArchiveType(d.MediaType),
		strings.HasPrefix(d.MediaType, "application/vnd.kitops.modelkit."):
		return "", &UnsupportedError{What: what, Type: clip(d.MediaType), Reason: "it is an archive, not a file"}
	case path == "":
		return "", &UnsupportedError{What: what, Type: clip(d.MediaType), Reason: "nothing says which file it is"}
	}
	return path, nil
}

// annotatedPath reads the annotations that name a file. Where several do,
// they must agree: other readers look at one of them only.
func annotatedPath(i int, a map[string]string) (string, error) {
	path := ""
	for _, key := range []string{FilepathAnnotation, legacyFilepathAnnotation, ocispec.AnnotationTitle} {
		v := a[key]
		switch {
		case v == "" || v == path:
		case path == "":
			path = v
		default:
			return "", &ManifestError{Layer: i, Reason: fmt.Sprintf("two paths, %q and %q", clip(path), clip(v))}
		}
	}
	return path, nil
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// isArchiveType goes by the encodings of ModelPack and docker: .tar,
// .tar+gzip, .tar+zstd, .dir.tar, .vllm.config.tar.
func isArchiveType(mediaType string) bool {
	base, encoding, _ := strings.Cut(mediaType, "+")
	return strings.HasSuffix(base, ".tar") || encoding != ""
}

// checkJSON refuses what JSON readers disagree about: a name twice in one
// object (also in another case, which some take for the same), data after the
// value.
func checkJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkJSONValue(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("data after the JSON value")
	}
	return nil
}

func checkJSONValue(dec *json.Decoder, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("nested deeper than %d", maxJSONDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // the decoder allows nothing else
			folded := strings.ToLower(name)
			if seen[folded] {
				return fmt.Errorf("the name %q occurs twice in one object", clip(name))
			}
			seen[folded] = true
		}
		if err := checkJSONValue(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing bracket
	return err
}

// artifactSource is an artifact's files as a model source.
type artifactSource struct {
	store Store
	files []File
}

// Source lists an artifact's files as a model source, read by range. Ranges
// are not authenticated: what matters has to be checked against the digests
// that List gives.
func Source(s Store, manifest []byte) (model.Source, error) {
	files, err := Files(manifest)
	if err != nil {
		return nil, err
	}
	return &artifactSource{store: s, files: files}, nil
}

// List gives the files, which Files has sorted.
func (a *artifactSource) List(context.Context) ([]model.Entry, error) {
	entries := make([]model.Entry, len(a.files))
	for i, f := range a.files {
		entries[i] = model.Entry{Path: f.Path, Size: f.Size, Digest: f.Digest.String()}
	}
	return entries, nil
}

// Open opens one of them.
func (a *artifactSource) Open(ctx context.Context, path string) (model.Blob, error) {
	i := sort.Search(len(a.files), func(i int) bool { return a.files[i].Path >= path })
	if i == len(a.files) || a.files[i].Path != path {
		return nil, fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	return a.store.Blob(ctx, a.files[i].Descriptor)
}
