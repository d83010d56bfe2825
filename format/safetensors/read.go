package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// metadataKey is the one top-level key that is not a tensor.
const metadataKey = "__metadata__"

// minEntry is the length of the shortest tensor in a header.
const minEntry = len(`"":["U8",[],[0,0]]`)

// ReadHeader reads and validates the header of a safetensors file of size
// bytes. It reads no tensor byte. A file that the reference reader refuses
// gives an *Error; what only the specification forbids is in Header.Findings.
// A failure of r is returned as it is. Memory is bounded by a small multiple
// of the header's length.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	text, err := headerText(r, size)
	if err != nil {
		return nil, err
	}
	// A tensor takes an opening brace and at least minEntry bytes.
	likely := min(bytes.Count(text, []byte{'{'}), len(text)/minEntry)
	p := parser{scanner: scanner{b: text}, count: map[string]int{},
		index: make(map[string]int32, likely), entries: make([]entry, 0, likely)}
	if err := p.parse(); err != nil {
		var bad *syntaxError
		if !errors.As(err, &bad) {
			return nil, err
		}
		return nil, &Error{Kind: InvalidHeaderDeserialization, Tensor: p.current, Offset: 8 + int64(bad.at), Detail: bad.msg}
	}
	end, err := p.layout()
	if err != nil {
		return nil, err
	}
	n := uint64(len(text))
	if have := uint64(size) - 8 - n; end != have {
		return nil, &Error{Kind: MetadataIncompleteBuffer, Offset: 8 + int64(n),
			Detail: fmt.Sprintf("the tensors take %d bytes, the file has %d after the header", end, have)}
	}
	return p.header(), nil
}

// headerText reads the length and the JSON, checking each length before
// anything is allocated for it.
func headerText(r io.ReaderAt, size int64) ([]byte, error) {
	if size < 8 {
		return nil, &Error{Kind: HeaderTooSmall, Detail: fmt.Sprintf("the file has %d bytes, the length alone takes 8", max(size, 0))}
	}
	var prefix [8]byte
	if err := readFull(r, prefix[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > MaxHeaderLength {
		return nil, &Error{Kind: HeaderTooLarge, Detail: fmt.Sprintf("a header of %d bytes, the most is %d", n, MaxHeaderLength)}
	}
	if n > uint64(size-8) {
		return nil, &Error{Kind: InvalidHeaderLength, Detail: fmt.Sprintf("a header of %d bytes in a file of %d", n, size)}
	}
	text := make([]byte, n)
	if err := readFull(r, text, 8); err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, &Error{Kind: InvalidHeader, Offset: 8 + int64(firstInvalid(text)), Detail: "the header is not UTF-8"}
	}
	return text, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("safetensors: read %d bytes at %d: %w", len(p), off, err)
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n < 2 {
			return i
		}
		i += n
	}
	return len(b)
}

// entry is a tensor with the place of its name in the header's text.
type entry struct {
	Tensor
	at int
}

// parser turns the header's text into entries and findings.
type parser struct {
	scanner
	entries  []entry
	index    map[string]int32 // name -> place in entries
	shapes   []uint64         // slab that shapes are cut from
	metadata map[string]string
	findings []Finding
	count    map[string]int // findings by rule
	current  string         // the tensor being read
}

// find records a finding, at most maxFindingsPerRule of a rule.
func (p *parser) find(rule, tensor string, at int, refuse bool, format string, args ...any) {
	if p.count[rule]++; p.count[rule] > maxFindingsPerRule {
		return
	}
	p.findings = append(p.findings, Finding{Rule: rule, Tensor: tensor, Offset: 8 + int64(at),
		Detail: fmt.Sprintf(format, args...), Refuse: refuse})
}

// parse reads the whole text.
func (p *parser) parse() error {
	if p.space(); p.i > 0 {
		p.find(RuleLeadingSpace, "", 0, false, "%d bytes of white space before the first brace", p.i)
	}
	seen := false
	err := p.object("the header's object", func(key []byte, at int) error {
		if string(key) != metadataKey {
			return p.tensor(string(key), at)
		}
		if seen {
			return p.fail(at, "%s is there twice", metadataKey)
		}
		seen = true
		return p.readMetadata(at)
	})
	if err != nil {
		return err
	}
	for j, c := range p.b[p.i:] {
		if c != ' ' {
			p.find(RuleOddPadding, "", p.i+j, false, "padding byte %#02x, the specification says 0x20", c)
			break
		}
	}
	return p.end()
}

// readMetadata reads the map of strings to strings, or null.
func (p *parser) readMetadata(at int) error {
	if p.peek() == 'n' {
		p.find(RuleNullMetadata, "", at, false, "%s is null", metadataKey)
		return p.word("null")
	}
	p.metadata = map[string]string{}
	return p.object("an object of strings", func(key []byte, at int) error {
		name := string(key)
		if _, twice := p.metadata[name]; twice {
			p.find(RuleDuplicateMetadata, "", at, true, "the metadata key %s is there twice", quote(name))
		}
		value, err := p.str("a string")
		p.metadata[name] = string(value)
		return err
	})
}

