package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	hdf5lib "github.com/weightseal/weightseal/format/hdf5"
	"github.com/weightseal/weightseal/model"
)

// hdf5Detector judges HDF5 files: links and data outside the file, Keras
// configurations, pickles in datasets.
type hdf5Detector struct{}

func (hdf5Detector) Name() string { return "hdf5" }

func (hdf5Detector) Wants(f model.File) bool { return f.Format == model.HDF5 }

func (hdf5Detector) Scan(ctx context.Context, _ model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	if blank(b) {
		r.add("WS-HDF5-006", 0, "nothing but zeros follows the signature")
		return r.result()
	}
	h := &hdf5{r: r, b: b, seen: map[int64]bool{}}
	if err := h.walk(ctx); err != nil {
		if ctx.Err() != nil {
			return r.verdict, r.findings, ctx.Err()
		}
		rule := "WS-HDF5-003"
		if errors.Is(err, errLimit) {
			rule = "WS-LIMIT-001"
		}
		r.add(rule, -1, "%v", err)
	}
	return r.result()
}

// hdf5 walks the objects of a file (HDF5 File Format Specification 3.0): groups
// of the old and new kind, the messages of every object, attributes.
type hdf5 struct {
	r    *report
	b    model.Blob
	base int64 // of all addresses
	off  int   // bytes of an address
	len  int   // bytes of a length
	todo []int64
	seen map[int64]bool
	work int
	heap *globalHeap // the last that was read
	// parts is the file as the converter's reader sees it; nil until needed.
	parts *hdf5lib.Parts
}

// Bounds of the walk.
const (
	maxHDF5Work    = 4 << 20  // messages, nodes and entries
	maxHDF5Message = 64 << 10 // the format's own bound for most messages
	maxHDF5Text    = 16 << 20
)

var errHDF5 = errors.New("the structure is broken")

// blank says whether a short file has nothing after the signature.
func blank(b model.Blob) bool {
	return b.Size() <= 4096 && len(bytes.TrimRight(head(b, b.Size(), 4096), "\x00")) <= len(hdf5Signature)
}

func (h *hdf5) spend() error {
	if h.work++; h.work > maxHDF5Work {
		return errLimit
	}
	return nil
}

// at reads n bytes at an address.
func (h *hdf5) at(addr int64, n int) ([]byte, error) {
	if h.work += n / 256; h.work > maxHDF5Work {
		return nil, errLimit
	}
	if addr < 0 || addr > h.b.Size()-h.base || int64(n) > h.b.Size()-h.base-addr {
		return nil, fmt.Errorf("%w: %d bytes at address %d lie outside the file", errHDF5, n, addr)
	}
	b := peek(h.b, h.b.Size(), h.base+addr, n)
	if len(b) < n {
		return nil, io.ErrUnexpectedEOF
	}
	return b, nil
}

// num reads a little-endian number of n bytes; -1 where all bits are set,
// which means undefined, and where it is no offset.
func num(b []byte, n int) int64 {
	if len(b) < n {
		return -1
	}
	var v uint64
	all := true
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
		all = all && b[i] == 0xff
	}
	if all || v > 1<<62 {
		return -1
	}
	return int64(v)
}

func (h *hdf5) walk(ctx context.Context) error {
	root, err := h.superblock()
	if err != nil {
		return err
	}
	h.push(root)
	for len(h.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		addr := h.todo[len(h.todo)-1]
		h.todo = h.todo[:len(h.todo)-1]
		if err := h.object(addr); err != nil {
			return err
		}
	}
	return nil
}

func (h *hdf5) push(addr int64) {
	if addr >= 0 && !h.seen[addr] {
		h.seen[addr] = true
		h.todo = append(h.todo, addr)
	}
}

const hdf5Signature = "\x89HDF\r\n\x1a\n"

