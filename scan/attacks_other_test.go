package scan_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// notebook is a notebook with one cell of code.
func notebook(source any) string {
	cell := map[string]any{"cell_type": "code", "source": source, "outputs": []any{}, "metadata": map[string]any{}}
	text := map[string]any{"cell_type": "markdown", "source": "import os\nos.system('x')"}
	return jsonOf(map[string]any{"cells": []any{text, cell}, "metadata": map[string]any{}, "nbformat": 4, "nbformat_minor": 5})
}

// Files that are one thing by their first line or their keys, and another for
// the loader that goes by the name.
func TestClothes(t *testing.T) {
	t.Parallel()
	safe, review, unknown, unsafe := scan.Safe, scan.Review, scan.Unknown, scan.Unsafe
	const tag = "a: !!python/object/apply:os.system [\"id\"]\n"
	evil := "{{ ''.__class__ }}"
	checkAttacks(t, []attack{
		{"C2", "YAML that begins like a script", "config.yaml", "#!yaml\n" + tag, unsafe, "WS-CONFIG-002"},
		{"C2", "MLmodel that begins like a script", "MLmodel", "#!x\n" + tag, unsafe, "WS-CONFIG-002"},
		{"C2", "template that begins like a script", "chat_template.jinja", "#!/x\n" + evil, unsafe, "WS-TEMPLATE-001"},
		{"C2", "site file that begins like a script", "a.pth", "#!python\nimport os\n", unsafe, "WS-TORCH-010"},
		{"C2", "tag in requirements of conda", "conda.yaml", tag, unsafe, "WS-CONFIG-002"},
		{"C2", "notebook that is a configuration", "tokenizer_config.json", jsonOf(map[string]any{"cells": []any{}, "nbformat": 4, "chat_template": evil}), unsafe, "WS-TEMPLATE-001"},
		{"C2", "notebook that is a Keras model", "model.json", `{"cells": [], "nbformat": 4, "class_name": "Lambda", "config": {}}`, unsafe, "WS-KERAS-001"},

		{"N2", "notebook", "a.ipynb", notebook([]string{"!pip install torch\n", "import torch\n", "model.eval()"}), review, "WS-CODE-005"},
		{"N2", "notebook that runs commands", "a.ipynb", notebook("import subprocess\nsubprocess.run('x')"), unsafe, "WS-CODE-003"},
		{"N2", "notebook that runs commands, lines", "a.ipynb", notebook([]string{"%time x\n", "import os\n", "os.system('x')"}), unsafe, "WS-CODE-003"},
		{"N2", "notebook of before version 4", "a.ipynb", `{"cells": [], "worksheets": [{"cells": [{"cell_type": "code", "input": ["import os\n", "os.system('x')"]}]}], "nbformat": 3}`, unsafe, "WS-CODE-003"},

		{"P1", "PDF", "a.pdf", "%PDF-1.4\n1 0 obj<<>>endobj\n%%EOF\n", unknown, "WS-FORMAT-002"},
		{"P1", "PDF, binary", "a.pdf", "%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj\n%%EOF\n", unknown, "WS-FORMAT-002"},
		{"P1", "handler of an event", "a.svg", `<svg xmlns="http://www.w3.org/2000/svg"><rect onmouseover="x()"/></svg>`, review, "WS-CODE-004"},
		{"P1", "handler of an event, no quotes", "a.svg", "<svg\tonfocus=x() autofocus>", review, "WS-CODE-004"},
		{"P1", "page that leads on", "a.html", `<meta http-equiv="Refresh" content="0;url=http://example.com">`, review, "WS-CODE-004"},
		{"P1", "page with a type", "a.html", `<meta http-equiv="Content-Type" content="text/html"><p>one = 1</p>`, safe, ""},
		{"P1", "inclusion", "a.xml", `<a xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/></a>`, unsafe, "WS-TEXT-001"},
		{"P1", "build of a package", "pyproject.toml", "[build-system]\nrequires = []\n", review, "WS-CODE-004"},
		{"P1", "program in another language", "a.groovy", "x = 1\n", review, "WS-CODE-004"},

		{"V1", "words of loaders in a vocabulary", "vocab.json", `{"auto_map": 1, "py/reduce": 2, "trust_remote_code": 3, "_target_": 4, "ir_version": 5, "__class__": 6}`, safe, ""},
		{"V1", "words of loaders in a tokenizer", "tokenizer.json", `{"model": {"vocab": {"py/reduce": 2, "trust_remote_code": 3, "irVersion": 4}}}`, safe, ""},
		{"V1", "no words in a vocabulary", "vocab.json", `{"py/reduce": ["os.system"]}`, unsafe, "WS-CONFIG-002"},
		{"V1", "pointer for a tokenizer", "tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", unknown, "WS-TEXT-003"},
		{"V1", "version of a configuration", "config.json", `{"__version__": "4.42.0"}`, safe, ""},
	})
}

