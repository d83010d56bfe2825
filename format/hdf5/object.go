package hdf5

// The header messages that mean something here (section IV.A.2).
const (
	msgDataspace = 0x00_01
	msgLinkInfo  = 0x00_02
	msgDatatype  = 0x00_03
	msgOldFill   = 0x00_04
	msgFill      = 0x00_05
	msgLink      = 0x00_06
	msgExternal  = 0x00_07
	msgLayout    = 0x00_08
	msgFilters   = 0x00_0b
	msgAttribute = 0x00_0c
	msgContinue  = 0x00_10
	msgSymbols   = 0x00_11
	msgDriver    = 0x00_14
	msgAttrInfo  = 0x00_15
	msgLast      = 0x00_18 // the last that is known
	flagShared   = 1 << 1
	flagMustKnow = 1 << 7 // refuse the object if the message is not known
)

// message is a header message.
type message struct {
	kind  int
	flags byte
	at    int64
	data  []byte
}

// object is an object header: its messages without padding.
type object struct {
	addr     int64
	messages []message
}

// find gives the first message of a kind; nil where there is none.
func (o *object) find(kind int) *message {
	for i := range o.messages {
		if o.messages[i].kind == kind {
			return &o.messages[i]
		}
	}
	return nil
}

// read opens a message that must not be shared.
func (f *file) read(m *message, what string) (*cursor, error) {
	if m.flags&flagShared != 0 {
		return nil, f.unsupported(nextPlain, "%s that is shared with other objects (committed)", what)
	}
	return &cursor{f: f, b: m.data, at: m.at, what: what}, nil
}

// span is a range of addresses.
type span struct{ addr, size int64 }

// header reads an object header block by block.
type header struct {
	f      *file
	o      *object
	todo   []span // continuations
	seen   map[int64]bool
	flags  byte // of version 2
	second bool // version 2
}

// object reads an object header of either version.
func (f *file) object(addr int64) (*object, error) {
	c, err := f.block(addr, 16, "an object header")
	if err != nil {
		return nil, err
	}
	h := &header{f: f, o: &object{addr: addr}, seen: map[int64]bool{addr: true}}
	switch {
	case string(c.b[:4]) == "OHDR":
		err = h.start2(addr)
	case c.b[0] == 1:
		c.skip(8)
		err = h.block1(addr+16, int64(c.u32()))
	default:
		return nil, f.bad(addr, "no object header")
	}
	for err == nil && len(h.todo) > 0 {
		next := h.todo[0]
		h.todo = h.todo[1:]
		switch {
		case h.seen[next.addr]:
			return nil, f.bad(next.addr, "an object header continues where it has been already")
		case h.second:
			h.seen[next.addr] = true
			err = h.continued2(next)
		default:
			h.seen[next.addr] = true
			err = h.block1(next.addr, next.size)
		}
	}
	if err != nil {
		return nil, err
	}
	return h.o, nil
}

// block1 reads the messages of a version 1 header (section IV.A.1.a).
func (h *header) block1(addr, n int64) error {
	c, err := h.f.block(addr, n, "an object header")
	if err != nil {
		return err
	}
	for c.left() >= 8 {
		m := message{kind: c.u16()}
		size := c.u16()
		m.flags = c.u8()
		c.skip(3)
		m.at, m.data = c.here(), c.bytes(size)
		if c.err != nil {
			return c.err
		}
		if err := h.add(m); err != nil {
			return err
		}
	}
	return nil
}

// start2 reads the first block of a version 2 header (section IV.A.1.b).
func (h *header) start2(addr int64) error {
	f := h.f
	c, err := f.signed(addr, 6, "OHDR", 2, "an object header")
	if err != nil {
		return err
	}
	h.second, h.flags = true, c.u8()
	head := int64(6)
	if h.flags&0x20 != 0 {
		head += 16 // times
	}
	if h.flags&0x10 != 0 {
		head += 4 // when attributes move
	}
	width := int64(1) << (h.flags & 3)
	if c, err = f.block(addr+head, width, "an object header"); err != nil {
		return err
	}
	n := c.num(int(width))
	if head += width; n > uint64(f.size) {
		return f.bad(addr, "an object header of %d bytes", n)
	}
	if c, err = f.block(addr, head+int64(n)+4, "an object header"); err != nil {
		return err
	}
	return h.messages2(c, int(head))
}

func (h *header) continued2(s span) error {
	const around = 8 // signature and checksum
	if s.size < around {
		return h.f.bad(s.addr, "a continued object header of %d bytes", s.size)
	}
	c, err := h.f.block(s.addr, s.size, "a continued object header")
	if err != nil {
		return err
	}
	if string(c.b[:4]) != "OCHK" {
		return h.f.bad(s.addr, "no continued object header")
	}
	return h.messages2(c, 4)
}

// messages2 reads the messages of a block from head on, and its checksum.
func (h *header) messages2(whole *cursor, head int) error {
	whole.skip(len(whole.b) - 4)
	if err := whole.sum(); err != nil {
		return err
	}
	c := &cursor{f: h.f, b: whole.b[:len(whole.b)-4], p: head, at: whole.at, what: whole.what}
	least := 4
	if h.flags&4 != 0 {
		least = 6
	}
	for c.left() >= least { // what is less is a gap
		m := message{kind: int(c.u8())}
		size := c.u16()
		m.flags = c.u8()
		c.skip(least - 4)
		m.at, m.data = c.here(), c.bytes(size)
		if c.err != nil {
			return c.err
		}
		if err := h.add(m); err != nil {
			return err
		}
	}
	return nil
}

// add notes a message, or where the header continues.
func (h *header) add(m message) error {
	f := h.f
	if err := f.spend(m.at, 64); err != nil { // what the message itself takes in memory
		return err
	}
	switch {
	case m.kind == 0:
		return nil
	case m.kind == msgContinue:
		c := &cursor{f: f, b: m.data, at: m.at, what: "a continuation"}
		s := span{addr: c.addr(), size: c.size()}
		h.todo = append(h.todo, s)
		return c.err
	case m.kind > msgLast && m.flags&flagMustKnow != 0:
		return f.unsupported(nextRepack, "object with a message of type %d, which must be understood", m.kind)
	case m.kind == msgDataspace, m.kind == msgDatatype, m.kind == msgLayout, m.kind == msgFilters, m.kind == msgSymbols, m.kind == msgFill:
		if h.o.find(m.kind) != nil {
			return f.bad(m.at, "an object with two messages of type %d", m.kind)
		}
	}
	h.o.messages = append(h.o.messages, m)
	return nil
}