// superblock finds the beginning and gives the address of the root group.
func (h *hdf5) superblock() (root int64, err error) {
	size := h.b.Size()
	start := int64(0)
	for start < size && string(peek(h.b, size, start, 8)) != hdf5Signature {
		if start *= 2; start == 0 {
			start = 512
		}
	}
	s := peek(h.b, size, start, 128)
	if len(s) < 48 {
		return 0, errHDF5
	}
	if start > 0 {
		h.r.add("WS-HDF5-004", 0, "%d bytes before the file's own beginning", start)
	}
	h.base = start
	var end int64
	switch s[8] {
	case 0, 1:
		h.off, h.len = int(s[13]), int(s[14])
		p := 24
		if s[8] == 1 {
			p = 28
		}
		if !h.widths() || len(s) < p+6*h.off {
			return 0, fmt.Errorf("addresses of %d bytes are not followed", h.off)
		}
		end = num(s[p+2*h.off:], h.off)
		root = num(s[p+5*h.off:], h.off)
	case 2, 3:
		h.off, h.len = int(s[9]), int(s[10])
		if !h.widths() {
			return 0, fmt.Errorf("addresses of %d bytes are not followed", h.off)
		}
		end = num(s[12+2*h.off:], h.off)
		root = num(s[12+3*h.off:], h.off)
	default:
		return 0, fmt.Errorf("the superblock's version %d is not followed", s[8])
	}
	if end > size-start {
		h.r.add("WS-HDF5-003", size, "the file ends %d bytes too early", end-(size-start))
	}
	if end >= 0 && end < size-start && end < size {
		h.r.add("WS-HDF5-004", start+end, "%d bytes after the file's own end", size-start-end)
	}
	return root, nil
}

func (h *hdf5) widths() bool {
	return (h.off == 4 || h.off == 8) && (h.len == 4 || h.len == 8)
}

// hdf5Object is what is collected of one object.
type hdf5Object struct {
	addr   int64
	dtype  []byte
	layout bool // has data
	// elsewhere says that the data is in other files or under a filter from a
	// plugin, lzf that it is under h5py's own: no reader here gives it.
	elsewhere, lzf bool
}

// object reads an object header of either version.
func (h *hdf5) object(addr int64) error {
	s, err := h.at(addr, 16)
	if err != nil {
		return err
	}
	o := &hdf5Object{addr: addr}
	if string(s[:4]) == "OHDR" {
		err = h.header2(o, addr)
	} else if s[0] == 1 {
		n := int64(le32(s[8:]))
		if n > maxHDF5Text {
			return fmt.Errorf("an object header of %d bytes: %w", n, errLimit)
		}
		err = h.block1(o, addr+16, n, 0)
	} else {
		return fmt.Errorf("%w: no object header at address %d", errHDF5, addr)
	}
	if err == nil {
		err = h.dataset(o)
	}
	return err
}

// block1 reads the messages of a block of a version 1 header.
func (h *hdf5) block1(o *hdf5Object, addr, n int64, depth int) error {
	b, err := h.at(addr, int(n))
	if err != nil {
		return err
	}
	for len(b) >= 8 {
		kind, size := le16(b), int(le16(b[2:]))
		if size > len(b)-8 {
			return fmt.Errorf("%w: a message of %d bytes", errHDF5, size)
		}
		if err := h.message(o, kind, b[4], b[8:8+size], 1, depth); err != nil {
			return err
		}
		b = b[8+size:]
	}
	return nil
}

func (h *hdf5) header2(o *hdf5Object, addr int64) error {
	s, err := h.at(addr, 6)
	if err != nil {
		return err
	}
	flags := s[5]
	p := int64(6)
	if flags&0x20 != 0 {
		p += 16
	}
	if flags&0x10 != 0 {
		p += 4
	}
	w := 1 << (flags & 3)
	if s, err = h.at(addr+p, w); err != nil {
		return err
	}
	n := num(s, w)
	if n < 0 || n > maxHDF5Text {
		return fmt.Errorf("%w: an object header of %d bytes", errHDF5, n)
	}
	return h.block2(o, addr+p+int64(w), n, flags, 0)
}

