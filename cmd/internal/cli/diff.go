package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

// diffListed is how many names diff lists unless it is told otherwise.
const diffListed = 20

type diffOptions struct {
	registry   registryFlags
	selection  selection
	progress   progressFlags
	selectPath string
	limit      int
	output     string
}

func newDiff(s *streams) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say whether two models hold the same weights",
		Long: `Compare the tensors of two models, bit for bit: in any two formats, on disk or in a
registry, however they are sharded. All weight files of a model count together; in a
folder of folders, names begin with the folder. The exit code is 3 when they differ.

Of each name that differs is said how: only in one of them (- in A, + in B), another
dtype or shape, or which elements. Elements are compared by their bits and counted in
row-major order from 0; the largest difference leaves out NaN and infinity, which are
counted apart.`,
		Example: `  weightseal diff pytorch_model.bin model.safetensors
  weightseal diff ./my-model registry.example/team/model:v1
  weightseal diff oci:layout:v1 oci:layout:v2 --limit 0 --output json`,
		Args: exactArgs("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDiff(cmd.Context(), s, args[0], args[1], &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.selectPath, "select", "", "`path` of the weights in a nested checkpoint, such as state_dict")
	f.IntVar(&o.limit, "limit", diffListed, "list at most this many names that differ; 0 lists all")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.selection.add(f)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

// diffOutput is what diff prints as JSON.
type diffOutput struct {
	SchemaVersion  int          `json:"schemaVersion"`
	Same           bool         `json:"same"`
	Tensors        int          `json:"tensors"` // names of A
	Names          int          `json:"names"`   // of A and B together
	Differing      int          `json:"differing"`
	WeightsDigestA string       `json:"weightsDigestA"`
	WeightsDigestB string       `json:"weightsDigestB"`
	Differences    []difference `json:"differences"` // by name, at most --limit
}

type difference struct {
	Name     string        `json:"name"`
	What     string        `json:"what"` // only-a, only-b, dtype, shape, bytes
	A        string        `json:"a,omitempty"`
	B        string        `json:"b,omitempty"`
	Elements *elementsView `json:"elements,omitempty"` // of bytes
}

// elementsView says how the elements of two tensors differ.
type elementsView struct {
	DType     string    `json:"dtype"`
	Count     uint64    `json:"count"`
	Differing uint64    `json:"differing"`
	NaN       uint64    `json:"nan"`      // of those, with a NaN in one or both
	Infinite  uint64    `json:"infinite"` // of those, without a finite difference
	First     *pairView `json:"first"`
	Largest   *pairView `json:"largest,omitempty"`
}

type pairView struct {
	Index      uint64       `json:"index"` // row-major
	At         []uint64     `json:"at"`
	A          string       `json:"a"`
	B          string       `json:"b"`
	Difference *json.Number `json:"difference,omitempty"` // absolute; none for NaN and infinity
}

func runDiff(ctx context.Context, s *streams, a, b string, o *diffOptions) error {
	if err := errors.Join(oneOf("output", o.output, "text", "json"), o.progress.check()); err != nil {
		return err
	}
	if o.limit < 0 {
		return usage("--limit 0 lists all", "--limit %d: want 0 or more", o.limit)
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	left, err := openSide(ctx, a, opt, o, bar)
	if err != nil {
		return err
	}
	defer left.close()
	right, err := openSide(ctx, b, opt, o, bar)
	if err != nil {
		return err
	}
	defer right.close()
	out, err := compareSides(ctx, left, right, o.limit, bar)
	if err != nil {
		return err
	}
	bar.finish("read")
	if o.output == "json" {
		err = printJSON(s.out, out)
	} else {
		err = printDiff(s, out)
	}
	if err == nil && !out.Same {
		err = fail(exitPolicy, fmt.Errorf("the weights differ in %d of %d names", out.Differing, out.Names))
	}
	return err
}

// side is one of the two models: the digest of every name, and where its bytes
// are.
type side struct {
	source  string
	model   *model.Model
	sel     string
	digest  string
	tensors map[string]sideTensor
	open    map[string]*weights // by path, opened again for their elements
}

type sideTensor struct {
	safetensors.TensorDigest
	file model.File
	name string // in the file
}

// openSide digests all tensors of a model's weight files.
func openSide(ctx context.Context, source string, opt oci.Options, o *diffOptions, bar *progress) (*side, error) {
	m, _, err := openModel(ctx, source, opt)
	if err != nil {
		return nil, err
	}
	if err := o.selection.apply(m); err != nil {
		return nil, err
	}
	sd := &side{source: source, model: m, sel: o.selectPath, tensors: map[string]sideTensor{}, open: map[string]*weights{}}
	byFile := map[string][]safetensors.TensorDigest{}
	for _, f := range m.Files {
		tensors, err := fileTensors(ctx, m, f, o.selectPath, shownPath(source, f.Path), bar)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if tensors == nil {
			continue
		}
		byFile[f.Path] = tensors
		if err := sd.add(f, tensors); err != nil {
			return nil, err
		}
	}
	if len(byFile) == 0 {
		if len(m.Files) == 0 && len(o.selection.include)+len(o.selection.exclude) == 0 {
			return nil, usage("see what is there: ls "+policy.ShellQuote(source), "%s: no files to compare", source)
		}
		if len(m.Files) == 0 {
			return nil, usage("the globs are for both sides: --include '*.safetensors' --include '*.bin'", "%s: --include and --exclude leave no file", source)
		}
		return nil, fail(exitError, errors.New(source+": holds no weights"), "see what it holds: weightseal inspect "+policy.ShellQuote(source))
	}
	sd.digest = weightsDigest(byFile)
	return sd, nil
}

// add takes the tensors of one file.
func (sd *side) add(f model.File, tensors []safetensors.TensorDigest) error {
	for i, t := range inFolder(f.Path, "/", tensors) {
		if other, twice := sd.tensors[t.Name]; twice {
			return fail(exitUsage, fmt.Errorf("%s: two files hold a tensor named %q", sd.source, t.Name),
				"leave one of them out: --exclude "+policy.ShellQuote(f.Path),
				"or compare file by file, beginning with "+policy.ShellQuote(other.file.Path))
		}
		sd.tensors[t.Name] = sideTensor{TensorDigest: t, file: f, name: tensors[i].Name}
	}
	return nil
}

func (sd *side) close() {
	for _, w := range sd.open {
		w.close()
	}
}

// shownPath names a file of one of two models: both may have one of that path.
func shownPath(source, path string) string {
	if filepath.Base(source) == path {
		return source
	}
	return strings.TrimSuffix(source, "/") + "/" + path
}

func fileTensors(ctx context.Context, m *model.Model, f model.File, selectPath, name string, bar *progress) ([]safetensors.TensorDigest, error) {
	w, err := openWeights(ctx, m, f, selectPath)
	if err != nil || w == nil {
		return nil, err
	}
	defer w.close()
	tensors, err := w.digests(ctx, bar, name)
	if tensors == nil && err == nil {
		tensors = []safetensors.TensorDigest{}
	}
	return tensors, err
}

// elements gives the bytes of one tensor, in order.
func (sd *side) elements(ctx context.Context, t sideTensor) (io.Reader, error) {
	w := sd.open[t.file.Path]
	if w == nil {
		var err error
		if w, err = openWeights(ctx, sd.model, t.file, sd.sel); err != nil {
			return nil, fmt.Errorf("%s: %w", t.file.Path, err)
		}
		if w == nil {
			return nil, fmt.Errorf("%s: %w", t.file.Path, model.ErrChanged)
		}
		sd.open[t.file.Path] = w
	}
	name := t.name
	if kept, tied := w.header.Aliases()[name]; tied {
		name = kept
	}
	for i := range w.header.Tensors {
		if h := &w.header.Tensors[i]; h.Name == name {
			return io.NewSectionReader(w.item().reader(), w.header.DataStart()+int64(h.Begin), int64(h.End-h.Begin)), nil
		}
	}
	return nil, fmt.Errorf("%s: %w", t.file.Path, model.ErrChanged)
}

// compareSides compares all names, and the elements of those that it lists.
func compareSides(ctx context.Context, a, b *side, limit int, bar *progress) (*diffOutput, error) {
	names := union(a.tensors, b.tensors)
	out := &diffOutput{
		SchemaVersion: 1, Tensors: len(a.tensors), Names: len(names),
		WeightsDigestA: a.digest, WeightsDigestB: b.digest, Differences: []difference{},
	}
	for _, name := range names {
		d := compareName(a, b, name)
		if d == nil {
			continue
		}
		out.Differing++
		if limit > 0 && out.Differing > limit {
			continue
		}
		if d.What == "bytes" {
			bar.say("compare", name)
			var err error
			if d.Elements, err = compareElements(ctx, a, b, name); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		out.Differences = append(out.Differences, *d)
	}
	out.Same = out.Differing == 0
	return out, nil
}

// compareName compares what is known of a name without reading it; nil when
// nothing differs.
func compareName(a, b *side, name string) *difference {
	x, inA := a.tensors[name]
	y, inB := b.tensors[name]
	switch {
	case !inB:
		return &difference{Name: name, What: "only-a"}
	case !inA:
		return &difference{Name: name, What: "only-b"}
	case x.DType != y.DType:
		return &difference{Name: name, What: "dtype", A: x.DType.String(), B: y.DType.String()}
	case !slices.Equal(x.Shape, y.Shape):
		return &difference{Name: name, What: "shape", A: shapeText(x.Shape), B: shapeText(y.Shape)}
	case x.Digest != y.Digest:
		return &difference{Name: name, What: "bytes", A: "sha256:" + x.Digest, B: "sha256:" + y.Digest}
	}
	return nil
}

// compareElements reads a tensor from both sides.
func compareElements(ctx context.Context, a, b *side, name string) (*elementsView, error) {
	t := a.tensors[name]
	x, err := a.elements(ctx, t)
	if err != nil {
		return nil, err
	}
	y, err := b.elements(ctx, b.tensors[name])
	if err != nil {
		return nil, err
	}
	d, err := convert.Compare(ctx, t.DType, t.Shape, x, y)
	if err != nil {
		return nil, err
	}
	if d.Differing == 0 { // the digests of the first reading say otherwise
		return nil, model.ErrChanged
	}
	return &elementsView{
		DType: t.DType.String(), Count: d.Elements, Differing: d.Differing, NaN: d.NaN, Infinite: d.Infinite,
		First: viewPair(d.First), Largest: viewPair(d.Largest),
	}, nil
}

func viewPair(p *convert.Pair) *pairView {
	if p == nil {
		return nil
	}
	v := &pairView{Index: p.Index, At: p.At, A: p.A, B: p.B}
	if p.Distance != "NaN" && p.Distance != "+Inf" {
		v.Difference = (*json.Number)(&p.Distance)
	}
	return v
}

func union(a, b map[string]sideTensor) []string {
	names := make(map[string]bool, len(a))
	for n := range a {
		names[n] = true
	}
	for n := range b {
		names[n] = true
	}
	return sortedKeys(names)
}

func printDiff(s *streams, out *diffOutput) error {
	if out.Same {
		_, err := fmt.Fprintf(s.out, "same weights: %d tensors, %s\n", out.Tensors, out.WeightsDigestA)
		return err
	}
	for _, d := range out.Differences {
		switch d.What {
		case "only-a":
			fmt.Fprintf(s.out, "- %s\n", printable(d.Name))
		case "only-b":
			fmt.Fprintf(s.out, "+ %s\n", printable(d.Name))
		case "bytes":
			fmt.Fprintf(s.out, "~ %s: bytes: %s\n", printable(d.Name), d.Elements)
		default:
			fmt.Fprintf(s.out, "~ %s: %s: %s, %s\n", printable(d.Name), d.What, d.A, d.B)
		}
	}
	if more := out.Differing - len(out.Differences); more > 0 {
		fmt.Fprintf(s.out, "and %d more (--limit 0 lists all)\n", more)
	}
	return nil
}

// String is the view as a line for people.
func (e *elementsView) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d %s elements differ, first %s (element %d): %s and %s", e.Differing, e.Count, e.DType, shapeText(e.First.At), e.First.Index, e.First.A, e.First.B)
	if e.Largest != nil {
		fmt.Fprintf(&b, "; largest difference %s at %s", *e.Largest.Difference, shapeText(e.Largest.At))
	}
	if e.NaN > 0 {
		fmt.Fprintf(&b, "; %d with NaN", e.NaN)
	}
	if e.Infinite > 0 {
		fmt.Fprintf(&b, "; %d infinitely far apart", e.Infinite)
	}
	return b.String()
}
