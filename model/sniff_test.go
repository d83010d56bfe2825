package model_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/model"
)

const testdata = "../testdata"

// expected says what each file of the corpus is; the first pattern that fits
// counts. A file that none fits fails the test.
var expected = []struct {
	pattern string
	format  model.Format
}{
	{"*.oracle.json", model.JSON},
	{"*/manifest.json", model.JSON},
	{"*.index.json", model.JSON},

	{"checkpoints/handmade/st/*", model.Safetensors}, // but for the exceptions of notSafetensors
	{"checkpoints/handmade/bad/zip_empty.pt", model.ZIP},
	{"checkpoints/handmade/bad/zip_noroot.pt", model.ZIP},
	{"checkpoints/handmade/bad/zip_prefix.pt", model.Pickle},
	{"checkpoints/handmade/bad/zip_extra_code.pt", model.TorchScript},
	{"checkpoints/handmade/good/tar.pt", model.TorchTar},
	{"checkpoints/handmade/good/legacy_view.pt", model.TorchLegacy},
	{"checkpoints/handmade/good/python2_legacy.pt", model.TorchLegacy},
	{"checkpoints/handmade/*/*.pt", model.TorchZip},
	{"checkpoints/*_legacy.pt", model.TorchLegacy},
	{"checkpoints/jit_*.pt", model.TorchScript},
	{"checkpoints/*.npy", model.NPY},
	{"checkpoints/*.npz", model.NPZ},
	{"checkpoints/*.h5", model.HDF5},
	{"checkpoints/joblib_bz2.joblib", model.Bzip2},
	{"checkpoints/joblib_gzip.joblib", model.Gzip},
	{"checkpoints/joblib_lzma.joblib", model.LZMA},
	{"checkpoints/joblib_xz.joblib", model.XZ},
	{"checkpoints/joblib_zlib.joblib", model.Zlib},
	{"checkpoints/*.joblib", model.Pickle},
	{"checkpoints/*.pkl", model.Pickle},
	{"checkpoints/*.pdparams", model.Pickle},
	{"checkpoints/*.pt", model.TorchZip},
	{"checkpoints/*.pth", model.TorchZip},
	{"checkpoints/*.ckpt", model.TorchZip},
	{"checkpoints/*.bin", model.TorchZip},
	{"checkpoints/sharded/*.bin", model.TorchZip},
	{"checkpoints/*.msgpack", model.Flax},
	{"checkpoints/*.gguf", model.GGUF},
	{"checkpoints/*.onnx", model.ONNX},

	{"threats/malicious/gadget/*", model.Pickle},
	{"threats/malicious/opcode/*", model.Pickle},
	{"threats/malicious/archive/weights", model.Pickle},
	{"threats/malicious/archive/renamed.*", model.Pickle},
	{"threats/malicious/archive/xgb.model", model.Pickle},
	{"threats/malicious/archive/model.joblib", model.Zlib},
	{"threats/malicious/archive/object.npz", model.NPZ},
	{"threats/malicious/archive/raw_member.npz", model.ZIP},
	{"threats/malicious/torch/legacy_magic_eval.pt", model.Pickle},
	{"threats/malicious/torch/legacy_proto0_bin.bin", model.Pickle},
	{"threats/malicious/torch/legacy_*.pt", model.TorchLegacy},
	{"threats/malicious/torch/zip_pickle_head.pt", model.Pickle},
	{"threats/malicious/torch/dcp_metadata.metadata", model.Pickle},
	{"threats/malicious/torch/tar_weights_only.pt", model.TorchTar},
	{"threats/malicious/torch/gz_pickle.pt", model.Gzip},
	{"threats/malicious/torch/nullifai_7z.pt", model.SevenZip},
	{"threats/malicious/torch/pth_site_file.pth", model.Text},
	{"threats/malicious/torch/*", model.TorchZip},
	{"threats/malicious/other/*/saved_model.pb", model.Unknown},
	{"threats/malicious/other/coreml_custom.mlmodel", model.Unknown},
	{"threats/malicious/other/model.llamafile", model.PE},
	{"threats/malicious/other/model.pmml", model.Text},
	{"threats/malicious/other/program.pte", model.Unknown},
	{"threats/malicious/other/promise.rds", model.Gzip},

	{"threats/benign/torch/legacy.*", model.TorchLegacy},
	{"threats/benign/torch/traced.pt", model.TorchScript},
	{"threats/benign/torch/*", model.TorchZip},
	{"threats/benign/sklearn/*_z.joblib", model.Zlib},
	{"threats/benign/sklearn/*", model.Pickle},
	{"threats/benign/pickle/*", model.Pickle},
	{"threats/benign/bin/sentencepiece.model", model.Protobuf},

	{"threats/*.safetensors", model.Safetensors},
	{"threats/*.gguf", model.GGUF},
	{"threats/*.onnx", model.ONNX},
	{"threats/*.keras", model.Keras},
	{"threats/*.h5", model.HDF5},
	{"threats/*.npy", model.NPY},
	{"threats/*.npz", model.NPZ},
	{"threats/*.zip", model.ZIP},
	{"threats/*.tar", model.TAR},
	{"threats/*.nemo", model.TAR},
	{"threats/*.gz", model.Gzip},
	{"threats/*.bz2", model.Bzip2},
	{"threats/*.xz", model.XZ},
	{"threats/*.json", model.JSON},
	{"threats/*.py", model.Python},
	{"threats/*.md", model.Markdown},
	{"threats/*.txt", model.Text},
}

