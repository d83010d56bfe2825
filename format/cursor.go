package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Cursor reads the small parts of a file forward, and jumps over the large
// ones without reading them. Every length is checked against what is left
// before anything is allocated.
type Cursor struct {
	Order binary.ByteOrder // of numbers; little-endian at first

	format   string
	r        io.ReaderAt
	pos, end int64
	at       int64 // of buf
	buf      []byte
	ahead    int64 // how much to read at a time
}

// What is read at a time: little behind a jump, more and more when it goes on.
const (
	leastAhead = 512
	mostAhead  = 64 << 10
)

// NewCursor starts at the beginning of a file. name is the format's, for
// errors.
func NewCursor(name string, r io.ReaderAt, size int64) *Cursor {
	return &Cursor{Order: binary.LittleEndian, format: name, r: r, end: size, ahead: leastAhead}
}

// Pos is the offset in the file of the next byte.
func (c *Cursor) Pos() int64 { return c.pos }

// Left is the number of bytes up to the end, or the end of what Enter entered.
func (c *Cursor) Left() int64 { return c.end - c.pos }

// Errorf is an *Error at an offset of the file.
func (c *Cursor) Errorf(offset int64, where, detail string, args ...any) error {
	return &Error{Format: c.format, Where: where, Offset: offset, Detail: fmt.Sprintf(detail, args...)}
}

// Need fails when fewer than n bytes are left.
func (c *Cursor) Need(n uint64) error {
	if left := c.Left(); n > uint64(left) {
		return c.Errorf(c.pos, "", "%d bytes are wanted and %d are left", n, left)
	}
	return nil
}

// Enter makes the next n bytes all that is left, until Leave is called with
// what it returns.
func (c *Cursor) Enter(n uint64) (outer int64, err error) {
	if err := c.Need(n); err != nil {
		return 0, err
	}
	outer, c.end = c.end, c.pos+int64(n)
	return outer, nil
}

// Leave goes to the end of what was entered, and on from there.
func (c *Cursor) Leave(outer int64) { c.pos, c.end = c.end, outer }

// Skip jumps over n bytes.
func (c *Cursor) Skip(n uint64) error {
	if err := c.Need(n); err != nil {
		return err
	}
	c.pos += int64(n)
	return nil
}

// Back goes to an offset that was passed already.
func (c *Cursor) Back(pos int64) { c.pos = max(0, min(pos, c.end)) }

// view gives n bytes, at most leastAhead, that are good until the next call.
func (c *Cursor) view(n int64) ([]byte, error) {
	if err := c.Need(uint64(n)); err != nil {
		return nil, err
	}
	if c.pos < c.at || c.pos+n > c.at+int64(len(c.buf)) {
		if err := c.load(n); err != nil {
			return nil, err
		}
	}
	b := c.buf[c.pos-c.at:][:n]
	c.pos += n
	return b, nil
}

// load reads at least n bytes at the cursor.
func (c *Cursor) load(n int64) error {
	if seen := c.at + int64(len(c.buf)); c.pos <= seen && c.pos >= c.at && len(c.buf) > 0 {
		c.ahead = min(2*c.ahead, mostAhead)
	} else {
		c.ahead = leastAhead
	}
	want := min(max(n, c.ahead), c.end-c.pos)
	if int64(cap(c.buf)) < want {
		c.buf = make([]byte, want)
	}
	b := c.buf[:want]
	c.buf = c.buf[:0]
	if err := c.fill(b); err != nil {
		return err
	}
	c.at, c.buf = c.pos, b
	return nil
}

// fill reads all of b at the cursor.
func (c *Cursor) fill(b []byte) error {
	n, err := c.r.ReadAt(b, c.pos)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: reading %d bytes at offset %d: %w", c.format, len(b), c.pos, err)
}

// Byte reads one byte.
func (c *Cursor) Byte() (byte, error) {
	b, err := c.view(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// Uint reads an unsigned number of 1, 2, 4 or 8 bytes.
func (c *Cursor) Uint(bytes int64) (uint64, error) {
	b, err := c.view(bytes)
	if err != nil {
		return 0, err
	}
	switch bytes {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(c.Order.Uint16(b)), nil
	case 4:
		return uint64(c.Order.Uint32(b)), nil
	}
	return c.Order.Uint64(b), nil
}

// Int reads a number of 1, 2, 4 or 8 bytes in two's complement.
func (c *Cursor) Int(bytes int64) (int64, error) {
	v, err := c.Uint(bytes)
	shift := 64 - 8*bytes
	return int64(v<<shift) >> shift, err
}

// Float reads an IEEE 754 number of 4 or 8 bytes.
func (c *Cursor) Float(bytes int64) (float64, error) {
	v, err := c.Uint(bytes)
	if bytes == 4 {
		return float64(math.Float32frombits(uint32(v))), err
	}
	return math.Float64frombits(v), err
}

// Bytes reads n bytes into memory of their own. limit is how many there may be.
func (c *Cursor) Bytes(n, limit uint64) ([]byte, error) {
	if err := c.Need(n); err != nil {
		return nil, err
	}
	if n > limit {
		return nil, c.Errorf(c.pos, "", "a text of %d bytes, at most %d are read", n, limit)
	}
	if n <= leastAhead {
		b, err := c.view(int64(n))
		return append([]byte(nil), b...), err
	}
	b := make([]byte, n)
	if err := c.fill(b); err != nil {
		return nil, err
	}
	c.pos += int64(n)
	return b, nil
}
