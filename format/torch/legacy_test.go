package torch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

var sixteen = []byte("0123456789abcdef")

func TestLegacy(t *testing.T) {
	t.Parallel()
	value := pDict(pStr("a"), legacyTensor("k", 4, pNone), pStr("b"), legacyTensor("k", 4, pNone))
	good := legacyOf(value, []string{"k"}, sixteen)
	c, err := open(good)
	if err != nil {
		t.Fatal(err)
	}
	sd, err := c.Select("")
	if err != nil || names(sd) != "a b" || sd.Tensors[0].Storage != sd.Tensors[1].Storage {
		t.Fatalf("%v, %+v", err, sd)
	}
	b, err := gather(&sd.Tensors[0], false)
	if err != nil || !bytes.Equal(b, sixteen) {
		t.Errorf("content %q, %v", b, err)
	}
	if len(c.Streams) != 5 || c.Streams[3].Name != "object" || c.Streams[3].Inner != "" || c.Streams[3].Start == 0 {
		t.Errorf("streams %+v", c.Streams)
	}
}

// A view in a persistent id is a part of a storage; what it shows must lie in
// that part.
func TestLegacyViews(t *testing.T) {
	t.Parallel()
	view := func(first, numel, offset, size int64) string {
		id := pTuple(pStr("storage"), pGlobal("torch FloatStorage"), pStr("k"), pStr("cpu"), pInt(4),
			pTuple(pStr("v"), pInt(first), pInt(numel))) + "Q"
		return pDict(pStr("a"), pView(id, offset, []int64{size}, []int64{1}))
	}
	c, err := open(legacyOf(view(1, 3, 1, 2), []string{"k"}, sixteen))
	if err != nil {
		t.Fatal(err)
	}
	sd, err := c.Select("")
	if err != nil || sd.Tensors[0].Offset != 2 {
		t.Errorf("%v, %+v", err, sd)
	}
	if c, err = open(legacyOf(view(1, 2, 1, 2), []string{"k"}, sixteen)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select(""); !errors.Is(err, ErrTensor) {
		t.Errorf("past the view: %v", err)
	}
	for _, v := range []string{view(1, 4, 0, 1), view(-1, 2, 0, 1), view(5, 0, 0, 0)} {
		if _, err := open(legacyOf(v, []string{"k"}, sixteen)); !errors.Is(err, ErrStorage) {
			t.Errorf("view outside its storage: %v", err)
		}
	}
}

func TestLegacyErrors(t *testing.T) {
	t.Parallel()
	value := pDict(pStr("a"), legacyTensor("k", 4, pNone))
	good := legacyOf(value, []string{"k"}, sixteen)
	numel := func(n int64) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint64(b[len(b)-24:], uint64(n))
		return b
	}
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"trailing byte", append(bytes.Clone(good), 0), "1 bytes follow the last storage"},
		{"cut storage", good[:len(good)-1], "needs 16 bytes, 15 are left"},
		{"cut size", good[:len(good)-20], "bytes are missing"},
		{"no storage", good[:len(good)-24], "bytes are missing"},
		{"other size", numel(3), "the object says 4"},
		{"huge size", numel(1 << 62), "the object says 4"},
		{"negative size", numel(-1), "the object says 4"},
		{"key not named", legacyOf(value, []string{"x"}, sixteen), "not named by the object"},
		{"key twice", legacyOf(value, []string{"k", "k"}, sixteen, sixteen), "2 storages are listed, the object names 1"},
		{"key missing", legacyOf(value, nil), "0 storages are listed, the object names 1"},
		{"cut pickle", good[:60], "declares 13 bytes"},
		{"five items", legacyOf(pDict(pStr("a"), pTensor("k", 4)), []string{"k"}, sixteen), "5 items, 6 are needed"},
		{"huge object", legacyOf(pDict(pStr("a"), legacyTensor("k", 1<<62, pNone)), []string{"k"}, sixteen), "overflows"},
		{"protocol", bytes.Replace(good, []byte("J\xe9\x03\x00\x00."), []byte("J\xea\x03\x00\x00."), 1), "the version is not 1001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := open(tt.file)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			checkTyped(t, err)
			if c == nil || len(c.Streams) == 0 {
				t.Error("the streams are not shown")
			}
		})
	}
}

