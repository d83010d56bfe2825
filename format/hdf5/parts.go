package hdf5

import (
	"errors"
	"io"
)

// Parts reads single structures of a file, for a program that walks the objects
// itself. It is not safe for concurrent use.
type Parts struct{ f *file }

// OpenParts reads the superblock. Errors are those of Open.
func OpenParts(r io.ReaderAt, size int64, lim Limits) (*Parts, error) {
	f := &file{r: r, size: size, lim: lim.withDefaults(size), slab: new(slab)}
	if _, err := f.superblock(); err != nil {
		return nil, err
	}
	return &Parts{f}, nil
}

// ErrNotDense says that there is nothing in a heap.
var ErrNotDense = errors.New("hdf5: no dense storage")

// DenseLinks shows the link messages that a group keeps in a fractal heap. info
// is the data of its link info message (section IV.A.2.c). The error is
// ErrNotDense, one of Open's, or what message gave.
func (p *Parts) DenseLinks(info []byte, message func([]byte) error) error {
	const order, hash, kind = 8, 4, 5
	return p.dense(info, order, kind, func(h *fractal, r *cursor) error {
		r.skip(hash)
		return show(h, r, message)
	})
}

// DenseAttributes shows the attribute messages that an object keeps in a fractal
// heap. info is the data of its attribute info message (section IV.A.2.v).
// Errors are as in DenseLinks; attributes that are shared or too large for the
// heap's own blocks are a *format.UnsupportedError.
func (p *Parts) DenseAttributes(info []byte, message func([]byte) error) error {
	const order, kind = 2, 8
	return p.dense(info, order, kind, func(h *fractal, r *cursor) error {
		id := *r
		r.skip(h.idSize)
		if flags := r.u8(); flags&flagShared != 0 {
			return p.f.unsupported(nextRepack, "attribute that is shared between objects")
		}
		if r.err != nil {
			return r.err
		}
		return show(h, &id, message)
	})
}

func show(h *fractal, r *cursor, message func([]byte) error) error {
	m, err := h.get(r.bytes(h.idSize), r.at)
	if err != nil {
		return err
	}
	return message(m.b)
}

// dense walks the index of a heap; order is how many bytes the order of creation
// takes in the message.
func (p *Parts) dense(info []byte, order int, kind byte, record func(h *fractal, r *cursor) error) error {
	c := &cursor{f: p.f, b: info, at: undefined, what: "an info message"}
	c.skip(1)
	if flags := c.u8(); flags&1 != 0 {
		c.skip(order)
	}
	heap, names := c.addr(), c.addr()
	if c.err != nil {
		return c.err
	}
	if heap == undefined || names == undefined {
		return ErrNotDense
	}
	h, err := p.f.fractalHeap(heap)
	if err != nil {
		return err
	}
	return p.f.tree2(names, kind, func(r *cursor) error { return record(h, r) })
}

// Data gives the decoded bytes of the dataset whose object header is at an
// address. Errors are those of Open.
func (p *Parts) Data(addr int64) (r io.ReaderAt, size int64, err error) {
	f := p.f
	o, err := f.object(addr)
	if err != nil {
		return nil, 0, err
	}
	d, err := f.dataset(o)
	if err != nil || d.bytes == 0 {
		return nil, 0, err
	}
	if d.layout.class != layoutChunked && d.layout.addr != undefined {
		return io.NewSectionReader(f.r, f.base+d.layout.addr, d.bytes), d.bytes, nil
	}
	c, err := d.data()
	if err != nil {
		return nil, 0, err
	}
	return c, d.bytes, nil
}
