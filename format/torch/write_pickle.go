package torch

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format/safetensors"
)

// typedStorage are the storage classes for the dtypes that every torch since
// 1.13 has; tensors of them are rebuilt by _rebuild_tensor_v2.
var typedStorage = map[safetensors.DType]string{
	safetensors.F64: "DoubleStorage", safetensors.F32: "FloatStorage", safetensors.F16: "HalfStorage",
	safetensors.BF16: "BFloat16Storage", safetensors.I64: "LongStorage", safetensors.I32: "IntStorage",
	safetensors.I16: "ShortStorage", safetensors.I8: "CharStorage", safetensors.U8: "ByteStorage",
	safetensors.BOOL: "BoolStorage", safetensors.C64: "ComplexFloatStorage",
}

// untypedDType are the torch names of the dtypes without a storage class; they
// need torch 2.1 to 2.8, and _rebuild_tensor_v3.
var untypedDType = map[safetensors.DType]string{
	safetensors.U16: "uint16", safetensors.U32: "uint32", safetensors.U64: "uint64",
	safetensors.F8E4M3: "float8_e4m3fn", safetensors.F8E5M2: "float8_e5m2",
	safetensors.F8E4M3FNUZ: "float8_e4m3fnuz", safetensors.F8E5M2FNUZ: "float8_e5m2fnuz",
	safetensors.F8E8M0: "float8_e8m0fnu", safetensors.F4: "float4_e2m1fn_x2",
}

// SinceVersion is the first release of torch that has a dtype which 1.13, the
// oldest that reads what is written here, does not have; "" for others
// (c10/core/ScalarType.h).
func SinceVersion(d safetensors.DType) string {
	switch d {
	case safetensors.F8E4M3, safetensors.F8E5M2:
		return "2.1"
	case safetensors.F8E4M3FNUZ, safetensors.F8E5M2FNUZ:
		return "2.2"
	case safetensors.U16, safetensors.U32, safetensors.U64:
		return "2.3"
	case safetensors.F8E8M0:
		return "2.7"
	case safetensors.F4:
		return "2.8"
	}
	return ""
}

// The opcodes that are used: all of protocol 2, all known to the weights-only
// reader of torch 1.13 (torch/_weights_only_unpickler.py).
const (
	saveOpProto      = 0x80
	saveOpGlobal     = 'c'
	saveOpBinPut     = 'q'
	saveOpBinGet     = 'h'
	saveOpMark       = '('
	saveOpTuple      = 't'
	saveOpEmptyTuple = ')'
	saveOpReduce     = 'R'
	saveOpUnicode    = 'X'
	saveOpBinInt1    = 'K'
	saveOpBinInt2    = 'M'
	saveOpBinInt     = 'J'
	saveOpLong1      = 0x8a
	saveOpNewFalse   = 0x89
	saveOpPersID     = 'Q'
	saveOpSetItems   = 'u'
	saveOpStop       = '.'
)

// setItemsBatch is how many entries Python's pickler sets at a time.
const setItemsBatch = 1000

// savePickler writes the one shape of pickle that a state dict needs.
type savePickler struct {
	b    []byte
	memo map[string]byte // globals that were written before
}

// savePickle writes an OrderedDict of tensors.
func savePickle(tensors []Saved) ([]byte, error) {
	p := &savePickler{b: []byte{saveOpProto, 2}, memo: map[string]byte{}}
	p.orderedDict()
	for i := range tensors {
		if i%setItemsBatch == 0 {
			p.op(saveOpMark)
		}
		if err := p.text(tensors[i].Name); err != nil {
			return nil, err
		}
		if err := p.tensor(&tensors[i]); err != nil {
			return nil, err
		}
		if i%setItemsBatch == setItemsBatch-1 || i == len(tensors)-1 {
			p.op(saveOpSetItems)
		}
	}
	p.op(saveOpStop)
	return p.b, nil
}

func (p *savePickler) op(ops ...byte) { p.b = append(p.b, ops...) }

// global puts a class or function on the stack, from the memo when it was
// there before.
func (p *savePickler) global(module, name string) {
	key := module + "\n" + name + "\n"
	if at, ok := p.memo[key]; ok {
		p.op(saveOpBinGet, at)
		return
	}
	at := byte(len(p.memo)) // about thirty at most
	p.memo[key] = at
	p.op(saveOpGlobal)
	p.b = append(p.b, key...)
	p.op(saveOpBinPut, at)
}

func (p *savePickler) orderedDict() {
	p.global("collections", "OrderedDict")
	p.op(saveOpEmptyTuple, saveOpReduce)
}

