package onnx

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/weightseal/weightseal/format"
)

// decode gives typed data as the bytes of elements: float_data and double_data
// in one packed piece are a range of the file, the others are decoded.
func (m *reader) decode(t *tensor, kind dataType, count uint64) (*format.Storage, error) {
	if t.typedAs != kind.field {
		return nil, m.Errorf(t.at, "", "a tensor of type %s with data in field %d", kind.name, t.typedAs)
	}
	want := int64(count * kind.elementBytes())
	if c := t.typed[0]; len(t.typed) == 1 && c.wire == wireBytes && wireOf(t.typedAs) != wireVarint {
		if c.length != want {
			return nil, m.Errorf(c.at, "", "data of %d bytes for %d elements of type %s", c.length, count, kind.name)
		}
		return m.rangeOf(c.extent), nil
	}
	// A value takes at least a byte in the file, so that the memory is in
	// proportion to it.
	var there int64
	for _, c := range t.typed {
		there += max(c.length, 1)
	}
	if values := int64(count); values > there && wireOf(t.typedAs) == wireVarint {
		return nil, m.Errorf(t.at, "", "data of %d bytes for %d elements of type %s", there, count, kind.name)
	}
	if m.decoded -= want; m.decoded < 0 {
		return nil, m.tooMuch(t.at)
	}
	d := &decoder{m: m, t: t, kind: kind, out: make([]byte, 0, want), want: want}
	back := m.Pos()
	for _, c := range t.typed {
		if err := d.chunk(c); err != nil {
			return nil, err
		}
	}
	m.Back(back)
	if int64(len(d.out)) != want {
		return nil, m.Errorf(t.at, "", "data of %d bytes for %d elements of type %s", len(d.out), count, kind.name)
	}
	return &format.Storage{Data: bytes.NewReader(d.out), Length: want, Offset: -1, Key: keyOf(t.name)}, nil
}

// keyOf is the key of the storage of a tensor whose data was decoded.
func keyOf(tensor string) string { return "typed:" + tensor }

// decoder puts values together as elements.
type decoder struct {
	m    *reader
	t    *tensor
	kind dataType
	out  []byte
	want int64
}

func (d *decoder) chunk(c chunk) error {
	wire := wireOf(d.t.typedAs)
	if c.wire != wireBytes {
		return d.value(d.t.at, c.value)
	}
	m := d.m
	m.Back(c.at)
	outer, err := m.Enter(uint64(c.length))
	if err != nil {
		return err
	}
	for m.Left() > 0 {
		at := m.Pos()
		var v uint64
		switch wire {
		case wire32:
			v, err = m.Uint(4)
		case wire64:
			v, err = m.Uint(8)
		default:
			v, err = m.varint()
		}
		if err != nil {
			return err
		}
		if err := d.value(at, v); err != nil {
			return err
		}
	}
	m.Leave(outer)
	return nil
}

// value appends what one value of a field says. Floats of a complex number
// come one after the other, as they lie in memory.
func (d *decoder) value(at int64, v uint64) error {
	if int64(len(d.out)) >= d.want {
		return d.m.Errorf(at, "", "more data than the tensor has elements")
	}
	switch d.t.typedAs {
	case floatData:
		d.out = binary.LittleEndian.AppendUint32(d.out, uint32(v))
	case doubleData, int64Data:
		d.out = binary.LittleEndian.AppendUint64(d.out, v)
	default:
		return d.narrow(at, v)
	}
	return nil
}

// narrow appends a value of a field that is wider than the element: it must be
// one that the element can have. Those of int32_data are signed or not as the
// element is, floats of 16 and 8 bits are their bits as an unsigned number.
func (d *decoder) narrow(at int64, v uint64) error {
	if d.t.typedAs == int32Data {
		v = uint64(int64(int32(v))) // what a parser of protocol buffers makes of it
	}
	bits := 8 * d.kind.elementBytes()
	if d.signed() {
		s := int64(v)
		if low := int64(v<<(64-bits)) >> (64 - bits); low != s {
			return d.m.Errorf(at, "", "the value %d in a tensor of type %s", s, d.kind.name)
		}
	} else if d.kind.name == "BOOL" && v > 1 || bits < 64 && v>>bits != 0 {
		return d.m.Errorf(at, "", "the value %s in a tensor of type %s", number(d.t.typedAs, v), d.kind.name)
	}
	for i := uint64(0); i < bits; i += 8 {
		d.out = append(d.out, byte(v>>i))
	}
	return nil
}

func number(field, v uint64) string {
	if field == int32Data {
		return fmt.Sprint(int64(v))
	}
	return fmt.Sprint(v)
}

func (d *decoder) signed() bool {
	switch d.kind.name {
	case "INT8", "INT16", "INT32":
		return true
	}
	return false
}
