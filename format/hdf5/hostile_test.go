package hdf5

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
)

func seed(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var seedNames = []string{"seed_earliest.h5", "seed_latest.h5"}

// typed fails unless an error is one of the two kinds, with all that belongs
// to it.
func typed(tb testing.TB, err error) {
	tb.Helper()
	var broken *format.Error
	var lossy *format.UnsupportedError
	switch {
	case errors.As(err, &broken) && broken.Detail != "":
	case errors.As(err, &lossy) && lossy.What != "" && lossy.Next != "":
	default:
		tb.Fatalf("%T: %v", err, err)
	}
}

// readAll opens a file and reads its tensors; whatever comes out has the size
// that it says.
func readAll(tb testing.TB, b []byte, opt Options) (*format.Checkpoint, error) {
	tb.Helper()
	ck, err := openBytes(b, opt)
	if err != nil {
		typed(tb, err)
		return nil, err
	}
	for i := range ck.Tensors {
		x := &ck.Tensors[i]
		if x.DType.Bits() == 0 || len(x.Size) != len(x.Shape) {
			tb.Fatalf("%+v", x)
		}
		n := int64(x.DType.Bits() / 8)
		for _, d := range x.Size {
			n *= d
		}
		if n != x.Storage.Length {
			tb.Fatalf("%s: %d bytes for %v of %s", x.Name, x.Storage.Length, x.Size, x.DType)
		}
		if got, err := io.Copy(io.Discard, io.NewSectionReader(x.Storage.Data, 0, n)); err == nil && got != n {
			tb.Fatalf("%s: %d of %d bytes", x.Name, got, n)
		} else if err != nil {
			typed(tb, err)
			return ck, err
		}
	}
	return ck, nil
}

// TestSeeds reads the files that are damaged below, as h5py reads them.
func TestSeeds(t *testing.T) {
	t.Parallel()
	for _, name := range seedNames {
		b := seed(t, name)
		var want map[string]read
		if err := json.Unmarshal(seed(t, strings.TrimSuffix(name, "h5")+"json"), &want); err != nil {
			t.Fatal(err)
		}
		ck, err := openBytes(b, Options{})
		if err != nil {
			t.Fatal(err)
		}
		compare(t, b, ck, want)
		if ck.Framework != "keras" || ck.Metadata["@keras_version"] != "3.1.0" || ck.Metadata["@n"] != "7" || ck.Metadata["a@attribute 11"] != "11" {
			t.Errorf("%s: %s %v", name, ck.Framework, ck.Metadata)
		}
	}
}

// TestTruncated cuts the files at many lengths: none of them is read.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, name := range seedNames {
		b := seed(t, name)
		for n := 0; n < len(b); n += 1 + n/100 {
			if _, err := openBytes(b[:n], Options{}); err == nil {
				t.Fatalf("%s: reads when cut to %d of %d bytes", name, n, len(b))
			} else {
				typed(t, err)
			}
		}
	}
}

// TestDamaged sets bytes to other values: reading ends, with typed errors.
func TestDamaged(t *testing.T) {
	t.Parallel()
	const step = 97
	small := Options{Limits: Limits{Total: 1 << 20, Metadata: 4 << 20, Slab: 1 << 16, Chunks: 1 << 12, Objects: 1 << 10}}
	for _, name := range seedNames {
		b := seed(t, name)
		work, failed := bytes.Clone(b), 0
		for at := 0; at < len(b); at += 1 + at%step {
			for _, v := range []byte{0xff, b[at] ^ 1} {
				work[at] = v
				if _, err := readAll(t, work, small); err != nil {
					failed++
				}
			}
			work[at] = b[at]
		}
		if failed < 100 {
			t.Errorf("%s: %d damaged files were refused of %d bytes", name, failed, len(b))
		}
	}
}

// TestBudgets spends every budget.
func TestBudgets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lim  Limits
		want string
	}{
		{Limits{Objects: 5}, "more than 5 objects"},
		{Limits{Depth: 1}, "more than 1 groups in each other"},
		{Limits{Metadata: 1000}, "more than 1000 bytes of headers"},
		{Limits{Chunks: 10}, "more than 10 chunks"},
		{Limits{Slab: 20}, "chunks side by side have more than 20 bytes"},
		{Limits{Total: 200}, "become more than 200 bytes"},
	} {
		for _, name := range seedNames {
			_, err := openBytes(seed(t, name), Options{Limits: tt.lim})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", name, err, tt.want)
			}
			typed(t, err)
		}
	}
}

