package scan_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/weightseal/weightseal/scan"
)

func zlibOf(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	must(w.Write([]byte(s)))
	must(0, w.Close())
	return b.String()
}

func zstdOf(s string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

// ggufOf makes a GGUF file of texts: keys and values in turn.
func ggufOf(order binary.AppendByteOrder, kv ...string) string {
	text := func(b []byte, s string) []byte { return append(order.AppendUint64(b, uint64(len(s))), s...) }
	b := order.AppendUint32([]byte("GGUF"), 3)
	b = order.AppendUint64(b, 0)
	b = order.AppendUint64(b, uint64(len(kv)/2))
	for i := 0; i < len(kv); i += 2 {
		b = order.AppendUint32(text(b, kv[i]), 8)
		b = text(b, kv[i+1])
	}
	return string(b)
}

func safetensorsOf(header, data string) string {
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + data
}

// Files that are no pickles by themselves.
func TestFileAttacks(t *testing.T) {
	t.Parallel()
	const (
		evil  = "\x80\x02cos\nsystem\n)R."
		plain = "\x80\x02}" + "X\x01\x00\x00\x00aK\x01s."
		st    = `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`
	)
	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 64)
	le, be := binary.LittleEndian, binary.BigEndian
	safe, conv, review, unknown, unsafe := scan.Safe, scan.Convertible, scan.Review, scan.Unknown, scan.Unsafe
	tests := []attack{
		// Carriers.
		{"T2", "gzip", "a.pkl.gz", gzipOf(evil), unsafe, "WS-PICKLE-002"},
		{"T2", "gzip with bytes behind", "a.pkl.gz", gzipOf(plain) + "hidden", unsafe, ""},
		{"T2", "gzip of two members", "a.pkl.gz", gzipOf(plain) + gzipOf(evil), unsafe, "WS-PICKLE-002"},
		{"C1", "zlib", "a.joblib", zlibOf(evil), unsafe, "WS-PICKLE-002"},
		{"C1", "zlib with bytes behind", "a.joblib", zlibOf(plain) + "hidden", unsafe, "WS-ARCHIVE-002"},
		{"C1", "zlib, plain", "a.joblib", zlibOf(plain), conv, ""},
		{"C1", "zstd", "a.pkl.zst", zstdOf(evil), unsafe, "WS-PICKLE-002"},
		{"C1", "zstd, plain, which nothing converts", "a.pkl.zst", zstdOf(plain), review, "WS-ARCHIVE-010"},
		{"C1", "lz4", "a.joblib.lz4", "\x04\x22\x4d\x18\x64\x40\xa7" + evil, unknown, "WS-ARCHIVE-009"},
		{"C1", "lz4 of before frames", "a.lz4", "\x02\x21\x4c\x18\x10\x00\x00\x00" + evil, unknown, "WS-ARCHIVE-009"},
		{"T2", "7z of a broken start", "a.7z", "7z\xbc\xaf\x27\x1c\x00\x04" + strings.Repeat("\x00", 32), unsafe, "WS-ARCHIVE-007"},
		{"T2", "7z named as a checkpoint", "a.pt", "7z\xbc\xaf\x27\x1c\x00\x04" + strings.Repeat("\x00", 32), unsafe, "WS-NAME-003"},
		{"T2", "tar with a pickle", "a.tar", tarOf("x", evil), unsafe, "WS-PICKLE-002"},
		{"T2", "zip with a plain pickle", "a.zip", zipOf("x.pkl", plain), review, "WS-ARCHIVE-010"},
		{"T2", "tar with a plain pickle", "a.tar", tarOf("x.pkl", plain), review, "WS-ARCHIVE-010"},
		{"T2", "gzip of a tar with a plain pickle", "a.tgz", gzipOf(tarOf("x.pkl", plain)), review, "WS-ARCHIVE-010"},
		{"T2", "NeMo", "a.nemo", tarOf("./model_config.yaml", "x: !!python/object/apply:os.system ['ls']\n", "./model_weights.ckpt", plain), unsafe, "WS-CONFIG-002"},
		{"T2", "NeMo, compressed", "a.nemo", gzipOf(tarOf("./model_config.yaml", "model:\n  _target_: os.system\n")), review, "WS-CONFIG-001"},
		{"R1", "MAR with a handler", "a.mar", zipOf("MAR-INF/MANIFEST.json", `{"model":{"handler":"h.py"}}`, "h.py", "import subprocess\nsubprocess.run('x')\n"), unsafe, "WS-CODE-003"},

		// Names.
		{"E1", "pickle named safetensors", "model.safetensors", plain, unsafe, "WS-NAME-001"},
		{"E1", "safetensors named bin", "pytorch_model.bin", safetensorsOf(st, "1234"), review, "WS-NAME-002"},
		{"E1", "zip named safetensors", "model.safetensors", zipOf("a.txt", "x"), unsafe, ""},
		{"E1", "safetensors named txt", "notes.txt", safetensorsOf(st, "1234"), review, "WS-NAME-002"},
		{"E1", "safetensors named json", "config.json", safetensorsOf(st, "1234"), review, "WS-NAME-002"},
		{"E1", "pickle named png", "a.png", plain, unsafe, "WS-NAME-001"},
		{"E1", "machine code named bin", "a.bin", elf, unsafe, ""},
		{"E1", "machine code with no name", "weights", elf, unsafe, "WS-CODE-001"},
		{"E1", "hidden pickle", ".cache", evil, unsafe, "WS-PICKLE-002"},
		{"E1", "upper-case ending", "A.PKL", evil, unsafe, "WS-PICKLE-002"},

		// Safetensors.
		{"S", "plain", "a.safetensors", safetensorsOf(st, "1234"), safe, ""},
		{"S", "bytes behind", "a.safetensors", safetensorsOf(st, "1234"+evil), unsafe, "WS-SAFETENSORS-001"},
		{"S", "hole", "a.safetensors", safetensorsOf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, "12345678"), unsafe, "WS-SAFETENSORS-001"},
		{"S", "key twice", "a.safetensors", safetensorsOf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S", "overflow", "a.safetensors", safetensorsOf(`{"a":{"dtype":"F64","shape":[4294967296,4294967296,2],"data_offsets":[0,4]}}`, "1234"), unsafe, "WS-SAFETENSORS-001"},
		{"S", "cut", "a.safetensors", safetensorsOf(st, "12"), unknown, ""},
		{"S", "PDF behind", "a.safetensors", safetensorsOf(st, "1234") + "%PDF-1.4", unsafe, ""},

		// npy, npz.
		{"N1", "npz with a pickle named npy", "a.npz", zipOf("a.npy", evil), unsafe, ""},
		{"N1", "npz with an array that is code", "a.npz", zipOf("a.npy", elf), unsafe, ""},

		// GGUF.
		{"Q1", "template", "a.gguf", ggufOf(le, "tokenizer.chat_template", "{{ ''.__class__ }}"), unsafe, "WS-TEMPLATE-001"},
		{"Q1", "named template", "a.gguf", ggufOf(le, "tokenizer.chat_template.rag", "{{ ''.__class__ }}"), unsafe, "WS-TEMPLATE-001"},
		{"Q1", "plain", "a.gguf", ggufOf(le, "general.architecture", "llama"), safe, ""},
		{"Q1", "big-endian", "a.gguf", ggufOf(be, "general.architecture", "llama"), safe, ""},
		{"Q1", "big-endian, template", "a.gguf", ggufOf(be, "tokenizer.chat_template", "{{ ''.__class__ }}"), unsafe, "WS-TEMPLATE-001"},
		{"Q1", "bytes behind", "a.gguf", ggufOf(le, "a", "b") + strings.Repeat("\x00", 64) + evil, unsafe, "WS-GGUF-002"},

		// Templates.
		{"Q1", "pieces beside each other", "chat_template.jinja", `{{ x["__cl" "ass__"] }}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "pieces joined", "chat_template.jinja", `{% set k = "__cl" ~ "ass__" %}{{ x[k] }}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "underscores repeated", "chat_template.jinja", `{{ x['_' * 2 ~ 'class' ~ '_' * 2] }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "two underscores", "chat_template.jinja", `{{ x['__' ~ 'class' ~ '__'] }}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "reversed", "chat_template.jinja", `{{ x['__ssalc__' | reverse] }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "made by format", "chat_template.jinja", `{{ x['%c%cclass%c%c' | format(95, 95, 95, 95)] }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "replaced", "chat_template.jinja", `{{ x['X_X_classX_X_' | replace('X', '')] }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "slice of a text", "chat_template.jinja", `{{ x['ab_'[2:] ~ 'c'] }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "call of a subscript", "chat_template.jinja", `{{ x['run']('ls') }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "filter attr by map", "chat_template.jinja", `{{ [x] | map('attr', k) | list }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "attribute by map", "chat_template.jinja", `{{ [x] | map(attribute='__class__') | list }}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "attribute by map, computed", "chat_template.jinja", `{{ [x] | map(attribute=k) | list }}`, review, "WS-TEMPLATE-002"},
		{"Q1", "keyword with underscores", "chat_template.jinja", `{{ dict(__class__=1) | first }}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "octal escape", "chat_template.jinja", `{{ x['\137\137class\137\137'] }}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "template behind a long one", "chat_template.jinja", strings.Repeat("hello ", 300000) + "{{ x.__class__ }}", unsafe, "WS-TEMPLATE-001"},
		{"Q1", "processor", "processor_config.json", `{"chat_template": "{{ x.__class__ }}"}`, unsafe, "WS-TEMPLATE-001"},
		{"Q1", "ordinary", "chat_template.jinja", "{% for m in messages %}{{ '<|' + m['role'] + '|>' + (m['content'] | trim).split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}", safe, ""},

		// Configuration.
		{"J1", "trust in words", "config.json", `{"trust_remote_code": "yes"}`, review, "WS-CONFIG-001"},
		{"J1", "trust as a number", "config.json", `{"trust_remote_code": 1}`, review, "WS-CONFIG-001"},
		{"J1", "private attribute", "config.json", `{"_attn_implementation_internal": "someone/kernel"}`, review, "WS-CONFIG-001"},
		{"J1", "experts from elsewhere", "config.json", `{"_experts_implementation": "someone/kernel"}`, review, "WS-CONFIG-001"},
		{"J1", "dunder attribute", "config.json", `{"__class__": "x"}`, review, "WS-CONFIG-001"},
		{"J1", "adapter of a path", "adapter_config.json", `{"base_model_name_or_path": "../../other"}`, review, "WS-CONFIG-005"},
		{"J1", "adapter of an address", "adapter_config.json", `{"base_model_name_or_path": "https://example.com/x"}`, review, "WS-CONFIG-005"},
		{"J1", "adapter of a repository", "adapter_config.json", `{"base_model_name_or_path": "org/model"}`, safe, ""},
		{"J1", "adapter with a module", "adapter_config.json", `{"auto_mapping": {"base_model_class": "Net", "parent_library": "my_module"}}`, review, "WS-CONFIG-001"},
		{"J1", "adapter with a module of a package", "adapter_config.json", `{"auto_mapping": {"base_model_class": "load", "parent_library": "joblib"}}`, review, "WS-CONFIG-001"},
		{"J1", "adapter of a known package", "adapter_config.json", `{"auto_mapping": {"base_model_class": "BertModel", "parent_library": "transformers.models.bert.modeling_bert"}}`, safe, ""},
		{"J1", "index, variant", "model.safetensors.index.fp16.json", `{"weight_map": {"a": "/etc/passwd"}}`, unsafe, "WS-CONFIG-006"},
		{"J1", "index, upper case", "MODEL.SAFETENSORS.INDEX.JSON", `{"weight_map": {"a": "../x"}}`, unsafe, "WS-CONFIG-006"},
		{"J1", "index, address", "model.safetensors.index.json", `{"weight_map": {"a": "http://x/y"}}`, unsafe, "WS-CONFIG-006"},
		{"J1", "skops, a function of the system", "schema.json", `{"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": {}}`, unsafe, "WS-CONFIG-002"},
		{"J1", "skops, operator", "schema.json", `{"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode"}`, unsafe, "WS-CONFIG-002"},
		{"J1", "skops, estimator", "schema.json", `{"__class__": "LogisticRegression", "__module__": "sklearn.linear_model._logistic", "__loader__": "ObjectNode"}`, review, "WS-CONFIG-001"},
		{"J1", "MLmodel", "MLmodel", "flavors:\n  python_function:\n    loader_module: evil\n", review, "WS-CONFIG-001"},
		{"J1", "MLmodel in one line", "MLmodel", "flavors: {python_function: {loader_module: evil}}\n", review, "WS-CONFIG-001"},
		{"J1", "target in one line", "a.yaml", "model: {x: {_target_: os.system}}\n", review, "WS-CONFIG-001"},
		{"J1", "escaped target", "a.yaml", "model: {\"_t\\x61rget_\": os.system}\n", review, "WS-CONFIG-001"},
		{"J1", "tag behind a false comment", "a.yaml", "a: [\"x #\", !!python/object/apply:os.system [\"id\"]]\n", unsafe, "WS-CONFIG-002"},
		{"J1", "tag behind a carriage return", "a.yaml", "# a #\ra: !!python/object/apply:os.system [\"id\"]\n", unsafe, "WS-CONFIG-002"},
		{"J1", "tag behind another line end", "a.yaml", "# a #\u2028a: !!python/object/apply:os.system [\"id\"]\n", unsafe, "WS-CONFIG-002"},
		{"J1", "tag behind an anchor", "a.yaml", "a: &x !Evil {}\n", review, "WS-CONFIG-001"},
		{"J1", "tag directive behind a mark", "a.yaml", "\ufeff%TAG !y! tag:yaml.org,2002:py\n---\na: !y!thon/x ['ls']\n", unsafe, "WS-CONFIG-002"},
		{"J1", "object tag in a comment", "a.yaml", "# !!python/object/apply:os.system\na: 1\n", safe, ""},
		{"J1", "requirements from elsewhere", "requirements.txt", "torch\n--extra-index-url http://example.com/simple\n", review, "WS-CONFIG-005"},
		{"J1", "requirements", "requirements.txt", "torch==2.1\nnumpy>=1\n", safe, ""},

		// Documents and others.
		{"R1", "entity behind filling", "a.xml", "<?xml version=\"1.0\"?><!-- " + strings.Repeat("x", 80<<10) + " --><!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>", unsafe, "WS-TEXT-001"},
		{"R1", "PMML", "a.pmml", "<?xml version=\"1.0\"?><PMML version=\"4.4\"></PMML>", review, "WS-TEXT-002"},
		{"R1", "R, text", "a.rds", "A\n3\n262400\n197888\n5\nUTF-8\n5\n", unsafe, "WS-RDS-001"},
		{"R1", "R workspace, text", "a.rda", "RDA3\nA\n3\n262400\n", unsafe, "WS-RDS-001"},
		{"R1", "R, binary", "a.rds", "X\n\x00\x00\x00\x03\x00\x04\x01\x00", unsafe, "WS-RDS-001"},
		{"R1", "R, compressed", "a.rds", gzipOf("X\n\x00\x00\x00\x03\x00\x04\x01\x00"), unsafe, "WS-RDS-001"},
		{"R1", "TFLite", "a.tflite", "\x1c\x00\x00\x00TFL3" + strings.Repeat("\x00", 64), review, "WS-PROGRAM-001"},
		{"R1", "bytecode of the newest Python", "a.pyc", "\x2b\x0e\x0d\x0a" + strings.Repeat("\x00", 16) + "\xe3", unsafe, "WS-CODE-006"},
		{"R1", "notebook", "a.ipynb", `{"cells": [], "nbformat": 4, "metadata": {}}`, review, "WS-CODE-005"},
		{"R1", "Mach-O", "a.dylib", "\xcf\xfa\xed\xfe" + strings.Repeat("\x00", 64), unsafe, "WS-CODE-001"},
		{"R1", "PE", "a.dll", "MZ\x90\x00" + strings.Repeat("\x00", 100), unsafe, "WS-CODE-001"},
		{"R1", "llamafile", "model.gguf", "MZqFpD='\n" + strings.Repeat("x", 100) + ggufOf(le, "a", "b"), unsafe, "WS-CODE-001"},
		{"R1", "archive of Java classes", "a.jar", zipOf("A.class", "\xca\xfe\xba\xbe\x00\x00\x00\x41"), unsafe, "WS-CODE-006"},
	}
	checkAttacks(t, tests)
}
