package sevenzip

import (
	"bufio"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/weightseal/weightseal/format/xz"
)

// The methods that are decoded, and those that have a name in messages.
const (
	methodCopy    = 0x00
	methodDelta   = 0x03
	methodX86     = 0x04
	methodLZMA2   = 0x21
	methodLZMA    = 0x030101
	methodBCJ     = 0x03030103
	methodDeflate = 0x040108
	methodBZip2   = 0x040202
	methodAES     = 0x06f10701
)

func methodName(id uint64) string {
	names := map[uint64]string{
		0x05: "the filter for PowerPC", 0x06: "the filter for IA-64", 0x07: "the filter for ARM", 0x08: "the filter for ARM Thumb",
		0x09: "the filter for SPARC", 0x0a: "the filter for ARM64", 0x0b: "the filter for RISC-V", 0x0303011b: "BCJ2",
		0x03030205: "the filter for PowerPC", 0x03030401: "the filter for IA-64", 0x03030501: "the filter for ARM",
		0x03030701: "the filter for ARM Thumb", 0x03030805: "the filter for SPARC",
		0x030401: "PPMd", 0x040109: "Deflate64", 0x04f71101: "Zstandard", 0x04f71102: "Brotli", 0x04f71104: "LZ4",
	}
	if s := names[id]; s != "" {
		return s
	}
	return fmt.Sprintf("the method %x", id)
}

// order says which output streams of a folder's coders are decoded, one after
// the other, and how many there are.
type order struct {
	outs int
	at   []int
}

// folder reads how packed streams become one stream. What is understood but
// not decoded is kept as the reason.
func (p *parser) folder(f *folder) (order, error) {
	n, err := p.number()
	if err != nil {
		return order{}, err
	}
	if n < 1 || n > 32 {
		return order{}, p.errorf("a folder of %d coders", n)
	}
	coders := make([]coder, n)
	ins, outs, simple := 0, 0, true
	for i := range coders {
		in, out, err := p.coder(&coders[i])
		if err != nil {
			return order{}, err
		}
		ins, outs, simple = ins+in, outs+out, simple && in == 1 && out == 1
		if coders[i].method == methodAES {
			f.why = ErrEncrypted
		}
	}
	from, last, err := p.binds(f, ins, outs)
	if err != nil {
		return order{}, err
	}
	o := order{outs: outs}
	if simple {
		o.at, err = p.chain(from, int(n))
	} else {
		o.at = []int{last} // for its size; nothing is decoded
	}
	if err != nil {
		return o, err
	}
	for _, i := range o.at {
		f.coders = append(f.coders, coders[min(i, len(coders)-1)])
	}
	if f.why == nil {
		f.why = decodable(coders, simple)
	}
	return o, nil
}

// decodable says why coders are not decoded.
func decodable(coders []coder, simple bool) error {
	for _, c := range coders {
		switch c.method {
		case methodCopy, methodDelta, methodX86, methodLZMA2, methodLZMA, methodBCJ, methodDeflate, methodBZip2:
		default:
			return fmt.Errorf("%s: %w", methodName(c.method), ErrUnsupported)
		}
	}
	if !simple {
		return fmt.Errorf("a coder with several streams: %w", ErrUnsupported)
	}
	if len(coders) > maxCoders {
		return fmt.Errorf("%d coders in a row: %w", len(coders), ErrLimit)
	}
	return nil
}

// coder reads one coder, and how many streams go in and out.
func (p *parser) coder(c *coder) (ins, outs int, err error) {
	flags, err := p.byte()
	if err != nil {
		return 0, 0, err
	}
	if flags&0xc0 != 0 || flags&15 > 8 {
		return 0, 0, p.errorf("a coder with the flags %#x", flags)
	}
	id, err := p.bytes(uint64(flags & 15))
	if err != nil {
		return 0, 0, err
	}
	for _, b := range id {
		c.method = c.method<<8 | uint64(b)
	}
	ins, outs = 1, 1
	if flags&0x10 != 0 {
		for _, v := range []*int{&ins, &outs} {
			n, err := p.number()
			if err != nil {
				return 0, 0, err
			}
			if n < 1 || n > 32 {
				return 0, 0, p.errorf("a coder with %d streams", n)
			}
			*v = int(n)
		}
	}
	if flags&0x20 != 0 {
		n, err := p.number()
		if err != nil {
			return 0, 0, err
		}
		if c.props, err = p.bytes(n); err != nil {
			return 0, 0, err
		}
	}
	return ins, outs, nil
}