// Python that hides what it calls, and Python that only looks like it.
func TestSourceAttacks(t *testing.T) {
	t.Parallel()
	var tests []attack
	for name, in := range map[string]string{
		"imported from its module":   "from os import system\nsystem('x')\n",
		"in brackets, another name":  "from os import (\n    path,\n    system as s,\n)\ns('x')\n",
		"module by another name":     "import os as o\no.system('x')\n",
		"handed on":                  "import os, sys\ngetattr(os, 'sys' + 'tem')('x')\n",
		"over two lines":             "import os\nos.\\\n  system('x')\n",
		"with blanks":                "import os\nos . system ('x')\n",
		"letters of another width":   "\uff45\uff58\uff45\uff43('x')\n",
		"letters of another kind":    "import os\no\u017f.system('x')\n",
		"in a formatted text":        "f\"{__import__('o' + 's')}\"\n",
		"behind a text":              "x = '\\\n'; exec('x')\n",
		"behind a text of lines":     "x = '''\\'''a'''; exec('x')\n",
		"builtins":                   "__builtins__['ev' + 'al']('1')\n",
		"import as a value":          "f = __import__\nf('os')\n",
		"family of functions":        "import os\nos.execvpe('x', [], {})\n",
		"connection":                 "import urllib.request\nurllib.request.urlopen('http://example.com')\n",
		"pickle in the source":       "import pickle\npickle.loads(b'x')\n",
		"another encoding":           "# -*- coding: utf-7 -*-\nx = 1\n",
		"another encoding, below":    "#!/usr/bin/python\n# vim: set fileencoding=rot13 :\n",
		"import in one line of many": "if True: import subprocess as s\n",
	} {
		tests = append(tests, attack{"P2", name, "m.py", in, scan.Unsafe, "WS-CODE-003"})
	}
	for name, in := range map[string]string{
		"methods of those names": "model.eval()\ntorch.compile(x)\nre.compile('a')\nself.exec(x)\n",
		"paths":                  "import os\nos.path.join('a')\nos.makedirs('x', exist_ok=True)\nx = os.environ['A']\n",
		"words in texts":         "x = f'call eval(x) {y} {{os.system(1)}}'\n# os.system('x')\n'''subprocess.run(1)'''\n",
		"its own definitions":    "def eval(x):\n    return x\nclass system:\n    compile = 1\n",
		"arguments by name":      "f(eval=True, compile=False)\nfrom .os import system\n",
		"expression of nothing":  "x = f'{}' f\"{\"\n",
		"letters of a language":  "größe = 1\nπ = 3\n",
	} {
		tests = append(tests, attack{"P2", name, "m.py", in, scan.Review, "WS-CODE-002"})
	}
	checkAttacks(t, tests)
}

// Parts of files that lie far behind their beginning.
func TestFarAttacks(t *testing.T) {
	t.Parallel()
	far := strings.Repeat("x", 1200_000)
	blanks := strings.Repeat(" ", 2000)
	review, unknown, unsafe := scan.Review, scan.Unknown, scan.Unsafe
	evil := "{{ ''.__class__ }}"
	checkAttacks(t, []attack{
		{"F1", "template in JSON", "tokenizer_config.json", jsonOf(map[string]any{"chat_template": far + evil}), unknown, "WS-LIMIT-001"},
		{"F1", "template of a list in JSON", "tokenizer_config.json", jsonOf(map[string]any{"chat_template": []any{map[string]any{"name": "a", "template": far + evil}}}), unknown, "WS-LIMIT-001"},
		{"F1", "template of a prompt", "prompt.json", jsonOf(map[string]any{"template": far + evil}), unknown, "WS-LIMIT-001"},
		{"F1", "requirement", "requirements.txt", "# " + far + "\n--extra-index-url http://example.com\n", review, "WS-CONFIG-005"},
		{"F1", "line of a site file", "a.pth", "# " + far + "\nimport os\n", unsafe, "WS-TORCH-010"},
		{"F1", "line of a longer site file", "a.pth", strings.Repeat("# "+far+"\n", 8) + "import os\n", unknown, "WS-LIMIT-001"},
		{"F1", "value of a target", "a.yaml", "_target_:" + blanks + "os.system\n", review, "WS-CONFIG-001"},
		{"F1", "value of trust", "a.yaml", "trust_remote_code:" + blanks + "true\n", review, "WS-CONFIG-001"},
		{"F1", "colon of trust", "a.yaml", "{\"trust_remote_code\"" + blanks + ": true}\n", review, "WS-CONFIG-001"},
		{"F1", "long target", "a.yaml", "target: " + strings.Repeat("a.", 600) + "b\n", review, "WS-CONFIG-001"},
		{"F1", "long target in JSON", "a.json", `{"target": "` + strings.Repeat("a.", 600) + `b"}`, review, "WS-CONFIG-001"},
		{"F1", "script of an attribute", "a.svg", "<svg><rect onload" + blanks + `="x"/></svg>`, review, "WS-CODE-004"},
		{"F1", "script of an address", "a.html", `<a href="java&#115;cript:x()">`, review, "WS-CODE-004"},
		{"F1", "script of an address, in two lines", "a.html", "<a href=\"java\nscript:x()\">", review, "WS-CODE-004"},
	})
}

