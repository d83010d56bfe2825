package torch

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"time"
)

// largeImage is a checkpoint of many gigabytes, nearly all of it holes.
func largeImage(storages int, each int64) *image {
	var items []string
	records := []record{{name: "data.pkl"}, {name: "byteorder", data: []byte("little")}}
	for i := range storages {
		items = append(items, pStr(fmt.Sprintf("w%d", i)), pTensor(fmt.Sprint(i), each/4))
		records = append(records, record{name: fmt.Sprintf("data/%d", i), size: each})
	}
	records[0].data = pickled(pDict(items...))
	records = append(records, record{name: "version", data: []byte("3\n")},
		record{name: ".data/serialization_id", data: []byte(strings.Repeat("7", 40))})
	return torchZip("archive", records...)
}

// ZIP64 as torch writes it: a record of more than 4 GiB, small records after
// it, and all of that without reading what the tensors hold.
func TestZip64AndNoTensorBytes(t *testing.T) {
	t.Parallel()
	m := largeImage(12, 5<<30)
	c, err := Open(m, m.size, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sd, err := c.Select("")
	if err != nil {
		t.Fatal(err)
	}
	if len(sd.Tensors) != 12 || len(c.Findings) != 0 || len(c.Records) != 16 {
		t.Errorf("%d tensors, %d records, findings %+v", len(sd.Tensors), len(c.Records), c.Findings)
	}
	for _, tt := range sd.Tensors {
		if tt.Storage.Offset%64 != 0 || tt.Storage.Length != 5<<30 {
			t.Errorf("%s: %+v", tt.Name, tt.Storage)
		}
	}
	if m.holes > 12*windowSize || m.read > 256<<10 {
		t.Errorf("%d bytes read, %d of them of tensors", m.read, m.holes)
	}
}

// Each change of one byte that two readers would take differently is refused.
func TestZipDisagreements(t *testing.T) {
	t.Parallel()
	good := checkpointOf(pDict(pStr("w"), pTensor("0", 4)), 4).bytes()
	central := bytes.Index(good, []byte("PK\x01\x02"))
	descriptor := bytes.Index(good, []byte("PK\x07\x08"))
	end := bytes.Index(good, []byte("PK\x05\x06"))
	put := func(off int, b ...byte) func([]byte) []byte {
		return func(f []byte) []byte { copy(f[off:], b); return f }
	}
	tests := []struct {
		name string
		edit func([]byte) []byte
		want string
	}{
		{"local flags", put(6, 0), "flags or method"},
		{"local method", put(8, 8), "flags or method"},
		{"local crc", put(14, 1), "CRC or sizes"},
		{"local size", put(22, 1), "CRC or sizes"},
		{"local name", put(30+8, 'x'), "the local header calls it"},
		{"padding", put(64-1, 'x'), ""},
		{"extra fields", put(30+16+2, 0xff, 0xff), ""},
		{"second name", put(30+16, 0x75, 0x70), "second name"},
		{"descriptor crc", put(descriptor+4, 0, 0, 0, 0), "data descriptor and directory disagree"},
		{"descriptor signature", put(descriptor, 'x'), "no signature"},
		{"descriptor size", put(descriptor+12, 0xff), "data descriptor and directory disagree"},
		{"stored is not size", put(central+20, 1), "a stored record"},
		{"central crc", put(central+16, 1), "data descriptor and directory disagree"},
		{"offset", put(central+42, 1), "no local header"},
		{"volume", put(central+34, 1), "another volume"},
		{"flags", put(central+9, 0x20), "unusual flags"},
		{"symlink", put(central+40, 0, 0xa0), "symbolic link"},
		{"count", put(end+8, 9, 0, 9), "directory"},
		{"count less", put(end+8, 2, 0, 2), "follow the last entry"},
		{"volumes", put(end+4, 1), "several volumes"},
		{"directory size", put(end+12, 0), "the directory is said to be"},
		{"directory offset", put(end+16, 0, 0), "the directory is said to be"},
		{"comment length", put(end+20, 9), "bytes follow the end record"},
		{"comment", func(f []byte) []byte { return append(put(end+20, 2)(f), "hi"...) }, ""},
		{"two ends", func(f []byte) []byte {
			second := bytes.Clone(f[end:])
			f = append(put(end+20, 22)(f), second...)
			return f
		}, "directory"},
		{"byte between records", func(f []byte) []byte { return append(f[:central:central], append([]byte{0}, f[central:]...)...) }, "directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := open(tt.edit(bytes.Clone(good)))
			if tt.want == "" { // nothing that readers read differently
				if err == nil && len(c.Findings) == 0 {
					t.Error("nothing found")
				}
				return
			}
			if !errors.Is(err, ErrContainer) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A broken archive still shows its pickles: a scanner wants to see them.
func TestBrokenArchiveShowsItsPickles(t *testing.T) {
	t.Parallel()
	m := torchZip("archive", record{name: "data.pkl", data: pickled(pDict())}, record{name: "data.pkl", data: pickled(pGlobal("os system"))})
	c, err := Open(m, m.size, Limits{})
	if !errors.Is(err, ErrContainer) || c == nil || len(c.Streams) != 2 || len(c.Streams[1].Globals) != 1 {
		t.Errorf("got %v, %+v", err, c)
	}
}

func TestZipLimits(t *testing.T) {
	t.Parallel()
	b := checkpointOf(pDict(pStr("w"), pTensor("0", 4)), 4).bytes()
	if _, err := Open(bytes.NewReader(b), int64(len(b)), Limits{Entries: 2}); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v", err)
	}
}

func TestZipRecordNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"/data.pkl": "no plain path", "a//data.pkl": "no plain path", "a/./data.pkl": "no plain path",
		"a/../data.pkl": "no plain path", "a\\data.pkl": "backslash", "a/\x00data.pkl": "control character", "a/\xff": "not UTF-8",
	} {
		if got := badName(name); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"archive/data.pkl", "résumé/.data/serialization_id", "a/b/"} {
		if got := badName(name); got != "" {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func TestByteOrder(t *testing.T) {
	t.Parallel()
	for order, ok := range map[string]bool{"little": true, "big": true, "middle": false, "": false} {
		m := torchZip("a", record{name: "data.pkl", data: pickled(pDict())}, record{name: "byteorder", data: []byte(order)})
		c, err := Open(m, m.size, Limits{})
		if (err == nil) != ok || c.BigEndian != (order == "big") {
			t.Errorf("%q: %v, big endian %v", order, err, c.BigEndian)
		}
	}
}

// inflaterOf deflates data and opens it; declared may lie.
func inflaterOf(t *testing.T, data []byte, declared int64, tail string) *inflater {
	t.Helper()
	b := append(squeeze(t, data), tail...)
	return newInflater(bytes.NewReader(b), 0, int64(len(b)), declared, "data/0")
}

func squeeze(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInflater(t *testing.T) {
	t.Parallel()
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	f := inflaterOf(t, data, int64(len(data)), "")
	got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(data))))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("in order: %v", err)
	}
	for _, off := range []int64{0, 299_999, 5, 150_000, 149_999, 0} {
		p := make([]byte, 100)
		n, err := f.ReadAt(p, off)
		if want := data[off:min(off+100, 300_000)]; !bytes.Equal(p[:n], want) || (err == io.EOF) != (len(want) < 100) {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
	if _, err := f.ReadAt(make([]byte, 1), 300_000); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset")
	}
	for name, f := range map[string]*inflater{
		"less": inflaterOf(t, data, 300_001, ""), "more": inflaterOf(t, data, 299_999, ""), "tail": inflaterOf(t, data, 300_000, "x"),
	} {
		if _, err := io.ReadAll(io.NewSectionReader(f, 0, f.size)); !errors.Is(err, ErrContainer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// deflated re-packs a container as an ordinary zip tool does.
func deflated(t *testing.T, records ...record) []byte {
	t.Helper()
	var body, central []byte
	for _, r := range records {
		b := squeeze(t, r.data)
		name, off := "a/"+r.name, uint32(len(body))
		facts := concat(u32(crc32.ChecksumIEEE(r.data), uint32(len(b)), uint32(len(r.data))), u16(uint16(len(name)), 0))
		body = append(body, concat("PK\x03\x04", u16(20, 0, 8, 0, 0), facts, name, b)...)
		central = append(central, concat("PK\x01\x02", u16(20, 20, 0, 8, 0, 0), facts, u16(0, 0, 0), u32(0, off), name)...)
	}
	n := uint16(len(records))
	return concat(body, central, "PK\x05\x06", u16(0, 0, n, n), u32(uint32(len(central)), uint32(len(body))), u16(0))
}

// Offsets of a deflated pickle are those of its record.
func TestDeflatedPickle(t *testing.T) {
	t.Parallel()
	data := make([]byte, 4000)
	binary.LittleEndian.PutUint32(data[400:], 0x3f800000)
	c, err := open(deflated(t, record{name: "data.pkl", data: pickled(pDict(pStr("w"), pTensor("0", 1000)))},
		record{name: "data/0", data: data}, record{name: "version", data: []byte("3\n")}))
	if err != nil || len(c.Findings) != 0 {
		t.Fatal(err, c.Findings)
	}
	s := c.Streams[0]
	if s.Inner != "data.pkl" || s.Start != 0 || s.Source == nil || !c.Storages["0"].Deflated {
		t.Errorf("stream %+v", s)
	}
	sd, err := c.Select("")
	if err != nil {
		t.Fatal(err)
	}
	b, err := gather(&sd.Tensors[0], false)
	if err != nil || !bytes.Equal(b, data) {
		t.Errorf("content differs: %v", err)
	}
}

func manyTensors(n int) *image {
	var items []string
	records := make([]record, 1, n+2)
	for i := range n {
		key := fmt.Sprint(i)
		items = append(items, pStr("model.layers."+key+".weight"), pTensor(key, 6))
		records = append(records, record{name: "data/" + key, data: make([]byte, 24)})
	}
	records[0] = record{name: "data.pkl", data: pickled(pDict(items...))}
	return torchZip("archive", append(records, record{name: "version", data: []byte("3\n")})...)
}

func TestManyTensors(t *testing.T) { // not parallel, for its memory
	m := manyTensors(70_000) // more entries than a directory without ZIP64 counts
	begin := time.Now()
	c, err := Open(m, m.size, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sd, err := c.Select("")
	if err != nil || len(sd.Tensors) != 70_000 {
		t.Fatal(err, len(sd.Tensors))
	}
	t.Logf("opened in %v", time.Since(begin))
}

func BenchmarkOpenSelect100kTensors(b *testing.B) {
	data := manyTensors(100_000).bytes()
	b.ReportAllocs()
	for b.Loop() {
		c, err := open(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Select(""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenSelectLarge(b *testing.B) {
	m := largeImage(300, 64<<20)
	b.ReportAllocs()
	for b.Loop() {
		c, err := Open(m, m.size, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Select(""); err != nil {
			b.Fatal(err)
		}
	}
}
