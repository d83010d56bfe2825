// Package safetensors reads and writes the safetensors format: the header
// codec with every rule of the reference reader, stricter findings of our own,
// the canonical writer, the sharded index, and the digests that identify
// tensors whatever file they lie in.
//
// A file is: 8 bytes little-endian header length N, N bytes of UTF-8 JSON,
// then the data buffer. Nothing else. Rules: safetensors/src/tensor.rs of the
// reference implementation.
package safetensors

import "io"

// MaxHeaderLength is the reference reader's cap on N, itself allowed.
const MaxHeaderLength = 100_000_000

// Tensor is one entry of a header. Begin and End are byte offsets into the
// data buffer, which starts at Header.DataStart.
type Tensor struct {
	Name       string
	DType      DType
	Shape      []uint64
	Begin, End uint64
}

// Header is a validated header.
type Header struct {
	Tensors  []Tensor          // in order of Begin, ties (zero-size) by name
	Metadata map[string]string // nil when absent
	Length   uint64            // N: bytes of JSON, padding included
	Findings []Finding         // what the reference accepts and we report
}

// DataStart is the offset of the data buffer in the file: 8 + N.
func (h *Header) DataStart() int64 { return 8 + int64(h.Length) }

// Finding is something that the reference reader accepts although the
// specification forbids it or another reader may see it differently. A strict
// reader refuses a file that has one with Refuse set.
type Finding struct {
	Rule   string // duplicate-name, unknown-field, array-form, leading-space, odd-padding, unaligned, null-metadata, control-name, huge-empty
	Tensor string // the tensor concerned, if one is
	Offset int64  // byte offset in the file
	Detail string
	Refuse bool // two readings are possible: never pass it on
}

// Kind is the name of the reference implementation's error for a broken file.
type Kind string

// The kinds that reading can end in (enum SafeTensorError of the reference).
const (
	InvalidHeader                Kind = "InvalidHeader"
	InvalidHeaderDeserialization Kind = "InvalidHeaderDeserialization"
	HeaderTooLarge               Kind = "HeaderTooLarge"
	HeaderTooSmall               Kind = "HeaderTooSmall"
	InvalidHeaderLength          Kind = "InvalidHeaderLength"
	TensorInvalidInfo            Kind = "TensorInvalidInfo"
	InvalidOffset                Kind = "InvalidOffset"
	MetadataIncompleteBuffer     Kind = "MetadataIncompleteBuffer"
	ValidationOverflow           Kind = "ValidationOverflow"
	MisalignedSlice              Kind = "MisalignedSlice"
)

// Error says why a file is not safetensors, in the reference's terms, and
// where.
type Error struct {
	Kind   Kind
	Tensor string // the tensor concerned, if one is
	Offset int64  // byte offset in the file
	Detail string
}

func (e *Error) Error() string { panic("unbuilt") }

// ReadHeader reads and validates the header of a safetensors file of size
// bytes. It reads no tensor byte. A file that the reference reader refuses
// gives an *Error; what only the specification forbids is in Header.Findings.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) { panic("unbuilt") }

// Strict gives an *Error for the first finding that has Refuse set.
func (h *Header) Strict() error { panic("unbuilt") }

// Spec is a tensor to be written.
type Spec struct {
	Name  string
	DType DType
	Shape []uint64
}

// NewHeader lays tensors out as the reference writer does: by dtype rank
// descending, then name in byte order; metadata first with its keys sorted;
// compact JSON; spaces up to a multiple of 8. raw is the file's first bytes:
// length, JSON and padding. A name twice, a name that is not UTF-8 or is
// "__metadata__", a size that overflows or does not fill whole bytes, and a
// header above MaxHeaderLength are errors.
func NewHeader(specs []Spec, metadata map[string]string) (h *Header, raw []byte, err error) {
	panic("unbuilt")
}

// ByteSize is the number of bytes of a tensor; an *Error of kind
// ValidationOverflow or MisalignedSlice where there is no such number.
func ByteSize(d DType, shape []uint64) (uint64, error) { panic("unbuilt") }