// binds reads which output goes into which input. from gives the output that
// feeds an input, or -1 for a packed stream; last is the output that goes
// nowhere and is the folder's.
func (p *parser) binds(f *folder, ins, outs int) (from []int, last int, err error) {
	from = make([]int, ins)
	for i := range from {
		from[i] = -1
	}
	f.packs = ins - (outs - 1)
	if f.packs < 1 {
		return nil, 0, p.errorf("a folder without a packed stream")
	}
	used := make([]bool, outs)
	for range outs - 1 {
		in, err := p.number()
		if err != nil {
			return nil, 0, err
		}
		out, err := p.number()
		if err != nil {
			return nil, 0, err
		}
		if in >= uint64(ins) || out >= uint64(outs) || from[in] >= 0 || used[out] {
			return nil, 0, p.errorf("streams of coders that do not fit each other")
		}
		from[in], used[out] = int(out), true
	}
	last = slices.Index(used, false)
	if f.packs == 1 {
		return from, last, nil
	}
	taken := make([]bool, ins)
	for range f.packs {
		in, err := p.number()
		if err != nil {
			return nil, 0, err
		}
		if in >= uint64(ins) || from[in] >= 0 || taken[in] {
			return nil, 0, p.errorf("a packed stream that goes nowhere")
		}
		taken[in] = true
	}
	return from, last, nil
}

// chain gives the order of coders of one stream each: from the one that reads
// the packed stream to the one whose output is the folder's.
func (p *parser) chain(from []int, n int) ([]int, error) {
	to := make([]int, n)
	first := -1
	for in, out := range from {
		if out < 0 {
			first = in
		} else {
			to[out] = in + 1
		}
	}
	var list []int
	for i := first; i >= 0; i = to[i] - 1 {
		list = append(list, i)
	}
	if len(list) != n {
		return nil, p.errorf("the coders go round in a circle")
	}
	return list, nil
}

// Err says why the folder cannot be read: ErrEncrypted, ErrUnsupported or
// ErrLimit, with what. nil where it can.
func (f *Folder) Err() error { return f.a.main.folders[f.n].why }

// Open decompresses the folder from its beginning. It gives exactly Size bytes;
// less and more, and packed bytes that are left over, are errors.
func (f *Folder) Open() (io.Reader, error) { return f.a.decoder(&f.a.main.folders[f.n]) }

func (a *Archive) decoder(f *folder) (io.Reader, error) {
	if f.why != nil {
		return nil, f.why
	}
	windows := int64(0)
	for _, c := range f.coders {
		if c.method == methodLZMA || c.method == methodLZMA2 {
			windows++
		}
	}
	window := a.lim.Window / max(windows, 1)
	var r io.Reader = io.NewSectionReader(a.r, f.at, f.length)
	if f.coders[0].method == methodCopy && f.sizes[0] != f.length {
		return nil, broken(f.at, "%d bytes are stored, with a size of %d", f.length, f.sizes[0])
	}
	for i, c := range f.coders {
		next, err := a.step(c, r, f.sizes[i], window)
		if err != nil {
			return nil, explain(f.at, err)
		}
		r = &sized{r: next, left: f.sizes[i], at: f.at}
	}
	return r, nil
}

// step is one coder over what comes in.
func (a *Archive) step(c coder, in io.Reader, size, window int64) (io.Reader, error) {
	switch c.method {
	case methodCopy:
		return in, nil
	case methodLZMA:
		if len(c.props) != 5 {
			return nil, errors.New("properties of the wrong length")
		}
		if err := a.spend(c.props[0]); err != nil {
			return nil, err
		}
		return xz.NewLZMA(in, c.props, size, window)
	case methodLZMA2:
		if len(c.props) != 1 {
			return nil, errors.New("properties of the wrong length")
		}
		return xz.NewLZMA2(in, c.props[0], window)
	case methodDeflate:
		return newInflater(in), nil
	case methodBZip2:
		return bzip2.NewReader(in), nil
	case methodDelta:
		return newDelta(in, c.props)
	default:
		return newX86(in), nil
	}
}

// spend asks for what the tables of LZMA take: up to 6 MiB, for no output at
// all.
func (a *Archive) spend(props byte) error {
	const usual = 64 << 10
	n := int64(0x600) << (props%9 + props/9%5)
	if n <= usual || a.lim.Spend == nil {
		return nil
	}
	return a.lim.Spend(n)
}

// inflater is Deflate of which nothing may be left over.
type inflater struct {
	io.Reader
	in *bufio.Reader
}

func newInflater(in io.Reader) *inflater {
	b := bufio.NewReaderSize(in, 16<<10)
	return &inflater{flate.NewReader(b), b}
}

func (r *inflater) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		if _, more := r.in.ReadByte(); more == nil {
			return n, xz.ErrTrailing
		} else if more != io.EOF {
			return n, more
		}
	}
	return n, err
}

// sized demands that a reader gives so many bytes, no less and no more.
type sized struct {
	r    io.Reader
	left int64
	at   int64 // of the packed stream
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, s.end()
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	switch {
	case err == nil || err == io.EOF && s.left == 0:
		return n, nil // the end is looked at by the next call
	case err == io.EOF:
		return n, broken(s.at, "the packed stream ends %d bytes too early", s.left)
	}
	return n, explain(s.at, err)
}

