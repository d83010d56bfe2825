package hdf5

import (
	"fmt"
	"strings"

	"github.com/weightseal/weightseal/format/safetensors"
)

// The classes of datatypes (section IV.A.2.d).
const (
	classFixed     = 0
	classFloat     = 1
	classTime      = 2
	classString    = 3
	classBits      = 4
	classOpaque    = 5
	classCompound  = 6
	classReference = 7
	classEnum      = 8
	classVariable  = 9
	classArray     = 10
	classComplex   = 11
)

var classNames = [...]string{
	"fixed-point numbers", "floating-point numbers", "times", "text", "bit fields", "opaque values", "compounds", "references",
	"enumerations", "values of variable length", "arrays", "complex numbers",
}

// datatype is what an element is. dtype is 0 where safetensors has no such
// type; what then says what it is.
type datatype struct {
	class int
	size  int64
	dtype safetensors.DType
	swap  int64 // bytes to reverse together; 0 for none
	what  string
	text  bool // of variable length, and text
}

// ieee are the floating-point types that safetensors has: the places of the
// exponent and the mantissa, the bias.
var ieee = map[[6]uint64]safetensors.DType{
	{8, 2, 5, 0, 2, 15}:       safetensors.F8E5M2,
	{16, 10, 5, 0, 10, 15}:    safetensors.F16,
	{16, 7, 8, 0, 7, 127}:     safetensors.BF16,
	{32, 23, 8, 0, 23, 127}:   safetensors.F32,
	{64, 52, 11, 0, 52, 1023}: safetensors.F64,
}

// datatype reads a datatype message; depth counts types in each other.
func (c *cursor) datatype(depth int) (datatype, error) {
	const deepest = 16
	head := c.u8()
	flags := uint32(c.num(3))
	t := datatype{class: int(head & 15), size: int64(c.u32())}
	version := head >> 4
	if c.err != nil {
		return t, c.err
	}
	if t.size == 0 || depth > deepest || t.class >= len(classNames) {
		return t, c.f.bad(c.at, "a datatype of class %d with %d bytes, %d types deep", t.class, t.size, depth)
	}
	t.what = classNames[t.class]
	switch t.class {
	case classFixed:
		c.fixed(&t, flags)
	case classFloat:
		c.float(&t, flags)
	case classOpaque:
		c.skip(int(flags & 0xff))
		t.what = fmt.Sprintf("opaque values of %d bytes", t.size)
	case classCompound:
		return t, c.compound(&t, version, int(flags&0xffff), depth)
	case classEnum:
		return t, c.enumeration(&t, version, int(flags&0xffff), depth)
	case classVariable:
		if t.text = flags&15 == 1; t.text {
			t.what = "text of variable length"
		}
	}
	return t, c.err
}

func (c *cursor) fixed(t *datatype, flags uint32) {
	offset, precision := c.u16(), c.u16()
	if offset != 0 || int64(precision) != 8*t.size {
		t.what = fmt.Sprintf("fixed-point numbers of %d bits in %d bytes", precision, t.size)
		return
	}
	signed := flags&8 != 0
	pick := func(yes, no safetensors.DType) safetensors.DType {
		if signed {
			return yes
		}
		return no
	}
	switch t.size {
	case 1:
		t.dtype = pick(safetensors.I8, safetensors.U8)
	case 2:
		t.dtype = pick(safetensors.I16, safetensors.U16)
	case 4:
		t.dtype = pick(safetensors.I32, safetensors.U32)
	case 8:
		t.dtype = pick(safetensors.I64, safetensors.U64)
	default:
		t.what = fmt.Sprintf("fixed-point numbers of %d bytes", t.size)
	}
	t.setOrder(flags&1 != 0)
}

func (t *datatype) setOrder(big bool) {
	if t.dtype != 0 && big && t.size > 1 {
		t.swap = t.size
	}
}

func (c *cursor) float(t *datatype, flags uint32) {
	offset, precision := c.u16(), c.u16()
	expAt, expBits, manAt, manBits := c.u8(), c.u8(), c.u8(), c.u8()
	bias := c.u32()
	key := [6]uint64{uint64(precision), uint64(expAt), uint64(expBits), uint64(manAt), uint64(manBits), uint64(bias)}
	t.what = fmt.Sprintf("floating-point numbers of %d bits in %d bytes", precision, t.size)
	const implied = 2 // the mantissa's first bit is 1 and not stored
	sign := int(flags >> 8 & 0xff)
	if offset != 0 || int64(precision) != 8*t.size || flags>>4&3 != implied || sign != precision-1 || flags&0x40 != 0 {
		return
	}
	t.dtype = ieee[key]
	t.setOrder(flags&1 != 0)
}

// member is a member of a compound.
type member struct {
	name   string
	offset uint64
	typ    datatype
}

// compound reads a compound: the one with the parts r and i, as h5py writes
// complex numbers, is a number.
func (c *cursor) compound(t *datatype, version byte, n, depth int) error {
	if version < 1 || version > 3 {
		return c.f.bad(c.at, "a compound of version %d", version)
	}
	var members []member
	for range n {
		if err := c.f.spend(c.at, 64); err != nil {
			return err
		}
		m := member{name: c.name(version < 3)}
		if version == 3 {
			m.offset = c.num(sizeOf(uint64(t.size)))
		} else {
			m.offset = c.num(4)
		}
		if version == 1 {
			if dims := c.u8(); dims != 0 {
				t.what = "compounds with arrays in them"
				return c.err
			}
			c.skip(3 + 4 + 4 + 16)
		}
		if c.err != nil {
			return c.err
		}
		var err error
		if m.typ, err = c.datatype(depth + 1); err != nil {
			return err
		}
		members = append(members, m)
	}
	if len(members) != 2 || members[0].name != "r" || members[1].name != "i" || members[0].offset != 0 {
		return nil
	}
	re, im := members[0].typ, members[1].typ
	if re != im || re.class != classFloat || members[1].offset != uint64(re.size) || t.size != 2*re.size {
		return nil
	}
	t.what = fmt.Sprintf("complex numbers of %d bytes", t.size)
	if re.dtype == safetensors.F32 {
		t.dtype, t.swap = safetensors.C64, re.swap
	}
	return nil
}

// name reads a name that ends with a zero, padded to eight bytes or not.
func (c *cursor) name(padded bool) string {
	var b strings.Builder
	n := 0
	for ; c.err == nil; n++ {
		x := c.u8()
		if x == 0 {
			break
		}
		b.WriteByte(x)
	}
	if padded {
		c.skip(7 - n%8)
	}
	return b.String()
}

// enumeration reads an enumeration: FALSE and TRUE in a byte, as h5py writes
// truth values, are BOOL.
func (c *cursor) enumeration(t *datatype, version byte, n, depth int) error {
	base, err := c.datatype(depth + 1)
	if err != nil {
		return err
	}
	if n != 2 || base.class != classFixed || base.size != 1 || t.size != 1 {
		return nil
	}
	names := [2]string{c.name(version < 3), c.name(version < 3)}
	values := [2]byte{c.u8(), c.u8()}
	if c.err == nil && names == [2]string{"FALSE", "TRUE"} && values == [2]byte{0, 1} {
		t.dtype, t.what = safetensors.BOOL, "truth values"
	}
	return c.err
}
