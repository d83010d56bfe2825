// Package xz decompresses .xz and .lzma files, for reading only, with a bound
// on the dictionary.
package xz

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// LZMA as the LZMA specification and the .xz format describe it
// (https://www.7-zip.org/sdk.html, https://tukaani.org/xz/xz-file-format.txt),
// for reading only, with a bound on the dictionary.

const (
	// maxDictionary bounds the dictionary where nothing else is said: xz -9
	// uses 64 MiB.
	maxDictionary = 64 << 20
	// firstRing is how much of the dictionary is there at first: it grows as
	// data comes, so that a small file takes little, whatever it declares.
	firstRing = 64 << 10
	readAhead = 16 << 10 // of what is read
)

// ErrBroken says that data breaks the format.
var ErrBroken = errors.New("the data is broken")

var errLZMA = fmt.Errorf("lzma: %w", ErrBroken)

// What the readers refuse though it may be sound.
var (
	ErrUnsupported = errors.New("not supported")
	ErrLimit       = errors.New("over the limit")
)

// ErrTrailing says that compressed data is followed by something.
var ErrTrailing = errors.New("bytes follow the compressed data")

// rangeDecoder reads bits whose probability is estimated.
type rangeDecoder struct {
	r         io.ByteReader
	rng, code uint32
	err       error
}

func (d *rangeDecoder) init() {
	d.err = nil
	first := d.byte()
	d.rng, d.code = 0xffffffff, 0
	for range 4 {
		d.code = d.code<<8 | uint32(d.byte())
	}
	if first != 0 && d.err == nil {
		d.err = errLZMA
	}
}

func (d *rangeDecoder) byte() byte {
	b, err := d.r.ReadByte()
	if err != nil && d.err == nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		d.err = err
	}
	return b
}

func (d *rangeDecoder) normalise() {
	if d.rng < 1<<24 {
		d.rng <<= 8
		d.code = d.code<<8 | uint32(d.byte())
	}
}

func (d *rangeDecoder) bit(p *uint16) uint32 {
	d.normalise()
	bound := d.rng >> 11 * uint32(*p)
	if d.code < bound {
		d.rng = bound
		*p += (2048 - *p) >> 5
		return 0
	}
	d.rng -= bound
	d.code -= bound
	*p -= *p >> 5
	return 1
}

func (d *rangeDecoder) direct(n uint32) uint32 {
	var v uint32
	for range n {
		d.normalise()
		d.rng >>= 1
		d.code -= d.rng
		t := -(d.code >> 31)
		d.code += d.rng & t
		v = v<<1 + t + 1
	}
	return v
}

// tree decodes n bits, the highest first.
func (d *rangeDecoder) tree(p []uint16, n uint) uint32 {
	m := uint32(1)
	for range n {
		m = m<<1 + d.bit(&p[m])
	}
	return m - 1<<n
}

// reverse decodes n bits, the lowest first.
func (d *rangeDecoder) reverse(p []uint16, n uint) uint32 {
	m, v := uint32(1), uint32(0)
	for i := range n {
		b := d.bit(&p[m])
		m = m<<1 + b
		v |= b << i
	}
	return v
}

type lengthCoder struct {
	choice, choice2 uint16
	low, mid        [16][8]uint16
	high            [256]uint16
}

func (l *lengthCoder) decode(d *rangeDecoder, pos uint32) int {
	if d.bit(&l.choice) == 0 {
		return 2 + int(d.tree(l.low[pos][:], 3))
	}
	if d.bit(&l.choice2) == 0 {
		return 10 + int(d.tree(l.mid[pos][:], 3))
	}
	return 18 + int(d.tree(l.high[:], 8))
}

// lzmaModel is the state that a state reset sets back.
type lzmaModel struct {
	state      int
	rep        [4]uint32
	isMatch    [12][16]uint16
	isRep      [12]uint16
	isRepG0    [12]uint16
	isRepG1    [12]uint16
	isRepG2    [12]uint16
	isRep0Long [12][16]uint16
	slot       [4][64]uint16
	spec       [128]uint16
	align      [16]uint16
	length     lengthCoder
	repLength  lengthCoder
	literal    []uint16
}

// lzma decodes into a ring of the last bytes.
type lzma struct {
	rangeDecoder
	m          lzmaModel
	lc, lp, pb uint
	most       int64 // bytes that the ring may have, whatever the dictionary; 0 for no such bound
	dict       uint32
	full       int // length that the ring grows to
	ring       []byte
	at         int    // next place in ring
	total      uint64 // bytes since the last dictionary reset
	pending    int    // rest of a match that the last call did not finish
	out        []byte
	taken      int  // of out
	ended      bool // end marker seen
}

func (z *lzma) setProps(b byte) error {
	if b >= 225 {
		return errLZMA
	}
	z.lc, z.lp, z.pb = uint(b%9), uint(b/9%5), uint(b/45)
	return nil
}

