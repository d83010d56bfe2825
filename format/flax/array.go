package flax

import (
	"fmt"
	"io"
	"strconv"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

// dtypes are the names of numpy and ml_dtypes that safetensors has too.
var dtypes = map[string]safetensors.DType{
	"bool": safetensors.BOOL, "int8": safetensors.I8, "uint8": safetensors.U8, "int16": safetensors.I16, "uint16": safetensors.U16,
	"int32": safetensors.I32, "uint32": safetensors.U32, "int64": safetensors.I64, "uint64": safetensors.U64,
	"float16": safetensors.F16, "bfloat16": safetensors.BF16, "float32": safetensors.F32, "float64": safetensors.F64,
	"complex64":     safetensors.C64,
	"float8_e4m3fn": safetensors.F8E4M3, "float8_e5m2": safetensors.F8E5M2, "float8_e8m0fnu": safetensors.F8E8M0,
	"float8_e4m3fnuz": safetensors.F8E4M3FNUZ, "float8_e5m2fnuz": safetensors.F8E5M2FNUZ,
}

// array is a packed array: (shape, dtype name, bytes). dtype is 0 for one that
// is refused.
type array struct {
	dtype  safetensors.DType
	shape  []uint64
	offset int64 // of the bytes in the file
	length int64
}

const maxDims = 32 // numpy's

// array reads the content of an extension of type 1 or 3.
func (p *parser) array(o *object, path string) (*array, error) {
	outer, err := p.Enter(o.length)
	if err != nil {
		return nil, err
	}
	a, err := p.packed(path)
	if err != nil {
		return nil, err
	}
	if p.Left() != 0 {
		return nil, p.Errorf(p.Pos(), "", "%d bytes behind a packed array", p.Left())
	}
	p.Leave(outer)
	return a, nil
}

func (p *parser) packed(path string) (*array, error) {
	if err := p.list(3, "a packed array"); err != nil {
		return nil, err
	}
	a := new(array)
	var err error
	if a.shape, err = p.shape(); err != nil {
		return nil, err
	}
	if a.dtype, err = p.dtype(path); err != nil {
		return nil, err
	}
	o, err := p.next()
	if err != nil {
		return nil, err
	}
	if o.class != classBytes && o.class != classText { // before bin there was raw
		return nil, p.Errorf(o.at, "", "the bytes of an array are a %s", o.class)
	}
	a.offset, a.length = p.Pos(), int64(o.length)
	if want, ok := bytesOf(a.shape, a.dtype); a.dtype != 0 && (!ok || want != o.length) {
		return nil, p.Errorf(o.at, "", "an array of type %s and shape %v has %d bytes", a.dtype, a.shape, o.length)
	}
	return a, p.Skip(o.length)
}

// list reads the head of a list of so many elements.
func (p *parser) list(n uint64, what string) error {
	o, err := p.next()
	if err == nil && (o.class != classList || o.length != n) {
		err = p.Errorf(o.at, "", "%s is a %s of length %d and no list of %d", what, o.class, o.length, n)
	}
	return err
}

func (p *parser) shape() ([]uint64, error) {
	o, err := p.next()
	if err != nil {
		return nil, err
	}
	if o.class != classList || o.length > maxDims {
		return nil, p.Errorf(o.at, "", "the shape of an array is a %s of length %d", o.class, o.length)
	}
	shape := make([]uint64, o.length)
	for i := range shape {
		e, err := p.next()
		if err != nil {
			return nil, err
		}
		if shape[i], err = p.number(&e, "a dimension"); err != nil {
			return nil, err
		}
	}
	return shape, nil
}

const maxDTypeName = 64

func (p *parser) dtype(path string) (safetensors.DType, error) {
	o, err := p.next()
	if err != nil {
		return 0, err
	}
	if o.class != classText && o.class != classBytes {
		return 0, p.Errorf(o.at, "", "the name of a dtype is a %s", o.class)
	}
	b, err := p.Bytes(o.length, maxDTypeName)
	if err != nil {
		return 0, err
	}
	d, ok := dtypes[string(b)]
	if !ok {
		p.refuse(&format.UnsupportedError{
			Format: name, Where: path, What: fmt.Sprintf("array of dtype %q", b),
			Next: "save it again with the array as another dtype (jax.numpy.asarray(x, dtype)), or without it",
		})
	}
	return d, nil
}

// bytesOf is how many bytes an array has; false if they are too many to count.
func bytesOf(shape []uint64, d safetensors.DType) (uint64, bool) {
	count, ok := format.Elements(shape)
	return count * (d.Bits() / 8), ok
}

// tensor adds a tensor whose bytes are a range of the file.
func (p *parser) tensor(path string, a *array) error {
	return p.add(path, a.dtype, a.shape, &format.Storage{
		Data: io.NewSectionReader(p.file, a.offset, a.length), Length: a.length, Offset: a.offset,
	})
}

func (p *parser) add(path string, d safetensors.DType, shape []uint64, st *format.Storage) error {
	name, in := p.selected(path)
	if !in {
		return p.drop(path, fmt.Sprintf("%s array", d), outsideReason)
	}
	if err := p.budget.Take(len(name)); err != nil {
		return err
	}
	size := format.Sizes(shape)
	p.ck.Tensors = append(p.ck.Tensors, format.Tensor{
		Name: name, DType: d, Shape: shape, Size: size, Stride: format.RowMajor(size), Storage: st,
	})
	return nil
}

// chunkedMark is the key that Flax puts first into the map that stands for an
// array of more than 2^30 bytes, cut into pieces.
const chunkedMark = "__msgpack_chunked_array__"

// chunked reads the rest of such a map: the value of the mark, the shape and
// the chunks, the latter two as maps from "0", "1", ...
func (p *parser) chunked(o *object, path string, depth int) error {
	if o.length != 3 {
		return p.Errorf(o.at, "", "a chunked array has %d keys and not 3", o.length)
	}
	if err := p.expectTrue(); err != nil {
		return err
	}
	var shape []uint64
	var chunks []*array
	for _, key := range []string{"shape", "chunks"} {
		if err := p.expectKey(key); err != nil {
			return err
		}
		err := p.numbered(depth+1, func(e *object, _ uint64) error {
			if key == "shape" {
				n, err := p.number(e, "a dimension")
				if shape = append(shape, n); err == nil && len(shape) > maxDims {
					err = p.Errorf(e.at, "", "more than %d dimensions", maxDims)
				}
				return err
			}
			if e.class != classExt || e.ext != extArray {
				return p.Errorf(e.at, "", "a chunk is a %s", e.class)
			}
			if err := p.budget.Take(0); err != nil {
				return err
			}
			a, err := p.array(e, path)
			chunks = append(chunks, a)
			return err
		})
		if err != nil {
			return err
		}
	}
	return p.join(o, path, shape, chunks)
}

func (p *parser) expectTrue() error {
	o, err := p.next()
	if err == nil && (o.class != classBool || o.uint != 1) {
		err = p.Errorf(o.at, "", "the mark of a chunked array is not true")
	}
	return err
}

func (p *parser) expectKey(want string) error {
	o, err := p.next()
	if err != nil {
		return err
	}
	key, err := p.key(&o)
	if err == nil && key != want {
		err = p.Errorf(o.at, "", "a chunked array has the key %q where %q is expected", key, want)
	}
	return err
}

// numbered reads a map whose keys are "0", "1", ... in this order.
func (p *parser) numbered(depth int, each func(e *object, i uint64) error) error {
	o, err := p.next()
	if err != nil {
		return err
	}
	if o.class != classMap || depth >= p.lim.Depth {
		return p.Errorf(o.at, "", "a part of a chunked array is a %s", o.class)
	}
	for i := range o.length {
		if err := p.expectKey(strconv.FormatUint(i, 10)); err != nil {
			return err
		}
		e, err := p.next()
		if err != nil {
			return err
		}
		if err := each(&e, i); err != nil {
			return err
		}
	}
	return nil
}

// join makes one tensor of the chunks, which are flat.
func (p *parser) join(o *object, path string, shape []uint64, chunks []*array) error {
	if len(chunks) == 0 {
		return p.Errorf(o.at, "", "a chunked array without chunks")
	}
	joined := &pieces{r: p.file}
	for _, c := range chunks {
		if c.dtype != chunks[0].dtype || len(c.shape) != 1 {
			return p.Errorf(o.at, "", "the chunks of an array do not go together")
		}
		joined.add(c.offset, c.length)
	}
	if chunks[0].dtype == 0 {
		return nil
	}
	if want, ok := bytesOf(shape, chunks[0].dtype); !ok || want != uint64(joined.size) {
		return p.Errorf(o.at, "", "a chunked array of type %s and shape %v has %d bytes", chunks[0].dtype, shape, joined.size)
	}
	st := &format.Storage{Data: joined, Length: joined.size, Offset: -1}
	if len(chunks) == 1 {
		st = &format.Storage{Data: joined, Length: joined.size, Offset: chunks[0].offset}
	}
	return p.add(path, chunks[0].dtype, shape, st)
}