func (h *hdf5) block2(o *hdf5Object, addr, n int64, flags byte, depth int) error {
	b, err := h.at(addr, int(n))
	if err != nil {
		return err
	}
	head := 4
	if flags&4 != 0 {
		head = 6
	}
	for len(b) >= head {
		size := int(le16(b[1:]))
		if size > len(b)-head {
			return fmt.Errorf("%w: a message of %d bytes", errHDF5, size)
		}
		if err := h.message(o, uint16(b[0]), b[3], b[head:head+size], 2|flags<<4, depth); err != nil {
			return err
		}
		b = b[head+size:]
	}
	return nil
}

// The header messages that are looked at.
const (
	msgLinkInfo  = 0x02
	msgDatatype  = 0x03
	msgLink      = 0x06
	msgExternal  = 0x07
	msgLayout    = 0x08
	msgFilters   = 0x0b
	msgAttribute = 0x0c
	msgContinue  = 0x10
	msgSymbols   = 0x11
	msgAttrInfo  = 0x15
)

// message judges one header message; version is that of the header, with the
// flags of a version 2 header above it.
func (h *hdf5) message(o *hdf5Object, kind uint16, flags byte, b []byte, version byte, depth int) error {
	if err := h.spend(); err != nil {
		return err
	}
	if flags&2 != 0 && (kind == msgAttribute || kind == msgLink) {
		return errors.New("a shared message is not followed")
	}
	switch kind {
	case msgLinkInfo:
		return h.dense(b, (*hdf5lib.Parts).DenseLinks, func(m []byte) error { return h.link(o, m) })
	case msgAttrInfo:
		return h.dense(b, (*hdf5lib.Parts).DenseAttributes, func(m []byte) error { return h.attribute(o, m) })
	case msgDatatype:
		if flags&2 == 0 {
			o.dtype = b
		}
	case msgLink:
		return h.link(o, b)
	case msgExternal:
		o.elsewhere = true
		h.r.add("WS-HDF5-001", h.base+o.addr, "the data of a dataset lies in another file")
	case msgLayout:
		h.layout(o, b)
	case msgFilters:
		h.filters(o, b)
	case msgAttribute:
		return h.attribute(o, b)
	case msgSymbols:
		return h.symbols(b)
	case msgContinue:
		return h.follow(o, b, version, depth)
	}
	return nil
}

// dense walks what an object keeps in a fractal heap, with the converter's
// reader, which follows those.
func (h *hdf5) dense(info []byte, walk func(*hdf5lib.Parts, []byte, func([]byte) error) error, message func([]byte) error) error {
	parts, err := h.library()
	if err != nil {
		return err
	}
	err = walk(parts, info, func(m []byte) error {
		if err := h.spend(); err != nil {
			return err
		}
		return message(m)
	})
	if errors.Is(err, hdf5lib.ErrNotDense) {
		return nil
	}
	return err
}

// library opens the file with the converter's reader.
func (h *hdf5) library() (*hdf5lib.Parts, error) {
	if h.parts != nil {
		return h.parts, nil
	}
	parts, err := hdf5lib.OpenParts(h.b, h.b.Size(), hdf5lib.Limits{Metadata: 24 << 20, Slab: 16 << 20, Chunks: 1 << 18})
	h.parts = parts
	return parts, err
}

func (h *hdf5) follow(o *hdf5Object, b []byte, version byte, depth int) error {
	if len(b) < h.off+h.len || depth > 64 {
		return errHDF5
	}
	addr, n := num(b, h.off), num(b[h.off:], h.len)
	if n < 0 || n > maxHDF5Text {
		return errHDF5
	}
	if version&15 == 1 {
		return h.block1(o, addr, n, depth+1)
	}
	sig, err := h.at(addr, 4)
	if err != nil || string(sig) != "OCHK" || n < 8 {
		return errHDF5
	}
	return h.block2(o, addr+4, n-8, version>>4, depth+1)
}

