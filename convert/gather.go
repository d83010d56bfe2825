package convert

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
)

const (
	// scratchSize is what one step of a gather reads at most; it stays in
	// the second-level cache of the processor.
	scratchSize = 256 << 10
	// readThrough is the gap between two wanted runs up to which reading on
	// is cheaper than another system call.
	readThrough = 4 << 10
	// directRun is the run from which bytes are read straight into place.
	directRun = 16 << 10
	// minBlock and maxBlock bound the output that is gathered in one go.
	minBlock = 1 << 20
	maxBlock = 16 << 20
)

// dim is one dimension of a strided copy: how many, and how many bytes lie
// between two neighbours in the source and in the destination.
type dim struct{ n, src, dst int64 }

// gather is a strided view of a reader, written row-major. It is filled in
// blocks: the output of a fixed index of the dimensions before split, chunk
// indices of split and everything after it.
type gather struct {
	src    io.ReaderAt
	base   int64 // of element 0, in src
	elem   int64 // bytes of an element
	dims   []dim // outermost first, none of length 1, mergeable ones merged
	size   int64 // bytes of the output
	random bool  // reading here and there costs little (false: inflated)

	split int
	chunk int64
	inner int64 // output bytes of one index of split
}

// normalise drops dimensions of length 1, merges those that are one in
// memory, and sets the destination strides. sizes and strides are in elements
// and checked: every element lies inside the storage.
func normalise(sizes, strides []int64, elem int64) []dim {
	var dims []dim // innermost first
	for i := len(sizes) - 1; i >= 0; i-- {
		n, s := sizes[i], strides[i]*elem
		if n == 1 {
			continue
		}
		if k := len(dims) - 1; k >= 0 && s == dims[k].src*dims[k].n {
			dims[k].n *= n
			continue
		}
		dims = append(dims, dim{n: n, src: s})
	}
	at := elem
	for i := range dims {
		dims[i].dst = at
		at *= dims[i].n
	}
	slices.Reverse(dims)
	return dims
}

// newGather prepares a gather and settles its block size: the smallest block
// that reads the source well enough.
func newGather(src io.ReaderAt, base, elem int64, dims []dim, random bool) *gather {
	g := &gather{src: src, base: base, elem: elem, dims: dims, random: random}
	g.size = dims[0].n * dims[0].dst
	best := math.Inf(1)
	var bestSize int64
	for size := int64(minBlock); size <= maxBlock; size *= 2 {
		g.blocks(size)
		c := g.cost()
		if c < best*0.8 {
			best, bestSize = c, size
		}
		if c <= 0.5 || size >= g.size {
			break
		}
	}
	g.blocks(bestSize)
	return g
}

// blocks sets the block shape for at most size bytes.
func (g *gather) blocks(size int64) {
	g.split, g.inner = 0, g.dims[0].dst
	for i := range g.dims {
		if g.split, g.inner = i, g.dims[i].dst; g.inner <= size {
			break
		}
	}
	g.chunk = min(g.dims[g.split].n, max(1, size/g.inner))
}

// cost estimates the nanoseconds spent on reading, for one byte of output.
func (g *gather) cost() float64 {
	dims := g.blockDims(g.chunk)
	out := float64(g.chunk * g.inner)
	if !g.random {
		var extent int64
		for _, d := range dims {
			extent += (d.n - 1) * d.src
		}
		return 2 * float64(extent+g.elem) / out
	}
	if g.direct(dims) {
		return 0
	}
	s := g.steps(dims)
	steps := (s.part.n + s.each - 1) / s.each
	for _, d := range s.outer {
		steps *= d.n
	}
	if s.packed {
		n := float64(steps * s.each)
		return n * (400 + 0.15*float64(s.span)) / out
	}
	return float64(steps) * (400 + 0.15*float64(s.reach(s.each))) / out
}

// blockDims are the dimensions of a block of n indices of split.
func (g *gather) blockDims(n int64) []dim {
	dims := slices.Clone(g.dims[g.split:])
	dims[0].n = n
	return dims
}

// block finds the block that holds output offset off.
func (g *gather) block(off int64) (start, length, base int64, dims []dim) {
	n := g.dims[g.split].n
	per := n * g.inner
	outer, in := off/per, off%per
	first := in / g.inner / g.chunk * g.chunk
	count := min(g.chunk, n-first)
	start = outer*per + first*g.inner
	base = g.base + first*g.dims[g.split].src
	for i := g.split - 1; i >= 0; i-- {
		base += outer % g.dims[i].n * g.dims[i].src
		outer /= g.dims[i].n
	}
	return start, count * g.inner, base, g.blockDims(count)
}

// fill gathers a block into dst.
func (g *gather) fill(dst []byte, base int64, dims []dim, scratch []byte) error {
	if g.direct(dims) {
		last := dims[len(dims)-1]
		outer := slices.Clone(dims[:len(dims)-1])
		bySource(outer)
		return each(outer, base, 0, func(from, to int64) error {
			return readFull(g.src, dst[to:to+last.n*g.elem], from)
		})
	}
	s := g.steps(dims)
	return each(s.outer, base, 0, func(from, to int64) error {
		for i := int64(0); i < s.part.n; i += s.each {
			n := min(s.each, s.part.n-i)
			if err := s.read(g.src, scratch, from+i*s.part.src, n); err != nil {
				return err
			}
			s.place(dst[to+i*s.part.dst:], scratch, n, g.elem)
		}
		return nil
	})
}

