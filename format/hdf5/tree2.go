package hdf5

import "math/bits"

// tree2 is a version 2 B-tree (section III.A.2).
type tree2 struct {
	f          *file
	kind       byte
	nodeSize   int
	recordSize int
	countSize  int      // bytes of the number of records in a node
	totals     []int    // bytes of the number of records below a node, by depth
	most       []uint64 // records of a node, by depth
	record     func(r *cursor) error
}

const tree2Overhead = 10 // signature, version, type, checksum

// tree2 shows the records of a tree of a kind, in order.
func (f *file) tree2(addr int64, kind byte, record func(r *cursor) error) error {
	t, root, depth, n, err := f.tree2Header(addr, kind)
	if err != nil {
		return err
	}
	t.record = record
	if root == undefined || n == 0 {
		return nil
	}
	return t.node(root, depth, n)
}

func (f *file) tree2Header(addr int64, kind byte) (t *tree2, root int64, depth, n int, err error) {
	c, err := f.signed(addr, int64(16+f.width+2+f.length+4), "BTHD", 0, "a B-tree")
	if err != nil {
		return nil, 0, 0, 0, err
	}
	typ, nodeSize, recordSize, depth := c.u8(), c.u32(), c.u16(), c.u16()
	c.skip(2)
	root, n = c.addr(), c.u16()
	c.skip(f.length)
	if err := c.sum(); err != nil {
		return nil, 0, 0, 0, err
	}
	switch {
	case typ != kind:
		return nil, 0, 0, 0, f.bad(addr, "a B-tree of type %d where type %d must be", typ, kind)
	case recordSize == 0 || nodeSize > 1<<24 || int(nodeSize) < tree2Overhead+recordSize || depth > 32:
		return nil, 0, 0, 0, f.bad(addr, "a B-tree of depth %d with nodes of %d and records of %d bytes", depth, nodeSize, recordSize)
	}
	t = &tree2{f: f, kind: kind, nodeSize: int(nodeSize), recordSize: recordSize}
	return t, root, depth, n, t.layOut(addr, depth)
}

// sizeOf is how many bytes a number up to n takes.
func sizeOf(n uint64) int { return (bits.Len64(max(n, 1))-1)/8 + 1 }

// layOut computes how nodes of each depth are divided.
func (t *tree2) layOut(addr int64, depth int) error {
	leaf := uint64((t.nodeSize - tree2Overhead) / t.recordSize)
	t.most, t.totals = []uint64{leaf}, []int{0}
	t.countSize = sizeOf(leaf)
	below := leaf // records of a subtree
	for d := 1; d <= depth; d++ {
		pointer := t.f.width + t.countSize + t.totals[d-1]
		room := t.nodeSize - tree2Overhead - pointer
		if room <= 0 {
			return t.f.bad(addr, "a B-tree whose nodes of %d bytes hold nothing", t.nodeSize)
		}
		n := uint64(room / (t.recordSize + pointer))
		hi, under := bits.Mul64(n+1, below)
		if hi != 0 || under > 1<<62 {
			return t.f.bad(addr, "a B-tree of depth %d", depth)
		}
		below = under + n
		t.most, t.totals = append(t.most, n), append(t.totals, sizeOf(below))
	}
	return nil
}

// node shows the n records of a node, and of those below it.
func (t *tree2) node(addr int64, depth, n int) error {
	f := t.f
	if uint64(n) > t.most[depth] {
		return f.bad(addr, "a B-tree node of %d records, where %d have room", n, t.most[depth])
	}
	sig, size := "BTLF", tree2Overhead+n*t.recordSize
	pointer := 0
	if depth > 0 {
		sig, pointer = "BTIN", f.width+t.countSize+t.totals[depth-1]
		size += (n + 1) * pointer
	}
	c, err := f.signed(addr, int64(size), sig, 0, "a B-tree node")
	if err != nil {
		return err
	}
	if typ := c.u8(); typ != t.kind {
		return f.bad(addr, "a B-tree node of type %d where type %d must be", typ, t.kind)
	}
	at := c.here()
	records := c.bytes(n * t.recordSize)
	children := &cursor{f: f, at: c.here(), b: c.bytes((n + 1) * pointer), what: c.what}
	if err := c.sum(); err != nil {
		return err
	}
	for i := range n + 1 {
		if depth > 0 {
			child, count := children.addr(), int(children.num(t.countSize))
			children.skip(t.totals[depth-1])
			if children.err != nil {
				return children.err
			}
			if err := t.node(child, depth-1, count); err != nil {
				return err
			}
		}
		if i == n {
			break
		}
		r := &cursor{f: f, b: records[i*t.recordSize:][:t.recordSize], at: at + int64(i*t.recordSize), what: "a B-tree record"}
		if err := t.record(r); err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}
