package torch

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
)

// selected opens a container around value and selects.
func selected(t *testing.T, value string, opt SelectOptions, numels ...int64) (*StateDict, error) {
	t.Helper()
	c, err := open(checkpointOf(value, numels...).bytes())
	if err != nil {
		t.Fatal(err)
	}
	return c.SelectWith(opt)
}

func names(sd *StateDict) string {
	var s []string
	for _, t := range sd.Tensors {
		s = append(s, t.Name)
	}
	return strings.Join(s, " ")
}

func TestSelectSubtrees(t *testing.T) {
	t.Parallel()
	t0, t1 := pTensor("0", 4), pTensor("1", 4)
	sd0 := pDict(pStr("a.w"), t0)
	tests := []struct {
		name, value, path string
		subtree, names    string
		candidates        []string
	}{
		{"flat root", pDict(pStr("x"), t0, pStr("y"), t1), "", "", "x y", nil},
		{"one subtree", pDict(pStr("epoch"), pInt(1), pStr("state_dict"), sd0), "", "state_dict", "a.w", nil},
		{"nested subtree alone", pDict(pStr("model"), pDict(pStr("enc"), sd0)), "", "model", "enc.a.w", nil},
		{"optimizer beside", pDict(pStr("model"), sd0, pStr("optimizer"), pDict(pStr("m"), t1)), "", "", "", []string{"model", "optimizer"}},
		{"tensor beside a state dict", pDict(pStr("model"), sd0, pStr("step"), t1), "", "", "", []string{"model"}},
		{"two subtrees", pDict(pStr("model"), sd0, pStr("ema"), pDict(pStr("w"), t1)), "", "", "", []string{"model", "ema"}},
		{"unknown names", pDict(pStr("generator"), sd0, pStr("critic"), pDict(pStr("w"), t1)), "", "", "generator.a.w critic.w", nil},
		{"optimizer beside unknown names", pDict(pStr("generator"), sd0, pStr("optimizer"), pDict(pStr("w"), t1)), "", "", "", []string{"generator", "optimizer"}},
		{"optimizer alone", pDict(pStr("optimizer"), pDict(pStr("w"), t1)), "", "", "optimizer.w", nil},
		{"tensor named model", pDict(pStr("model"), t0, pStr("x"), t1), "", "", "model x", nil},
		{"whole root", pDict(pStr("model"), sd0, pStr("optimizer"), pDict(pStr("m"), t1)), ".", "", "model.a.w optimizer.m", nil},
		{"path", pDict(pStr("model"), sd0, pStr("optimizer"), pDict(pStr("m"), t1)), "optimizer", "optimizer", "m", nil},
		{"path of a key with dots", pDict(pStr("a.b"), pDict(pStr("c"), sd0)), "a.b.c", "a.b.c", "a.w", nil},
		{"path through a list", pDict(pStr("l"), pList(pInt(1), sd0)), "l.1", "l.1", "a.w", nil},
		{"path to a tensor", pDict(pStr("x"), t0), "x", "x", "", nil},
		{"integer keys", pDict(pInt(3), t0), "", "", "3", nil},
		{"tuple and list", pTuple(t0, pList(t1)), "", "", "0 1.0", nil},
		{"bare tensor", t0, "", "", "", nil},
		{"empty", pDict(), "", "", "", nil},
		{"ordered pairs of Python 2", pCall("collections OrderedDict", pList(pList(pStr("x"), t0))), "", "", "x", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sd, err := selected(t, tt.value, SelectOptions{Path: tt.path}, 4, 4)
			var e *AmbiguousError
			if tt.candidates != nil {
				if !errors.As(err, &e) || !slices.Equal(e.Candidates, tt.candidates) {
					t.Errorf("got %v, want candidates %v", err, tt.candidates)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if sd.Subtree != tt.subtree || names(sd) != tt.names {
				t.Errorf("subtree %q, names %q", sd.Subtree, names(sd))
			}
		})
	}
}

func TestSelectPathErrors(t *testing.T) {
	t.Parallel()
	value := pDict(pStr("a"), pDict(pStr("b"), pTensor("0", 4)), pStr("a.b"), pTensor("0", 4))
	for _, path := range []string{"c", "a.c", "a.b.c", "a.b"} {
		if _, err := selected(t, value, SelectOptions{Path: path}, 4); !errors.Is(err, ErrNoSubtree) {
			t.Errorf("%s: %v", path, err)
		}
	}
	_, err := selected(t, value, SelectOptions{Path: "c"}, 4)
	if !strings.Contains(err.Error(), "there are a, a.b") {
		t.Errorf("the message does not help: %v", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	t0 := pTensor("0", 4)
	tests := map[string]string{
		"empty":        pDict(pStr(""), t0),
		"empty inside": pDict(pStr("a"), pDict(pStr(""), t0)),
		"reserved":     pDict(pStr("__metadata__"), t0),
		"clash":        pDict(pStr("a.b"), t0, pStr("a"), pDict(pStr("b"), t0)),
		"clash of 1":   pDict(pStr("1"), t0, pInt(1), t0),
		"not UTF-8":    pDict("U\x01\xff", t0),
		"bytes":        pDict("C\x01a", t0),
		"tuple":        pDict(pTuple(pInt(1)), t0),
		"bool":         pDict(pTrue, t0),
		"long":         pDict(pStr(strings.Repeat("x", 65537)), t0),
		"NUL":          pDict(pStr("a\x00b"), t0),
	}
	for name, value := range tests {
		_, err := selected(t, value, SelectOptions{}, 4)
		var e *FormatError
		if !errors.As(err, &e) || e.Reason != ErrName {
			t.Errorf("%s: %v", name, err)
		}
	}
	sd, err := selected(t, pDict(pStr(strings.Repeat("x", 65535)), t0, "U\x01b", t0, pStr("\x01"), t0), SelectOptions{}, 4)
	if err != nil || len(sd.Tensors) != 3 || len(sd.Findings) != 1 || sd.Findings[0].Rule != "control-name" {
		t.Errorf("%v, %+v", err, sd)
	}
}

// The last of two values of one key counts, in the place of the first.
func TestDuplicateKeys(t *testing.T) {
	t.Parallel()
	sd, err := selected(t, pDict(pStr("x"), pTensor("0", 4), pStr("y"), pTensor("1", 2), "U\x01x", pTensor("1", 2)), SelectOptions{}, 4, 2)
	if err != nil || names(sd) != "x y" || sd.Tensors[0].Storage.Key != "1" {
		t.Errorf("%v, %+v", err, sd)
	}
}

func TestGlobals(t *testing.T) {
	t.Parallel()
	t0 := pTensor("0", 4)
	sd0 := pStr("state_dict")
	tests := []struct {
		name, value string
		inert       bool // the error without permission says so
		then        error
	}{
		{"namespace", pDict(sd0, pDict(pStr("w"), t0), pStr("args"), pGlobal("argparse Namespace")+")\x81"+pDict(pStr("lr"), pInt(1))+"b"), true, nil},
		{"class as a key", pDict(sd0, pDict(pStr("w"), t0), pGlobal("pytorch_lightning.callbacks.early_stopping EarlyStopping"), pDict()), true, nil},
		{"defaultdict", pDict(sd0, pCall("collections defaultdict", pGlobal("builtins dict"))+pStr("w")+t0+"s"), true, nil},
		{"system", pDict(sd0, pDict(pStr("w"), t0), pStr("x"), pGlobal("os system")), false, errors.New("any")},
		{"popped", pGlobal("os system") + "0" + pDict(pStr("w"), t0), false, errors.New("any")},
		{"inert and not", pDict(pStr("a"), pGlobal("argparse Namespace"), pStr("b"), pGlobal("x y")), false, errors.New("any")},
		{"dotted name", "\x80\x04" + pDict(pStr("a"), pStr("torch")+pStr("Tensor.backward")+"\x93"), false, errors.New("any")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := selected(t, tt.value, SelectOptions{}, 4)
			var e *ForbiddenError
			if !errors.As(err, &e) || e.Inert != tt.inert || len(e.Globals) == 0 {
				t.Fatalf("got %v", err)
			}
			if _, err = selected(t, tt.value, SelectOptions{AllowInert: true}, 4); (err == nil) != (tt.then == nil) {
				t.Errorf("with permission: %v", err)
			}
		})
	}
}

func TestInertObjectsAreListed(t *testing.T) {
	t.Parallel()
	object := pGlobal("argparse Namespace") + ")\x81" + pDict(pStr("lr"), pInt(1)) + "b"
	sd, err := selected(t, pDict(pStr("w"), pTensor("0", 4), pStr("args"), object), SelectOptions{AllowInert: true}, 4)
	if err != nil || len(sd.Dropped) != 1 || sd.Dropped[0].Path != "args" || sd.Dropped[0].Kind != "argparse.Namespace" {
		t.Errorf("%v, %+v", err, sd)
	}
	// Tensors inside an object would be lost without a word.
	module := pGlobal("torch.nn.modules.linear Linear") + ")\x81" + pDict(pStr("_parameters"), pDict(pStr("weight"), pTensor("0", 4))) + "b"
	_, err = selected(t, pDict(pStr("w"), pTensor("0", 4), pStr("head"), module), SelectOptions{AllowInert: true}, 4)
	var e *UnsupportedError
	if !errors.As(err, &e) || e.Path != "head" || !strings.Contains(e.What, "torch.nn.modules.linear.Linear") {
		t.Errorf("got %v", err)
	}
}

func TestCallsAndBuilds(t *testing.T) {
	t.Parallel()
	t0 := pTensor("0", 4)
	tests := map[string]string{
		"call of a dtype":         pDict(pStr("x"), pCall("torch float32")),
		"call of a storage class": pDict(pStr("x"), pCall("torch FloatStorage", pInt(1))),
		"popped call":             pCall("torch Tensor") + "0" + pDict(pStr("w"), t0),
		"call of a call":          pDict(pStr("x"), pOrdered()+")R"),
		"OBJ":                     pDict(pStr("x"), "("+pGlobal("collections OrderedDict")+"o"),
		"INST":                    pDict(pStr("x"), "(icollections\nOrderedDict\n"),
		"NEWOBJ_EX":               pDict(pStr("x"), pGlobal("collections OrderedDict")+")}\x92"),
		"encoding":                pDict(pStr("x"), pCall("_codecs encode", pStr("x"), pStr("zip"))),
		"OrderedDict of a number": pDict(pStr("x"), pCall("collections OrderedDict", pInt(1))),
		"Size of a list":          pDict(pStr("x"), pCall("torch Size", pList(pInt(1)))),
		"state of a tensor":       pDict(pStr("x"), t0+pDict(pStr("a"), pInt(1))+"b"),
		"state that is no dict":   pDict(pStr("x"), pOrdered()+pTuple(pInt(1), pInt(2))+"b"),
		"__setstate__":            pDict(pStr("x"), pOrdered()+pDict(pStr("__setstate__"), pNone)+"b"),
		"state of a parameter":    pDict(pStr("x"), pCall("torch._utils _rebuild_parameter", t0, pTrue, pOrdered())+pDict(pStr("a"), pInt(1))+"b"),
		"OrderedDict by NEWOBJ":   pDict(pStr("x"), pGlobal("collections OrderedDict")+pTuple(pList(pList(pStr("w"), t0)))+"\x81"),
		"Counter of pairs":        pCall("collections Counter", pList(pTuple(pStr("w"), t0))),
		"mixed keys of pairs":     pCall("collections OrderedDict", pList(pTuple(pInt(1), t0), pTuple(pTrue, pInt(5)))),
		"mixed keys afterwards":   pCall("collections OrderedDict", pList(pTuple(pInt(1), t0))) + pTrue + pInt(5) + "s",
		"key set again to 5":      pDict(pStr("w"), t0, pStr("w"), pInt(5)),
		"pair set again to 5":     pCall("collections OrderedDict", pList(pTuple(pStr("w"), t0), pTuple(pStr("w"), pInt(5)))),
		"subtree set again to 5":  pDict(pStr("w"), pDict(pStr("x"), t0), pStr("w"), pInt(5)),
		"keys 1 and True":         pDict(pInt(1), t0, pTrue, pInt(5)),
		"keys 1 and 1.0":          pDict(pInt(1), t0, "G\x3f\xf0\x00\x00\x00\x00\x00\x00", pInt(5)),
		"state of a device":       pDict(pStr("x"), pCall("torch device", pStr("cpu"))+pDict()+"b"),
	}
	for name, value := range tests {
		if _, err := selected(t, value, SelectOptions{AllowInert: true}, 4); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rebuildCase is one tensor expression over storages 0 (4 floats), 1 (16
// bytes untyped) and 2 (2 complex doubles).
func TestTensors(t *testing.T) {
	t.Parallel()
	floats := pStorage("torch FloatStorage", "0", 4)
	bytes := pStorage("torch.storage UntypedStorage", "1", 16)
	v3 := func(offset int64, size, stride []int64, dtype string, more ...string) string {
		args := append([]string{bytes, pInt(offset), pCounts(size), pCounts(stride), pFalse, pOrdered(), pGlobal("torch " + dtype)}, more...)
		return pCall("torch._utils _rebuild_tensor_v3", args...)
	}
	plain := pView(floats, 0, []int64{4}, []int64{1})
	is := func(d safetensors.DType, shape ...uint64) string { return fmt.Sprint(d, shape) }
	tests := []struct{ name, value, want string }{
		{"v1", pCall("torch._utils _rebuild_tensor", floats, pInt(0), pCounts([]int64{2, 2}), pCounts([]int64{2, 1})), is(safetensors.F32, 2, 2)},
		{"v2", plain, is(safetensors.F32, 4)},
		{"scalar", pView(floats, 3, nil, nil), is(safetensors.F32)},
		{"empty at the end", pView(floats, 4, []int64{0, 5}, []int64{5, 1}), is(safetensors.F32, 0, 5)},
		{"broadcast", pView(floats, 0, []int64{100, 4}, []int64{0, 1}), is(safetensors.F32, 100, 4)},
		{"size as torch.Size", pCall("torch._utils _rebuild_tensor", floats, pInt(0), pCall("torch Size", pTuple(pInt(4))), pCounts([]int64{1})), is(safetensors.F32, 4)},
		{"negative bit", pView(floats, 0, []int64{4}, []int64{1}, pDict(pStr("neg"), pTrue)), is(safetensors.F32, 4)},
		{"hooks of Python 2", pCall("torch._utils _rebuild_tensor_v2", floats, pInt(0), pCounts([]int64{4}), pCounts([]int64{1}), pFalse,
			pCall("collections OrderedDict", "]")), is(safetensors.F32, 4)},
		{"no metadata", pView(floats, 0, []int64{4}, []int64{1}, pNone), is(safetensors.F32, 4)},
		{"v3", v3(2, []int64{6}, []int64{1}, "uint16"), is(safetensors.U16, 6)},
		{"v3 with metadata", v3(0, []int64{2}, []int64{1}, "float32", pDict(pStr("neg"), pFalse)), is(safetensors.F32, 2)},
		{"v3 float4", v3(0, []int64{4, 4}, []int64{4, 1}, "float4_e2m1fn_x2"), is(safetensors.F4, 4, 8)},
		{"parameter", pCall("torch._utils _rebuild_parameter", plain, pTrue, pOrdered()), is(safetensors.F32, 4)},
		{"parameter of a device tensor", pCall("torch._utils _rebuild_parameter",
			pCall("torch._utils _rebuild_device_tensor_from_cpu_tensor", plain, pGlobal("torch float32"), pStr("xla:0"), pFalse), pTrue, pOrdered()), is(safetensors.F32, 4)},

		{"storage of another device", pView(pStorage("torch.cuda FloatStorage", "0", 4), 0, []int64{4}, []int64{1}), is(safetensors.F32, 4)},
		{"v3 complex128", v3(0, []int64{1}, []int64{1}, "complex128"), "unsupported"},
		{"v3 bits", v3(0, []int64{1}, []int64{1}, "bits8"), "unsupported"},
		{"v3 float4 scalar", v3(0, nil, nil, "float4_e2m1fn_x2"), "unsupported"},
		{"complex128", pView(pStorage("torch ComplexDoubleStorage", "2", 2), 0, []int64{2}, []int64{1}), "unsupported"},
		{"cast", pCall("torch._utils _rebuild_device_tensor_from_cpu_tensor", plain, pGlobal("torch bfloat16"), pStr("xla:0"), pFalse), "unsupported"},
		{"subclass", pCall("torch._tensor _rebuild_from_type_v2", pGlobal("torch._utils _rebuild_tensor_v2"), pGlobal("torch FloatTensor"), pTuple(), pNone), "unsupported"},
		{"nested", pCall("torch._utils _rebuild_nested_tensor"), "unsupported"},
		{"wrapper", pCall("torch._utils _rebuild_wrapper_subclass"), "unsupported"},
		{"numpy", pCall("torch._utils _rebuild_device_tensor_from_numpy"), "unsupported"},
		{"negative bit on bytes", v3(0, []int64{1}, []int64{1}, "uint8", pDict(pStr("neg"), pTrue)), "unsupported"},

		{"conjugate of reals", pView(floats, 0, []int64{4}, []int64{1}, pDict(pStr("conj"), pTrue)), "broken"},
		{"unknown metadata", pView(floats, 0, []int64{4}, []int64{1}, pDict(pStr("x"), pTrue)), "broken"},
		{"metadata is a number", pView(floats, 0, []int64{4}, []int64{1}, pInt(1)), "broken"},
		{"too many arguments", pView(floats, 0, []int64{4}, []int64{1}, pNone, pNone), "broken"},
		{"hooks", pCall("torch._utils _rebuild_tensor_v2", floats, pInt(0), pCounts([]int64{4}), pCounts([]int64{1}), pFalse, pDict()), "broken"},
		{"full hooks", pCall("torch._utils _rebuild_tensor_v2", floats, pInt(0), pCounts([]int64{4}), pCounts([]int64{1}), pFalse, pOrdered()+pInt(1)+pInt(2)+"s"), "broken"},
		{"hooks of a parameter", pCall("torch._utils _rebuild_parameter", plain, pTrue, pTrue), "broken"},
		{"hooks of torch 0.3", pCall("torch._utils _rebuild_parameter", plain, pTrue, pNone), is(safetensors.F32, 4)},
		{"requires_grad", pCall("torch._utils _rebuild_parameter", plain, pInt(1), pOrdered()), "broken"},
		{"parameter of nothing", pCall("torch._utils _rebuild_parameter", pNone, pTrue, pOrdered()), "broken"},
		{"parameter of a dict", pCall("torch._utils _rebuild_parameter", pOrdered(), pTrue, pOrdered()), "broken"},
		{"function of a type", pCall("torch._tensor _rebuild_from_type_v2", pGlobal("collections OrderedDict"), pGlobal("torch Tensor"), pTuple(), pNone), "broken"},
		{"v2 of bytes", pView(bytes, 0, []int64{4}, []int64{1}), "broken"},
		{"v3 of floats", pCall("torch._utils _rebuild_tensor_v3", floats, pInt(0), pCounts([]int64{4}), pCounts([]int64{1}), pFalse, pOrdered(), pGlobal("torch float32")), "broken"},
		{"v3 past the end", v3(2, []int64{7}, []int64{1}, "uint16"), "broken"},
		{"storage is a number", pView(pInt(1), 0, []int64{4}, []int64{1}), "broken"},
		{"65 dimensions", pView(floats, 0, slices.Repeat([]int64{1}, 65), slices.Repeat([]int64{1}, 65)), "broken"},
		{"overflow before zero", pView(floats, 0, []int64{1 << 40, 1 << 40, 0}, []int64{0, 0, 0}), "broken"},
		{"stride overflow", pView(floats, 0, []int64{3, 3}, []int64{1 << 62, 1 << 62}), "broken"},
		{"expand", pView(floats, 0, []int64{1 << 29}, []int64{0}), "broken"},
		{"items set", plain + pInt(0) + pInt(1) + "s", "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := torchZip("archive", record{name: "data.pkl", data: pickled(pDict(pStr("w"), tt.value))},
				record{name: "data/0", data: make([]byte, 16)}, record{name: "data/1", data: make([]byte, 16)}, record{name: "data/2", data: make([]byte, 32)})
			c, err := Open(m, m.size, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			sd, err := c.Select("")
			var unsupported *UnsupportedError
			var format *FormatError
			switch {
			case tt.want == "unsupported":
				if !errors.As(err, &unsupported) || unsupported.Path != "w" || unsupported.What == "" || unsupported.Next == "" {
					t.Errorf("got %v", err)
				}
			case tt.want == "broken":
				if !errors.As(err, &format) || format.Reason != ErrTensor || format.Offset <= 0 {
					t.Errorf("got %v", err)
				}
			case err != nil:
				t.Error(err)
			default:
				if got := is(sd.Tensors[0].DType, sd.Tensors[0].Shape...); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

// Many names for expanded views are as bad as one of them.
func TestExpandedTogether(t *testing.T) {
	t.Parallel()
	storage := pStorage("torch FloatStorage", "0", 4)
	var items []string
	for i := range 5 {
		items = append(items, pStr(fmt.Sprint(i)), pView(storage, 0, []int64{int64(1<<26 + i)}, []int64{0}))
	}
	if _, err := selected(t, pDict(items...), SelectOptions{}, 4); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v", err)
	}
	same := pView(storage, 0, []int64{1 << 27}, []int64{0})
	sd, err := selected(t, pDict(pStr("a"), same, pStr("b"), same, pStr("c"), same), SelectOptions{}, 4)
	if err != nil || len(sd.Tensors) != 3 {
		t.Errorf("one view under three names: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	od := func(state string) string { return pOrdered() + "(" + pStr("w") + pTensor("0", 4) + "u" + state + "b" }
	sd, err := selected(t, od(pDict(pStr("_metadata"), pOrdered())), SelectOptions{}, 4)
	if err != nil || len(sd.Tensors) != 1 || len(sd.Dropped) != 0 {
		t.Errorf("_metadata: %v, %+v", err, sd)
	}
	sd, err = selected(t, od(pDict(pStr("note"), pInt(1))), SelectOptions{}, 4)
	if err != nil || len(sd.Dropped) != 1 || sd.Dropped[0].Kind != "attribute note" {
		t.Errorf("note: %v, %+v", err, sd)
	}
	_, err = selected(t, od(pDict(pStr("hidden"), pTensor("0", 4))), SelectOptions{}, 4)
	var e *UnsupportedError
	if !errors.As(err, &e) {
		t.Errorf("tensor in an attribute: %v", err)
	}
	param := pCall("torch._utils _rebuild_parameter_with_state", pTensor("0", 4), pTrue, pOrdered(), pDict(pStr("tag"), pInt(1)))
	sd, err = selected(t, pDict(pStr("p"), param), SelectOptions{}, 4)
	if err != nil || !sd.Tensors[0].Parameter || len(sd.Dropped) != 1 {
		t.Errorf("parameter: %v, %+v", err, sd)
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"collections.OrderedDict": "allowed", "torch._utils._rebuild_tensor_v2": "allowed", "torch.float8_e4m3fn": "allowed",
		"torch.FloatStorage": "allowed", "torch.cuda.HalfStorage": "allowed", "torch.storage.UntypedStorage": "allowed",
		"torch.Tensor": "allowed", "torch.cuda.sparse.FloatTensor": "allowed", "torch.uint4": "allowed", "torch.per_tensor_affine": "allowed",
		"_codecs.encode": "allowed", "builtins.set": "allowed", "torch.nn.parameter.Parameter": "allowed",
		"argparse.Namespace": "inert", "torch.nn.modules.linear.Linear": "inert", "numpy.core.multiarray.scalar": "inert",
		"collections.defaultdict": "inert", "omegaconf.dictconfig.DictConfig": "inert",
		"os.system": "neither", "builtins.eval": "neither", "builtins.getattr": "neither", "torch.load": "neither", "torch.hub": "neither",
		"evil.FloatStorage": "neither", "torch.EvilStorage": "neither", "torch.nn.modules.linear.F": "neither",
		"torch.nn.modules.module.Linear": "neither", "torch._utils._import_dotted_name": "neither", "torch.Storage": "neither",
		"numpy.load": "neither", "builtins.": "neither", ".": "neither", "torch.sparse.Tensor": "neither",
	} {
		module, n := splitClass(name)
		got := "neither"
		switch a, i := Allowed(module, n), Inert(module, n); {
		case a && i:
			got = "both"
		case a:
			got = "allowed"
		case i:
			got = "inert"
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if Allowed("torch", "Tensor.backward") || Inert("argparse", "Namespace.__init__") {
		t.Error("a dotted name passes")
	}
}

func TestWalkLimits(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("](", 1500) + pTensor("0", 4) + strings.Repeat("e", 1500)
	if _, err := selected(t, deep, SelectOptions{}, 4); !errors.Is(err, ErrLimit) {
		t.Errorf("deep: %v", err)
	}
	bomb := pList(pInt(1)) + strings.Repeat("q\x00h\x00\x86", 60)
	if _, err := selected(t, bomb, SelectOptions{}); !errors.Is(err, ErrLimit) {
		t.Errorf("bomb: %v", err)
	}
	// The same list on many paths, but few leaves: each is met.
	shared := pList(pInt(1), pTensor("0", 4)) + "q\x00" + "h\x00" + "\x86"
	sd, err := selected(t, shared, SelectOptions{}, 4)
	if err != nil || names(sd) != "0.1 1.1" {
		t.Errorf("shared: %v, %+v", err, sd)
	}
}

func TestRefusedFindings(t *testing.T) {
	t.Parallel()
	_, err := selected(t, pDict(pStr("n"), "I010\n", pStr("w"), pTensor("0", 4)), SelectOptions{}, 4)
	var e *RefusedError
	if !errors.As(err, &e) || !errors.Is(err, ErrRefused) || e.Findings[0].Rule != pickle.RuleTextNumber {
		t.Errorf("got %v", err)
	}
}

// TestEmptyViewAnywhere takes slices of nothing, which torch writes with
// whatever offset the slicing came to.
func TestEmptyViewAnywhere(t *testing.T) {
	t.Parallel()
	for _, offset := range []int64{0, 4, 5, math.MaxInt64} {
		file := torchZip("archive",
			record{name: "data.pkl", data: pickled(pDict(pStr("x"), pView(pStorage("torch FloatStorage", "0", 4), offset, []int64{2, 0}, []int64{7, 1})))},
			record{name: "data/0", data: make([]byte, 16)}, record{name: "version", data: []byte("3\n")})
		c, err := Open(file, file.size, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		sd, err := c.Select("")
		if err != nil {
			t.Errorf("offset %d: %v", offset, err)
			continue
		}
		if x := sd.Tensors[0]; x.Offset > 4 || !slices.Equal(x.Shape, []uint64{2, 0}) {
			t.Errorf("offset %d: %+v", offset, x)
		}
	}
}
