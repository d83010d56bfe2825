package torch

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/weightseal/weightseal/format"
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

// Layout is a torch.save zip archive; its data records are the storages.
//
// torch.load(weights_only=True) of torch 1.13 and later takes it. The folder
// is "archive", storages are numbered in the order of the file. There is no
// .format_version record: with it, torch computes the places of storages from
// the exact shape that its own writer gives the records.
type Layout struct{ format.Archive }

const saveRoot = "archive/"

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
	if err := errors.Join(l.Known(saveRoot+"data.pkl", body), l.Known(saveRoot+"byteorder", []byte("little"))); err != nil {
		return nil, err
	}
	for i, n := range sizes {
		if err := l.Data(saveRoot+"data/"+strconv.Itoa(i), nil, n); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(l.Known(saveRoot+"version", []byte("3\n")), l.Finish()); err != nil {
		return nil, err
	}
	return l, nil
}

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