// tensor reads the entry of one name.
func (p *parser) tensor(name string, at int) error {
	p.current = name
	e := entry{at: at}
	var err error
	switch p.peek() {
	case '[':
		p.find(RuleArrayForm, name, p.i, true, "the tensor is an array, not an object")
		err = p.arrayForm(&e)
	default:
		err = p.objectForm(&e)
	}
	if err != nil {
		return err
	}
	p.current = ""
	p.checkName(name, at)
	e.Name = name
	if old, twice := p.index[name]; twice {
		p.find(RuleDuplicateName, name, at, true, "the name is there twice, first at byte %d: readers differ in which one they take", 8+p.entries[old].at)
		p.entries[old] = e
		return nil
	}
	p.index[name] = int32(len(p.entries)) // a header of 10^8 bytes holds far fewer
	p.entries = append(p.entries, e)
	return nil
}

func (p *parser) checkName(name string, at int) {
	if name == "" {
		p.find(RuleEmptyName, name, at, false, "the tensor has the empty name")
	}
	if i := strings.IndexFunc(name, unicode.IsControl); i >= 0 {
		p.find(RuleControlName, name, at, strings.IndexByte(name, 0) >= 0, "control characters in the name %s", quote(name))
	}
}

// objectForm reads {"dtype":..., "shape":..., "data_offsets":...}.
func (p *parser) objectForm(e *entry) error {
	fields := [...]string{"dtype", "shape", "data_offsets"}
	var seen [len(fields)]bool
	start := p.i
	err := p.object("a tensor object", func(key []byte, at int) error {
		i := slices.Index(fields[:], string(key))
		if i < 0 {
			p.find(RuleUnknownField, p.current, at, true, "the tensor has a field %s, which the format does not know", quote(key))
			return p.skip()
		}
		if seen[i] {
			return p.fail(at, "the field %s is there twice", fields[i])
		}
		seen[i] = true
		return p.field(e, i)
	})
	if err != nil {
		return err
	}
	if i := slices.Index(seen[:], false); i >= 0 {
		return p.fail(start, "the field %s is missing", fields[i])
	}
	return nil
}

// arrayForm reads the same fields in order.
func (p *parser) arrayForm(e *entry) error {
	start, fields := p.i, 0
	err := p.array("a tensor array", func(n int) error {
		if fields++; n > 2 {
			return p.fail(p.i, "more than three items in the tensor's array")
		}
		return p.field(e, n)
	})
	if err == nil && fields < 3 {
		return p.fail(start, "%d items in the tensor's array, must be three", fields)
	}
	return err
}

// field reads dtype (0), shape (1) or data_offsets (2).
func (p *parser) field(e *entry, i int) (err error) {
	switch i {
	case 0:
		at := p.i
		name, err := p.str("a dtype string")
		if err != nil {
			return err
		}
		d, ok := ParseDType(string(name))
		if !ok {
			return p.fail(at, "unknown dtype %s", quote(name))
		}
		e.DType = d
		return nil
	case 1:
		e.Shape, err = p.shape()
		return err
	default:
		return p.offsets(e)
	}
}

// shape reads an array of dimensions. Shapes are cut from a common slab: one
// allocation for many tensors.
func (p *parser) shape() ([]uint64, error) {
	start := len(p.shapes)
	err := p.array("an array of dimensions", func(int) error {
		n, err := p.uint("a dimension")
		if len(p.shapes) == cap(p.shapes) {
			p.shapes = append(make([]uint64, 0, max(1024, 2*(len(p.shapes)-start))), p.shapes[start:]...)
			start = 0
		}
		p.shapes = append(p.shapes, n)
		return err
	})
	return p.shapes[start:len(p.shapes):len(p.shapes)], err
}

// offsets reads the pair [begin, end].
func (p *parser) offsets(e *entry) error {
	at, count := p.i, 0
	err := p.array("an array of two offsets", func(n int) (err error) {
		switch count++; n {
		case 0:
			e.Begin, err = p.uint("an offset")
		case 1:
			e.End, err = p.uint("an offset")
		default:
			return p.fail(p.i, "more than two data offsets")
		}
		return err
	})
	if err == nil && count != 2 {
		return p.fail(at, "%d data offsets, must be two", count)
	}
	return err
}