// On a big-endian machine torch wrote little-endian elements all the same;
// nobody has a file to prove it, so it is not converted.
func TestLegacyBigEndian(t *testing.T) {
	t.Parallel()
	b := legacyOf(pDict(pStr("a"), legacyTensor("k", 4, pNone)), []string{"k"}, sixteen)
	b = bytes.Replace(b, []byte("little_endian\x88"), []byte("little_endian\x89"), 1)
	c, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select(""); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// A legacy file that also ends as a zip archive is two files in one.
func TestPolyglot(t *testing.T) {
	t.Parallel()
	legacy := legacyOf(pDict(), nil)
	b := append(legacy, checkpointOf(pDict()).bytes()...)
	if _, err := open(b); !errors.Is(err, ErrContainer) && !errors.Is(err, ErrNotTorch) {
		t.Errorf("got %v", err)
	}
}

func TestNotTorch(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty": nil, "one byte": {0x80}, "pickle": pickled(pDict()), "text": []byte("hello, world"),
		"zip": torchZip("a", record{name: "x.npy", data: []byte("x")}).bytes(), "tar": tarOf("x", "y"),
		"magic by a call": append(pickled(pCall("builtins int", pStr("x"))), "x"...),
	} {
		if c, err := open(b); !errors.Is(err, ErrNotTorch) || c != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var e *UnsupportedError
	if _, err := open([]byte("PYTORCH1....")); !errors.As(err, &e) {
		t.Errorf("preview: %v", err)
	}
	want := errors.New("no disk")
	if _, err := Open(unreadable{want}, 100, Limits{}); !errors.Is(err, want) {
		t.Errorf("reader error: %v", err)
	}
}

type unreadable struct{ err error }

func (u unreadable) ReadAt([]byte, int64) (int, error) { return 0, u.err }

// tarOf writes a ustar archive of names and contents.
func tarOf(nameAndContent ...string) []byte {
	var b []byte
	for i := 0; i < len(nameAndContent); i += 2 {
		h := make([]byte, 512)
		copy(h, nameAndContent[i])
		copy(h[124:], fmt.Sprintf("%011o", len(nameAndContent[i+1])))
		h[156] = '0'
		copy(h[257:], "ustar\x0000")
		seal(h)
		b = append(append(b, h...), nameAndContent[i+1]...)
		b = append(b, make([]byte, (512-len(b)%512)%512)...)
	}
	return append(b, make([]byte, 1024)...)
}

// seal writes the checksum of a tar header.
func seal(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h[:512] {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

func tarStorages(numel int64, data, views string) string {
	return string(pickled(pInt(1))) + string(pickled(pTuple(pInt(5), pStr("cpu"), pGlobal("torch FloatStorage")))) +
		string(binary.LittleEndian.AppendUint64(nil, uint64(numel))) + data + string(pickled(views))
}

func tarTensors(storage string, offset int64, size, stride []int64) string {
	s := string(pickled(pInt(1))) + string(pickled(pTuple(pInt(7), storage, pGlobal("torch FloatTensor"))))
	s += string(binary.LittleEndian.AppendUint64(nil, uint64(len(size))))
	for _, v := range append(append(append([]int64{}, size...), stride...), offset) {
		s += string(binary.LittleEndian.AppendUint64(nil, uint64(v)))
	}
	return s
}

func TestTar(t *testing.T) {
	t.Parallel()
	object := string(pickled(pDict(pStr("w"), pInt(7)+"Q")))
	noViews := pList()
	view := pList(pTuple(pInt(6), pInt(5), pInt(1), pInt(2)))
	one := []int64{1}
	build := func(storages, tensors string) []byte {
		return tarOf("sys_info", string(pickled(pDict())), "pickle", object, "tensors", tensors, "storages", storages)
	}
	good := build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(5), 1, []int64{3}, one))
	tests := []struct {
		name string
		file []byte
		want string // "" for none
	}{
		{"good", good, ""},
		{"view", build(tarStorages(4, string(sixteen), view), tarTensors(pInt(6), 1, one, one)), ""},
		{"past the view", build(tarStorages(4, string(sixteen), view), tarTensors(pInt(6), 1, []int64{2}, one)), "the view ends at"},
		{"past the storage", build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(5), 1, []int64{4}, one)), "the view ends at"},
		{"negative size", build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(5), 0, []int64{-1}, one)), "negative"},
		{"negative offset", build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(5), -1, one, one)), "negative"},
		{"unknown storage", build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(9), 0, one, one)), "no id or storage"},
		{"storage too large", build(tarStorages(500, string(sixteen), noViews), tarTensors(pInt(5), 0, one, one)), "needs 2000 bytes"},
		{"storage huge", build(tarStorages(1<<62, string(sixteen), noViews), tarTensors(pInt(5), 0, one, one)), "elements"},
		{"view outside", build(tarStorages(4, string(sixteen), pList(pTuple(pInt(6), pInt(5), pInt(3), pInt(2)))), tarTensors(pInt(5), 0, one, one)), "does not fit"},
		{"bytes after tensors", build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(5), 0, one, one)+"x"), "follow the last tensor"},
		{"many dimensions", build(tarStorages(4, string(sixteen), noViews), tarTensors(pInt(5), 0, make([]int64, 65), make([]int64, 65))), "65 dimensions"},
		{"persistent id", bytes.Replace(good, []byte("J\x07\x00\x00\x00Qu"), []byte("J\x08\x00\x00\x00Qu"), 1), "names no tensor"},
		{"content behind the end", append(bytes.Clone(good), append([]byte("x"), make([]byte, 511)...)...), "behind the end"},
		{"cut", good[:len(good)-1024], "bytes are missing"},
		{"checksum", bytes.Replace(good, []byte("sys_info\x00\x00"), []byte("sys_info\x00x"), 1), "lacks pickle"},
		{"member twice", append(tarOf("pickle", object)[:1024], good...), "two members of one name"},
		{"other member", append(tarOf("code.py", "x")[:1024], good...), "no such member"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := open(tt.file)
			var sd *StateDict
			if err == nil {
				sd, err = c.Select("")
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := gather(&sd.Tensors[0], false)
			if err != nil || !bytes.HasPrefix(sixteen[4*sd.Tensors[0].Offset:], b) {
				t.Errorf("content %q, %v", b, err)
			}
		})
	}
}

var _ io.ReaderAt = unreadable{}
