package pickle_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weightseal/weightseal/format/pickle"
)

func load(data string) (*pickle.Stream, error) {
	return pickle.Load(strings.NewReader(data), 0, int64(len(data)), pickle.Limits{})
}

// show renders a value without following cycles: the tests' values are trees.
func show(v pickle.Value) string {
	list := func(vs []pickle.Value) string {
		var s []string
		for _, v := range vs {
			s = append(s, show(v))
		}
		return strings.Join(s, " ")
	}
	items := func(is []pickle.Item) string {
		var s []string
		for _, i := range is {
			s = append(s, show(i.Key)+":"+show(i.Value))
		}
		return strings.Join(s, " ")
	}
	switch v := v.(type) {
	case pickle.None:
		return "None"
	case pickle.Bool:
		if v {
			return "True"
		}
		return "False"
	case pickle.Int:
		return "i" + strconv.FormatInt(int64(v), 10)
	case pickle.BigInt:
		return "I" + v.String()
	case pickle.Float:
		if math.IsNaN(float64(v)) {
			return "fnan"
		}
		return "f" + strconv.FormatFloat(float64(v), 'f', -1, 64)
	case pickle.String:
		if !v.Valid {
			return "bad" + strconv.Quote(v.S)
		}
		return strconv.Quote(v.S)
	case *pickle.Bytes:
		if v.Data == nil && v.Len > 0 {
			return "ref@" + strconv.FormatInt(v.Offset, 10) + "+" + strconv.FormatInt(v.Len, 10)
		}
		return "b" + strconv.Quote(string(v.Data))
	case *pickle.List:
		return "[" + list(v.Items) + "]"
	case *pickle.Tuple:
		return "(" + list(v.Items) + ")"
	case *pickle.Set:
		if v.Frozen {
			return "frozen{" + list(v.Items) + "}"
		}
		return "{" + list(v.Items) + "}"
	case *pickle.Dict:
		return "{" + items(v.Items) + "}"
	case *pickle.Global:
		m, n := v.Mapped()
		return m + "." + n
	case *pickle.Call:
		s := show(v.Callee) + show(v.Args)
		if v.Kwargs != nil {
			s += "**" + show(v.Kwargs)
		}
		if v.Items != nil {
			s += "{" + items(v.Items) + "}"
		}
		if v.Appends != nil {
			s += "[" + list(v.Appends) + "]"
		}
		for _, st := range v.States {
			s += "<-" + show(st.Value)
		}
		return s
	case *pickle.Persistent:
		return "pid" + show(v.ID)
	case *pickle.Extension:
		return "ext" + strconv.FormatInt(v.Code, 10)
	case *pickle.Buffer:
		return "buffer"
	}
	return "?"
}

