package onnx

import (
	"fmt"
	"io"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

// extent is a stretch of the file.
type extent struct{ at, length int64 }

// tensor is what a TensorProto says; the data is where it lies.
type tensor struct {
	name     string
	kind     uint64
	shape    []uint64
	raw      *extent
	typed    []chunk
	typedAs  uint64 // the field of typed
	texts    bool   // has string_data
	segment  bool
	external map[string]string // nil: the data is in this file
	location uint64
	at       int64
}

// chunk is a field of typed data: packed content, or one value.
type chunk struct {
	extent
	wire  uint64
	value uint64
}

const maxDims = 64

// head reads a TensorProto without its data.
func (m *reader) head(f *field) (*tensor, error) {
	t := &tensor{at: f.at}
	err := m.message(f, func(f *field) error { return m.part(t, f) })
	return t, within(t.name, err)
}

// part takes a field of TensorProto.
func (m *reader) part(t *tensor, f *field) (err error) {
	switch f.number {
	case 1:
		return m.dims(t, f)
	case 2:
		t.kind, err = m.number(f)
	case 3:
		t.segment = true
	case floatData, int32Data, int64Data, doubleData, uint64Data:
		return m.typed(t, f)
	case stringData:
		t.texts = true
	case 8:
		t.name, err = m.text(f, maxName)
	case 9:
		if t.raw != nil || f.wire != wireBytes {
			return m.Errorf(f.at, "", "raw data that is there twice, or is no bytes")
		}
		t.raw = &extent{m.Pos(), int64(f.value)}
	case 13:
		return m.externalPair(t, f)
	case 14:
		t.location, err = m.number(f)
	}
	return err
}

// dims takes dimensions, packed or one by one.
func (m *reader) dims(t *tensor, f *field) error {
	if f.wire == wireVarint {
		return m.dim(t, f.at, f.value)
	}
	if f.wire != wireBytes {
		return m.Errorf(f.at, "", "dimensions of wire type %d", f.wire)
	}
	outer, err := m.Enter(f.value)
	if err != nil {
		return err
	}
	for m.Left() > 0 {
		v, err := m.varint()
		if err != nil {
			return err
		}
		if err := m.dim(t, f.at, v); err != nil {
			return err
		}
	}
	m.Leave(outer)
	return nil
}

func (m *reader) dim(t *tensor, at int64, v uint64) error {
	switch {
	case int64(v) < 0:
		return m.Errorf(at, "", "a dimension of %d", int64(v))
	case len(t.shape) >= maxDims:
		return m.Errorf(at, "", "more than %d dimensions", maxDims)
	}
	t.shape = append(t.shape, v)
	return nil
}

// typed remembers where typed data lies. One value at a time is how old
// writers have it, and counts as a field each.
func (m *reader) typed(t *tensor, f *field) error {
	if t.typedAs != 0 && t.typedAs != f.number {
		return m.Errorf(f.at, "", "data of two types")
	}
	if want := wireOf(f.number); f.wire != wireBytes && f.wire != want {
		return m.Errorf(f.at, "", "typed data of wire type %d", f.wire)
	}
	t.typedAs = f.number
	c := chunk{wire: f.wire, value: f.value}
	if f.wire == wireBytes {
		c.extent = extent{m.Pos(), int64(f.value)}
	}
	// A bool for a weight costs this much memory before it is decoded.
	if m.decoded -= chunkCost; m.decoded < 0 {
		return m.tooMuch(f.at)
	}
	t.typed = append(t.typed, c)
	return nil
}

const chunkCost = 32

func (m *reader) tooMuch(at int64) error {
	return m.Errorf(at, "", "more than %d bytes of typed data to decode; save the model with raw data", m.lim.Decoded)
}

// wireOf is the wire type of the values of a field of typed data.
func wireOf(number uint64) uint64 {
	switch number {
	case floatData:
		return wire32
	case doubleData:
		return wire64
	}
	return wireVarint
}

// initializer makes a tensor of the checkpoint.
func (m *reader) initializer(f *field) error {
	t, err := m.head(f)
	if err != nil {
		return err
	}
	if t.name == "" {
		return m.Errorf(f.at, "", "an initialiser without a name")
	}
	if err := m.budget.Take(len(t.name)); err != nil {
		return err
	}
	if m.names[t.name] {
		return m.Errorf(f.at, t.name, "two initialisers have this name")
	}
	m.names[t.name] = true
	kind, err := m.kindOf(t)
	if err != nil {
		return err
	}
	return within(t.name, m.place(t, kind))
}

// kindOf says whether safetensors can hold a tensor.
func (m *reader) kindOf(t *tensor) (dataType, error) {
	kind, known := dataTypes[t.kind]
	bad := func(what, next string) (dataType, error) {
		return kind, &format.UnsupportedError{Format: name, Where: t.name, What: what, Next: next}
	}
	switch {
	case t.kind == 0:
		return kind, m.Errorf(t.at, t.name, "no element type")
	case !known:
		return bad(fmt.Sprintf("tensor of element type %d, which is not known", t.kind), "convert the tensor to another type in the ONNX model first")
	case kind.dtype == 0:
		return bad(kind.name+" tensor", kind.next())
	case t.segment:
		return bad("tensor that is cut into segments", "save the model again with a current onnx package: onnx.save(onnx.load(path), path)")
	case kind.dtype == safetensors.F4 && (len(t.shape) == 0 || t.shape[len(t.shape)-1]%2 != 0):
		return bad(fmt.Sprintf("FLOAT4E2M1 tensor of shape %v, whose last dimension is no whole bytes", t.shape), "pad the tensor to an even last dimension in the ONNX model first")
	}
	return kind, nil
}

// place finds a tensor's bytes.
func (m *reader) place(t *tensor, kind dataType) error {
	count, ok := format.Elements(t.shape)
	if !ok {
		return m.Errorf(t.at, "", "the product of the dimensions %v is too large", t.shape)
	}
	size := format.Sizes(t.shape)
	if kind.dtype == safetensors.F4 {
		size[len(size)-1] /= 2
		count /= 2
	}
	st, err := m.storage(t, kind, count)
	if err != nil {
		return err
	}
	m.ck.Tensors = append(m.ck.Tensors, format.Tensor{
		Name: t.name, DType: kind.dtype, Shape: t.shape, Size: size, Stride: format.RowMajor(size), Storage: st,
	})
	return nil
}

// storage gives the bytes of count elements, wherever they are.
func (m *reader) storage(t *tensor, kind dataType, count uint64) (*format.Storage, error) {
	want := int64(count * kind.elementBytes()) // at most 2^59
	places := 0
	for _, there := range []bool{t.raw != nil, t.typed != nil, t.external != nil || t.location != 0} {
		if there {
			places++
		}
	}
	switch {
	case places > 1 && !(t.raw != nil && t.raw.length == 0): // an empty raw_data says nothing
		return nil, m.Errorf(t.at, "", "its data is given in more than one way")
	case t.texts:
		return nil, m.Errorf(t.at, "", "texts in a tensor of type %s", kind.name)
	case t.external != nil || t.location != 0:
		return m.outside(t, want)
	case t.typed != nil:
		return m.decode(t, kind, count)
	case t.raw == nil && want == 0:
		return m.rangeOf(extent{t.at, 0}), nil
	case t.raw == nil:
		return nil, m.Errorf(t.at, "", "a tensor of %d bytes without data", want)
	case t.raw.length != want:
		return nil, m.Errorf(t.raw.at, "", "raw data of %d bytes for %d elements of type %s", t.raw.length, count, kind.name)
	}
	return m.rangeOf(*t.raw), nil
}

func (m *reader) rangeOf(e extent) *format.Storage {
	return &format.Storage{Data: io.NewSectionReader(m.file, e.at, e.length), Length: e.length, Offset: e.at}
}
