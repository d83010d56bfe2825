package numpy

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format"
)

const magic = "\x93NUMPY"

// header is a .npy header (numpy/lib/format.py).
type header struct {
	dtype   DType
	fortran bool
	shape   []int64
	data    int64 // offset of the elements
	bytes   int64 // that they take
}

// Open reads a .npy file, which holds one array without a name. Arrays that
// safetensors cannot hold give a *format.UnsupportedError, broken files a
// *format.Error.
func Open(r io.ReaderAt, size int64, lim Limits) (*format.Checkpoint, error) {
	h, err := readHeader(r, size, lim)
	if err != nil {
		return nil, within("npy", "", err)
	}
	if err := h.dtype.Convertible("npy", ""); err != nil {
		return nil, err
	}
	if have := size - h.data; have != h.bytes {
		return nil, &format.Error{Format: "npy", Offset: h.data, Detail: fmt.Sprintf("the array takes %d bytes, the file has %d", h.bytes, have)}
	}
	st := &format.Storage{Data: io.NewSectionReader(r, h.data, h.bytes), Length: h.bytes, Offset: h.data}
	return &format.Checkpoint{Framework: framework, Tensors: []format.Tensor{NewTensor("", h.dtype, h.shape, h.fortran, st)}}, nil
}

// faultError is a fault and where it is.
type faultError struct {
	offset int64
	detail string
}

func (f *faultError) Error() string { return f.detail }

func fault(offset int64, layout string, args ...any) error {
	return &faultError{offset, fmt.Sprintf(layout, args...)}
}

// within says in which file or entry a fault is.
func within(name, where string, err error) error {
	if f, ok := err.(*faultError); ok { //nolint:errorlint // never wrapped: readHeader and its like make it
		return &format.Error{Format: name, Where: where, Offset: f.offset, Detail: f.detail}
	}
	return err
}

func readHeader(r io.ReaderAt, size int64, lim Limits) (*header, error) {
	var first [12]byte
	n := int(min(size, int64(len(first))))
	if got, err := r.ReadAt(first[:n], 0); got < n {
		return nil, short(err)
	}
	if n < 10 || string(first[:6]) != magic {
		return nil, fault(0, "no .npy signature")
	}
	start, length := int64(10), int64(binary.LittleEndian.Uint16(first[8:]))
	switch version := first[6]; {
	case version == 1 && first[7] == 0:
	case (version == 2 || version == 3) && first[7] == 0 && n == 12:
		start, length = 12, int64(binary.LittleEndian.Uint32(first[8:]))
	default:
		return nil, fault(6, "version %d.%d is unknown", first[6], first[7])
	}
	switch {
	case length > size-start:
		return nil, fault(8, "the header declares %d bytes, %d are left", length, size-start)
	case length > lim.header():
		return nil, fault(8, "the header declares %d bytes, more than %d", length, lim.header())
	}
	text := make([]byte, length)
	if got, err := r.ReadAt(text, start); int64(got) < length {
		return nil, short(err)
	}
	h := &header{data: start + length}
	p := &literal{s: string(text)}
	if err := h.parse(p); err != nil {
		return nil, fault(start+int64(p.i), "%v", err)
	}
	return h, nil
}

// short is the error of a read that gave less than there should be.
func short(err error) error {
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return fault(-1, "the file ends early")
	}
	return err
}

// parse reads the dictionary {'descr': ..., 'fortran_order': ..., 'shape': ...}
// and what of it the file must have.
func (h *header) parse(p *literal) error {
	if err := p.expect('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for !p.take('}') {
		key, err := p.text()
		if err != nil {
			return err
		}
		if err := p.expect(':'); err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("the key %q is there twice", shorten(key))
		}
		seen[key] = true
		if err := h.field(p, key); err != nil {
			return err
		}
		if !p.take(',') {
			if err := p.expect('}'); err != nil {
				return err
			}
			break
		}
	}
	if p.peek() != 0 || len(strings.TrimRight(p.s[p.i:], " \n\x00\t\r")) > 0 {
		return fmt.Errorf("text after the dictionary")
	}
	if len(seen) != 3 {
		return fmt.Errorf("the header is no dictionary of descr, fortran_order and shape")
	}
	n, ok := Count(h.shape, max(h.dtype.Size, 1))
	if !ok {
		return fmt.Errorf("the array is larger than any file")
	}
	h.bytes = n
	return nil
}

