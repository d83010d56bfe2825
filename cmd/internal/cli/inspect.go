package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/policy"
)

type inspectOptions struct {
	registry   registryFlags
	selection  selection
	progress   progressFlags
	selectPath string
	digests    bool
	tensors    bool
	tree       bool
	trust      trustFlags
	output     string
}

func newInspect(s *streams) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect SOURCE",
		Short: "Show tensors, dtypes, sizes, metadata and attestations",
		Long: `Show what a model holds: a directory, a file, oci:DIR[:TAG] or a reference in a
registry. Only headers, directories and pickles are read; with --digests every tensor is.

The picture has the files, the dtypes and the groups of layers, which are found from the
names of the tensors: h.{0..11}.attn is a part that all twelve layers have. --tree shows
all names as a tree, layers with the same tensors folded into one, and --tensors lists
every tensor. Of a model in a registry it is said whether it is attested, and with --key
whether one of these keys has signed it.`,
		Example: `  weightseal inspect model.safetensors
  weightseal inspect model.safetensors --tree
  weightseal inspect registry.example/team/model:v1 --key cosign.pub
  weightseal inspect registry.example/team/model:v1 --output json`,
		Args: exactArgs("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(cmd.Context(), s, args[0], &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.selectPath, "select", "", "`path` of the weights in a nested checkpoint, such as state_dict")
	f.BoolVar(&o.digests, "digests", false, "read the tensors, and show their digests and the weights digest")
	f.BoolVar(&o.tree, "tree", false, "show the names of all tensors as a tree, layers that are the same folded")
	f.BoolVar(&o.tensors, "tensors", false, "list every tensor")
	o.trust.add(f)
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.selection.add(f)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

// inspection is what inspect prints as JSON.
type inspection struct {
	SchemaVersion int             `json:"schemaVersion"`
	Source        string          `json:"source"`
	Artifact      *artifactView   `json:"artifact,omitempty"`
	Parameters    int64           `json:"parameters"`
	Tensors       int             `json:"tensors"`
	TensorBytes   int64           `json:"tensorBytes"`
	DTypes        map[string]int  `json:"dtypes"`
	Groups        []tensorGroup   `json:"groups,omitempty"` // of layers, by names; the largest first
	WeightsDigest string          `json:"weightsDigest,omitempty"`
	Files         []inspectedFile `json:"files"`
}

type artifactView struct {
	Reference    string            `json:"reference"`
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Size         int64             `json:"size"`
	Trust        trustView         `json:"trust"`
	Attestations []attestationView `json:"attestations"` // found, not verified
}

type attestationView struct {
	Digest       string            `json:"digest"`
	ArtifactType string            `json:"artifactType"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type inspectedFile struct {
	Path     string            `json:"path"`
	Size     int64             `json:"size"`
	Format   model.Format      `json:"format"`
	Role     model.Role        `json:"role"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Subtree  string            `json:"subtree,omitempty"`
	Tensors  []inspectedTensor `json:"tensors,omitempty"`
	Aliases  []aliasOutput     `json:"aliases,omitempty"`
	Dropped  []droppedEntry    `json:"dropped,omitempty"`
	Problem  string            `json:"problem,omitempty"` // why the tensors cannot be shown
}

type inspectedTensor struct {
	Name   string   `json:"name"`
	DType  string   `json:"dtype"`
	Shape  []uint64 `json:"shape"`
	Bytes  uint64   `json:"bytes"`
	Digest string   `json:"digest,omitempty"`
}

func runInspect(ctx context.Context, s *streams, source string, o *inspectOptions) error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	trusted, err := o.trust.optional(s)
	if err != nil {
		return err
	}
	m, from, err := openModel(ctx, source, opt)
	if err != nil {
		return err
	}
	if err := o.selection.apply(m); err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	in := inspection{SchemaVersion: 1, Source: source, DTypes: map[string]int{}, Files: []inspectedFile{}}
	if in.Artifact, err = viewArtifact(ctx, source, from, trusted); err != nil {
		return err
	}
	var broken error
	byFile := map[string][]safetensors.TensorDigest{}
	for _, f := range m.Files {
		view, digests, err := inspectFile(ctx, m, f, o, bar)
		if errors.Is(err, context.Canceled) {
			return err
		}
		if err != nil {
			view.Problem = strings.Join(append([]string{err.Error()}, nextSteps(err)...), "; ")
			broken = errors.Join(broken, fmt.Errorf("%s: %w", f.Path, err))
		}
		in.add(view)
		if digests != nil {
			byFile[f.Path] = digests
		}
	}
	in.WeightsDigest = weightsDigest(byFile)
	in.group()
	bar.finish("read")
	if o.output == "json" {
		err = printJSON(s.out, in)
	} else {
		err = printInspection(s.page(), &in, o)
	}
	if err == nil && in.Artifact != nil && trusted != nil && in.Artifact.Trust.State != trustVerified {
		return fail(exitAttestation, fmt.Errorf("%s: %s", in.Artifact.Reference, in.Artifact.Trust.text(in.Artifact.Reference)), "see which attestations there are: weightseal inspect "+policy.ShellQuote(in.Artifact.Reference))
	}
	if err == nil && len(m.Files) == 1 {
		return broken // asked for one file, and it cannot be shown
	}
	return err
}

