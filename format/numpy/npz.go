package numpy

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
)

// OpenNPZ reads an .npz archive: arrays by name, stored or deflated. Entries
// that are no arrays, or arrays that safetensors cannot hold, give a
// *format.UnsupportedError; an archive that readers could see differently gives a
// *format.Error.
func OpenNPZ(r io.ReaderAt, size int64, lim Limits) (*format.Checkpoint, error) {
	entries, err := directory(r, size, lim)
	if err != nil {
		return nil, err
	}
	ck := &format.Checkpoint{Framework: framework}
	limit := lim.InflateLimit(size)
	for _, e := range entries {
		if e.Method == zip.Deflate {
			if e.UncompressedSize64 > uint64(limit) {
				return nil, &format.Error{Format: "npz", Where: e.Name, Offset: -1, Detail: "the archive inflates to more than allowed"}
			}
			limit -= int64(e.UncompressedSize64)
		}
		t, err := e.tensor(r, lim)
		if err != nil {
			return nil, within("npz", e.Name, err)
		}
		ck.Tensors = append(ck.Tensors, *t)
	}
	if len(ck.Tensors) == 0 {
		return nil, &format.UnsupportedError{Format: "npz", What: "archive without any array in it", Next: "leave it out, there is nothing to convert"}
	}
	return ck, nil
}

// entry is an entry of the archive, with the place of its bytes.
type entry struct {
	*zip.File
	data    int64
	streams *format.Streams // of the archive
}

// directory reads the archive strictly: every byte before its directory
// belongs to one entry, and local headers name what the directory names.
func directory(r io.ReaderAt, size int64, lim Limits) ([]*entry, error) {
	bad := func(where, layout string, args ...any) error {
		return &format.Error{Format: "npz", Where: where, Offset: -1, Detail: fmt.Sprintf(layout, args...)}
	}
	z, err := zip.NewReader(r, size)
	switch {
	case errors.Is(err, zip.ErrInsecurePath): // names are only names here
	case err != nil:
		return nil, bad("", "%v", err)
	case z.Comment != "":
		return nil, bad("", "the archive has a comment, which no numpy writes")
	}
	if int64(len(z.File)) > lim.entries() {
		return nil, bad("", "%d entries, more than %d", len(z.File), lim.entries())
	}
	entries, streams := make([]*entry, len(z.File)), new(format.Streams)
	names := map[string]bool{}
	for i, f := range z.File {
		name := strings.TrimSuffix(f.Name, ".npy")
		switch {
		case name == f.Name:
			return nil, &format.UnsupportedError{Format: "npz", Where: f.Name, What: "entry that is no array", Next: "pack the arrays alone, with numpy.savez"}
		case names[name]:
			return nil, bad(f.Name, "the entry is there twice")
		case f.Flags&^0x080e != 0: // descriptor, UTF-8, how hard deflate tried
			return nil, bad(f.Name, "the entry is encrypted or of another unknown sort (flags %#x)", f.Flags)
		case f.Method != zip.Store && f.Method != zip.Deflate:
			return nil, bad(f.Name, "the compression method %d is unknown", f.Method)
		case f.Method == zip.Store && f.CompressedSize64 != f.UncompressedSize64:
			return nil, bad(f.Name, "the entry is stored, but its sizes differ")
		case f.CompressedSize64 > uint64(size) || f.UncompressedSize64 > 1<<62:
			return nil, bad(f.Name, "the entry is larger than the file")
		case !utf8.ValidString(f.Name) || f.NonUTF8 && f.Flags&0x800 != 0:
			return nil, bad(f.Name, "the name is not UTF-8")
		}
		names[name] = true
		at, err := f.DataOffset()
		if err != nil {
			return nil, bad(f.Name, "%v", err)
		}
		entries[i] = &entry{File: f, data: at, streams: streams}
	}
	return entries, tiled(r, entries)
}

