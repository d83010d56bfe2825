package convert

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/model"
)

// filesOf plans a file of the corpus into as many files as it takes.
func filesOf(tb testing.TB, name string, opt Options) *Set {
	tb.Helper()
	blob, err := model.SingleFile(name).Open(context.Background(), filepath.Base(name))
	if err != nil {
		tb.Fatal(err)
	}
	set, err := Files(context.Background(), Input{Path: filepath.Base(name), Blob: blob}, opt)
	if err != nil {
		blob.Close()
		tb.Fatalf("%s: %v", name, err)
	}
	tb.Cleanup(func() {
		if err := set.Close(); err != nil {
			tb.Error(err)
		}
	})
	return set
}

// proveSet proves all files of one source with one witness.
func proveSet(tb testing.TB, plans []*Plan) *Proof {
	tb.Helper()
	w, err := WitnessAll(context.Background(), plans)
	if err != nil {
		tb.Fatal(err)
	}
	var proofs []*Proof
	for _, p := range plans {
		r := p.NewRecorder()
		r.Write(whole(tb, p))
		proof, err := p.Prove(r, w)
		if err != nil {
			tb.Fatal(err)
		}
		proofs = append(proofs, proof)
	}
	all, err := JoinProofs(proofs...)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// TestShards splits every file of the corpus into files of few bytes: together
// they prove what the one file proves, no file is too large but for a single
// tensor, and the index is exact.
func TestShards(t *testing.T) {
	t.Parallel()
	split := 0
	for f, opt := range torchMade(t) {
		one, err := planFile(t, f, opt)
		if err != nil {
			t.Fatal(err)
		}
		want := proveAll(t, one, whole(t, one))
		for _, to := range []model.Format{model.Safetensors, model.TorchZip} {
			opt := opt
			opt.To = to
			opt.Output.MaxShardSize = 2000
			if to == model.TorchZip {
				if strings.Contains(f, "bare_tensor") {
					continue
				}
				st := whole(t, one)
				set, err := Files(context.Background(), Input{Path: "model.safetensors", Blob: blobOf(st)}, Options{To: to, Output: opt.Output})
				if err != nil {
					t.Fatal(f, err)
				}
				checkShards(t, f, set, want, 2000)
				continue
			}
			set := filesOf(t, f, opt)
			checkShards(t, f, set, want, 2000)
			if got := proveSet(t, set.Plans); got.SourceDigest != want.SourceDigest {
				t.Errorf("%s: source %s, want %s", f, got.SourceDigest, want.SourceDigest)
			}
			if len(set.Plans) > 1 {
				split++
			}
		}
	}
	if split < 5 {
		t.Errorf("%d files were split", split)
	}
}

func checkShards(t *testing.T, name string, set *Set, want *Proof, limit uint64) {
	t.Helper()
	if got := proveSet(t, set.Plans); got.SetDigest != want.SetDigest {
		t.Errorf("%s: set digest %s of %d files, want %s", name, got.SetDigest, len(set.Plans), want.SetDigest)
	}
	var total uint64
	for i, p := range set.Plans {
		var n uint64
		for _, x := range p.Header.Tensors {
			n += x.End - x.Begin
		}
		if total += n; n > limit && len(p.Header.Tensors) > 1 {
			t.Errorf("%s: %s has %d bytes in %d tensors", name, p.Path, n, len(p.Header.Tensors))
		}
		if number := fmt.Sprintf("-%05d-of-%05d.", i+1, len(set.Plans)); len(set.Plans) > 1 && !strings.Contains(p.Path, number) {
			t.Errorf("%s: file %d is %s", name, i, p.Path)
		}
	}
	if len(set.Plans) == 1 {
		if len(set.Made) > 0 {
			t.Errorf("%s: one file has an index", name)
		}
		return
	}
	ix, err := safetensors.ParseIndex(set.Made[0].Content)
	if err != nil {
		t.Fatal(err)
	}
	if err := ix.Check(headersOf(set.Plans)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if got := ix.Metadata["total_size"]; got != json.Number(fmt.Sprint(total)) {
		t.Errorf("%s: total_size %v, want %d", name, got, total)
	}
}

// TestShardsOfSet splits a sharded set: all of it is numbered anew under one
// index.
func TestShardsOfSet(t *testing.T) {
	t.Parallel()
	opt := Options{Output: Output{MaxShardSize: 20_000}, Rename: []Rename{{From: regexp.MustCompile("^"), To: "net."}}}
	f := sharded(t)
	s, err := planModel(t, f, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	plans, _, made := setPaths(s)
	if len(plans) < 6 || plans[0] != fmt.Sprintf("model-00001-of-%05d.safetensors", len(plans)) || !slices.Equal(made, []string{"model.safetensors.index.json"}) {
		t.Errorf("plans %v, made %v", plans, made)
	}
	ix, headers := checkIndex(t, s)
	if err := ix.Check(headers); err != nil {
		t.Error(err)
	}
	for name := range ix.WeightMap {
		if !strings.HasPrefix(name, "net.") {
			t.Errorf("%s was not renamed", name)
		}
	}
	if f.open.Load() != 3 {
		t.Errorf("%d files are open", f.open.Load())
	}
	if err := s.Close(); err != nil || f.open.Load() != 0 {
		t.Errorf("%v, %d files are open", err, f.open.Load())
	}
	// A file that keeps its name must not be written over.
	f = sharded(t)
	f.files[plans[0]] = f.files["config.json"]
	s, err = planModel(t, f, opt, nil)
	var clash *ClashError
	if err == nil || !errors.As(err, &clash) || clash.Path != plans[0] {
		t.Errorf("%v, set %v", err, s)
	}
}

// TestRename gives names in order, and refuses what becomes one.
func TestRename(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	for rules, want := range map[string]string{
		`^module\.=`:                           "b.weight layer.0.weight",
		`^module\.layer\.(\d+)=h.$1;^h=blocks`: "b.weight blocks.0.weight",
		`weight$=w`:                            "b.w module.layer.0.w",
		`^.*$=x`:                               `renaming gives the tensors "module.layer.0.weight" and "b.weight" one name, "x"`,
		`^b.*=`:                                `renaming leaves nothing of the name "b.weight"`,
		`(?P<a>[a-z]+)\.weight=${a}_1`:         "b_1 module.layer.0.weight",
		`nothing=at all`:                       "b.weight module.layer.0.weight",
		`^b.weight=__metadata__`:               `cannot have this name`,
	} {
		var opt Options
		for _, r := range strings.Split(rules, ";") {
			rule, err := ParseRename(r)
			if err != nil {
				t.Fatal(err)
			}
			opt.Rename = append(opt.Rename, rule)
		}
		f := &fixture{file: f.file, state: &torch.StateDict{Tensors: []torch.Tensor{
			contiguousTensor("module.layer.0.weight", st, 0, 3), contiguousTensor("b.weight", st, 5, 3),
		}}}
		p, err := fromState(Input{Path: "x", Blob: blobOf(f.file)}, f.state, false, opt)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", rules, err)
			}
			continue
		}
		var names []string
		changed := 0
		for _, x := range p.Header.Tensors {
			names = append(names, x.Name)
			if x.Name != "b.weight" && x.Name != "module.layer.0.weight" {
				changed++
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want || len(p.Renamed) != changed {
			t.Errorf("%s: %s, want %s; renamed %v", rules, got, want, p.Renamed)
		}
	}
	for _, bad := range []string{"", "x", "=x", "(=x"} {
		if _, err := ParseRename(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestMetadata puts plain values into the metadata, but nothing that reads as
// something else.
func TestMetadata(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	f.state.Tensors = []torch.Tensor{contiguousTensor("w", st, 0, 3), contiguousTensor("tie", st, 0, 3)}
	f.state.Dropped = []format.Dropped{
		{Path: "epoch", Kind: "int", Value: "3"}, {Path: "arch", Kind: "str", Value: `"résnet\n"`}, {Path: "empty", Kind: "str", Value: `""`},
		{Path: "list", Kind: "list"}, {Path: "format", Kind: "str", Value: `"x"`}, {Path: "w", Kind: "int", Value: "1"},
		{Path: "main", Kind: "str", Value: `"tie"`}, {Path: "epoch", Kind: "int", Value: "4"},
	}
	f.state.Values = []format.Dropped{{Path: "list.0", Kind: "float", Value: "0.5"}}
	p := f.plan(t, Options{Output: Output{Metadata: true}})
	want := map[string]string{"format": "pt", "w": "tie", "epoch": "3", "arch": "résnet\n", "empty": "", "list.0": "0.5"}
	if got := fmt.Sprint(p.Header.Metadata); got != fmt.Sprint(want) {
		t.Errorf("metadata %v, want %v", got, want)
	}
	var dropped []string
	for _, d := range p.Dropped {
		dropped = append(dropped, d.Path)
	}
	if got := strings.Join(dropped, " "); got != "list format w main epoch" {
		t.Errorf("dropped %s", got)
	}
	proveAll(t, p, whole(t, p))
	if p := f.plan(t, Options{}); len(p.Header.Metadata) != 2 || len(p.Dropped) != len(f.state.Dropped) {
		t.Errorf("without the option: %v, dropped %v", p.Header.Metadata, p.Dropped)
	}
}

// TestMetadataOfCorpus has values beside the weights and inside of objects.
func TestMetadataOfCorpus(t *testing.T) {
	t.Parallel()
	p, err := planFile(t, filepath.Join(checkpoints, "lightning.ckpt"), Options{Select: "state_dict", WeightsOnly: true, Output: Output{Metadata: true}})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"epoch": "3", "global_step": "1200", "hparams_name": "kwargs"} {
		if got := p.Header.Metadata[key]; got != want {
			t.Errorf("%s is %q", key, got)
		}
	}
	if !slices.ContainsFunc(sortedKeys(p.Header.Metadata), func(k string) bool { return strings.HasPrefix(k, "hyper_parameters.") }) {
		t.Errorf("metadata %v", p.Header.Metadata)
	}
	for _, d := range p.Dropped {
		if _, kept := p.Header.Metadata[d.Path]; kept {
			t.Errorf("%s is kept, and dropped", d.Path)
		}
	}
}

// TestAlign starts the data where it is asked to; the tensors stay.
func TestAlign(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	canonical := f.plan(t, Options{})
	want := proveAll(t, canonical, whole(t, canonical)).SetDigest
	for _, n := range []int{0, 8, 64, 4096, safetensors.MaxAlignment} {
		p := f.plan(t, Options{Output: Output{Align: n}})
		out := whole(t, p)
		h, err := safetensors.ReadHeader(bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatal(n, err)
		}
		if n > 0 && h.DataStart()%int64(n) != 0 {
			t.Errorf("data at %d, want a multiple of %d", h.DataStart(), n)
		}
		if same := bytes.Equal(out, whole(t, canonical)); same != (n <= 8) {
			t.Errorf("%d: canonical is %v", n, same)
		}
		if got := proveAll(t, p, out).SetDigest; got != want || len(h.Findings) > 0 {
			t.Errorf("%d: set digest %s, findings %v", n, got, h.Findings)
		}
	}
}

// TestOptionsCheck refuses what makes no sense.
func TestOptionsCheck(t *testing.T) {
	t.Parallel()
	for _, opt := range []Options{
		{Output: Output{Align: 7}}, {Output: Output{Align: 4}}, {Output: Output{Align: 24}}, {Output: Output{Align: 2 << 20}}, {Output: Output{Align: -8}},
		{Output: Output{MaxShardSize: -1}}, {To: model.NPZ, Output: Output{MaxShardSize: 1}},
		{To: model.TorchZip, Output: Output{Align: 64}}, {To: model.NPZ, Output: Output{Metadata: true}},
	} {
		if err := opt.Check(); err == nil {
			t.Errorf("%+v is taken", opt)
		}
		if _, err := planFile(t, filepath.Join(checkpoints, "tied.pt"), opt); err == nil && opt.Output.MaxShardSize >= 0 && opt.To != model.NPZ {
			t.Errorf("%+v is planned", opt)
		}
	}
}

// TestLargeHeader warns and refuses by the length of the header.
func TestLargeHeader(t *testing.T) {
	t.Parallel()
	f, st := simple(100)
	long := strings.Repeat("n", 60_000)
	many := func(n int) *fixture {
		g := &fixture{file: f.file, state: &torch.StateDict{}}
		for i := range n {
			g.state.Tensors = append(g.state.Tensors, contiguousTensor(fmt.Sprintf("%s%d", long, i), st, int64(i%50), 1))
		}
		return g
	}
	if p := many(410).plan(t, Options{KeepAliases: true}); len(p.Warnings) > 0 {
		t.Errorf("%d bytes: %v", p.Header.Length, p.Warnings)
	}
	if p := many(420).plan(t, Options{KeepAliases: true}); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "--max-shard-size") {
		t.Errorf("%d bytes: %v", p.Header.Length, p.Warnings)
	}
	g := many(1700)
	_, err := fromState(Input{Path: "x", Blob: blobOf(g.file)}, g.state, false, Options{KeepAliases: true})
	var refused *format.UnsupportedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Next, "--max-shard-size") {
		t.Errorf("%v", err)
	}
	p := g.plan(t, Options{KeepAliases: true, Output: Output{MaxShardSize: 1000}})
	if len(p.shards) < 3 {
		t.Errorf("%d shards", len(p.shards)+1)
	}
}

// TestNewerTorch says which dtypes need a newer torch.
func TestNewerTorch(t *testing.T) {
	t.Parallel()
	file, _ := stFile(t, []safetensors.Spec{{Name: "a", DType: safetensors.F8E4M3, Shape: []uint64{4}}, {Name: "b", DType: safetensors.U16, Shape: []uint64{4}}, {Name: "c", DType: safetensors.F32, Shape: []uint64{4}}}, nil)
	if got := strings.Join(toTorchPlan(t, file).Warnings, "; "); got != "F8_E4M3 needs torch 2.1 or later to be loaded; U16 needs torch 2.3 or later to be loaded" {
		t.Errorf("%q", got)
	}
	file, _ = stFile(t, []safetensors.Spec{{Name: "c", DType: safetensors.BF16, Shape: []uint64{4}}}, nil)
	if got := toTorchPlan(t, file).Warnings; len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// npyTypes are NumPy's names of the dtypes that it has.
var npyTypes = map[safetensors.DType]string{
	safetensors.BOOL: "|b1", safetensors.I8: "|i1", safetensors.U8: "|u1", safetensors.I16: "<i2", safetensors.U16: "<u2",
	safetensors.I32: "<i4", safetensors.U32: "<u4", safetensors.I64: "<i8", safetensors.U64: "<u8",
	safetensors.F16: "<f2", safetensors.F32: "<f4", safetensors.F64: "<f8", safetensors.C64: "<c8",
}

type arrays struct {
	File   string
	Arrays map[string]struct {
		DType  string
		Shape  []uint64
		SHA256 string
	}
}

// numpyLoad lets the real NumPy load files.
func numpyLoad(tb testing.TB, files ...string) []arrays {
	tb.Helper()
	cmd := exec.Command(realtools.Python(tb), append([]string{filepath.Join("testdata", "arrays.py")}, files...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("arrays.py: %v\n%s", err, errs.String())
	}
	var all []arrays
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var a arrays
		if err := dec.Decode(&a); err == io.EOF {
			return all
		} else if err != nil {
			tb.Fatal(err)
		}
		all = append(all, a)
	}
}

// TestNPZ lets NumPy load what the files of the corpus and every dtype become.
func TestNPZ(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	proofs := map[string]*Proof{}
	write := func(name string, p *Plan) {
		out := whole(t, p)
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_")+".npz")
		if err := p.WriteFile(context.Background(), file); err != nil {
			t.Fatal(err)
		}
		proofs[file] = proveAll(t, p, out)
		if z, err := zip.NewReader(bytes.NewReader(out), int64(len(out))); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			for _, f := range z.File {
				at, err := f.DataOffset()
				if err != nil || at%64 != 0 || f.Method != zip.Store {
					t.Errorf("%s: %s at %d: %v", name, f.Name, at, err)
				}
			}
		}
	}
	for f, opt := range torchMade(t) {
		if filepath.Base(f) == "bare_tensor.pt" {
			continue
		}
		opt.To = model.NPZ
		p, err := planFile(t, f, opt)
		if u := new(format.UnsupportedError); errors.As(err, &u) && strings.Contains(u.What, "BF16") && u.Next != "" {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		write(strings.TrimPrefix(f, checkpoints+"/"), p)
	}
	var specs []safetensors.Spec
	for d, name := range npyTypes {
		specs = append(specs, safetensors.Spec{Name: name, DType: d, Shape: []uint64{3, 5}}, safetensors.Spec{Name: name + "/0", DType: d, Shape: []uint64{0, 2}})
	}
	specs = append(specs, safetensors.Spec{Name: "größe/层.weight", DType: safetensors.F16, Shape: []uint64{}}, safetensors.Spec{Name: "one", DType: safetensors.U8, Shape: []uint64{7}})
	file, _ := stFile(t, specs, map[string]string{"format": "pt", "tied": "one", "note": "lost"})
	p, err := File(context.Background(), Input{Path: "model.safetensors", Blob: blobOf(file)}, Options{To: model.NPZ})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Dropped) != 1 || p.Path != "model.npz" {
		t.Errorf("%s, dropped %v", p.Path, p.Dropped)
	}
	write("every dtype", p)
	if len(proofs) < 20 {
		t.Errorf("only %d files", len(proofs))
	}
	for _, a := range numpyLoad(t, sortedKeys(proofs)...) {
		want := proofs[a.File]
		if len(a.Arrays) != len(want.Tensors) {
			t.Errorf("%s: %d arrays, want %d", a.File, len(a.Arrays), len(want.Tensors))
		}
		for _, x := range want.Tensors {
			if got := a.Arrays[x.Name]; got.DType != npyTypes[x.DType] || got.SHA256 != x.Digest || !slices.Equal(got.Shape, x.Shape) {
				t.Errorf("%s: %s: NumPy has %v, want %v", a.File, x.Name, got, x)
			}
		}
	}
}

// TestNPZRefuses has what NumPy has no type or no name for.
func TestNPZRefuses(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{
		"BF16 tensor":               {"bf16"},
		"leads out":                 {"../x"},
		"takes for the array \"x\"": {"x", "x.npy"},
		"more than a ZIP record":    {strings.Repeat("n", 65532)},
	} {
		var specs []safetensors.Spec
		for _, n := range names {
			d := safetensors.F32
			if n == "bf16" {
				d = safetensors.BF16
			}
			specs = append(specs, safetensors.Spec{Name: n, DType: d, Shape: []uint64{2}})
		}
		file, _ := stFile(t, specs, nil)
		_, err := File(context.Background(), Input{Path: "x.safetensors", Blob: blobOf(file)}, Options{To: model.NPZ})
		var u *format.UnsupportedError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), want) || u.Next == "" {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestAgain writes safetensors anew: as shards, and together with what its
// metadata says.
func TestAgain(t *testing.T) {
	t.Parallel()
	specs, meta := knownSpecs()
	file, h := stFile(t, specs, meta)
	in := Input{Path: "model.safetensors", Blob: blobOf(file)}
	if _, err := File(context.Background(), in, Options{}); !errors.Is(err, ErrNoConverter) {
		t.Errorf("as it is: %v", err)
	}
	p, err := File(context.Background(), in, Options{Output: Output{Align: 8}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole(t, p), file) {
		t.Error("a canonical file does not stay")
	}
	set, err := Files(context.Background(), in, Options{Output: Output{MaxShardSize: 5000}})
	if err != nil {
		t.Fatal(err)
	}
	want, err := safetensors.SetDigest(digestsOf(t, h, file))
	if err != nil {
		t.Fatal(err)
	}
	checkShards(t, "again", set, &Proof{SetDigest: want}, 5000)
	for _, p := range set.Plans {
		if p.Header.Metadata["note"] != "lost" || p.Header.Metadata["format"] != "pt" {
			t.Errorf("%s: metadata %v", p.Path, p.Header.Metadata)
		}
	}
}