// link reads a link message: hard links are followed, soft ones stay in the
// file, external ones do not.
func (h *hdf5) link(o *hdf5Object, b []byte) error {
	if len(b) < 3 {
		return errHDF5
	}
	flags, p, kind := b[1], 2, byte(0)
	if flags&8 != 0 {
		kind = b[p]
		p++
	}
	if flags&4 != 0 {
		p += 8
	}
	if flags&16 != 0 {
		p++
	}
	w := 1 << (flags & 3)
	if len(b) < p+w {
		return errHDF5
	}
	n := num(b[p:], w)
	p += w
	if n < 0 || n > int64(len(b)-p) {
		return errHDF5
	}
	name := string(b[p : p+int(n)])
	b = b[p+int(n):]
	switch kind {
	case 0:
		h.push(num(b, h.off))
	case 1:
	default:
		h.r.add("WS-HDF5-001", h.base+o.addr, "the link %q leads to another file", clip(name))
	}
	return nil
}

// symbols walks a group of the old kind: a B-tree of symbol tables.
func (h *hdf5) symbols(b []byte) error {
	if len(b) < 2*h.off {
		return errHDF5
	}
	todo := []int64{num(b, h.off)}
	seen := map[int64]bool{}
	for len(todo) > 0 {
		addr := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if addr < 0 || seen[addr] {
			continue
		}
		seen[addr] = true
		if err := h.spend(); err != nil {
			return err
		}
		sig, err := h.at(addr, 8)
		if err != nil {
			return err
		}
		switch string(sig[:4]) {
		case "TREE":
			children, err := h.tree(addr, int(le16(sig[6:])))
			if err != nil {
				return err
			}
			todo = append(todo, children...)
		case "SNOD":
			if err := h.table(addr, int(le16(sig[6:]))); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: no group node at address %d", errHDF5, addr)
		}
	}
	return nil
}

func (h *hdf5) tree(addr int64, entries int) ([]int64, error) {
	p := addr + 8 + 2*int64(h.off)
	b, err := h.at(p, entries*(h.len+h.off)+h.len)
	if err != nil {
		return nil, err
	}
	out := make([]int64, 0, entries)
	for i := range entries {
		out = append(out, num(b[i*(h.len+h.off)+h.len:], h.off))
	}
	return out, nil
}

func (h *hdf5) table(addr int64, entries int) error {
	n := 2*h.off + 24
	b, err := h.at(addr+8, entries*n)
	if err != nil {
		return err
	}
	for i := range entries {
		e := b[i*n:]
		if le32(e[2*h.off:]) != 2 { // not a soft link
			h.push(num(e[h.off:], h.off))
		}
	}
	return nil
}

// layout notes that an object has data, and refuses virtual datasets, which are
// made of other files.
func (h *hdf5) layout(o *hdf5Object, b []byte) {
	o.layout = true
	if len(b) >= 2 && b[0] >= 3 && b[1] == 3 {
		o.elsewhere = true
		h.r.add("WS-HDF5-001", h.base+o.addr, "a virtual dataset is made of other files")
	}
}

// filterLZF is the compression that h5py brings itself.
const filterLZF = 32000

