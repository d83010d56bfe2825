package picklegen

import "encoding/binary"

// interesting are bytes that change what follows them.
var interesting = []byte("\x00\x01\x7f\x80\xff.(0c\n\r'\"\\\x93\x95tRbio}]u1_x L")

// Mutate gives b with one to four changes of any kind; b stays as it is.
func Mutate(c *Choices, b []byte) []byte {
	out := append([]byte{}, b...)
	for range 1 + c.Below(4) {
		out = change(c, out)
	}
	return out
}

func change(c *Choices, b []byte) []byte {
	if len(b) == 0 {
		return []byte{pick(c, interesting)}
	}
	i := c.Below(len(b))
	switch c.Below(9) {
	case 0: // one bit
		b[i] ^= 1 << c.Below(8)
	case 1: // another byte
		b[i] = pick(c, interesting)
	case 2: // one byte more
		b = append(b[:i:i], append([]byte{pick(c, interesting)}, b[i:]...)...)
	case 3: // some bytes fewer
		n := min(1+c.Below(8), len(b)-i)
		b = append(b[:i:i], b[i+n:]...)
	case 4: // a piece twice
		n := min(1+c.Below(32), len(b)-i)
		b = append(b[:i+n:i+n], b[i:]...)
	case 5: // a shorter stream
		b = b[:i]
	case 6: // something behind
		b = append(b, c.Bytes(1+c.Below(16))...)
	case 7: // a large number
		if i+4 <= len(b) {
			binary.LittleEndian.PutUint32(b[i:], pick(c, []uint32{0, 1, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1}))
		}
	default: // a piece elsewhere
		n := min(1+c.Below(16), len(b)-i)
		piece := append([]byte{}, b[i:i+n]...)
		j := c.Below(len(b))
		b = append(b[:j:j], append(piece, b[j:]...)...)
	}
	return b
}
