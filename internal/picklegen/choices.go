// Package picklegen makes pickles and checkpoints for tests: valid ones of all
// protocols and of every opcode, and broken ones. What is made depends on the
// choices given and on nothing else. Nothing here is imported or called:
// the names in the streams are harmless, or of modules that do not exist.
package picklegen

import (
	"encoding/binary"
	"math/rand/v2"
)

// Choices decides what is generated. A fuzzer's bytes are used first, so that
// it can steer; a generator seeded with them goes on when they are spent.
type Choices struct {
	bytes []byte
	rng   *rand.Rand
}

// FromBytes takes the choices from a fuzzer's input.
func FromBytes(b []byte) *Choices {
	var seed [2]uint64
	for i, c := range b {
		seed[i%2] = seed[i%2]*0x100000001b3 + uint64(c)
	}
	return &Choices{b, rand.New(rand.NewPCG(seed[0], seed[1]))}
}

// FromSeed takes all choices from a seeded generator.
func FromSeed(seed uint64) *Choices {
	return &Choices{rng: rand.New(rand.NewPCG(seed, 5))}
}

// Below gives a number in [0, n).
func (c *Choices) Below(n int) int {
	switch {
	case n <= 1:
		return 0
	case n <= 256 && len(c.bytes) > 0:
		v := int(c.bytes[0])
		c.bytes = c.bytes[1:]
		return v % n
	case n <= 1<<16 && len(c.bytes) > 1:
		v := int(binary.LittleEndian.Uint16(c.bytes))
		c.bytes = c.bytes[2:]
		return v % n
	}
	return c.rng.IntN(n)
}

// One is true once in n times.
func (c *Choices) One(n int) bool { return c.Below(n) == n-1 }

// Bytes gives n bytes of any value.
func (c *Choices) Bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.Below(256))
	}
	return b
}

func pick[T any](c *Choices, of []T) T { return of[c.Below(len(of))] }
