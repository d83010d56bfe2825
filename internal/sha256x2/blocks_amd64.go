package sha256x2

// blocks takes n blocks from p into a and n blocks from q into b.
//
//go:noescape
func blocks(a, b *[8]uint32, k *[64]uint32, p, q *byte, n int)

//go:noescape
func cpuid(leaf, sub uint32) (ax, bx, cx, dx uint32)

// available says whether the processor has what blocks uses: SSSE3 and the SHA
// extensions (AMD64 Architecture Programmer's Manual, volume 3, E.3.2 and
// E.3.6).
var available = func() bool {
	const ssse3, sha = 1 << 9, 1 << 29
	if most, _, _, _ := cpuid(0, 0); most < 7 {
		return false
	}
	_, _, features, _ := cpuid(1, 0)
	_, extended, _, _ := cpuid(7, 0)
	return features&ssse3 != 0 && extended&sha != 0
}()
