package scan_test

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// le32s is a number as BINBYTES and its like have it.
func le32s(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }

// joblibSplit is a pickle in which joblib, after the BUILD at the end of build,
// passes over skip bytes, and a plain unpickler does not: for it they are the
// beginning of a bytes object in which the payload lies.
func joblibSplit(build string, skip int) string {
	payload := named("os", "getcwd") + ")R."
	return "\x80\x04" + build + "B" + le32s(skip-5+len(payload)) + strings.Repeat("\x00", skip-5) + payload + "0N."
}

// Arrays of joblib: scanner and joblib must pass over the same bytes.
func TestJoblibAttacks(t *testing.T) {
	t.Parallel()
	const (
		wrapper = "\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93"
		after   = "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
	)
	dtype := func(code string) string { return named("numpy", "dtype") + short(code) + "\x89\x88\x87R" }
	float := dtype("f4") + "(K\x03" + short("<") + after + "\x00tb"
	object := dtype("O8") + "(K\x03" + short("|") + after + "\x3ftb"
	state := func(dtype, shape string) string {
		return "}(" + short("subclass") + named("numpy", "ndarray") + short("shape") + shape + short("order") + short("C") +
			short("dtype") + dtype + short("allow_mmap") + "\x89u"
	}
	six := "K\x06\x85"
	inner := "\x80\x04" + wrapper + ")\x81" + state(float, "K\x10\x85") + "b" + (named("os", "getcwd") + ")R0" + strings.Repeat("N", 64))[:64] + "0."
	numbers := "\x00\x00\x80\x3f\x00\x00\x00\x40" + strings.Repeat("\xff", 16)
	unsafe := scan.Unsafe
	tests := []attack{
		{"B1", "as it should be", "a.joblib", "\x80\x04" + wrapper + ")\x81" + state(float, six) + "b" + numbers + ".", scan.Review, "WS-PICKLE-003"},
		{"B1", "payload behind the numbers", "a.joblib", joblibSplit(wrapper+")\x81"+state(float, six)+"b", 24), unsafe, "WS-PICKLE-002"},
		{"B1", "state of two parts", "a.joblib", joblibSplit(wrapper+")\x81"+state(float, six)+"N\x86b", 24), unsafe, "WS-PICKLE-017"},
		{"B1", "shape that is a list", "a.joblib", joblibSplit(wrapper+")\x81"+state(float, "]K\x06a")+"b", 24), unsafe, "WS-PICKLE-017"},
		{"B1", "made by a function", "a.joblib", joblibSplit(named("copyreg", "_reconstructor")+wrapper+named("builtins", "object")+"N\x87R"+state(float, six)+"b", 24), unsafe, "WS-PICKLE-002"},
		{"B1", "made by a call", "a.joblib", joblibSplit(wrapper+")R"+state(float, six)+"b", 24), unsafe, ""},
		{"B1", "dtype without a state", "a.joblib", joblibSplit(wrapper+")\x81"+state(dtype("<f4"), six)+"b", 24), unsafe, "WS-PICKLE-002"},
		{"B1", "dtype of truth values", "a.joblib", joblibSplit(wrapper+")\x81"+state(dtype("?"), "K\x18\x85")+"b", 24), unsafe, "WS-PICKLE-002"},
		{"B1", "dtype by its class", "a.joblib", joblibSplit(wrapper+")\x81"+state(named("numpy.dtypes", "Float32DType")+")R", six)+"b", 24), unsafe, "WS-PICKLE-002"},
		{"B1", "dtype of another size than its code", "a.joblib", joblibSplit(wrapper+")\x81"+state(dtype("V4")+"(K\x03"+short("|")+"NNNK\x18K\x01K\x00tb", "K\x01\x85")+"b", 24), unsafe, "WS-PICKLE-010"},
		{"B1", "dtype that is computed", "a.joblib", joblibSplit(wrapper+")\x81"+state("N", six)+"b", 24), unsafe, "WS-PICKLE-017"},
		{"B1", "objects as joblib writes them", "a.joblib", "\x80\x04" + wrapper + ")\x81" + state(object, "K\x01\x85") + "b\x80\x04" + named("numpy.core.multiarray", "_reconstruct") +
			named("numpy", "ndarray") + "K\x00\x85C\x01b\x87R(K\x01K\x01\x85" + object + "\x89]Natb..", scan.Review, ""},
		{"B1", "array in the pickle of objects", "a.joblib", "\x80\x04(" + wrapper + ")\x81" + state(float, six) + "b" + strings.Repeat("\xff", 24) + wrapper + ")\x81" + state(object, six) + "b" + inner + "t.", unsafe, "WS-PICKLE-002"},

		{"B2", "numbers taken for objects", "a.pkl", "\x80\x04" + dtype("O8") + "(K\x03" + short("|") + after + "\x00tb.", unsafe, "WS-PICKLE-010"},
		{"B2", "objects in a plain dtype", "a.pkl", "\x80\x04" + dtype("f8") + "(K\x03" + short("<") + after + "\x3ftb.", unsafe, "WS-PICKLE-010"},
		{"B2", "field outside the item", "a.pkl", "\x80\x04" + dtype("V4") + "(K\x03" + short("|") + "N" + short("a") + "\x85}" + short("a") + float + "K\x02\x86sK\x04K\x01K\x00tb.", unsafe, "WS-PICKLE-010"},
		{"B2", "field inside the item", "a.pkl", "\x80\x04" + dtype("V4") + "(K\x03" + short("|") + "N" + short("a") + "\x85}" + short("a") + float + "K\x00\x86sK\x04K\x01K\x00tb.", scan.Review, "WS-PICKLE-020"},
		{"B2", "object field without the flag", "a.pkl", "\x80\x04" + dtype("V8") + "(K\x03" + short("|") + "N" + short("a") + "\x85}" + short("a") + object + "K\x00\x86sK\x08K\x01K\x00tb.", unsafe, "WS-PICKLE-010"},
		{"B2", "object field", "a.pkl", "\x80\x04" + dtype("V8") + "(K\x03" + short("|") + "N" + short("a") + "\x85}" + short("a") + object + "K\x00\x86sK\x08K\x01K\x1btb.", scan.Review, "WS-PICKLE-020"},
		{"B2", "scalar with an object of bytes", "a.pkl", "\x80\x04" + named("numpy.core.multiarray", "scalar") + dtype("V8") + "(K\x03" + short("|") + "N" + short("a") + "\x85}" + short("a") + object + "K\x00\x86sK\x08K\x01K\x1btbC\x08AAAAAAAA\x86R.", unsafe, "WS-PICKLE-007"},
		{"B2", "dtype of the oldest numpy", "a.pkl", "\x80\x02" + global("numpy", "dtype") + text("f8") + "K\x00K\x01\x87R(K\x01" + text("<") + "NNJ\xff\xff\xff\xffJ\xff\xff\xff\xfftb.", unsafe, "WS-PICKLE-010"},
		{"B2", "dtype of an old numpy", "a.pkl", "\x80\x02" + global("numpy", "dtype") + text("f8") + "K\x00K\x01\x87R(K\x02" + text("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xfftb.", scan.Convertible, ""},
		{"B2", "record", "a.pkl", "\x80\x04" + named("numpy", "dtype") + named("numpy", "record") + "\x89\x88\x87R(K\x03" + short("|") + "N" + short("a") + "\x85}" + short("a") + float + "K\x00\x86sK\x04K\x01K\x10tb.", scan.Review, "WS-PICKLE-020"},
	}
	checkAttacks(t, tests)
}

// varint is a field of a protobuf message that is a number.
func varint(num int, n uint64) string {
	return string(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(num)<<3), n))
}

