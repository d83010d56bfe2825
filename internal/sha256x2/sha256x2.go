// Package sha256x2 puts the same bytes into two SHA-256 hashes at about the
// price of one, where the processor has the SHA extensions: a file's digest and
// the digests of the tensors in it are two hashes over the same bytes, at
// different places in their blocks. All but the bulk of it is crypto/sha256.
package sha256x2

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// bulk is the size from which two streams beside each other are worth the
// hand-over of states.
const bulk = 2 << 10

// Write adds p to a and b, which crypto/sha256.New gave. Any other hash gets
// the same bytes, at the usual price; b may be nil.
func Write(a, b hash.Hash, p []byte) {
	switch {
	case b == nil:
		_, _ = a.Write(p)
	case !available || len(p) < bulk:
		_, _ = a.Write(p)
		_, _ = b.Write(p)
	default:
		write(a, b, p)
	}
}

// write brings both hashes to the beginning of a block, does what both then
// have in full blocks beside each other, and leaves them the rest.
func write(a, b hash.Hash, p []byte) {
	var sa, sb state
	fromA, ok := sa.align(a, p)
	if !ok {
		_, _ = a.Write(p)
		_, _ = b.Write(p)
		return
	}
	fromB, ok := sb.align(b, p)
	if !ok {
		_, _ = a.Write(p[fromA:])
		_, _ = b.Write(p)
		return
	}
	n := (len(p) - max(fromA, fromB)) / sha256.BlockSize
	blocks(&sa.words, &sb.words, &constants, &p[fromA], &p[fromB], n)
	size := n * sha256.BlockSize
	sa.restore(a, size)
	sb.restore(b, size)
	_, _ = a.Write(p[fromA+size:])
	_, _ = b.Write(p[fromB+size:])
}

// The form in which crypto/sha256 hands out its state: magic, eight words, the
// open block, the number of bytes taken, numbers in big-endian.
const (
	magic       = "sha\x03"
	wordsAt     = len(magic)
	blockAt     = wordsAt + sha256.Size
	lengthAt    = blockAt + sha256.BlockSize
	stateLength = lengthAt + 8
)

// state is a hash's state between two blocks.
type state struct {
	words [8]uint32 // in the order that blocks wants
	raw   [stateLength]byte
}

// order is where blocks wants the words a to h: F E B A H G D C.
var order = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

// align gives h as much of p as completes its open block, and takes its state.
// from is where the next block begins in p. Not ok: h took nothing, and is no
// hash whose state can be read.
func (s *state) align(h hash.Hash, p []byte) (from int, ok bool) {
	if !s.take(h) {
		return 0, false
	}
	if open := int(binary.BigEndian.Uint64(s.raw[lengthAt:]) % sha256.BlockSize); open > 0 {
		from = sha256.BlockSize - open
		_, _ = h.Write(p[:from])
		_ = s.take(h)
	}
	for i, at := range order {
		s.words[at] = binary.BigEndian.Uint32(s.raw[wordsAt+4*i:])
	}
	return from, true
}

func (s *state) take(h hash.Hash) bool {
	from, ok := h.(encoding.BinaryAppender)
	if _, back := h.(encoding.BinaryUnmarshaler); !ok || !back {
		return false
	}
	got, err := from.AppendBinary(s.raw[:0])
	return err == nil && len(got) == stateLength && string(got[:len(magic)]) == magic
}

// restore gives h the state after size more bytes.
func (s *state) restore(h hash.Hash, size int) {
	for i, at := range order {
		binary.BigEndian.PutUint32(s.raw[wordsAt+4*i:], s.words[at])
	}
	length := binary.BigEndian.Uint64(s.raw[lengthAt:])
	binary.BigEndian.PutUint64(s.raw[lengthAt:], length+uint64(size))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.raw[:]); err != nil {
		panic("sha256x2: crypto/sha256 refuses its own state: " + err.Error())
	}
}

// constants are the round constants (FIPS 180-4, 4.2.2).
var constants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
