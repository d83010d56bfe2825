package hdf5

import (
	"math"
	"math/bits"

	"github.com/weightseal/weightseal/format/safetensors"
)

// dataspace is the extent of a dataset.
type dataspace struct {
	null bool
	dims []int64
	most []int64 // the largest extents; -1 for no bound
}

// dataset is an object with data, as its header says.
type dataset struct {
	f      *file
	addr   int64
	space  dataspace
	typ    datatype
	bytes  int64  // of all elements
	fill   []byte // one element; nil for zeros
	layout layout
	filter []filter
}

// The classes of layouts.
const (
	layoutCompact    = 0
	layoutContiguous = 1
	layoutChunked    = 2
	layoutVirtual    = 3
)

// layout says where a dataset's bytes lie (section IV.A.2.i).
type layout struct {
	class int
	addr  int64 // of the data, or of the index of chunks
	size  int64 // of the data; negative where it is not said
	chunk []int64
	elem  int64 // bytes of an element, as the chunks have it
	index chunkIndex
}

// chunkIndex says how the chunks of a dataset are found.
type chunkIndex struct {
	kind     int // 0 is the version 1 B-tree
	filtered bool
	size     int64  // of a single chunk that is filtered
	mask     uint32 // of filters that it skipped
}

// isDataset says that an object has data.
func (o *object) isDataset() bool { return o.find(msgLayout) != nil }

// dataspace reads a dataspace message (section IV.A.2.b).
func (c *cursor) dataspace() (dataspace, error) {
	var s dataspace
	version, rank, flags := c.u8(), int(c.u8()), c.u8()
	kind := byte(1)
	switch version {
	case 1:
		c.skip(5)
	case 2:
		kind = c.u8()
	default:
		if c.err == nil {
			c.err = c.f.bad(c.at, "a dataspace of version %d", version)
		}
	}
	const mostDims = 32
	if c.err == nil && (rank > mostDims || kind > 2 || kind != 1 && rank > 0) {
		c.err = c.f.bad(c.at, "a dataspace of type %d with %d dimensions", kind, rank)
	}
	if c.err != nil {
		return s, c.err
	}
	s.null = kind == 2
	for range rank {
		s.dims = append(s.dims, c.size())
	}
	for i := range rank {
		if flags&1 == 0 {
			s.most = append(s.most, s.dims[i])
			continue
		}
		n := c.offset(c.f.length) // all bits set: no bound
		if n >= 0 && n < s.dims[i] && c.err == nil {
			return s, c.f.bad(c.at, "a dataspace of %d elements where %d are allowed", s.dims[i], n)
		}
		s.most = append(s.most, n)
	}
	return s, c.err
}

// count multiplies; false where that passes what a file can have.
func count(elem int64, dims []int64) (int64, bool) {
	n, zero := uint64(elem), false
	for _, d := range dims {
		zero = zero || d == 0
		hi, lo := bits.Mul64(n, uint64(max(d, 1)))
		if hi != 0 || lo > math.MaxInt64/4 {
			return 0, false
		}
		n = lo
	}
	if zero {
		return 0, true
	}
	return int64(n), true
}

// dataset reads what an object with data says of itself.
func (f *file) dataset(o *object) (*dataset, error) {
	d := &dataset{f: f, addr: o.addr}
	if o.find(msgExternal) != nil {
		return nil, f.unsupported(nextCopy, "dataset whose data lie in other files")
	}
	space, typ := o.find(msgDataspace), o.find(msgDatatype)
	if space == nil || typ == nil {
		return nil, f.bad(o.addr, "a dataset without a dataspace or a datatype")
	}
	c, err := f.read(space, "dataspace")
	if err != nil {
		return nil, err
	}
	if d.space, err = c.dataspace(); err != nil {
		return nil, err
	}
	if c, err = f.read(typ, "datatype"); err != nil {
		return nil, err
	}
	if d.typ, err = c.datatype(0); err != nil || d.space.null {
		return d, err
	}
	var ok bool
	if d.bytes, ok = count(d.typ.size, d.space.dims); !ok {
		return nil, f.bad(space.at, "a dataset of more elements than any file has")
	}
	if err := f.fill(d, o); err != nil {
		return nil, err
	}
	if m := o.find(msgFilters); m != nil {
		if c, err = f.read(m, "filter pipeline"); err != nil {
			return nil, err
		}
		if d.filter, err = c.filters(); err != nil {
			return nil, err
		}
	}
	m := o.find(msgLayout)
	if c, err = f.read(m, "data layout"); err != nil {
		return nil, err
	}
	return d, d.readLayout(c)
}

// storable gives the dtype of a dataset, or says why there is none.
func (d *dataset) storable() (safetensors.DType, error) {
	f := d.f
	if d.typ.dtype != 0 {
		return d.typ.dtype, nil
	}
	next := nextPlain
	switch d.typ.class {
	case classString, classVariable, classReference:
		next = nextSelect
	}
	return 0, f.unsupported(next, "dataset of %s", d.typ.what)
}

// fill reads the fill value (sections IV.A.2.e and f).
func (f *file) fill(d *dataset, o *object) error {
	m := o.find(msgFill)
	old := m == nil
	if old {
		if m = o.find(msgOldFill); m == nil {
			return nil
		}
	}
	c, err := f.read(m, "fill value")
	if err != nil {
		return err
	}
	there := true
	if !old {
		there = c.fillHead()
	}
	if c.err != nil || !there {
		return c.err
	}
	n := int64(c.u32())
	if n == 0 || c.err != nil {
		return c.err
	}
	if n != d.typ.size {
		return f.bad(m.at, "a fill value of %d bytes for elements of %d", n, d.typ.size)
	}
	d.fill = c.bytes(int(n))
	return c.err
}

