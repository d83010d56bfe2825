package torch

import (
	"errors"
	"strings"
	"testing"
)

// fromType wraps a tensor with a state.
func fromType(class, state string) string {
	inner := pTuple(pStorage("torch FloatStorage", "0", 4), pInt(0), pCounts([]int64{4}), pCounts([]int64{1}), pFalse, pOrdered())
	return pCall("torch._tensor _rebuild_from_type_v2", pGlobal("torch._utils _rebuild_tensor_v2"), pGlobal(class), inner, state)
}

func TestTensorStates(t *testing.T) {
	t.Parallel()
	other := pTensor("1", 4)
	tests := []struct {
		name, state string
		ok          bool
	}{
		{"nothing", pNone, true},
		{"plain", pDict(pStr("tag"), pInt(1), pStr("_is_hf_initialized"), pTrue, pStr("l"), pList(pStr("x"), pTuple(pNone))), true},
		{"plain slots", pTuple(pNone, pDict(pStr("tag"), pInt(1))), true},
		{"data", pDict(pStr("data"), other), false},
		{"data in slots", pTuple(pDict(), pDict(pStr("data"), other)), false},
		{"data after None", pTuple(pNone, pDict(pStr("data"), other)), false},
		{"grad", pDict(pStr("grad"), pNone), false},
		{"requires_grad", pDict(pStr("requires_grad"), pFalse), false},
		{"shape", pDict(pStr("shape"), pTuple(pInt(1))), false},
		{"device", pDict(pStr("device"), pStr("cpu")), false},
		{"dtype", pDict(pStr("dtype"), pStr("x")), false},
		{"method", pDict(pStr("tolist"), pInt(1)), false},
		{"hooks", pDict(pStr("_backward_hooks"), pNone), false},
		{"dunder", pDict(pStr("__class__"), pInt(1)), false},
		{"a tensor", pDict(pStr("tag"), other), false},
		{"a tensor in a list", pDict(pStr("tag"), pList(other)), false},
		{"a storage", pDict(pStr("tag"), pStorage("torch FloatStorage", "1", 4)), false},
		{"a class", pDict(pStr("tag"), pGlobal("torch Tensor")), false},
		{"a call", pDict(pStr("tag"), pOrdered()), false},
		{"key that is no text", pDict(pInt(1), pInt(1)), false},
		{"tuple of four", pTuple(pStorage("torch FloatStorage", "1", 4), pInt(0), pCounts([]int64{4}), pCounts([]int64{1})), false},
		{"list", pList(pInt(1)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range []string{
				fromType("torch Tensor", tt.state), fromType("torch.nn.parameter Parameter", tt.state),
				pCall("torch._utils _rebuild_parameter_with_state", pTensor("0", 4), pTrue, pOrdered(), tt.state),
			} {
				sd, err := selected(t, pDict(pStr("w"), v), SelectOptions{}, 4, 4)
				switch {
				case tt.ok && (err != nil || names(sd) != "w"):
					t.Errorf("%v, %+v", err, sd)
				case !tt.ok && !errors.Is(err, ErrTensor):
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// Python has read an argument when the call is made.
func TestArgumentsThatChange(t *testing.T) {
	t.Parallel()
	a, b := pTensor("0", 4), pTensor("1", 4)
	again := "0h\x01"
	tests := map[string]string{
		"OrderedDict(list)": pGlobal("collections OrderedDict") + "(]q\x01" + pTuple(pStr("w"), a) + "atRq\x02" + again + pTuple(pStr("x"), b) + "a0h\x02",
		"OrderedDict(dict)": pGlobal("collections OrderedDict") + "(}q\x01" + pStr("w") + a + "stRq\x02" + again + pStr("x") + b + "s0h\x02",
		"Counter(dict)":     pGlobal("collections Counter") + "(}q\x01" + pStr("w") + a + "stRq\x02" + again + pStr("w") + b + "s0h\x02",
		"metadata": pDict(pStr("w"), pView(pStorage("torch FloatStorage", "0", 4), 0, []int64{4}, []int64{1}, "}q\x01"),
			pStr("z"), "h\x01"+pStr("neg")+pTrue+"s"),
	}
	for name, value := range tests {
		_, err := selected(t, value, SelectOptions{}, 4, 4)
		var e *RefusedError
		if !errors.As(err, &e) || e.Findings[0].Rule != "mutated-argument" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingLeft(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"numbers":          pDict(pStr("lr"), pInt(1)),
		"a number":         pInt(1),
		"an empty part":    pDict(pStr("a"), pDict()),
		"set of arguments": pDict(pStr("a"), pCall("builtins set", pList(pInt(1)))),
	} {
		_, err := selected(t, value, SelectOptions{})
		var e *UnsupportedError
		if !errors.As(err, &e) || e.What != "a checkpoint without tensors" || !strings.Contains(e.Next, "--exclude") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := selected(t, pOrdered(), SelectOptions{}); err != nil {
		t.Errorf("empty: %v", err)
	}
}

// Items given to the constructor of a defaultdict would be lost.
func TestDefaultdictArguments(t *testing.T) {
	t.Parallel()
	v := pCall("collections defaultdict", pNone, pDict(pStr("w"), pTensor("0", 4)))
	_, err := selected(t, pDict(pStr("x"), pTensor("0", 4), pStr("d"), v), SelectOptions{AllowInert: true}, 4)
	var e *UnsupportedError
	if !errors.As(err, &e) || e.Path != "d" {
		t.Errorf("got %v", err)
	}
}
