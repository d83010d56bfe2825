// Package torch reads the containers that torch.save has written since the
// beginning (zip, legacy, tar, TorchScript) into a symbolic object graph with
// its storages, finds the tensors in it, and lays out the zip container that
// every torch since 1.13 loads.
//
// Behaviour follows torch/serialization.py, torch/_utils.py and
// torch/_weights_only_unpickler.py of PyTorch.
package torch

import (
	"io"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
)

// Container is how a checkpoint is wrapped.
type Container string

// The containers.
const (
	Zip         Container = "torch-zip"
	Legacy      Container = "torch-legacy"
	Tar         Container = "torch-tar"
	TorchScript Container = "torchscript"
)

// Limits bounds what a container may use; zero fields mean their default.
type Limits struct {
	Pickle  pickle.Limits
	Entries int   // records of an archive; default 1 million
	Expand  int64 // a view may be at most this many times its storage, or 1 GiB if that is more; default 4
	Inflate int64 // compressed records: bytes inflated for one byte stored; default 1000
}

// Checkpoint is an opened container: everything validated that can be without
// reading tensor bytes.
type Checkpoint struct {
	Container Container
	Streams   []NamedStream // every pickle of the container, in order
	Root      pickle.Value  // of the stream that holds the object
	BigEndian bool
	Records   []Record            // archives: every record, in order of the data
	Storages  map[string]*Storage // by key, those that the pickle names
	Findings  []Finding

	lim        Limits
	tarTensors map[int64]*tarTensor
	literals   int
	classes    map[string]scriptClass // of TorchScript code, by full name
}

// NamedStream is a pickle stream of the container: "data.pkl", or for legacy
// files "magic", "protocol", "sys_info", "object", "keys".
type NamedStream struct {
	Name string
	*pickle.Stream
	// Source is what the stream's offsets refer to: the file itself, or the
	// inflated record.
	Source io.ReaderAt
	// Inner is empty where offsets are those of the file.
	Inner string
}

// Record is an entry of an archive. Offset and Stored are the file range of
// its stored bytes, Size the bytes after decompression.
type Record struct {
	Name         string // without the top folder
	Offset       int64
	Stored, Size int64
	Deflated     bool
	Known        bool   // torch.save writes such a record
	CRC32        uint32 // as the directory has it; torch can be told to leave it wrong
}

// Storage is the memory behind tensors.
type Storage struct {
	Key         string
	Class       string            // "torch.FloatStorage", as the pickle names it
	DType       safetensors.DType // 0 for untyped, quantised or complex128 storages
	ElementSize int64             // bytes; 1 for untyped storages
	Numel       int64             // declared, in elements (bytes for untyped storages)
	Offset      int64             // of its bytes in the file; meaningless when Deflated
	Length      int64             // bytes present
	Deflated    bool
	// Literal is the content where the pickle itself holds it: of a part of
	// a tensor that was taken apart. Such a storage lies at no offset.
	Literal []byte
	// Data gives the storage's bytes by random access: a section of the
	// file, or an inflating reader that is fast for reads in order.
	Data io.ReaderAt
}

// Finding is something that readers may see differently, or that no
// torch.save writes.
type Finding struct {
	Rule   string
	Inner  string // record or stream
	Offset int64
	Opcode byte
	Global string
	Detail string
	Refuse bool // two readings are possible, or a loader may act on it: never convert
}

// Tensor is one tensor of a checkpoint, validated against its storage. Stride
// and Offset are in elements of DType (for F4: of the two-element byte).
type Tensor struct {
	Path      []string // keys from the root
	Name      string   // joined by dots
	DType     safetensors.DType
	Shape     []uint64 // as safetensors has it: F4's last dimension doubled
	Size      []int64  // as torch has it
	Stride    []int64
	Offset    int64
	Storage   *Storage
	Conj      bool // imaginary parts are to be negated
	Neg       bool // values are to be negated
	Parameter bool
}

// Dropped is content that safetensors cannot hold.
type Dropped = format.Dropped

// StateDict is what a checkpoint converts to.
type StateDict struct {
	Subtree  string   // the path that was taken; "" for the root
	Tensors  []Tensor // in the order of the checkpoint; ties are separate entries
	Dropped  []Dropped
	Values   []Dropped // numbers and texts in what Dropped lists as a whole
	Findings []Finding
}
