package convert

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/internal/realtools"
)

// TestModules compares, bit for bit, what is taken from modules that the real
// torch pickled, scripted and traced with their state_dict(), and the parts of
// quantised and sparse tensors with what torch says that they are.
func TestModules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := 0
	for _, l := range torchWrites(t, dir) {
		files++
		opt := Options{WeightsOnly: true, SplitQuantized: true, SplitSparse: true}
		_, err := planFile(t, filepath.Join(dir, l.File), Options{})
		checkRefused(t, l.File, err)
		p, err := planFile(t, filepath.Join(dir, l.File), opt)
		if err != nil {
			t.Errorf("%s: %v", l.File, err)
			continue
		}
		names := map[string]bool{}
		for _, x := range proveAll(t, p, whole(t, p)).Tensors {
			names[x.Name] = true
			w := l.Tensors[x.Name]
			if w.SHA256 != x.Digest || w.DType != torchNames[x.DType] || !slices.Equal(w.Shape, x.Shape) {
				t.Errorf("%s: %s: %v, torch has %v", l.File, x.Name, x, w)
			}
		}
		for _, a := range p.Aliases {
			names[a.Removed] = true
			if l.Tensors[a.Removed].SHA256 != l.Tensors[a.Kept].SHA256 {
				t.Errorf("%s: %s is not %s", l.File, a.Removed, a.Kept)
			}
		}
		for name := range l.Tensors {
			if !names[name] {
				t.Errorf("%s: %s is missing", l.File, name)
			}
		}
		checkLosses(t, l.File, p)
	}
	if files < 16 {
		t.Errorf("only %d files", files)
	}
	selectList(t, filepath.Join(dir, "list.pt"))
}

// torchWrites lets the real torch write modules.
func torchWrites(tb testing.TB, dir string) []loaded {
	tb.Helper()
	cmd := exec.Command(realtools.Python(tb), filepath.Join("testdata", "modules.py"), dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("modules.py: %v\n%s", err, errs.String())
	}
	var all []loaded
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l loaded
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			tb.Fatal(err)
		}
		all = append(all, l)
	}
}

// checkRefused wants the error that says which option would do.
func checkRefused(t *testing.T, name string, err error) {
	t.Helper()
	var forbidden *torch.ForbiddenError
	var unsupported *torch.UnsupportedError
	flag := ""
	switch {
	case strings.HasPrefix(name, "quantised"):
		flag = "--split-quantized"
	case strings.HasPrefix(name, "sparse"):
		flag = "--split-sparse"
	case !errors.As(err, &forbidden) || !forbidden.Inert:
		t.Errorf("%s without permission: %v", name, err)
		return
	default:
		return
	}
	if !errors.As(err, &unsupported) || !strings.Contains(unsupported.NextStep(), flag) {
		t.Errorf("%s: %v", name, err)
	}
}

// checkLosses wants every class, and every tensor that is not taken, named;
// and what was split recorded.
func checkLosses(t *testing.T, name string, p *Plan) {
	t.Helper()
	lost := map[string]string{}
	for _, d := range p.Dropped {
		lost[d.Path] = d.Kind + ": " + d.Reason
	}
	var rules []string
	for _, n := range p.Notes {
		rules = append(rules, n.Rule)
	}
	var want map[string]string
	rule := "module-names"
	switch strings.TrimRight(strings.TrimSuffix(name, ".pt"), "2345") {
	case "own", "cycle":
		want = map[string]string{".": "acme_models.net.Own", "plain": "tensor: neither", "kept": "list: neither", "scratch": "tensor: registered with persistent=False"}
	case "inside":
		want = map[string]string{"model": "acme_models.net.Own", "model.plain": "tensor: neither", "epoch": "int"}
	case "list":
		want = map[string]string{"0": "acme_models.net.Own", "0.scratch": "tensor: registered"}
	case "script":
		want = map[string]string{".": "__torch__.", "extra": "tensor: neither", "many": "torch.jit._pickle.build_tensorlist: neither"}
	case "trace":
		want = map[string]string{".": "__torch__.", "constants": "1 tensors: constants of the code have no names"}
	case "sequential", "sequential_legacy":
		want = map[string]string{".": "torch.nn.modules.container.Sequential: the code and plain attributes of a class are not taken (2 objects)"}
	case "parallel":
		want = map[string]string{".": "torch.nn.parallel.data_parallel.DataParallel"}
	case "quantised", "quantised_legacy":
		rule = "split"
		want = map[string]string{"s": "torch.QInt8Storage per_tensor_affine: safetensors has no such layout: written as its parts, NAME, NAME.scale, NAME.zero_point"}
	default:
		rule = "split"
		want = map[string]string{"coo": "torch.sparse_coo: safetensors", "csr": "torch.sparse_csr: safetensors"}
	}
	if !slices.Contains(rules, rule) {
		t.Errorf("%s: notes %v", name, rules)
	}
	for path, text := range want {
		if !strings.HasPrefix(lost[path], text) {
			t.Errorf("%s: %s is %q among the lost, want %q", name, path, lost[path], text)
		}
	}
}

// selectList takes parts of a list, by index.
func selectList(t *testing.T, file string) {
	t.Helper()
	for path, want := range map[string]string{"0.first": "bias weight", "1": "x", "0.layers.1": "bias num_batches_tracked running_mean running_var weight"} {
		p, err := planFile(t, file, Options{WeightsOnly: true, Select: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var got []string
		for _, x := range p.Header.Tensors {
			got = append(got, x.Name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want || p.Subtree != path {
			t.Errorf("%s: %v of %s", path, got, p.Subtree)
		}
	}
}

// TestRecognised wants files of other tools refused with the next step.
func TestRecognised(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"model.pte":      "\x1c\x00\x00\x00ET12" + strings.Repeat("\x00", 64),
		"saved_model.pb": "\x08\x01\x12\x90" + strings.Repeat("\x80", 64),
		"variables/variables.data-00000-of-00001":                strings.Repeat("\x00\xff", 64),
		"variables/variables.index":                              strings.Repeat("\x00\xfe", 64),
		"model.ckpt-7.index":                                     strings.Repeat("\x00\xfe", 64),
		"net.mlpackage/Data/com.apple.CoreML/weights/weight.bin": strings.Repeat("\x02\xfe\x00", 64),
		"net.mlmodel": "\x08\x04\x12\x90" + strings.Repeat("\x81", 64),
		"package.pt":  torchPackage(t),
	} {
		_, err := File(t.Context(), Input{Path: name, Blob: blobOf([]byte(content))}, Options{})
		var u *format.UnsupportedError
		if !errors.As(err, &u) || u.Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func torchPackage(tb testing.TB) string {
	tb.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string]string{"package/.data/version": "6\n", "package/.data/extern_modules": "torch\n", "package/model/model.pkl": "\x80\x02N."} {
		w, err := z.Create(name)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}