// viewArtifact describes the manifest that a model was read from; nil for a
// model on disk.
func viewArtifact(ctx context.Context, source string, from *origin, trusted *attest.Trust) (*artifactView, error) {
	if from == nil && trusted != nil {
		return nil, usage("weightseal push "+policy.ShellQuote(source)+" REGISTRY/REPOSITORY:TAG --key cosign.key", "%s is on disk, and signatures are of models in a registry or layout: --key has nothing to check", source)
	}
	if from == nil {
		return nil, nil
	}
	store := from.store
	d, err := store.Resolve(ctx, from.digest) // resolved once: a tag may have moved since
	if err != nil {
		return nil, err
	}
	view := &artifactView{Reference: store.Reference(d.Digest.String()), MediaType: d.MediaType, ArtifactType: d.ArtifactType, Size: d.Size, Attestations: []attestationView{}}
	referrers, err := store.Referrers(ctx, d.Digest.String())
	if err != nil {
		return nil, err
	}
	for _, r := range referrers {
		view.Attestations = append(view.Attestations, attestationView{Digest: r.Digest.String(), ArtifactType: r.ArtifactType, Annotations: r.Annotations})
	}
	view.Trust, err = trustIn(ctx, store, d, len(referrers), trusted)
	return view, err
}

// inspectFile shows a file's tensors. A file without tensors has none; one
// whose tensors cannot be found gives an error beside the view.
func inspectFile(ctx context.Context, m *model.Model, f model.File, o *inspectOptions, bar *progress) (inspectedFile, []safetensors.TensorDigest, error) {
	view := inspectedFile{Path: f.Path, Size: f.Size, Format: f.Format, Role: f.Role}
	w, err := openWeights(ctx, m, f, o.selectPath)
	if (f.Format == model.GGUF || f.Format == model.ONNX) && errors.As(err, new(*format.UnsupportedError)) {
		view.Problem = err.Error() // as good as any other file of its format
		return view, nil, nil
	}
	if err != nil || w == nil {
		return view, nil, err
	}
	defer w.close()
	view.Metadata = w.header.Metadata
	for _, t := range w.header.Tensors {
		shape := t.Shape
		if shape == nil {
			shape = []uint64{}
		}
		view.Tensors = append(view.Tensors, inspectedTensor{Name: t.Name, DType: t.DType.String(), Shape: shape, Bytes: t.End - t.Begin})
	}
	sort.Slice(view.Tensors, func(a, b int) bool { return view.Tensors[a].Name < view.Tensors[b].Name })
	if w.plan != nil {
		d := describePlan(w.plan, f.Path, "")
		view.Metadata, view.Subtree, view.Aliases, view.Dropped = nil, d.Subtree, d.Aliases, d.Dropped
	}
	if !o.digests {
		return view, nil, nil
	}
	digests, err := w.digests(ctx, bar, f.Path)
	if err != nil {
		return view, nil, err
	}
	byName := make(map[string]string, len(digests))
	for _, d := range digests {
		byName[d.Name] = d.Digest
	}
	for i, t := range view.Tensors {
		view.Tensors[i].Digest = "sha256:" + byName[t.Name]
	}
	return view, digests, nil
}

