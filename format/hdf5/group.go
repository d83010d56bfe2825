package hdf5

import (
	"bytes"
	"unicode/utf8"
)

type linkKind byte

const (
	hardLink linkKind = iota
	softLink
	farLink // to another file, or of a user's own kind
)

// link is an entry of a group.
type link struct {
	name   string
	kind   linkKind
	addr   int64  // of a hard link's object header
	target string // path of a soft link
}

// group gives the links of an object that is a group.
func (f *file) group(o *object) ([]link, error) {
	var all []link
	if m := o.find(msgSymbols); m != nil {
		c, err := f.read(m, "a symbol table message")
		if err != nil {
			return nil, err
		}
		tree, heap := c.addr(), c.addr()
		if c.err != nil {
			return nil, c.err
		}
		if all, err = f.oldGroup(tree, heap); err != nil {
			return nil, err
		}
	}
	for i := range o.messages {
		m := &o.messages[i]
		if m.kind != msgLink {
			continue
		}
		c, err := f.read(m, "a link message")
		if err != nil {
			return nil, err
		}
		l, err := c.link()
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	dense, err := f.denseLinks(o)
	if err != nil {
		return nil, err
	}
	all = append(all, dense...)
	return all, f.checkLinks(o, all)
}

func (o *object) isGroup() bool {
	return o.find(msgSymbols) != nil || o.find(msgLinkInfo) != nil || o.find(msgLink) != nil
}

// checkLinks demands names that are there once, and can be part of a path.
func (f *file) checkLinks(o *object, all []link) error {
	if err := f.spend(o.addr, int64(len(all))*64); err != nil {
		return err
	}
	seen := make(map[string]struct{}, len(all))
	for i := range all {
		n := all[i].name
		if _, twice := seen[n]; twice {
			return f.bad(o.addr, "a group with two links called %q", n)
		}
		if n == "" || n == "." || !utf8.ValidString(n) || bytes.ContainsAny([]byte(n), "/\x00") {
			return f.bad(o.addr, "a link called %q", n)
		}
		seen[n] = struct{}{}
	}
	return nil
}

// link reads a link message (section IV.A.2.g).
func (c *cursor) link() (link, error) {
	if v := c.u8(); c.err == nil && v != 1 {
		return link{}, c.f.bad(c.at, "a link of version %d", v)
	}
	flags, kind := c.u8(), byte(0)
	if flags&8 != 0 {
		kind = c.u8()
	}
	if flags&4 != 0 {
		c.skip(8) // order of creation
	}
	if flags&16 != 0 {
		c.skip(1) // character set
	}
	n := c.num(1 << (flags & 3))
	if n > uint64(len(c.b)) {
		return link{}, c.f.bad(c.at, "a link with a name of %d bytes", n)
	}
	l := link{name: string(c.bytes(int(n)))}
	switch kind {
	case 0:
		l.addr = c.addr()
	case 1:
		l.kind, l.target = softLink, string(c.bytes(c.u16()))
	default:
		l.kind = farLink
	}
	return l, c.err
}

// oldGroup walks a group of the old kind: a B-tree of symbol tables, whose
// names lie in a heap (sections III.A.1, III.B, III.C).
func (f *file) oldGroup(tree, heap int64) ([]link, error) {
	names, err := f.localHeap(heap)
	if err != nil {
		return nil, err
	}
	var all []link
	err = f.tree1(tree, 0, f.length, undefined, func(key *cursor, child int64) error {
		entries, err := f.symbols(child, names)
		all = append(all, entries...)
		return err
	})
	return all, err
}

// tree1 walks a version 1 B-tree whose keys have keySize bytes, and shows the
// children of the leaves. level is the one that the node must have; any where
// it is negative. Levels fall on the way down, so that no tree has a loop.
func (f *file) tree1(addr int64, kind byte, keySize int, level int, leaf func(key *cursor, child int64) error) error {
	c, err := f.block(addr, int64(8+2*f.width), "a B-tree node")
	if err != nil {
		return err
	}
	sig, typ, lvl, n := c.bytes(4), c.u8(), int(c.u8()), c.u16()
	switch {
	case string(sig) != "TREE":
		return f.bad(addr, "no B-tree node")
	case typ != kind:
		return f.bad(addr, "a B-tree node of type %d where type %d must be", typ, kind)
	case level >= 0 && lvl != level:
		return f.bad(addr, "a B-tree node of level %d where level %d must be", lvl, level)
	}
	// The last key, behind the last child, bounds it and means nothing else.
	if c, err = f.block(addr+int64(8+2*f.width), int64(n)*int64(keySize+f.width), "a B-tree node"); err != nil {
		return err
	}
	for range n {
		key := &cursor{f: f, b: c.bytes(keySize), at: c.here() - int64(keySize), what: "a B-tree key"}
		child := c.addr()
		if c.err != nil {
			return c.err
		}
		if lvl > 0 {
			err = f.tree1(child, kind, keySize, lvl-1, leaf)
		} else {
			err = leaf(key, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// localHeap gives the data segment of a local heap.
func (f *file) localHeap(addr int64) (*cursor, error) {
	c, err := f.signed(addr, int64(8+2*f.length+f.width), "HEAP", 0, "a local heap")
	if err != nil {
		return nil, err
	}
	c.skip(3)
	size := c.size()
	c.skip(f.length)
	data := c.addr()
	if c.err != nil {
		return nil, c.err
	}
	return f.block(data, size, "a local heap's data")
}

// text gives the string that begins at an offset of a local heap.
func (c *cursor) text(at int64, offset uint64) (string, error) {
	if offset >= uint64(len(c.b)) {
		return "", c.f.bad(at, "a name at %d of a heap of %d bytes", offset, len(c.b))
	}
	b := c.b[offset:]
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return "", c.f.bad(at, "a name without an end")
	}
	return string(b[:end]), c.f.spend(at, int64(end))
}

// symbols reads a symbol table node.
func (f *file) symbols(addr int64, names *cursor) ([]link, error) {
	c, err := f.signed(addr, 8, "SNOD", 1, "a symbol table node")
	if err != nil {
		return nil, err
	}
	c.skip(1)
	n := c.u16()
	size := 2*f.width + 24
	if c, err = f.block(addr+8, int64(n*size), "a symbol table node"); err != nil {
		return nil, err
	}
	all := make([]link, 0, n)
	for range n {
		at := c.here()
		offset := c.num(f.width)
		l := link{addr: c.addr()}
		cached := c.u32()
		c.skip(4)
		scratch := c.bytes(16)
		if c.err != nil {
			return nil, c.err
		}
		if l.name, err = names.text(at, offset); err != nil {
			return nil, err
		}
		if cached == 2 {
			l.kind = softLink
			s := cursor{f: f, b: scratch}
			if l.target, err = names.text(at, s.num(4)); err != nil {
				return nil, err
			}
		}
		all = append(all, l)
	}
	return all, nil
}

// denseLinks reads the links that a group keeps in a fractal heap.
func (f *file) denseLinks(o *object) ([]link, error) {
	m := o.find(msgLinkInfo)
	if m == nil {
		return nil, nil
	}
	c, err := f.read(m, "a link info message")
	if err != nil {
		return nil, err
	}
	c.skip(1)
	if flags := c.u8(); flags&1 != 0 {
		c.skip(8)
	}
	heap, names := c.addr(), c.addr()
	if c.err != nil || heap == undefined || names == undefined {
		return nil, c.err
	}
	h, err := f.fractalHeap(heap)
	if err != nil {
		return nil, err
	}
	var all []link
	err = f.tree2(names, 5, func(r *cursor) error {
		r.skip(4) // hash of the name
		m, err := h.get(r.bytes(h.idSize), r.at)
		if err != nil {
			return err
		}
		m.what = "a link in a heap"
		l, err := m.link()
		all = append(all, l)
		return err
	})
	return all, err
}
