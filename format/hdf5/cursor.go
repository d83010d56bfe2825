package hdf5

import "encoding/binary"

// cursor reads fields one after the other. The first failure stays in err, and
// every field after it is zero.
type cursor struct {
	f    *file
	b    []byte
	p    int
	at   int64 // address of b
	what string
	err  error
}

func (c *cursor) bytes(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.b)-c.p {
		c.err = c.f.bad(c.at+int64(c.p), "%s ends early: %d bytes are needed, %d are left", c.what, n, len(c.b)-c.p)
		return nil
	}
	c.p += n
	return c.b[c.p-n : c.p]
}

func (c *cursor) left() int   { return len(c.b) - c.p }
func (c *cursor) here() int64 { return c.at + int64(c.p) }
func (c *cursor) skip(n int)  { c.bytes(n) }

// num reads a little-endian number of n bytes, at most 8.
func (c *cursor) num(n int) uint64 {
	var v uint64
	b := c.bytes(n)
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func (c *cursor) u8() byte    { return byte(c.num(1)) }
func (c *cursor) u16() int    { return int(c.num(2)) }
func (c *cursor) u32() uint32 { return uint32(c.num(4)) }

// addr reads an address: undefined where all bits are set.
func (c *cursor) addr() int64 { return c.offset(c.f.width) }

// size reads a length that must be one of something in memory or the file.
func (c *cursor) size() int64 {
	at := c.here()
	v := c.num(c.f.length)
	if v > 1<<62 {
		if c.err == nil {
			c.err = c.f.bad(at, "%s has a length of %d", c.what, v)
		}
		return 0
	}
	return int64(v)
}

func (c *cursor) offset(n int) int64 {
	at := c.here()
	v := c.num(n)
	if c.err != nil {
		return undefined
	}
	if v == 1<<(8*n)-1 {
		return undefined
	}
	if v > 1<<62 {
		c.err = c.f.bad(at, "%s has the address %d", c.what, v)
		return undefined
	}
	return int64(v)
}

// sum checks that the next four bytes are the checksum of all before them.
func (c *cursor) sum() error {
	want := lookup3(c.b[:c.p])
	at := c.here()
	if got := c.u32(); c.err == nil && got != want {
		c.err = c.f.bad(at, "checksum of %s is %08x, but its bytes have %08x", c.what, got, want)
	}
	return c.err
}

// lookup3 is Bob Jenkins' hash of that name with the initial value 0, which
// the format uses as its checksum (section IV.A.1.b and others).
func lookup3(b []byte) uint32 {
	x := uint32(0xdeadbeef) + uint32(len(b))
	y, z := x, x
	for len(b) > 12 {
		x += binary.LittleEndian.Uint32(b)
		y += binary.LittleEndian.Uint32(b[4:])
		z += binary.LittleEndian.Uint32(b[8:])
		x, y, z = mix(x, y, z)
		b = b[12:]
	}
	if len(b) == 0 {
		return z
	}
	var last [12]byte
	copy(last[:], b)
	x += binary.LittleEndian.Uint32(last[:])
	y += binary.LittleEndian.Uint32(last[4:])
	z += binary.LittleEndian.Uint32(last[8:])
	return final(x, y, z)
}

func rot(v uint32, n int) uint32 { return v<<n | v>>(32-n) }

func mix(x, y, z uint32) (uint32, uint32, uint32) {
	x = (x - z) ^ rot(z, 4)
	z += y
	y = (y - x) ^ rot(x, 6)
	x += z
	z = (z - y) ^ rot(y, 8)
	y += x
	x = (x - z) ^ rot(z, 16)
	z += y
	y = (y - x) ^ rot(x, 19)
	x += z
	z = (z - y) ^ rot(y, 4)
	y += x
	return x, y, z
}

func final(x, y, z uint32) uint32 {
	z = (z ^ y) - rot(y, 14)
	x = (x ^ z) - rot(z, 11)
	y = (y ^ x) - rot(x, 25)
	z = (z ^ y) - rot(y, 16)
	x = (x ^ z) - rot(z, 4)
	y = (y ^ x) - rot(x, 14)
	return (z ^ y) - rot(y, 24)
}
