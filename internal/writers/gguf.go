package writers

import (
	"encoding/binary"
	"testing"
)

// GGUF is a GGUF file.
type GGUF struct {
	Version   uint32
	Order     binary.AppendByteOrder
	Alignment int // 32 if 0; not written as a key by itself
	Keys      []GGUFKey
	Tensors   []GGUFTensor
}

// GGUFKey is an entry of the metadata: a value and its type's number.
type GGUFKey struct {
	Name  string
	Type  uint32
	Value []byte // as it stands in the file
}

// GGUFTensor is a tensor. Dims are in ggml's order: the first is that whose
// elements lie side by side.
type GGUFTensor struct {
	Name string
	Dims []uint64
	Type uint32
	Data []byte // in the file's byte order
	At   *uint64
}

// GGUFText is a text as a value.
func (g *GGUF) text(b []byte, s string) []byte {
	return append(g.Order.AppendUint64(b, uint64(len(s))), s...)
}

// Text is a value of type 8.
func (g *GGUF) Text(s string) []byte { return g.text(nil, s) }

// Bytes writes the file.
func (g *GGUF) Bytes(tb testing.TB) []byte {
	tb.Helper()
	align := g.Alignment
	if align == 0 {
		align = 32
	}
	b := append([]byte{}, "GGUF"...)
	b = g.Order.AppendUint32(b, g.Version)
	b = g.Order.AppendUint64(b, uint64(len(g.Tensors)))
	b = g.Order.AppendUint64(b, uint64(len(g.Keys)))
	for _, k := range g.Keys {
		b = g.Order.AppendUint32(g.text(b, k.Name), k.Type)
		b = append(b, k.Value...)
	}
	var data []byte
	for _, t := range g.Tensors {
		for len(data)%align != 0 {
			data = append(data, 0)
		}
		at := uint64(len(data))
		if t.At != nil {
			at = *t.At
		}
		b = g.Order.AppendUint32(g.text(b, t.Name), uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = g.Order.AppendUint64(b, d)
		}
		b = g.Order.AppendUint64(g.Order.AppendUint32(b, t.Type), at)
		data = append(data, t.Data...)
	}
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	b = append(b, data...)
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	return b
}
