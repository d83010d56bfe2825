// Package safetensors reads and writes the safetensors format: the header
// codec with every rule of the reference reader, stricter findings of our own,
// the canonical writer, the sharded index, and the digests that identify
// tensors whatever file they lie in.
//
// A file is: 8 bytes little-endian header length N, N bytes of UTF-8 JSON,
// then the data buffer. Nothing else. Rules: safetensors/src/tensor.rs of the
// reference implementation.
package safetensors

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

// The rules that a Finding can name. Those that leave room for two readings of
// one file set Refuse.
const (
	// RuleDuplicateName: a tensor name twice, by escape or not. The
	// reference keeps the last one, other readers the first. Refused.
	RuleDuplicateName = "duplicate-name"
	// RuleDuplicateMetadata: a metadata key twice. Refused.
	RuleDuplicateMetadata = "duplicate-metadata"
	// RuleUnknownField: a tensor object with a field that the format does
	// not have: the reference skips it, so anything can hide there. Refused.
	RuleUnknownField = "unknown-field"
	// RuleArrayForm: a tensor written as [dtype, shape, data_offsets], which
	// only readers with derived deserialisers take. Refused.
	RuleArrayForm = "array-form"
	// RuleLeadingSpace: white space before the first brace.
	RuleLeadingSpace = "leading-space"
	// RuleOddPadding: padding behind the JSON that is not 0x20.
	RuleOddPadding = "odd-padding"
	// RuleUnaligned: a tensor that does not start at a multiple of its
	// element size in the file. One finding a file, for the first of them.
	RuleUnaligned = "unaligned"
	// RuleNullMetadata: "__metadata__" is null.
	RuleNullMetadata = "null-metadata"
	// RuleControlName: control characters in a tensor name. Refused where
	// one is NUL, at which readers in C end the name.
	RuleControlName = "control-name"
	// RuleEmptyName: the empty string as a tensor name.
	RuleEmptyName = "empty-name"
	// RuleHugeEmpty: a tensor without elements whose other dimensions
	// overflow when multiplied in another order.
	RuleHugeEmpty = "huge-empty"
)

// maxFindingsPerRule bounds the memory that findings take: a header can hold
// millions of unknown fields.
const maxFindingsPerRule = 100

// Finding is something that the reference reader accepts although the
// specification forbids it or another reader may see it differently. A strict
// reader refuses a file that has one with Refuse set.
type Finding struct {
	Rule   string // one of the Rule constants
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