// byPlace is the order of tensors in a file.
func byPlace(a, b *Tensor) int {
	if c := cmp.Compare(a.Begin, b.Begin); c != 0 {
		return c
	}
	if c := cmp.Compare(a.End, b.End); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// layout sorts the entries by place and checks that they fill the buffer from
// its start without hole or overlap, and that each one's bytes are as many as
// its shape and type need. It returns where the last one ends.
func (p *parser) layout() (end uint64, err error) {
	slices.SortFunc(p.entries, func(a, b entry) int { return byPlace(&a.Tensor, &b.Tensor) })
	unaligned, first := 0, -1
	for i := range p.entries {
		e := &p.entries[i]
		if err := e.check(end); err != nil {
			return 0, err
		}
		end = e.End
		if e.Begin == e.End && hugeEmpty(e.DType, e.Shape) {
			p.find(RuleHugeEmpty, e.Name, e.at, false, "no elements, but its other dimensions overflow when multiplied")
		}
		if size := (e.DType.Bits() + 7) / 8; (8+uint64(len(p.b))+e.Begin)%size != 0 && e.Begin != e.End {
			if unaligned++; first < 0 {
				first = i
			}
		}
	}
	if unaligned > 0 {
		e := &p.entries[first]
		p.find(RuleUnaligned, e.Name, e.at, false, "starts at byte %d of the file, not at a multiple of its element size, as do %d of %d tensors",
			8+uint64(len(p.b))+e.Begin, unaligned, len(p.entries))
	}
	return end, nil
}

// check is the reference's validation of one tensor, in its order.
func (e *entry) check(begin uint64) error {
	fail := func(kind Kind, format string, args ...any) error {
		return &Error{Kind: kind, Tensor: e.Name, Offset: 8 + int64(e.at), Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case e.End < e.Begin:
		return fail(InvalidOffset, "ends at %d, before it begins at %d", e.End, e.Begin)
	case e.Begin > begin:
		return fail(InvalidOffset, "begins at %d, so the bytes from %d on belong to no tensor", e.Begin, begin)
	case e.Begin < begin:
		return fail(InvalidOffset, "begins at %d, inside the tensor that ends at %d", e.Begin, begin)
	}
	size, err := byteSize(e.DType, e.Shape)
	if err != nil {
		return fail(err.Kind, "%s", err.Detail)
	}
	if size != e.End-e.Begin {
		return fail(TensorInvalidInfo, "shape and dtype need %d bytes, the offsets give %d", size, e.End-e.Begin)
	}
	return nil
}

// header hands over what was read.
func (p *parser) header() *Header {
	h := &Header{Metadata: p.metadata, Length: uint64(len(p.b)), Findings: p.findings}
	h.Tensors = make([]Tensor, len(p.entries))
	for i := range p.entries {
		h.Tensors[i] = p.entries[i].Tensor
	}
	for rule, n := range p.count {
		if n <= maxFindingsPerRule {
			continue
		}
		for i := len(h.Findings) - 1; i >= 0; i-- {
			if f := &h.Findings[i]; f.Rule == rule {
				f.Detail += fmt.Sprintf("; and %d more of this rule", n-maxFindingsPerRule)
				break
			}
		}
	}
	return h
}

// ByteSize is the number of bytes of a tensor; an *Error of kind
// ValidationOverflow or MisalignedSlice where there is no such number. As in
// the reference, dimensions are multiplied in order, so that what follows a
// zero cannot overflow.
func ByteSize(d DType, shape []uint64) (uint64, error) {
	n, err := byteSize(d, shape)
	if err != nil {
		return 0, err
	}
	return n, nil
}

func byteSize(d DType, shape []uint64) (uint64, *Error) {
	n := uint64(1)
	for _, dim := range shape {
		hi, lo := bits.Mul64(n, dim)
		if hi != 0 {
			return 0, &Error{Kind: ValidationOverflow, Detail: fmt.Sprintf("the number of elements of %s%s does not fit in 64 bits", d, shapeText(shape))}
		}
		n = lo
	}
	hi, n := bits.Mul64(n, d.Bits())
	if hi != 0 {
		return 0, &Error{Kind: ValidationOverflow, Detail: fmt.Sprintf("the number of bits of %s%s does not fit in 64 bits", d, shapeText(shape))}
	}
	if n%8 != 0 {
		return 0, &Error{Kind: MisalignedSlice, Detail: fmt.Sprintf("%d bits of %s%s do not fill whole bytes", n, d, shapeText(shape))}
	}
	return n / 8, nil
}

// hugeEmpty says whether the number of bits overflows when zeros are left out.
func hugeEmpty(d DType, shape []uint64) bool {
	n := d.Bits()
	for _, dim := range shape {
		hi, lo := bits.Mul64(n, max(dim, 1))
		if hi != 0 {
			return true
		}
		n = lo
	}
	return false
}

// shapeText shows a shape in a message, cut where it is absurdly long.
func shapeText(shape []uint64) string {
	const most = 16
	if len(shape) <= most {
		return strings.ReplaceAll(fmt.Sprint(shape), " ", ",")
	}
	return strings.ReplaceAll(fmt.Sprint(shape[:most]), " ", ",") + fmt.Sprintf("... (%d dimensions)", len(shape))
}
