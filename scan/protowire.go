package scan

import (
	"errors"
	"fmt"
	"io"
)

// message walks the fields of a protobuf message that lies in a file, without
// reading the long ones: weights are bytes fields of many megabytes.
// Wire format: https://protobuf.dev/programming-guides/encoding.
type message struct {
	c     *cursor
	start int64
	// work counts fields over the whole file.
	work *int64
	// depth of messages in messages.
	depth int

	num  int32
	wire uint8
	val  uint64 // varint or fixed
	at   int64  // of a bytes field's content
	len  int64
}

const (
	wireVarint = 0
	wireI64    = 1
	wireLen    = 2
	wireI32    = 5
)

const (
	maxProtoFields = 20_000_000
	maxProtoDepth  = 64
	maxProtoText   = 1 << 20
)

var errProto = errors.New("not a well-formed protobuf message")

func newMessage(r io.ReaderAt, start, end int64) *message {
	return &message{c: newCursor(r, start, end), start: start, work: new(int64)}
}

// next moves to the next field; false at the end.
func (m *message) next() (bool, error) {
	if m.c.left() == 0 {
		return false, nil
	}
	if *m.work++; *m.work > maxProtoFields {
		return false, fmt.Errorf("more than %d fields: %w", maxProtoFields, errLimit)
	}
	tag, err := m.varint()
	if err != nil {
		return false, err
	}
	if tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return false, fmt.Errorf("%w: field number %d at byte %d", errProto, tag>>3, m.c.pos)
	}
	m.num, m.wire = int32(tag>>3), uint8(tag&7)
	switch m.wire {
	case wireVarint:
		m.val, err = m.varint()
	case wireI64:
		m.val, err = m.c.u64()
	case wireI32:
		var v uint32
		v, err = m.c.u32()
		m.val = uint64(v)
	case wireLen:
		var n uint64
		if n, err = m.varint(); err != nil {
			break
		}
		if n > uint64(m.c.left()) {
			return false, fmt.Errorf("%w: a field of %d bytes at byte %d, %d are left", errProto, n, m.c.pos, m.c.left())
		}
		m.at, m.len = m.c.pos, int64(n)
		err = m.c.skip(int64(n))
	default:
		return false, fmt.Errorf("%w: wire type %d at byte %d", errProto, m.wire, m.c.pos)
	}
	return err == nil, err
}

func (m *message) varint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 70; shift += 7 {
		b, err := m.c.byte()
		if err != nil {
			return 0, fmt.Errorf("%w: it ends inside a number", errProto)
		}
		if shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%w: a number of more than 64 bits at byte %d", errProto, m.c.pos)
}

// sub is the message in the bytes field that next moved to.
func (m *message) sub() (*message, error) {
	if m.depth >= maxProtoDepth {
		return nil, fmt.Errorf("messages nested more than %d deep: %w", maxProtoDepth, errLimit)
	}
	if m.wire != wireLen {
		return nil, fmt.Errorf("%w: field %d is no message", errProto, m.num)
	}
	c := newCursor(m.c.r, m.at, m.at+m.len)
	c.windowLen = 512
	return &message{c: c, start: m.at, work: m.work, depth: m.depth + 1}, nil
}

// text is the bytes field as a string.
func (m *message) text() (string, error) {
	if m.wire != wireLen {
		return "", fmt.Errorf("%w: field %d is no text", errProto, m.num)
	}
	if m.len > maxProtoText {
		return "", fmt.Errorf("a text of %d bytes: %w", m.len, errLimit)
	}
	b := peek(m.c.r, m.at+m.len, m.at, int(m.len))
	if int64(len(b)) < m.len {
		return "", io.ErrUnexpectedEOF
	}
	return string(b), nil
}

// each calls f for every field of the message.
func (m *message) each(f func() error) error {
	for {
		ok, err := m.next()
		if !ok || err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
}
