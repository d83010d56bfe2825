package scan

import (
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// pickledDtype is what an unpickler makes of a numpy dtype: the bytes of an
// item, and whether items hold Python objects.
type pickledDtype struct {
	size    int64
	objects bool
}

// The flags of a dtype that decide how numpy reads the state of an array
// (numpy/core/include/numpy/ndarraytypes.h: NPY_ITEM_REFCOUNT,
// NPY_LIST_PICKLE).
const dtypeObjectFlags = 1 | 2

// maxDtypeDepth bounds dtypes in dtypes.
const maxDtypeDepth = 16

// maxDtypeSteps bounds what is read of the dtypes of one pickle: they can share
// their fields.
const maxDtypeSteps = 1 << 20

// dtypeReader reads the dtypes of a pickle.
type dtypeReader struct{ steps int }

// read reads dtype(code, align, copy) with the state that follows:
// (version, byte order, subtype, names, fields, size, alignment, flags), as
// arraydescr_reduce of numpy/core/src/multiarray/descriptor.c writes it. It is
// false for whatever numpy would not write: a state can give a dtype sizes,
// fields and flags that its code denies, and numpy then reads memory that is
// not the array's, or takes numbers for addresses.
func (r *dtypeReader) read(v pickle.Value, depth int) (pickledDtype, bool) {
	var d pickledDtype
	c, ok := v.(*pickle.Call)
	if r.steps++; !ok || depth > maxDtypeDepth || r.steps > maxDtypeSteps {
		return d, false
	}
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return d, false
	}
	args, ok := c.Args.(*pickle.Tuple)
	if !ok {
		return d, false
	}
	if m, n := g.Mapped(); m == "numpy.dtypes" && strings.HasSuffix(n, "DType") {
		return namedDtype(n, len(args.Items) == 0 && len(c.States) == 0)
	} else if m != "numpy" || n != "dtype" || len(args.Items) == 0 || len(c.States) > 1 {
		return d, false
	}
	var state []pickle.Value
	if len(c.States) == 1 {
		s, ok := c.States[0].Value.(*pickle.Tuple)
		if !ok || len(s.Items) < 5 || len(s.Items) > 9 {
			return d, false
		}
		state = s.Items
	}
	if n := len(state); n > 0 && n < 8 { // written before numpy 1.3
		kind, d, ok := codeOf(args.Items[0], nil)
		return d, ok && strings.IndexByte("?biufc", kind) >= 0 && d.parts(r, state, kind, depth)
	}
	kind, d, ok := codeOf(args.Items[0], state)
	if !ok || state == nil {
		return d, ok && kind != 'V'
	}
	return d, d.agrees(r, state, kind, depth)
}

// codeOf splits a dtype's code into kind and size. The dtype of records has a
// class for a code, and its size in the state.
func codeOf(v pickle.Value, state []pickle.Value) (kind byte, d pickledDtype, ok bool) {
	if g, ok := v.(*pickle.Global); ok && state != nil {
		if m, n := g.Mapped(); topOf(m) == "numpy" && n == "record" {
			size, ok := state[5].(pickle.Int)
			return 'V', pickledDtype{size: int64(size)}, ok && size >= 0
		}
	}
	code, ok := text(v)
	t := strings.TrimLeft(code, "<>=|")
	if !ok || len(code)-len(t) > 1 || t == "" {
		return 0, d, false
	}
	kind = t[0]
	if t == "?" {
		return kind, pickledDtype{size: 1}, true
	}
	if i := strings.IndexByte(t, '['); i > 0 && (kind == 'M' || kind == 'm') && strings.HasSuffix(t, "]") {
		t = t[:i]
	}
	for _, c := range t[1:] {
		if c < '0' || c > '9' || d.size > 1<<32 {
			return kind, d, false
		}
		d.size = d.size*10 + int64(c-'0')
	}
	digits := len(t) > 1
	switch kind {
	case 'b', 'i', 'u', 'f', 'c', 'M', 'm':
		return kind, d, digits && d.size > 0 && d.size <= 32
	case 'U':
		d.size *= 4
		return kind, d, digits
	case 'S', 'a', 'V':
		return kind, d, digits
	case 'O':
		return kind, pickledDtype{size: 8, objects: true}, true
	}
	return kind, d, false
}

// namedDtype is numpy 2's way to name a dtype by its class.
func namedDtype(name string, plain bool) (pickledDtype, bool) {
	size := map[string]int64{
		"BoolDType": 1, "Int8DType": 1, "UInt8DType": 1, "Int16DType": 2, "UInt16DType": 2, "Float16DType": 2,
		"Int32DType": 4, "UInt32DType": 4, "Float32DType": 4, "Int64DType": 8, "UInt64DType": 8, "Float64DType": 8,
		"Complex64DType": 8, "Complex128DType": 16,
	}[name]
	return pickledDtype{size: size}, plain && size > 0
}

// agrees checks a state against the code.
func (d *pickledDtype) agrees(r *dtypeReader, state []pickle.Value, kind byte, depth int) bool {
	size, isSize := state[5].(pickle.Int)
	flags, isFlags := state[7].(pickle.Int)
	if !isSize || !isFlags || !d.parts(r, state, kind, depth) {
		return false
	}
	switch kind {
	case 'U', 'S', 'a', 'V':
		if int64(size) != d.size {
			return false
		}
	default:
		if size != -1 && int64(size) != d.size {
			return false
		}
	}
	if d.objects {
		return flags&dtypeObjectFlags == dtypeObjectFlags
	}
	return flags&dtypeObjectFlags == 0
}

// parts checks the subtype and the fields, which only a V has: all of them lie
// inside the item.
func (d *pickledDtype) parts(r *dtypeReader, state []pickle.Value, kind byte, depth int) bool {
	none := func(v pickle.Value) bool { return v == pickle.Value(pickle.None{}) }
	if kind != 'V' {
		return none(state[2]) && none(state[3]) && none(state[4])
	}
	if !none(state[2]) {
		sub, ok := state[2].(*pickle.Tuple)
		if !ok || len(sub.Items) != 2 {
			return false
		}
		item, ok := r.read(sub.Items[0], depth+1)
		n, counted := countOf(sub.Items[1], item.size)
		d.objects = item.objects
		return ok && counted && n == d.size && none(state[3]) && none(state[4])
	}
	if none(state[4]) {
		return none(state[3])
	}
	fields, ok := state[4].(*pickle.Dict)
	if !ok {
		return false
	}
	for _, it := range fields.Items {
		f, ok := it.Value.(*pickle.Tuple)
		if !ok || len(f.Items) < 2 {
			return false
		}
		item, ok := r.read(f.Items[0], depth+1)
		at, isInt := f.Items[1].(pickle.Int)
		if !ok || !isInt || at < 0 || int64(at) > d.size || item.size > d.size-int64(at) {
			return false
		}
		d.objects = d.objects || item.objects
	}
	return true
}

// countOf multiplies a shape, a tuple of numbers, by the bytes of an item.
func countOf(shape pickle.Value, size int64) (int64, bool) {
	const most = 1 << 62
	t, ok := shape.(*pickle.Tuple)
	if !ok || len(t.Items) > 64 {
		return 0, false
	}
	n, empty := max(size, 1), size == 0
	for _, v := range t.Items {
		k, ok := v.(pickle.Int)
		if !ok || k < 0 {
			return 0, false
		}
		if k == 0 {
			empty = true
			continue
		}
		if n > most/int64(k) {
			n = most
			continue
		}
		n *= int64(k)
	}
	if empty {
		return 0, true
	}
	return n, true
}
