package xz

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// lzma2 reads LZMA2: chunks of LZMA, or of plain bytes, each of which may set
// the dictionary, the state and the properties back.
type lzma2 struct {
	src       *countingReader
	z         lzma
	needDict  bool // the next chunk must reset the dictionary
	needProps bool
}

func newLZMA2(r io.Reader, window int64) lzma2 {
	src := &countingReader{Reader: bufio.NewReaderSize(r, readAhead)}
	return lzma2{src: src, z: lzma{rangeDecoder: rangeDecoder{r: src}, most: window}}
}

// begin starts a new piece of data, of which prop says the dictionary's size.
func (x *lzma2) begin(prop byte) error {
	if prop > 40 {
		return errLZMA
	}
	dict := uint32(0xffffffff)
	if prop < 40 {
		dict = (2 | uint32(prop)&1) << (prop/2 + 11)
	}
	x.needDict, x.needProps = true, true
	return x.z.setDictionary(dict)
}

// chunk decodes one LZMA2 chunk; false at the end of the data.
func (x *lzma2) chunk() (bool, error) {
	c, err := x.src.ReadByte()
	if err != nil {
		return false, io.ErrUnexpectedEOF
	}
	switch {
	case c == 0:
		return false, nil
	case c >= 0x80:
		return true, x.packedChunk(c)
	case c > 2 || c == 2 && x.needDict:
		return false, errLZMA
	}
	if c == 1 {
		x.resetDictionary()
	}
	var h [2]byte
	if err := x.src.full(h[:]); err != nil {
		return false, err
	}
	n := int(binary.BigEndian.Uint16(h[:])) + 1
	for range n {
		b, err := x.src.ReadByte()
		if err != nil {
			return false, io.ErrUnexpectedEOF
		}
		x.z.put(b)
	}
	return true, nil
}

func (x *lzma2) resetDictionary() {
	x.z.total, x.z.at, x.needDict = 0, 0, false
}

func (x *lzma2) packedChunk(c byte) error {
	var h [4]byte
	if err := x.src.full(h[:]); err != nil {
		return err
	}
	plain := int(c&0x1f)<<16 + int(binary.BigEndian.Uint16(h[:])) + 1
	packed := int64(binary.BigEndian.Uint16(h[2:])) + 1
	reset := c >> 5 & 3
	if reset == 3 {
		x.resetDictionary()
	}
	if x.needDict || x.needProps && reset < 2 {
		return errLZMA
	}
	if reset >= 2 {
		b, err := x.src.ReadByte()
		if err != nil {
			return io.ErrUnexpectedEOF
		}
		if err := x.z.setProps(b); err != nil || x.z.lc+x.z.lp > 4 {
			return errLZMA
		}
		x.needProps = false
	}
	if reset >= 1 {
		x.z.resetState()
	}
	start := x.src.n
	x.z.init()
	if err := x.z.decode(plain); err != nil {
		return err
	}
	x.z.normalise()
	if x.z.err != nil || x.z.pending > 0 || x.z.ended || x.src.n-start != packed {
		return errLZMA
	}
	return nil
}

// lzma2Alone reads LZMA2 without a container.
type lzma2Alone struct{ lzma2 }

// NewLZMA2 decompresses LZMA2 data without a container, as archives have it,
// to its end; nothing may follow. prop is the byte that says how large the
// dictionary is. At most window bytes of it are kept: ErrLimit says that
// something further back is wanted.
func NewLZMA2(r io.Reader, prop byte, window int64) (io.Reader, error) {
	x := &lzma2Alone{newLZMA2(r, window)}
	return x, x.begin(prop)
}

func (x *lzma2Alone) Read(p []byte) (int, error) {
	for len(x.z.out) == 0 {
		more, err := x.chunk()
		if err != nil {
			return 0, err
		}
		if more {
			continue
		}
		if _, err := x.src.ReadByte(); err != io.EOF {
			return 0, fmt.Errorf("lzma2: %w", ErrTrailing)
		}
		return 0, io.EOF
	}
	return x.z.take(p), nil
}
