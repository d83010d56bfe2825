package torch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
)

const checkpoints = "../../testdata/checkpoints"

// oracle is what torch itself said of a file.
type oracle struct {
	File      string         `json:"file"`
	Container string         `json:"container"`
	Expect    string         `json:"expect"`
	Tensors   []oracleTensor `json:"tensors"`
	Aliases   [][]string     `json:"aliases"`
	Shared    [][]string     `json:"shared_storage"`
	NonTensor []struct {
		Path []any  `json:"path"`
		Type string `json:"type"`
	} `json:"non_tensors"`
}

type oracleTensor struct {
	Path      []any    `json:"path"`
	Name      string   `json:"name"`
	DType     string   `json:"dtype"`
	Shape     []uint64 `json:"shape"`
	Stride    []int64  `json:"stride"`
	Offset    int64    `json:"storage_offset"`
	Storage   int      `json:"storage"`
	SHA256    string   `json:"sha256"`
	Parameter bool     `json:"is_parameter"`
	Conj      bool     `json:"conj"`
	Neg       bool     `json:"neg"`
}

func pathText(path []any) string {
	var s []string
	for _, p := range path {
		s = append(s, fmt.Sprint(p))
	}
	return strings.Join(s, ".")
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func open(b []byte) (*Checkpoint, error) {
	return Open(bytes.NewReader(b), int64(len(b)), Limits{})
}

// oracles reads the oracles of all torch containers.
func oracles(tb testing.TB) []oracle {
	tb.Helper()
	paths, err := filepath.Glob(checkpoints + "/*.oracle.json")
	if err != nil {
		tb.Fatal(err)
	}
	var out []oracle
	for _, p := range paths {
		var o oracle
		if err := json.Unmarshal(readFile(tb, p), &o); err != nil {
			tb.Fatal(p, err)
		}
		if strings.HasPrefix(o.Container, "torch") {
			out = append(out, o)
		}
	}
	if len(out) < 40 {
		tb.Fatalf("only %d torch files with oracles", len(out))
	}
	return out
}

// gather is the reference for what a tensor holds: element by element, in
// row-major order, little-endian, with the conjugate and negative bits
// applied.
func gather(t *Tensor, big bool) ([]byte, error) {
	size := elementSize(t.DType)
	n := int64(1)
	for _, d := range t.Size {
		n *= d
	}
	out := make([]byte, 0, n*size)
	index := make([]int64, len(t.Size))
	for range n {
		at := t.Offset
		for d, i := range index {
			at += i * t.Stride[d]
		}
		e := make([]byte, size)
		if got, err := t.Storage.Data.ReadAt(e, at*size); int64(got) < size {
			return nil, err
		}
		out = append(out, element(e, t, big)...)
		for d := len(index) - 1; d >= 0; d-- {
			if index[d]++; index[d] < t.Size[d] {
				break
			}
			index[d] = 0
		}
	}
	return out, nil
}

func element(e []byte, t *Tensor, big bool) []byte {
	parts := 1
	if t.DType == safetensors.C64 {
		parts = 2
	}
	w := len(e) / parts
	for p := range parts {
		part := e[p*w : p*w+w]
		if big {
			slices.Reverse(part)
		}
		if t.Neg != (t.Conj && p == 1) {
			part[w-1] ^= 0x80 // of floats only: the corpus has no others
		}
	}
	return e
}

func digest(tb testing.TB, t *Tensor, big bool) string {
	tb.Helper()
	b, err := gather(t, big)
	if err != nil {
		tb.Fatalf("%s: %v", t.Name, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Every file that torch wrote gives the tensors that torch reads, or is
// refused where it cannot be converted.
func TestOracles(t *testing.T) {
	t.Parallel()
	for _, o := range oracles(t) {
		t.Run(o.File, func(t *testing.T) {
			t.Parallel()
			c, err := open(readFile(t, filepath.Join(checkpoints, o.File)))
			if err != nil {
				t.Fatal(err)
			}
			if string(c.Container) != o.Container {
				t.Errorf("container %s, want %s", c.Container, o.Container)
			}
			for _, f := range c.Findings {
				t.Errorf("finding %+v", f)
			}
			sd, err := c.Select("")
			switch o.Expect {
			case "convert", "convert-dropping":
				if err != nil {
					t.Fatal(err)
				}
				compare(t, c, sd, &o, "")
				compareDropped(t, sd, &o)
			case "convert-subtree":
				compareSubtree(t, c, err, &o)
			case "reject-tensor":
				var e *UnsupportedError
				if !errors.As(err, &e) || e.Path == "" || e.Next == "" {
					t.Errorf("got %v", err)
				}
			case "reject-name":
				if !errors.Is(err, ErrName) {
					t.Errorf("got %v", err)
				}
			case "module":
				checkPermission(t, c, err, &o)
			case "torchscript":
				if o.File == "jit_frozen.pt" {
					var e *UnsupportedError
					if !errors.As(err, &e) || !strings.Contains(e.Next, "torch.jit.freeze") {
						t.Errorf("got %v", err)
					}
					return
				}
				checkPermission(t, c, err, &o)
			default:
				t.Errorf("unknown expectation %q", o.Expect)
			}
		})
	}
}

// checkPermission wants modules to be refused until their code may be left
// out, which is listed then.
func checkPermission(t *testing.T, c *Checkpoint, err error, o *oracle) {
	t.Helper()
	var e *ForbiddenError
	if !errors.As(err, &e) || !e.Inert {
		t.Fatalf("got %v", err)
	}
	sd, err := c.SelectWith(SelectOptions{AllowInert: true})
	if err != nil {
		t.Fatal(err)
	}
	classes, attributes := 0, 0
	for _, d := range sd.Dropped {
		switch d.Reason {
		case whyNonPersistent, whyAttribute:
			attributes++
		default:
			classes++
		}
	}
	if classes < 4 || attributes > 1 {
		t.Errorf("dropped %+v", sd.Dropped)
	}
	if o.Container == string(TorchScript) { // whose format keeps all buffers
		sd.Tensors = slices.DeleteFunc(sd.Tensors, func(x Tensor) bool { return x.Name == "nope" })
	}
	for i := range sd.Tensors { // state_dict() detaches them
		sd.Tensors[i].Parameter = false
	}
	compare(t, c, sd, o, "")
}

func compare(t *testing.T, c *Checkpoint, sd *StateDict, o *oracle, prefix string) {
	t.Helper()
	want := o.Tensors
	if prefix != "" {
		want = nil
		for _, w := range o.Tensors {
			if strings.HasPrefix(w.Name, prefix+".") {
				want = append(want, w)
			}
		}
	}
	if sd.Subtree != prefix || len(sd.Tensors) != len(want) {
		t.Fatalf("subtree %q with %d tensors, want %q with %d", sd.Subtree, len(sd.Tensors), prefix, len(want))
	}
	groups := map[*Storage]int{}
	for i, w := range want {
		got := &sd.Tensors[i]
		name := strings.TrimPrefix(strings.TrimPrefix(w.Name, prefix), ".")
		if prefix == "" {
			name = w.Name
		}
		if got.Name != name || strings.Join(got.Path, ".") != pathText(w.Path) || got.DType.String() != w.DType ||
			!slices.Equal(got.Shape, w.Shape) || !slices.Equal(got.Stride, w.Stride) || got.Offset != w.Offset ||
			got.Parameter != w.Parameter || got.Conj != w.Conj || got.Neg != w.Neg {
			t.Errorf("got %+v, want %+v", got, w)
			continue
		}
		if d := digest(t, got, c.BigEndian); d != w.SHA256 {
			t.Errorf("%s: digest %s, want %s", got.Name, d, w.SHA256)
		}
		if g, ok := groups[got.Storage]; ok && g != w.Storage {
			t.Errorf("%s: shares its storage with group %d, want %d", got.Name, g, w.Storage)
		}
		groups[got.Storage] = w.Storage
	}
	checkAliases(t, sd, o)
}

// checkAliases finds names of the same storage, offset, shape and strides.
func checkAliases(t *testing.T, sd *StateDict, o *oracle) {
	t.Helper()
	byName := map[string]*Tensor{}
	for i := range sd.Tensors {
		byName[sd.Tensors[i].Name] = &sd.Tensors[i]
	}
	for _, group := range o.Aliases {
		first := byName[group[0]]
		for _, name := range group[1:] {
			x := byName[name]
			if x.Storage != first.Storage || x.Offset != first.Offset || !slices.Equal(x.Size, first.Size) || !slices.Equal(x.Stride, first.Stride) {
				t.Errorf("%s is no alias of %s", name, group[0])
			}
		}
	}
	for _, group := range o.Shared {
		for _, name := range group[1:] {
			if byName[name].Storage != byName[group[0]].Storage {
				t.Errorf("%s does not share with %s", name, group[0])
			}
		}
	}
}

func compareDropped(t *testing.T, sd *StateDict, o *oracle) {
	t.Helper()
	if len(sd.Dropped) != len(o.NonTensor) {
		t.Fatalf("dropped %+v, want %+v", sd.Dropped, o.NonTensor)
	}
	for i, w := range o.NonTensor {
		if got := sd.Dropped[i]; got.Path != pathText(w.Path) || got.Kind != w.Type {
			t.Errorf("dropped %+v, want %+v", got, w)
		}
	}
}

// compareSubtree: training checkpoints name their parts, and say what else is
// in them.
func compareSubtree(t *testing.T, c *Checkpoint, err error, o *oracle) {
	t.Helper()
	key, first := "state_dict", []string{"state_dict", "callbacks", "optimizer_states"}
	if o.File == "train.pt" {
		key, first = "model", []string{"model", "optimizer"}
	}
	var ambiguous *AmbiguousError
	if !errors.As(err, &ambiguous) || !slices.Equal(ambiguous.Candidates, first) {
		t.Fatalf("got %v, want candidates %v", err, first)
	}
	var forbidden *ForbiddenError
	_, err = c.Select(key)
	if o.File == "train.pt" && (!errors.As(err, &forbidden) || !forbidden.Inert) {
		t.Errorf("got %v, want an inert *ForbiddenError once the part is chosen", err)
	}
	sd, err := c.SelectWith(SelectOptions{Path: key, AllowInert: true})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, c, sd, o, key)
	var beside []string
	for _, d := range sd.Dropped {
		beside = append(beside, d.Path+" "+d.Kind)
	}
	want := "callbacks training state"
	if o.File == "train.pt" {
		want = "args argparse.Namespace"
	}
	if !slices.Contains(beside, want) {
		t.Errorf("dropped %q, want %q among it", beside, want)
	}
}

// manifest is what each handmade file must come to.
type manifest map[string]struct {
	Outcome string `json:"outcome"`
	Why     string `json:"why"`
	Tensors map[string]struct {
		DType  string   `json:"dtype"`
		Shape  []uint64 `json:"shape"`
		SHA256 string   `json:"sha256"`
	} `json:"tensors"`
}

func TestHandmade(t *testing.T) {
	t.Parallel()
	var m manifest
	if err := json.Unmarshal(readFile(t, checkpoints+"/handmade/manifest.json"), &m); err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, w := range m {
		if strings.HasPrefix(name, "st/") {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := open(readFile(t, checkpoints+"/handmade/"+name))
			var sd *StateDict
			findings := 0
			if c != nil {
				findings = len(c.Findings)
			}
			if err == nil {
				if sd, err = c.Select(""); err == nil {
					findings += len(sd.Findings)
				}
			}
			switch {
			case w.Outcome == "reject" && err == nil:
				t.Errorf("accepted: %s", w.Why)
			case w.Outcome == "finding" && err == nil && findings == 0:
				t.Errorf("nothing found: %s", w.Why)
			case w.Outcome == "ok" && (err != nil || findings > 0):
				t.Errorf("%v, findings %+v", err, c.Findings)
			case len(w.Tensors) > 0 && err != nil:
				t.Error(err)
			}
			if err != nil {
				t.Log(err)
				checkTyped(t, err)
				return
			}
			if w.Tensors == nil {
				return
			}
			if len(sd.Tensors) != len(w.Tensors) {
				t.Errorf("%d tensors, want %d", len(sd.Tensors), len(w.Tensors))
			}
			for i := range sd.Tensors {
				got := &sd.Tensors[i]
				want := w.Tensors[got.Name]
				if d := digest(t, got, c.BigEndian); got.DType.String() != want.DType || !slices.Equal(got.Shape, want.Shape) || d != want.SHA256 {
					t.Errorf("%s: %s %v %s, want %+v", got.Name, got.DType, got.Shape, d, want)
				}
			}
		})
	}
	if n < 100 {
		t.Errorf("only %d handmade files", n)
	}
}