// notSafetensors are the headers of the corpus that do not even begin like one.
var notSafetensors = map[string]model.Format{
	"empty_file": model.Empty, "seven": model.Unknown, "len_past": model.Unknown, "len_zero": model.Unknown,
	"len_max": model.Unknown, "len_wrap": model.Unknown, "bom": model.Unknown, "json_list": model.Unknown,
	"json": model.Unknown, "utf8": model.Unknown,
}

func want(t *testing.T, p string) model.Format {
	t.Helper()
	if stem, ok := strings.CutPrefix(p, "checkpoints/handmade/st/"); ok {
		if f, ok := notSafetensors[strings.TrimSuffix(stem, ".safetensors")]; ok {
			return f
		}
	}
	for _, e := range expected {
		// A pattern with one star in front of an extension fits any depth.
		head, tail, _ := strings.Cut(e.pattern, "*")
		deep := strings.HasPrefix(e.pattern, "*") || strings.HasPrefix(e.pattern, "threats/*.")
		if deep && strings.HasPrefix(p, head) && strings.HasSuffix(p, tail) {
			return e.format
		}
		if ok, err := path.Match(e.pattern, p); err != nil {
			t.Fatal(err)
		} else if ok {
			return e.format
		}
	}
	t.Fatalf("no expectation for %s", p)
	return ""
}

// TestSniffCorpus looks at every file of the corpus.
func TestSniffCorpus(t *testing.T) {
	t.Parallel()
	m, err := model.Load(t.Context(), "corpus", model.Dir(testdata))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range m.Files {
		if !strings.HasPrefix(f.Path, "checkpoints/") && !strings.HasPrefix(f.Path, "threats/") {
			continue
		}
		n++
		if w := want(t, f.Path); f.Format != w {
			t.Errorf("%s is %s, want %s", f.Path, f.Format, w)
		}
	}
	if n < 400 {
		t.Errorf("%d files of the corpus", n)
	}
}