// maker makes small files of the old kind by hand.
type maker struct{ b []byte }

func (m *maker) at() uint64 { return uint64(len(m.b)) }

func (m *maker) num(width int, values ...uint64) {
	var b [8]byte
	for _, v := range values {
		binary.LittleEndian.PutUint64(b[:], v)
		m.b = append(m.b, b[:width]...)
	}
}

const none = 1<<64 - 1

// begin writes a superblock that names the object header behind it as the root.
func (m *maker) begin() {
	m.b = append(m.b, signature...)
	m.num(1, 0, 0, 0, 0, 0, 8, 8, 0)
	m.num(2, 4, 16)
	m.num(4, 0)
	m.num(8, 0, none, 0, none) // the end is set by file
	m.num(8, 0, 96)
	m.num(8, 0, 0, 0)
}

func (m *maker) file() []byte {
	binary.LittleEndian.PutUint64(m.b[40:], m.at())
	return m.b
}

// messageOf is a header message: its type, and its bytes.
type messageOf struct {
	kind uint64
	data []byte
}

// header writes an object header of version 1.
func (m *maker) header(messages ...messageOf) uint64 {
	at := m.at()
	size := 0
	for _, x := range messages {
		size += 8 + (len(x.data)+7)&^7
	}
	m.num(1, 1, 0)
	m.num(2, uint64(len(messages)))
	m.num(4, 1, uint64(size), 0)
	for _, x := range messages {
		n := (len(x.data) + 7) &^ 7
		m.num(2, x.kind, uint64(n))
		m.num(4, 0)
		m.b = append(append(m.b, x.data...), make([]byte, n-len(x.data))...)
	}
	return at
}

func numbers(width int, values ...uint64) []byte {
	var m maker
	m.num(width, values...)
	return m.b
}

// hardTo is a link message.
func hardTo(name string, addr uint64) messageOf {
	return messageOf{msgLink, append(append([]byte{1, 0, byte(len(name))}, name...), numbers(8, addr)...)}
}

func softTo(name, target string) messageOf {
	b := append([]byte{1, 8, 1, byte(len(name))}, name...)
	return messageOf{msgLink, append(append(b, byte(len(target)), 0), target...)}
}

func farTo(name string) messageOf {
	b := append([]byte{1, 8, 64, byte(len(name))}, name...)
	return messageOf{msgLink, append(b, "\x09\x00\x00f.h5\x00/a\x00"...)}
}

var (
	extent1 = messageOf{msgDataspace, append([]byte{1, 1, 0, 0, 0, 0, 0, 0}, numbers(8, 4)...)}
	bytes1  = messageOf{msgDatatype, []byte{0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0}}
	stored4 = messageOf{msgLayout, []byte{3, 0, 4, 0, 1, 2, 3, 4}}
)

func extent(dims ...uint64) messageOf {
	return messageOf{msgDataspace, append([]byte{1, byte(len(dims)), 0, 0, 0, 0, 0, 0}, numbers(8, dims...)...)}
}

func contiguous(addr, size uint64) messageOf {
	return messageOf{msgLayout, append([]byte{3, 1}, numbers(8, addr, size)...)}
}

func chunkedAt(addr uint64, dims ...uint64) messageOf {
	return messageOf{msgLayout, append(append([]byte{3, 2, byte(len(dims))}, numbers(8, addr)...), numbers(4, dims...)...)}
}

