package convert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/bits"

	"github.com/weightseal/weightseal/format/safetensors"
)

// compareChunk is what is read of each side at a time: a multiple of eight
// bytes, and of three, in which 6-bit elements come.
const compareChunk = 3 << 18

// Difference says how the elements of two tensors of one dtype and shape
// differ. Elements are compared by their bits: -0 and 0 differ, by zero.
type Difference struct {
	Elements  uint64 // that each of the tensors has
	Differing uint64
	// NaN counts the differing elements of which one or both are no number,
	// Infinite those whose difference is too large for a number. Neither has
	// a say in Largest.
	NaN, Infinite uint64
	First         *Pair // in row-major order; nil when nothing differs
	// Largest is the pair with the largest absolute difference, the first of
	// several; nil when there is no number to give.
	Largest *Pair
}

// Pair is an element of both tensors.
type Pair struct {
	Index uint64   // in row-major order
	At    []uint64 // the same, by dimensions
	A, B  string   // the values; NaN with its bits
	// Distance is the absolute difference as a decimal number, exact for
	// integers; NaN or Inf where there is none. That of complex numbers is
	// the modulus of the difference.
	Distance string
}

// Compare reads two tensors once, side by side, a few hundred KiB at a time.
// A stream that ends early gives an error that wraps io.ErrUnexpectedEOF.
func Compare(ctx context.Context, dtype safetensors.DType, shape []uint64, a, b io.Reader) (*Difference, error) {
	numbers, err := numbersOf(dtype)
	if err != nil {
		return nil, err
	}
	count, err := elementCount(shape)
	if err != nil {
		return nil, err
	}
	hi, total := bits.Mul64(count, dtype.Bits())
	if hi != 0 || total%8 != 0 {
		return nil, fmt.Errorf("convert: %s tensor of shape %v has no whole number of bytes", dtype, shape)
	}
	c := comparison{numbers: numbers, width: dtype.Bits(), shape: shape}
	c.out.Elements = count
	left, right := make([]byte, compareChunk), make([]byte, compareChunk)
	for rest := total / 8; rest > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(rest, compareChunk)
		if err := readBoth(a, b, left[:n], right[:n]); err != nil {
			return nil, err
		}
		if !bytes.Equal(left[:n], right[:n]) {
			c.chunk(left[:n], right[:n])
		}
		c.before += n * 8 / c.width
		rest -= n
	}
	if c.distant {
		c.out.Largest = c.pair(c.largest, c.largestA, c.largestB)
	}
	return &c.out, nil
}

func readBoth(a, b io.Reader, left, right []byte) error {
	for _, side := range []struct {
		r   io.Reader
		buf []byte
	}{{a, left}, {b, right}} {
		if _, err := io.ReadFull(side.r, side.buf); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	return nil
}

func elementCount(shape []uint64) (uint64, error) {
	n := uint64(1)
	for _, d := range shape {
		hi, product := bits.Mul64(n, d)
		if hi != 0 {
			return 0, fmt.Errorf("convert: shape %v has too many elements", shape)
		}
		n = product
	}
	return n, nil
}

// comparison is a comparison under way.
type comparison struct {
	numbers numbers
	width   uint64 // of an element, in bits
	shape   []uint64
	before  uint64 // elements in the chunks that are done
	out     Difference

	distant            bool // something is held in the following
	furthest           distance
	largest            uint64
	largestA, largestB uint64
}

// chunk compares whole elements.
func (c *comparison) chunk(a, b []byte) {
	if c.width%8 != 0 {
		for i := range uint64(len(a)) * 8 / c.width {
			if x, y := packed(a, i, c.width), packed(b, i, c.width); x != y {
				c.differ(c.before+i, x, y)
			}
		}
		return
	}
	size := int(c.width / 8)
	for at := 0; at < len(a); at += size {
		if at%8 == 0 && len(a)-at >= 8 && bytes.Equal(a[at:at+8], b[at:at+8]) {
			at += 8 - size
			continue
		}
		if x, y := little(a[at:at+size]), little(b[at:at+size]); x != y {
			c.differ(c.before+uint64(at/size), x, y)
		}
	}
}

// little is an element's bits.
func little(b []byte) uint64 {
	var v uint64
	for i, x := range b {
		v |= uint64(x) << (8 * i)
	}
	return v
}

// packed is element i of those that are no whole bytes, the low bits first, as
// torch's float4_e2m1fn_x2 has them.
func packed(b []byte, i, width uint64) uint64 {
	at := i * width
	v := uint64(b[at/8])
	if at/8+1 < uint64(len(b)) {
		v |= uint64(b[at/8+1]) << 8
	}
	return v >> (at % 8) & (1<<width - 1)
}

// differ takes a pair of elements that differ.
func (c *comparison) differ(index, a, b uint64) {
	c.out.Differing++
	if c.out.First == nil {
		c.out.First = c.pair(index, a, b)
	}
	d := c.numbers.distance(a, b)
	switch {
	case d.isNaN():
		c.out.NaN++
	case d.isInf():
		c.out.Infinite++
	case !c.distant || c.furthest.less(d):
		c.distant, c.furthest = true, d
		c.largest, c.largestA, c.largestB = index, a, b
	}
}

func (c *comparison) pair(index, a, b uint64) *Pair {
	at := make([]uint64, len(c.shape))
	rest := index
	for i := len(c.shape) - 1; i >= 0; i-- {
		at[i] = rest % c.shape[i]
		rest /= c.shape[i]
	}
	return &Pair{Index: index, At: at, A: c.numbers.text(a), B: c.numbers.text(b), Distance: c.numbers.distance(a, b).String()}
}
