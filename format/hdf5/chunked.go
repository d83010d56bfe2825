package hdf5

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/weightseal/weightseal/format"
)

// slab is the memory for decoded chunks: the chunks of one dataset that lie
// side by side along all dimensions but the first. Their bytes are a range of
// the dataset's, so that a reading in order decodes each chunk once.
type slab struct {
	mu    sync.Mutex
	owner *chunked // nil: nothing held
	index int64
	buf   []byte
}

// chunked gives the bytes of a dataset in chunks, row-major.
type chunked struct {
	r      io.ReaderAt
	origin int64 // of addresses, in r
	where  string
	slab   *slab

	dims, chunk []int64
	elem        int64
	plain       int64 // bytes of a chunk
	size        int64 // of the dataset
	step        int64 // bytes of a slab
	beside      int64 // chunks of a slab
	fill        []byte
	filters     []filter
	chunks      []chunk
}

// data makes the reader of a dataset that is not a range of the file.
func (d *dataset) data() (*chunked, error) {
	f := d.f
	c := &chunked{r: f.r, origin: f.base, where: f.where, slab: f.slab, elem: d.typ.size, size: d.bytes, fill: d.fill, filters: d.filter}
	if d.layout.class != layoutChunked {
		n := d.bytes / d.typ.size // never written: fill values
		c.dims, c.chunk = []int64{n}, []int64{min(max(n, 1), 1<<20/min(d.typ.size, 1<<20))}
		c.beside = 1
	} else {
		l, err := d.chunkList()
		if err != nil {
			return nil, err
		}
		c.dims, c.chunk, c.chunks, c.beside = d.space.dims, d.layout.chunk, l.all, 1
		for _, n := range l.grid[1:] {
			c.beside *= n
		}
	}
	c.plain, _ = count(c.elem, c.chunk)
	row, _ := count(c.elem, c.dims[1:])
	var ok bool
	if c.step, ok = count(max(row, 1), c.chunk[:1]); !ok || min(c.step, c.size) > f.lim.Slab || c.plain > f.lim.Slab {
		return nil, f.unsupported("pack it again without chunks: h5repack -l CONTI IN OUT",
			"dataset whose chunks side by side have more than %d bytes", f.lim.Slab)
	}
	return c, nil
}

// ReadAt reads decoded bytes. It may be called concurrently.
func (c *chunked) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("hdf5: negative offset")
	}
	c.slab.mu.Lock()
	defer c.slab.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= c.size {
			return n, io.EOF
		}
		if err := c.load(at / c.step); err != nil {
			return n, err
		}
		n += copy(p[n:], c.slab.buf[at%c.step:])
	}
	return n, nil
}

// load makes the slab hold a slab of this dataset.
func (c *chunked) load(index int64) error {
	s := c.slab
	if s.owner == c && s.index == index {
		return nil
	}
	size := min(c.step, c.size-index*c.step)
	if int64(cap(s.buf)) < size {
		s.buf = make([]byte, size)
	}
	s.owner, s.buf = nil, s.buf[:size]
	first := sort.Search(len(c.chunks), func(i int) bool { return c.chunks[i].number >= index*c.beside })
	end := first + sort.Search(len(c.chunks)-first, func(i int) bool { return c.chunks[first+i].number >= (index+1)*c.beside })
	if int64(end-first) < c.beside {
		c.blank(s.buf)
	}
	for i := first; i < end; i++ {
		b, err := c.decode(&c.chunks[i])
		if err != nil {
			return err
		}
		c.place(s.buf, b, c.chunks[i].number)
	}
	s.owner, s.index = c, index
	return nil
}

// blank fills with the fill value.
func (c *chunked) blank(b []byte) {
	clear(b)
	if len(c.fill) == 0 {
		return
	}
	n := copy(b, c.fill)
	for n < len(b) {
		n += copy(b[n:], b[:n])
	}
}

// decode reads a chunk.
func (c *chunked) decode(k *chunk) ([]byte, error) {
	b := make([]byte, k.size)
	if n, err := c.r.ReadAt(b, c.origin+k.addr); n < len(b) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("hdf5: %s: reading a chunk at %d: %w", c.where, c.origin+k.addr, err)
	}
	b, err := undo(c.filters, k.mask, b, c.plain+int64(4*len(c.filters)))
	if err == nil && int64(len(b)) != c.plain {
		err = fmt.Errorf("%d bytes for a chunk of %d", len(b), c.plain)
	}
	if err != nil {
		return nil, &format.Error{Format: name, Where: c.where, Offset: c.origin + k.addr, Detail: err.Error()}
	}
	return b, nil
}

// place copies what of a chunk lies in the dataset to its place in the slab.
func (c *chunked) place(slab, b []byte, number int64) {
	rank := len(c.dims)
	// The trailing dimensions that a chunk covers make one run of bytes with
	// the one before them.
	last := rank - 1
	for last > 0 && c.chunk[last] == c.dims[last] {
		last--
	}
	under := c.elem
	for _, n := range c.dims[last+1:] {
		under *= n
	}
	size := make([]int64, last+1) // of what lies in the dataset
	to := make([]int64, last+1)   // bytes from one to the next, in the slab
	from := make([]int64, last+1) // and in the chunk
	start, t, s := int64(0), under, under
	for i := rank - 1; i >= 0; i-- {
		grid := ceil(c.dims[i], c.chunk[i])
		at := number % grid * c.chunk[i]
		number /= grid
		if i > last {
			continue
		}
		size[i] = min(c.chunk[i], c.dims[i]-at)
		to[i], from[i] = t, s
		if i > 0 { // the slab begins with the chunk in the first dimension
			start += at * t
		}
		t *= c.dims[i]
		s *= c.chunk[i]
	}
	copyRuns(slab[start:], b, size, to, from)
}

// copyRuns copies along the first dimension, and so on inwards.
func copyRuns(dst, src []byte, size, to, from []int64) {
	if len(size) == 1 {
		n := size[0] * to[0] // equal steps in the last dimension
		copy(dst[:n], src[:n])
		return
	}
	for i := range size[0] {
		copyRuns(dst[i*to[0]:], src[i*from[0]:], size[1:], to[1:], from[1:])
	}
}
