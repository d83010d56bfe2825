package scan

import (
	"encoding/binary"
	"io"
	"strings"
)

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// head reads up to n bytes from the beginning.
func head(r io.ReaderAt, size int64, n int) []byte {
	return peek(r, size, 0, n)
}

// peek reads up to n bytes at off, fewer at the end of the file.
func peek(r io.ReaderAt, size, off int64, n int) []byte {
	if off < 0 || off >= size {
		return nil
	}
	buf := make([]byte, min(int64(n), size-off))
	k, _ := r.ReadAt(buf, off)
	return buf[:k]
}

// peekText is as peek, from the beginning and for texts: it holds them once.
func peekText(r io.ReaderAt, size int64, most int) string {
	n := min(size, int64(most))
	var s strings.Builder
	s.Grow(int(n))
	buf := make([]byte, min(n, 64<<10))
	for at := int64(0); at < n; {
		k, err := r.ReadAt(buf[:min(int64(len(buf)), n-at)], at)
		s.Write(buf[:k])
		if at += int64(k); k == 0 || err != nil {
			break
		}
	}
	return s.String()
}

// cursor reads forward through a ReaderAt, through a small window, and can
// skip without reading.
type cursor struct {
	r         io.ReaderAt
	pos, end  int64
	buf       []byte
	bufAt     int64
	windowLen int
	bigEndian bool
}

func newCursor(r io.ReaderAt, start, end int64) *cursor {
	return &cursor{r: r, pos: start, end: end, windowLen: 4096}
}

func (c *cursor) left() int64 { return c.end - c.pos }

// bytes gives the next n bytes, valid until the next call. n must be small:
// callers check lengths against what is left and their own bound first.
func (c *cursor) bytes(n int) ([]byte, error) {
	if int64(n) > c.left() || n < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	i := c.pos - c.bufAt
	if i < 0 || i+int64(n) > int64(len(c.buf)) {
		want := min(int64(max(n, c.windowLen)), c.left())
		if int64(cap(c.buf)) < want {
			c.buf = make([]byte, want)
		}
		c.buf = c.buf[:want]
		k, err := c.r.ReadAt(c.buf, c.pos)
		if int64(k) < want {
			c.buf = c.buf[:k]
			if k < n {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		c.bufAt, i = c.pos, 0
	}
	c.pos += int64(n)
	return c.buf[i : i+int64(n)], nil
}

func (c *cursor) byte() (byte, error) {
	b, err := c.bytes(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (c *cursor) u32() (uint32, error) {
	b, err := c.bytes(4)
	if err != nil {
		return 0, err
	}
	if c.bigEndian {
		return binary.BigEndian.Uint32(b), nil
	}
	return le32(b), nil
}

func (c *cursor) u64() (uint64, error) {
	b, err := c.bytes(8)
	if err != nil {
		return 0, err
	}
	if c.bigEndian {
		return binary.BigEndian.Uint64(b), nil
	}
	return le64(b), nil
}

// skip moves on by n bytes without reading them.
func (c *cursor) skip(n int64) error {
	if n < 0 || n > c.left() {
		return io.ErrUnexpectedEOF
	}
	c.pos += n
	return nil
}
