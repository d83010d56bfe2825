// Package gguf reads GGUF files of versions 2 and 3, little- and big-endian
// (ggml/docs/gguf.md): tensors of plain types as ranges of the file, scalar
// metadata as text. Quantised tensors are named and refused.
package gguf

import (
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/weightseal/weightseal/format"
)

const name = "gguf"

// Limits bound what is read. Zero fields take the default.
type Limits struct {
	Tensors int    // 2^18
	Keys    int    // of metadata: 2^16
	Items   uint64 // texts in all arrays: 2^24
	Text    uint64 // bytes of one text that is kept: 64 KiB; longer ones are dropped
}

func (l Limits) withDefaults() Limits {
	if l.Tensors <= 0 {
		l.Tensors = 1 << 18
	}
	if l.Keys <= 0 {
		l.Keys = 1 << 16
	}
	if l.Items == 0 {
		l.Items = 1 << 24
	}
	if l.Text == 0 {
		l.Text = 64 << 10
	}
	return l
}

const (
	magic            = "GGUF"
	defaultAlignment = 32
	maxAlignment     = 1 << 20
	alignmentKey     = "general.alignment"

	smallestKey    = 8 + 4 + 1
	smallestTensor = 8 + 4 + 4 + 8
)

// reader is a file being read.
type reader struct {
	*format.Cursor
	lim    Limits
	budget *format.Budget
	items  uint64 // elements of arrays that may still come
	kept   uint64 // bytes of text that may still be kept
	align  uint64
	infos  []info
	ck     *format.Checkpoint
}

// Open reads the header of a GGUF file of size bytes. A damaged one gives a
// *format.Error; quantised tensors, and versions before 2, a
// *format.UnsupportedError.
func Open(r io.ReaderAt, size int64, lim Limits) (*format.Checkpoint, error) {
	g := &reader{
		Cursor: format.NewCursor(name, r, size), lim: lim.withDefaults(), align: defaultAlignment,
		ck: &format.Checkpoint{Metadata: map[string]string{}},
	}
	g.budget, g.items, g.kept = format.NewBudget(name, g.lim.Tensors+g.lim.Keys), g.lim.Items, 16<<20
	tensors, keys, err := g.header()
	if err != nil {
		return nil, err
	}
	if err := g.readKeys(keys); err != nil {
		return nil, err
	}
	if err := g.readInfos(tensors); err != nil {
		return nil, err
	}
	if err := g.quantised(); err != nil {
		return nil, err
	}
	return g.ck, g.layOut(r, size)
}

// header reads up to the counts. Byte order is told by the version, which is
// small: its low half is zero when read the wrong way round.
func (g *reader) header() (tensors, keys uint64, err error) {
	sig, err := g.Bytes(4, 4)
	if err != nil {
		return 0, 0, err
	}
	if string(sig) != magic {
		return 0, 0, g.Errorf(0, "", "no GGUF signature")
	}
	version, err := g.Uint(4)
	if err != nil {
		return 0, 0, err
	}
	if version != 0 && version&0xffff == 0 {
		g.Order = binary.BigEndian
		version = uint64(bits.ReverseBytes32(uint32(version)))
	}
	switch version {
	case 2, 3:
	case 1:
		return 0, 0, &format.UnsupportedError{Format: name, What: "file of version 1", Next: "make the GGUF file again from the original weights with a current converter"}
	default:
		return 0, 0, g.Errorf(4, "", "version %d is not known", version)
	}
	if tensors, err = g.Uint(8); err != nil {
		return 0, 0, err
	}
	if keys, err = g.Uint(8); err != nil {
		return 0, 0, err
	}
	left := uint64(g.Left())
	switch {
	case keys > left/smallestKey || tensors > left/smallestTensor:
		err = g.Errorf(8, "", "%d metadata keys and %d tensors do not fit into %d bytes", keys, tensors, left)
	case keys > uint64(g.lim.Keys) || tensors > uint64(g.lim.Tensors):
		err = g.Errorf(8, "", "%d metadata keys and %d tensors, at most %d and %d are read", keys, tensors, g.lim.Keys, g.lim.Tensors)
	}
	return tensors, keys, err
}

// text reads a string whose length comes first.
func (g *reader) text(limit uint64) (string, error) {
	n, err := g.Uint(8)
	if err != nil {
		return "", err
	}
	b, err := g.Bytes(n, limit)
	return string(b), err
}

// named reads a name and counts it.
func (g *reader) named(what string, seen map[string]bool) (string, error) {
	at := g.Pos()
	s, err := g.text(maxName)
	if err != nil {
		return "", err
	}
	if err := g.budget.Take(len(s)); err != nil {
		return "", err
	}
	if seen[s] {
		return "", g.Errorf(at, s, "two %s have this name", what)
	}
	seen[s] = true
	return s, nil
}

const maxName = 64 << 10
