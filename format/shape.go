package format

import "math/bits"

// Elements is how many elements a shape has; false when that, or the product
// of the dimensions that are not zero, passes 2^56: then strides and byte
// lengths could overflow.
func Elements(shape []uint64) (uint64, bool) {
	const most = 1 << 56
	count, zero := uint64(1), false
	for _, n := range shape {
		if n == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(count, n)
		if hi != 0 || lo > most {
			return 0, false
		}
		count = lo
	}
	if zero {
		return 0, true
	}
	return count, true
}

// Sizes gives a shape as the sizes of a view. Elements must be satisfied.
func Sizes(shape []uint64) []int64 {
	sizes := make([]int64, len(shape))
	for i, n := range shape {
		sizes[i] = int64(n)
	}
	return sizes
}
