package safetensors

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// headerAlignment is where data starts in what the reference writes.
const headerAlignment = 8

// MaxAlignment is the largest alignment of the data that can be asked for.
const MaxAlignment = 1 << 20

// Spec is a tensor to be written.
type Spec struct {
	Name  string
	DType DType
	Shape []uint64
}

// NewHeader lays tensors out as the reference writer does: by dtype rank
// descending, then name in byte order; metadata first with its keys sorted;
// compact JSON; spaces up to a multiple of 8. raw is the file's first bytes:
// length, JSON and padding. A name twice, a name that is not UTF-8 or is
// "__metadata__", a size that overflows or does not fill whole bytes, and a
// header above MaxHeaderLength are errors, all of type *Error.
//
// Nil metadata is left out, empty metadata is written. h is what ReadHeader
// gives for the file: its tensors are ordered by place, which for tensors
// without elements is not the order in the JSON.
func NewHeader(specs []Spec, metadata map[string]string) (h *Header, raw []byte, err error) {
	return NewAlignedHeader(specs, metadata, headerAlignment)
}

// NewAlignedHeader is NewHeader with spaces up to a multiple of align, a power
// of two from 8 to MaxAlignment: there the data starts. Beyond 8 the file is
// no longer the one that the reference writes, and has another digest.
func NewAlignedHeader(specs []Spec, metadata map[string]string, align int) (h *Header, raw []byte, err error) {
	if align < headerAlignment || align > MaxAlignment || align&(align-1) != 0 {
		return nil, nil, &Error{Kind: InvalidHeaderLength, Detail: fmt.Sprintf("alignment %d is no power of two from %d to %d", align, headerAlignment, MaxAlignment)}
	}
	order := slices.Clone(specs)
	slices.SortFunc(order, func(a, b Spec) int {
		if c := cmp.Compare(b.DType, a.DType); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	if err := checkNames(order); err != nil {
		return nil, nil, err
	}
	h = &Header{Tensors: make([]Tensor, 0, len(order)), Metadata: maps.Clone(metadata)}
	var at uint64
	for _, s := range order {
		t, err := place(s, at)
		if err != nil {
			return nil, nil, err
		}
		at = t.End
		h.Tensors = append(h.Tensors, t)
	}
	if raw, err = encode(h, align); err != nil {
		return nil, nil, err
	}
	h.Length = uint64(len(raw)) - 8
	if at > math.MaxInt64-uint64(len(raw)) {
		return nil, nil, &Error{Kind: ValidationOverflow, Detail: "the file would be larger than 2^63 bytes"}
	}
	slices.SortFunc(h.Tensors, func(a, b Tensor) int { return byPlace(&a, &b) })
	return h, raw, nil
}

// checkNames refuses names that no header can hold, or not twice.
func checkNames(specs []Spec) error {
	seen := make(map[string]struct{}, len(specs))
	for i := range specs {
		name := specs[i].Name
		if err := checkText(name, "a tensor name"); err != nil {
			return err
		}
		if name == metadataKey {
			return &Error{Kind: InvalidHeader, Tensor: name, Detail: "a tensor cannot have this name"}
		}
		if _, twice := seen[name]; twice {
			return &Error{Kind: InvalidHeader, Tensor: name, Detail: "the name is there twice"}
		}
		seen[name] = struct{}{}
	}
	return nil
}

func checkText(s, what string) error {
	if !utf8.ValidString(s) {
		return &Error{Kind: InvalidHeader, Detail: fmt.Sprintf("%s is not UTF-8: %s", what, quote(s))}
	}
	return nil
}

// place gives a tensor its bytes from begin on.
func place(s Spec, begin uint64) (Tensor, error) {
	if s.DType.Bits() == 0 {
		return Tensor{}, &Error{Kind: InvalidHeaderDeserialization, Tensor: s.Name, Detail: "unknown dtype " + s.DType.String()}
	}
	n, bad := byteSize(s.DType, s.Shape)
	if bad != nil {
		bad.Tensor = s.Name
		return Tensor{}, bad
	}
	if n > math.MaxInt64-begin {
		return Tensor{}, &Error{Kind: ValidationOverflow, Tensor: s.Name, Detail: "the file would be larger than 2^63 bytes"}
	}
	return Tensor{Name: s.Name, DType: s.DType, Shape: slices.Clone(s.Shape), Begin: begin, End: begin + n}, nil
}

// encode writes length, JSON and padding.
func encode(h *Header, align int) ([]byte, error) {
	b := append(make([]byte, 8, 64+128*len(h.Tensors)), '{')
	if h.Metadata != nil {
		b = append(b, `"__metadata__":{`...)
		for i, key := range slices.Sorted(maps.Keys(h.Metadata)) {
			value := h.Metadata[key]
			if err := cmp.Or(checkText(key, "a metadata key"), checkText(value, "a metadata value"), checkLength(len(b)+len(key)+len(value))); err != nil {
				return nil, err
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, key), ':')
			b = appendString(b, value)
		}
		b = append(b, '}')
	}
	for i := range h.Tensors {
		if len(b) > len("12345678{") {
			b = append(b, ',')
		}
		if err := checkLength(len(b) + len(h.Tensors[i].Name)); err != nil {
			return nil, err
		}
		b = appendTensor(b, &h.Tensors[i])
	}
	b = append(b, '}')
	for len(b)%align != 0 {
		b = append(b, ' ')
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b, checkLength(len(b))
}

// checkLength refuses a file whose first n bytes, length included, are header
// where that is too many.
func checkLength(n int) error {
	if n-8 > MaxHeaderLength {
		return &Error{Kind: HeaderTooLarge, Detail: fmt.Sprintf("the header is longer than %d bytes", MaxHeaderLength)}
	}
	return nil
}

func appendTensor(b []byte, t *Tensor) []byte {
	b = appendString(b, t.Name)
	b = append(b, `:{"dtype":"`...)
	b = append(b, t.DType.String()...)
	b = append(b, `","shape":`...)
	b = appendShape(b, t.Shape)
	b = append(b, `,"data_offsets":[`...)
	b = strconv.AppendUint(b, t.Begin, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, t.End, 10)
	return append(b, ']', '}')
}

func appendShape(b []byte, shape []uint64) []byte {
	b = append(b, '[')
	for i, dim := range shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, dim, 10)
	}
	return append(b, ']')
}

// appendString writes a JSON string as serde_json does: escapes only where
// JSON demands them, the short form where there is one, lower-case digits.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	plain := 0 // start of what needs no escape
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\t':
			b = append(b, '\\', 't')
		case '\n':
			b = append(b, '\\', 'n')
		case '\f':
			b = append(b, '\\', 'f')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}

// Aliases gives the names that the metadata lists as removed ties, each with
// the name of the tensor kept for it: entries whose key is no tensor and whose
// value is one. That is how the Hugging Face tools record shared tensors
// (bindings/python/py_src/safetensors/torch.py of the reference). The key
// "format" is never one. Nil where there are none.
func (h *Header) Aliases() map[string]string {
	if len(h.Metadata) == 0 {
		return nil
	}
	names := make(map[string]struct{}, len(h.Tensors))
	for i := range h.Tensors {
		names[h.Tensors[i].Name] = struct{}{}
	}
	var aliases map[string]string
	for removed, kept := range h.Metadata {
		_, isTensor := names[removed]
		if _, ok := names[kept]; !ok || isTensor || removed == "format" || removed == metadataKey {
			continue
		}
		if aliases == nil {
			aliases = map[string]string{}
		}
		aliases[removed] = kept
	}
	return aliases
}
