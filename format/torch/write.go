package torch

import (
	"fmt"
	"math"

	"github.com/weightseal/weightseal/format/safetensors"
)

// Saved is a tensor to be laid out in a new checkpoint: contiguous, beginning
// at offset 0 of its storage. Tensors that name one storage are tied: they
// must agree in dtype and shape.
type Saved struct {
	Name    string
	DType   safetensors.DType
	Shape   []uint64 // as safetensors has it
	Storage int      // number of the storage, from 0 in the order of the file
}

// PieceKind is what a stretch of a laid-out checkpoint is.
type PieceKind uint8

// The kinds. Bytes are known beforehand; Data are a storage's bytes, to be
// filled in; a Descriptor and the Directory hold CRC-32 checksums of storages.
const (
	PieceBytes PieceKind = iota + 1
	PieceData
	PieceDescriptor
	PieceDirectory
)

// Piece is a stretch of a laid-out checkpoint.
type Piece struct {
	Kind    PieceKind
	Size    int64
	Bytes   []byte // PieceBytes
	Storage int    // PieceData and PieceDescriptor
}

// Layout is a torch.save zip archive whose every length is known before a
// tensor byte is read, and whose checksums follow the data that they are
// about, so that it can be written in one pass.
//
// torch.load(weights_only=True) of torch 1.13 and later takes it. The same
// tensors give the same bytes: the folder is "archive", storages are numbered
// in the order of the file and aligned to 64 bytes, dates are 1980-01-01,
// nothing of the host goes in. There is no .format_version record: with it,
// torch computes the places of storages from the exact shape that its own
// writer gives the records.
type Layout struct {
	pieces   []Piece
	records  []savedRecord // in order; those with crc unknown belong to storages
	storages []int         // storage -> record
	size     int64
	dirSize  int64
	dirStart int64
}

// NewLayout lays out a checkpoint: an OrderedDict of the tensors in the order
// given. Dtypes that torch does not have, and what a tensor cannot be rebuilt
// from, give an *UnsupportedError.
func NewLayout(tensors []Saved) (*Layout, error) {
	sizes, err := storageSizes(tensors)
	if err != nil {
		return nil, err
	}
	body, err := savePickle(tensors)
	if err != nil {
		return nil, err
	}
	l := &Layout{}
	steps := []func() error{
		func() error { return l.known("data.pkl", body) },
		func() error { return l.known("byteorder", []byte("little")) },
		func() error { return l.data(sizes) },
		func() error { return l.known("version", []byte("3\n")) },
		l.directory,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Size is the length of the file in bytes.
func (l *Layout) Size() int64 { return l.size }

// Pieces lists the whole file in order. It must not be changed.
func (l *Layout) Pieces() []Piece { return l.pieces }

// storageSizes checks that the storages are numbered as they should be and
// that ties agree, and gives the bytes of each.
func storageSizes(tensors []Saved) ([]int64, error) {
	var sizes []int64
	var first []*Saved
	for i := range tensors {
		t := &tensors[i]
		n, err := safetensors.ByteSize(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if n > math.MaxInt64 {
			return nil, fmt.Errorf("tensor %q: %d bytes are more than a file holds", t.Name, n)
		}
		switch {
		case t.Storage == len(sizes):
			sizes, first = append(sizes, int64(n)), append(first, t)
		case t.Storage < 0 || t.Storage > len(sizes):
			return nil, fmt.Errorf("tensor %q: storage %d before storage %d", t.Name, t.Storage, len(sizes))
		case !sameSaved(first[t.Storage], t):
			return nil, fmt.Errorf("tensor %q: tied to %q, which has another dtype or shape", t.Name, first[t.Storage].Name)
		}
	}
	return sizes, nil
}

func sameSaved(a, b *Saved) bool {
	if a.DType != b.DType || len(a.Shape) != len(b.Shape) {
		return false
	}
	for i := range a.Shape {
		if a.Shape[i] != b.Shape[i] {
			return false
		}
	}
	return true
}
