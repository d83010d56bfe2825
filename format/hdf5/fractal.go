package hdf5

import "math/bits"

// fractal is a fractal heap (section III.G): a table of blocks whose sizes
// double from row to row.
type fractal struct {
	f          *file
	addr       int64
	idSize     int
	offsetSize int // bytes of an offset in the heap
	lengthSize int // bytes of an object's length in an ID
	summed     bool
	width      int64 // blocks of a row
	start      int64 // size of the blocks of the first two rows
	mostDirect int64 // size of the largest block that holds objects
	maxBits    int   // of offsets in the heap
	root       int64
	rows       int // of the root, if it is an indirect block; 0 if not
	blocks     map[int64]*cursor
}

func (f *file) fractalHeap(addr int64) (*fractal, error) {
	c, err := f.signed(addr, int64(26+12*f.length+3*f.width), "FRHP", 0, "a fractal heap")
	if err != nil {
		return nil, err
	}
	h := &fractal{f: f, addr: addr, blocks: map[int64]*cursor{}}
	h.idSize = c.u16()
	filters := c.u16()
	h.summed = c.u8()&2 != 0
	managed := c.u32()
	c.skip(2*f.length + 2*f.width + 8*f.length) // huge objects, free space, statistics
	h.width = int64(c.u16())
	h.start, h.mostDirect = c.size(), c.size()
	h.maxBits = c.u16()
	c.skip(2)
	h.root, h.rows = c.addr(), c.u16()
	if c.err == nil && filters > 0 {
		return nil, f.unsupported(nextRepack, "group whose links are compressed")
	}
	if err := c.sum(); err != nil {
		return nil, err
	}
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	if !power(h.width) || !power(h.start) || !power(h.mostDirect) || h.mostDirect < h.start || h.mostDirect > 1<<32 || h.maxBits > 62 || h.maxBits == 0 {
		return nil, f.bad(addr, "a fractal heap with %d blocks of %d to %d bytes in a row", h.width, h.start, h.mostDirect)
	}
	h.offsetSize = (h.maxBits + 7) / 8
	h.lengthSize = min((log2(h.mostDirect)+7)/8, sizeOf(uint64(managed)))
	return h, nil
}

func log2(n int64) int { return bits.Len64(uint64(n)) - 1 }

// rowSize is the size of the blocks of a row.
func (h *fractal) rowSize(row int) int64 {
	if row == 0 {
		return h.start
	}
	if row-1+log2(h.start) > 61 {
		return 1 << 62
	}
	return h.start << (row - 1)
}

// directRows is how many rows hold objects themselves.
func (h *fractal) directRows() int { return log2(h.mostDirect) - log2(h.start) + 2 }

// get reads the object that an ID names; at is where the ID is.
func (h *fractal) get(id []byte, at int64) (*cursor, error) {
	if len(id) < 1 || len(id) < h.idSize {
		return nil, h.f.bad(at, "an object of a fractal heap with an ID of %d bytes", len(id))
	}
	c := &cursor{f: h.f, b: id, at: at, what: "an ID of a fractal heap"}
	head := c.u8()
	switch head >> 4 & 3 {
	case 0:
		offset, n := c.num(h.offsetSize), c.num(h.lengthSize)
		if c.err != nil {
			return nil, c.err
		}
		return h.managed(offset, n, at)
	case 2:
		b := c.bytes(int(head&15) + 1)
		return &cursor{f: h.f, b: b, at: at + 1, what: "an object of a fractal heap"}, c.err
	}
	return nil, h.f.unsupported(nextRepack, "object that lies outside its fractal heap")
}

// managed gives n bytes at an offset of the heap.
func (h *fractal) managed(offset, n uint64, at int64) (*cursor, error) {
	if offset >= 1<<h.maxBits {
		return nil, h.f.bad(at, "an object at %d of a fractal heap of 2^%d bytes", offset, h.maxBits)
	}
	addr, start, size := h.root, int64(0), h.start
	for rows := h.rows; rows > 0; {
		row, col := h.place(int64(offset) - start)
		if row >= rows {
			return nil, h.f.bad(at, "an object at %d, past the end of its fractal heap", offset)
		}
		var err error
		if addr, err = h.entry(addr, start, rows, row, col); err != nil {
			return nil, err
		}
		size = h.rowSize(row)
		start += h.rowStart(row) + int64(col)*size
		rows = 0
		if row >= h.directRows() {
			rows = log2(size) - log2(h.start) - log2(h.width) + 1
		}
	}
	b, err := h.direct(addr, start, size)
	if err != nil {
		return nil, err
	}
	from := int64(offset) - start
	if from < 0 || from > size || n > uint64(size-from) {
		return nil, h.f.bad(at, "an object of %d bytes at %d of a block of %d", n, from, size)
	}
	return &cursor{f: h.f, b: b.b[from:][:n], at: addr + from, what: "an object of a fractal heap"}, nil
}

func (h *fractal) rowStart(row int) int64 {
	if row == 0 {
		return 0
	}
	return h.width * h.rowSize(row)
}

// place finds the row and column of an offset in an indirect block.
func (h *fractal) place(offset int64) (row, col int) {
	first := h.width * h.start
	if offset >= first {
		row = log2(offset/first) + 1
	}
	return row, int((offset - h.rowStart(row)) / h.rowSize(row))
}

// entry gives a child of an indirect block.
func (h *fractal) entry(addr, start int64, rows, row, col int) (int64, error) {
	f := h.f
	c := h.blocks[addr]
	if c == nil {
		var err error
		c, err = f.signed(addr, int64(5+f.width+h.offsetSize)+int64(rows)*h.width*int64(f.width)+4, "FHIB", 0, "an indirect block")
		if err != nil {
			return 0, err
		}
		if err := h.checkOwner(c, start); err != nil {
			return 0, err
		}
		body := c.p
		c.skip(c.left() - 4)
		if err := c.sum(); err != nil {
			return 0, err
		}
		c.p = body
		h.blocks[addr] = c
	}
	e := *c
	e.skip((row*int(h.width) + col) * f.width)
	child := e.addr()
	if e.err == nil && child == undefined {
		return 0, f.bad(addr, "an object in a block that is not there")
	}
	return child, e.err
}

// checkOwner checks that a block belongs to the heap, at its place.
func (h *fractal) checkOwner(c *cursor, start int64) error {
	at := c.here()
	if owner, place := c.addr(), c.num(h.offsetSize); c.err == nil && (owner != h.addr || place != uint64(start)) {
		return h.f.bad(at, "a block of another fractal heap, or of another place in it")
	}
	return c.err
}

// direct reads a block of objects.
func (h *fractal) direct(addr, start, size int64) (*cursor, error) {
	f := h.f
	if c := h.blocks[addr]; c != nil {
		if int64(len(c.b)) != size {
			return nil, f.bad(addr, "a block that is there twice")
		}
		return c, nil
	}
	c, err := f.signed(addr, size, "FHDB", 0, "a direct block")
	if err != nil {
		return nil, err
	}
	if err := h.checkOwner(c, start); err != nil {
		return nil, err
	}
	if h.summed {
		field := c.bytes(4)
		if c.err != nil {
			return nil, c.err
		}
		want := (&cursor{f: f, b: field}).u32()
		clear(field)
		if got := lookup3(c.b); got != want {
			return nil, f.bad(addr, "checksum of a direct block is %08x, but its bytes have %08x", want, got)
		}
	}
	h.blocks[addr] = c
	return c, nil
}
