package hdf5

import (
	"cmp"
	"math/bits"
	"slices"
)

// chunk is where a chunk of a dataset lies.
type chunk struct {
	number int64 // row-major among the chunks of the dataset as it is now
	addr   int64
	size   int64  // as stored
	mask   uint32 // filters that were skipped, by bit
}

// chunkList collects the chunks of a dataset.
type chunkList struct {
	d     *dataset
	plain int64   // bytes of a chunk
	grid  []int64 // chunks along each dimension
	most  []int64 // the same for the largest extents; those of no bound as they are now
	order []int   // the dimensions as the arrays of chunks order them
	all   []chunk
	last  []int64 // the chunk before, in a version 1 B-tree
}

func ceil(n, by int64) int64 { return n/by + min(n%by, 1) }

// chunkList reads a dataset's index of chunks (appendix C and section VIII of
// the specification; III.A for the trees).
func (d *dataset) chunkList() (*chunkList, error) {
	l := &chunkList{d: d}
	l.plain, _ = count(d.layout.elem, d.layout.chunk)
	unbounded := 0
	for i, n := range d.space.dims {
		g := ceil(n, d.layout.chunk[i])
		l.grid = append(l.grid, g)
		l.order = append(l.order, i)
		m := g
		if d.space.most[i] >= 0 {
			m = ceil(d.space.most[i], d.layout.chunk[i])
		} else if d.layout.index.kind == indexExtensible {
			unbounded++
			l.order = slices.Insert(slices.Delete(l.order, i, i+1), 0, i)
		}
		l.most = append(l.most, m)
	}
	if d.layout.index.kind == indexExtensible && unbounded != 1 {
		return nil, d.f.bad(d.addr, "an extensible array of chunks with %d unlimited dimensions", unbounded)
	}
	if d.layout.addr == undefined || d.bytes == 0 {
		return l, nil
	}
	if err := l.read(); err != nil {
		return nil, err
	}
	slices.SortFunc(l.all, func(a, b chunk) int { return cmp.Compare(a.number, b.number) })
	for i := 1; i < len(l.all); i++ {
		if l.all[i].number == l.all[i-1].number {
			return nil, d.f.bad(l.all[i].addr, "a chunk that is there twice")
		}
	}
	return l, nil
}

func (l *chunkList) read() error {
	d := l.d
	addr := d.layout.addr
	rank := len(l.grid)
	switch d.layout.index.kind {
	case indexTree1:
		return d.f.tree1(addr, 1, 8+8*(rank+1), -1, l.treeChunk)
	case indexSingle:
		size := l.plain
		if d.layout.index.filtered {
			size = d.layout.index.size
		}
		return l.add(make([]int64, rank), chunk{addr: addr, size: size, mask: d.layout.index.mask})
	case indexImplicit:
		return l.implicit(addr)
	case indexFixed:
		return l.fixedArray(addr)
	case indexExtensible:
		return l.extensibleArray(addr)
	}
	kind := byte(10)
	if len(d.filter) > 0 {
		kind = 11
	}
	return d.f.tree2(addr, kind, l.tree2Chunk)
}

// add takes a chunk by its place in the grid; one outside it is not part of
// the dataset any more.
func (l *chunkList) add(at []int64, c chunk) error {
	f := l.d.f
	for i, x := range at {
		if x < 0 || x >= l.grid[i] {
			return nil
		}
		c.number = c.number*l.grid[i] + x
	}
	if c.addr == undefined {
		return nil
	}
	if !f.within(c.addr, c.size) {
		return f.bad(c.addr, "a chunk of %d bytes reaches past the end of the file", c.size)
	}
	if len(l.d.filter) == 0 && c.size != l.plain || c.size > l.plain+l.plain/8+1024 {
		return f.bad(c.addr, "%d bytes stored for a chunk of %d", c.size, l.plain)
	}
	if f.chunks++; f.chunks > f.lim.Chunks {
		return f.bad(c.addr, "more than %d chunks", f.lim.Chunks)
	}
	l.all = append(l.all, c)
	return nil
}

// treeChunk takes a chunk of a version 1 B-tree. Readers look chunks up by its
// keys: where they are out of order, or point into an element, they miss some.
func (l *chunkList) treeChunk(key *cursor, child int64) error {
	c := chunk{addr: child, size: int64(key.u32()), mask: key.u32()}
	at := make([]int64, len(l.grid))
	for i := range at {
		offset := key.num(8)
		if offset > 1<<62 || int64(offset)%l.d.layout.chunk[i] != 0 {
			return l.d.f.bad(key.at, "a chunk at %d of chunks of %d elements", offset, l.d.layout.chunk[i])
		}
		at[i] = int64(offset) / l.d.layout.chunk[i]
	}
	inside := key.num(8)
	switch {
	case key.err != nil:
		return key.err
	case inside != 0:
		return l.d.f.bad(key.at, "a chunk that begins at byte %d of an element", inside)
	case l.last != nil && slices.Compare(at, l.last) < 0:
		return l.d.f.bad(key.at, "a chunk at %v behind one at %v: they are out of order", at, l.last)
	}
	l.last = at
	return l.add(at, c)
}

