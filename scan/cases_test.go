package scan_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

func text(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func global(module, name string) string { return "c" + module + "\n" + name + "\n" }

// Pickles that no list of names decides: the call, its arguments, its state.
func TestPickleCases(t *testing.T) {
	t.Parallel()
	const (
		p2    = "\x80\x02"
		odict = "ccollections\nOrderedDict\n"
	)
	float := p2 + "ctorch._utils\n_rebuild_tensor_v2\n"
	dtype := "cnumpy\ndtype\n" + text("f4") + "\x89\x88\x87R"
	array := "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
	oneArray := array + "(K\x01K\x01\x85" + dtype + "(K\x03" + text("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x04abcdtb"
	tests := []struct {
		name, in string
		want     scan.Verdict
		rule     string
	}{
		{"plain data", p2 + "}" + text("a") + "K\x01s.", scan.Convertible, ""},
		{"ordered dict", p2 + odict + ")R.", scan.Convertible, ""},
		{"ordered dict with metadata", p2 + odict + ")R}" + text("_metadata") + "}sb.", scan.Convertible, ""},
		{"dunder state", p2 + odict + ")R}" + text("__setstate__") + "Nsb.", scan.Unsafe, "WS-PICKLE-011"},
		{"state twice", p2 + odict + ")R}b}b.", scan.Unsafe, "WS-PICKLE-010"},
		{"argument that changes later", p2 + odict + "(]q\x01tR0h\x01Na.", scan.Unsafe, "WS-PICKLE-017"},
		{"state that is a class", p2 + odict + ")R" + odict + "b.", scan.Unsafe, "WS-PICKLE-010"},
		{"allowed function as an argument", p2 + odict + "ctorch._utils\n_rebuild_tensor\n\x85R.", scan.Unsafe, "WS-PICKLE-007"},
		{"result of a call is called", p2 + odict + ")R)R.", scan.Unsafe, "WS-PICKLE-006"},
		{"class made by INST", p2 + "(icollections\nOrderedDict\n.", scan.Review, "WS-PICKLE-016"},
		{"foreign class made by OBJ", p2 + "(" + global("acme", "Thing") + "o.", scan.Unsafe, "WS-PICKLE-009"},
		{"foreign class", p2 + global("acme.models", "Net") + ")\x81}b.", scan.Review, "WS-PICKLE-004"},
		{"foreign class, dotted", "\x80\x04" + text("acme") + text("Net.load") + "\x93.", scan.Unsafe, "WS-PICKLE-005"},
		{"dunder of a foreign package", p2 + global("acme", "__builtins__") + ".", scan.Unsafe, "WS-PICKLE-002"},
		{"import alone", p2 + global("antigravity", "x") + "0N.", scan.Unsafe, "WS-PICKLE-001"},
		{"Python 2 name", p2 + global("__builtin__", "eval") + ".", scan.Unsafe, "WS-PICKLE-002"},
		{"module with a blank", p2 + global("os ", "system") + ".", scan.Unsafe, "WS-PICKLE-022"},
		{"computed name", "\x80\x04" + odict + ")R" + text("x") + "\x93.", scan.Unsafe, "WS-PICKLE-002"},
		{"estimator", p2 + global("sklearn.linear_model._base", "LinearRegression") + ")\x81}b.", scan.Review, "WS-PICKLE-003"},
		{"function of a package of estimators", p2 + global("sklearn.utils", "check_array") + ")R.", scan.Unsafe, "WS-PICKLE-001"},
		{"constructor of a class that acts", p2 + global("transformers.training_args", "TrainingArguments") + ")R.", scan.Unsafe, "WS-PICKLE-024"},
		{"the same, only made", p2 + global("transformers.training_args", "TrainingArguments") + ")\x81}b.", scan.Review, "WS-PICKLE-003"},
		{"namespace", p2 + global("argparse", "Namespace") + ")\x81}b.", scan.Review, "WS-PICKLE-003"},
		{"codec latin1", p2 + "c_codecs\nencode\n" + text("ab") + text("latin1") + "\x86R.", scan.Convertible, ""},
		{"another codec", p2 + "c_codecs\nencode\n" + text("ab") + text("zlib") + "\x86R.", scan.Unsafe, "WS-PICKLE-007"},
		{"many bytes", p2 + "cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.", scan.Unsafe, "WS-PICKLE-007"},
		{"extension", p2 + "\x82\x01.", scan.Unsafe, "WS-PICKLE-008"},
		{"persistent id", p2 + text("x") + "Q.", scan.Unsafe, "WS-PICKLE-012"},
		{"persistent id, popped", p2 + text("x") + "Q0N.", scan.Unsafe, "WS-PICKLE-012"},
		{"array", "\x80\x03" + oneArray + ".", scan.Convertible, ""},
		{"array under a name with a NUL", "\x80\x03}" + text("a\x00b") + oneArray + "s.", scan.Review, "WS-TORCH-011"},
		{"array under the name of the metadata", "\x80\x03}" + text("__metadata__") + oneArray + "s.", scan.Review, "WS-TORCH-011"},
		{"arrays of one name", "\x80\x03}(" + text("a.b") + oneArray + text("a") + "}" + text("b") + oneArray + "su.", scan.Review, "WS-TORCH-011"},
		{"array of an unknown byte order", "\x80\x03" + array + "(K\x01K\x01\x85" + dtype + "\x89C\x04abcdtb.", scan.Review, "WS-PICKLE-020"},
		{"array, too short", "\x80\x03" + array + "(K\x01K\x02\x85" + dtype + "(K\x03" + text("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x04abcdtb.", scan.Review, "WS-PICKLE-020"},
		{"array of objects", "\x80\x03" + array + "(K\x01K\x01\x85cnumpy\ndtype\n" + text("O8") + "\x89\x88\x87R\x89]Natb.", scan.Review, "WS-PICKLE-020"},
		{"array of something else", "\x80\x03cnumpy.core.multiarray\n_reconstruct\n" + text("x") + "K\x00\x85C\x01b\x87R.", scan.Unsafe, "WS-PICKLE-007"},
		{"array by its constructor", p2 + "cnumpy\nndarray\nK\x01\x85\x85R.", scan.Unsafe, "WS-PICKLE-024"},
		{"dtype with the flags of objects", p2 + dtype + "(K\x03" + text("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb.", scan.Unsafe, "WS-PICKLE-010"},
		{"tensor without a container", float + "(K\x01tR.", scan.Review, "WS-PICKLE-003"},
		{"hooks", float + "(NK\x00))\x89" + odict + ")R" + text("h") + "K\x01stR.", scan.Unsafe, "WS-PICKLE-007"},
		{"rebuild that calls", p2 + "ctorch._tensor\n_rebuild_from_type_v2\n(c_codecs\nencode\nctorch\nTensor\n)}tR.", scan.Unsafe, "WS-PICKLE-007"},
		{"rebuild of itself", p2 + "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n)}tR.", scan.Unsafe, "WS-PICKLE-007"},
		{"rebuild with hooks inside", p2 + "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_parameter\nctorch\nTensor\n(N\x88K\x01t}tR.", scan.Unsafe, "WS-PICKLE-007"},
		{"rebuild with a dunder state", p2 + "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor\nctorch\nTensor\n)}" + text("__class__") + "NstR.", scan.Unsafe, "WS-PICKLE-011"},
		{"old instance", "ccopy_reg\n_reconstructor\n(cacme\nThing\nc__builtin__\nobject\nNtR.", scan.Review, "WS-PICKLE-004"},
		{"old instance of a gadget", "ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.", scan.Unsafe, "WS-PICKLE-007"},
		{"old instance with a state", "ccopy_reg\n_reconstructor\n(cacme\nThing\nc__builtin__\nobject\nNtR(dVa\nI1\nsb.", scan.Review, "WS-PICKLE-004"},
		{"old instance with a dunder state", "ccopy_reg\n_reconstructor\n(cacme\nThing\nc__builtin__\nobject\nNtR(dV__setstate__\nI1\nsb.", scan.Unsafe, "WS-PICKLE-011"},
		{"old instance of a tuple", "ccopy_reg\n_reconstructor\n(cacme\nPoint\nc__builtin__\ntuple\n(I1\nI2\nttR.", scan.Review, "WS-PICKLE-004"},
		{"old instance that is a function", "ccopy_reg\n_reconstructor\n(cnumpy\nlog1p\nc__builtin__\nobject\nNtR(db.", scan.Unsafe, "WS-PICKLE-007"},
		{"counter", p2 + "ccollections\nCounter\n}" + text("a") + "K\x01s\x85R.", scan.Convertible, ""},
		{"class of None", p2 + "c__builtin__\ntype\nN\x85R.", scan.Review, "WS-PICKLE-003"},
		{"class made by type", p2 + "c__builtin__\ntype\n" + text("A") + ")}\x87R.", scan.Unsafe, "WS-PICKLE-024"},

		// Members of enumerations and bound methods, as pickles have them.
		{"member", p2 + "c__builtin__\ngetattr\n" + global("transformers.trainer_utils", "IntervalStrategy") + text("NO") + "\x86R.", scan.Review, "WS-PICKLE-003"},
		{"member of an unknown class", p2 + "c__builtin__\ngetattr\n" + global("acme", "Color") + text("RED") + "\x86R.", scan.Review, "WS-PICKLE-003"},
		{"method of an object", p2 + "c__builtin__\ngetattr\n" + global("acme", "Net") + ")\x81" + text("run") + "\x86R.", scan.Review, "WS-PICKLE-003"},
		{"member that is called", p2 + "c__builtin__\ngetattr\n" + global("acme", "Color") + text("run") + "\x86R)R.", scan.Unsafe, "WS-PICKLE-006"},
		{"member as a factory", p2 + global("collections", "defaultdict") + "c__builtin__\ngetattr\n" + global("acme", "Color") + text("run") + "\x86R\x85R.", scan.Unsafe, "WS-PICKLE-007"},
		{"member that is changed", p2 + "c__builtin__\ngetattr\n" + global("acme", "Color") + text("RED") + "\x86R}" + text("a") + "Nsb.", scan.Unsafe, "WS-PICKLE-024"},
		{"dunder member", p2 + "c__builtin__\ngetattr\n" + global("acme", "Color") + text("__init__") + "\x86R.", scan.Unsafe, "WS-PICKLE-002"},
		{"member of a module", p2 + "c__builtin__\ngetattr\n" + global("acme", "os") + text("system") + "\x86R.", scan.Unsafe, "WS-PICKLE-002"},
		{"member of the standard library", p2 + "c__builtin__\ngetattr\n" + global("pathlib", "Path") + text("unlink") + "\x86R.", scan.Unsafe, "WS-PICKLE-002"},
		{"one member, one gadget", p2 + "c__builtin__\ngetattr\nq\x01" + global("acme", "Color") + text("RED") + "\x86R0h\x01" + global("acme", "os") + text("system") + "\x86R.", scan.Unsafe, "WS-PICKLE-002"},
		{"getattr without a call", p2 + "c__builtin__\ngetattr\n.", scan.Unsafe, "WS-PICKLE-002"},

		// What estimators and tables are made of.
		{"kernel", p2 + global("sklearn.gaussian_process.kernels", "RBF") + ")\x81}b.", scan.Review, "WS-PICKLE-003"},
		{"part of an estimator by its constructor", p2 + global("sklearn.cluster._birch", "_CFNode") + "K\x01\x85R.", scan.Unsafe, "WS-PICKLE-024"},
		{"score that is kept", p2 + "}" + text("a") + global("sklearn.metrics._classification", "accuracy_score") + "s.", scan.Review, "WS-PICKLE-003"},
		{"score that is called", p2 + global("sklearn.metrics._classification", "accuracy_score") + ")R.", scan.Unsafe, "WS-PICKLE-024"},
		{"numpy function that is kept", p2 + "}" + text("a") + global("numpy.core._multiarray_umath", "log1p") + "s.", scan.Review, "WS-PICKLE-003"},
		{"numpy function that is changed", p2 + global("numpy", "log1p") + "}" + text("a") + "Nsb.", scan.Unsafe, "WS-PICKLE-010"},
		{"pruned layer", p2 + global("torch.nn.utils.prune", "L1Unstructured") + ")\x81}b.", scan.Review, "WS-PICKLE-003"},
		{"table's array", p2 + "cpandas._libs.arrays\n__pyx_unpickle_NDArrayBacked\n" + global("pandas.core.arrays.datetimes", "DatetimeArray") + "K\x00N\x87R.", scan.Review, "WS-PICKLE-003"},
		{"table's array of another class", p2 + "cpandas._libs.arrays\n__pyx_unpickle_NDArrayBacked\n" + global("acme", "Thing") + "K\x00N\x87R.", scan.Unsafe, "WS-PICKLE-007"},
		{"index of times of another class", p2 + "cpandas.core.indexes.datetimes\n_new_DatetimeIndex\n" + global("acme", "Thing") + "}\x86R.", scan.Unsafe, "WS-PICKLE-007"},
		{"partial", p2 + global("functools", "partial") + odict + "\x85R.", scan.Unsafe, "WS-PICKLE-002"},
		{"two pickles", p2 + "N." + p2 + "}.", scan.Review, "WS-PICKLE-015"},
		{"payload in the second", p2 + "N." + p2 + "cos\nsystem\n)R.", scan.Unsafe, "WS-PICKLE-002"},
		{"bytes after", p2 + "N." + "\x00\x00\x00", scan.Unsafe, "WS-PICKLE-014"},
		{"payload after filling", p2 + "N." + strings.Repeat("\x00", 4096) + p2 + "cos\nsystem\n)R.", scan.Unsafe, "WS-PICKLE-002"},
		{"broken after a call", p2 + "cos\nsystem\n)R\xff", scan.Unsafe, "WS-PICKLE-002"},
		{"broken", p2 + "}}}\xff", scan.Unsafe, "WS-PICKLE-013"},
		{"target", p2 + "}" + text("_target_") + text("os.system") + "s.", scan.Review, "WS-PICKLE-019"},
		{"default factory", p2 + global("collections", "defaultdict") + global("acme", "run") + "\x85R.", scan.Review, "WS-PICKLE-004"},
		{"default factory of the standard library", p2 + global("collections", "defaultdict") + global("os", "getcwd") + "\x85R.", scan.Unsafe, "WS-PICKLE-002"},
		{"bytes loaded as a checkpoint", "\x80\x03" + global("torch.storage", "_load_from_bytes") + "C\x10\x80\x02cos\nsystem\n)R.\x85R.", scan.Unsafe, "WS-PICKLE-021"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rep := verdictOf(t, "case.pkl", tt.in)
			if rep.Verdict != tt.want || tt.rule != "" && !hasRule(rep, tt.rule) {
				t.Errorf("%s, want %s by %s\n%s", rep.Verdict, tt.want, tt.rule, explain(rep))
			}
		})
	}
}

func hasRule(rep *scan.Report, rule string) bool {
	for _, f := range rep.Files {
		for _, fd := range f.Findings {
			if fd.Rule == rule {
				return true
			}
		}
	}
	return false
}

func zipOf(files ...string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err != nil {
			panic(err)
		}
		must(f.Write([]byte(files[i+1])))
	}
	must(0, w.Close())
	return b.String()
}

func tarOf(files ...string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		must(0, w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}))
		must(w.Write([]byte(files[i+1])))
	}
	must(0, w.Close())
	return b.String()
}