func (z *lzma) setDictionary(n uint32) error {
	if z.most == 0 && n > maxDictionary {
		return fmt.Errorf("a dictionary of %d bytes: %w", n, ErrLimit)
	}
	z.dict = max(n, 4096)
	z.full = int(z.dict)
	if z.most > 0 {
		z.full = int(min(int64(z.dict), max(z.most, 4096)))
	}
	if z.ring == nil {
		z.ring = make([]byte, min(z.full, firstRing))
	}
	z.ring = z.ring[:min(len(z.ring), z.full)]
	z.at, z.total = 0, 0
	return nil
}

// wrap is called at the end of the ring: it grows, or begins anew.
func (z *lzma) wrap() {
	if len(z.ring) == z.full {
		z.at = 0
		return
	}
	ring := make([]byte, min(2*len(z.ring), z.full))
	copy(ring, z.ring)
	z.ring = ring
}

// take hands out what was decoded.
func (z *lzma) take(p []byte) int {
	n := copy(p, z.out[z.taken:])
	if z.taken += n; z.taken == len(z.out) {
		z.out, z.taken = z.out[:0], 0
	}
	return n
}

func fill(ps ...[]uint16) {
	for _, p := range ps {
		for i := range p {
			p[i] = 1024
		}
	}
}

func (z *lzma) resetState() {
	lit := z.m.literal
	if n := 0x300 << (z.lc + z.lp); len(lit) != n {
		lit = make([]uint16, n)
	}
	z.m = lzmaModel{literal: lit}
	m := &z.m
	fill(lit, m.isRep[:], m.isRepG0[:], m.isRepG1[:], m.isRepG2[:], m.spec[:], m.align[:])
	for i := range m.isMatch {
		fill(m.isMatch[i][:], m.isRep0Long[i][:])
	}
	for i := range m.slot {
		fill(m.slot[i][:])
	}
	for _, l := range []*lengthCoder{&m.length, &m.repLength} {
		l.choice, l.choice2 = 1024, 1024
		fill(l.high[:])
		for i := range l.low {
			fill(l.low[i][:], l.mid[i][:])
		}
	}
}

func (z *lzma) put(b byte) {
	z.ring[z.at] = b
	if z.at++; z.at == len(z.ring) {
		z.wrap()
	}
	z.total++
	z.out = append(z.out, b)
}

// back is the byte at a distance, 0 being the last one.
func (z *lzma) back(dist uint32) byte {
	i := z.at - 1 - int(dist)
	if i < 0 {
		i += len(z.ring)
	}
	return z.ring[i]
}

// decode appends n bytes to out, or fewer when the end marker comes.
func (z *lzma) decode(n int) error {
	want := len(z.out) + n
	for {
		for z.pending > 0 && len(z.out) < want {
			z.put(z.back(z.m.rep[0]))
			z.pending--
		}
		if len(z.out) >= want || z.ended {
			return z.err
		}
		if err := z.symbol(); err != nil {
			return err
		}
	}
}

// symbol decodes a literal, or the distance and length of a match.
func (z *lzma) symbol() error {
	m := &z.m
	pos := uint32(z.total) & (1<<z.pb - 1)
	if z.bit(&m.isMatch[m.state][pos]) == 0 {
		z.literal()
		return z.err
	}
	if z.bit(&m.isRep[m.state]) == 0 {
		m.rep[3], m.rep[2], m.rep[1] = m.rep[2], m.rep[1], m.rep[0]
		z.pending = m.length.decode(&z.rangeDecoder, pos)
		m.state = next(m.state, 7, 10)
		m.rep[0] = z.distance(z.pending)
		if m.rep[0] == 0xffffffff {
			z.pending, z.ended = 0, true
			z.normalise() // the encoder ends with whole bytes
			return z.err
		}
		return z.checkDistance()
	}
	if z.total == 0 {
		return errLZMA
	}
	return z.repeat(pos)
}

// next is the state after a match or repetition: near after literals, far
// otherwise.
func next(state, near, far int) int {
	if state < 7 {
		return near
	}
	return far
}

func (z *lzma) repeat(pos uint32) error {
	m := &z.m
	if z.bit(&m.isRepG0[m.state]) == 0 {
		if z.bit(&m.isRep0Long[m.state][pos]) == 0 {
			m.state = next(m.state, 9, 11)
			z.pending = 1
			return z.checkDistance()
		}
	} else {
		dist := m.rep[1]
		if z.bit(&m.isRepG1[m.state]) != 0 {
			if z.bit(&m.isRepG2[m.state]) == 0 {
				dist = m.rep[2]
			} else {
				dist, m.rep[3] = m.rep[3], m.rep[2]
			}
			m.rep[2] = m.rep[1]
		}
		m.rep[1], m.rep[0] = m.rep[0], dist
	}
	z.pending = m.repLength.decode(&z.rangeDecoder, pos)
	m.state = next(m.state, 8, 11)
	return z.checkDistance()
}

