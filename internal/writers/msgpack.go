// Package writers writes, for tests, the formats of frameworks that are not at
// hand: straight from their specifications, with nothing of the readers. What
// it writes is small, and a mistake in the use of it panics.
package writers

import (
	"encoding/binary"
	"math"
	"testing"
)

// Pair is an entry of a msgpack map.
type Pair struct {
	Key   string
	Value any
}

// Map is a msgpack map, in its order.
type Map []Pair

// List is a msgpack array.
type List []any

// Array is a numpy array as Flax packs it; Scalar one that is a scalar.
type Array struct {
	Shape  []int
	DType  string
	Data   []byte
	Scalar bool
}

// Ext is an extension with its content.
type Ext struct {
	Type    int8
	Content []byte
}

// Msgpack packs a value: nil, bool, int, float32, float64, string, []byte, or
// one of the types here.
func Msgpack(tb testing.TB, v any) []byte {
	tb.Helper()
	return pack(nil, v)
}

func pack(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0xc0)
	case bool:
		if v {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case int:
		return packInt(b, v)
	case float32:
		return binary.BigEndian.AppendUint32(append(b, 0xca), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v))
	case string:
		return append(sized(b, len(v), 0xa0, 32, 0xd9, 0xda, 0xdb), v...)
	case []byte:
		return append(sized(b, len(v), 0, 0, 0xc4, 0xc5, 0xc6), v...)
	case List:
		b = sized(b, len(v), 0x90, 16, 0, 0xdc, 0xdd)
		for _, e := range v {
			b = pack(b, e)
		}
		return b
	case Map:
		b = sized(b, len(v), 0x80, 16, 0, 0xde, 0xdf)
		for _, e := range v {
			b = pack(pack(b, e.Key), e.Value)
		}
		return b
	case Array:
		shape := List{}
		for _, n := range v.Shape {
			shape = append(shape, n)
		}
		kind := int8(1)
		if v.Scalar {
			kind = 3
		}
		return pack(b, Ext{kind, pack(nil, List{shape, v.DType, v.Data})})
	case complex128:
		return pack(b, Ext{2, pack(nil, List{real(v), imag(v)})})
	case Ext:
		return append(packExt(b, len(v.Content), v.Type), v.Content...)
	}
	panic("no msgpack for this")
}

func packInt(b []byte, v int) []byte {
	switch {
	case v >= 0 && v < 128:
		return append(b, byte(v))
	case v < 0 && v >= -32:
		return append(b, byte(v))
	case v >= 0 && v < 1<<8:
		return append(b, 0xcc, byte(v))
	case v >= 0 && v < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v >= 0 && v < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	case v >= 0:
		return binary.BigEndian.AppendUint64(append(b, 0xcf), uint64(v))
	case v >= -1<<7:
		return append(b, 0xd0, byte(v))
	case v >= -1<<15:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

// sized writes a code and a length. small is the code that has lengths below
// most in it; a code of 0 does not exist.
func sized(b []byte, n int, small byte, most int, c8, c16, c32 byte) []byte {
	switch {
	case n < most:
		return append(b, small|byte(n))
	case n < 1<<8 && c8 != 0:
		return append(b, c8, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, c16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, c32), uint32(n))
}

func packExt(b []byte, n int, kind int8) []byte {
	for i, fixed := range []int{1, 2, 4, 8, 16} {
		if n == fixed {
			return append(b, 0xd4+byte(i), byte(kind))
		}
	}
	return append(sized(b, n, 0, 0, 0xc7, 0xc8, 0xc9), byte(kind))
}
