package numpy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
)

// DType is a numpy dtype.
type DType struct {
	DType safetensors.DType // 0 where safetensors has none
	Size  int64             // bytes of an element
	Swap  int64             // as in format.Tensor
	// Objects says that the elements are Python objects: their bytes are a
	// pickle.
	Objects bool
	what    string // what it is where DType is 0
	next    string
}

const (
	nextObjects = "load the file with numpy where its origin is trusted, and save the arrays inside it one by one with numpy.savez"
	nextFields  = "save each field of the array by itself: numpy.savez(FILE, **{n: a[n] for n in a.dtype.names})"
	nextText    = "leave the array out; text and dates are no weights"
	nextComplex = "save the real and the imaginary part as two float64 arrays: a.real and a.imag"
	nextLong    = "save the array as float64, if its precision may go: a.astype(numpy.float64)"
	nextRaw     = "save the array with a dtype that says what its bytes are: a.view(numpy.uint8)"
)

// Convertible gives an error for a dtype that safetensors does not have.
func (d DType) Convertible(name, where string) error {
	if d.DType != 0 {
		return nil
	}
	return &format.UnsupportedError{Format: name, Where: where, What: d.what, Next: d.next}
}

// parseDType reads a code such as "<f4", "|b1", ">c8" or "<M8[ns]".
func parseDType(code string) (DType, error) {
	if code == "" {
		return DType{}, fmt.Errorf("the dtype is empty")
	}
	order := byte(0)
	if strings.IndexByte("<>|=", code[0]) >= 0 {
		order, code = code[0], code[1:]
	}
	return newDType(code, order)
}

// newDType is the dtype of a code without byte order, and that order.
func newDType(code string, order byte) (DType, error) {
	bad := fmt.Errorf("the dtype %q is unknown", shorten(string(order)+code))
	if code == "" {
		return DType{}, bad
	}
	kind, digits := code[0], code[1:]
	if i := strings.IndexByte(digits, '['); i >= 0 && (kind == 'M' || kind == 'm') {
		digits = digits[:i]
	}
	size := int64(0)
	if digits != "" {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return DType{}, bad
		}
		size = int64(n)
	}
	if kind == '?' {
		kind, size = 'b', 1
	}
	d, ok := known(kind, size)
	if !ok {
		return d, bad
	}
	if d.DType == 0 || d.Swap <= 1 {
		d.Swap = 0
		return d, nil
	}
	switch order {
	case '<':
		d.Swap = 0
	case '>':
	default: // "=" is the order of whichever machine wrote it
		return d, fmt.Errorf("the dtype %q does not say in which order its bytes are", shorten(string(order)+code))
	}
	return d, nil
}

// known gives a dtype as if it were big-endian.
func known(kind byte, size int64) (DType, bool) {
	d := DType{Size: size, Swap: size}
	switch kind {
	case 'b':
		d.DType = sized(size, safetensors.BOOL, 0, 0, 0)
	case 'i':
		d.DType = sized(size, safetensors.I8, safetensors.I16, safetensors.I32, safetensors.I64)
	case 'u':
		d.DType = sized(size, safetensors.U8, safetensors.U16, safetensors.U32, safetensors.U64)
	case 'f':
		d.DType = sized(size, 0, safetensors.F16, safetensors.F32, safetensors.F64)
		if size == 12 || size == 16 {
			d.what, d.next = fmt.Sprintf("float%d array (long double)", 8*size), nextLong
		}
	case 'c':
		switch size {
		case 8:
			d.DType, d.Swap = safetensors.C64, 4
		case 16:
			d.what, d.next = "complex128 array", nextComplex
		case 24, 32:
			d.what, d.next = fmt.Sprintf("complex%d array (long double)", 8*size), nextLong
		}
	case 'O':
		d.Size, d.Objects, d.what, d.next = 8, true, "array of Python objects, which is a pickle", nextObjects
	case 'S', 'a':
		d.what, d.next = "array of byte strings", nextText
	case 'U':
		d.Size, d.what, d.next = 4*size, "array of text", nextText
	case 'V':
		d.what, d.next = "array of raw bytes (void)", nextRaw
	case 'M', 'm':
		d.Size, d.what, d.next = 8, "array of dates or time spans", nextText
	}
	return d, d.DType != 0 || d.what != ""
}

func sized(size int64, one, two, four, eight safetensors.DType) safetensors.DType {
	switch size {
	case 1:
		return one
	case 2:
		return two
	case 4:
		return four
	case 8:
		return eight
	}
	return 0
}

// structured is a dtype with fields, or with a shape of its own.
func structured(size int64, objects bool) DType {
	d := DType{Size: size, what: "structured array", next: nextFields}
	if objects {
		d.Objects, d.what, d.next = true, "structured array with Python objects in it, which is a pickle", nextObjects
	}
	return d
}

// PickledDType reads a dtype as it is pickled: numpy.dtype(code, align, copy)
// and a state (version, byte order, subarray, names, fields, itemsize,
// alignment, flags[, metadata]).
func PickledDType(v pickle.Value) (DType, error) {
	bad := func(what string) (DType, error) { return DType{}, fmt.Errorf("the dtype %s", what) }
	c, ok := v.(*pickle.Call)
	if !ok || calleeOf(c) != "numpy.dtype" {
		return bad("is none")
	}
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || len(args.Items) == 0 || len(args.Items) > 3 || len(c.States) > 1 {
		return bad("is made in no known way")
	}
	code, ok := textOf(args.Items[0])
	if !ok {
		return bad("has no code")
	}
	if len(c.States) == 0 {
		return parseDType(code)
	}
	state, ok := c.States[0].Value.(*pickle.Tuple)
	if !ok || len(state.Items) < 8 || len(state.Items) > 9 {
		return bad("has a state of another form")
	}
	order, ok := textOf(state.Items[1])
	if version, isInt := state.Items[0].(pickle.Int); !ok || !isInt || version < 3 || version > 4 || len(order) != 1 || strings.IndexByte("<>|=", order[0]) < 0 {
		return bad("has a state of another version")
	}
	if !isNone(state.Items[2]) || !isNone(state.Items[3]) || !isNone(state.Items[4]) {
		return fieldsOf(code, state)
	}
	return newDType(code, order[0])
}

// fieldsOf is a structured dtype: its size is in the state, and so is the
// flag NPY_ITEM_HASOBJECT.
func fieldsOf(code string, state *pickle.Tuple) (DType, error) {
	size, ok := state.Items[5].(pickle.Int)
	flags, ok2 := state.Items[7].(pickle.Int)
	if !ok || !ok2 || size < 0 || size > 1<<40 {
		return DType{}, fmt.Errorf("the structured dtype %q has no size", shorten(code))
	}
	return structured(int64(size), flags&1 != 0), nil
}

func isNone(v pickle.Value) bool { _, ok := v.(pickle.None); return ok }

// shorten keeps what is shown of a text of the input small.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
