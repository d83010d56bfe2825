// Package numpy reads what numpy writes: .npy and .npz files, and arrays inside
// pickles. Nothing is unpickled: pickles are run symbolically by
// format/pickle.
//
// Sources: numpy/lib/format.py (NEP 1), numpy/core/src/multiarray/methods.c
// (array_reduce, array_setstate) and descriptor.c (arraydescr_reduce).
package numpy

import (
	"math/bits"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
)

// Limits bounds what reading may use. The zero value of a field means its
// default.
type Limits struct {
	Header  int64 // bytes of a .npy header; default 1 MiB
	Entries int   // of an .npz archive; default 1 million
	Inflate int64 // bytes that all compressed arrays take; default the larger of 1 GiB and 1032 times the file
	Memory  int64 // bytes of arrays that are kept in memory; default 64 MiB
	Window  int64 // bytes of what it wrote that xz and lzma may keep, and four times what joblib keeps; default what the file asks for, up to 64 MiB
	Pickle  pickle.Limits
}

// framework is the metadata value that the reference gives numpy's files.
const framework = "np"

func (l Limits) header() int64  { return orElse(l.Header, 1<<20) }
func (l Limits) memory() int64  { return orElse(l.Memory, 64<<20) }
func (l Limits) entries() int64 { return orElse(int64(l.Entries), 1<<20) }

// InflateLimit is how many bytes the content of a compressed file of this
// size may take: deflate reaches 1032 times.
func (l Limits) InflateLimit(size int64) int64 {
	if size > 1<<50 {
		return orElse(l.Inflate, 1<<62)
	}
	return orElse(l.Inflate, max(1<<30, 1032*size))
}

func orElse(v, otherwise int64) int64 {
	if v > 0 {
		return v
	}
	return otherwise
}

// maxDims is more than any numpy takes (NPY_MAXDIMS is 32, since 2.0 64).
const maxDims = 64

// Count multiplies a shape and the size of an element; false where that is
// more than any file has, or a dimension is negative.
func Count(shape []int64, size int64) (int64, bool) {
	n, empty := uint64(size), false
	for _, d := range shape {
		if d < 0 {
			return 0, false
		}
		empty = empty || d == 0
		hi, lo := bits.Mul64(n, uint64(max(d, 1)))
		if hi != 0 || lo > 1<<62 {
			return 0, false
		}
		n = lo
	}
	if empty {
		return 0, true
	}
	return int64(n), true
}

// NewTensor is an array that takes all of a storage. The shape and dtype must
// have been checked with Count and DType.Convertible.
func NewTensor(name string, d DType, shape []int64, fortran bool, st *format.Storage) format.Tensor {
	t := format.Tensor{Name: name, DType: d.DType, Size: shape, Shape: make([]uint64, len(shape)), Swap: d.Swap, Storage: st}
	for i, n := range shape {
		t.Shape[i] = uint64(n)
	}
	if fortran {
		t.Stride = format.ColumnMajor(shape)
	} else {
		t.Stride = format.RowMajor(shape)
	}
	return t
}
