package convert

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
)

// An assembler for the pickles of hostile archives: each function gives the
// opcodes that make one value.

func pText(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func pNumber(n int64) string {
	return "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func pTuple(items ...string) string { return "(" + strings.Join(items, "") + "t" }
func pDict(items ...string) string  { return "\x80\x02}(" + strings.Join(items, "") + "u." }

func pStorage(key string) string {
	return pTuple(pText("storage"), "ctorch\nFloatStorage\n", pText(key), pText("cpu"), pNumber(4)) + "Q"
}

func pView(storage, offset, size, stride string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n" + pTuple(storage, offset, size, stride, "\x89", "ccollections\nOrderedDict\n)R") + "R"
}

// pPlain is a tensor of four elements, one its shape or strides.
var pPlain, one = pView(pStorage("0"), pNumber(0), pTuple(pNumber(4)), pTuple(pNumber(1))), pTuple(pNumber(1))

func named(name string) string { return pDict(pText(name), pPlain) }
func storedZip(key string) string {
	return pDict(pText("w"), pView(pStorage(key), pNumber(0), one, one))
}
func viewed(offset, size, stride string) string {
	return pDict(pText("w"), pView(pStorage("0"), offset, size, stride))
}

// attack is a hostile file, and what must be said of it.
type attack struct {
	file     string // of the corpus, or:
	pickle   string // in an archive with a storage of 16 bytes
	deflated int    // instead, a deflated storage of so many bytes

	is      error    // what the refusal unwraps to
	text    string   // the first line of the refusal
	refused bool     // refused, whatever is said
	notes   []string // converted, with these findings first
}

// errForbidden stands for *torch.ForbiddenError.
var errForbidden = errors.New("forbidden")

var attacks = []attack{
	// A call of a foreign function.
	{file: "bad/pickle_reduce.pt", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 209"},
	{file: "bad/pickle_inst.pt", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 75"},
	{file: "bad/pickle_obj.pt", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 75"},
	{file: "bad/pickle_newobj_ex.pt", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 74"},
	{file: "bad/pickle_stack_global.pt", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 92"},
	{pickle: "\x80\x04" + pText("nt") + pText("system") + "\x93" + pText("x") + "\x85R.", is: errForbidden, text: "torch: the pickle names what no weights need: nt.system at offset 66"},
	{pickle: "\x80\x02cos\ngetcwd\n0}.", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 48"}, // named and dropped

	// The same, in the arguments of a rebuild.
	{file: "bad/pickle_reduce_nested.pt", is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 108"},
	{pickle: viewed("cos\ngetcwd\n)R", one, one), is: errForbidden, text: "torch: the pickle names what no weights need: os.getcwd at offset 149"},
	{pickle: viewed(pNumber(0), one, pTuple(pText("1"))), is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 208: stride is no integer"},

	// A name that is written otherwise.
	{file: "bad/pickle_global_builtin_alias.pt", is: errForbidden, text: "torch: the pickle names what no weights need: builtins.eval at offset 74"},
	{file: "bad/pickle_global_dotted.pt", is: errForbidden, text: "torch: the pickle names what no weights need: torch._utils.os.getcwd at offset 105"},
	{file: "bad/pickle_global_newline.pt", is: errForbidden, text: `torch: the pickle names what no weights need: "torch\n.x" at offset 91`},

	// Extension registry.
	{file: "bad/pickle_ext.pt", is: torch.ErrRefused, text: "torch: refused: extension: data.pkl at offset 74: extension code 1: only the loading process knows what it is"},
	{pickle: "\x80\x02\x83\x01\x02.", is: torch.ErrRefused, text: "torch: refused: extension: data.pkl at offset 48: extension code 513: only the loading process knows what it is"},
	{pickle: "\x80\x02\x84\x01\x02\x03\x04.", is: torch.ErrRefused, text: "torch: refused: extension: data.pkl at offset 48: extension code 67305985: only the loading process knows what it is"},

	// Bytes after STOP.
	{file: "bad/pickle_second_pickle.pt", is: torch.ErrRefused, text: "torch: refused: bytes-after-stop: data.pkl at offset 205: 16 bytes follow the pickle in its record"},

	// Lengths that lie.
	{file: "bad/pickle_len_unicode8.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: BINUNICODE8 at offset 66: impossible length: declares 4611686018427387904 bytes, 0 left"},
	{file: "bad/pickle_len_long4.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: LONG4 at offset 66: impossible length: declares 2147483647 bytes, 0 left"},
	{file: "bad/pickle_len_long4_neg.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: LONG4 at offset 66: impossible length: -1"},
	{file: "bad/pickle_len_binunicode.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: BINUNICODE at offset 66: impossible length: declares 4294967295 bytes, 0 left"},
	{file: "bad/pickle_len_bytearray8.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: BYTEARRAY8 at offset 66: impossible length: declares 9223372036854775808 bytes, 0 left"},
	{file: "bad/pickle_frame.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: FRAME at offset 66: impossible length: declares 1152921504606846976 bytes, 139 left"},
	{file: "bad/pickle_text_number.pt", is: pickle.ErrLimit, text: "torch: data.pkl: pickle: INT at offset 66: limit reached: a line of more than 4300 bytes"},

	// Memo bomb.
	{file: "bad/pickle_laughs.pt", is: torch.ErrLimit, text: "torch: limit reached: the object has more than 1048576 leaves"},
	{file: "bad/pickle_laughs_key.pt", is: pickle.ErrLimit, text: "torch: data.pkl: pickle: SETITEM at offset 706: limit reached: a key of more than 4096 values"},

	// Nesting, floods and cycles.
	{file: "bad/pickle_deep.pt", is: torch.ErrLimit, text: "torch: limit reached: the object is nested more than 1000 deep"},
	{file: "bad/pickle_deep_tuple.pt", is: torch.ErrLimit, text: "torch: limit reached: the object is nested more than 1000 deep"},
	{file: "bad/pickle_dup_pop.pt", notes: []string{"dup: data.pkl at offset 210: no pickler writes DUP", "dup: data.pkl at offset 211: no pickler writes DUP", "dup: data.pkl at offset 212: no pickler writes DUP"}},
	{file: "bad/pickle_self_tuple.pt", notes: []string{"cycle: x.0.0: the container holds itself"}},
	{file: "../cycle.pt", notes: []string{"cycle: self: the container holds itself"}},

	// Memo index.
	{file: "bad/pickle_memo_index.pt", notes: []string{"memo-sparse: data.pkl at offset 204: memo index 4294967295 after 31 opcodes"}},

	// Broken streams.
	{file: "bad/pickle_odd_setitems.pt", is: pickle.ErrLength, text: "torch: data.pkl: pickle: SETITEMS at offset 74: impossible length: 1 keys and values are an odd number"},
	{file: "bad/pickle_underflow.pt", is: pickle.ErrStack, text: "torch: data.pkl: pickle: TUPLE2 at offset 66: stack underflow"},
	{file: "bad/pickle_mark_missing.pt", is: pickle.ErrMark, text: "torch: data.pkl: pickle: TUPLE at offset 66: no mark on the stack"},
	{file: "bad/pickle_memo_missing.pt", is: pickle.ErrMemo, text: "torch: data.pkl: pickle: BINGET at offset 66: memo entry does not exist: index 7"},
	{file: "bad/pickle_no_stop.pt", is: pickle.ErrTruncated, text: "torch: data.pkl: pickle: at offset 204: stream ends too early: no STOP"},
	{file: "bad/pickle_empty.pt", is: pickle.ErrTruncated, text: "torch: data.pkl: pickle: at offset 64: stream ends too early: no STOP"},
	{file: "bad/pickle_opcode.pt", is: pickle.ErrOpcode, text: "torch: data.pkl: pickle: 0xff at offset 66: unknown opcode: 0xff"},
	{file: "bad/pickle_protocol.pt", is: pickle.ErrProtocol, text: "torch: data.pkl: pickle: PROTO at offset 64: unknown protocol: 9"},

	// Storage keys.
	{file: "bad/pickle_key_traversal.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 171: storage key ../../data.pkl is a path"},
	{file: "bad/pickle_key_missing.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 158: storage 9 has no record"},
	{pickle: storedZip("a/0"), is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 150: storage key a/0 is a path"},
	{pickle: storedZip(`a\0`), is: torch.ErrStorage, text: `torch: broken storage: data.pkl at offset 150: storage key "a\\0" is a path`},
	{pickle: storedZip(".."), is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 149: storage key .. is a path"},
	{pickle: storedZip(""), is: torch.ErrStorage, text: `torch: broken storage: data.pkl at offset 147: storage key "" is a path`},
	{file: "bad/pickle_key_int.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 154: persistent id: the storage key is no text"},
	{file: "bad/pickle_persid_kind.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 118: persistent id: kind module is not a storage"},
	{file: "bad/pickle_persid_short.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 88: persistent id: 1 items, 5 are needed"},
	{file: "bad/pickle_persid_str.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 74: persistent id: it is no tuple"},
	{file: "bad/pickle_storage_foreign.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 157: persistent id: unknown storage class evil.FloatStorage"},
	{file: "bad/pickle_storage_unknown.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 157: persistent id: unknown storage class torch.EvilStorage"},

	// Sizes of storages.
	{file: "bad/pickle_numel_huge.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 166: persistent id: storage 0 of 2305843009213693952 elements overflows"},
	{file: "bad/pickle_numel_more.pt", is: torch.ErrStorage, text: "torch: broken storage: data/0 at offset 512: the record has 24 bytes, the storage needs 28"},
	{file: "bad/pickle_numel_less.pt", notes: []string{"storage-larger: data/0 at offset 512: the record has 24 bytes, the storage only 20"}},
	{file: "bad/pickle_numel_negative.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 161: persistent id: the size of storage 0 is no count"},

	// Views.
	{file: "bad/pickle_offset_negative.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 201: offset -1 is negative"},
	{file: "bad/pickle_offset_out.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 198: the view ends at element 5+1 of a storage of 6"},
	{file: "bad/pickle_stride_negative.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 201: stride -1 is negative"},
	{file: "bad/pickle_stride_overflow.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 210: size and stride of dimension 0 overflow"},
	{file: "bad/pickle_shape_negative.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 208: size -1 is negative"},
	{file: "bad/pickle_shape_overflow.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 216: the product of the sizes overflows"},
	{file: "bad/pickle_shape_bigint.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 224: size of 201 bits overflows"},
	{file: "bad/pickle_rank_mismatch.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 200: 2 sizes and 1 strides"},
	{file: "bad/pickle_rank_huge.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 20194: 5000 dimensions, more than 64"},
	{pickle: viewed(pNumber(0), pTuple(strings.Repeat(pNumber(1), 65)), pTuple(strings.Repeat(pNumber(1), 65))), is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 1492: 65 dimensions, more than 64"},
	{pickle: viewed(pNumber(0), pTuple(pNumber(1<<40), pNumber(1<<40), pNumber(0)), pTuple(pNumber(0), pNumber(0), pNumber(0))), is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 252: the product of the sizes overflows"},
	{file: "bad/pickle_args_short.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 160: 1 arguments, 6 are needed"},
	{file: "bad/pickle_bool_shape.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 197: size is no integer"},
	{file: "bad/pickle_build.pt", is: torch.ErrRefused, text: "torch: refused: data.pkl at offset 221: a state is set on the tensor that torch._utils._rebuild_tensor_v2 makes"},

	// Expand.
	{file: "bad/pickle_expand_bomb.pt", is: torch.ErrTensor, text: "torch: broken tensor: data.pkl at offset 204: the view would take 4398046511104 bytes of a storage of 24"},

	// One storage, two types.
	{file: "bad/pickle_type_twice.pt", is: torch.ErrStorage, text: "torch: broken storage: data.pkl at offset 291: storage 0 is once torch.FloatStorage of 6, once torch.IntStorage of 6"},

	// Duplicate key.
	{file: "good/dup_key.pt", notes: []string{`duplicate-key: data.pkl at offset 210: key "w" is set again`}},

	// Names.
	{file: "bad/pickle_surrogate.pt", notes: []string{`surrogate: data.pkl at offset 209: text with a lone surrogate: "\xed\xa0\x80"`, "surrogate: x: text that is not UTF-8"}},
	{file: "bad/pickle_surrogate_name.pt", is: torch.ErrName, text: `torch: tensor name that cannot be written: "\"\\xed\\xa0\\x80\"": the key is not UTF-8`},
	{pickle: named(""), is: torch.ErrName, text: "torch: tensor name that cannot be written: the key is empty"},
	{pickle: named("__metadata__"), is: torch.ErrName, text: "torch: tensor name that cannot be written: __metadata__: the name is reserved in safetensors"},
	{pickle: named(strings.Repeat("n", 65537)), is: torch.ErrName, text: "torch: tensor name that cannot be written: " + strings.Repeat("n", 200) + "...: the name would have 65537 bytes, more than 65536"},
	{pickle: pDict(pText("a.b"), pPlain, pText("a"), "}"+pText("b")+pPlain+"s"), is: torch.ErrName, text: "torch: tensor name that cannot be written: a.b: a.b would have the same name"},
	{pickle: named("a\x00b"), is: torch.ErrName, text: `torch: tensor name that cannot be written: "a\x00b": the name has a NUL, where some readers would end it`},
	// No byte of other names is changed, and it is said: safetensors and torch
	// both hold them.
	{pickle: named("a\x01b"), notes: []string{"control-name: a\x01b: the name has control characters"}},

	// Two records of one name.
	{file: "bad/zip_dup_pkl.pt", is: torch.ErrContainer, text: "torch: broken container: a/data.pkl at offset 205: two records of one name"},
	{file: "bad/zip_dup_data.pt", is: torch.ErrContainer, text: "torch: broken container: a/data/0 at offset 386: two records of one name"},
	{file: "bad/zip_case.pt", is: torch.ErrContainer, text: "torch: broken container: a/DATA.PKL at offset 386: a record of the same name but for case: a/data.pkl"},

	// Archives that readers see differently.
	{file: "bad/zip_local_name.pt", is: torch.ErrContainer, text: "torch: broken container: a/data/0 at offset 205: the local header calls it a/data/1"},
	{file: "bad/zip_overlap.pt", is: torch.ErrContainer, text: "torch: broken container: a/data.pkl at offset 0: the record after it begins inside it"},
	{file: "bad/zip_size_lie.pt", is: torch.ErrContainer, text: "torch: broken container: a/data/0 at offset 205: CRC or sizes of local header and directory disagree"},
	{file: "bad/zip_two_roots.pt", is: torch.ErrContainer, text: "torch: broken container: a/data.pkl at offset 280: a second top folder beside b"},
	{file: "bad/zip_noroot.pt", is: ErrNoConverter, text: "no converter from zip to safetensors"},
	{file: "bad/zip_backslash.pt", is: torch.ErrContainer, text: `torch: broken container: "a\\data.pkl" at offset 386: the name has a backslash`},
	{file: "bad/zip_slip.pt", is: torch.ErrContainer, text: "torch: broken container: a/../../evil at offset 386: the name is no plain path"},
	{file: "bad/zip_empty.pt", is: ErrNoConverter, text: "no converter from zip to safetensors"},
	{file: "bad/zip_truncated.pt", is: torch.ErrContainer, text: "torch: broken container: the zip archive has no end record: it is cut off"},

	// Polyglots.
	{file: "bad/zip_prefix.pt", refused: true}, // it begins as a pickle, and is taken for one: see below
	{file: "bad/zip_suffix.pt", is: torch.ErrContainer, text: "torch: broken container at offset 551: bytes follow the end record of the zip archive"},
	{file: "bad/zip_comment.pt", notes: []string{"archive-comment:  at offset 551: the archive has a comment of 100 bytes"}},

	// Encryption and methods.
	{file: "bad/zip_encrypted.pt", is: torch.ErrContainer, text: "torch: broken container: a/data.pkl at offset 0: the record is encrypted"},
	{file: "bad/zip_method.pt", is: torch.ErrContainer, text: "torch: broken container: a/data.pkl at offset 0: unknown compression method 99"},

	// CRC.
	{file: "bad/zip_crc.pt", notes: []string{"crc: data.pkl at offset 64: the CRC is 7fb1dad8, the directory says 12345678", "crc: version at offset 384: the CRC is 55679ed1, the directory says 12345678"}},

	// Deflate bomb.
	{file: "bad/zip_bomb_pkl.pt", is: torch.ErrLimit, text: "torch: limit reached: a/data.pkl at offset 0: 16449 bytes inflate to 16777357, more than 1000 times as much"},
	{file: "bad/zip_bomb_data.pt", is: torch.ErrLimit, text: "torch: limit reached: a/data/0 at offset 189: 16310 bytes inflate to 16777216, more than 1000 times as much"},
	{pickle: named("w"), deflated: 100000, notes: []string{"storage-larger: data/0 at offset 241: the record has 100000 bytes, the storage only 16"}}, // the rest is not inflated
	{pickle: named("w"), deflated: 15, is: torch.ErrStorage, text: "torch: broken storage: data/0 at offset 241: the record has 15 bytes, the storage needs 16"},

	// Records of code.
	{file: "bad/zip_extra_code.pt", notes: []string{"unknown-record: code/x.py at offset 448: torch.save writes no such record"}},
}

func (a *attack) content(tb testing.TB) []byte {
	tb.Helper()
	if a.file != "" {
		b, err := os.ReadFile(filepath.Join(checkpoints, "handmade", a.file))
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	method, size := zip.Store, 16
	if a.deflated > 0 {
		method, size = zip.Deflate, a.deflated
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, record := range []struct{ name, content string }{{"data.pkl", a.pickle}, {"data/0", strings.Repeat("\x00", size)}, {"version", "3\n"}} {
		to, err := w.CreateHeader(&zip.FileHeader{Name: "archive/" + record.name, Method: method})
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(to, record.content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func (a *attack) name() string {
	if a.file != "" {
		return a.file
	}
	return fmt.Sprintf("%.100q", a.pickle)
}

// answers says whether an error is the one that is wanted.
func (a *attack) answers(err error) bool {
	if a.refused {
		return err != nil
	}
	if a.is == nil || err == nil {
		return a.is == nil && err == nil
	}
	var forbidden *torch.ForbiddenError
	if a.is == errForbidden && !errors.As(err, &forbidden) || a.is != errForbidden && !errors.Is(err, a.is) {
		return false
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first == a.text
}

func noteText(f torch.Finding) string {
	if f.Offset < 0 {
		return fmt.Sprintf("%s: %s: %s", f.Rule, f.Inner, f.Detail)
	}
	return fmt.Sprintf("%s: %s at offset %d: %s", f.Rule, f.Inner, f.Offset, f.Detail)
}

// TestAttacks has the exact answer to each attack on a checkpoint: a refusal
// of a type and with its text, or a conversion with findings. Every hostile
// file of the corpus is in the table.
func TestAttacks(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for i := range attacks {
		a := &attacks[i]
		listed[a.file] = true
		p, err := File(context.Background(), Input{Path: "x.pt", Blob: blobOf(a.content(t))}, Options{WeightsOnly: true})
		if !a.answers(err) {
			t.Errorf("%s: %T %v\nwant %v: %s", a.name(), err, err, a.is, a.text)
			continue
		}
		if err != nil {
			continue
		}
		for k, want := range a.notes {
			if k >= len(p.Notes) || noteText(p.Notes[k]) != want {
				t.Errorf("%s: findings %v, want %s", a.name(), p.Notes, want)
			}
		}
		proveAll(t, p, whole(t, p))
	}
	files, err := filepath.Glob(checkpoints + "/handmade/bad/*")
	if err != nil || len(files) < 80 {
		t.Fatal(err, len(files))
	}
	for _, f := range files {
		if name := "bad/" + filepath.Base(f); !listed[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// TestAttackNames wants names kept as the pickle has them, beside what they
// mean.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"pickle_global_builtin_alias.pt": "__builtin__ eval, builtins eval",
		"pickle_global_dotted.pt":        "torch _utils.os.getcwd, torch _utils.os.getcwd",
		"pickle_global_newline.pt":       "torch\n x, torch\n x",
	} {
		_, err := planFile(t, filepath.Join(checkpoints, "handmade/bad", file), Options{})
		var forbidden *torch.ForbiddenError
		if !errors.As(err, &forbidden) || len(forbidden.Globals) != 1 {
			t.Errorf("%s: %v", file, err)
			continue
		}
		g := forbidden.Globals[0]
		module, name := g.Mapped()
		if got := fmt.Sprintf("%s %s, %s %s", g.Module, g.Name, module, name); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// TestNULInName: no converter writes a name with a NUL, whose format allows it.
func TestNULInName(t *testing.T) {
	t.Parallel()
	ck := &format.Checkpoint{Tensors: []format.Tensor{{Name: "a\x00b", DType: safetensors.U8, Shape: []uint64{0}, Size: []int64{0}, Stride: []int64{1}, Storage: &format.Storage{}}}}
	_, err := fromCheckpoint(Input{Path: "x", Blob: blobOf(nil)}, "test", ck, nil, Options{})
	var refused *format.UnsupportedError
	if !errors.As(err, &refused) || refused.Where != "a\x00b" {
		t.Errorf("%v", err)
	}
}

// TestPolyglot: a pickle before an archive is no torch file, whoever asks.
func TestPolyglot(t *testing.T) {
	t.Parallel()
	b := corpusFile(t, "handmade/bad/zip_prefix.pt")
	_, err := torch.Open(bytes.NewReader(b), int64(len(b)), torch.Limits{})
	if !errors.Is(err, torch.ErrContainer) && !errors.Is(err, torch.ErrNotTorch) {
		t.Errorf("%v", err)
	}
}

// TestAttackHeaders: no bad safetensors header, and none that two readers see
// differently, goes the other way. The kinds are tested with the reader.
func TestAttackHeaders(t *testing.T) {
	t.Parallel()
	var manifest map[string]struct{ Outcome, Why string }
	readJSON(t, checkpoints+"/handmade/manifest.json", &manifest)
	differ := map[string]bool{
		"st/ok_extra_field.safetensors": true, "st/dup_name.safetensors": true, "st/name_control.safetensors": true, "st/array_info.safetensors": true,
	}
	n := 0
	for name, m := range manifest {
		if !strings.HasPrefix(name, "st/") {
			continue
		}
		n++
		_, err := File(context.Background(), Input{Path: "x.safetensors", Format: "safetensors", Blob: blobOf(corpusFile(t, "handmade/"+name))}, Options{To: "torch-zip"})
		var broken *safetensors.Error
		var lossy *torch.UnsupportedError
		switch {
		case m.Outcome == "reject" || differ[name]:
			if !errors.As(err, &broken) {
				t.Errorf("%s (%s): %v", name, m.Why, err)
			}
		case name == "st/ok_zero_overflow.safetensors":
			if !errors.As(err, &lossy) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil:
			t.Errorf("%s (%s): %v", name, m.Why, err)
		}
	}
	if n < 57 {
		t.Errorf("only %d headers", n)
	}
}

// TestAttackIndexes has the indexes that no set of shards fits.
func TestAttackIndexes(t *testing.T) {
	t.Parallel()
	one, two := archiveOf(t, 5, "a", "b"), archiveOf(t, 5, "c")
	for _, c := range []struct {
		attack, text string
		files        map[string][]byte
	}{
		{"name that no shard has", `shard index: it names the tensor "d" in "model-00002-of-00002.safetensors", which does not hold it`, map[string][]byte{half1: one, half2: two, indexName: indexOf(t, map[string]string{"a": half1, "b": half1, "c": half2, "d": half2})}},
		{"shard that is not there", `the index names shards that are not there: pytorch_model-00002-of-00002.bin`, map[string][]byte{half1: one, indexName: indexOf(t, map[string]string{"a": half1, "b": half1, "c": half2})}},
		{"path that climbs out", `shard index: byte 138: tensor "c": the shard name "../pytorch_model-00002-of-00002.bin" has a separator; shards must lie beside their index`, map[string][]byte{half1: one, half2: two, indexName: indexOf(t, map[string]string{"a": half1, "b": half1, "c": "../" + half2})}},
		{"shard beside the index", `there are shards that the index does not name: pytorch_model-00002-of-00002.bin`, map[string][]byte{half1: one, half2: two, indexName: indexOf(t, map[string]string{"a": half1, "b": half1})}},
	} {
		_, err := planModel(t, &folder{files: c.files}, Options{}, nil)
		var index *IndexError
		if want := indexName + ": the index does not fit its shards: " + c.text; !errors.As(err, &index) || err.Error() != want {
			t.Errorf("%s: %v, want %s", c.attack, err, want)
		}
	}
}
