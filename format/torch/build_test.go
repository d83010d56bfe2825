package torch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sort"
	"strings"
)

// An assembler for the pickles of tests: each function gives the opcodes that
// make one value.

func pStr(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func pInt(n int64) string {
	if n == int64(int32(n)) {
		return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	return "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func pTuple(items ...string) string { return "(" + strings.Join(items, "") + "t" }
func pList(items ...string) string  { return "](" + strings.Join(items, "") + "e" }
func pDict(items ...string) string  { return "}(" + strings.Join(items, "") + "u" }

// pGlobal takes "module name".
func pGlobal(s string) string { return "c" + strings.Replace(s, " ", "\n", 1) + "\n" }

func pCall(global string, args ...string) string { return pGlobal(global) + pTuple(args...) + "R" }

const pTrue, pFalse, pNone = "\x88", "\x89", "N"

func pOrdered() string { return pCall("collections OrderedDict") }

func pickled(v string) []byte { return []byte("\x80\x02" + v + ".") }

func pCounts(n []int64) string {
	var s []string
	for _, v := range n {
		s = append(s, pInt(v))
	}
	return pTuple(s...)
}

func pStorage(class, key string, numel int64) string {
	return pTuple(pStr("storage"), pGlobal(class), pStr(key), pStr("cpu"), pInt(numel)) + "Q"
}

// pTensor is a whole storage of float32 as one dimension.
func pTensor(key string, n int64) string {
	return pView(pStorage("torch FloatStorage", key, n), 0, []int64{n}, []int64{1})
}

func pView(storage string, offset int64, size, stride []int64, more ...string) string {
	args := append([]string{storage, pInt(offset), pCounts(size), pCounts(stride), pFalse, pOrdered()}, more...)
	return pCall("torch._utils _rebuild_tensor_v2", args...)
}

// record is a record of a test archive: data, or a hole of size bytes.
type record struct {
	name string
	data []byte
	size int64
}

// image is a file with holes, which read as zeros.
type image struct {
	size  int64
	parts []part // by offset
	read  int64  // bytes that were read from it
	holes int64  // of them, bytes of holes
}

type part struct {
	off  int64
	data []byte
}

func (m *image) add(b []byte) {
	m.parts = append(m.parts, part{m.size, b})
	m.size += int64(len(b))
}

func (m *image) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(m.size-off, 0)))
	clear(p[:n])
	filled := 0
	i := sort.Search(len(m.parts), func(i int) bool { return m.parts[i].off+int64(len(m.parts[i].data)) > off })
	for ; i < len(m.parts) && m.parts[i].off < off+int64(n); i++ {
		from := m.parts[i].off - off
		if from < 0 {
			filled += copy(p[:n], m.parts[i].data[-from:])
		} else {
			filled += copy(p[from:n], m.parts[i].data)
		}
	}
	m.read += int64(n)
	m.holes += int64(n - filled)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// torchZip lays records out as torch does (miniz with 64-byte alignment):
// local headers without sizes, data descriptors, and the ZIP64 forms where
// sizes or offsets need them.
func torchZip(root string, records ...record) *image {
	m := &image{}
	le := binary.LittleEndian
	var central []byte
	for _, r := range records {
		name := root + "/" + r.name
		size := r.size
		var crc uint32
		if r.data != nil {
			size, crc = int64(len(r.data)), crc32.ChecksumIEEE(r.data)
		}
		offset := m.size
		wideSize, wideOffset := size >= math.MaxUint32, offset >= math.MaxUint32
		var wide []byte
		if wideSize {
			wide = le.AppendUint64(le.AppendUint64(wide, uint64(size)), uint64(size))
		}
		if wideOffset {
			wide = le.AppendUint64(wide, uint64(offset))
		}
		if wide != nil {
			wide = append(le.AppendUint16(le.AppendUint16(nil, 1), uint16(len(wide))), wide...)
		}
		header := int64(30 + len(name) + len(wide) + 4)
		pad := (64 - (offset+header)%64) % 64
		extra := append(bytes.Clone(wide), 'F', 'B', byte(pad), 0)
		extra = append(extra, bytes.Repeat([]byte{'Z'}, int(pad))...)
		m.add(concat("PK\x03\x04", u16(0, 0x0808, 0, 0, 0), u32(0, 0, 0), u16(uint16(len(name)), uint16(len(extra))), name, extra))
		if r.data != nil {
			m.add(r.data)
		} else {
			m.size += size
		}
		if wide != nil {
			m.add(concat("PK\x07\x08", u32(crc), le.AppendUint64(le.AppendUint64(nil, uint64(size)), uint64(size))))
		} else {
			m.add(concat("PK\x07\x08", u32(crc, uint32(size), uint32(size))))
		}
		size32, offset32 := uint32(min(size, math.MaxUint32)), uint32(min(offset, math.MaxUint32))
		central = append(central, concat("PK\x01\x02", u16(0, 0, 0x0808, 0, 0, 0), u32(crc, size32, size32),
			u16(uint16(len(name)), uint16(len(wide)), 0, 0, 0), u32(0, offset32), name, wide)...)
	}
	start := m.size
	m.add(central)
	count, n := uint64(len(records)), uint64(len(central))
	if start >= math.MaxUint32 || count >= math.MaxUint16 {
		end := m.size
		u64 := func(v ...uint64) []byte {
			var b []byte
			for _, x := range v {
				b = le.AppendUint64(b, x)
			}
			return b
		}
		m.add(concat("PK\x06\x06", u64(44), u16(0x031e, 45), u32(0, 0), u64(count, count, n, uint64(start))))
		m.add(concat("PK\x06\x07", u32(0), u64(uint64(end)), u32(1)))
	}
	short := uint16(min(count, math.MaxUint16))
	m.add(concat("PK\x05\x06", u16(0, 0, short, short), u32(uint32(n), uint32(min(start, math.MaxUint32))), u16(0)))
	return m
}

func u16(v ...uint16) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

func u32(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func concat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

// bytes gives a small image as a file.
func (m *image) bytes() []byte {
	b := make([]byte, m.size)
	if n, err := m.ReadAt(b, 0); n < len(b) {
		panic(fmt.Sprint("image: ", err))
	}
	return b
}

// checkpointOf is a zip container around a pickled value, with storages of
// float32 zeros.
func checkpointOf(value string, numels ...int64) *image {
	records := []record{{name: "data.pkl", data: pickled(value)}}
	for i, n := range numels {
		records = append(records, record{name: fmt.Sprintf("data/%d", i), data: make([]byte, 4*n)})
	}
	return torchZip("archive", append(records, record{name: "version", data: []byte("3\n")})...)
}

// legacyOf is a legacy file around a pickled value.
func legacyOf(value string, keys []string, storages ...[]byte) []byte {
	var list []string
	for _, k := range keys {
		list = append(list, pStr(k))
	}
	b := concat(pickled("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"), pickled(pInt(1001)),
		pickled(pDict(pStr("protocol_version"), pInt(1001), pStr("little_endian"), pTrue)), pickled(value), pickled(pList(list...)))
	for _, s := range storages {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)/4))
		b = append(b, s...)
	}
	return b
}

// legacyTensor is pTensor with the sixth item of the persistent id.
func legacyTensor(key string, n int64, view string) string {
	id := pTuple(pStr("storage"), pGlobal("torch FloatStorage"), pStr(key), pStr("cpu"), pInt(n), view) + "Q"
	return pView(id, 0, []int64{n}, []int64{1})
}
