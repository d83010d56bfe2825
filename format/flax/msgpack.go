package flax

import (
	"fmt"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
)

// Msgpack (github.com/msgpack/msgpack, spec.md), as far as Flax writes it: the
// head of each object, and its content by its length.

// class is a family of msgpack.
type class uint8

const (
	classNil class = iota
	classBool
	classInt
	classUint
	classFloat
	classText
	classBytes
	classList
	classMap
	classExt
)

var classNames = [...]string{"None", "bool", "int", "int", "float", "str", "bytes", "list", "dict", "extension type"}

func (c class) String() string { return classNames[c] }

// object is the head of a msgpack object. The content of texts, bytes and
// extensions, and the elements of lists and maps, follow in the file.
type object struct {
	class  class
	at     int64  // offset of the head
	length uint64 // bytes, or elements; of a map: pairs
	ext    int64  // extension type
	int    int64
	uint   uint64
	float  float64
	wide   int64 // bytes of a number
}

// next reads the head of an object.
func (p *parser) next() (object, error) {
	o := object{at: p.Pos()}
	if p.objects--; p.objects < 0 {
		return o, p.Errorf(o.at, "", "more objects than are read from one file")
	}
	c, err := p.Byte()
	if err != nil {
		return o, err
	}
	switch {
	case c < 0x80:
		o.class, o.uint = classUint, uint64(c)
	case c < 0x90:
		o.class, o.length = classMap, uint64(c&15)
	case c < 0xa0:
		o.class, o.length = classList, uint64(c&15)
	case c < 0xc0:
		o.class, o.length = classText, uint64(c&31)
	case c >= 0xe0:
		o.class, o.int = classInt, int64(int8(c))
	default:
		err = p.head(&o, c)
	}
	if err != nil {
		return o, err
	}
	return o, p.fits(&o)
}

// head reads what follows the codes that are not their own length.
func (p *parser) head(o *object, c byte) (err error) {
	switch {
	case c == 0xc0:
		o.class = classNil
	case c == 0xc2, c == 0xc3:
		o.class, o.uint = classBool, uint64(c&1)
	case c >= 0xc4 && c <= 0xc6:
		o.class = classBytes
		o.length, err = p.Uint(1 << (c - 0xc4))
	case c >= 0xc7 && c <= 0xc9:
		o.class = classExt
		if o.length, err = p.Uint(1 << (c - 0xc7)); err == nil {
			o.ext, err = p.Int(1)
		}
	case c == 0xca, c == 0xcb:
		o.class, o.wide = classFloat, 4<<(c-0xca)
		o.float, err = p.Float(o.wide)
	case c >= 0xcc && c <= 0xcf:
		o.class = classUint
		o.uint, err = p.Uint(1 << (c - 0xcc))
	case c >= 0xd0 && c <= 0xd3:
		o.class = classInt
		o.int, err = p.Int(1 << (c - 0xd0))
	case c >= 0xd4 && c <= 0xd8:
		o.class, o.length = classExt, 1<<(c-0xd4)
		o.ext, err = p.Int(1)
	case c >= 0xd9 && c <= 0xdb:
		o.class = classText
		o.length, err = p.Uint(1 << (c - 0xd9))
	case c == 0xdc, c == 0xdd:
		o.class = classList
		o.length, err = p.Uint(2 << (c - 0xdc))
	case c == 0xde, c == 0xdf:
		o.class = classMap
		o.length, err = p.Uint(2 << (c - 0xde))
	default:
		err = p.Errorf(o.at, "", "the byte 0x%02x begins no msgpack object", c)
	}
	return err
}

// fits checks that the content can be there: an element has at least one byte.
func (p *parser) fits(o *object) error {
	least := o.length
	if o.class == classMap {
		least *= 2 // at most 2^33
	}
	if left := uint64(p.Left()); least > left {
		return p.Errorf(o.at, "", "a %s of length %d, and %d bytes are left", o.class, o.length, left)
	}
	return nil
}

// text reads the content of a text.
func (p *parser) text(o *object, limit uint64) (string, error) {
	b, err := p.Bytes(o.length, limit)
	if err == nil && !utf8.Valid(b) {
		err = p.Errorf(o.at, "", "a text that is no UTF-8")
	}
	return string(b), err
}

// number is an integer that cannot be negative.
func (p *parser) number(o *object, what string) (uint64, error) {
	switch {
	case o.class == classUint:
		return o.uint, nil
	case o.class == classInt && o.int >= 0:
		return uint64(o.int), nil
	case o.class == classInt:
		return 0, p.Errorf(o.at, "", "%s of %d", what, o.int)
	}
	return 0, p.Errorf(o.at, "", "%s that is a %s", what, o.class)
}

// within says in which tensor or value something went wrong.
func within(path string, err error) error {
	if e, ok := err.(*format.Error); ok && e.Where == "" { //nolint:errorlint // only what was made here, not wrapped
		e.Where = path
		return e
	}
	return err
}

// scalar is a number or a truth value as text.
func (o *object) scalar() string {
	switch o.class {
	case classBool:
		return fmt.Sprint(o.uint == 1)
	case classInt:
		return fmt.Sprint(o.int)
	case classUint:
		return fmt.Sprint(o.uint)
	}
	if o.wide == 4 {
		return fmt.Sprint(float32(o.float))
	}
	return fmt.Sprint(o.float)
}
