package hdf5

import "slices"

// fixedArray takes the chunks of a fixed array (FAHD and FADB of
// appendix C).
func (l *chunkList) fixedArray(addr int64) error {
	f := l.d.f
	c, err := f.signed(addr, int64(8+f.length+f.width+4), "FAHD", 0, "a fixed array")
	if err != nil {
		return err
	}
	client, size, pageBits := c.u8(), int(c.u8()), int(c.u8())
	n, block := c.size(), c.addr()
	if err := c.sum(); err != nil {
		return err
	}
	filtered, err := l.checkElement(addr, client, size)
	if err != nil {
		return err
	}
	want, err := l.indices()
	if err != nil {
		return err
	}
	if n != want || pageBits > 32 {
		return f.bad(addr, "a fixed array of %d chunks in pages of 2^%d for a dataset of %d", n, pageBits, want)
	}
	if block == undefined {
		return nil
	}
	head, perPage := int64(6+f.width), int64(1)<<pageBits
	body, paged := n*int64(size), n > perPage
	if paged {
		body = (ceil(n, perPage) + 7) / 8
	}
	if c, err = f.signed(block, head+body+4, "FADB", 0, "a fixed array's block"); err != nil {
		return err
	}
	if err := l.owned(c, client, addr); err != nil {
		return err
	}
	if !paged {
		if err := l.elements(c, 0, n, size, filtered); err != nil {
			return err
		}
		return c.sum()
	}
	written := bitmap{bits: c.bytes(int(body))}
	if err := c.sum(); err != nil {
		return err
	}
	return l.pages(block+head+body+4, 0, n, perPage, written, size, filtered)
}

// owned checks that a block belongs to an array.
func (l *chunkList) owned(c *cursor, client byte, addr int64) error {
	at := c.here()
	if k, owner := c.u8(), c.addr(); c.err == nil && (k != client || owner != addr) {
		return l.d.f.bad(at, "a block of another array of chunks")
	}
	return c.err
}

// extensible is an extensible array (EAHD): elements in the index block, then
// in data blocks that grow, those of the later ones in secondary blocks.
type extensible struct {
	l          *chunkList
	addr       int64
	client     byte
	size       int
	filtered   bool
	inIndex    int64 // elements of the index block
	least      int64 // elements of the smallest data block
	pointers   int64 // least data blocks of a secondary block
	perPage    int64
	offsetSize int
	secondary  int   // levels of secondary blocks
	limit      int64 // elements that matter
}

func (l *chunkList) extensibleArray(addr int64) error {
	f := l.d.f
	c, err := f.signed(addr, int64(12+6*f.length+f.width+4), "EAHD", 0, "an extensible array")
	if err != nil {
		return err
	}
	x := &extensible{l: l, addr: addr, client: c.u8(), size: int(c.u8())}
	maxBits := int(c.u8())
	x.inIndex, x.least, x.pointers = int64(c.u8()), int64(c.u8()), int64(c.u8())
	pageBits := int(c.u8())
	c.skip(6 * f.length)
	index := c.addr()
	if err := c.sum(); err != nil {
		return err
	}
	if x.filtered, err = l.checkElement(addr, x.client, x.size); err != nil {
		return err
	}
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	if maxBits > 62 || pageBits > 32 || !power(x.least) || !power(x.pointers) || log2(x.least) > maxBits {
		return f.bad(addr, "an extensible array of 2^%d chunks, %d in the smallest block, %d blocks", maxBits, x.least, x.pointers)
	}
	x.offsetSize, x.perPage = (maxBits+7)/8, int64(1)<<pageBits
	x.secondary = 1 + maxBits - log2(x.least)
	if x.limit, err = l.indices(); err != nil || index == undefined {
		return err
	}
	return x.index(index)
}

// level gives how many data blocks of how many elements a level has.
func (x *extensible) level(k int) (blocks, elements int64) {
	return int64(1) << (k / 2), x.least << ((k + 1) / 2)
}

