package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

const checkpoints = "../testdata/checkpoints"

// oracle is what torch itself said of a file of the corpus.
type oracle struct {
	Container string         `json:"container"`
	Expect    string         `json:"expect"`
	Tensors   []oracleTensor `json:"tensors"`
	Aliases   [][]string     `json:"aliases"`
}

type oracleTensor struct {
	Path   []any    `json:"path"`
	Name   string   `json:"name"`
	DType  string   `json:"dtype"`
	Shape  []uint64 `json:"shape"`
	SHA256 string   `json:"sha256"`
}

func readJSON(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatal(name, err)
	}
}

// planFile plans a file of the corpus as a user would.
func planFile(tb testing.TB, name string, opt Options) (*Plan, error) {
	tb.Helper()
	blob, err := model.SingleFile(name).Open(context.Background(), filepath.Base(name))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { blob.Close() })
	return File(context.Background(), Input{Path: filepath.Base(name), Blob: blob}, opt)
}

// choices are the options under which files convert that do not without.
var choices = map[string]Options{
	"lightning.ckpt": {Select: "state_dict", WeightsOnly: true},
	"train.pt":       {Select: "model", WeightsOnly: true},

	"module.pt": {WeightsOnly: true}, "module_legacy.pt": {WeightsOnly: true}, "module_torch_only.pt": {WeightsOnly: true},
	"jit_script.pt": {WeightsOnly: true}, "jit_trace.pt": {WeightsOnly: true},
}

// unlisted are tensors that an archive has and its oracle, taken before it was
// scripted, leaves out: TorchScript forgets that a buffer was not persistent.
var unlisted = map[string]string{"jit_script.pt": "nope", "jit_trace.pt": "nope"}

// refusals are the files that do not convert, with the type of the error.
var refusals = map[string]any{
	"complex128.pt": new(*torch.UnsupportedError), "meta.pt": new(*torch.UnsupportedError),
	"quantized.pt": new(*torch.UnsupportedError), "sparse.pt": new(*torch.UnsupportedError),
	"jit_frozen.pt": new(*torch.UnsupportedError), "names.pt": new(*torch.FormatError),
}

// TestCorpus converts every torch file that has an oracle, and compares names,
// dtypes, shapes, bytes and ties; the others must be refused as listed.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(checkpoints + "/*.oracle.json")
	if err != nil {
		t.Fatal(err)
	}
	converted, refused := 0, 0
	for _, f := range files {
		var o oracle
		readJSON(t, f, &o)
		name := strings.TrimSuffix(filepath.Base(f), ".oracle.json")
		if !strings.HasPrefix(o.Container, "torch") {
			continue
		}
		if want, ok := refusals[name]; ok {
			refused++
			if _, err := planFile(t, filepath.Join(checkpoints, name), Options{}); err == nil || !errors.As(err, want) {
				t.Errorf("%s: %v, want %T", name, err, want)
			}
			continue
		}
		if choices[name].WeightsOnly && choices[name].Select == "" {
			var forbidden *torch.ForbiddenError
			if _, err := planFile(t, filepath.Join(checkpoints, name), Options{}); !errors.As(err, &forbidden) || !forbidden.Inert {
				t.Errorf("%s without permission: %v", name, err)
			}
		}
		converted++
		for _, keep := range []bool{false, true} {
			opt := choices[name]
			opt.KeepAliases = keep
			checkOracle(t, name, &o, opt)
		}
	}
	if converted < 35 || refused != len(refusals) {
		t.Errorf("%d files converted, %d refused", converted, refused)
	}
}

