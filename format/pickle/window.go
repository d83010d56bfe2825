package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// window reads a stream through one small buffer, so that a pickle inside a
// file of many gigabytes costs only what its opcodes take.
type window struct {
	r    io.ReaderAt
	buf  []byte // capacity: the window
	base int64  // file offset of buf[0]
	pos  int    // next byte in buf
	end  int64  // the stream may not read at or past this offset
}

const windowSize = 64 << 10

func newWindow(r io.ReaderAt, start, end int64) *window {
	size := int64(windowSize)
	if end-start < size {
		size = end - start
	}
	return &window{r: r, buf: make([]byte, 0, size), base: start, end: end}
}

func (w *window) offset() int64 { return w.base + int64(w.pos) }
func (w *window) left() int64   { return w.end - w.offset() }

// fill makes at least n bytes readable at pos; n is at most cap(buf).
func (w *window) fill(n int) error {
	if len(w.buf)-w.pos >= n {
		return nil
	}
	if w.left() < int64(n) {
		return fmt.Errorf("%w: needs %d bytes, %d left", ErrTruncated, n, w.left())
	}
	w.base, w.pos = w.offset(), 0
	size := int64(cap(w.buf))
	if w.left() < size {
		size = w.left()
	}
	got, err := w.r.ReadAt(w.buf[:size], w.base)
	w.buf = w.buf[:max(got, 0)]
	if len(w.buf) < n {
		return readError(err)
	}
	return nil
}

// readError is what a short ReadAt means: the file is shorter than it was
// said to be, or cannot be read.
func readError(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the file ends before the stream", ErrTruncated)
	}
	return err
}

func (w *window) byte() (byte, error) {
	if w.pos >= len(w.buf) {
		if err := w.fill(1); err != nil {
			return 0, err
		}
	}
	b := w.buf[w.pos]
	w.pos++
	return b, nil
}

// fixed gives the next n bytes (n <= 8), valid until the next read.
func (w *window) fixed(n int) ([]byte, error) {
	if err := w.fill(n); err != nil {
		return nil, err
	}
	b := w.buf[w.pos : w.pos+n]
	w.pos += n
	return b, nil
}

func (w *window) uint(n int) (uint64, error) {
	b, err := w.fixed(n)
	if err != nil {
		return 0, err
	}
	var v uint64
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v, nil
}

// check says whether n further bytes can be there at all.
func (w *window) check(n uint64) error {
	if n > uint64(w.left()) {
		return fmt.Errorf("%w: declares %d bytes, %d left", ErrLength, n, w.left())
	}
	return nil
}

// bytes gives a copy of the next n bytes, which the caller has checked and
// bounded.
func (w *window) bytes(n int64) ([]byte, error) {
	if n <= int64(len(w.buf)-w.pos) {
		b := make([]byte, n)
		copy(b, w.buf[w.pos:])
		w.pos += int(n)
		return b, nil
	}
	b := make([]byte, n)
	if err := w.readAt(b, w.offset()); err != nil {
		return nil, err
	}
	w.skip(n)
	return b, nil
}

// text is bytes as a string, with one copy where possible.
func (w *window) text(n int64) (string, error) {
	if n <= int64(len(w.buf)-w.pos) {
		s := string(w.buf[w.pos : w.pos+int(n)])
		w.pos += int(n)
		return s, nil
	}
	b, err := w.bytes(n)
	return string(b), err
}

func (w *window) readAt(b []byte, off int64) error {
	n, err := w.r.ReadAt(b, off)
	if n < len(b) {
		return readError(err)
	}
	return nil
}

// skip passes over n bytes, which the caller has checked, unread.
func (w *window) skip(n int64) {
	if n <= int64(len(w.buf)-w.pos) {
		w.pos += int(n)
		return
	}
	w.base, w.pos, w.buf = w.offset()+n, 0, w.buf[:0]
}

// line gives the bytes up to the next newline, which is passed over and not
// part of the result. It is valid until the next read.
func (w *window) line(limit int64) ([]byte, error) {
	var long []byte
	for {
		if err := w.fill(1); err != nil {
			return nil, err
		}
		chunk := w.buf[w.pos:]
		for i, c := range chunk {
			if c == '\n' {
				w.pos += i + 1
				if long == nil {
					return chunk[:i], nil
				}
				return append(long, chunk[:i]...), nil
			}
		}
		if int64(len(long)+len(chunk)) > limit {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrLimit, limit)
		}
		long = append(long, chunk...)
		w.pos = len(w.buf)
	}
}

// back goes to an offset that was passed before.
func (w *window) back(off int64) { w.base, w.pos, w.buf = off, 0, w.buf[:0] }

// lineLength says how far away the next newline is, which may be anywhere.
func (w *window) lineLength() (int64, error) {
	start := w.offset()
	defer w.back(start)
	for {
		if err := w.fill(1); err != nil {
			return 0, err
		}
		if i := bytes.IndexByte(w.buf[w.pos:], '\n'); i >= 0 {
			w.pos += i
			return w.offset() - start, nil
		}
		w.pos = len(w.buf)
	}
}