// TestHostile reads files made by hand to do harm, or to be misunderstood.
func TestHostile(t *testing.T) {
	t.Parallel()
	root := func(messages ...messageOf) func(m *maker) { return func(m *maker) { m.header(messages...) } }
	typ := func(b ...byte) messageOf { return messageOf{msgDatatype, b} }
	const small = "" // what is read
	for name, tt := range map[string]struct {
		make func(m *maker)
		want string
	}{
		"dataset at the root":       {root(extent1, bytes1, stored4), small},
		"group in itself":           {root(hardTo("a", 96)), "file without datasets"},
		"soft link to itself":       {root(softTo("a", "a")), "file without datasets"},
		"soft links in a ring":      {root(softTo("a", "/b/c"), softTo("b", "a/x")), "file without datasets"},
		"external link":             {root(farTo("a")), "link to another file"},
		"two of a name":             {root(hardTo("a", 96), hardTo("a", 96)), "two links called"},
		"name with a slash":         {root(hardTo("a/b", 96)), "a link called"},
		"name that is no text":      {root(hardTo("\xff", 96)), "a link called"},
		"name of a dot":             {root(hardTo(".", 96)), "a link called"},
		"link to nowhere":           {root(hardTo("a", 1<<40)), "past the end of the file"},
		"link to no address":        {root(hardTo("a", none)), "has no address"},
		"link to no header":         {root(hardTo("a", 0)), "no object header"},
		"neither":                   {root(extent1), "neither a group nor a dataset"},
		"header that goes on at 96": {root(messageOf{msgContinue, numbers(8, 96, 16)}), "continues where it has been"},
		"header that goes on in a ring": {func(m *maker) {
			at := m.at() + 16
			m.header(messageOf{msgContinue, numbers(8, at, 24)})
		}, "continues where it has been"},
		"header that goes on outside":  {root(messageOf{msgContinue, numbers(8, 1<<50, 16)}), "past the end of the file"},
		"header of 1 EiB":              {root(messageOf{msgContinue, numbers(8, 96, 1<<60)}), "continues where it has been"},
		"data elsewhere":               {root(extent1, bytes1, stored4, messageOf{msgExternal, make([]byte, 16)}), "other files"},
		"virtual":                      {root(extent1, bytes1, messageOf{msgLayout, append([]byte{4, 3}, make([]byte, 12)...)}), "virtual dataset"},
		"committed type":               {func(m *maker) { m.header(extent1, bytes1, stored4); m.b[96+16+24+4] = 2 }, "shared with other objects"},
		"variable length":              {root(extent1, typ(0x19, 0, 0, 0, 16, 0, 0, 0), messageOf{msgLayout, append([]byte{3, 0, 64, 0}, make([]byte, 64)...)}), "values of variable length"},
		"text of variable length":      {root(extent1, typ(0x19, 1, 0, 0, 16, 0, 0, 0), messageOf{msgLayout, append([]byte{3, 0, 64, 0}, make([]byte, 64)...)}), "text of variable length"},
		"references":                   {root(extent1, typ(0x17, 0, 0, 0, 1, 0, 0, 0), stored4), "dataset of references"},
		"text":                         {root(extent1, typ(0x13, 0, 0, 0, 1, 0, 0, 0), stored4), "dataset of text"},
		"bit field":                    {root(extent1, typ(0x14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0), stored4), "dataset of bit fields"},
		"seven bits":                   {root(extent1, typ(0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0), stored4), "fixed-point numbers of 7 bits"},
		"type of no bytes":             {root(extent1, typ(0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), stored4), "a datatype of class 0 with 0 bytes"},
		"two types":                    {root(extent1, bytes1, bytes1, stored4), "two messages"},
		"too little stored":            {root(extent(5), bytes1, stored4), "4 bytes of data for a dataset of 5"},
		"data past the end":            {root(extent1, bytes1, contiguous(1<<20, 4)), "past the end of the file"},
		"huge extent":                  {root(extent(1<<62, 1<<62), bytes1, contiguous(0, 4)), "more elements than any file has"},
		"huge extent of nothing":       {root(extent(1<<50), bytes1, contiguous(none, 0)), "dataset of 1125899906842624 bytes"},
		"huge chunked extent":          {root(extent(1<<50), bytes1, chunkedAt(none, 4, 1)), "dataset of 1125899906842624 bytes"},
		"no elements, but huge":        {root(extent(0, 1<<62, 1<<62), bytes1, contiguous(none, 0)), "more elements than any file has"},
		"chunks of nothing":            {root(extent1, bytes1, chunkedAt(none, 0, 1)), "chunks without elements"},
		"chunks of 4 GiB":              {root(extent1, bytes1, chunkedAt(none, 1<<31, 2)), "chunks of 1 dimensions"},
		"chunks of 16 EiB":             {root(extent(4, 4), bytes1, chunkedAt(none, 1<<31, 1<<31, 1)), "chunks of more than 4 GiB"},
		"chunks of other rank":         {root(extent1, bytes1, chunkedAt(none, 2, 2, 1)), "chunks of 2 dimensions"},
		"chunk index that is none":     {root(extent1, bytes1, chunkedAt(96, 2, 1)), "no B-tree node"},
		"unknown filter":               {root(extent1, bytes1, messageOf{msgFilters, []byte{1, 1, 0, 0, 0, 0, 0, 0, 0x01, 0x7d, 0, 0, 0, 0, 0, 0}}, chunkedAt(none, 2, 1)), "filter 32001 (Blosc)"},
		"filters without chunks":       {root(extent1, bytes1, messageOf{msgFilters, []byte{1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}}, contiguous(96, 4)), "filters on a dataset without chunks"},
		"fill value of another size":   {root(extent1, bytes1, messageOf{msgFill, []byte{1, 0, 0, 1, 2, 0, 0, 0, 1, 1}}, stored4), "a fill value of 2 bytes"},
		"group of a heap that is none": {root(messageOf{msgSymbols, numbers(8, 96, 96)}), "a local heap begins with"},
		"overlapping data": {func(m *maker) {
			m.header(hardTo("a", 96+16+48), hardTo("b", 96+16+48+16+80))
			m.header(extent1, bytes1, contiguous(8, 4))
			m.header(extent1, bytes1, contiguous(10, 4))
		}, "two datasets whose data overlap"},
		"B-tree in itself":         {treeFile(0, 0), "a B-tree node of level 1 where level 0 must be"},
		"chunks that overlap":      {treeFile(1, 0), "a chunk that is there twice"},
		"a chunk past the end":     {treeFile(2, 0), "past the end of the file"},
		"a chunk out of step":      {treeFile(3, 1), "a chunk at 1 of chunks of 2 elements"},
		"a chunk of too few bytes": {treeFile(4, 0), "1 bytes stored for a chunk of 2"},
		"chunks out of order":      {treeFile(5, 2), "they are out of order"},
		"a chunk in an element":    {treeFile(6, 0), "a chunk that begins at byte 128 of an element"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m maker
			m.begin()
			tt.make(&m)
			_, err := readAll(t, m.file(), Options{})
			if tt.want == small {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %s", err, tt.want)
			}
		})
	}
}