// What CPython's C unpickler makes of each stream was read off CPython 3.11.
func TestLoad(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	tests := []struct{ name, in, want, rules string }{
		{"none", "N.", "None", ""},
		{"int", "I-12\n.", "i-12", ""},
		{"bool text", "(I01\nI00\nt.", "(True False)", ""},
		{"int hex", "I0x1f\n.", "i31", "text-number"},
		{"int octal", "I010\n.", "i8", "text-number"},
		{"int octal with space", "I 010\n.", "i8", "text-number"},
		{"int sign", "I+1\n.", "True", "text-number"},
		{"int underscore", "I1_000\n.", "i1000", "text-number"},
		{"int beyond 64 bits", "I36893488147419103232\n.", "I36893488147419103232", ""},
		{"long", "L-5L\n.", "i-5", ""},
		{"long hex", "L0x10L\n.", "i16", "text-number"},
		{"float", "(F1.5\nFnan\nF-inf\nF1e5\nt.", "(f1.5 fnan f-Inf f100000)", ""},
		{"binary ints", "(K\xffM\x00\x01J\xff\xff\xff\xfft.", "(i255 i256 i-1)", ""},
		{"long1", "(\x8a\x00\x8a\x01\xff\x8a\x02\xff\x00\x8b\x01\x00\x00\x00\x05t.", "(i0 i-1 i255 i5)", ""},
		{"long1 big", "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", "I18446744073709551616", ""},
		{"binfloat", "G?\xf8\x00\x00\x00\x00\x00\x00.", "f1.5", ""},
		{"string", "(S'a\\n\\x41\\101\\q'\nS\"b\"\nT\x02\x00\x00\x00xyU\x01zt.", `(b"a\nAA\\q" b"b" b"xy" b"z")`, ""},
		{"unicode", "Va\\u00e9\\\\u0041\xe9\\U0001f600\n.", `"aé\\\\u0041é😀"`, ""},
		{"unicode surrogate", "V\\ud800\n.", `bad"\xed\xa0\x80"`, "surrogate"},
		{"binunicode", "(X\x02\x00\x00\x00\xc3\xa9\x8c\x01a\x8d\x01\x00\x00\x00\x00\x00\x00\x00bt.", `("é" "a" "b")`, ""},
		{"binunicode surrogate", "X\x03\x00\x00\x00\xed\xa0\x80.", `bad"\xed\xa0\x80"`, "surrogate"},
		{"bytes", "(B\x01\x00\x00\x00aC\x01b\x8e\x01\x00\x00\x00\x00\x00\x00\x00c\x96\x01\x00\x00\x00\x00\x00\x00\x00dt.", `(b"a" b"b" b"c" b"d")`, ""},
		{"bytes stay a reference", "B\x88\x13\x00\x00" + long + ".", "ref@5+5000", ""},
		{"list", "(K\x01K\x02l.", "[i1 i2]", ""},
		{"appends", "](K\x01K\x02eK\x03a.", "[i1 i2 i3]", ""},
		{"dict", "(K\x01K\x02d.", "{i1:i2}", ""},
		{"setitems", "}(K\x01K\x02K\x03K\x04uK\x05K\x06s.", "{i1:i2 i3:i4 i5:i6}", ""},
		{"set", "\x8f(K\x01K\x02\x90.", "{i1 i2}", ""},
		{"frozenset", "(K\x01\x91.", "frozen{i1}", ""},
		{"tuples", "(K\x01\x85K\x02K\x03\x86K\x04K\x05K\x06\x87)t.", "((i1) (i2 i3) (i4 i5 i6) ())", ""},
		{"set item of list", "](K\x01K\x02eK\x01K\x07s.", "[i1 i7]", "setitem-on-list"},
		{"pop", "(K\x01K\x020t.", "(i1)", ""},
		{"pop takes a mark", "K\x01(0.", "i1", ""},
		{"pop_mark", "K\x01(K\x02K\x031.", "i1", ""},
		{"dup", "K\x012\x86.", "(i1 i1)", "dup"},
		{"memo", "(K\x01p0\nq\x01r\x02\x00\x00\x00\x94g0\nh\x01j\x02\x00\x00\x00h\x03t.", "(i1 i1 i1 i1 i1)", ""},
		{"memo of cPickle", "(K\x01q\x01K\x02q\x02h\x01t.", "(i1 i2 i1)", ""},
		{"memo far", "K\x01r\xff\xff\xff\xff0j\xff\xff\xff\xff.", "i1", "memo-sparse"},
		{"memo again", "K\x01q\x00q\x00.", "i1", "put-overwrites"},
		{"global", "\x80\x02c__builtin__\nxrange\n.", "builtins.range", ""},
		{"global of a renamed module", "cQueue\nQueue\n.", "queue.Queue", ""},
		{"global, protocol 3", "\x80\x03cQueue\nQueue\n.", "Queue.Queue", ""},
		{"stack_global", "\x80\x04\x8c\x01a\x8c\x01b\x93.", "a.b", ""},
		{"stack_global is mapped below 3", "U\x05QueueU\x05Queue\x93.", "queue.Queue", ""},
		{"stack_global of a computed name", "\x80\x04ca\nb\n)R\x8c\x01b\x93.", "<computed>.b", "computed-name"},
		{"name with a newline", "\x80\x04\x8c\x02a\n\x8c\x01b\x93.", "a\n.b", "odd-name"},
		{"reduce", "ca\nb\n(K\x01tR.", "a.b(i1)", ""},
		{"newobj", "ca\nb\n)\x81.", "a.b()", ""},
		{"newobj_ex", "ca\nb\n)}\x92.", "a.b()**{}", ""},
		{"inst", "(K\x01ia\nb\n.", "a.b(i1)", ""},
		{"obj", "(ca\nb\nK\x01o.", "a.b(i1)", ""},
		{"build", "ca\nb\n)R}b.", "a.b()<-{}", ""},
		{"call takes items", "ca\nb\n)RK\x01K\x02sK\x03a.", "a.b(){i1:i2}[i3]", ""},
		{"build on a global", "ca\nb\n}b.", "a.b", "build-on-global"},
		{"build on a list", "]Nb.", "[]", "build-on-plain"},
		{"persid", "Pab\n.", `pid"ab"`, ""},
		{"binpersid", "K\x01Q.", "pidi1", ""},
		{"extension", "\x82\x01.", "ext1", "extension"},
		{"buffer", "\x97\x98.", "buffer", "out-of-band"},
		{"duplicate key", "}(K\x01K\x02K\x01K\x03u.", "{i1:i2 i1:i3}", "duplicate-key"},
		{"equal keys", "}(K\x01K\x02\x88K\x03u.", "{i1:i2 True:i3}", "equal-keys"},
		{"duplicate name", "}(U\x01aK\x02X\x01\x00\x00\x00aK\x03u.", `{b"a":i2 "a":i3}`, "duplicate-key"},
		{"duplicate tuple", "}(K\x01K\x02\x86NK\x01K\x02\x86Nu.", "{(i1 i2):None (i1 i2):None}", "duplicate-key"},
		{"other tuple", "}(K\x01K\x02\x86NK\x02K\x01\x86Nu.", "{(i1 i2):None (i2 i1):None}", ""},
		{"frame", "\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00K\x01.", "i1", ""},
		{"frame crossed", "\x80\x04\x95\x01\x00\x00\x00\x00\x00\x00\x00K\x01.", "i1", "frame-mismatch"},
		{"frame beyond stop", "\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00K\x01.x", "i1", "frame-mismatch"},
		{"proto inside", "\x80\x02K\x01\x80\x04.", "i1", "proto-again"},
		{"rest on the stack", "K\x01K\x02.", "i2", "stack-rest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := load(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(s.Root); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			var rules []string
			for _, f := range s.Findings {
				if !slices.Contains(rules, f.Rule) {
					rules = append(rules, f.Rule)
				}
			}
			if got := strings.Join(rules, " "); got != tt.rules {
				t.Errorf("findings %q, want %q: %v", got, tt.rules, s.Findings)
			}
			if want := int64(len(strings.TrimSuffix(tt.in, "x"))); s.End != want {
				t.Errorf("End %d, want %d", s.End, want)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     error
		offset   int64
	}{
		{"empty", "", pickle.ErrTruncated, 0},
		{"no stop", "K\x01", pickle.ErrTruncated, 2},
		{"cut operand", "J\x01\x00", pickle.ErrTruncated, 0},
		{"cut line", "I12", pickle.ErrTruncated, 0},
		{"opcode", "N\xff.", pickle.ErrOpcode, 1},
		{"protocol", "\x80\x06.", pickle.ErrProtocol, 0},
		{"underflow", "0.", pickle.ErrStack, 0},
		{"stop on nothing", ".", pickle.ErrStack, 0},
		{"below the mark", "K\x01(R.", pickle.ErrStack, 3},
		{"stop below the mark", "K\x01(.", pickle.ErrStack, 3},
		{"no mark", "t.", pickle.ErrMark, 0},
		{"memo", "h\x05.", pickle.ErrMemo, 0},
		{"memo text", "g5\n.", pickle.ErrMemo, 0},
		{"memo negative", "Np-1\n.", pickle.ErrSyntax, 1},
		{"odd setitems", "}(K\x01u.", pickle.ErrLength, 4},
		{"odd dict", "(Nd.", pickle.ErrLength, 2},
		{"binunicode length", "X\xff\xff\xff\xff.", pickle.ErrLength, 0},
		{"binunicode8 length", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", pickle.ErrLength, 0},
		{"bytearray8 length", "\x96\x00\x00\x00\x00\x00\x00\x00\x80.", pickle.ErrLength, 0},
		{"binstring negative", "T\xff\xff\xff\xff.", pickle.ErrLength, 0},
		{"long4 negative", "\x8b\xff\xff\xff\xff.", pickle.ErrLength, 0},
		{"long4 length", "\x8b\xff\xff\xff\x7f.", pickle.ErrLength, 0},
		{"frame length", "\x95\x05\x00\x00\x00\x00\x00\x00\x00N.", pickle.ErrLength, 0},
		{"int", "I1 2\n.", pickle.ErrSyntax, 0},
		{"int empty", "I\n.", pickle.ErrSyntax, 0},
		{"int of many digits", "I" + strings.Repeat("9", 1<<20) + "\n.", pickle.ErrLimit, 0},
		{"float of Python alone", "F1_0.5\n.", pickle.ErrSyntax, 0},
		{"float hexadecimal", "F0x1p3\n.", pickle.ErrSyntax, 0},
		{"float overflow", "F1e999\n.", pickle.ErrSyntax, 0},
		{"string without quotes", "Sab\n.", pickle.ErrSyntax, 0},
		{"string escape", "S'\\x4'\n.", pickle.ErrSyntax, 0},
		{"unicode escape", "V\\u12\n.", pickle.ErrSyntax, 0},
		{"unicode escape beyond", "V\\U00110000\n.", pickle.ErrSyntax, 0},
		{"text not UTF-8", "X\x01\x00\x00\x00\xff.", pickle.ErrSyntax, 0},
		{"global without name", "ca\n\n.", pickle.ErrSyntax, 0},
		{"extension 0", "\x82\x00.", pickle.ErrSyntax, 0},
		{"persid not ASCII", "P\xe9\n.", pickle.ErrSyntax, 0},
		{"call of a text", "X\x01\x00\x00\x00a)R.", pickle.ErrType, 7},
		{"arguments are a list", "ca\nb\n]R.", pickle.ErrType, 6},
		{"stack_global of a number", "K\x01K\x02\x93.", pickle.ErrType, 4},
		{"append to a tuple", ")Na.", pickle.ErrType, 2},
		{"append to a bytearray", "\x96\x00\x00\x00\x00\x00\x00\x00\x00Na.", pickle.ErrType, 10},
		{"items of a tuple", ")NNs.", pickle.ErrType, 3},
		{"additems to a list", "](N\x90.", pickle.ErrType, 3},
		{"build on a dict", "}}b.", pickle.ErrType, 2},
		{"list as key", "}]Ns.", pickle.ErrUnhashable, 3},
		{"list in a tuple as key", "}]\x85Ns.", pickle.ErrUnhashable, 4},
		{"set member", "\x8f(]\x90.", pickle.ErrUnhashable, 3},
		{"deep key", "})" + strings.Repeat("2\x86", 80) + "Ns.", pickle.ErrLimit, 163},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := load(tt.in)
			var e *pickle.Error
			if !errors.As(err, &e) || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if e.Offset != tt.offset {
				t.Errorf("offset %d, want %d: %v", e.Offset, tt.offset, err)
			}
			if s == nil || s.Root != nil {
				t.Errorf("stream %v: want one without root", s)
			}
		})
	}
}

// What a stream did before it broke is kept: a real unpickler has done it.
func TestBrokenStreamKeepsWhatItDid(t *testing.T) {
	t.Parallel()
	s, err := load("\x80\x02cos\nsystem\n(K\x01tR0\xff")
	if !errors.Is(err, pickle.ErrOpcode) {
		t.Fatal(err)
	}
	if len(s.Globals) != 1 || s.Globals[0].Offset != 2 || len(s.Calls) != 1 || s.Protocol != 2 || s.Ops != 7 {
		t.Errorf("globals %d, calls %d, ops %d", len(s.Globals), len(s.Calls), s.Ops)
	}
	if !s.Opcodes['R'] || s.Opcodes['b'] {
		t.Error("opcodes are not recorded")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   string
		lim  pickle.Limits
	}{
		{"ops", "NNN.", pickle.Limits{Ops: 2}},
		{"stack", "NNN.", pickle.Limits{Stack: 2}},
		{"marks", "(((.", pickle.Limits{Stack: 2}},
		{"memo", "N\x94\x94\x94.", pickle.Limits{Memo: 2}},
		{"long key", "}X\x03\x00\x00\x00abcNs.", pickle.Limits{String: 2}},
		{"line", "Sabc" + strings.Repeat("d", 1<<17) + "\n.", pickle.Limits{String: 2}},
		{"bytes", "NNNN.", pickle.Limits{Bytes: 3}},
		{"memory", "]]]].", pickle.Limits{Memory: 100}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := pickle.Load(strings.NewReader(tt.in), 0, int64(len(tt.in)), tt.lim)
			if !errors.Is(err, pickle.ErrLimit) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	s, err := load("N" + strings.Repeat("20", 10_000) + ".")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Findings); n != 101 || s.Findings[100].Rule != pickle.RuleMore {
		t.Errorf("%d findings", n)
	}
}

// A stream inside a larger file: offsets are those of the file, and nothing
// is read behind the end that was given.
func TestRange(t *testing.T) {
	t.Parallel()
	data := "????\x80\x02ca\nb\n.N."
	s, err := pickle.Load(strings.NewReader(data), 4, int64(len(data)), pickle.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Start != 4 || s.End != 12 || s.Globals[0].Offset != 6 {
		t.Errorf("start %d end %d global at %d", s.Start, s.End, s.Globals[0].Offset)
	}
	if _, err := pickle.Load(strings.NewReader(data), 4, 11, pickle.Limits{}); !errors.Is(err, pickle.ErrTruncated) {
		t.Errorf("end is not kept: %v", err)
	}
	if _, err := pickle.Load(strings.NewReader("K"), 0, 2, pickle.Limits{}); !errors.Is(err, pickle.ErrTruncated) {
		t.Errorf("file shorter than said: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestReaderError(t *testing.T) {
	t.Parallel()
	want := errors.New("disk on fire")
	_, err := pickle.Load(failing{want}, 0, 10, pickle.Limits{})
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// counting remembers how much was read.
type counting struct {
	io.ReaderAt
	n int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

func TestLargeBytesAreNotRead(t *testing.T) {
	t.Parallel()
	data := "B\x00\x00\x00\x08" + strings.Repeat("\x00", 128<<20) + "."
	c := &counting{ReaderAt: strings.NewReader(data)}
	if _, err := pickle.Load(c, 0, int64(len(data)), pickle.Limits{}); err != nil {
		t.Fatal(err)
	}
	if c.n > 256<<10 {
		t.Errorf("%d bytes read", c.n)
	}
}

// corpus gives every pickle of the test data: bare ones, and those in zip
// containers.
func corpus(tb testing.TB) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	for _, root := range []string{"../../testdata/checkpoints", "../../testdata/threats"} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(data) > 2 && data[0] == 0x80 {
				out[path] = data
			}
			zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return nil
			}
			for _, f := range zr.File {
				if strings.HasSuffix(f.Name, ".pkl") {
					if r, err := f.Open(); err == nil {
						b, _ := io.ReadAll(io.LimitReader(r, 2<<20)) // hostile records break off
						out[path+"/"+f.Name] = b
					}
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	if len(out) < 100 {
		tb.Fatalf("only %d pickles in the corpus", len(out))
	}
	return out
}

// Every hostile pickle that declares something impossible is refused; each
// ordinary one runs without a finding.
func TestCorpus(t *testing.T) {
	t.Parallel()
	refused := map[string]error{
		"pickle_empty": pickle.ErrTruncated, "pickle_frame": pickle.ErrLength, "pickle_laughs_key": pickle.ErrLimit,
		"pickle_len_binunicode": pickle.ErrLength, "pickle_len_bytearray8": pickle.ErrLength,
		"pickle_len_long4": pickle.ErrLength, "pickle_len_long4_neg": pickle.ErrLength,
		"pickle_len_unicode8": pickle.ErrLength, "pickle_mark_missing": pickle.ErrMark,
		"pickle_memo_missing": pickle.ErrMemo, "pickle_no_stop": pickle.ErrTruncated,
		"pickle_odd_setitems": pickle.ErrLength, "pickle_opcode": pickle.ErrOpcode,
		"pickle_protocol": pickle.ErrProtocol, "pickle_text_number": pickle.ErrLimit, "pickle_underflow": pickle.ErrStack,
	}
	seen := 0
	for path, data := range corpus(t) {
		if !strings.Contains(path, "checkpoints") || strings.HasSuffix(path, ".joblib") {
			continue // threats are the scanner's; joblib puts arrays between opcodes
		}
		s, err := load(string(data))
		bad := strings.Contains(path, "/bad/")
		if bad {
			name, _, _ := strings.Cut(path[strings.Index(path, "/bad/")+5:], ".pt")
			if want, ok := refused[name]; ok {
				seen++
				if !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", path, err, want)
				}
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if len(s.Findings) > 0 && !strings.Contains(path, "dup_key") {
			t.Errorf("%s: %v", path, s.Findings)
		}
	}
	if seen != len(refused) {
		t.Errorf("%d of %d hostile pickles seen", seen, len(refused))
	}
}

func FuzzLoad(f *testing.F) {
	for _, data := range corpus(f) {
		if len(data) < 1<<16 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		begin := time.Now()
		s, err := pickle.Load(bytes.NewReader(data), 0, int64(len(data)), pickle.Limits{})
		if d := time.Since(begin); d > 5*time.Second {
			t.Fatalf("took %v", d)
		}
		var e *pickle.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("untyped error %v", err)
		}
		if s == nil || (err == nil) != (s.Root != nil) || s.End > int64(len(data)) {
			t.Fatalf("stream %+v with error %v", s, err)
		}
		// Text that stays in the stream is no other stream.
		long, longErr := pickle.Load(bytes.NewReader(data), 0, int64(len(data)), pickle.Limits{Text: 3})
		if longErr == nil && (err != nil || long.End != s.End || len(long.Globals) != len(s.Globals)) {
			t.Fatalf("with long text %+v, else %+v, %v", long, s, err)
		}
	})
}
