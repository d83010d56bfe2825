package hdf5

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	filterDeflate  = 1
	filterShuffle  = 2
	filterFletcher = 3
)

var filterNames = map[int]string{
	4: "szip", 5: "nbit", 6: "scaleoffset", 305: "LZO", 307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4",
	32008: "bitshuffle", 32013: "ZFP", 32015: "Zstandard", 32026: "Blosc2",
}

// filter is a step of the pipeline that chunks went through.
type filter struct {
	id    int
	width int // of an element, for shuffle
}

// filters reads a filter pipeline message (section IV.A.2.l).
func (c *cursor) filters() ([]filter, error) {
	version, n := c.u8(), int(c.u8())
	const most = 32
	if c.err == nil && (version < 1 || version > 2 || n > most) {
		return nil, c.f.bad(c.at, "%d filters of version %d", n, version)
	}
	if version == 1 {
		c.skip(6)
	}
	var all []filter
	for range n {
		id, name := c.u16(), 0
		if version == 1 || id >= 256 {
			name = c.u16()
		}
		c.skip(2) // flags: a filter may be optional in writing, never in reading
		values := c.u16()
		if version == 1 {
			name = (name + 7) &^ 7
		}
		c.skip(name)
		p := filter{id: id}
		for i := range values {
			if v := c.u32(); i == 0 {
				p.width = int(v)
			}
		}
		if version == 1 && values%2 == 1 {
			c.skip(4)
		}
		if c.err != nil {
			return nil, c.err
		}
		switch id {
		case filterDeflate, filterShuffle, filterFletcher:
		default:
			what := filterNames[id]
			if what == "" {
				what = "unknown"
			}
			return nil, c.f.unsupported("pack it again with deflate: h5repack -f GZIP=1 IN OUT", "dataset under filter %d (%s)", id, what)
		}
		all = append(all, p)
	}
	return all, c.err
}

// undo takes a chunk's bytes back through the filters. limit is how many
// bytes any step may give.
func undo(filters []filter, mask uint32, b []byte, limit int64) ([]byte, error) {
	var err error
	for i := len(filters) - 1; i >= 0; i-- {
		if mask>>i&1 != 0 {
			continue
		}
		switch filters[i].id {
		case filterDeflate:
			b, err = inflate(b, limit)
		case filterShuffle:
			b = unshuffle(b, filters[i].width)
		case filterFletcher:
			b, err = checkFletcher(b)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func inflate(b []byte, limit int64) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("deflate: %w", err)
	}
	var out bytes.Buffer
	out.Grow(int(min(limit, 1032*int64(len(b))+64)) + bytes.MinRead)
	n, err := io.Copy(&out, io.LimitReader(z, limit+1))
	if err != nil {
		return nil, fmt.Errorf("deflate: %w", err)
	}
	if n > limit {
		return nil, errors.New("deflate: more bytes than the chunk has")
	}
	return out.Bytes(), nil
}

// unshuffle puts the bytes of elements together again: first bytes of all
// elements, then second ones, and so on; what is over stays at the end.
func unshuffle(b []byte, width int) []byte {
	if width <= 1 || len(b) < width {
		return b
	}
	n := len(b) / width
	out := make([]byte, len(b))
	for k := range width {
		plane := b[k*n : (k+1)*n]
		for i, x := range plane {
			out[i*width+k] = x
		}
	}
	copy(out[n*width:], b[n*width:])
	return out
}

// checkFletcher checks the Fletcher checksum in the last four bytes.
func checkFletcher(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, errors.New("fletcher32: no checksum")
	}
	data, want := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	got := fletcher32(data)
	// Libraries before 1.6.3 swapped the bytes of each half (H5Zfletcher32.c).
	if old := got&0x00ff00ff<<8 | got>>8&0x00ff00ff; want != got && want != old {
		return nil, fmt.Errorf("fletcher32: checksum is %08x, but the bytes have %08x", want, got)
	}
	return data, nil
}

func fletcher32(b []byte) uint32 {
	var lo, hi uint32
	for len(b) > 1 {
		n := min(len(b)/2, 360) // no overflow before the sums are folded
		for range n {
			lo += uint32(binary.BigEndian.Uint16(b))
			hi += lo
			b = b[2:]
		}
		lo, hi = lo&0xffff+lo>>16, hi&0xffff+hi>>16
	}
	if len(b) == 1 {
		lo += uint32(b[0]) << 8
		hi += lo
	}
	for range 2 {
		lo, hi = lo&0xffff+lo>>16, hi&0xffff+hi>>16
	}
	return hi<<16 | lo
}

// inflateZip inflates raw deflate to exactly size bytes, and checks them.
func inflateZip(r io.Reader, size int64, sum uint32) ([]byte, error) {
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(flate.NewReader(r), size+1))
	switch {
	case err != nil:
		return nil, err
	case n != size:
		return nil, fmt.Errorf("inflates to other than its %d bytes", size)
	case crc32.ChecksumIEEE(out.Bytes()) != sum:
		return nil, errors.New("its checksum is wrong")
	}
	return out.Bytes(), nil
}