// tiled checks that the entries follow each other from the first byte on.
func tiled(r io.ReaderAt, entries []*entry) error {
	order := make([]*entry, len(entries))
	copy(order, entries)
	sort.Slice(order, func(i, k int) bool { return order[i].data < order[k].data })
	at := int64(0)
	for i, e := range order {
		ok := localAt(r, at, e)
		for _, n := range []int64{12, 16, 20, 24} { // a data descriptor with or without signature, 32 or 64 bits
			if !ok && i > 0 && order[i-1].Flags&8 != 0 && localAt(r, at+n, e) {
				ok = true
			}
		}
		if !ok {
			return &format.Error{Format: "npz", Where: e.Name, Offset: at, Detail: "no local header of this entry follows the entry before it"}
		}
		at = e.data + int64(e.CompressedSize64)
	}
	return nil
}

// localAt says whether the entry's local header is there, and agrees.
func localAt(r io.ReaderAt, at int64, e *entry) bool {
	b := make([]byte, 30+len(e.Name))
	if n, _ := r.ReadAt(b, at); n < len(b) || binary.LittleEndian.Uint32(b) != 0x04034b50 {
		return false
	}
	le := binary.LittleEndian
	name, extra := int(le.Uint16(b[26:])), int64(le.Uint16(b[28:]))
	return name == len(e.Name) && string(b[30:]) == e.Name && le.Uint16(b[8:]) == e.Method &&
		le.Uint16(b[6:]) == e.Flags && at+int64(len(b))+extra == e.data
}

// tensor reads an entry's header.
func (e *entry) tensor(r io.ReaderAt, lim Limits) (*format.Tensor, error) {
	size := int64(e.UncompressedSize64)
	var content io.ReaderAt = io.NewSectionReader(r, e.data, size)
	if e.Method == zip.Deflate {
		content = e.inflated(r)
	}
	h, err := readHeader(content, size, lim)
	if err != nil {
		return nil, err
	}
	if err := h.dtype.Convertible("npz", e.Name); err != nil {
		return nil, err
	}
	if size-h.data != h.bytes {
		return nil, fault(-1, "the array takes %d bytes, the entry has %d", h.bytes, size-h.data)
	}
	st := &format.Storage{Data: io.NewSectionReader(content, h.data, h.bytes), Length: h.bytes, Offset: e.data + h.data, Key: e.Name}
	if e.Method == zip.Deflate {
		st.Offset = -1
		if h.bytes <= inMemory {
			b := make([]byte, h.bytes)
			if n, err := content.ReadAt(b, h.data); int64(n) < h.bytes {
				return nil, short(err)
			}
			st.Data, st.Key = bytes.NewReader(b), ""
		}
	}
	t := NewTensor(strings.TrimSuffix(e.Name, ".npy"), h.dtype, h.shape, h.fortran, st)
	return &t, nil
}

// inMemory is the size up to which a compressed array is kept as it is when
// its header is read, for it is at hand then.
const inMemory = 4 << 10

// inflated gives a deflated entry's content.
func (e *entry) inflated(r io.ReaderAt) io.ReaderAt {
	return e.streams.New(int64(e.UncompressedSize64), func() (io.Reader, error) {
		in := bufio.NewReader(io.NewSectionReader(r, e.data, int64(e.CompressedSize64)))
		return &checked{in: in, r: flate.NewReader(in), left: e.UncompressedSize64, want: e.CRC32, name: e.Name}, nil
	})
}

// checked compares the checksum, and that the data ends where it should.
type checked struct {
	in   *bufio.Reader
	r    io.Reader
	left uint64
	sum  uint32
	want uint32
	name string
}

func (c *checked) broken(detail string) error {
	return &format.Error{Format: "npz", Where: c.name, Offset: -1, Detail: detail}
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if uint64(n) > c.left {
		return 0, c.broken("more data than declared")
	}
	c.left -= uint64(n)
	c.sum = crc32.Update(c.sum, crc32.IEEETable, p[:n])
	switch {
	case err == io.EOF && c.left > 0:
		return n, c.broken("less data than declared")
	case err != nil && err != io.EOF:
		return n, c.broken(err.Error())
	case c.left == 0 && err == nil: // does anything follow?
		var one [1]byte
		k, end := c.r.Read(one[:])
		if k > 0 || end != io.EOF {
			return n, c.broken("more data than declared")
		}
		err = io.EOF
	}
	if err == io.EOF {
		if _, more := c.in.ReadByte(); more != io.EOF {
			return 0, c.broken("bytes follow the compressed data")
		}
		if c.sum != c.want {
			return 0, c.broken("the checksum differs")
		}
	}
	return n, err
}