// treeFile is a dataset of four bytes in two chunks, with something wrong.
func treeFile(wrong int, offset uint64) func(m *maker) {
	return func(m *maker) {
		tree := m.at() + 16 + 24 + 8 + 16 + 8 + 24
		m.header(extent1, bytes1, chunkedAt(tree, 2, 1))
		if m.at() != tree {
			panic("moved")
		}
		m.b = append(m.b, "TREE"...)
		level, child, size, second, inside := uint64(0), uint64(8), uint64(2), uint64(2), uint64(0)
		switch wrong {
		case 0:
			level, child = 1, tree
		case 1:
			second = 0
		case 2:
			child = 1 << 40
		case 4:
			size = 1
		case 5:
			second = 0
		case 6:
			inside = 128
		}
		m.num(1, 1, level)
		m.num(2, 2)
		m.num(8, none, none)
		m.num(4, size, 0)
		m.num(8, offset, 0, child)
		m.num(4, size, 0)
		m.num(8, second, inside, child)
		m.num(4, 0, 0)
		m.num(8, 4, 0)
	}
}

// FuzzOpen reads whatever it is given, as a plain file and as an archive.
func FuzzOpen(f *testing.F) {
	for _, name := range seedNames {
		f.Add(seed(f, name))
	}
	for _, glob := range []string{"../../testdata/checkpoints/*.h5", "../../testdata/threats/*/h5/*", "../../testdata/threats/*/keras/*"} {
		paths, err := filepath.Glob(glob)
		if err != nil || len(paths) == 0 {
			f.Fatal(glob, err)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	small := Options{Limits: Limits{Total: 1 << 22, Metadata: 16 << 20, Slab: 1 << 18, Chunks: 1 << 14, Objects: 1 << 12, Inflate: 1 << 20}}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readAll(t, b, small)
		if _, err := OpenKeras(bytes.NewReader(b), int64(len(b)), small); err != nil {
			typed(t, err)
		}
	})
}