func (in *inspection) add(f inspectedFile) {
	in.Files = append(in.Files, f)
	in.Tensors += len(f.Tensors)
	for i := range f.Tensors {
		t := &f.Tensors[i]
		in.DTypes[t.DType]++
		in.Parameters += t.elements()
		in.TensorBytes += int64(t.Bytes)
	}
}

// group finds the groups of layers, over all files.
func (in *inspection) group() {
	var all []inspectedTensor
	for _, f := range in.Files {
		all = append(all, f.Tensors...)
	}
	if len(all) > 0 {
		in.Groups = groupTensors(all)
	}
}

func shapeText(shape []uint64) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		parts[i] = fmt.Sprint(d)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// weights is a file's tensors, whatever the file's format: a header and the
// bytes that follow it.
type weights struct {
	header *safetensors.Header
	plan   *convert.Plan
	in     convert.Input
	blob   model.Blob // of a file that is safetensors
}

// holdsWeights says that a file may have tensors to show and compare.
func holdsWeights(f model.File) bool {
	switch f.Format {
	case model.Safetensors, model.GGUF, model.ONNX:
		return true
	}
	return compressed(f.Format) || wantsConversion(f, model.Safetensors)
}

// compressed says that a format is the compressed form of any other: joblib's
// files are of these.
func compressed(f model.Format) bool {
	switch f {
	case model.Zlib, model.Gzip, model.Bzip2, model.XZ, model.LZMA:
		return true
	}
	return false
}

// openWeights gives a file as safetensors; nil when it is not a weight file.
func openWeights(ctx context.Context, m *model.Model, f model.File, selectPath string) (*weights, error) {
	if !holdsWeights(f) {
		return nil, nil
	}
	if f.Format == model.DCPShard {
		return nil, nil // shown with the metadata that names it
	}
	in, err := convert.OpenInput(ctx, m, f)
	if err != nil {
		return nil, err
	}
	w := &weights{in: in, blob: in.Blob}
	if f.Format == model.Safetensors {
		w.header, err = safetensors.ReadHeader(in.Blob, in.Blob.Size())
	} else {
		opt := convert.Options{To: model.Safetensors, Select: selectPath, WeightsOnly: true}
		if w.plan, err = convert.File(ctx, in, opt); err == nil {
			w.header = w.plan.Header
		}
	}
	if err != nil {
		_ = in.Close()
		if compressed(f.Format) { // of something else than arrays
			return nil, nil
		}
		return nil, err
	}
	return w, nil
}

func (w *weights) close() { _ = w.in.Close() }

// item is the file as a push would see it: safetensors, whatever it was.
func (w *weights) item() *item {
	return &item{path: "tensors", header: w.header, plan: w.plan, blob: w.blob}
}

// digests reads all tensors. name is what the file is called meanwhile.
func (w *weights) digests(ctx context.Context, bar *progress, name string) ([]safetensors.TensorDigest, error) {
	digester := safetensors.NewDigester(w.header)
	it := w.item()
	seen := bar.track("read", name, it.size())
	if err := it.copyTo(ctx, io.MultiWriter(digester, seen)); err != nil {
		return nil, err
	}
	seen.done()
	return digester.Sum()
}
