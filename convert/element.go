package convert

import (
	"encoding/binary"
	"fmt"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
)

// element says how the bytes of one element change on the way out. The zero
// value changes nothing.
type element struct {
	size int64  // bytes of one element, 1 to 8
	swap int64  // bytes that are reversed together; 0 leaves their order
	flip uint64 // bits inverted, little-endian, repeating every eight bytes
	neg  int64  // width of two's complement numbers that are negated; 0 for none
}

func (e element) changes() bool { return e.swap > 1 || e.flip != 0 || e.neg != 0 }

// elementOf works out what a tensor's elements need: big-endian files are
// swapped, the lazy conjugate and negative bits (Tensor._conj, _neg_view) are
// made real. Numbers are never decoded, so that every NaN keeps its bits but
// for the sign that the negation is about.
func elementOf(t *torch.Tensor, bigEndian bool) (element, error) {
	e, err := elementSize("torch", t.Name, t.DType)
	if err != nil {
		return e, err
	}
	if bigEndian {
		e.swap = e.size
		if t.DType == safetensors.C64 {
			e.swap = 4 // each part by itself
		}
		if e.swap > 1 && t.Storage.DType == 0 {
			// torch swaps by the storage's element size, and an untyped
			// storage has size 1: what it loads depends on the machine.
			return e, unsupported("torch", t.Name, "big-endian untyped storage", "save the checkpoint again on a little-endian machine")
		}
	}
	err = e.sign(t)
	return e, err
}

// elementSize is an element that does not change.
func elementSize(name, tensor string, dtype safetensors.DType) (element, error) {
	bits := dtype.Bits()
	e := element{size: int64(bits / 8)}
	if dtype == safetensors.F4 {
		e.size = 1 // the two-element byte
	}
	if e.size == 0 || (bits%8 != 0 && dtype != safetensors.F4) {
		return e, unsupported(name, tensor, fmt.Sprintf("%s tensor, whose elements are no whole bytes", dtype), "convert the tensor to another dtype first")
	}
	return e, nil
}

// sign sets what conj and neg do to the bits.
func (e *element) sign(t *torch.Tensor) error {
	if t.Conj {
		if t.DType != safetensors.C64 {
			return unsupported("torch", t.Name, fmt.Sprintf("conjugate bit on a %s tensor", t.DType), "save it again after resolve_conj()")
		}
		e.flip ^= 1 << 63
	}
	if !t.Neg {
		return nil
	}
	switch t.DType {
	case safetensors.F16, safetensors.BF16:
		e.flip ^= 0x8000_8000_8000_8000
	case safetensors.F32, safetensors.C64:
		e.flip ^= 0x80000000_80000000
	case safetensors.F64:
		e.flip ^= 1 << 63
	case safetensors.I8, safetensors.U8, safetensors.I16, safetensors.U16, safetensors.I32, safetensors.U32, safetensors.I64, safetensors.U64:
		e.neg = e.size
	default:
		return unsupported("torch", t.Name, fmt.Sprintf("negative bit on a %s tensor", t.DType), "save it again after resolve_neg()")
	}
	return nil
}

func unsupported(name, tensor, what, next string) error {
	return &format.UnsupportedError{Format: name, Where: tensor, What: what, Next: next}
}

// reorder swaps the bytes of whole elements in place.
func (e element) reorder(b []byte) {
	switch e.swap {
	case 2:
		swap2(b)
	case 4:
		for ; len(b) >= 4; b = b[4:] {
			binary.LittleEndian.PutUint32(b, binary.BigEndian.Uint32(b))
		}
	case 8:
		for ; len(b) >= 8; b = b[8:] {
			binary.LittleEndian.PutUint64(b, binary.BigEndian.Uint64(b))
		}
	}
}

// apply swaps, flips signs and negates, on whole elements in place.
func (e element) apply(b []byte) {
	e.reorder(b)
	if e.flip != 0 {
		flipBits(b, e.flip)
	}
	if e.neg != 0 {
		negate(b, e.neg)
	}
}

// swap2 swaps pairs of bytes, four pairs at a time.
func swap2(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		binary.LittleEndian.PutUint64(b, (v&0x00ff00ff00ff00ff)<<8|(v>>8)&0x00ff00ff00ff00ff)
	}
	for ; len(b) >= 2; b = b[2:] {
		b[0], b[1] = b[1], b[0]
	}
}

func flipBits(b []byte, mask uint64) {
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^mask)
	}
	for i := range b {
		b[i] ^= byte(mask >> (8 * i))
	}
}

func negate(b []byte, width int64) {
	for ; int64(len(b)) >= width; b = b[width:] {
		switch width {
		case 1:
			b[0] = -b[0]
		case 2:
			binary.LittleEndian.PutUint16(b, -binary.LittleEndian.Uint16(b))
		case 4:
			binary.LittleEndian.PutUint32(b, -binary.LittleEndian.Uint32(b))
		case 8:
			binary.LittleEndian.PutUint64(b, -binary.LittleEndian.Uint64(b))
		}
	}
}