func (p *savePickler) text(s string) error {
	if !utf8.ValidString(s) || len(s) > math.MaxInt32 {
		return &UnsupportedError{Path: strconv.QuoteToASCII(s), What: "name that is not UTF-8", Next: "rename the tensor"}
	}
	p.op(saveOpUnicode)
	p.b = binary.LittleEndian.AppendUint32(p.b, uint32(len(s)))
	p.b = append(p.b, s...)
	return nil
}

func (p *savePickler) number(v uint64) {
	switch {
	case v < 1<<8:
		p.op(saveOpBinInt1, byte(v))
	case v < 1<<16:
		p.op(saveOpBinInt2)
		p.b = binary.LittleEndian.AppendUint16(p.b, uint16(v))
	case v < 1<<31:
		p.op(saveOpBinInt)
		p.b = binary.LittleEndian.AppendUint32(p.b, uint32(v))
	default:
		n := bits.Len64(v)/8 + 1 // with room for the sign
		p.op(saveOpLong1, byte(n))
		for i := range n {
			p.op(byte(v >> (8 * i))) // a shift of 64 gives 0
		}
	}
}

func (p *savePickler) tuple(v []uint64) {
	if len(v) == 0 {
		p.op(saveOpEmptyTuple)
		return
	}
	p.op(saveOpMark)
	for _, n := range v {
		p.number(n)
	}
	p.op(saveOpTuple)
}

// tensor writes the call that rebuilds a tensor (torch/_utils.py).
func (p *savePickler) tensor(t *Saved) error {
	size, err := torchSize(t)
	if err != nil {
		return err
	}
	stride, count, err := saveStrides(t.Name, size)
	if err != nil {
		return err
	}
	class, typed := typedStorage[t.DType]
	if typed {
		p.global("torch._utils", "_rebuild_tensor_v2")
	} else {
		p.global("torch._utils", "_rebuild_tensor_v3")
		count *= max(1, t.DType.Bits()/8) // an untyped storage counts bytes
	}
	p.op(saveOpMark) // arguments
	p.op(saveOpMark) // persistent id: "storage", class, key, location, elements
	_ = p.text("storage")
	if typed {
		p.global("torch", class)
	} else {
		p.global("torch.storage", "UntypedStorage")
	}
	_ = p.text(strconv.Itoa(t.Storage))
	_ = p.text("cpu")
	p.number(count)
	p.op(saveOpTuple, saveOpPersID)
	p.number(0) // offset in the storage
	p.tuple(size)
	p.tuple(stride)
	p.op(saveOpNewFalse) // requires_grad
	p.orderedDict()      // backward hooks
	if !typed {
		p.global("torch", untypedDType[t.DType])
	}
	p.op(saveOpTuple, saveOpReduce)
	return nil
}

// torchSize is the shape as torch has it; F4 packs two numbers in a byte along
// the last dimension.
func torchSize(t *Saved) ([]uint64, error) {
	if _, ok := typedStorage[t.DType]; ok {
		return t.Shape, nil
	}
	if _, ok := untypedDType[t.DType]; !ok {
		return nil, &UnsupportedError{Path: t.Name, What: fmt.Sprintf("%s tensor: torch has no such type", t.DType), Next: "keep the file as safetensors"}
	}
	if t.DType != safetensors.F4 {
		return t.Shape, nil
	}
	last := len(t.Shape) - 1
	if last < 0 || t.Shape[last]%2 != 0 {
		return nil, &UnsupportedError{Path: t.Name, What: "F4 tensor whose last dimension is odd: torch packs two numbers in a byte", Next: "keep the file as safetensors"}
	}
	size := append([]uint64(nil), t.Shape...)
	size[last] /= 2
	return size, nil
}

// saveStrides gives the strides of a row-major tensor as torch computes them
// (dimensions of length 0 count as 1), and the number of elements.
func saveStrides(name string, size []uint64) (stride []uint64, count uint64, err error) {
	stride = make([]uint64, len(size))
	count = 1
	step := uint64(1)
	for i := len(size) - 1; i >= 0; i-- {
		stride[i] = step
		hi, next := bits.Mul64(step, max(1, size[i]))
		if hi != 0 || next > math.MaxInt64 {
			return nil, 0, &UnsupportedError{Path: name, What: "tensor without elements whose other dimensions overflow torch's strides", Next: "keep the file as safetensors"}
		}
		step = next
		count *= size[i] // not more than step
	}
	return stride, count, nil
}