// fillHead says whether a fill value follows.
func (c *cursor) fillHead() bool {
	switch v := c.u8(); v {
	case 1, 2:
		c.skip(2)
		return c.u8() != 0 || v == 1
	case 3:
		return c.u8()&0x20 != 0
	default:
		if c.err == nil {
			c.err = c.f.bad(c.at, "a fill value of version %d", v)
		}
		return false
	}
}

// readLayout reads the layout, and checks it against the extent.
func (d *dataset) readLayout(c *cursor) error {
	f, l := d.f, &d.layout
	version := c.u8()
	switch {
	case c.err != nil:
	case version == 1 || version == 2:
		c.layout1(l)
	case version == 3 || version == 4:
		l.class = int(c.u8())
		c.layout3(l, version)
	default:
		return f.unsupported("write it again with an older library: h5repack IN OUT", "data layout of version %d", version)
	}
	if c.err != nil {
		return c.err
	}
	switch l.class {
	case layoutVirtual:
		return f.unsupported(nextCopy, "virtual dataset, made of other datasets or files")
	case layoutCompact, layoutContiguous:
		if len(d.filter) > 0 {
			return f.bad(c.at, "filters on a dataset without chunks")
		}
		if l.addr == undefined {
			return nil
		}
		if l.size >= 0 && l.size < d.bytes {
			return f.bad(c.at, "%d bytes of data for a dataset of %d bytes", l.size, d.bytes)
		}
		if !f.within(l.addr, d.bytes) {
			return f.bad(l.addr, "%d bytes of data reach past the end of the file", d.bytes)
		}
		return nil
	case layoutChunked:
		return d.checkChunks(c)
	}
	return f.bad(c.at, "a data layout of class %d", l.class)
}

// layout1 reads the layouts of libraries before 1.6.3.
func (c *cursor) layout1(l *layout) {
	rank := int(c.u8())
	l.class = int(c.u8())
	c.skip(5)
	l.size = -1
	if l.class != layoutCompact {
		l.addr = c.addr()
	}
	var dims []int64
	for range rank {
		dims = append(dims, int64(c.u32()))
	}
	switch l.class {
	case layoutCompact:
		l.size = int64(c.u32())
		l.addr = c.here()
		c.skip(int(l.size))
	case layoutChunked:
		l.setChunk(c, dims)
	}
}

// layout3 reads the layouts of versions 3 and 4.
func (c *cursor) layout3(l *layout, version byte) {
	switch l.class {
	case layoutCompact:
		l.size = int64(c.u16())
		l.addr = c.here()
		c.skip(int(l.size))
	case layoutContiguous:
		l.addr, l.size = c.addr(), c.size()
	case layoutChunked:
		if version == 4 {
			c.layout4(l)
			return
		}
		rank := int(c.u8())
		l.addr = c.addr()
		var dims []int64
		for range rank {
			dims = append(dims, int64(c.u32()))
		}
		l.setChunk(c, dims)
	}
}

// setChunk takes the extents of a chunk; the last is the size of an element.
func (l *layout) setChunk(c *cursor, dims []int64) {
	if c.err == nil && len(dims) < 2 {
		c.err = c.f.bad(c.at, "chunks of %d dimensions", len(dims)-1)
	}
	if c.err == nil {
		l.chunk, l.elem = dims[:len(dims)-1], dims[len(dims)-1]
	}
}

// The kinds of chunk indices.
const (
	indexTree1      = 0
	indexSingle     = 1
	indexImplicit   = 2
	indexFixed      = 3
	indexExtensible = 4
	indexTree2      = 5
)

func (c *cursor) layout4(l *layout) {
	flags, rank, width := c.u8(), int(c.u8()), int(c.u8())
	if c.err == nil && (width < 1 || width > 8) {
		c.err = c.f.bad(c.at, "extents of chunks in %d bytes", width)
	}
	var dims []int64
	for range rank {
		n := c.num(width)
		if n > math.MaxInt64/4 && c.err == nil {
			c.err = c.f.bad(c.at, "chunks of %d elements", n)
		}
		dims = append(dims, int64(n))
	}
	l.setChunk(c, dims)
	l.index.kind = int(c.u8())
	switch l.index.kind {
	case indexSingle:
		if flags&2 != 0 {
			l.index.filtered = true
			l.index.size = c.size()
			l.index.mask = c.u32()
		}
	case indexImplicit:
	case indexFixed:
		c.skip(1)
	case indexExtensible:
		c.skip(5)
	case indexTree2:
		c.skip(6)
	default:
		if c.err == nil {
			c.err = c.f.bad(c.at, "a chunk index of type %d", l.index.kind)
		}
	}
	l.addr = c.addr()
}

// checkChunks checks the extents of chunks.
func (d *dataset) checkChunks(c *cursor) error {
	l := &d.layout
	if len(l.chunk) != len(d.space.dims) || l.elem != d.typ.size {
		return d.f.bad(c.at, "chunks of %d dimensions and elements of %d bytes for %d dimensions and %d bytes", len(l.chunk), l.elem, len(d.space.dims), d.typ.size)
	}
	for _, n := range l.chunk {
		if n <= 0 {
			return d.f.bad(c.at, "chunks without elements")
		}
	}
	if n, ok := count(l.elem, l.chunk); !ok || n >= 1<<32 {
		return d.f.bad(c.at, "chunks of more than 4 GiB")
	}
	return nil
}
