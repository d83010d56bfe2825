package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// folder is a source in memory that counts open blobs.
type folder struct {
	files map[string][]byte
	open  atomic.Int32
}

func (f *folder) List(context.Context) ([]model.Entry, error) {
	var all []model.Entry
	for path, b := range f.files {
		all = append(all, model.Entry{Path: path, Size: int64(len(b))})
	}
	slices.SortFunc(all, func(a, b model.Entry) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (f *folder) Open(_ context.Context, path string) (model.Blob, error) {
	b, ok := f.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	f.open.Add(1)
	return &counted{memory: blobOf(b), f: f}, nil
}

type counted struct {
	memory
	f *folder
}

func (c *counted) Close() error { c.f.open.Add(-1); return nil }

func corpusFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(checkpoints, name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func planModel(tb testing.TB, f *folder, opt Options, skip func(model.File) bool) (*Set, error) {
	tb.Helper()
	m, err := model.Load(context.Background(), "test", f)
	if err != nil {
		tb.Fatal(err)
	}
	if f.open.Load() != 0 {
		tb.Fatalf("loading left %d files open", f.open.Load())
	}
	s, err := Model(context.Background(), m, opt, skip)
	if err != nil {
		if f.open.Load() != 0 {
			tb.Errorf("%d files left open after %v", f.open.Load(), err)
		}
		return nil, err
	}
	sources := map[string]bool{}
	for _, p := range s.Plans {
		sources[p.Source.Path] = true
	}
	if int(f.open.Load()) != len(sources) {
		tb.Errorf("%d files open for %d sources", f.open.Load(), len(sources))
	}
	return s, nil
}

func setPaths(s *Set) (plans, kept, made []string) {
	for _, p := range s.Plans {
		plans = append(plans, p.Path)
	}
	for _, f := range s.Kept {
		kept = append(kept, f.Path)
	}
	for _, f := range s.Made {
		made = append(made, f.Path)
	}
	return plans, kept, made
}

const (
	indexName = "pytorch_model.bin.index.json"
	shard1    = "pytorch_model-00001-of-00003.bin"
	shard2    = "pytorch_model-00002-of-00003.bin"
	shard3    = "pytorch_model-00003-of-00003.bin"
)

func sharded(tb testing.TB) *folder {
	tb.Helper()
	f := &folder{files: map[string][]byte{"config.json": []byte("{}"), "README.md": []byte("# model\n")}}
	for _, n := range []string{indexName, shard1, shard2, shard3} {
		f.files[n] = corpusFile(tb, "sharded/"+n)
	}
	return f
}

// TestModelSharded converts a set, forth and back.
func TestModelSharded(t *testing.T) {
	t.Parallel()
	f := sharded(t)
	s, err := planModel(t, f, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	plans, kept, made := setPaths(s)
	if !slices.Equal(plans, []string{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"}) ||
		!slices.Equal(kept, []string{"README.md", "config.json"}) || !slices.Equal(made, []string{"model.safetensors.index.json"}) {
		t.Errorf("plans %v, kept %v, made %v", plans, kept, made)
	}
	if len(s.Gone) != 4 || !strings.Contains(s.Gone[indexName], made[0]) || !strings.Contains(s.Gone[shard1], plans[0]) {
		t.Errorf("gone %v", s.Gone)
	}
	ix, headers := checkIndex(t, s)
	if ix.Metadata["total_size"] != json.Number("237196") {
		t.Errorf("total_size %v", ix.Metadata["total_size"])
	}
	if err := ix.Check(headers); err != nil {
		t.Error(err)
	}

	back := &folder{files: map[string][]byte{made[0]: s.Made[0].Content}}
	for _, p := range s.Plans {
		back.files[p.Path] = whole(t, p)
	}
	s2, err := planModel(t, back, Options{To: model.TorchZip}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s2.Close()
	if !bytes.Equal(bytes.TrimSpace(s2.Made[0].Content), bytes.TrimSpace(f.files[indexName])) || s2.Made[0].Path != indexName {
		t.Errorf("index there and back:\n%s", s2.Made[0].Content)
	}
}

// checkIndex says that the index lists exactly what the shards hold.
func checkIndex(tb testing.TB, s *Set) (*safetensors.Index, map[string]*safetensors.Header) {
	tb.Helper()
	ix, err := safetensors.ParseIndex(s.Made[0].Content)
	if err != nil {
		tb.Fatal(err)
	}
	headers := map[string]*safetensors.Header{}
	names := 0
	for _, p := range s.Plans {
		headers[p.Path] = p.Header
		for _, x := range p.Header.Tensors {
			names++
			if ix.WeightMap[x.Name] != p.Path {
				tb.Errorf("%s: index says %s, is in %s", x.Name, ix.WeightMap[x.Name], p.Path)
			}
		}
	}
	if len(ix.WeightMap) != names {
		tb.Errorf("index has %d names, shards %d", len(ix.WeightMap), names)
	}
	return ix, headers
}

// archiveOf makes a torch file of the names, each a tensor of n numbers; tied
// names after a "=".
func archiveOf(tb testing.TB, n uint64, names ...string) []byte {
	tb.Helper()
	meta := map[string]string{"format": "pt"}
	var specs []safetensors.Spec
	for _, name := range names {
		kept, tie, ok := strings.Cut(name, "=")
		if ok {
			meta[tie] = kept
		}
		specs = append(specs, safetensors.Spec{Name: kept, DType: safetensors.F32, Shape: []uint64{n}})
	}
	file, _ := stFile(tb, specs, meta)
	return whole(tb, toTorchPlan(tb, file))
}

func indexOf(tb testing.TB, weightMap map[string]string) []byte {
	tb.Helper()
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 1, "kept": "yes"}, "weight_map": weightMap})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

const (
	half1 = "pytorch_model-00001-of-00002.bin"
	half2 = "pytorch_model-00002-of-00002.bin"
)

// TestModelIndexTies leaves names that were tied out of the index, and keeps
// them where they are written.
func TestModelIndexTies(t *testing.T) {
	t.Parallel()
	f := &folder{files: map[string][]byte{
		half1: archiveOf(t, 5, "a=tied", "b"), half2: archiveOf(t, 5, "c"),
		indexName: indexOf(t, map[string]string{"a": half1, "b": half1, "tied": half1, "c": half2}),
	}}
	for _, keep := range []bool{false, true} {
		s, err := planModel(t, f, Options{KeepAliases: keep}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ix, _ := checkIndex(t, s)
		want := json.Number("60")
		if keep {
			want = "80"
		}
		if _, listed := ix.WeightMap["tied"]; listed != keep || ix.Metadata["total_size"] != want || ix.Metadata["kept"] != "yes" {
			t.Errorf("keep %v: %v, %v", keep, ix.WeightMap, ix.Metadata)
		}
		s.Close()
	}
}

// TestModelIndexErrors has indexes that do not fit.
func TestModelIndexErrors(t *testing.T) {
	t.Parallel()
	one, two := archiveOf(t, 5, "a", "b"), archiveOf(t, 5, "c")
	good := map[string]string{"a": half1, "b": half1, "c": half2}
	with := func(change func(m map[string]string)) []byte {
		m := map[string]string{}
		for k, v := range good {
			m[k] = v
		}
		change(m)
		return indexOf(t, m)
	}
	cases := map[string]map[string][]byte{
		"not there: pytorch_model-00002": {half1: one, indexName: indexOf(t, good)},
		"climbs":                         {half1: one, half2: two, indexName: with(func(m map[string]string) { m["c"] = "../" + half2 })},
		"does not hold it":               {half1: one, half2: two, indexName: with(func(m map[string]string) { m["d"] = half2 })},
		"does not name the tensor":       {half1: one, half2: two, indexName: with(func(m map[string]string) { delete(m, "b") })},
		"does not name: pytorch_model-00003": {half1: one, half2: two, "pytorch_model-00003-of-00003.bin": archiveOf(t, 1, "z"),
			indexName: indexOf(t, good)},
		"in two shards":     {half1: archiveOf(t, 5, "a", "b"), half2: archiveOf(t, 5, "b", "c"), indexName: indexOf(t, good)},
		`"x" is in two`:     {half1: archiveOf(t, 5, "a=x", "b"), half2: archiveOf(t, 5, "c", "x"), indexName: with(func(m map[string]string) { m["x"] = half2 })},
		"weight_map":        {half1: one, half2: two, indexName: []byte("{}")},
		"not be converted":  {half1: one, half2: []byte("not a checkpoint\n"), indexName: indexOf(t, good)},
		"says that the ten": {half1: one, half2: two, indexName: with(func(m map[string]string) { m["a"] = half2 })},
	}
	for want, files := range cases {
		f := &folder{files: files}
		_, err := planModel(t, f, Options{}, nil)
		var ixErr *IndexError
		var fileErr *FileError
		if want == "climbs" {
			want = "separator"
		}
		if !errors.As(err, &ixErr) || !errors.As(err, &fileErr) || ixErr.Path != indexName || fileErr.Path != indexName || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestModelClash has two files for one name.
func TestModelClash(t *testing.T) {
	t.Parallel()
	pickle, native := archiveOf(t, 5, "a"), []byte(nil)
	native, _ = stFile(t, []safetensors.Spec{{Name: "a", DType: safetensors.F32, Shape: []uint64{5}}}, nil)
	f := &folder{files: map[string][]byte{
		"pytorch_model.bin": pickle, "model.safetensors": native,
		"x/weights.pt": pickle, "x/weights.bin": pickle, "fine.pt": pickle,
	}}
	_, err := planModel(t, f, Options{}, nil)
	var all []*ClashError
	collect(err, &all)
	if len(all) != 2 {
		t.Fatalf("%v", err)
	}
	if c := all[0]; c.Path != "model.safetensors" || !slices.Equal(c.Inputs, []string{"model.safetensors", "pytorch_model.bin"}) || !slices.Equal(c.Exclude, []string{"pytorch_model.bin"}) {
		t.Errorf("%+v", c)
	}
	if c := all[1]; c.Path != "x/weights.safetensors" || len(c.Inputs) != 2 || !slices.Equal(c.Exclude, []string{"x/weights.pt"}) {
		t.Errorf("%+v", c)
	}
	s, err := planModel(t, f, Options{}, func(f model.File) bool { return strings.HasPrefix(f.Path, "x/") || f.Path == "pytorch_model.bin" })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if plans, kept, _ := setPaths(s); !slices.Equal(plans, []string{"fine.safetensors"}) || len(kept) != 4 {
		t.Errorf("plans %v, kept %v", plans, kept)
	}
}

// collect finds all errors of a type in a tree of joined errors.
func collect[T error](err error, out *[]T) {
	if e, ok := err.(T); ok {
		*out = append(*out, e)
		return
	}
	switch u := err.(type) {
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			collect(e, out)
		}
	case interface{ Unwrap() error }:
		collect(u.Unwrap(), out)
	}
}

// TestModelFailures tells the failures of all files at once.
func TestModelFailures(t *testing.T) {
	t.Parallel()
	f := &folder{files: map[string][]byte{
		"good.pt": archiveOf(t, 5, "a"), "complex.pt": corpusFile(t, "complex128.pt"), "module.pt": corpusFile(t, "module.pt"),
	}}
	_, err := planModel(t, f, Options{}, nil)
	var all []*FileError
	collect(err, &all)
	var names []string
	for _, e := range all {
		names = append(names, e.Path)
	}
	var unsupported *torch.UnsupportedError
	var forbidden *torch.ForbiddenError
	if !slices.Equal(names, []string{"complex.pt", "module.pt"}) || !errors.As(err, &unsupported) || !errors.As(err, &forbidden) {
		t.Errorf("%v: %v", names, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m, err := model.Load(ctx, "test", f)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := Model(ctx, m, Options{}, nil); !errors.Is(err, context.Canceled) || f.open.Load() != 0 {
		t.Errorf("cancelled: %v, %d open", err, f.open.Load())
	}
}

func TestOutputPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"pytorch_model.bin":                           "model.safetensors",
		"a/b/pytorch_model.fp16.bin":                  "a/b/model.fp16.safetensors",
		"pytorch_model-00001-of-00002.bin":            "model-00001-of-00002.safetensors",
		"pytorch_model.bin.index.json":                "model.safetensors.index.json",
		"pytorch_model.fp16.bin.index.json":           "model.fp16.safetensors.index.json",
		"pytorch_models.bin":                          "pytorch_models.safetensors",
		"pytorch_model.pt":                            "pytorch_model.safetensors",
		"unet/diffusion_pytorch_model.bin":            "unet/diffusion_pytorch_model.safetensors",
		"adapter_model.bin":                           "adapter_model.safetensors",
		"weights.v1.pth":                              "weights.v1.safetensors",
		"checkpoint":                                  "checkpoint.safetensors",
		"dir.d/checkpoint":                            "dir.d/checkpoint.safetensors",
		".pt":                                         ".pt.safetensors",
		"diffusion_pytorch_model.fp16.bin.index.json": "diffusion_pytorch_model.fp16.safetensors.index.json",
	} {
		if got := OutputPath(in, model.Safetensors); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"model.safetensors":                "pytorch_model.bin",
		"model-00001-of-00002.safetensors": "pytorch_model-00001-of-00002.bin",
		"model.safetensors.index.json":     "pytorch_model.bin.index.json",
		"models.safetensors":               "models.bin",
		"adapter_model.safetensors":        "adapter_model.bin",
	} {
		if got := OutputPath(in, model.TorchZip); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

func TestNoConverter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to model.Format
	}{{model.Safetensors, model.Safetensors}, {model.ELF, ""}, {model.TorchZip, model.TorchZip}, {model.TorchZip, model.ONNX}} {
		if _, err := File(context.Background(), Input{Path: "x", Format: c.from, Blob: blobOf(nil)}, Options{To: c.to}); !errors.Is(err, ErrNoConverter) {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}
