package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/model"
)

// untestedAnnotation says whether a layer's media type is a guess from its
// name. Ours are from content.
const untestedAnnotation = "org.cncf.model.file.mediatype.untested"

// modelDocument is the ModelPack config (model-spec, "Model Artifact
// Configuration"), without its time stamps.
type modelDocument struct {
	Descriptor struct {
		Name string `json:"name,omitempty"`
	} `json:"descriptor"`
	ModelFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diffIds"`
	} `json:"modelfs"`
	Config struct {
		Architecture string `json:"architecture,omitempty"`
		Format       string `json:"format,omitempty"`
		ParamSize    string `json:"paramSize,omitempty"`
		Precision    string `json:"precision,omitempty"`
	} `json:"config"`
}

// configJSON is the config for layers in manifest order. A raw layer's
// content is the file, so its diffId is its digest.
func (c ModelConfig) configJSON(layers []ocispec.Descriptor) ([]byte, error) {
	var doc modelDocument
	doc.Descriptor.Name = c.Name
	doc.ModelFS.Type = "layers"
	doc.ModelFS.DiffIDs = make([]string, len(layers))
	for i, l := range layers {
		doc.ModelFS.DiffIDs[i] = l.Digest.String()
	}
	doc.Config.Architecture, doc.Config.Format = c.Architecture, c.Format
	doc.Config.ParamSize, doc.Config.Precision = c.ParamSize, c.Precision
	return json.Marshal(doc)
}

// layerDescriptor annotates a blob as a file. Both names are given: readers
// know one or the other.
func layerDescriptor(d ocispec.Descriptor, path string) ocispec.Descriptor {
	d.Annotations = map[string]string{
		FilepathAnnotation:      path,
		ocispec.AnnotationTitle: path,
		untestedAnnotation:      "false",
	}
	return d
}

func manifestJSON(config ocispec.Descriptor, layers []ocispec.Descriptor) ([]byte, error) {
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType, Config: config, Layers: layers,
	})
	if err == nil && len(b) > MaxManifest {
		err = &LimitError{What: "bytes in a manifest (too many files)", Limit: MaxManifest}
	}
	return b, err
}

// PushLayers uploads the layers of an artifact, several at a time, and its
// config. No manifest is written: nothing is visible yet. Same input, same
// digest: no time stamp, no host data, layers in path order.
//
// progress may be nil. It and the layers' Done are never called at the same
// time. Errors name the layer.
func PushLayers(ctx context.Context, s Store, a Artifact, opt Options, progress func(Event)) (*Staged, error) {
	layers, err := a.sorted()
	if err != nil {
		return nil, err
	}
	raw := rawOf(s)
	st := &Staged{Pushed: Pushed{Layers: make([]ocispec.Descriptor, len(layers))}}
	out := &outlet{progress: progress}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(opt.concurrency())
	for _, i := range largestFirst(layers) {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			l := layers[i]
			p, err := pushLayer(gctx, raw, l, out)
			if err != nil {
				return fmt.Errorf("%s: %w", l.Path, err)
			}
			st.Layers[i] = layerDescriptor(p.Descriptor, l.Path)
			out.finished(l, p, &st.Skipped)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	if err := st.finish(ctx, s, a.Config); err != nil {
		return nil, err
	}
	return st, nil
}

// sorted gives the layers by path, after every check that needs no byte of
// them.
func (a Artifact) sorted() ([]Layer, error) {
	if len(a.Layers) == 0 {
		return nil, errors.New("an artifact without files")
	}
	layers := slices.Clone(a.Layers)
	sort.SliceStable(layers, func(i, j int) bool { return layers[i].Path < layers[j].Path })
	paths := make([]string, len(layers))
	trial := make([]ocispec.Descriptor, len(layers))
	for i, l := range layers {
		paths[i] = l.Path
		if err := l.Content.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Path, err)
		}
		trial[i] = layerDescriptor(l.Content.descriptor(string(digestOf(nil))), l.Path)
	}
	if err := model.CheckPaths(paths); err != nil {
		return nil, err
	}
	// The manifest's size does not depend on the digests.
	_, err := manifestJSON(ocispec.Descriptor{MediaType: ConfigMediaType, Digest: digestOf(nil), Size: 1 << 30}, trial)
	return layers, err
}

