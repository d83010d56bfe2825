package xz

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

var errXZ = fmt.Errorf("xz: %w", ErrBroken)

// reader reads .xz files (The .xz File Format 1.2.0): streams of blocks, each with
// LZMA2 data and a check, which is compared.
type reader struct {
	lzma2
	check hash.Hash // of the block
	size  int       // of the check
	kind  byte
	block bool  // inside a block
	start int64 // of the block's data
	// packed and plain are the sizes in the block's header, -1 where absent.
	packed, plain, got int64
	blocks             int64
}

type countingReader struct {
	*bufio.Reader
	n int64
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (c *countingReader) full(p []byte) error {
	n, err := io.ReadFull(c.Reader, p)
	c.n += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// NewReader decompresses an .xz file of one or more streams, to its end, and
// compares the checks. ErrUnsupported says that it has other filters than
// LZMA2, ErrLimit that its dictionary is larger than 64 MiB.
func NewReader(r io.Reader) (io.ReadCloser, error) {
	x := &reader{lzma2: newLZMA2(r, 0)}
	return x, x.streamHeader()
}

// NewWindowReader is as NewReader, but keeps at most the last window bytes,
// whatever the dictionary: ErrLimit says that something further back is wanted.
func NewWindowReader(r io.Reader, window int64) (io.ReadCloser, error) {
	x := &reader{lzma2: newLZMA2(r, window)}
	return x, x.streamHeader()
}

func (x *reader) Close() error { return nil }

func (x *reader) Read(p []byte) (int, error) {
	for len(x.z.out) == 0 {
		if err := x.step(); err != nil {
			return 0, err
		}
	}
	return x.z.take(p), nil
}

// step reads the next chunk, or what lies between blocks.
func (x *reader) step() error {
	if !x.block {
		return x.between()
	}
	more, err := x.chunk()
	if err != nil {
		return err
	}
	if more {
		x.got += int64(len(x.z.out))
		if x.check != nil {
			x.check.Write(x.z.out)
		}
		return nil
	}
	return x.endBlock()
}

func (x *reader) streamHeader() error {
	var h [12]byte
	if err := x.src.full(h[:]); err != nil {
		return err
	}
	if string(h[:6]) != "\xfd7zXZ\x00" || h[6] != 0 || h[7] > 15 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return errXZ
	}
	x.kind, x.blocks = h[7], 0
	x.size = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[x.kind]
	return nil
}

// between reads a block's header, or the index and what follows it.
func (x *reader) between() error {
	n, err := x.src.ReadByte()
	if err != nil {
		return errXZ
	}
	if n == 0 {
		return x.index()
	}
	h := make([]byte, (int(n)+1)*4)
	h[0] = n
	if err := x.src.full(h[1:]); err != nil {
		return err
	}
	body := h[:len(h)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(h[len(h)-4:]) || body[1]&0x3c != 0 {
		return errXZ
	}
	return x.blockHeader(body)
}

func (x *reader) blockHeader(body []byte) error {
	r := bytes.NewReader(body[2:])
	x.packed, x.plain = -1, -1
	for i, p := range []*int64{&x.packed, &x.plain} {
		if body[1]&(0x40<<i) == 0 {
			continue
		}
		v, err := vli(r)
		if err != nil {
			return err
		}
		*p = v
	}
	id, err := vli(r)
	if err != nil {
		return err
	}
	if body[1]&3 != 0 || id != 0x21 {
		return ErrUnsupported // filters before LZMA2: for machine code
	}
	if n, err := vli(r); err != nil || n != 1 {
		return errXZ
	}
	b, err := r.ReadByte()
	if err != nil {
		return errXZ
	}
	if err := x.begin(b); err != nil {
		return err
	}
	x.block, x.start, x.got = true, x.src.n, 0
	x.check = nil
	switch x.kind {
	case 1:
		x.check = crc32.NewIEEE()
	case 4:
		x.check = crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		x.check = sha256.New()
	}
	return nil
}

// vli reads a variable-length integer.
func vli(r io.ByteReader) (int64, error) {
	var v int64
	for i := range 9 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, errXZ
		}
		v |= int64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				return 0, errXZ
			}
			return v, nil
		}
	}
	return 0, errXZ
}

func (x *reader) endBlock() error {
	n := x.src.n - x.start
	if x.packed >= 0 && x.packed != n || x.plain >= 0 && x.plain != x.got {
		return errXZ
	}
	for ; n%4 != 0; n++ {
		if b, err := x.src.ReadByte(); err != nil || b != 0 {
			return errXZ
		}
	}
	sum := make([]byte, x.size)
	if err := x.src.full(sum); err != nil {
		return err
	}
	if x.check != nil {
		got := x.check.Sum(nil)
		if x.kind != 10 { // the CRCs are little-endian
			for i, k := 0, len(got)-1; i < k; i, k = i+1, k-1 {
				got[i], got[k] = got[k], got[i]
			}
		}
		if !bytes.Equal(got, sum) {
			return errXZ
		}
	}
	x.block = false
	x.blocks++
	return nil
}

// index reads the index and the footer; then another stream may follow.
func (x *reader) index() error {
	start := x.src.n - 1
	src := &summedReader{ByteReader: x.src, sum: crc32.ChecksumIEEE([]byte{0})}
	count, err := vli(src)
	if err != nil || count != x.blocks {
		return errXZ
	}
	for range count {
		for range 2 {
			if _, err := vli(src); err != nil {
				return err
			}
		}
	}
	for (x.src.n-start)%4 != 0 {
		if b, err := src.ReadByte(); err != nil || b != 0 {
			return errXZ
		}
	}
	var foot [16]byte // the index's checksum and the footer
	if err := x.src.full(foot[:]); err != nil {
		return err
	}
	if src.sum != binary.LittleEndian.Uint32(foot[:]) {
		return errXZ
	}
	if string(foot[14:]) != "YZ" || foot[13] != x.kind || crc32.ChecksumIEEE(foot[8:14]) != binary.LittleEndian.Uint32(foot[4:]) {
		return errXZ
	}
	return x.following()
}

// summedReader keeps the CRC-32 of what is read byte by byte.
type summedReader struct {
	io.ByteReader
	sum uint32
}

func (s *summedReader) ReadByte() (byte, error) {
	b, err := s.ByteReader.ReadByte()
	if err == nil {
		s.sum = crc32.Update(s.sum, crc32.IEEETable, []byte{b})
	}
	return b, err
}

// following reads padding between streams; io.EOF at the end of the file.
func (x *reader) following() error {
	for pad := 0; ; pad++ {
		b, err := x.src.Peek(1)
		if err == io.EOF {
			if pad%4 != 0 {
				return errXZ
			}
			return io.EOF
		}
		if err != nil {
			return err
		}
		if b[0] != 0 {
			if pad%4 != 0 {
				return errXZ
			}
			return x.streamHeader()
		}
		if _, err := x.src.ReadByte(); err != nil {
			return err
		}
	}
}