func (x *extensible) index(addr int64) error {
	f := x.l.d.f
	direct := min(2*log2(x.pointers), x.secondary) // levels whose data blocks are named here
	blocks := 2 * (x.pointers - 1)
	rest := int64(x.secondary - direct)
	body := x.inIndex*int64(x.size) + (blocks+rest)*int64(f.width)
	c, err := f.signed(addr, int64(6+f.width)+body+4, "EAIB", 0, "an extensible array's index")
	if err != nil {
		return err
	}
	if err := x.l.owned(c, x.client, x.addr); err != nil {
		return err
	}
	if err := x.l.elements(c, 0, x.inIndex, x.size, x.filtered); err != nil {
		return err
	}
	at, number := x.inIndex, int64(0)
	for k := range direct {
		n, elements := x.level(k)
		// The library computes these blocks' offsets from the number among all
		// blocks, not among those of the level (H5EA.c).
		level := at - x.inIndex
		for range n {
			if err := x.block(c.addr(), at, []int64{at - x.inIndex, level + number*elements}, elements, bitmap{}); err != nil {
				return err
			}
			at += elements
			number++
		}
	}
	for k := direct; k < x.secondary && at < x.limit; k++ {
		n, elements := x.level(k)
		if err := x.second(c.addr(), at, n, elements); err != nil {
			return err
		}
		at += n * elements
	}
	c.p = len(c.b) - 4
	return c.sum()
}

// second reads a secondary block of n data blocks.
func (x *extensible) second(addr, first, n, elements int64) error {
	if addr == undefined {
		return nil
	}
	f := x.l.d.f
	var bytes int64 // of the bits of a block's pages
	if elements > x.perPage {
		bytes = (elements/x.perPage + 7) / 8
	}
	if n > f.size || bytes > f.size {
		return f.bad(addr, "a secondary block of %d data blocks", n)
	}
	c, err := f.signed(addr, int64(6+f.width+x.offsetSize)+n*(bytes+int64(f.width))+4, "EASB", 0, "a secondary block")
	if err != nil {
		return err
	}
	if err := x.owned(c, []int64{first - x.inIndex}); err != nil {
		return err
	}
	maps := c.bytes(int(n * bytes))
	for i := range n {
		var written bitmap
		if bytes > 0 { // the bits of a block follow those of the one before
			written = bitmap{maps, i * (elements / x.perPage)}
		}
		if err := x.block(c.addr(), first+i*elements, []int64{first + i*elements - x.inIndex}, elements, written); err != nil {
			return err
		}
	}
	return c.sum()
}

func (x *extensible) owned(c *cursor, offsets []int64) error {
	if err := x.l.owned(c, x.client, x.addr); err != nil {
		return err
	}
	at := c.here()
	if got := c.num(x.offsetSize); c.err == nil && !slices.Contains(offsets, int64(got)) {
		return x.l.d.f.bad(at, "a block of another place in its array")
	}
	return c.err
}

// block reads a data block of n elements from index first on.
func (x *extensible) block(addr, first int64, offsets []int64, n int64, written bitmap) error {
	if addr == undefined || first >= x.limit {
		return nil
	}
	f := x.l.d.f
	head := int64(6 + f.width + x.offsetSize)
	body := n * int64(x.size)
	if written.bits != nil {
		body = 0
	}
	c, err := f.signed(addr, head+body+4, "EADB", 0, "a data block of chunks")
	if err != nil {
		return err
	}
	if err := x.owned(c, offsets); err != nil {
		return err
	}
	if written.bits != nil {
		if err := c.sum(); err != nil {
			return err
		}
		return x.l.pages(addr+head+4, first, n, x.perPage, written, x.size, x.filtered)
	}
	if err := x.l.elements(c, first, n, x.size, x.filtered); err != nil {
		return err
	}
	return c.sum()
}