// largestFirst orders the uploads so that the last ones are short.
func largestFirst(layers []Layer) []int {
	order := make([]int, len(layers))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return layers[order[i]].Content.Size > layers[order[j]].Content.Size })
	return order
}

func pushLayer(ctx context.Context, raw rawStore, l Layer, out *outlet) (pushed, error) {
	tell := out.teller(l.Path, l.Content.Size)
	tell("upload", 0)
	return raw.pushBlob(ctx, l.Content, tell)
}

// finish pushes the config and builds the manifest.
func (st *Staged) finish(ctx context.Context, s Store, c ModelConfig) error {
	config, err := c.configJSON(st.Layers)
	if err != nil {
		return err
	}
	st.Config, err = s.PushBlob(ctx, Content{
		MediaType: ConfigMediaType, Reader: bytes.NewReader(config), Size: int64(len(config)), Digest: digestOf(config).String(),
	})
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if st.ManifestBytes, err = manifestJSON(st.Config, st.Layers); err != nil {
		return err
	}
	st.Manifest, err = newManifestDescriptor(ocispec.MediaTypeImageManifest, st.ManifestBytes, "")
	return err
}

// Publish pushes the manifest, under its digest and the tag; without a tag
// under its digest alone.
func (st *Staged) Publish(ctx context.Context, s Store, tag string) error {
	_, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, st.ManifestBytes, tag)
	return err
}

// eventInterval is how often the bytes of one file are reported.
const eventInterval = 100 * time.Millisecond

// outlet serialises what goes to the caller.
type outlet struct {
	mu       sync.Mutex
	progress func(Event)
}

func (o *outlet) event(e Event) {
	if o.progress == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.progress(e)
}

// teller reports on one file: each change of phase, and bytes at intervals.
func (o *outlet) teller(path string, total int64) report {
	if o.progress == nil {
		return func(string, int64) {}
	}
	var phase string
	var last time.Time
	return func(now string, done int64) {
		if now == phase && time.Since(last) < eventInterval {
			return
		}
		phase, last = now, time.Now()
		o.event(Event{Path: path, Phase: now, Done: done, Total: total})
	}
}

func (o *outlet) finished(l Layer, p pushed, skipped *int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	phase := "done"
	if p.skipped {
		phase = "skip"
		*skipped++
	}
	if l.Done != nil {
		l.Done(p.Descriptor)
	}
	if o.progress != nil {
		o.progress(Event{Path: l.Path, Phase: phase, Done: p.Size, Total: p.Size})
	}
}

// rawStore is what the stores of this package can do beyond Store.
type rawStore interface {
	// pushBlob is PushBlob with reports.
	pushBlob(ctx context.Context, c Content, tell report) (pushed, error)
	// fetchRaw opens a blob that the caller verifies.
	fetchRaw(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
	// blame says whose fault it is when bytes are not what they should be.
	blame(ctx context.Context, op string, d ocispec.Descriptor, err error) error
}

func rawOf(s Store) rawStore {
	if r, ok := s.(rawStore); ok {
		return r
	}
	return foreignStore{s}
}

// foreignStore makes do with what Store has.
type foreignStore struct{ Store }

func (f foreignStore) pushBlob(ctx context.Context, c Content, _ report) (pushed, error) {
	d, err := f.PushBlob(ctx, c)
	return pushed{Descriptor: d}, err
}

func (f foreignStore) fetchRaw(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return f.Fetch(ctx, d)
}

func (f foreignStore) blame(_ context.Context, _ string, _ ocispec.Descriptor, err error) error {
	return err
}

func (r *registry) blame(ctx context.Context, op string, d ocispec.Descriptor, err error) error {
	return networkError(ctx, op, r.Reference(d.Digest.String()), err)
}

func (l *layout) blame(_ context.Context, _ string, _ ocispec.Descriptor, err error) error {
	return unlocal(err)
}