// Schemas of skops: whatever the kind of a node, it imports what it names.
func TestSkops(t *testing.T) {
	t.Parallel()
	safe, review, unsafe := scan.Safe, scan.Review, scan.Unsafe
	node := func(loader, module, class, content string) string {
		return zipOf("schema.json", `{"__class__": "`+class+`", "__module__": "`+module+`", "__loader__": "`+loader+`", "content": {`+content+`}}`)
	}
	checkAttacks(t, []attack{
		{"J3", "container of a callable", "a.skops", node("ListNode", "os", "system", ""), unsafe, "WS-CONFIG-002"},
		{"J3", "container", "a.skops", node("DictNode", "builtins", "dict", ""), safe, ""},
		{"J3", "node of a later version", "a.skops", node("NewNode", "acme", "Thing", ""), review, "WS-CONFIG-001"},
		{"J3", "node of a later version, of the system", "a.skops", node("NewNode", "subprocess", "Popen", ""), unsafe, "WS-CONFIG-002"},
		{"J3", "function by its content", "a.skops", node("FunctionNode", "builtins", "function", `"module_path": "os", "function": "system"`), unsafe, "WS-CONFIG-002"},
		{"J3", "function of numpy that unpickles", "a.skops", node("FunctionNode", "builtins", "function", `"module_path": "numpy", "function": "load"`), unsafe, "WS-CONFIG-002"},
		{"J3", "function of numpy's tests", "a.skops", node("FunctionNode", "builtins", "function", `"module_path": "numpy.testing", "function": "runstring"`), unsafe, "WS-CONFIG-002"},
		{"J3", "function that computes", "a.skops", node("FunctionNode", "numpy", "ufunc", `"module_path": "numpy", "function": "log"`), review, "WS-CONFIG-001"},
		{"J3", "type by its content", "a.skops", node("TypeNode", "builtins", "type", `"__module__": "subprocess", "__class__": "Popen"`), unsafe, "WS-CONFIG-002"},
		{"J3", "type of numpy", "a.skops", node("TypeNode", "builtins", "type", `"__module__": "numpy", "__class__": "float64"`), review, "WS-CONFIG-001"},
		{"J3", "module of jsonpickle", "a.json", `{"py/module": "antigravity"}`, review, "WS-CONFIG-001"},
	})
}

