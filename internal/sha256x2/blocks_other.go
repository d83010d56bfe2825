//go:build !amd64

package sha256x2

const available = false

func blocks(_, _ *[8]uint32, _ *[64]uint32, _, _ *byte, _ int) {
	panic("sha256x2: not on this processor")
}