// direct says whether the innermost dimension is a long run in the source.
func (g *gather) direct(dims []dim) bool {
	last := dims[len(dims)-1]
	return last.src == g.elem && last.n*g.elem >= directRun
}

// steps is how a block is read: piece by piece into the scratch buffer. A
// piece is span bytes; part is the dimension of which each indices are read
// together, in one read or packed one beside the other.
type steps struct {
	span   int64
	in     []dim // inside a piece, src as in the source
	part   dim
	each   int64
	packed bool
	stride int64 // of part in the scratch buffer
	outer  []dim // what is left, in source order
}

// steps grows the piece from the smallest source stride on, as long as it
// pays to read through the gaps and the piece fits.
func (g *gather) steps(dims []dim) steps {
	order := slices.Clone(dims)
	bySource(order)
	slices.Reverse(order)
	gap := int64(readThrough)
	if !g.random {
		gap = math.MaxInt64 / 2
	}
	s := steps{span: g.elem, part: dim{n: 1}, each: 1}
	for i, d := range order {
		reach := (d.n-1)*d.src + s.span
		if d.src == 0 || d.src-s.span <= gap && reach <= scratchSize {
			s.in = append(s.in, d)
			s.span = max(s.span, reach)
			continue
		}
		s.part, s.stride = d, d.src
		if d.src-s.span <= gap && d.src+s.span <= scratchSize {
			s.each = min(d.n, (scratchSize-s.span)/d.src+1)
		} else {
			// An odd stride keeps the pieces from falling into one set
			// of the cache.
			s.packed, s.stride = true, (s.span+63)/64*64+64
			s.each = max(1, min(d.n, scratchSize/s.stride))
		}
		s.outer = order[i+1:]
		slices.Reverse(s.outer)
		break
	}
	return s
}

// reach is the length of a read of n indices of part.
func (s *steps) reach(n int64) int64 { return (n-1)*s.part.src + s.span }

// read brings n indices of part into scratch.
func (s *steps) read(src io.ReaderAt, scratch []byte, from, n int64) error {
	if !s.packed {
		return readFull(src, scratch[:s.reach(n)], from)
	}
	for i := range n {
		if err := readFull(src, scratch[i*s.stride:i*s.stride+s.span], from+i*s.part.src); err != nil {
			return err
		}
	}
	return nil
}

// place copies what read brought to where it belongs.
func (s *steps) place(dst, scratch []byte, n, elem int64) {
	dims := append(slices.Clone(s.in), dim{n: n, src: s.stride, dst: s.part.dst})
	if n == 1 {
		dims = dims[:len(s.in)]
	}
	slices.SortStableFunc(dims, func(a, b dim) int { return compare(b.dst, a.dst) })
	copyStrided(dst, scratch, dims, elem)
}

// bySource sorts from the largest source stride to the smallest.
func bySource(dims []dim) {
	slices.SortStableFunc(dims, func(a, b dim) int { return compare(b.src, a.src) })
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// each calls f for every index of dims, with the offsets in the source and in
// the destination.
func each(dims []dim, src, dst int64, f func(src, dst int64) error) error {
	if len(dims) == 0 {
		return f(src, dst)
	}
	for i := range dims[0].n {
		if err := each(dims[1:], src+i*dims[0].src, dst+i*dims[0].dst, f); err != nil {
			return err
		}
	}
	return nil
}

// copyStrided copies elements in memory, dims outermost first.
func copyStrided(dst, src []byte, dims []dim, elem int64) {
	switch len(dims) {
	case 0:
		copy(dst[:elem], src)
	case 1:
		copyRow(dst, src, dims[0], elem)
	default:
		d := dims[0]
		for i := range d.n {
			copyStrided(dst[i*d.dst:], src[i*d.src:], dims[1:], elem)
		}
	}
}

// copyRow copies one dimension.
func copyRow(dst, src []byte, d dim, elem int64) {
	if d.src == elem && d.dst == elem {
		copy(dst[:d.n*elem], src)
		return
	}
	from, to := int64(0), int64(0)
	switch elem {
	case 1:
		for range d.n {
			dst[to] = src[from]
			from, to = from+d.src, to+d.dst
		}
	case 2:
		for range d.n {
			binary.LittleEndian.PutUint16(dst[to:], binary.LittleEndian.Uint16(src[from:]))
			from, to = from+d.src, to+d.dst
		}
	case 4:
		for range d.n {
			binary.LittleEndian.PutUint32(dst[to:], binary.LittleEndian.Uint32(src[from:]))
			from, to = from+d.src, to+d.dst
		}
	default:
		for range d.n {
			binary.LittleEndian.PutUint64(dst[to:], binary.LittleEndian.Uint64(src[from:]))
			from, to = from+d.src, to+d.dst
		}
	}
}

// readFull reads all of b; a reader that ends early gives
// io.ErrUnexpectedEOF.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