func (h *header) field(p *literal, key string) (err error) {
	switch key {
	case "descr":
		if c := p.peek(); c == '[' || c == '(' || c == '{' {
			h.dtype = structured(1, strings.Contains(p.s[p.i:], "O"))
			return p.skip()
		}
		code, err := p.text()
		if err != nil {
			return err
		}
		h.dtype, err = parseDType(code)
		return err
	case "fortran_order":
		switch {
		case p.word("True"):
			h.fortran = true
			return nil
		case p.word("False"):
			return nil
		}
		return fmt.Errorf("fortran_order is neither True nor False")
	case "shape":
		h.shape, err = p.shape()
		return err
	}
	return fmt.Errorf("the key %q is unknown", shorten(key))
}

// literal reads the Python literals that a header is made of.
type literal struct {
	s string
	i int
}

func (p *literal) peek() byte {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n\f", p.s[p.i]) >= 0 {
		p.i++
	}
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *literal) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.i++
	return true
}

func (p *literal) expect(c byte) error {
	if !p.take(c) {
		return fmt.Errorf("%q is missing in the header", string(rune(c)))
	}
	return nil
}

func (p *literal) word(w string) bool {
	p.peek()
	if !strings.HasPrefix(p.s[p.i:], w) {
		return false
	}
	p.i += len(w)
	return true
}

// text reads quoted text without escapes.
func (p *literal) text() (string, error) {
	q := p.peek()
	if q != '\'' && q != '"' {
		return "", fmt.Errorf("quoted text is missing in the header")
	}
	n := strings.IndexByte(p.s[p.i+1:], q)
	if n < 0 || strings.ContainsAny(p.s[p.i+1:p.i+1+n], "\\\n") {
		return "", fmt.Errorf("text in the header that no numpy writes")
	}
	s := p.s[p.i+1 : p.i+1+n]
	p.i += n + 2
	return s, nil
}

// shape reads a tuple of numbers; Python 2 wrote them with an L.
func (p *literal) shape() ([]int64, error) {
	if err := p.expect('('); err != nil {
		return nil, err
	}
	out := []int64{}
	comma := true
	for !p.take(')') {
		if !comma {
			return nil, fmt.Errorf("a comma is missing in the shape")
		}
		p.peek()
		n := 0
		for p.i+n < len(p.s) && p.s[p.i+n] >= '0' && p.s[p.i+n] <= '9' {
			n++
		}
		d, err := strconv.ParseInt(p.s[p.i:p.i+n], 10, 63)
		if err != nil || len(out) == maxDims {
			return nil, fmt.Errorf("a dimension that is no number, or more than %d of them", maxDims)
		}
		p.i += n
		if p.i < len(p.s) && p.s[p.i] == 'L' {
			p.i++
		}
		out = append(out, d)
		comma = p.take(',')
	}
	if len(out) == 1 && !comma {
		return nil, fmt.Errorf("the shape is no tuple")
	}
	return out, nil
}

// skip passes over brackets and what is in them.
func (p *literal) skip() error {
	depth := 0
	for {
		switch c := p.peek(); c {
		case 0:
			return fmt.Errorf("the dtype has no end")
		case '\'', '"':
			if _, err := p.text(); err != nil {
				return err
			}
			continue
		case '[', '(', '{':
			depth++
		case ']', ')', '}':
			depth--
		}
		p.i++
		if depth == 0 {
			return nil
		}
	}
}