// Sizes and keys of data formats, and bare numbers.
func TestDataAttacks(t *testing.T) {
	t.Parallel()
	safe, review, unknown, unsafe := scan.Safe, scan.Review, scan.Unknown, scan.Unsafe
	le := binary.LittleEndian
	tensor := func(more string) string { return `{"w":{"dtype":"F32",` + more + `"shape":[1],"data_offsets":[0,4]}}` }
	var single, double, none []byte
	for i := range 512 {
		v := math.Sin(float64(i + 1))
		single = le.AppendUint32(single, math.Float32bits(float32(v)))
		double = le.AppendUint64(double, math.Float64bits(v))
		none = le.AppendUint32(none, uint32(i)*0x9e3779b9)
	}
	ggufType := func(kind uint32) string {
		b := le.AppendUint32([]byte("GGUF"), 3)
		b = le.AppendUint64(le.AppendUint64(b, 1), 0)
		b = append(le.AppendUint64(b, 1), 'w')
		b = le.AppendUint64(le.AppendUint32(b, 1), 4)
		b = le.AppendUint64(le.AppendUint32(b, kind), 0)
		return string(b) + strings.Repeat("\x00", (32-len(b)%32)%32+16)
	}
	meta := func(op string) string {
		return pbField(1, pbField(5, "1.15.0")) + pbField(2, pbField(1, pbField(1, "n"), pbField(2, op))) + pbField(3, pbField(1, "save/Const:0"))
	}
	checkAttacks(t, []attack{
		{"S2", "header of 2^60 bytes", "a.safetensors", string(le.AppendUint64(nil, 1<<60)) + "{}", unsafe, "WS-SAFETENSORS-001"},
		{"S2", "header above the bound", "a.safetensors", string(le.AppendUint64(nil, 200_000_000)) + "{}", unsafe, "WS-SAFETENSORS-001"},
		{"S2", "header that is cut", "a.safetensors", string(le.AppendUint64(nil, 5000)) + `{"w":`, unknown, "WS-SAFETENSORS-002"},
		{"S2", "shape of another size", "a.safetensors", safetensorsOf(`{"w":{"dtype":"F32","shape":[8],"data_offsets":[0,4]}}`, "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S2", "field twice", "a.safetensors", safetensorsOf(tensor(`"dtype":"I32",`), "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S2", "metadata twice", "a.safetensors", safetensorsOf(`{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"},`+tensor("")[1:], "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S2", "bytes behind the value", "a.safetensors", safetensorsOf(tensor("")+"x", "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S2", "zeros behind the value", "a.safetensors", safetensorsOf(tensor("")+"\x00\x00", "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S2", "dtype that is not known", "a.safetensors", safetensorsOf(strings.Replace(tensor(""), "F32", "F99", 1), "1234"), unknown, "WS-SAFETENSORS-002"},

		{"Q2", "tensor type outside every table", "a.gguf", ggufType(999), unsafe, "WS-GGUF-001"},
		{"Q2", "tensor type of a fork", "a.gguf", ggufType(337), unknown, "WS-FORMAT-002"},
		{"Q2", "tensor type", "a.gguf", ggufType(0), safe, ""},

		{"B3", "single numbers", "weights.bin", string(single), safe, "WS-FORMAT-004"},
		{"B3", "double numbers", "model.onnx.data", string(double), safe, "WS-FORMAT-004"},
		{"B3", "no numbers", "weights.bin", string(none), unknown, "WS-FORMAT-002"},
		{"B3", "zeros", "weights.bin", strings.Repeat("\x00", 4096), unknown, "WS-FORMAT-002"},
		{"B3", "few numbers", "weights.bin", string(single[:512]), unknown, "WS-FORMAT-002"},
		{"B3", "numbers and something else", "weights.bin", string(single) + "\x00\x00\xc0\xff", unknown, "WS-FORMAT-002"},
		{"B3", "numbers by the name of a pickle", "weights.pkl", string(single), unsafe, ""},

		{"S3", "graph with its signatures", "model.meta", meta("MatMul"), review, "WS-TF-002"},
		{"S3", "graph with its signatures, writes", "model.meta", meta("WriteFile"), unsafe, "WS-TF-001"},

		{"K2", "objects of a SavedModel", "keras_metadata.pb", pbField(1, varint(2, 0)+pbField(3, "root")+pbField(5, `{"class_name":"Sequential","config":{"layers":[{"class_name":"Dense","config":{}}]}}`)), review, "WS-TF-002"},
		{"K2", "objects of a SavedModel, Lambda", "keras_metadata.pb", pbField(1, varint(2, 0)+pbField(3, "root")+pbField(5, `{"class_name":"Sequential","config":{"layers":[{"class_name":"Lambda","config":{}}]}}`)), unsafe, "WS-KERAS-001"},
		{"K2", "key twice in a configuration", "a.keras", zipOf("metadata.json", "{}", "config.json", `{"module":"keras","class_name":"Sequential","config":{"layers":[],"layers":[]}}`, "model.weights.h5", ""), unsafe, "WS-KERAS-003"},
		{"K2", "function of TensorFlow that writes", "m.json", `{"class_name":"TFOpLambda","config":{"name":"x","function":"io.write_file"}}`, unsafe, "WS-KERAS-001"},
		{"K2", "function of TensorFlow that calls Python", "m.json", `{"class_name":"TFOpLambda","config":{"name":"x","function":"py_function"}}`, unsafe, "WS-KERAS-001"},
		{"K2", "function of TensorFlow that computes", "m.json", `{"class_name":"TFOpLambda","config":{"name":"x","function":"math.add"}}`, review, "WS-KERAS-002"},
		{"K2", "operation of Keras", "m.json", `{"module":"keras.src.ops.numpy","class_name":"Multiply","config":{"name":"x"},"registered_name":"Multiply"}`, safe, ""},
	})
}

// Names that a template puts together, which a renderer without a sandbox
// follows.
func TestMadeNames(t *testing.T) {
	t.Parallel()
	const u = "{% set u = '_x_'.replace('x', '') %}"
	var tests []attack
	for name, in := range map[string]string{
		"in the brackets":    u + "{{ raise_exception[u ~ 'globals' ~ u]['os'].replace('a', 'b') }}",
		"by set":             u + "{% set k = u ~ 'globals' ~ u %}{{ raise_exception[k]['os'] }}",
		"by set of a set":    u + "{% set k = u ~ 'globals' %}{% set m = k %}{{ raise_exception[m] }}",
		"in a loop":          u + "{% for k in [u ~ 'globals' ~ u] %}{{ raise_exception[k] }}{% endfor %}",
		"in a namespace":     "{% set ns = namespace(k='_x_'.replace('x', '')) %}{{ ns[ns.k ~ 'class' ~ ns.k] }}",
		"by a namespace":     u + "{% set ns = namespace() %}{% set ns.k = u ~ 'class' ~ u %}{{ ns[ns.k] }}",
		"by a parameter":     u + "{% macro m(k) %}{{ raise_exception[k] }}{% endmacro %}{{ m(u ~ 'globals' ~ u) }}",
		"by a block":         "{% set k %}_{% endset %}{{ x[k ~ k ~ 'class'] }}",
		"by a block alone":   "{% set k %}{{ u }}class{{ u }}{% endset %}{{ x[k] }}",
		"by a list":          u + "{% set l = [] %}{% set _ = l.append(u ~ 'class' ~ u) %}{% for k in l %}{{ x[k] }}{% endfor %}",
		"by a filter":        "{{ x[('_x_' | replace('x', '')) + 'class'] }}",
		"by a method":        "{{ x['_x_class_x_'.replace('x', '')] }}",
		"by joining":         "{{ x[['_', '_'] | join ~ 'class'] }}",
		"by a special token": "{{ raise_exception[bos_token]['os'] }}",
		"by a token, set":    "{% set k = eos_token %}{{ raise_exception[k] }}",
		"by a condition":     "{{ x['a' if b else c] }}",
	} {
		tests = append(tests, attack{"Q3", name, "chat_template.jinja", in, scan.Review, "WS-TEMPLATE-002"})
	}
	tests = append(tests, attack{"Q3", "capitals", "chat_template.jinja", "{{ x['__CLASS__' | lower] }}", scan.Unsafe, "WS-TEMPLATE-001"})
	for name, in := range map[string]string{
		"texts, numbers, slices": "{{ messages[0]['content'][1:] }}{{ messages[-1].role }}{{ messages[loop.index0 - 1] }}{{ messages[::-1] }}",
		"number by set":          "{% set i = (messages|length - 1) - loop.index0 %}{{ messages[i] }}{% set n = i + 1 %}{{ messages[n] }}",
		"map of roles":           "{% set map = {'user': 'U'} %}{% for m in messages %}{{ map[m.role] }}{{ map[m['role']] }}{% set r = m['role'] %}{{ map[r] }}{% endfor %}",
		"macro that calls itself": "{% macro t(s) %}{% set m = {'string': 'str'} %}{% if m[s.type] is defined %}{{ m[s.type] }}{% else %}{{ 'List[' + t(s.items) + ']' }}{% endif %}{% endmacro %}" +
			"{{ t({'type': x}) }}",
		"word before a bracket":          "{% for m in messages %}{% if not (m.a or m.b) %}{{ m.name + '.call(' }}{% for k, v in m.x | items %}{{ k + '=' + v }}{% endfor %}{{ ')' }}{% endif %}{% endfor %}",
		"list behind a word of its own":  "{% for r in ['a', 'b'] %}{{ r }}{% endfor %}{% if x in ['a'] %}{% endif %}",
		"value of a loop over something": "{% for k, v in t.parameters.properties.items() %}{{ t.parameters.properties[k] }}{% endfor %}",
	} {
		tests = append(tests, attack{"Q3", name, "chat_template.jinja", in, scan.Safe, ""})
	}
	checkAttacks(t, tests)
}