func checkOracle(t *testing.T, name string, o *oracle, opt Options) {
	t.Helper()
	p, err := planFile(t, filepath.Join(checkpoints, name), opt)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	proof := proveAll(t, p, whole(t, p))
	var want, got []string
	for _, x := range o.Tensors {
		if n, ok := nameIn(x, opt.Select); ok {
			want = append(want, fmt.Sprintf("%s %s %v %s", n, x.DType, x.Shape, x.SHA256))
		}
	}
	for _, x := range proof.Tensors {
		if extra, ok := unlisted[name]; ok && x.Name == extra {
			continue
		}
		got = append(got, fmt.Sprintf("%s %s %v %s", x.Name, x.DType, x.Shape, x.Digest))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: tensors\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var ties []Alias
	for _, group := range o.Aliases {
		slices.Sort(group)
		for _, n := range group[1:] {
			ties = append(ties, Alias{Removed: n, Kept: group[0]})
		}
	}
	if opt.KeepAliases {
		ties = nil
	}
	slices.SortFunc(ties, func(a, b Alias) int { return strings.Compare(a.Removed, b.Removed) })
	if !slices.Equal(p.Aliases, ties) {
		t.Errorf("%s: aliases %v, want %v", name, p.Aliases, ties)
	}
	file, err := os.ReadFile(filepath.Join(checkpoints, name))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(file); proof.SourceDigest != hex.EncodeToString(sum[:]) {
		t.Errorf("%s: source digest", name)
	}
}

// nameIn is a tensor's name below a subtree.
func nameIn(x oracleTensor, subtree string) (string, bool) {
	if subtree == "" {
		return x.Name, true
	}
	return strings.CutPrefix(x.Name, subtree+".")
}

// TestHandmade converts what the manifest calls good, to the digests that it
// gives, and refuses what it calls bad.
func TestHandmade(t *testing.T) {
	t.Parallel()
	var manifest map[string]struct {
		Outcome string
		Tensors map[string]struct {
			DType, SHA256 string
			Shape         []uint64
		}
	}
	readJSON(t, checkpoints+"/handmade/manifest.json", &manifest)
	for name, m := range manifest {
		file := filepath.Join(checkpoints, "handmade", name)
		switch {
		case strings.HasPrefix(name, "good/"):
			p, err := planFile(t, file, Options{KeepAliases: true})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			proof := proveAll(t, p, whole(t, p))
			if len(proof.Tensors) != len(m.Tensors) {
				t.Errorf("%s: %d tensors, want %d", name, len(proof.Tensors), len(m.Tensors))
			}
			for _, x := range proof.Tensors {
				if w := m.Tensors[x.Name]; w.SHA256 != x.Digest || w.DType != x.DType.String() || !slices.Equal(w.Shape, x.Shape) {
					t.Errorf("%s: %v, want %v", name, x, w)
				}
			}
		case strings.HasPrefix(name, "bad/") && m.Outcome == "reject":
			if p, err := planFile(t, file, Options{WeightsOnly: true}); err == nil {
				t.Errorf("%s converts to %v", name, p.Header.Tensors)
			}
		}
	}
}

// notForTorch are the good hand-made files that torch 1.13 does not load as
// current torch does.
var notForTorch = map[string]string{
	"bigendian.pt":       "1.13 ignores the byteorder record",
	"conj_arg.pt":        "1.13 has no seventh argument",
	"meta_arg.pt":        "1.13 has no seventh argument",
	"device_from_cpu.pt": "1.13 lacks the function",
	"param_state.pt":     "1.13 lacks the function",
	"f4_packed.pt":       "1.13 lacks the dtype and _rebuild_tensor_v3",
	"v3_dtypes.pt":       "1.13 lacks the dtypes and _rebuild_tensor_v3",
}

// torchMade lists the corpus files for torch, with the options to convert
// them.
func torchMade(tb testing.TB) map[string]Options {
	tb.Helper()
	files := map[string]Options{}
	for _, pattern := range []string{"*.pt", "*.bin", "*.pth", "*.ckpt", "sharded/*.bin", "handmade/good/*.pt"} {
		found, err := filepath.Glob(filepath.Join(checkpoints, pattern))
		if err != nil || len(found) == 0 {
			tb.Fatal(pattern, err)
		}
		for _, f := range found {
			base := filepath.Base(f)
			_, refused := refusals[base]
			_, newer := notForTorch[base]
			if !refused && !newer {
				files[f] = choices[base]
			}
		}
	}
	return files
}

// TestTorchAgrees compares, bit for bit, what the real torch loads from each
// file of the corpus with what we write, and the whole file with the layout of
// the reference writer.
func TestTorchAgrees(t *testing.T) {
	t.Parallel()
	files := torchMade(t)
	var args []string
	for f, opt := range files {
		args = append(args, f+"#"+opt.Select)
	}
	slices.Sort(args)
	all := torchLoad(t, args...)
	if len(all) != len(files) {
		t.Fatalf("%d answers for %d files", len(all), len(files))
	}
	for _, l := range all {
		if l.Error != "" {
			t.Errorf("%s: torch: %s", l.File, l.Error)
			continue
		}
		p, err := planFile(t, l.File, files[l.File])
		if err != nil {
			t.Errorf("%s: %v", l.File, err)
			continue
		}
		out := whole(t, p)
		compareLoaded(t, l, p, out)
		if sum := sha256.Sum256(out); hex.EncodeToString(sum[:]) != l.Reference {
			t.Errorf("%s: the file is not what the reference layout gives", l.File)
		}
	}
}

func compareLoaded(t *testing.T, l loaded, p *Plan, out []byte) {
	t.Helper()
	proof := proveAll(t, p, out)
	if len(proof.Tensors) != len(l.Tensors) {
		t.Errorf("%s: %d tensors, torch has %d", l.File, len(proof.Tensors), len(l.Tensors))
	}
	for _, x := range proof.Tensors {
		w := l.Tensors[x.Name]
		if w.SHA256 != x.Digest || w.DType != torchNames[x.DType] || !slices.Equal(w.Shape, x.Shape) {
			t.Errorf("%s: %s: %v, torch has %v", l.File, x.Name, x, w)
		}
	}
	for _, a := range p.Aliases {
		if l.Aliases[a.Removed] != a.Kept {
			t.Errorf("%s: %s left out for %s, the reference keeps %q", l.File, a.Removed, a.Kept, l.Aliases[a.Removed])
		}
	}
	if len(p.Aliases) != len(l.Aliases) {
		t.Errorf("%s: aliases %v, the reference has %v", l.File, p.Aliases, l.Aliases)
	}
}

// TestRoundTrip takes each file to safetensors, to torch and back: the tensors
// stay, the safetensors file is the same byte for byte, and the reader of
// format/torch takes what its writer made.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var made []string
	first := map[string]*Plan{}
	for f, opt := range torchMade(t) {
		if filepath.Base(f) == "bare_tensor.pt" {
			continue // its tensor has no name, which a dictionary of ours must not have
		}
		p, err := planFile(t, f, opt)
		if err != nil {
			t.Fatal(err)
		}
		st := whole(t, p)
		back := toTorchPlan(t, st)
		name := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(f, checkpoints+"/"), "/", "_"))
		if err := back.WriteFile(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		again, err := planFile(t, name, Options{Select: torch.WholeRoot})
		if err != nil {
			t.Errorf("%s: our own archive: %v", f, err)
			continue
		}
		if len(again.Notes) > 0 {
			t.Errorf("%s: our own archive: %v", f, again.Notes)
		}
		if !bytes.Equal(whole(t, again), st) {
			t.Errorf("%s: safetensors -> torch -> safetensors differs", f)
		}
		made = append(made, name)
		first[name] = p
	}
	for _, l := range torchLoad(t, append([]string{"--weights-only"}, made...)...) {
		if l.Error != "" {
			t.Errorf("%s: torch: %s", first[l.File].Path, l.Error)
			continue
		}
		compareLoaded(t, l, first[l.File], whole(t, first[l.File]))
		for _, a := range first[l.File].Aliases {
			if l.Tensors[a.Removed].Ptr != l.Tensors[a.Kept].Ptr {
				t.Errorf("%s: %s and %s are not tied", first[l.File].Path, a.Removed, a.Kept)
			}
		}
	}
}

// FuzzFile converts whatever the reader of the container accepts, and proves
// it.
func FuzzFile(f *testing.F) {
	for _, pattern := range []string{"/*.pt", "/handmade/good/*.pt", "/handmade/bad/*.pt"} {
		names, err := filepath.Glob(checkpoints + pattern)
		if err != nil || len(names) == 0 {
			f.Fatal(pattern, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			if len(b) < 20<<10 {
				f.Add(b)
			}
		}
	}
	small := torch.Limits{Expand: 1, Inflate: 100, Pickle: pickle.Limits{}}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := File(context.Background(), Input{Path: "x.pt", Blob: blobOf(b)}, Options{Limits: small, WeightsOnly: true})
		if err != nil || p.Size() > 1<<20 {
			return
		}
		out, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
		if err != nil {
			return // a deflated record that lies
		}
		proveAll(t, p, out)
	})
}
