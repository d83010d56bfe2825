package pickle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// longText passes over n bytes of UTF-8, which stay in the stream.
func (m *machine) longText(n uint64) error {
	if err := m.w.check(n); err != nil {
		return err
	}
	t := &LongText{Offset: m.w.offset(), Len: int64(n), Opcode: m.op}
	m.w.skip(t.Len)
	return m.pushLong(t)
}

// longLine passes over a line of raw-unicode-escape that begins at start, and
// of which more than is kept has been read.
func (m *machine) longLine(start int64) error {
	m.w.back(start)
	n, err := m.w.lineLength()
	if err != nil {
		return err
	}
	t := &LongText{Offset: start, Len: n, Opcode: m.op}
	m.w.skip(n + 1)
	return m.pushLong(t)
}

func (m *machine) pushLong(t *LongText) error {
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	m.refs += t.Len
	t.Latin1 = true
	r := newRunes(m.w.r, t)
	for {
		c, err := r.next()
		if err == io.EOF {
			return m.push(t)
		}
		if err != nil {
			return err
		}
		t.Runes++
		t.Latin1 = t.Latin1 && c <= 0xff
	}
}

// Bytes gives the characters as bytes, as the codec latin1 encodes them, read
// from the reader that was given to Load. The text must be Latin1.
func (t *LongText) Bytes(r io.ReaderAt) io.Reader { return newRunes(r, t) }

// runes decodes the characters of a LongText.
type runes struct {
	in      *bufio.Reader
	escaped bool
}

func newRunes(r io.ReaderAt, t *LongText) *runes {
	return &runes{bufio.NewReaderSize(io.NewSectionReader(r, t.Offset, t.Len), 64<<10), t.Opcode == 'V'}
}

// next gives the next character; io.EOF after the last.
func (d *runes) next() (rune, error) {
	if d.escaped {
		return d.escape()
	}
	c, n, err := d.in.ReadRune()
	if err != nil {
		return 0, readingText(err)
	}
	if c == utf8.RuneError && n == 1 {
		return 0, fmt.Errorf("%w: long text is not UTF-8", ErrSyntax)
	}
	return c, nil
}

// escape decodes one character of raw-unicode-escape: see rawUnicodeEscape.
func (d *runes) escape() (rune, error) {
	b, err := d.in.ReadByte()
	if err != nil {
		return 0, readingText(err)
	}
	if b != '\\' {
		return rune(b), nil
	}
	next, err := d.in.Peek(1)
	if err != nil && err != io.EOF {
		return 0, readingText(err)
	}
	width := 0
	if len(next) == 1 && next[0] == 'u' {
		width = 4
	} else if len(next) == 1 && next[0] == 'U' {
		width = 8
	}
	if width == 0 {
		return '\\', nil
	}
	piece, err := d.in.Peek(1 + width)
	if err != nil {
		return 0, fmt.Errorf("%w: truncated \\%c escape", ErrSyntax, next[0])
	}
	c, err := parseEscape(piece)
	if err != nil {
		return 0, err
	}
	_, err = d.in.Discard(1 + width)
	return c, err
}

func readingText(err error) error {
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("reading text: %w", err)
}

// Read gives characters as bytes.
func (d *runes) Read(p []byte) (int, error) {
	for n := range p {
		c, err := d.next()
		if err != nil {
			return n, err
		}
		if c > 0xff {
			return n, errors.New("text that is no Latin-1")
		}
		p[n] = byte(c)
	}
	return len(p), nil
}