func gzipOf(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	must(w.Write([]byte(s)))
	must(0, w.Close())
	return b.String()
}

// Everything that is no pickle.
func TestFileCases(t *testing.T) {
	t.Parallel()
	evil := "\x80\x02cos\nsystem\n)R."
	deep := evil
	for range 12 {
		deep = gzipOf(deep)
	}
	npy := func(descr, shape, data string) string {
		h := "{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + ", }"
		return "\x93NUMPY\x01\x00" + string(binary.LittleEndian.AppendUint16(nil, uint16(len(h)))) + h + data
	}
	tests := []struct {
		name, file, in string
		want           scan.Verdict
		rule           string
	}{
		{"empty", "a.txt", "", scan.Safe, ""},
		{"text", "README.md", "# A model\nimport os; os.system('x')\n", scan.Safe, ""},
		{"words", "vocab.txt", "cat\ndog\ncos\nsin\n", scan.Safe, ""},
		{"LFS pointer", "model.pkl", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", scan.Unknown, "WS-TEXT-003"},
		{"pickle named text", "notes.txt", "cos\nsystem\n(S'ls'\ntR.", scan.Unsafe, "WS-NAME-001"},
		{"pickle named text, of an unknown package first", "notes.txt", "cacme\nx\n0cos\nsystem\n(S'ls'\ntR.", scan.Unsafe, "WS-NAME-001"},
		{"pickle of an unknown package, no name", "weights", "cacme\nrun\n(S'ls'\ntR.", scan.Review, "WS-PICKLE-004"},
		{"words that begin with i", "vocab.txt", "ios\nsystem\nand\n.\n", scan.Safe, ""},
		{"harmless pickle named text", "notes.txt", "\x80\x02}" + text("a") + "K\x01s.", scan.Unsafe, "WS-NAME-001"},
		{"pickle with no name", "weights", evil, scan.Unsafe, "WS-PICKLE-002"},
		{"random bytes", "data.xyz", "\xff\xfe\x01\x02\x03\x99\x98", scan.Unknown, "WS-FORMAT-002"},
		{"random bytes named pickle", "data.pkl", "\xff\xfe\x01\x02\x03\x99\x98", scan.Unsafe, "WS-PICKLE-013"},
		{"zip in text", "notes.txt", "hello\n" + zipOf("a.pkl", evil), scan.Unsafe, ""},
		{"zip with a pickle", "a.zip", zipOf("x/y.dat", evil), scan.Unsafe, "WS-PICKLE-002"},
		{"zip in tar in gzip", "a.tar.gz", gzipOf(tarOf("b.zip", zipOf("c", evil))), scan.Unsafe, "WS-PICKLE-002"},
		{"too many layers", "a.gz", deep, scan.Unknown, "WS-LIMIT-001"},
		{"bomb", "a.gz", gzipOf(gzipOf(strings.Repeat("\x00", 8<<20))), scan.Unknown, ""},
		{"tar with two entries of a name", "a.tar", tarOf("a.txt", "x", "A.TXT", "y"), scan.Unsafe, "WS-ARCHIVE-001"},
		{"tar with bytes after the end", "a.tar", tarOf("a.txt", "x") + "hidden", scan.Unsafe, "WS-ARCHIVE-002"},
		{"zip that climbs", "a.zip", zipOf("../a.txt", "x"), scan.Unsafe, "WS-ARCHIVE-003"},
		{"zip with a prefix", "a.zip", "#!/bin/sh\n" + zipOf("a.txt", "x"), scan.Unsafe, ""},
		{"array", "a.npy", npy("'<f4'", "(2,)", "12345678"), scan.Safe, ""},
		{"array, short", "a.npy", npy("'<f4'", "(2,)", "1234"), scan.Unsafe, "WS-NUMPY-002"},
		{"array, long", "a.npy", npy("'<f4'", "(2,)", "12345678"+evil), scan.Unsafe, "WS-NUMPY-002"},
		{"array of objects", "a.npy", npy("'|O'", "(1,)", evil), scan.Unsafe, "WS-NUMPY-001"},
		{"fields", "a.npy", npy("[('a', '<f4'), ('b', '<i2', (2,))]", "(1,)", "12345678"), scan.Safe, ""},
		{"objects in fields", "a.npy", npy("[('a', '<f4'), ('b', [('c', '|O')])]", "(1,)", "123456789012"), scan.Unsafe, "WS-NUMPY-001"},
		{"array, overflow", "a.npy", npy("'<f8'", "(4294967296, 4294967296, 4294967296)", ""), scan.Unsafe, "WS-NUMPY-002"},
		{"npz with another member", "a.npz", zipOf("a.npy", npy("'<f4'", "(1,)", "1234"), "b.bin", evil), scan.Unsafe, "WS-NUMPY-003"},
		{"config", "config.json", `{"model_type": "x", "trust_remote_code": false}`, scan.Safe, ""},
		{"remote code", "config.json", `{"trust_remote_code": true}`, scan.Review, "WS-CONFIG-001"},
		{"remote code in lenient JSON", "config.json", `{"auto_map": {"A": "b.C"},}`, scan.Review, "WS-CONFIG-001"},
		{"nested auto_map", "config.json", `{"a": [{"auto_map": {"A": "b.C"}}]}`, scan.Review, "WS-CONFIG-001"},
		{"escaped key", "config.json", `{"auto\u005fmap": {"A": "b.C"}}`, scan.Review, "WS-CONFIG-001"},
		{"kernel from elsewhere", "config.json", `{"_attn_implementation": "someone/kernel"}`, scan.Review, "WS-CONFIG-001"},
		{"key twice", "config.json", `{"a": 1, "a": 2}`, scan.Review, "WS-CONFIG-003"},
		{"index that climbs", "model.safetensors.index.json", `{"weight_map": {"a": "../b.safetensors"}}`, scan.Unsafe, "WS-CONFIG-006"},
		{"jsonpickle", "state.json", `{"py/reduce": [{"py/type": "os.system"}]}`, scan.Unsafe, "WS-CONFIG-002"},
		{"pipeline with a part of its own", "model_index.json", `{"unet": ["my_unet", "Net"], "vae": ["diffusers", "AutoencoderKL"]}`, scan.Review, "WS-CONFIG-001"},
		{"module of its own", "modules.json", `[{"idx": 0, "path": "", "type": "custom.Module"}]`, scan.Review, "WS-CONFIG-001"},
		{"template list", "tokenizer_config.json", `{"chat_template": [{"name": "default", "template": "{{ x.__class__ }}"}]}`, scan.Unsafe, "WS-TEMPLATE-001"},
		{"template file", "chat_template.jinja", "{{ messages[0]['content'] }}{{ ''['__cla' ~ 'ss__'] | attr('x') }}", scan.Unsafe, "WS-TEMPLATE-001"},
		{"template with escapes", "chat_template.jinja", `{{ ''['\x5f\x5fclass\x5f\x5f'] }}`, scan.Unsafe, "WS-TEMPLATE-001"},
		{"template that calls", "chat_template.jinja", "{{ foo.run('x') }}", scan.Review, "WS-TEMPLATE-002"},
		{"template with a macro", "chat_template.jinja", "{% macro f(x) %}{{ x | upper }}{% endmacro %}{{ f('a') }}", scan.Safe, ""},
		{"YAML", "a.yaml", "a: 1\nb: [x, y]\nc: not a !!python tag? no\n", scan.Safe, ""},
		{"YAML with an object", "a.yaml", "a: !!python/object/apply:os.system ['ls']\n", scan.Unsafe, "WS-CONFIG-002"},
		{"YAML with a renamed tag", "a.yaml", "%TAG !y! tag:yaml.org,2002:py\n---\na: !y!thon/object/apply:os.system ['ls']\n", scan.Unsafe, "WS-CONFIG-002"},
		{"YAML with a hidden tag", "a.yaml", "a: !<tag:yaml.org,2002:%70ython/object/apply:os.system> ['ls']\n", scan.Unsafe, "WS-CONFIG-002"},
		{"YAML with a target", "a.yaml", "model:\n  _target_: os.system\n", scan.Review, "WS-CONFIG-001"},
		{"XML", "a.xml", "<?xml version=\"1.0\"?><a/>", scan.Safe, ""},
		{"Python", "model.py", "import torch\nclass A(torch.nn.Module):\n    def f(self):\n        self.eval()\n", scan.Review, "WS-CODE-002"},
		{"Python that runs commands", "model.py", "import subprocess as s\ns.run(['ls'])\n", scan.Unsafe, "WS-CODE-003"},
		{"shell script by its name", "run.sh", "rm -rf /\n", scan.Review, "WS-CODE-004"},
		{"bytecode", "a.pyc", "\xa7\x0d\x0d\x0a" + strings.Repeat("\x00", 16) + "\xe3", scan.Unsafe, "WS-CODE-006"},
		{"Keras text without an archive", "model.json", `{"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {"function": ["4wE", null, null]}}]}}`, scan.Unsafe, "WS-KERAS-001"},
		{"Keras class of its own", "model.json", `{"class_name": "Sequential", "config": {"layers": [{"class_name": "MyLayer", "config": {}}]}}`, scan.Review, "WS-KERAS-002"},
		{"unknown named torch", "a.pt", "\x00\x01\x02\xff", scan.Unsafe, ""},
		{"unknown named bin", "a.bin", "\x00\x01\x02\xff", scan.Unknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rep := verdictOf(t, tt.file, tt.in)
			if rep.Verdict != tt.want || tt.rule != "" && !hasRule(rep, tt.rule) {
				t.Errorf("%s, want %s by %s\n%s", rep.Verdict, tt.want, tt.rule, explain(rep))
			}
		})
	}
}