// filters looks for ones that the library itself does not have.
func (h *hdf5) filters(o *hdf5Object, b []byte) {
	if len(b) < 2 {
		return
	}
	p := 2
	if b[0] == 1 {
		p = 8
	}
	for range b[1] {
		if len(b) < p+8 {
			return
		}
		id := le16(b[p:])
		var name, values int
		switch {
		case b[0] == 1:
			name, values = (int(le16(b[p+2:]))+7)&^7, int(le16(b[p+6:]))
			p += 8
		case id >= 256:
			name, values = int(le16(b[p+2:])), int(le16(b[p+6:]))
			p += 8
		default:
			values = int(le16(b[p+4:]))
			p += 6
		}
		o.lzf = o.lzf || id == filterLZF
		if id >= 256 && id != filterLZF {
			o.elsewhere = true
			h.r.add("WS-HDF5-005", h.base+o.addr, "the filter %d comes from a plugin", id)
		}
		p += name + 4*values
		if b[0] == 1 && values%2 == 1 {
			p += 4
		}
	}
}

// attribute reads an attribute and judges texts that are configurations.
func (h *hdf5) attribute(o *hdf5Object, b []byte) error {
	if len(b) < 8 || b[0] < 1 || b[0] > 3 {
		return fmt.Errorf("%w: an attribute of an unknown version", errHDF5)
	}
	pad := func(n int) int { return n }
	p := 8
	switch b[0] {
	case 1:
		pad = func(n int) int { return (n + 7) &^ 7 }
	case 3:
		p = 9
	}
	nameLen, typeLen, spaceLen := int(le16(b[2:])), int(le16(b[4:])), int(le16(b[6:]))
	if len(b) < p+pad(nameLen)+pad(typeLen)+pad(spaceLen) {
		return errHDF5
	}
	name := strings.TrimRight(string(b[p:p+nameLen]), "\x00")
	p += pad(nameLen)
	dtype := b[p : p+typeLen]
	p += pad(typeLen) + pad(spaceLen)
	if len(dtype) < 8 {
		return nil
	}
	at := h.base + o.addr
	switch dtype[0] & 15 {
	case 3: // text of fixed length
		h.config(name, bytes.TrimRight(b[p:], "\x00"), at)
	case 9: // of variable length: in a global heap
		return h.heapTexts(b[p:], func(text []byte) { h.config(name, text, at); h.pickled(text, at) })
	}
	if isByteType(dtype) {
		h.pickled(b[p:], at)
	}
	return nil
}

// isByteType says whether the elements of a datatype are bytes: numbers of one
// byte, texts, opaque values.
func isByteType(dtype []byte) bool {
	if len(dtype) < 8 {
		return false
	}
	class := dtype[0] & 15
	return class == 0 && le32(dtype[4:]) == 1 || class == 3 || class == 5
}

// pickled looks whether a value is a pickle.
func (h *hdf5) pickled(value []byte, at int64) {
	if isPickle(&member{ReaderAt: bytes.NewReader(value), size: int64(len(value)), place: place{budget: new(budget)}}) {
		h.r.add("WS-HDF5-002", at, "a value of %d bytes is a pickle", len(value))
	}
}

// heapTexts reads elements of variable length.
func (h *hdf5) heapTexts(b []byte, use func(text []byte)) error {
	n := 4 + h.off + 4
	for len(b) >= n {
		if err := h.spend(); err != nil {
			return err
		}
		text, err := h.heapObject(num(b[4:], h.off), le32(b[4+h.off:]))
		if err != nil {
			return err
		}
		use(text)
		b = b[n:]
	}
	return nil
}

// globalHeap is where the objects of a global heap collection lie.
type globalHeap struct {
	addr    int64
	objects map[uint32]heapSpan
}

type heapSpan struct{ addr, size int64 }

// heapObject reads an object of a global heap collection.
func (h *hdf5) heapObject(addr int64, index uint32) ([]byte, error) {
	if addr <= 0 || index == 0 {
		return nil, nil // an empty text
	}
	if h.heap == nil || h.heap.addr != addr {
		if err := h.openHeap(addr); err != nil {
			return nil, err
		}
	}
	o, ok := h.heap.objects[index]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: no object %d in the heap", errHDF5, index)
	case o.size > maxHDF5Text:
		return nil, fmt.Errorf("a text of %d bytes: %w", o.size, errLimit)
	}
	return h.at(o.addr, int(o.size))
}

