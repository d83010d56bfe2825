// Package format is what the codecs of all checkpoints have in common: tensors
// as views of storages, what was left out, and what cannot be converted.
package format

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/safetensors"
)

// Storage is the memory behind tensors.
type Storage struct {
	// Data gives its bytes by random access. Where Offset is negative,
	// reading in order may be much faster than reading here and there.
	Data   io.ReaderAt
	Length int64 // in bytes
	// Offset is where the bytes lie in the source file as they are; negative
	// where they do not: compressed, or computed.
	Offset int64
	// Key names the storage in its checkpoint, so that one whose Offset is
	// negative can be opened a second time.
	Key string
	// Stream names the compressed stream in which storages lie one behind the
	// other, and At says where in it: going back means to decompress it from
	// the beginning. "" for a storage that is compressed by itself.
	Stream string
	At     int64
}

// Tensor is one tensor of a checkpoint: a view of a storage. Two tensors with
// the same storage, offset, shape and strides are tied.
type Tensor struct {
	Name   string
	DType  safetensors.DType
	Shape  []uint64 // as safetensors has it: F4's last dimension doubled
	Size   []int64  // in elements as stored; F4: in bytes of two elements
	Stride []int64  // in elements; never negative
	Offset int64    // of the first element, in elements
	// Swap is the number of bytes to reverse together, so that they are
	// little-endian: 2, 4 or 8; 0 where nothing is to be done.
	Swap    int64
	Storage *Storage
}

// RowMajor gives the strides of a tensor whose elements lie one after the
// other, the last dimension fastest.
func RowMajor(size []int64) []int64 {
	stride := make([]int64, len(size))
	step := int64(1)
	for i := len(size) - 1; i >= 0; i-- {
		stride[i] = step
		step *= max(size[i], 1)
	}
	return stride
}

// ColumnMajor gives the strides of a tensor whose first dimension is fastest,
// as Fortran has it.
func ColumnMajor(size []int64) []int64 {
	stride := make([]int64, len(size))
	step := int64(1)
	for i := range size {
		stride[i] = step
		step *= max(size[i], 1)
	}
	return stride
}

// Dropped is content that safetensors cannot hold.
type Dropped struct {
	Path   string
	Kind   string // int, float, str, OrderedDict, optimizer state, torch.nn.Linear, ...
	Reason string
	// Value is what it held, as JSON, where that is a number, a truth value or
	// text, of at most MaxValue bytes; else empty.
	Value string
}

// MaxValue is the length in bytes of the longest Dropped.Value.
const MaxValue = 64 << 10

// Checkpoint is what a codec read: everything validated that can be without
// reading tensor bytes.
type Checkpoint struct {
	Framework string // "pt", "np", "flax", ...: the metadata value of "format"
	Tensors   []Tensor
	Dropped   []Dropped
	// Metadata goes into the output's metadata where the user asks for it.
	Metadata map[string]string
}

// Error says what in a file is wrong, and where.
type Error struct {
	Format string // "npy", "hdf5", ...
	Where  string // entry, dataset or tensor, if one is concerned
	Offset int64  // byte offset in the file; negative where there is none
	Detail string
}

func (e *Error) Error() string {
	s := e.Format
	if e.Where != "" {
		s += ": " + quote(e.Where)
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(": at offset %d", e.Offset)
	}
	return s + ": " + e.Detail
}

// UnsupportedError says what cannot be converted without loss. What to do instead
// is in Next and not in the error's text, for callers show it apart.
type UnsupportedError struct {
	Format string
	Where  string // tensor, dataset, entry
	What   string // "complex128 tensor"
	Next   string // the exact next step
}

func (e *UnsupportedError) Error() string {
	s := e.Format + ": "
	if e.Where != "" {
		s += quote(e.Where) + " "
	}
	return s + "cannot be converted without loss: " + e.What
}

// NextStep is what to do instead.
func (e *UnsupportedError) NextStep() string { return e.Next }

// quote shows names as they are while that is unmistakable.
func quote(s string) string {
	const longest = 200
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	q := strconv.QuoteToASCII(s)
	if q == `"`+s+`"` && !strings.Contains(s, " ") {
		return s
	}
	return q
}