func (s *sized) end() error {
	for range 100 {
		n, err := s.r.Read(make([]byte, 1))
		switch {
		case n > 0:
			return broken(s.at, "the packed stream holds more than is declared")
		case err == io.EOF:
			return io.EOF
		case err != nil:
			return explain(s.at, err)
		}
	}
	return io.ErrNoProgress
}

// explain turns the errors of decompressors, which are many, into ours. What
// the source of the bytes says is left as it is.
func explain(at int64, err error) error {
	var flateErr flate.CorruptInputError
	var bzipErr bzip2.StructuralError
	switch {
	case errors.Is(err, xz.ErrLimit):
		return fmt.Errorf("%w: %w", ErrLimit, err)
	case errors.Is(err, xz.ErrTrailing), errors.Is(err, xz.ErrBroken), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &flateErr), errors.As(err, &bzipErr):
		return broken(at, "the packed stream: %v", err)
	}
	return err
}

// delta adds to each byte the one so many before it.
type delta struct {
	r     io.Reader
	last  [256]byte
	dist  byte // less one
	place byte
}

func newDelta(r io.Reader, props []byte) (io.Reader, error) {
	if len(props) != 1 {
		return nil, errors.New("properties of the wrong length")
	}
	return &delta{r: r, dist: props[0]}, nil
}

func (d *delta) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for i := range p[:n] {
		p[i] += d.last[d.place]
		d.last[d.place] = p[i]
		if d.place == d.dist {
			d.place = 0
		} else {
			d.place++
		}
	}
	return n, err
}

// x86 undoes the filter for the machine code of x86: the targets of calls and
// jumps, which were made absolute, are relative again (xz: src/liblzma/simple,
// 7-Zip: C/Bra86.c).
type x86 struct {
	r    io.Reader
	buf  []byte // what was read, up to done already converted
	done int
	pos  uint32 // of buf[0] in the stream
	mask uint32 // of the opcodes among the last bytes
	err  error
}

func newX86(r io.Reader) *x86 { return &x86{r: r, buf: make([]byte, 0, 16<<10)} }

func (x *x86) Read(p []byte) (int, error) {
	for x.done == 0 {
		if x.err != nil {
			if len(x.buf) == 0 {
				return 0, x.err
			}
			x.done = len(x.buf) // too few for an address
			break
		}
		n, err := x.r.Read(x.buf[len(x.buf):cap(x.buf)])
		x.buf, x.err = x.buf[:len(x.buf)+n], err
		x.done = x.convert()
	}
	n := copy(p, x.buf[:x.done])
	x.buf = append(x.buf[:0], x.buf[n:]...)
	x.done -= n
	x.pos += uint32(n)
	return n, nil
}

// convert converts as much of buf as can be, and says how much that is.
func (x *x86) convert() int {
	if len(x.buf) < 5 {
		return 0
	}
	limit, prev, i := len(x.buf)-4, -1, 0
	for i < limit {
		if x.buf[i]&0xfe != 0xe8 {
			i++
			continue
		}
		gap := i - prev
		prev = i
		if x.skips(i, gap) {
			i++
			continue
		}
		if high(x.buf[i+4]) {
			binary.LittleEndian.PutUint32(x.buf[i+1:], x.relative(i))
			i += 5
			continue
		}
		x.mask = x.mask<<1 | 1
		i++
	}
	if gap := i - prev; gap > 3 {
		x.mask = 0
	} else {
		x.mask = x.mask << (gap - 1) & 7
	}
	return i
}

// skips says whether the opcode at i is taken for a part of an address, and
// keeps the mask.
func (x *x86) skips(i, gap int) bool {
	if gap > 3 {
		x.mask = 0
		return false
	}
	x.mask = x.mask << (gap - 1) & 7
	if x.mask == 0 {
		return false
	}
	allowed := x.mask == 1 || x.mask == 2 || x.mask == 4
	if allowed && !high(x.buf[i+4-shift(x.mask)]) {
		return false
	}
	x.mask = x.mask<<1 | 1
	return true
}

// shift is the place of the last opcode in the mask.
func shift(mask uint32) int { return [8]int{0, 1, 2, 2, 3, 3, 3, 3}[mask&7] }

func high(b byte) bool { return b == 0 || b == 0xff }

// relative is the address after the opcode at i, less where it stands.
func (x *x86) relative(i int) uint32 {
	src := binary.LittleEndian.Uint32(x.buf[i+1:])
	var dest uint32
	for {
		dest = src - (x.pos + uint32(i) + 5)
		if x.mask == 0 {
			break
		}
		bits := 8 * shift(x.mask)
		if !high(byte(dest >> (24 - bits))) {
			break
		}
		src = dest ^ (1<<(32-bits) - 1)
	}
	dest &= 0x01ffffff
	return dest | -(dest & 0x01000000)
}
