package numpy

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
)

// isArray says whether a call makes an array.
func (f *flattener) isArray(c *pickle.Call) bool {
	name := calleeOf(c)
	return name == callReconstruct || name == callFromBuffer || f.opt.Known[name]
}

// array decodes an array, once for each object: the same object under two
// names is one tensor.
func (f *flattener) array(c *pickle.Call, where string) (*format.Tensor, error) {
	if t := f.arrays[c]; t != nil {
		return t, nil
	}
	t, err := f.decode(c, where)
	if err != nil {
		return nil, err
	}
	f.arrays[c] = t
	return t, nil
}

func (f *flattener) decode(c *pickle.Call, where string) (*format.Tensor, error) {
	name := calleeOf(c)
	if f.opt.Known[name] {
		t, err := f.opt.Array(c)
		if t == nil && err == nil {
			err = f.broken(where, c.Offset, "the object is no array")
		}
		return t, err
	}
	if len(c.Items)+len(c.Appends) > 0 {
		return nil, f.broken(where, c.Offset, "items are set on an array")
	}
	args, ok := c.Args.(*pickle.Tuple)
	if !ok {
		return nil, f.broken(where, c.Offset, "an array is made without arguments")
	}
	if name == callFromBuffer {
		return f.fromBuffer(c, args.Items, where)
	}
	return f.reconstruct(c, args.Items, where)
}

func (f *flattener) broken(where string, at int64, layout string, args ...any) error {
	return &format.Error{Format: f.opt.name(), Where: where, Offset: at, Detail: fmt.Sprintf(layout, args...)}
}

// reconstruct decodes _reconstruct(ndarray, (0,), b'b') and its state
// ([version,] shape, dtype, is_fortran, bytes).
func (f *flattener) reconstruct(c *pickle.Call, args []pickle.Value, where string) (*format.Tensor, error) {
	if len(args) != 3 {
		return nil, f.broken(where, c.Offset, "an array is made with %d arguments, not 3", len(args))
	}
	class, ok := args[0].(*pickle.Global)
	if !ok || fullName(class) != "numpy.ndarray" {
		return nil, f.broken(where, c.Offset, "an array is made of another class than numpy.ndarray")
	}
	if len(c.States) != 1 {
		return nil, f.broken(where, c.Offset, "an array has %d states, not one", len(c.States))
	}
	at := c.States[0].Offset
	state, ok := c.States[0].Value.(*pickle.Tuple)
	if !ok || len(state.Items) < 4 || len(state.Items) > 5 {
		return nil, f.broken(where, at, "the state of an array has another form")
	}
	items := state.Items
	if len(items) == 5 {
		if v, ok := items[0].(pickle.Int); !ok || v < 0 || v > 1 {
			return nil, f.broken(where, at, "the state of an array has another version")
		}
		items = items[1:]
	}
	fortran, ok := truth(items[2])
	if !ok {
		return nil, f.broken(where, at, "the order of an array is neither True nor False")
	}
	return f.build(items[0], items[1], items[3], fortran, where, at)
}

// fromBuffer decodes _frombuffer(buffer, dtype, shape, order[, axes]).
func (f *flattener) fromBuffer(c *pickle.Call, args []pickle.Value, where string) (*format.Tensor, error) {
	if len(args) < 4 || len(args) > 5 || len(c.States) > 0 {
		return nil, f.broken(where, c.Offset, "an array is made with %d arguments, not 4", len(args))
	}
	order, _ := textOf(args[3])
	axes := len(args) == 5 && !isNone(args[4])
	if order != "C" && order != "F" && (order != "K" || !axes) {
		return nil, f.broken(where, c.Offset, "the order %q of an array is unknown", shorten(order))
	}
	t, err := f.build(args[2], args[1], args[0], order == "F", where, c.Offset)
	if err != nil || order != "K" {
		return t, err
	}
	return f.transpose(t, args[4], where, c.Offset)
}

// transpose puts an array's dimensions into another order, as numpy does
// since 2.3 for arrays that are neither C nor Fortran.
func (f *flattener) transpose(t *format.Tensor, axes pickle.Value, where string, at int64) (*format.Tensor, error) {
	list, ok := PickledShape(axes)
	seen := map[int64]bool{}
	for _, a := range list {
		ok = ok && a < int64(len(t.Size)) && !seen[a]
		seen[a] = true
	}
	if !ok || len(list) != len(t.Size) {
		return nil, f.broken(where, at, "the order of the dimensions is none")
	}
	out := *t
	out.Shape, out.Size, out.Stride = make([]uint64, len(list)), make([]int64, len(list)), make([]int64, len(list))
	for i, a := range list {
		out.Shape[i], out.Size[i], out.Stride[i] = t.Shape[a], t.Size[a], t.Stride[a]
	}
	return &out, nil
}

func (f *flattener) build(shape, dtype, raw pickle.Value, fortran bool, where string, at int64) (*format.Tensor, error) {
	d, err := PickledDType(dtype)
	if err != nil {
		return nil, f.broken(where, at, "%v", err)
	}
	if err := d.Convertible(f.opt.name(), where); err != nil {
		return nil, err
	}
	dims, ok := PickledShape(shape)
	n, fits := Count(dims, d.Size)
	if !ok || !fits {
		return nil, f.broken(where, at, "the shape of an array is none")
	}
	st, err := f.bytes(raw, where, at)
	if err != nil {
		return nil, err
	}
	if st.Length != n {
		return nil, f.broken(where, at, "the array takes %d bytes, %d are there", n, st.Length)
	}
	t := NewTensor("", d, dims, fortran, st)
	return &t, nil
}

