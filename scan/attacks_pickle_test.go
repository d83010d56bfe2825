package scan_test

import (
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// attack is a small file, the technique of which it is a sample, and what must
// be said of it.
type attack struct {
	row, name, file, in string
	want                scan.Verdict
	rule                string
}

func checkAttacks(t *testing.T, tests []attack) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.row+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			file := tt.file
			if file == "" {
				file = "case.pkl"
			}
			rep := verdictOf(t, file, tt.in)
			if rep.Verdict != tt.want || tt.rule != "" && !hasRule(rep, tt.rule) {
				t.Errorf("%s, want %s by %s\n%s", rep.Verdict, tt.want, tt.rule, explain(rep))
			}
		})
	}
}

// short is SHORT_BINUNICODE.
func short(s string) string { return "\x8c" + string(rune(len(s))) + s }

// named is STACK_GLOBAL of two texts.
func named(module, name string) string { return short(module) + short(name) + "\x93" }

// Techniques with which a pickle is written so that a reader of names, or of
// this package, would let it pass.
func TestPickleAttacks(t *testing.T) {
	t.Parallel()
	const (
		p0    = ""
		p2    = "\x80\x02"
		p3    = "\x80\x03"
		p4    = "\x80\x04"
		odict = "ccollections\nOrderedDict\n"
		param = "ctorch._utils\n_rebuild_parameter\n"
	)
	_ = p0
	unsafe, review, conv := scan.Unsafe, scan.Review, scan.Convertible
	tests := []attack{
		// G1: names outside every list.
		{"G1", "torch.hub", "", p2 + global("torch.hub", "load") + text("x") + "\x85R.", unsafe, "WS-PICKLE-002"},
		{"G1", "cpp_extension", "", p2 + global("torch.utils.cpp_extension", "load_inline") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G1", "fx", "", p2 + global("torch.fx.graph_module", "reduce_graph_module") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G1", "rpc", "", p2 + global("torch.distributed.rpc", "rpc_sync") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G1", "joblib.load", "", p2 + global("joblib", "load") + text("x") + "\x85R.", unsafe, ""},
		{"G1", "pandas", "", p2 + global("pandas.io.pickle", "read_pickle") + text("x") + "\x85R.", unsafe, ""},
		{"G1", "jinja2", "", p2 + global("jinja2.environment", "Environment") + ")R.", unsafe, ""},
		{"G1", "hydra", "", p2 + global("hydra.utils", "instantiate") + "}\x85R.", unsafe, ""},
		{"G1", "transformers", "", p2 + global("transformers.dynamic_module_utils", "get_class_from_dynamic_module") + ")R.", unsafe, ""},
		{"G1", "wheels beside torch", "", p2 + global("torchgen.utils", "run") + ")R.", unsafe, ""},
		{"G1", "functorch", "", p2 + global("functorch.compile", "x") + ")R.", unsafe, ""},
		{"G1", "caffe2", "", p2 + global("caffe2.python.utils", "debug") + ")R.", unsafe, ""},
		{"G1", "beside setuptools", "", p2 + global("_distutils_hack", "do_override") + ")R.", unsafe, ""},
		{"G1", "execfile of future", "", p2 + global("past.builtins", "execfile") + ")R.", unsafe, ""},
		{"G1", "pylab", "", p2 + global("pylab", "load") + ")R.", unsafe, ""},
		{"G1", "isympy", "", p2 + global("isympy", "main") + ")R.", unsafe, ""},
		{"G1", "notebook", "", p2 + global("notebook.services", "x") + ")R.", unsafe, ""},
		{"G1", "underscore extension of a package", "", p2 + global("_cffi_backend", "load_library") + ")R.", unsafe, ""},
		{"G1", "yaml's extension", "", p2 + global("_yaml", "x") + ")R.", unsafe, ""},
		{"G1", "class of the standard library by NEWOBJ", "", p2 + global("subprocess", "Popen") + ")\x81.", unsafe, "WS-PICKLE-002"},
		{"G1", "exception", "", p2 + global("exceptions", "SystemExit") + ")R.", unsafe, ""},
		{"G1", "unknown package", "", p2 + global("acme.nets", "build") + ")R.", review, "WS-PICKLE-004"},
		{"G1", "main program", "", p2 + global("__main__", "Net") + ")\x81.", review, "WS-PICKLE-004"},
		{"G1", "lower-case lookalike stays unknown", "", p2 + global("Torch", "x") + ")R.", review, ""},
		{"G1", "torch.nn functional loader", "", p2 + global("torch.nn.modules.module", "torch") + ")R.", unsafe, ""},
		{"G1", "function in a vision model's module", "", p2 + global("torchvision.models._api", "get_model") + ")R.", unsafe, ""},
		{"G1", "weights of a vision model", "", p2 + global("torchvision.models._api", "WeightsEnum") + ")R.", unsafe, ""},

		// Classes that are inert only as long as nobody runs them.
		{"G4", "memory map opened by NEWOBJ", "", p2 + global("numpy", "memmap") + text("/etc/passwd") + "\x85\x81.", unsafe, ""},
		{"G4", "memory map opened by REDUCE", "", p2 + global("numpy", "memmap") + text("/etc/passwd") + "\x85R.", unsafe, ""},
		{"G4", "memory map as the class of an array", "", p3 + "cnumpy.core.multiarray\n_reconstruct\n" + global("numpy", "memmap") + "K\x00\x85C\x01b\x87R.", review, ""},
		{"G4", "generator that calls a constructor", "", p2 + global("numpy.random._pickle", "__generator_ctor") + text("x") + global("transformers.training_args", "TrainingArguments") + "\x86R.", unsafe, "WS-PICKLE-007"},
		{"G4", "generator that calls a foreign function", "", p2 + global("numpy.random._pickle", "__randomstate_ctor") + text("x") + global("acme", "run") + "\x86R.", unsafe, "WS-PICKLE-007"},
		{"G4", "generator as numpy writes it", "", p2 + global("numpy.random._pickle", "__randomstate_ctor") + text("MT19937") + global("numpy.random._pickle", "__bit_generator_ctor") + "\x86R.", review, "WS-PICKLE-003"},
		{"G4", "index of another class", "", p2 + global("pandas.core.indexes.base", "_new_Index") + global("acme", "Thing") + "}\x86R.", unsafe, "WS-PICKLE-007"},
		{"G4", "index as pandas writes it", "", p2 + global("pandas.core.indexes.base", "_new_Index") + global("pandas.core.indexes.base", "Index") + "}\x86R.", review, ""},
		{"G4", "plugin that reads a file", "", p2 + global("accelerate.utils.dataclasses", "DeepSpeedPlugin") + text("x") + "\x85R.", unsafe, ""},
		{"G4", "masked array of another class", "", p2 + global("numpy.ma.core", "_mareconstruct") + "(" + global("acme", "T") + global("numpy", "ndarray") + "K\x00\x85" + text("b") + "tR.", unsafe, "WS-PICKLE-007"},
		{"G4", "newObj of an acting class", "", p2 + global("sklearn.neighbors._kd_tree", "newObj") + global("numpy", "memmap") + "\x85R.", unsafe, "WS-PICKLE-007"},

		// Arguments of allowed calls.
		{"G4", "copyreg.__newobj__", "", p2 + global("copy_reg", "__newobj__") + odict + "\x85R.", unsafe, ""},
		{"G4", "state of a parameter, dunder", "", p2 + "ctorch._utils\n_rebuild_parameter_with_state\n(N\x88" + odict + ")R}" + text("__class__") + "NstR.", unsafe, "WS-PICKLE-011"},
		{"G4", "state of a parameter, hooks", "", p2 + "ctorch._utils\n_rebuild_parameter_with_state\n(N\x88" + odict + ")R}" + text("_backward_hooks") + "}K\x00" + global("acme", "run") + "sstR.", unsafe, "WS-PICKLE-007"},
		{"G4", "state of a parameter, slots", "", p2 + "ctorch._utils\n_rebuild_parameter_with_state\n(N\x88" + odict + ")R}}" + text("__del__") + "Ns\x86tR.", unsafe, "WS-PICKLE-011"},
		{"G4", "state of a parameter, computed", "", p2 + "ctorch._utils\n_rebuild_parameter_with_state\n(N\x88" + odict + ")R" + odict + ")RtR.", unsafe, "WS-PICKLE-007"},
		{"G4", "hooks set later", "", p2 + param + "(N\x88" + odict + ")Rq\x01tR0h\x01K\x00" + text("x") + "s0N.", unsafe, "WS-PICKLE-007"},
		{"G4", "hooks set by BUILD", "", p2 + param + "(N\x88" + odict + ")R}" + text("a") + "NsbtR.", unsafe, "WS-PICKLE-007"},
		{"G4", "hooks that are a foreign object", "", p2 + param + "(N\x88" + global("acme", "Hooks") + ")RtR.", unsafe, "WS-PICKLE-007"},
		{"G4", "type rebuild with computed arguments", "", p2 + "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_parameter\nctorch\nTensor\n" + odict + ")R}tR.", unsafe, "WS-PICKLE-007"},
		{"G4", "arguments that are computed", "", p2 + param + odict + ")RR.", unsafe, "WS-PICKLE-024"},
		{"G4", "too much memory for an array", "", p3 + "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85C\x01b\x87R.", unsafe, "WS-PICKLE-007"},
		{"G4", "too much memory for bytes", "", p2 + "cbuiltins\nbytearray\nJ\x00\x00\x00\x20\x85R.", unsafe, "WS-PICKLE-007"},
		{"G4", "too much memory for a tensor", "", p2 + "ctorch\nFloatTensor\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.", unsafe, "WS-PICKLE-007"},
		{"G4", "too much memory for a storage", "", p2 + "ctorch\nFloatStorage\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.", unsafe, "WS-PICKLE-007"},
		{"G4", "sequence repeated by a foreign factory", "", p2 + global("collections", "defaultdict") + global("__builtin__", "eval") + "\x85R.", unsafe, "WS-PICKLE-002"},

		// G2: Python 2 names, in protocols below 3 only.
		{"G2", "cPickle", "", p2 + global("cPickle", "loads") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G2", "urllib2", "", p2 + global("urllib2", "urlopen") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G2", "reduce", "", p2 + global("__builtin__", "reduce") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G2", "STACK_GLOBAL in protocol 2", "", p2 + named("__builtin__", "eval") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G2", "commands becomes subprocess", "", p2 + global("commands", "getoutput") + ")R.", unsafe, "WS-PICKLE-002"},
		{"G2", "a Python 2 name in protocol 4", "", p4 + named("__builtin__", "set") + ")R.", unsafe, "WS-PICKLE-001"},
		{"G2", "a Python 2 name that becomes allowed", "", p2 + global("__builtin__", "set") + "]\x85R.", conv, ""},
		{"G2", "protocol raised in the middle", "", p2 + "\x80\x04" + global("__builtin__", "eval") + ")R.", unsafe, ""},
		{"G2", "INST is mapped too", "", p2 + "(i__builtin__\neval\n.", unsafe, "WS-PICKLE-002"},

		// G3: dotted names.
		{"G3", "random", "", p4 + named("random", "_os.system") + ")R.", unsafe, "WS-PICKLE-005"},
		{"G3", "allowed class", "", p4 + named("collections", "OrderedDict.__reduce__") + ")R.", unsafe, "WS-PICKLE-005"},
		{"G3", "dot in protocol 2", "", p2 + global("torch", "Tensor.set_") + ")R.", unsafe, "WS-PICKLE-005"},
		{"G3", "module with a lone surrogate", "", p4 + "\x8c\x05os\xed\xa0\x80" + short("system") + "\x93.", unsafe, "WS-PICKLE-022"},
		{"G3", "name with an empty part", "", p4 + named("torch", "Tensor.") + ".", unsafe, ""},

		// O1 to O4.
		{"O1", "INST", "", "(S'ls'\nios\nsystem\n.", unsafe, "WS-PICKLE-002"},
		{"O1", "OBJ", "", "(cos\nsystem\nS'ls'\no.", unsafe, "WS-PICKLE-002"},
		{"O1", "OBJ of a computed class", "", p2 + "(" + odict + ")Ro.", unsafe, "WS-PICKLE-006"},
		{"O1", "NEWOBJ_EX", "", p4 + named("acme", "T") + ")}\x92.", unsafe, "WS-PICKLE-009"},
		{"O1", "NEWOBJ_EX with a hook in the keywords", "", p4 + named("collections", "OrderedDict") + ")}" + short("a") + named("torch._utils", "_rebuild_tensor") + "s\x92.", unsafe, "WS-PICKLE-007"},
		{"O1", "NEWOBJ of a gadget class", "", p2 + global("ctypes", "CDLL") + text("x") + "\x85\x81.", unsafe, "WS-PICKLE-002"},
		{"O2", "EXT1", "", p2 + "\x82\x01)R.", unsafe, "WS-PICKLE-008"},
		{"O2", "EXT2", "", p2 + "\x83\x01\x00)R.", unsafe, "WS-PICKLE-008"},
		{"O2", "EXT4, popped", "", p2 + "\x84\x01\x00\x00\x000N.", unsafe, "WS-PICKLE-008"},
		{"O2", "EXT of a negative code", "", p2 + "\x84\xff\xff\xff\xff.", unsafe, ""},
		{"O3", "planted __setstate__", "", p2 + global("acme", "T") + ")\x81}" + text("__setstate__") + global("acme", "run") + "sb" + text("x") + "b.", unsafe, "WS-PICKLE-011"},
		{"O3", "BUILD on a function", "", p2 + "ctorch._utils\n_rebuild_tensor\n}" + text("a") + "Nsb.", unsafe, "WS-PICKLE-010"},
		{"O3", "BUILD on a class, no attributes", "", p2 + "ctorch\nTensor\n}b.", unsafe, "WS-PICKLE-010"},
		{"O3", "BUILD with a hidden dictionary", "", p2 + global("acme", "T") + ")\x81" + odict + "]" + text("__setstate__") + "N\x86a\x85Rb.", unsafe, "WS-PICKLE-011"},
		{"O3", "dunder key that is bytes of Python 2", "", p2 + global("acme", "T") + ")\x81}U\x0c__setstate__Nsb.", unsafe, "WS-PICKLE-011"},
		{"O3", "key that is computed", "", p2 + global("acme", "T") + ")\x81}c_codecs\nencode\n" + text("x") + text("latin1") + "\x86RNsb.", unsafe, ""},
		{"O3", "dunder of a namespace", "", p2 + global("argparse", "Namespace") + ")\x81}" + text("__class__") + "Nsb.", unsafe, "WS-PICKLE-011"},
		{"O4", "import without a call", "", p2 + "cos\nsystem\n0N.", unsafe, "WS-PICKLE-002"},
		{"O4", "call popped", "", p2 + "cos\nsystem\n" + text("ls") + "\x85R0N.", unsafe, "WS-PICKLE-002"},
		{"O4", "popped to a mark", "", p2 + "(cos\nsystem\n" + text("ls") + "\x85R1N.", unsafe, "WS-PICKLE-002"},
		{"O4", "left below the result", "", p2 + "cos\nsystem\nN.", unsafe, "WS-PICKLE-002"},
		{"O4", "unknown import popped", "", p2 + "cacme\nx\n0N.", review, "WS-PICKLE-004"},
		{"O4", "hidden in a memo", "", p2 + "cos\nsystem\nq\x00" + "0N.", unsafe, "WS-PICKLE-002"},

		// O5, O6: memo.
		{"O5", "PUT of the stack's top", "", "cos\nsystem\n" + "p0\n0S'collections'\n0g0\n(S'ls'\ntR.", unsafe, "WS-PICKLE-002"},
		{"O5", "name from the memo", "", p4 + short("os") + "\x94" + short("system") + "\x940" + "0h\x00h\x01\x93.", unsafe, "WS-PICKLE-002"},
		{"O5", "memo stored again", "", p4 + short("collections") + "q\x05" + "0" + short("os") + "q\x050h\x05" + short("system") + "\x93.", unsafe, "WS-PICKLE-002"},
		{"O6", "memo of an earlier pickle", "", p2 + text("os") + "q\x01." + p4 + "h\x01" + short("system") + "\x93.", unsafe, "WS-PICKLE-014"},

		// O7: numbers.
		{"O7", "INT 0x1", "", "I0x1\n.", unsafe, "WS-PICKLE-017"},
		{"O7", "INT 010", "", "I 010\n.", unsafe, "WS-PICKLE-017"},
		{"O7", "INT 0b1 before a call", "", "I0b1\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "INT with a NUL before a call", "", "I1\x00x\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "LONG 0x1L before a call", "", "L0x1L\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "FLOAT 1_0.5 before a call", "", "F1_0.5\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "FLOAT with a blank before a call", "", "F 1.5\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "FLOAT of no number", "", "Fx\n.", unsafe, "WS-PICKLE-013"},
		{"O7", "FLOAT overflow before a call", "", "F1e999\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "INT +1", "", "I+1\n.", unsafe, "WS-PICKLE-017"},
		{"O7", "INT -0, a truth value for C", "", "I-0\n.", unsafe, "WS-PICKLE-017"},
		{"O1", "INST without a mark, before an error", "", "ios\nsystem\n.", unsafe, "WS-PICKLE-002"},
		{"O7", "PUT 0x0", "", "Np0x0\n.", unsafe, ""},
		{"O7", "GET with blanks before a call", "", "Np0\n0g 0\n0cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O7", "true as INT", "", "I01\n.", conv, ""},

		// O8, O9: what stands around a stream.
		{"O8", "no STOP", "", p2 + "cos\nsystem\n" + text("ls") + "\x85R", unsafe, "WS-PICKLE-002"},
		{"O8", "broken text after the call", "", p2 + "cos\nsystem\n)RX\x01\x00\x00\x00\xff.", unsafe, "WS-PICKLE-002"},
		{"O8", "frame longer than the file", "", p4 + "\x95\xff\xff\x00\x00\x00\x00\x00\x00" + named("os", "system") + ")R.", unsafe, "WS-PICKLE-002"},
		{"O8", "frame shorter than its opcodes", "", p4 + "\x95\x05\x00\x00\x00\x00\x00\x00\x00" + named("collections", "OrderedDict") + ")R.", unsafe, "WS-PICKLE-017"},
		{"O8", "nothing but PROTO", "", p2, unsafe, "WS-PICKLE-013"},
		{"O8", "only MARKs", "", "((((.", unsafe, ""},
		{"O9", "newline first", "", "\n" + p2 + "N.", unsafe, "WS-PICKLE-014"},
		{"O9", "zeros between", "", p2 + "N." + strings.Repeat("\x00", 100) + p2 + "cos\nsystem\n)R.", unsafe, "WS-PICKLE-002"},
		{"O9", "text between, protocol 0 behind", "", p2 + "N.hello hello" + "cos\nsystem\n(tR.", unsafe, "WS-PICKLE-002"},
		{"O9", "newline after", "", p2 + "N.\n", unsafe, "WS-PICKLE-014"},

		// O10: budgets.
		{"O10", "memo index of 2^32", "", p2 + "Nr\xff\xff\xff\xff.", review, ""},
		{"O10", "deep", "", p2 + strings.Repeat("]", 20000) + strings.Repeat("a", 19999) + ".", review, "WS-PICKLE-018"},
		{"O10", "doubling", "", p2 + "]" + strings.Repeat("2\x86", 60) + ".", review, ""},

		// Persistent ids and buffers.
		{"O1", "PERSID", "", "Pos.system\n.", unsafe, "WS-PICKLE-012"},
		{"O1", "out-of-band buffer", "", "\x80\x05\x97.", review, "WS-PICKLE-023"},

		// Other writers' pickles.
		{"C1", "dill", "", p4 + named("dill._dill", "_create_function") + "(tR.", unsafe, "WS-PICKLE-002"},
		{"C1", "cloudpickle", "", p4 + named("cloudpickle.cloudpickle", "_make_function") + "(tR.", unsafe, "WS-PICKLE-002"},
		{"C1", "cloudpickle's builtin type", "", p4 + named("cloudpickle.cloudpickle", "_builtin_type") + short("CodeType") + "\x85R.", unsafe, "WS-PICKLE-002"},
		{"C1", "code object", "", p4 + named("types", "CodeType") + ")R.", unsafe, "WS-PICKLE-002"},

		// Training frameworks: known classes, with a next step.
		{"G1", "DeepSpeed", "", p2 + global("deepspeed.runtime.fp16.loss_scaler", "LossScaler") + ")\x81}b.", review, ""},
		{"G1", "DeepSpeed, dynamic", "", p2 + global("deepspeed.runtime.fp16.loss_scaler", "DynamicLossScaler") + ")\x81}b.", review, ""},
		{"G1", "DeepSpeed, ZeRO", "", p2 + global("deepspeed.runtime.zero.config", "ZeroStageEnum") + "K\x02\x85R.", review, ""},
		{"G1", "DeepSpeed, a function", "", p2 + global("deepspeed.launcher.runner", "main") + ")R.", unsafe, ""},
		{"G1", "Megatron", "", p2 + global("megatron.core.enums", "ModelType") + "K\x01\x85R.", review, ""},
		{"G1", "Megatron, arguments", "", p2 + global("megatron.core.transformer.enums", "AttnBackend") + "K\x01\x85R.", review, ""},
		{"G1", "Megatron, a function", "", p2 + global("megatron.training.training", "pretrain") + ")R.", unsafe, ""},
		{"G1", "torchao", "", p2 + global("torchao.dtypes.affine_quantized_tensor", "AffineQuantizedTensor") + ")\x81}b.", review, ""},
		{"G1", "torchao, quantization", "", p2 + global("torchao.quantization.quantize_.workflows.int4.int4_tensor", "Int4Tensor") + ")\x81}b.", review, ""},
		{"G1", "torchao, called", "", p2 + global("torchao.dtypes.affine_quantized_tensor", "AffineQuantizedTensor") + text("x") + "\x85R.", unsafe, ""},
	}
	checkAttacks(t, tests)
}
