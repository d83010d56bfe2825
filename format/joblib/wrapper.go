package joblib

import (
	"math"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
)

// wrapperName is the class whose objects stand for arrays.
const wrapperName = "joblib.numpy_pickle.NumpyArrayWrapper"

func isWrapper(v pickle.Value) (*pickle.Call, bool) {
	c, ok := v.(*pickle.Call)
	if !ok {
		return nil, false
	}
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return nil, false
	}
	module, name := g.Mapped()
	return c, module+"."+name == wrapperName
}

// after is asked after each BUILD how many bytes follow that are no opcodes:
// the array's, after a length byte and padding where it is aligned.
func (d *dump) after(b pickle.Build, at int64) int64 {
	c, ok := isWrapper(b.Object)
	if !ok {
		return 0
	}
	if d.arrays[c] != nil {
		d.fail(d.broken(at, "an array is described twice"))
		return 0
	}
	f := &found{}
	d.arrays[c] = f
	w, err := d.read(b.State.Value, at)
	if err != nil {
		d.fail(err)
		return 0
	}
	pad, err := d.padding(w, at)
	if err != nil {
		d.fail(err)
		return 0
	}
	if w.bytes > d.end-at-pad {
		d.fail(d.broken(at, "an array takes %d bytes, more than are left", w.bytes))
		return 0
	}
	if err := w.dtype.Convertible(d.name, ""); err != nil {
		f.err = err // known only by name once the path to it is
		return pad + w.bytes
	}
	t := numpy.NewTensor("", w.dtype, w.shape, w.fortran, d.storage(at+pad, w.bytes))
	f.tensor = &t
	return pad + w.bytes
}

func (d *dump) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// array gives what was found behind a wrapper.
func (d *dump) array(c *pickle.Call) (*format.Tensor, error) {
	f := d.arrays[c]
	if f == nil {
		return nil, d.broken(c.Offset, "an array is never described")
	}
	return f.tensor, f.err
}

// wrapper is the state of a NumpyArrayWrapper.
type wrapper struct {
	dtype   numpy.DType
	shape   []int64
	bytes   int64
	fortran bool
	aligned bool
}

func (d *dump) read(state pickle.Value, at int64) (*wrapper, error) {
	dict, ok := state.(*pickle.Dict)
	if !ok {
		return nil, d.broken(at, "an array is described by something that is no dictionary")
	}
	fields := map[string]pickle.Value{}
	for _, it := range dict.Items {
		key, ok := it.Key.(pickle.String)
		if _, again := fields[key.S]; !ok || again {
			return nil, d.broken(at, "an array is described by keys that are no text, or there twice")
		}
		fields[key.S] = it.Value
	}
	w := &wrapper{}
	class, ok := fields["subclass"].(*pickle.Global)
	if !ok {
		return nil, d.broken(at, "the class of an array is none")
	}
	if module, name := class.Mapped(); module+"."+name != "numpy.ndarray" {
		return nil, &format.UnsupportedError{Format: d.name, What: "array of the class " + module + "." + name, Next: "dump it again as a plain array: numpy.asarray(a)"}
	}
	var err error
	if w.dtype, err = numpy.PickledDType(fields["dtype"]); err != nil {
		return nil, d.broken(at, "%v", err)
	}
	if w.dtype.Objects {
		return nil, w.dtype.Convertible(d.name, "")
	}
	if w.shape, ok = numpy.PickledShape(fields["shape"]); !ok {
		return nil, d.broken(at, "the shape of an array is none")
	}
	if w.bytes, ok = numpy.Count(w.shape, max(w.dtype.Size, 0)); !ok || w.bytes > math.MaxInt64/2 {
		return nil, d.broken(at, "an array is larger than any file")
	}
	switch order, _ := fields["order"].(pickle.String); order.S {
	case "C":
	case "F":
		w.fortran = true
	default:
		return nil, d.broken(at, "the order of an array is neither C nor F")
	}
	if v, ok := fields["numpy_array_alignment_bytes"]; ok {
		_, none := v.(pickle.None)
		w.aligned = !none
	}
	return w, nil
}

// padding is the length of what lies between the description of an aligned
// array and its bytes: a byte with a number, and as many bytes.
func (d *dump) padding(w *wrapper, at int64) (int64, error) {
	if !w.aligned {
		return 0, nil
	}
	var one [1]byte
	if n, err := d.r.ReadAt(one[:], at); n < 1 {
		return 0, d.broken(at, "the padding of an array is missing (%v)", err)
	}
	if n := 1 + int64(one[0]); n <= d.end-at {
		return n, nil
	}
	return 0, d.broken(at, "the padding of an array is longer than the file")
}