// openHeap lists a collection; the last one that was used is kept, since the
// elements of an object follow each other in it.
func (h *hdf5) openHeap(addr int64) error {
	s, err := h.at(addr, 8+h.len)
	if err != nil {
		return err
	}
	size := num(s[8:], h.len)
	if string(s[:4]) != "GCOL" || size < 0 || size > h.b.Size() {
		return fmt.Errorf("%w: no heap at address %d", errHDF5, addr)
	}
	heap := &globalHeap{addr: addr, objects: map[uint32]heapSpan{}}
	head := 8 + h.len
	for p := int64(head); p+int64(head) <= size; {
		if err := h.spend(); err != nil {
			return err
		}
		s, err := h.at(addr+p, head)
		if err != nil {
			return err
		}
		n, index := num(s[8:], h.len), uint32(le16(s))
		if n < 0 || n > size-p {
			return errHDF5
		}
		if index == 0 {
			break // free space up to the end
		}
		if _, twice := heap.objects[index]; !twice {
			heap.objects[index] = heapSpan{addr + p + int64(head), n}
		}
		p += int64(head) + (n+7)&^7
	}
	h.heap = heap
	return nil
}

// config judges an attribute's text that is JSON: Keras keeps the model there.
func (h *hdf5) config(name string, text []byte, at int64) {
	text = bytes.TrimSpace(bytes.TrimRight(text, "\x00"))
	if len(text) < 2 || text[0] != '{' {
		return
	}
	sub := &report{}
	scanJSON(sub, name, &member{ReaderAt: bytes.NewReader(text), size: int64(len(text)), place: place{budget: new(budget)}})
	keras := name == "model_config" || name == "training_config"
	for _, f := range sub.findings {
		switch {
		case f.Rule == "WS-CONFIG-004" && name == "model_config":
			h.r.add("WS-KERAS-003", at, "%s is no JSON", name)
			continue
		case f.Rule == "WS-CONFIG-003" && keras:
			h.r.add("WS-KERAS-003", at, "%s: %s", name, f.Message)
			continue
		case f.Rule == "WS-CONFIG-004" && !keras:
			continue // a text that only begins like JSON
		}
		f.Inner = joinInner("@"+clip(name), f.Inner)
		h.r.keep(f)
	}
}

// dataset looks whether a dataset of bytes holds a pickle, or one of values of
// variable length has one among them.
func (h *hdf5) dataset(o *hdf5Object) error {
	variable := len(o.dtype) >= 8 && o.dtype[0]&15 == 9
	if !o.layout || !isByteType(o.dtype) && !variable {
		return nil
	}
	parts, err := h.library()
	if err != nil {
		return err
	}
	data, size, err := parts.Data(o.addr)
	if err != nil {
		switch {
		case o.lzf:
			h.r.add("WS-HDF5-005", h.base+o.addr, "a dataset of bytes is under the filter LZF of h5py, and was not looked into")
		case !o.elsewhere:
			h.r.add("WS-HDF5-003", h.base+o.addr, "a dataset of bytes was not looked into: %v", err)
		}
		return nil
	}
	if variable {
		return h.variable(o, data, size)
	}
	if size > 0 && isPickle(&member{ReaderAt: data, size: size, place: place{budget: new(budget)}}) {
		h.r.add("WS-HDF5-002", h.base+o.addr, "a dataset of %d bytes holds a pickle", size)
	}
	return nil
}

// variable looks at the values of a dataset whose elements lie in heaps.
func (h *hdf5) variable(o *hdf5Object, data io.ReaderAt, size int64) error {
	step := 4096 * (8 + h.off)
	for at := int64(0); at < size; at += int64(step) {
		part := peek(data, size, at, step)
		if err := h.heapTexts(part, func(v []byte) { h.pickled(v, h.base+o.addr) }); err != nil {
			return err
		}
	}
	return nil
}