// bytes gives the storage that a bytes object is.
func (f *flattener) bytes(v pickle.Value, where string, at int64) (*format.Storage, error) {
	if st := f.storages[v]; st != nil {
		return st, nil
	}
	st, err := f.newStorage(v, where, at)
	if err == nil {
		f.storages[v] = st
	}
	return st, err
}

func (f *flattener) newStorage(v pickle.Value, where string, at int64) (*format.Storage, error) {
	switch v := v.(type) {
	case *pickle.Bytes:
		if v.Data == nil || pickle.OpcodeName(v.Opcode) != "STRING" && int64(len(v.Data)) == v.Len {
			return f.opt.Storage(v.Offset, v.Len), nil
		}
		return f.inMemory(v.Data, where)
	case *pickle.List:
		return nil, &format.UnsupportedError{Format: f.opt.name(), Where: where, What: "array of Python objects", Next: nextObjects}
	case *pickle.Call:
		if text := f.longText(v); text != nil {
			return f.inText(text, where, at)
		}
		b, err := f.computed(v, where, at)
		if err != nil {
			return nil, err
		}
		if b == nil { // bytearray(bytes)
			args, _ := v.Args.(*pickle.Tuple)
			return f.bytes(args.Items[0], where, at)
		}
		return f.inMemory(b, where)
	}
	return nil, f.broken(where, at, "the content of an array is no bytes")
}

// longText gives the text of _codecs.encode(text, 'latin1') and of
// bytearray(text, 'latin-1') where it stayed in the file.
func (f *flattener) longText(c *pickle.Call) *pickle.LongText {
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || len(args.Items) != 2 || len(c.Items)+len(c.Appends)+len(c.States) > 0 {
		return nil
	}
	text, _ := args.Items[0].(*pickle.LongText)
	if coding, _ := textOf(args.Items[1]); text == nil || !latin1Coding(calleeOf(c), coding) {
		return nil
	}
	return text
}

// inText is the storage of bytes that are written as text.
func (f *flattener) inText(text *pickle.LongText, where string, at int64) (*format.Storage, error) {
	if !text.Latin1 {
		return nil, f.broken(where, at, "text of an array that is no Latin-1")
	}
	data := f.texts.New(text.Runes, func() (io.Reader, error) { return text.Bytes(f.opt.source), nil })
	return &format.Storage{Data: data, Length: text.Runes, Offset: -1, Key: "text at " + strconv.FormatInt(text.Offset, 10)}, nil
}

// latin1Coding says whether a call makes bytes of Latin-1 text.
func latin1Coding(callee, coding string) bool {
	return callee == callEncode && coding == "latin1" || callee == callByteArray && (coding == "latin1" || coding == "latin-1")
}

func (f *flattener) inMemory(b []byte, where string) (*format.Storage, error) {
	if f.memory -= int64(len(b)); f.memory < 0 {
		return nil, f.tooMuch(where)
	}
	return &format.Storage{Data: bytes.NewReader(b), Length: int64(len(b)), Offset: -1}, nil
}

func (f *flattener) tooMuch(where string) error {
	return &format.UnsupportedError{Format: f.opt.name(), Where: where,
		What: fmt.Sprintf("pickle with more than %d bytes of arrays written as text (protocol 2 or below)", f.opt.Limits.memory()),
		Next: "pickle it again with protocol 4: pickle.dump(OBJECT, FILE, protocol=4)"}
}

// computed decodes what picklers write for bytes where the protocol has none:
// _codecs.encode(text, 'latin1'), bytes(), bytearray(...). nil stands for the
// bytes that are the only argument.
func (f *flattener) computed(c *pickle.Call, where string, at int64) ([]byte, error) {
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || len(c.Items)+len(c.Appends)+len(c.States) > 0 {
		return nil, f.broken(where, c.Offset, "the content of an array is no bytes")
	}
	name, n := calleeOf(c), len(args.Items)
	switch {
	case (name == callBytes || name == callByteArray) && n == 0:
		return []byte{}, nil
	case name == callByteArray && n == 1:
		if _, ok := args.Items[0].(*pickle.Bytes); ok {
			return nil, nil
		}
	case n == 2:
		text, ok := args.Items[0].(pickle.String)
		if coding, _ := textOf(args.Items[1]); !ok || !text.Valid || !latin1Coding(name, coding) {
			break
		}
		if int64(len(text.S)) > 2*f.memory {
			return nil, f.tooMuch(where)
		}
		return latin1(text.S, func() error { return f.broken(where, at, "text of an array that is no Latin-1") })
	}
	return nil, f.broken(where, c.Offset, "the content of an array is no bytes")
}

func latin1(s string, bad func() error) ([]byte, error) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return nil, bad()
		}
		b = append(b, byte(r))
	}
	return b, nil
}

func truth(v pickle.Value) (bool, bool) {
	switch v := v.(type) {
	case pickle.Bool:
		return bool(v), true
	case pickle.Int: // Python 2 in protocol 0 and 1
		return v == 1, v == 0 || v == 1
	}
	return false, false
}
