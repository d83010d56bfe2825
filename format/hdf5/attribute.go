package hdf5

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format/safetensors"
)

// mostText is how long a text may be that goes into the metadata.
const mostText = 1 << 20

// attributes lists an object's attributes as dropped, and gives the texts.
// Numbers and texts by themselves go into the metadata.
func (w *walker) attributes(o *object, path string) (texts map[string]string, err error) {
	texts = map[string]string{}
	for i := range o.messages {
		m := &o.messages[i]
		if m.kind != msgAttribute {
			continue
		}
		c, err := w.f.read(m, "attribute")
		if err != nil {
			return nil, err
		}
		if err := w.attribute(c, path, texts); err != nil {
			return nil, err
		}
	}
	return texts, w.denseAttributes(o, path, texts)
}

// denseAttributes reads attributes that lie in a fractal heap.
func (w *walker) denseAttributes(o *object, path string, texts map[string]string) error {
	m := o.find(msgAttrInfo)
	if m == nil {
		return nil
	}
	c, err := w.f.read(m, "attribute info")
	if err != nil {
		return err
	}
	c.skip(1)
	if flags := c.u8(); flags&1 != 0 {
		c.skip(2)
	}
	heap, names := c.addr(), c.addr()
	if c.err != nil || heap == undefined || names == undefined {
		return c.err
	}
	h, err := w.f.fractalHeap(heap)
	if err != nil {
		return err
	}
	return w.f.tree2(names, 8, func(r *cursor) error {
		id := r.bytes(h.idSize)
		flags := r.u8()
		if r.err != nil {
			return r.err
		}
		if flags&flagShared != 0 || len(id) > 0 && id[0]>>4&3 == 1 {
			w.drop(path+"@", "attribute", "is not among weights; it is too large for its name to be known")
			return nil
		}
		c, err := h.get(id, r.at)
		if err != nil {
			return err
		}
		c.what = "an attribute in a heap"
		return w.attribute(c, path, texts)
	})
}

// attribute takes one attribute (section IV.A.2.m).
func (w *walker) attribute(c *cursor, path string, texts map[string]string) error {
	version, flags := c.u8(), c.u8()
	name, typ, space := c.u16(), c.u16(), c.u16()
	pad := 1
	switch version {
	case 1:
		pad, flags = 8, 0
	case 2:
	case 3:
		c.skip(1)
	default:
		if c.err == nil {
			c.err = c.f.bad(c.at, "an attribute of version %d", version)
		}
	}
	part := func(n int) *cursor {
		p := &cursor{f: c.f, at: c.here(), b: c.bytes(n), what: c.what}
		c.skip(-n & (pad - 1))
		return p
	}
	label := part(name)
	t, s := part(typ), part(space)
	if c.err != nil {
		return c.err
	}
	key := strings.TrimRight(string(label.b), "\x00")
	kind, value, known := "attribute", "", false
	if flags == 0 {
		var err error
		if kind, value, known, err = w.value(t, s, c); err != nil {
			return err
		}
	}
	if known && kind == "str" {
		texts[key] = value
	}
	if known && path == "" {
		switch key {
		case "keras_version":
			w.keras = value
		case "backend":
			w.backend = value
		}
	}
	if key == "dtype" && value == "bfloat16" && path != "" {
		return nil // not lost: it is the tensor's type
	}
	if known && len(value) <= mostText {
		w.ck.Metadata[path+"@"+key] = value
	}
	w.drop(path+"@"+key, kind, "is an attribute")
	return c.f.spend(c.at, int64(len(path)+len(key)+len(value)))
}

// value reads an attribute's value where it is a number or a text.
func (w *walker) value(typ, space, data *cursor) (kind, value string, known bool, err error) {
	t, err := typ.datatype(0)
	if err != nil {
		return "", "", false, err
	}
	s, err := space.dataspace()
	if err != nil {
		return "", "", false, err
	}
	if n, ok := count(1, s.dims); s.null || !ok || n != 1 || len(s.dims) > 0 {
		return "list of " + t.what, "", false, nil
	}
	var text []byte
	switch {
	case t.class == classString:
		text = data.bytes(int(t.size))
	case t.text:
		if text, err = w.heapText(data); err != nil {
			return "", "", false, err
		}
	case t.class == classFixed || t.class == classFloat || t.class == classEnum:
		kind, value, known = t.scalar(data.bytes(int(t.size)))
		return kind, value, known, data.err
	default:
		return t.what, "", false, nil
	}
	value = strings.TrimRight(string(text), "\x00")
	return "str", value, utf8.ValidString(value) && data.err == nil, data.err
}

// scalar writes a number down.
func (t *datatype) scalar(b []byte) (kind, value string, known bool) {
	if t.dtype == 0 || len(b) > 8 || int64(len(b)) != t.size {
		return t.what, "", false
	}
	if b = slices.Clone(b); t.swap > 1 {
		slices.Reverse(b)
	}
	var full [8]byte
	copy(full[:], b)
	v := binary.LittleEndian.Uint64(full[:])
	unused := 64 - 8*len(b)
	switch t.dtype {
	case safetensors.BOOL:
		return "bool", strconv.FormatBool(v != 0), true
	case safetensors.U8, safetensors.U16, safetensors.U32, safetensors.U64:
		return "int", strconv.FormatUint(v, 10), true
	case safetensors.I8, safetensors.I16, safetensors.I32, safetensors.I64:
		return "int", strconv.FormatInt(int64(v<<unused)>>unused, 10), true
	case safetensors.F32:
		return "float", strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32), true
	case safetensors.F64:
		return "float", strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64), true
	}
	return t.what, "", false
}

// heapText reads a text of variable length: its length, and its place in a
// global heap (section III.E).
func (w *walker) heapText(c *cursor) ([]byte, error) {
	f := w.f
	at := c.here()
	n, addr, index := int64(c.u32()), c.addr(), c.u32()
	if c.err != nil || n == 0 || index == 0 {
		return nil, c.err
	}
	heap, err := w.globalHeap(addr)
	if err != nil {
		return nil, err
	}
	h := *heap
	for h.left() >= 8+f.length {
		id := h.u16()
		h.skip(6)
		size := h.size()
		if id == 0 {
			break // the free space is last
		}
		if size > int64(h.left()) {
			return nil, f.bad(h.here(), "an object of %d bytes in a heap with %d left", size, h.left())
		}
		b := h.bytes(int(size))
		h.skip(min(-int(size)&7, h.left()))
		if uint32(id) == index && h.err == nil {
			if n > size {
				return nil, f.bad(at, "a text of %d bytes, of which the heap has %d", n, size)
			}
			return bytes.Clone(b[:n]), f.spend(at, n)
		}
		if err := f.spend(at, 8); err != nil {
			return nil, err
		}
	}
	return nil, f.bad(at, "a text that is not in its heap")
}

func (w *walker) globalHeap(addr int64) (*cursor, error) {
	f := w.f
	if c := w.heaps[addr]; c != nil {
		return c, nil
	}
	c, err := f.signed(addr, int64(8+f.length), "GCOL", 1, "a global heap")
	if err != nil {
		return nil, err
	}
	c.skip(3)
	size := c.size()
	if c.err != nil {
		return nil, c.err
	}
	if c, err = f.block(addr, size, "a global heap"); err != nil {
		return nil, err
	}
	c.skip(8 + f.length)
	if c.err == nil {
		w.heaps[addr] = c
	}
	return c, c.err
}