func sniff(t *testing.T, b string) model.Format {
	t.Helper()
	f, err := model.Sniff(strings.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// archive writes a zip with the named members.
func archive(t testing.TB, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tarball writes a tar with the named members.
func tarball(t testing.TB, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: 3, Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func squeezed(t testing.TB) (gz, zl string) {
	t.Helper()
	var a, b bytes.Buffer
	g, z := gzip.NewWriter(&a), zlib.NewWriter(&b)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z} {
		if _, err := w.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return a.String(), b.String()
}

// payload is the shortest pickle of protocol 0 that calls something.
const payload = "cposix\nsystem\n(S'true'\ntR."

func pad(s string, n int) string { return s + strings.Repeat("\x00", n-len(s)) }

func TestSniff(t *testing.T) {
	t.Parallel()
	gz, zl := squeezed(t)
	longText := strings.Repeat("All work and no play makes a dull model. ", 50_000)
	longJSON := `{"vocab": {` + strings.Repeat(`"word": 12345, `, 100_000) + `"x": 1}}`
	tests := map[string]struct {
		content string
		want    model.Format
	}{
		"empty":                     {"", model.Empty},
		"one byte":                  {"\x80", model.Unknown},
		"text":                      {"hello", model.Text},
		"text, other letters":       {"żółć 模型 😀\r\n\tx", model.Text},
		"text cut in the head":      {strings.Repeat("é", 4096) + "é", model.Text},
		"latin-1":                   {"caf\xe9", model.Unknown},
		"NUL":                       {"hello\x00", model.Unknown},
		"long text":                 {longText, model.Text},
		"long text, binary inside":  {longText[:1<<20] + strings.Repeat("\x00\x01", 1<<19) + longText[:1<<20], model.Unknown},
		"long text, binary end":     {longText + "\x00\x01", model.Unknown},
		"object":                    {" {\"a\": [1, null]}\n", model.JSON},
		"array":                     {"[]", model.JSON},
		"byte order mark":           {"\xef\xbb\xbf{}", model.JSON},
		"number":                    {"12", model.Text},
		"JSON lines":                {"{}\n{}\n", model.Text},
		"broken JSON":               {`{"a": }`, model.Text},
		"Jinja":                     {"{% for m in messages %}{{ m }}{% endfor %}", model.Text},
		"long JSON":                 {longJSON, model.JSON},
		"long JSON, cut":            {longJSON[:len(longJSON)-2], model.Text},
		"notebook":                  {`{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}`, model.Notebook},
		"long notebook":             {`{"cells": [` + strings.Repeat(`{"source": ["x"]},`, 100_000) + `{}], "nbformat": 4}`, model.Notebook},
		"half a notebook":           {`{"cells": []}`, model.JSON},
		"script":                    {"#!/bin/sh\ntrue\n", model.Script},
		"YAML is text here":         {"a: 1\nb: [x]\n", model.Text},
		"formula":                   {"x^2 + y^2 = z^2", model.Text},
		"PNG":                       {"\x89PNG\r\n\x1a\n\x00\x00", model.Image},
		"JPEG":                      {"\xff\xd8\xff\xe0\x00\x10JFIF", model.Image},
		"GIF":                       {"GIF89a\x01\x00\x01\x00\x80\x00\x00", model.Image},
		"WebP":                      {"RIFF\x24\x00\x00\x00WEBPVP8 ", model.Image},
		"ELF":                       {"\x7fELF\x02\x01\x01\x00", model.ELF},
		"PE":                        {pad("MZ", 60) + "\x40\x00\x00\x00PE\x00\x00", model.PE},
		"no PE":                     {"MZ is a model zoo. " + strings.Repeat("Come and see. ", 9), model.Text},
		"Mach-O":                    {"\xcf\xfa\xed\xfe\x07\x00\x00\x01", model.MachO},
		"fat Mach-O":                {"\xca\xfe\xba\xbe\x00\x00\x00\x02", model.MachO},
		"Java class":                {"\xca\xfe\xba\xbe\x00\x00\x00\x41", model.Unknown},
		"gzip":                      {gz, model.Gzip},
		"zlib":                      {zl, model.Zlib},
		"zstd":                      {"\x28\xb5\x2f\xfd\x04\x00", model.Zstd},
		"safetensors":               {"\x02\x00\x00\x00\x00\x00\x00\x00{}", model.Safetensors},
		"safetensors cut off":       {"\x00\x10\x00\x00\x00\x00\x00\x00{\"a\":{\"dty", model.Safetensors},
		"safetensors like MZ":       {"MZ\x00\x00\x00\x00\x00\x00{\"a\":{" + strings.Repeat(" ", 90), model.Safetensors},
		"GGUF":                      {"GGUF\x03\x00\x00\x00", model.GGUF},
		"HDF5 behind a user block":  {pad("text", 1024) + "\x89HDF\r\n\x1a\n" + pad("", 99), model.HDF5},
		"tar":                       {tarball(t, "a", "b"), model.TAR},
		"torch tar":                 {tarball(t, "sys_info", "pickle", "tensors", "storages"), model.TorchTar},
		"torch tar, other order":    {tarball(t, "./storages", "./pickle", "./tensors"), model.TorchTar},
		"zip":                       {archive(t, "a.txt"), model.ZIP},
		"torch":                     {archive(t, "r/data.pkl", "r/data/0", "r/version"), model.TorchZip},
		"torch deeper":              {archive(t, "x/r/data.pkl"), model.ZIP},
		"TorchScript":               {archive(t, "r/code/x.py", "r/data.pkl"), model.TorchScript},
		"TorchScript by constants":  {archive(t, "r/data.pkl", "r/constants.pkl"), model.TorchScript},
		"code of another root":      {archive(t, "r/data.pkl", "s/code/x.py"), model.TorchZip},
		"Keras":                     {archive(t, "config.json", "metadata.json", "model.weights.h5"), model.Keras},
		"half of Keras":             {archive(t, "config.json"), model.ZIP},
		"arrays":                    {archive(t, "a.npy", "b/c.npy"), model.NPZ},
		"arrays and more":           {archive(t, "a.npy", "b.pkl"), model.ZIP},
		"zip without directory":     {archive(t, "r/data.pkl")[:60], model.TorchZip},
		"zip behind text":           {"hello\n" + archive(t, "r/data.pkl"), model.TorchZip},
		"zip behind an image":       {"\xff\xd8\xff\xe0" + archive(t, "a"), model.ZIP},
		"zip behind bytes":          {"\x00\x01\x02" + archive(t, "r/data.pkl"), model.TorchZip},
		"zip and more":              {"hello\n" + archive(t, "r/data.pkl") + "bye", model.TorchZip},
		"zip behind a script":       {"#!/bin/sh\n" + archive(t, "r/data.pkl"), model.TorchZip},
		"zip behind a pickle":       {payload + archive(t, "r/data.pkl"), model.Pickle},
		"zip behind a quiet pickle": {"\x80\x02N." + archive(t, "r/data.pkl"), model.Pickle},
		"zip in a tar":              {tarball(t, "a") + archive(t, "b"), model.TAR},

		"legacy, protocol 2":          {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", model.TorchLegacy},
		"legacy, protocol 0":          {"L119547037146038801333356L\n.", model.TorchLegacy},
		"legacy, old protocol 0":      {"I119547037146038801333356\np0\n.", model.TorchLegacy},
		"legacy, LONG4":               {"\x80\x02\x8b\x0a\x00\x00\x00\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", model.TorchLegacy},
		"legacy, frame and memo":      {"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x94.", model.TorchLegacy},
		"legacy, another number":      {"\x80\x02\x8a\x0a\x6d\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", model.Pickle},
		"pickle of protocol 9":        {"\x80\x09N.", model.Unknown},
		"protocol, then nothing":      {"\x80\x02", model.Unknown},
		"pickle in a tar name":        {tarball(t, "cposix\nsystem\n(S'true'\ntR."), model.Pickle},
		"pickle in a GIF":             {"GIF89a\x01\x000" + "0cposix\nsystem\n(S'true'\ntR.", model.Pickle},
		"pickle behind a GIF's frame": {"GIF89a\x01\x00\x01\x00\x80\x00\x00" + payload, model.Image},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := sniff(t, tt.content); got != tt.want {
				t.Errorf("%.40q is %s, want %s", tt.content, got, tt.want)
			}
		})
	}
}

// TestHiddenPickles: text that an unpickler would run is a pickle.
func TestHiddenPickles(t *testing.T) {
	t.Parallel()
	const noop = "N0"
	for name, content := range map[string]string{
		"plain":                    payload,
		"global":                   "cos\nsystem\n(S'id'\ntR.",
		"without STOP":             "cos\nsystem\n(S'id'\ntR",
		"then garbage":             "cos\nsystem\n(S'id'\ntR!!! and text",
		"INST":                     "(S'id'\nios\nsystem\n.",
		"OBJ":                      "(cos\nsystem\nS'id'\no.",
		"Unicode":                  "cos\nsystem\n(Vid\ntR.",
		"memo":                     "cos\nsystem\np0\n0g0\n(S'id'\ntp1\nRp2\n.",
		"BUILD":                    "cos\nenviron\n(dS'x'\nS'y'\nsb.",
		"behind a string":          "V" + strings.Repeat("Once upon a time. ", 10_000) + "\n0" + payload,
		"behind a quoted string":   "S'" + strings.Repeat("Once upon a time. ", 10_000) + "'\n0" + payload,
		"behind a very long line":  "V" + strings.Repeat("x", 20<<20) + "\n0" + payload,
		"behind many opcodes":      strings.Repeat(noop, 100_000) + payload,
		"behind another pickle":    "N." + payload,
		"behind many pickles":      strings.Repeat("I1\n.", 3000) + payload,
		"behind white space":       "\n \t\r\n" + payload,
		"number with underscores":  "L1_000L\n0" + payload,
		"number, NUL":              "I1\x00 not a digit\n0" + payload,
		"import only":              "cantigravity\nfly\n.",
		"import only, then text":   "cantigravity\nfly\n. and so on",
		"dict of protocol 0":       "(dp0\nS'a'\np1\nI1\ns.",
		"dict and a newline":       "(dp0\nS'a'\np1\nI1\ns.\n",
		"protocol 1, no PROTO":     "}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
		"STACK_GLOBAL, no PROTO":   "\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R.",
		"JSON-like ending":         payload + "\n{\"a\": 1}",
		"Python source afterwards": "cos\nsystem\n(S'id'\ntR.\nimport os\n",
	} {
		if f := sniff(t, content); f != model.Pickle {
			t.Errorf("%s: %.40q is %s", name, content, f)
		}
	}
}

// TestNoPickles: prose, tables and source code that begin with opcodes.
func TestNoPickles(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"N.B. this is a note", "I1 is an instruction", "I1\nI2\n", "(see below).", "(a) first\n(b) second\n", "]", "}", "(", ")", ".", "0.5\n0.25\n", "1. One\n2. Two\n",
		"cat\ndog\nmouse\n", "cat\ndog\nNoun\n", "click-linter\nbin\n.idea/\n", "coverage.html\ncoverage.txt\ncoverage.out\n.DS_Store\n.history/\n", "class Model:\n    pass\n", "config:\n  a: 1\n", "c posix\ne r\n", "V1.0 of the model\nMore\n", "Version 1\n",
		"import os\nos.system('x')\n", "from x import y\n", "def f():\n  return 1\n", "S'x", "S\n", "Put it there.", "P\n.x", "}\n", "])", "(1)", "(in-package\n", "(defun x\n  y)\n",
		"# Title\n\ncos\nsystem\n(S'id'\ntR.\n", "The quick brown fox", "Go to https://example.com", "US.\nUK.\n", "a.b.c", "e.g. this", "d.o.b.", "i.e.\nthat is\nmore\n",
		"#version: 0.2\nĠ t\nĠ a\n", "tie\n", "[PAD]\n[UNK]\n", "<unk>\n", "!\n\"\n#\n", "0\n1\n2\n", "F1 score\n", "F1\n0.5\n", "L2\nx\n", "K.\n", "NNP\nVB\nNN\n",
		"---\nlicense: mit\n---\n# Model\n", "MIT License\n\nCopyright\n", "Apache License\n", "pipeline:\n", "g++\n", "people\n", "u.s.\n", "bert\nbase\n", "R\n",
		"I think.\n", "I.\n", "N", "N\n", "Q.", "X\n", "T.\n", "G.\n", "J\n", "M.Sc.\n",
	} {
		if f := sniff(t, content); f != model.Text {
			t.Errorf("%.40q is %s", content, f)
		}
	}
}

// TestPickledInSafetensors: a valid safetensors file that a line opcode carries
// into its data. Sniff names it after its header; Pickled sees it.
func TestPickledInSafetensors(t *testing.T) {
	t.Parallel()
	header := `{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`
	data := "\n0" + payload
	header = fmt.Sprintf(header, len(data), len(data))
	header += strings.Repeat(" ", 'V'-len(header))
	file := string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + data
	if f := sniff(t, file); f != model.Safetensors {
		t.Errorf("it is %s", f)
	}
	if yes, err := model.Pickled(strings.NewReader(file), int64(len(file))); !yes || err != nil {
		t.Errorf("Pickled gives %v, %v", yes, err)
	}
	plain := strings.Replace(file, payload, strings.Repeat("x", len(payload)), 1)
	if yes, err := model.Pickled(strings.NewReader(plain), int64(len(plain))); yes || err != nil {
		t.Errorf("without payload: %v, %v", yes, err)
	}
}

// TestProtobuf: two messages are told by structure, others are not.
func TestProtobuf(t *testing.T) {
	t.Parallel()
	onnx, err := os.ReadFile(filepath.Join(testdata, "threats/benign/onnx/add.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	pieces, err := os.ReadFile(filepath.Join(testdata, "threats/benign/bin/sentencepiece.model"))
	if err != nil {
		t.Fatal(err)
	}
	trainer := "\x12\x04\x18\x02\x20\x03"
	tests := map[string]struct {
		content string
		want    model.Format
	}{
		"ONNX":                    {string(onnx), model.ONNX},
		"ONNX cut off":            {string(onnx[:len(onnx)-1]), model.Unknown},
		"ONNX and a byte":         {string(onnx) + "\x00", model.Unknown},
		"no graph":                {"\x08\x08\x12\x01\x00", model.Unknown},
		"version 0":               {"\x08\x00" + string(onnx[2:]), model.Unknown},
		"unknown field":           {string(onnx) + "\x7a\x01a", model.Unknown},
		"pieces":                  {string(pieces), model.Protobuf},
		"pieces and trainer":      {string(pieces) + trainer, model.Protobuf},
		"many pieces":             {strings.Repeat(string(pieces), 20_000) + trainer, model.Protobuf},
		"pieces and a byte":       {string(pieces) + "\x00", model.Unknown},
		"first piece is not text": {"\x0a\x04\x0a\x02\xff\xfe", model.Unknown},
		"endless number":          {"\x08" + strings.Repeat("\xff", 20), model.Unknown},
	}
	for name, tt := range tests {
		if got := sniff(t, tt.content); got != tt.want {
			t.Errorf("%s is %s, want %s", name, got, tt.want)
		}
	}
}

// countingReader counts the bytes read.
type countingReader struct {
	*bytes.Reader
	n int
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	r.n += len(p)
	return r.Reader.ReadAt(p, off)
}

// TestSniffReadsLittle: a large file costs no more than a few kilobytes and
// what a zip reader would look at.
func TestSniffReadsLittle(t *testing.T) {
	t.Parallel()
	noise := bytes.Repeat([]byte{0xfa, 0x01, 0x9c}, 20<<20/3)
	for name, head := range map[string]string{
		"unknown": "\xfa\x01", "safetensors": "\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "torch legacy": "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
		"gguf": "GGUF", "tar": tarball(t, "a"),
	} {
		b := append([]byte(head), noise...)
		r := &countingReader{Reader: bytes.NewReader(b)}
		if _, err := model.Sniff(r, int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if r.n > 100_000 {
			t.Errorf("%s: %d bytes read", name, r.n)
		}
	}
	text := bytes.Repeat([]byte("A text of many lines.\n"), 1<<20)
	r := &countingReader{Reader: bytes.NewReader(text)}
	if f, err := model.Sniff(r, int64(len(text))); err != nil || f != model.Text || r.n > 200_000 {
		t.Errorf("text: %s, %v, %d bytes read", f, err, r.n)
	}
}

type failingReader struct{ after int64 }

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.after {
		return 0, fs.ErrPermission
	}
	return copy(p, bytes.Repeat([]byte("V"), len(p))), nil
}

// TestSniffFailure: what cannot be read is not Unknown.
func TestSniffFailure(t *testing.T) {
	t.Parallel()
	for _, after := range []int64{0, 8192, 40_000} {
		if f, err := model.Sniff(failingReader{after}, 1<<20); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("after %d: %s, %v", after, f, err)
		}
	}
}

func TestDeclaredFormat(t *testing.T) {
	t.Parallel()
	tests := map[string]model.Format{
		"model.safetensors": model.Safetensors, "a/b/pytorch_model.bin": model.TorchZip, "x.PT": model.TorchZip, "last.ckpt": model.TorchZip,
		"m.pkl": model.Pickle, "m.joblib": model.Pickle, "a.npy": model.NPY, "a.npz": model.NPZ, "q4.gguf": model.GGUF, "flax_model.msgpack": model.Flax, "m.onnx": model.ONNX,
		"m.h5": model.HDF5, "m.weights.h5": model.HDF5, "m.keras": model.Keras, "config.json": model.JSON, "a.ipynb": model.Notebook,
		"README.md": model.Markdown, "README": model.Text, "LICENSE": model.Text, "license-mit": model.Text, "c.yaml": model.YAML, "m.py": model.Python,
		"run.sh": model.Script, "vocab.txt": model.Text, "chat_template.jinja": model.Text, "tokenizer.model": model.Protobuf, "logo.png": model.Image,
		"m.tar.gz": model.Gzip, "x.so": model.ELF, "x.dll": model.PE, "nothing": model.Unknown, "m.xyz": model.Unknown, "": model.Unknown, ".gitattributes": model.Text,
	}
	for p, want := range tests {
		if got := model.DeclaredFormat(p); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

// TestRoles loads a model with one file of each kind.
func TestRoles(t *testing.T) {
	t.Parallel()
	gz, _ := squeezed(t)
	st := "\x02\x00\x00\x00\x00\x00\x00\x00{}"
	torch := archive(t, "r/data.pkl", "r/version")
	pieces := "\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
	files := map[string]struct{ content, want string }{
		"model.safetensors":                  {st, "safetensors weight"},
		"pytorch_model.bin":                  {torch, "torch-zip weight"},
		"notes.txt":                          {payload, "pickle weight"},
		"model.joblib.gz":                    {gz, "gzip other"},
		"model.joblib":                       {gz, "gzip weight"},
		"flax_model.pt":                      {"\xff\xff\x00", "unknown weight"},
		"blob":                               {"\xff\xff\x00", "unknown other"},
		"lfs.safetensors":                    {"version https://git-lfs.github.com/spec/v1\n", "text other"},
		"config.json":                        {"{}", "json config"},
		"generation_config.json":             {"{}", "json config"},
		"preprocessor_config.json":           {"{}", "json config"},
		"model.safetensors.index.json":       {"{}", "json config"},
		"adapter/adapter_config.json":        {"{}", "json config"},
		"model_index.json":                   {"{}", "json config"},
		"hparams.yaml":                       {"a: 1\n", "yaml config"},
		"eval_results.json":                  {"{}", "json other"},
		"trainer_state.json":                 {"{}", "json other"},
		"tokenizer.json":                     {"{}", "json tokenizer"},
		"tokenizer_config.json":              {"{}", "json tokenizer"},
		"vocab.json":                         {"{}", "json tokenizer"},
		"vocab.txt":                          {"[PAD]\n[UNK]\n", "text tokenizer"},
		"merges.txt":                         {"#version\n", "text tokenizer"},
		"special_tokens_map.json":            {"{}", "json tokenizer"},
		"spiece.model":                       {pieces, "protobuf tokenizer"},
		"chat_template.jinja":                {"{{ x }}", "text tokenizer"},
		"README.md":                          {"# Model\n", "markdown doc"},
		"LICENSE":                            {"MIT\n", "text doc"},
		"docs/USAGE.md":                      {"use\n", "markdown doc"},
		"modeling_x.py":                      {"import os\n", "python code"},
		"run.sh":                             {"true\n", "text code"},
		"run":                                {"#!/bin/sh\n", "script code"},
		"demo.ipynb":                         {`{"cells":[],"nbformat":4}`, "notebook code"},
		"lib.so":                             {"\x7fELF\x02\x01", "elf code"},
		"logo.png":                           {"\x89PNG\r\n\x1a\n", "image other"},
		".gitattributes":                     {"*.bin lfs\n", "text other"},
		"optimizer.pt":                       {torch, "torch-zip weight training"},
		"optimizer.bin":                      {torch, "torch-zip weight training"},
		"checkpoint-5/optimizer_1.bin":       {torch, "torch-zip weight training"},
		"scheduler.pt":                       {torch, "torch-zip weight training"},
		"scaler.pt":                          {torch, "torch-zip weight training"},
		"rng_state.pth":                      {torch, "torch-zip weight training"},
		"rng_state_3.pth":                    {torch, "torch-zip weight training"},
		"random_states_0.pkl":                {payload, "pickle weight training"},
		"training_args.bin":                  {torch, "torch-zip weight training"},
		"global_step500/mp_rank_00.pt":       {torch, "torch-zip weight training"},
		"zero_pp_rank_0_optim_states.pt":     {torch, "torch-zip weight training"},
		"scheduler/scheduler_config.json":    {"{}", "json config"},
		"scaler_model.safetensors":           {st, "safetensors weight"},
		"optimizer_prompt_model.safetensors": {st, "safetensors weight"},
		"empty.txt":                          {"", "empty other"},
	}
	root := t.TempDir()
	content := map[string][]byte{}
	for name, f := range files {
		content[name] = []byte(f.content)
	}
	write(t, root, content)
	m, err := model.Load(t.Context(), "roles", model.Dir(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Files) != len(files) {
		t.Errorf("%d files, want %d", len(m.Files), len(files))
	}
	for _, f := range m.Files {
		got := fmt.Sprintf("%s %s", f.Format, f.Role)
		if f.Training {
			got += " training"
		}
		if got != files[f.Path].want {
			t.Errorf("%s: %s, want %s", f.Path, got, files[f.Path].want)
		}
		if f.Declared != model.DeclaredFormat(f.Path) {
			t.Errorf("%s: declared %s", f.Path, f.Declared)
		}
	}
}

// FuzzSniff: no panic, no error from memory, and the same answer twice.
func FuzzSniff(f *testing.F) {
	const most = 20_000
	err := filepath.WalkDir(testdata, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, ".oracle.json") {
			return err
		}
		b, err := os.ReadFile(p)
		if err == nil && len(b) <= most {
			f.Add(b)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(archive(f, "a.npy")))
	f.Add([]byte(tarball(f, "pickle", "storages", "tensors")))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := model.Sniff(bytes.NewReader(b), int64(len(b)))
		if err != nil || first == "" {
			t.Fatalf("%q: %v", first, err)
		}
		if again, _ := model.Sniff(bytes.NewReader(b), int64(len(b))); again != first {
			t.Fatalf("%s, then %s", first, again)
		}
		if _, err := model.Pickled(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkSniffText(b *testing.B) {
	text := strings.Repeat("A text of many lines.\n", 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := model.Sniff(strings.NewReader(text), int64(len(text))); err != nil {
			b.Fatal(err)
		}
	}
}