// Models in the clothes of others.
func TestDisguises(t *testing.T) {
	t.Parallel()
	safe, review, unsafe := scan.Safe, scan.Review, scan.Unsafe
	piece := pbField(1, pbField(1, "<unk>"), "\x15\x00\x00\x00\x00")
	saved := pbField(2, pbField(2, pbField(1, pbField(1, "a"), pbField(2, "ReadFile"))))
	onnx := func(graph string, more ...string) string {
		return varint(1, 8) + pbField(7, pbField(2, "g"), graph) + strings.Join(more, "")
	}
	outside := varint(2, 1) + pbField(8, "w") + pbField(13, pbField(1, "location"), pbField(2, "../../x")) + varint(14, 1)
	tests := []attack{
		{"M1", "vocabulary", "sentencepiece.model", piece + pbField(2, pbField(2, "m")), safe, ""},
		{"M1", "graph behind a vocabulary", "saved_model.pb", piece + saved, unsafe, "WS-TF-001"},
		{"M1", "graph behind a vocabulary, its name", "a.model", piece + saved, unsafe, "WS-TF-001"},
		{"M1", "vocabulary that is named a graph", "saved_model.pb", piece, scan.Unknown, ""},
		{"M1", "graph as text", "saved_model.pbtxt", `meta_graphs { graph_def { node { name: "a" op: "ReadFile" } } }`, unsafe, "WS-TF-001"},
		{"M1", "graph as text, single quotes", "a.pbtxt", "node { op :\n 'WriteFile' }", unsafe, "WS-TF-001"},
		{"M1", "network of Caffe", "deploy.prototxt", `layer { type: "Python" python_param { module: "evil" } }`, review, "WS-TEXT-002"},
		{"M1", "ONNX as text", "a.onnxtxt", "<ir_version: 8>\nagraph (float[N] X) => (float[N] Y) { Y = acme.Op(X) }\n", review, "WS-TEXT-002"},
		{"M1", "ONNX as JSON", "a.json", `{"irVersion": "8", "graph": {}}`, review, "WS-TEXT-002"},
		{"M1", "default of an attribute outside", "a.onnx", onnx("", pbField(25, pbField(1, "f"), pbField(11, pbField(1, "a"), pbField(5, outside)), pbField(10, "d"))), unsafe, "WS-ONNX-001"},
		{"M1", "domain of a function, not its name", "a.onnx", onnx(pbField(1, pbField(4, "X"), pbField(7, "acme")), pbField(25, pbField(1, "Y"), pbField(10, "acme"))), review, "WS-ONNX-003"},
		{"M1", "function of the model", "a.onnx", onnx(pbField(1, pbField(4, "Y"), pbField(7, "acme")), pbField(25, pbField(1, "Y"), pbField(10, "acme"))), safe, ""},

		{"M2", "template that is JSON", "chat_template.jinja", `["{{ x.__class__ }}"]`, unsafe, "WS-TEMPLATE-001"},
		{"M2", "comment in what is not rendered", "chat_template.jinja", "{% raw %}{#{% endraw %}{{ x.__class__ }}{% raw %}#}{% endraw %}", unsafe, "WS-TEMPLATE-001"},
		{"M2", "quote in what is not rendered", "chat_template.jinja", "{%- raw -%}{{ ' {%- endraw -%}{{ cycler.x }}{{ '' }}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, set", "chat_template.jinja", "{% set get = messages[0][k] %}{{ get() }}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, in a namespace", "chat_template.jinja", "{% set n = namespace(get = messages[k]) %}{{ n.get() }}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, a key", "chat_template.jinja", "{{ {'find': messages[k]}.find() }}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, in a loop", "chat_template.jinja", "{% for a, items in messages %}{{ items() }}{% endfor %}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, a parameter", "chat_template.jinja", "{% macro m(range) %}{{ range() }}{% endmacro %}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, escaped", "chat_template.jinja", `{{ {'\x66ind': messages[k]}.find() }}`, review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, put together", "chat_template.jinja", "{{ {'fi'~'nd': messages[k]}.find() }}", review, "WS-TEMPLATE-002"},
		{"M2", "name of a call, a variable", "chat_template.jinja", "{{ {k: messages[k]}.find() }}", review, "WS-TEMPLATE-002"},
		{"M2", "dictionary of pairs", "chat_template.jinja", "{{ dict([(k, messages[k])]).find() }}", review, "WS-TEMPLATE-002"},
		{"M2", "ordinary dictionaries", "chat_template.jinja", `{% set m = {'a': 1, "b": x[1:], 'c': {'d': [1, 2]}} %}{{ m['a'] }}{{ dict(a=1) }}{{ messages[i:][-1] }}`, safe, ""},
		{"M2", "raw behind many blanks", "chat_template.jinja", "{%" + strings.Repeat(" ", 300) + "raw %}{#{% endraw %}{{ x.__class__ }}{% raw %}#}{% endraw %}", unsafe, "WS-TEMPLATE-001"},
		{"M2", "raw behind another blank", "chat_template.jinja", "{%\u00a0raw %}{#{%\u2003endraw %}{{ x.__class__ }}{% raw %}#}{% endraw %}", unsafe, "WS-TEMPLATE-001"},
		{"M2", "name of a call behind another blank", "chat_template.jinja", "{% set\u00a0get\u00a0= messages[k] %}{{ get() }}", review, "WS-TEMPLATE-002"},
		{"M2", "ordinary macro", "chat_template.jinja", "{% macro m(a, b=1) %}{{ a.items() }}{% endmacro %}{% set ns = namespace(found=false) %}{% for k, v in x.items() %}{{ m(k) }}{% set ns.found = true %}{% endfor %}", safe, ""},
		{"M2", "template of a prompt", "prompt.json", `{"template_format": "jinja2", "template": "{{ ''.__class__ }}"}`, unsafe, "WS-TEMPLATE-001"},
		{"M2", "template in YAML", "a.yaml", "instruction_template: |-\n  {{ ''.__class__ }}\n", unsafe, "WS-TEMPLATE-001"},

		{"M3", "Keras, vocabulary of the system", "model.json", `{"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}`, unsafe, "WS-CONFIG-006"},
		{"M3", "Keras, vocabulary of an address", "model.json", `{"class_name": "TextVectorization", "config": {"vocabulary": "https://example.com/x"}}`, unsafe, "WS-CONFIG-006"},
		{"M3", "Keras, vocabulary in a file", "model.json", `{"class_name": "IntegerLookup", "config": {"vocabulary": "words.txt"}}`, review, "WS-CONFIG-005"},
		{"M3", "Keras, vocabulary of its own", "model.json", `{"class_name": "IntegerLookup", "config": {"vocabulary": [1, 2]}}`, safe, ""},
		{"M3", "Keras in YAML", "model.yaml", "class_name: Model\nconfig:\n  layers:\n  - class_name: Lambda\n", unsafe, "WS-KERAS-001"},
	}
	checkAttacks(t, tests)
}

// ggufAligned is a GGUF file with one tensor of no elements, whose data would
// begin at the next multiple of 4096, and what is in between.
func ggufAligned(key, value, filling string, tensors int) string {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(le.AppendUint64(b, uint64(tensors)), 2)
	b = le.AppendUint32(le.AppendUint32(text(b, "general.alignment"), 4), 4096)
	b = text(le.AppendUint32(text(b, key), 8), value)
	for i := range tensors {
		b = le.AppendUint32(text(b, "t"+strconv.Itoa(i)), 1)
		b = le.AppendUint64(le.AppendUint32(le.AppendUint64(b, 0), 0), 0)
	}
	b = append(b, filling...)
	return string(b) + strings.Repeat("\x00", (4096-len(b)%4096)%4096)
}

// Files that are data for one reader and a pickle for another.
func TestDataAndPickle(t *testing.T) {
	t.Parallel()
	// 0x5601 tensors: the V in it is UNICODE, which takes everything up to
	// the end of the line.
	both := ggufAligned("general.name", "x\n0cos\ngetcwd\n)R.", "", 0x5601)
	checkAttacks(t, []attack{
		{"D1", "by its own name", "a.gguf", both, scan.Safe, ""},
		{"D1", "by the name of a pickle", "a.pkl", both, scan.Unsafe, "WS-FORMAT-001"},
		{"D1", "by the name of a checkpoint", "pytorch_model.bin", both, scan.Unsafe, "WS-FORMAT-001"},
		{"D1", "filling", "a.gguf", ggufAligned("a", "b", "", 1), scan.Safe, ""},
		{"D1", "bytes in the filling", "a.gguf", ggufAligned("a", "b", "cos\ngetcwd\n)R.", 1), scan.Unsafe, "WS-GGUF-002"},
	})
}

// Configuration and text as their loaders read them.
func TestTextAttacks(t *testing.T) {
	t.Parallel()
	safe, review, unsafe := scan.Safe, scan.Review, scan.Unsafe
	const tag = `!!python/object/apply:os.system ["id"]`
	checkAttacks(t, []attack{
		{"Y1", "tag behind a text of two lines", "a.yaml", "a: [\"x\n # y\", " + tag + "]\n", unsafe, "WS-CONFIG-002"},
		{"Y1", "tag behind a text, at the margin", "a.yaml", "a: ['x\n# y', " + tag + "]\n", unsafe, "WS-CONFIG-002"},
		{"Y1", "tag where markup could begin", "a.yaml", "<<: " + tag + "\n", unsafe, "WS-CONFIG-002"},
		{"Y1", "tag beside a colon", "a.yaml", "{\"a\":!evil x}\n", review, "WS-CONFIG-001"},
		{"Y1", "target with an anchor", "a.yaml", "target: &a !!str os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "target by an alias", "a.yaml", "x: &a os.system\ntarget: *a\n", review, "WS-CONFIG-001"},
		{"Y1", "target in a block", "a.yaml", "target: >-\n  os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "target with a colon", "a.yaml", "target: pkg.mod:Class\n", review, "WS-CONFIG-001"},
		{"Y1", "tag in a comment", "a.yaml", "a: don't\n# " + tag + "\nb: 1\n", safe, ""},
		{"Y1", "key behind a question mark", "a.yaml", "? _target_\n: os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "key by an alias", "a.yaml", "x: &k _target_\nm:\n  *k : os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "key over two lines", "a.yaml", "{\"_tar\\\n  get_\": os.system}\n", review, "WS-CONFIG-001"},
		{"Y1", "value in the next line", "a.yaml", "_target_:\n\n  # x\n  os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "trust in the next line", "a.yaml", "trust_remote_code:\n  true\n", review, "WS-CONFIG-001"},
		{"Y1", "no trust in the next line", "a.yaml", "trust_remote_code:\n  false\n", safe, ""},
		{"Y1", "class of Lightning", "a.yaml", "model:\n  class_path: os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "target of a diffusion model", "a.yaml", "model:\n  target: os.system\n", review, "WS-CONFIG-001"},
		{"Y1", "target that is a word", "a.yaml", "target: accuracy\n", safe, ""},
		{"Y1", "target in JSON", "a.json", `{"model": {"target": "os.system"}}`, review, "WS-CONFIG-001"},
		{"J2", "adapter's own module", "adapter_config.json", `{"megatron_config": {}, "megatron_core": "evil"}`, review, "WS-CONFIG-001"},
		{"J2", "adapter's usual module", "adapter_config.json", `{"megatron_config": null, "megatron_core": "megatron.core"}`, safe, ""},
		{"J2", "activation that is imported", "2_Dense/config.json", `{"activation_function": "os.abort"}`, review, "WS-CONFIG-001"},
		{"J2", "activation of a cross-encoder", "config.json", `{"sentence_transformers": {"activation_fn": "os.abort"}}`, review, "WS-CONFIG-001"},
		{"J2", "activation of torch", "2_Dense/config.json", `{"activation_function": "torch.nn.modules.activation.Tanh"}`, safe, ""},
		{"J2", "activation by a short name", "config.json", `{"activation_function": "gelu_new"}`, safe, ""},
		{"J2", "modules of a router", "router_config.json", `{"types": {"a": "evil.Mod"}}`, review, "WS-CONFIG-001"},
		{"J2", "imports of a list", "config.json", `{"custom_imports": {"imports": ["evil"]}}`, review, "WS-CONFIG-001"},

		{"T3", "requirement behind a form feed", "requirements.txt", "# x\fhttps://example.com/x.tar.gz\n", review, "WS-CONFIG-005"},
		{"T3", "requirement behind a carriage return", "requirements.txt", "# x\rhttps://example.com/x.tar.gz\n", review, "WS-CONFIG-005"},
		{"T3", "option over two lines", "requirements.txt", "--extra-index-\\\nurl=http:/\\\n/example.com\n", review, "WS-CONFIG-005"},
		{"T3", "package in a file", "requirements-dev.txt", "torch\n./x-1.0-py3-none-any.whl\n", review, "WS-CONFIG-005"},
		{"T3", "more requirements", "requirements.txt", "-r other.txt\n", review, "WS-CONFIG-005"},
		{"T3", "index of conda's pip", "conda.yaml", "dependencies:\n- pip:\n  - --extra-index-url http://example.com\n", review, "WS-CONFIG-005"},
		{"T3", "conda", "conda.yaml", "channels:\n- conda-forge\ndependencies:\n- python=3.11\n- pip:\n  - mlflow==2.1\n", safe, ""},
		{"T3", "site file, carriage return", "a.pth", "a\rimport os\n", unsafe, "WS-TORCH-010"},
		{"T3", "site file, form feed", "a.pth", "a\fimport os\n", unsafe, "WS-TORCH-010"},
		{"T3", "site file, byte order mark", "a.pth", "\ufeffimport os\n", unsafe, "WS-TORCH-010"},
		{"T3", "makefile", "Makefile", "all:\n\tid\n", review, "WS-CODE-004"},

		{"R2", "document type by a public name", "a.xml", `<!DOCTYPE x PUBLIC "-//A" "http://example.com/x.dtd"><x/>`, unsafe, "WS-TEXT-001"},
		{"R2", "document type of the W3C", "a.svg", `<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><svg/>`, safe, ""},
		{"R2", "document type of the W3C elsewhere", "a.svg", `<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://example.com/x.dtd"><svg/>`, unsafe, "WS-TEXT-001"},
		{"R2", "entity behind blanks", "a.xml", strings.Repeat(" ", 70_000) + `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x/>`, unsafe, "WS-TEXT-001"},
		{"R2", "another encoding", "a.xml", `<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-ENTITY`, review, "WS-CONFIG-004"},
		{"R2", "PMML with a prefix", "a.pmml", `<?xml version="1.0" encoding='UTF-8'?><p:PMML/>`, review, "WS-TEXT-002"},
		{"R2", "script, mixed case", "a.html", "<ScRipt>1</sCript>", review, "WS-CODE-004"},
		{"R2", "page", "a.html", "<!doctype HTML><p>x</p>", safe, ""},
	})
}