func (z *lzma) checkDistance() error {
	if z.err != nil {
		return z.err
	}
	switch d := uint64(z.m.rep[0]); {
	case d >= z.total || d >= uint64(z.dict):
		return errLZMA
	case d >= uint64(len(z.ring)):
		return fmt.Errorf("something %d bytes back is wanted, and %d are kept: %w", d+1, len(z.ring), ErrLimit)
	}
	return nil
}

func (z *lzma) literal() {
	m := &z.m
	prev := byte(0)
	if z.total > 0 {
		prev = z.back(0)
	}
	sub := (uint32(z.total)&(1<<z.lp-1))<<z.lc + uint32(prev)>>(8-z.lc)
	p := m.literal[0x300*sub : 0x300*sub+0x300]
	sym := uint32(1)
	if m.state >= 7 {
		match := uint32(0)
		if uint64(m.rep[0]) < min(z.total, uint64(len(z.ring))) {
			match = uint32(z.back(m.rep[0]))
		}
		for sym < 0x100 {
			bit := match >> 7 & 1
			match <<= 1
			b := z.bit(&p[(1+bit)<<8+sym])
			sym = sym<<1 | b
			if b != bit {
				break
			}
		}
	}
	for sym < 0x100 {
		sym = sym<<1 | z.bit(&p[sym])
	}
	if z.err == nil {
		z.put(byte(sym))
	}
	switch {
	case m.state < 4:
		m.state = 0
	case m.state < 10:
		m.state -= 3
	default:
		m.state -= 6
	}
}

func (z *lzma) distance(length int) uint32 {
	m := &z.m
	slot := z.tree(m.slot[min(length-2, 3)][:], 6)
	if slot < 4 {
		return slot
	}
	bits := uint(slot>>1 - 1)
	dist := (2 | slot&1) << bits
	if slot < 14 {
		return dist + z.reverse(m.spec[dist-slot:], bits)
	}
	dist += z.direct(uint32(bits-4)) << 4
	return dist + z.reverse(m.align[:], 4)
}

// lzmaAlone reads the .lzma container: properties, dictionary, size, data.
type lzmaAlone struct {
	z    lzma
	left int64 // bytes still to come; negative when only the end marker tells
	src  *bufio.Reader
}

// NewLZMAReader decompresses a .lzma file, to its end. ErrLimit says that its
// dictionary is larger than 64 MiB.
func NewLZMAReader(r io.Reader) (io.ReadCloser, error) { return NewWindowLZMAReader(r, 0) }

// NewWindowLZMAReader is as NewLZMAReader, but keeps at most the last window
// bytes, whatever the dictionary: ErrLimit says that something further back is
// wanted.
func NewWindowLZMAReader(r io.Reader, window int64) (io.ReadCloser, error) {
	src := bufio.NewReaderSize(r, readAhead)
	var h [13]byte
	if _, err := io.ReadFull(src, h[:]); err != nil {
		return nil, err
	}
	return newLZMAAlone(src, h[:5], int64(binary.LittleEndian.Uint64(h[5:])), window)
}

// NewLZMA decompresses LZMA data without a container, as archives have it, to
// its end; nothing may follow. props are its five bytes of properties, size
// the length of what comes out. At most window bytes are kept: ErrLimit says
// that something further back is wanted.
func NewLZMA(r io.Reader, props []byte, size, window int64) (io.Reader, error) {
	if len(props) != 5 || size < 0 {
		return nil, errLZMA
	}
	return newLZMAAlone(bufio.NewReaderSize(r, readAhead), props, size, window)
}

func newLZMAAlone(src *bufio.Reader, props []byte, size, window int64) (*lzmaAlone, error) {
	a := &lzmaAlone{src: src, left: size, z: lzma{most: window}}
	if err := a.z.setProps(props[0]); err != nil {
		return nil, err
	}
	if err := a.z.setDictionary(binary.LittleEndian.Uint32(props[1:])); err != nil {
		return nil, err
	}
	if a.left < -1 {
		return nil, errLZMA
	}
	a.z.r = a.src
	a.z.resetState()
	a.z.init()
	return a, a.z.err
}

func (a *lzmaAlone) Close() error { return nil }

func (a *lzmaAlone) Read(p []byte) (int, error) {
	z := &a.z
	if len(z.out) == 0 {
		n := 32 << 10
		if a.left >= 0 {
			n = int(min(int64(n), a.left))
		}
		if n == 0 || z.ended {
			return 0, a.finish()
		}
		if err := z.decode(n); err != nil {
			return 0, err
		}
		if a.left >= 0 {
			if a.left -= int64(len(z.out)); z.ended && a.left > 0 {
				return 0, io.ErrUnexpectedEOF
			}
		}
	}
	return z.take(p), nil
}

// finish checks that nothing follows but an end marker.
func (a *lzmaAlone) finish() error {
	if a.left == 0 && !a.z.ended {
		if a.z.normalise(); a.z.code != 0 {
			if err := a.z.symbol(); err != nil || !a.z.ended {
				return errLZMA
			}
		}
	}
	if _, err := a.src.ReadByte(); err != io.EOF {
		return fmt.Errorf("lzma: %w", ErrTrailing)
	}
	return io.EOF
}
