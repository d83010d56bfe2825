package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
)

// What is read of an image without a statement, to see whether it holds
// weights at all. What is larger is taken for a model.
const (
	maxImageRead     = 64 << 20  // bytes fetched
	maxImageUnpacked = 256 << 20 // bytes after decompression
	maxImageFile     = 16 << 20  // bytes of one file
	maxImageLayers   = 128
	maxUnknown       = 1 << 20 // bytes of a file of no known format
)

// content looks into a reference without a statement that may stand for
// something that is no model: that is only said when all of it was read and
// nothing in it is or claims to be weights.
func (v *clusterVerdict) content(ctx context.Context, c *checkedModel) error {
	if weights, err := artifactWeights(ctx, c.store, c.manifest); err == nil && !weights {
		v.State, v.Detail = stateNotAModel, "no file in it has weights"
	}
	return ctx.Err() // of any other error the verdict stands
}

// errMayBe says that something is too large or too odd to be ruled out.
var errMayBe = errors.New("may hold a model")

// artifactWeights says whether an artifact or an image has a file with weights.
// An error is what keeps that from being known.
func artifactWeights(ctx context.Context, store oci.Store, manifest []byte) (bool, error) {
	if src, err := oci.Source(store, manifest); err == nil {
		m, err := model.Load(ctx, "", src)
		if err != nil {
			return false, err
		}
		for _, f := range m.Files {
			if weights, err := judged(f.Path, f.Format, f.Size); weights || err != nil {
				return weights, err
			}
		}
		return false, nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return false, err
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxImageLayers || m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != "application/vnd.docker.container.image.v1+json" {
		return false, errMayBe
	}
	left := int64(maxImageRead)
	for _, layer := range m.Layers {
		if left -= layer.Size; left < 0 {
			return false, errMayBe
		}
		weights, err := layerWeights(ctx, store, layer)
		if weights || err != nil {
			return weights, err
		}
	}
	return false, nil
}

// layerWeights looks through the files of an image's layer.
func layerWeights(ctx context.Context, store oci.Store, layer ocispec.Descriptor) (found bool, err error) {
	body, err := store.Fetch(ctx, layer)
	if err != nil {
		return false, err
	}
	defer body.Close()
	unpacked, err := decompress(layer.MediaType, body)
	if err != nil {
		return false, err
	}
	defer unpacked.Close()
	limited := io.LimitReader(unpacked, maxImageUnpacked)
	archive := tar.NewReader(limited)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// The whole layer has to have been read, and be the one that its
			// digest promises.
			if _, err := io.Copy(io.Discard, limited); err != nil {
				return false, err
			}
			_, err := io.Copy(io.Discard, body)
			return false, err
		}
		if err != nil {
			return false, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		weights, err := fileWeights(h, archive)
		if weights || err != nil {
			return weights, err
		}
	}
}

func fileWeights(h *tar.Header, r io.Reader) (bool, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxImageFile))
	if err != nil {
		return false, err
	}
	format, err := model.Sniff(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return false, err
	}
	// Of a large file only its beginning was seen, which is enough for programs.
	if h.Size > int64(len(content)) && format != model.ELF && format != model.PE && format != model.MachO {
		format = model.Unknown
	}
	return judged(h.Name, format, h.Size)
}

// judged says whether a file has weights, or claims to by its name. That it has
// none is only said of formats that are known to hold none, and of small files.
func judged(path string, format model.Format, size int64) (bool, error) {
	if format.Weights() || model.DeclaredFormat(path).Weights() {
		return true, nil
	}
	switch {
	case format.Textual():
		return false, nil
	case slices.Contains([]model.Format{model.Image, model.Empty, model.ELF, model.PE, model.MachO}, format):
		return false, nil
	case (format == model.Unknown || format == model.Protobuf) && size <= maxUnknown:
		return false, nil
	}
	return false, errMayBe
}

func decompress(mediaType string, r io.Reader) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		return gzip.NewReader(r)
	case strings.HasSuffix(mediaType, "zstd"):
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(maxImageRead), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case strings.HasSuffix(mediaType, ".tar"):
		return io.NopCloser(r), nil
	}
	return nil, errMayBe
}
