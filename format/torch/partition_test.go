package torch

import (
	"errors"
	"strings"
	"testing"
)

// Parts of a model are refused with what puts them together, also where they
// look like a checkpoint; with os.system beside them that counts.
func TestPartitions(t *testing.T) {
	t.Parallel()
	weight := pTensor("0", 4)
	args := func(size int64) string {
		return pGlobal("argparse Namespace") + ")\x81" + pDict(pStr("tensor_model_parallel_size"), pInt(size)) + "b"
	}
	object := func(class string) string {
		return pGlobal(class) + ")\x81" + pDict(pStr("local"), weight) + "b"
	}
	tests := []struct{ name, value, next string }{
		{"ZeRO optimizer", pDict(pStr("optimizer_state_dict"), pDict(pStr("zero_stage"), pInt(2), pStr("fp32_flat_groups"), pTuple(weight))), "zero_to_fp32.py"},
		{"ZeRO class", pDict(pStr("w"), weight, pStr("x"), object("deepspeed.runtime.zero.config ZeroStageEnum")), "zero_to_fp32.py"},
		{"Megatron", pDict(pStr("checkpoint_version"), pInt(3), pStr("args"), args(2), pStr("model"), pDict(pStr("w"), weight)), "tools/checkpoint/convert.py"},
		{"ShardedTensor", pDict(pStr("w"), object("torch.distributed._shard.sharded_tensor.api ShardedTensor")), "full_state_dict=True"},
		{"DTensor", pDict(pStr("w"), object("torch.distributed.tensor DTensor"), pStr("a"), args(1)), "full_state_dict=True"},
		{"torchao", pDict(pStr("w"), object("torchao.dtypes.affine_quantized_tensor AffineQuantizedTensor")), "dequantize"},
		{"own subclass", pDict(pStr("w"), pFromType("acme.tensors Fancy")), "as_subclass"},
		{"numpy arrays", pDict(pStr("w"), pCall("numpy.core.multiarray _reconstruct", pGlobal("numpy ndarray"), pTuple(pInt(0)), pStr("b"))), "torch.from_numpy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, allow := range []bool{false, true} {
				_, err := selected(t, tt.value, SelectOptions{AllowInert: allow}, 4)
				var u *UnsupportedError
				if !errors.As(err, &u) || !strings.Contains(u.NextStep(), tt.next) {
					t.Errorf("allowed %t: %v", allow, err)
				}
			}
			var forbidden *ForbiddenError
			_, err := selected(t, pGlobal("os system")+"0"+tt.value, SelectOptions{AllowInert: true}, 4)
			if !errors.As(err, &forbidden) || forbidden.Inert {
				t.Errorf("with os.system: %v", err)
			}
		})
	}
	whole := pDict(pStr("checkpoint_version"), pInt(3), pStr("args"), args(1), pStr("model"), pDict(pStr("w"), weight))
	if sd, err := selected(t, whole, SelectOptions{AllowInert: true}, 4); err != nil || names(sd) != "w" {
		t.Errorf("Megatron of one rank: %v", err)
	}
}

func pFromType(class string) string {
	return pCall("torch._tensor _rebuild_from_type_v2", pGlobal("torch._utils _rebuild_tensor_v2"), pGlobal(class), pTuple(), pDict())
}

// What a module may not be: nothing is taken from objects whose state says
// one thing and another.
func TestNoModule(t *testing.T) {
	t.Parallel()
	weight := pTensor("0", 4)
	state := func(parameters string) string {
		return pDict(pStr("_parameters"), parameters, pStr("_buffers"), pDict(), pStr("_modules"), pDict())
	}
	class := pGlobal("acme.models Net")
	tests := []struct {
		name, value string
		ok          bool
	}{
		{"module", class + ")\x81" + state(pDict(pStr("w"), weight)) + "b", true},
		{"no modules", class + ")\x81" + pDict(pStr("_parameters"), pDict(pStr("w"), weight)) + "b", false},
		{"parameters no dictionary", class + ")\x81" + state(pTuple(weight)) + "b", false},
		{"two states", class + ")\x81" + state(pDict(pStr("w"), weight)) + "b" + state(pDict(pStr("w"), weight)) + "b", false},
		{"made with arguments", class + pTuple(pInt(1)) + "\x81" + state(pDict(pStr("w"), weight)) + "b", false},
		{"called", class + ")R" + state(pDict(pStr("w"), weight)) + "b", false},
		{"class that reaches code", pGlobal("os system") + ")\x81" + state(pDict(pStr("w"), weight)) + "b", false},
		{"name with nothing", class + ")\x81" + state(pDict(pStr(""), weight)) + "b", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sd, err := selected(t, tt.value, SelectOptions{AllowInert: true}, 4)
			if (err == nil) != tt.ok || tt.ok && names(sd) != "w" {
				t.Errorf("%v, %+v", err, sd)
			}
		})
	}
}

// Sizes and shapes of the parts are held against each other.
func TestSplitBroken(t *testing.T) {
	t.Parallel()
	layout := func(name string) string { return pCall("torch.serialization _get_layout", pStr(name)) }
	four, two := pTensor("0", 4), pTensor("1", 2)
	for name, value := range map[string]string{
		"coo indices are floats": pCall("torch._utils _rebuild_sparse_tensor", layout("torch.sparse_coo"), pTuple(four, four, pTuple(pInt(4)))),
		"unknown layout":         pCall("torch._utils _rebuild_sparse_tensor", layout("torch.strided"), pTuple(four, two, pTuple(pInt(4)))),
		"no data":                pCall("torch._utils _rebuild_sparse_tensor", layout("torch.sparse_coo"), four),
		"csr of two parts":       pCall("torch._utils _rebuild_sparse_csr_tensor", layout("torch.sparse_csr"), pTuple(four, two)),
		"quantised floats":       pCall("torch._utils _rebuild_qtensor", four, pInt(0), pTuple(pInt(4)), pTuple(pInt(1)), pTuple(), "\x89", "N"),
		"few arguments":          pCall("torch._utils _rebuild_qtensor", four),
	} {
		_, err := selected(t, pDict(pStr("x"), value), SelectOptions{SplitQuantized: true, SplitSparse: true}, 4, 2)
		if !errors.Is(err, ErrTensor) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
