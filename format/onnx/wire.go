package onnx

import (
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
)

// The wire format of protocol buffers
// (protobuf.dev/programming-guides/encoding): fields of a number and a type.
// Groups, which ONNX does not use, are refused.

const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// field is one field of a message. The content of one of wireBytes follows in
// the file, and whoever gets the field goes past it.
type field struct {
	number uint64
	wire   uint64
	value  uint64 // the number, or the length of the content
	at     int64  // offset of the field
}

func (m *reader) varint() (uint64, error) {
	at := m.Pos()
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b, err := m.Byte()
		if err != nil {
			return 0, err
		}
		if shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, m.Errorf(at, "", "a number of more than 64 bits")
}

// next reads a field up to its content.
func (m *reader) next() (field, error) {
	f := field{at: m.Pos()}
	if m.fields--; m.fields < 0 {
		return f, m.Errorf(f.at, "", "more fields than are read from one file")
	}
	tag, err := m.varint()
	if err != nil {
		return f, err
	}
	f.number, f.wire = tag>>3, tag&7
	if f.number == 0 || f.number > 1<<29-1 {
		return f, m.Errorf(f.at, "", "field number %d", f.number)
	}
	switch f.wire {
	case wireVarint:
		f.value, err = m.varint()
	case wire64:
		f.value, err = m.Uint(8)
	case wire32:
		f.value, err = m.Uint(4)
	case wireBytes:
		if f.value, err = m.varint(); err == nil {
			err = m.Need(f.value)
		}
	default:
		err = m.Errorf(f.at, "", "wire type %d", f.wire)
	}
	return f, err
}

// each calls use for the fields of the message that is left, and goes past the
// content of those that use does not.
func (m *reader) each(use func(f *field) error) error {
	for m.Left() > 0 {
		f, err := m.next()
		if err != nil {
			return err
		}
		start, end := m.Pos(), m.Pos()
		if f.wire == wireBytes {
			end += int64(f.value)
		}
		if err := use(&f); err != nil {
			return err
		}
		if at := m.Pos(); at == start {
			err = m.Skip(uint64(end - at))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// message reads a field that is a message.
func (m *reader) message(f *field, use func(f *field) error) error {
	if f.wire != wireBytes {
		return m.Errorf(f.at, "", "field %d is no message", f.number)
	}
	if m.depth++; m.depth > m.lim.Depth {
		return m.Errorf(f.at, "", "messages nested more than %d deep", m.lim.Depth)
	}
	outer, err := m.Enter(f.value)
	if err != nil {
		return err
	}
	if err := m.each(use); err != nil {
		return err
	}
	m.Leave(outer)
	m.depth--
	return nil
}

// text reads a field that is a text or bytes.
func (m *reader) text(f *field, limit uint64) (string, error) {
	if f.wire != wireBytes {
		return "", m.Errorf(f.at, "", "field %d is no text", f.number)
	}
	b, err := m.Bytes(f.value, limit)
	if err == nil && !utf8.Valid(b) {
		err = m.Errorf(f.at, "", "field %d is a text that is no UTF-8", f.number)
	}
	return string(b), err
}

// number reads a field that is a number.
func (m *reader) number(f *field) (uint64, error) {
	if f.wire != wireVarint {
		return 0, m.Errorf(f.at, "", "field %d is no number", f.number)
	}
	return f.value, nil
}

// within says in which tensor something went wrong.
func within(where string, err error) error {
	if e, ok := err.(*format.Error); ok && e.Where == "" { //nolint:errorlint // only what was made here, not wrapped
		e.Where = where
	}
	return err
}
