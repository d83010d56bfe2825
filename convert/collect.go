package convert

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
)

// The second opinion on tensors that are not a range of the file: element by
// element, in plain steps, sharing no code with the gather that the output
// uses. Memory is one slab of output and the pages.

const (
	slabSize  = 16 << 20
	pageSize  = 4 << 10
	pageCount = 4093 // a prime, so that strides of powers of two spread
)

// pages remembers parts of a storage.
type pages struct {
	src   io.ReaderAt
	limit int64 // end of what may be read
	at    []int64
	data  []byte

	last int64 // the page in open
	open []byte
}

// of empties the pages for another storage, and makes more of them where it
// has more.
func (p *pages) of(src io.ReaderAt, base, limit int64) {
	p.src, p.limit, p.last = src, limit, -1
	if n := min(pageCount, (limit-base)/pageSize+2); int64(len(p.at)) < n {
		p.at, p.data = make([]int64, n), make([]byte, n*pageSize)
	}
	for i := range p.at {
		p.at[i] = -1
	}
}

// read gives the bytes at off, at most 8.
func (p *pages) read(b []byte, off int64) error {
	for len(b) > 0 {
		page := off / pageSize
		if page != p.last {
			if err := p.turn(page); err != nil {
				return err
			}
		}
		n := copy(b, p.open[off-page*pageSize:])
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// turn opens a page, reading it when it is not there.
func (p *pages) turn(page int64) error {
	slot := page % int64(len(p.at))
	data := p.data[slot*pageSize:][:pageSize]
	if p.at[slot] != page {
		start := page * pageSize
		p.at[slot], p.last = -1, -1
		if err := readFull(p.src, data[:min(pageSize, p.limit-start)], start); err != nil {
			return err
		}
		p.at[slot] = page
	}
	p.last, p.open = page, data
	return nil
}

// collect fingerprints tensor i by collecting its elements.
func (w *Witness) collect(ctx context.Context, i int, p *pages) error {
	t := &w.plan.tensors[i]
	c := &collector{ctx: ctx, origin: &t.origin, pages: p, hash: w.newHash()}
	if t.origin.length > 0 {
		data, err := w.data(&t.origin)
		if err != nil {
			return err
		}
		p.of(data, t.origin.base, t.origin.end())
		if err := c.split(t.origin.size, t.origin.stride, t.origin.base); err != nil {
			return fmt.Errorf("collecting tensor %q of %s: %w", t.name, w.plan.Source.Path, err)
		}
	}
	w.prints[i] = c.hash.Sum64()
	return nil
}

// data gives a storage's bytes. A compressed one is opened again: its reader is
// fast in one direction only, and the output may be reading it at the same
// time.
func (w *Witness) data(o *origin) (io.ReaderAt, error) {
	if o.key == "" || w.plan.reopen == nil {
		return o.data, nil
	}
	if w.storages == nil {
		var err error
		if w.storages, err = w.plan.reopen(); err != nil {
			return nil, err
		}
	}
	data := w.storages[o.key]
	if data == nil {
		return nil, fmt.Errorf("%s: storage %s is no longer there", w.plan.Source.Path, o.key)
	}
	return data, nil
}

type collector struct {
	ctx    context.Context
	origin *origin
	pages  *pages
	hash   *maphash.Hash
	slab   []byte
}

// split hands on slabs: as many indices of the outermost dimension as fit.
func (c *collector) split(size, stride []int64, base int64) error {
	if len(size) == 0 {
		return c.collect(nil, nil, base)
	}
	row := c.origin.form.size
	for _, n := range size[1:] {
		row *= n
	}
	for i := int64(0); i < size[0]; {
		at := base + i*stride[0]*c.origin.form.size
		if row > slabSize {
			if err := c.split(size[1:], stride[1:], at); err != nil {
				return err
			}
			i++
			continue
		}
		n := min(size[0]-i, max(1, slabSize/row))
		part := slices.Clone(size)
		part[0] = n
		if err := c.collect(part, stride, at); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// collect walks a slab in the order of the source, puts every element where it
// belongs, and hashes the slab.
func (c *collector) collect(size, stride []int64, base int64) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	elem := c.origin.form.size
	total := elem
	place := make([]int64, len(size)) // bytes in the slab between neighbours
	for d := len(size) - 1; d >= 0; d-- {
		place[d] = total
		total *= size[d]
	}
	if int64(cap(c.slab)) < total {
		c.slab = make([]byte, total)
	}
	c.slab = c.slab[:total]
	order := make([]int, len(size))
	for d := range order {
		order[d] = d
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(1, max(-1, stride[b]-stride[a]))) })
	index := make([]int64, len(size))
	changes := c.origin.form.changes()
	for from, to := base, int64(0); ; {
		one := c.slab[to : to+elem]
		if err := c.pages.read(one, from); err != nil {
			return err
		}
		if changes {
			c.change(one)
		}
		// The next index, the smallest stride fastest.
		k := len(order) - 1
		for ; k >= 0; k-- {
			d := order[k]
			if index[d]++; index[d] < size[d] {
				from, to = from+stride[d]*elem, to+place[d]
				break
			}
			index[d] = 0
			from, to = from-(size[d]-1)*stride[d]*elem, to-(size[d]-1)*place[d]
		}
		if k < 0 {
			break
		}
	}
	c.hash.Write(c.slab)
	return nil
}

// change does to one element what its form says, byte by byte.
func (c *collector) change(b []byte) {
	f := c.origin.form
	if f.swap > 1 {
		for at := int64(0); at < f.size; at += f.swap {
			slices.Reverse(b[at : at+f.swap])
		}
	}
	for i := range f.size {
		b[i] ^= byte(f.flip >> (8 * i))
	}
	if f.neg == 0 {
		return
	}
	carry := 1 // two's complement: invert and add one
	for i := range f.neg {
		v := int(^b[i]) + carry
		b[i], carry = byte(v), v>>8
	}
}