// tree2Chunk takes a chunk of a version 2 B-tree.
func (l *chunkList) tree2Chunk(r *cursor) error {
	c := chunk{addr: r.addr(), size: l.plain}
	if len(l.d.filter) > 0 {
		width := r.left() - 4 - 8*len(l.grid)
		if width < 1 || width > 8 {
			return l.d.f.bad(r.at, "a chunk's size in %d bytes", width)
		}
		c.size, c.mask = int64(r.num(width)), r.u32()
	}
	at := make([]int64, len(l.grid))
	for i := range at {
		at[i] = int64(r.num(8))
	}
	if r.err != nil {
		return r.err
	}
	return l.add(at, c)
}

// indices is how many elements an array of chunks has that can be part of the
// dataset.
func (l *chunkList) indices() (int64, error) {
	n := uint64(1)
	for _, m := range l.most {
		hi, lo := bits.Mul64(n, uint64(m))
		if hi != 0 || lo > 1<<48 {
			return 0, l.d.f.bad(l.d.addr, "more chunks than any file has")
		}
		n = lo
	}
	return int64(n), nil
}

// addIndex takes the chunk that an array has at an index.
func (l *chunkList) addIndex(i int64, c chunk) error {
	at := make([]int64, len(l.grid))
	for k := len(l.order) - 1; k >= 0; k-- {
		dim := l.order[k]
		if k == 0 {
			at[dim] = i
			break
		}
		at[dim] = i % l.most[dim]
		i /= l.most[dim]
	}
	return l.add(at, c)
}

// implicit takes chunks that lie one after the other.
func (l *chunkList) implicit(addr int64) error {
	n, err := l.indices()
	if err != nil {
		return err
	}
	for i := range n {
		if !l.d.f.within(addr, l.plain) {
			return l.d.f.bad(addr, "a chunk of %d bytes reaches past the end of the file", l.plain)
		}
		if err := l.addIndex(i, chunk{addr: addr, size: l.plain}); err != nil {
			return err
		}
		addr += l.plain
	}
	return nil
}

// element reads an element of an array of chunks, size bytes long.
func (l *chunkList) element(c *cursor, size int, filtered bool) chunk {
	e := chunk{addr: c.addr(), size: l.plain}
	if filtered {
		e.size, e.mask = int64(c.num(size-l.d.f.width-4)), c.u32()
	}
	return e
}

// checkElement checks what an array says of its elements.
func (l *chunkList) checkElement(addr int64, client byte, size int) (filtered bool, err error) {
	f := l.d.f
	filtered = client == 1
	room := size - f.width - 4
	if client > 1 || filtered != (len(l.d.filter) > 0) || filtered && (room < 1 || room > 8) || !filtered && size != f.width {
		return false, f.bad(addr, "an array of chunks with elements of kind %d and %d bytes", client, size)
	}
	return filtered, nil
}

// elements takes n elements from index i on.
func (l *chunkList) elements(c *cursor, i, n int64, size int, filtered bool) error {
	for k := range n {
		e := l.element(c, size, filtered)
		if c.err != nil {
			return c.err
		}
		if err := l.addIndex(i+k, e); err != nil {
			return err
		}
	}
	return nil
}

// bitmap tells which pages were written, from a bit on.
type bitmap struct {
	bits  []byte
	first int64
}

func (b bitmap) has(i int64) bool {
	i += b.first
	return b.bits[i/8]&(0x80>>(i%8)) != 0
}

// pages takes the elements of pages that follow each other from an address,
// n elements in all.
func (l *chunkList) pages(addr, first, n, perPage int64, written bitmap, size int, filtered bool) error {
	for p := int64(0); p*perPage < n; p++ {
		here := min(perPage, n-p*perPage)
		bytes := perPage*int64(size) + 4
		if written.has(p) {
			c, err := l.d.f.block(addr+p*bytes, here*int64(size)+4, "a page of chunks")
			if err != nil {
				return err
			}
			if err := l.elements(c, first+p*perPage, here, size, filtered); err != nil {
				return err
			}
			if err := c.sum(); err != nil {
				return err
			}
		}
	}
	return nil
}
