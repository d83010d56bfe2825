// Package model sees a model as named files with random access, whatever they
// come from: a directory, one file, an OCI layout, a repository in a registry.
// It says what each file is, by its content and never by its name.
package model

import (
	"context"
	"errors"
	"io"
)

// ErrChanged says that a file is no longer the one that was opened.
var ErrChanged = errors.New("the file changed while it was in use")

// Blob is the content of one file. ReadAt may be called concurrently; reading at
// or past the end gives io.EOF.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
	// Unchanged fails with ErrChanged when the file is no longer the one
	// that was opened: another size, time or identity. Call it after the
	// last read. Sources that cannot change give nil.
	Unchanged() error
}

// Entry is a file of a source before anybody looked into it.
type Entry struct {
	Path string // relative, slash-separated, clean
	Size int64
	// Digest is "sha256:..." where the source knows it without reading.
	Digest string
	// Link is the target of a symbolic link that was followed.
	Link string
	// Refused is set only in a Survey: no model may have this path, or not beside
	// the others, and Survey.Broken says why.
	Refused bool
}

// Source is where a model's files come from.
type Source interface {
	// List gives all regular files, sorted by path. What cannot be followed
	// (links that leave the model, sockets, ...) is an error that names it.
	List(ctx context.Context) ([]Entry, error)
	// Open opens one of them. A path that List does not give is an error
	// that wraps fs.ErrNotExist.
	Open(ctx context.Context, path string) (Blob, error)
}

// Format is what a file is, by content.
type Format string

// The formats told apart in this version.
const (
	Safetensors Format = "safetensors"
	TorchZip    Format = "torch-zip"
	TorchLegacy Format = "torch-legacy"
	TorchTar    Format = "torch-tar"
	TorchScript Format = "torchscript"
	Pickle      Format = "pickle"
	DCP         Format = "torch-dcp"       // .metadata of a distributed checkpoint
	DCPShard    Format = "torch-dcp-shard" // .distcp: torch.save files, one after the other
	NPY         Format = "npy"
	NPZ         Format = "npz"
	GGUF        Format = "gguf"
	Flax        Format = "flax" // msgpack of flax.serialization
	ONNX        Format = "onnx"
	HDF5        Format = "hdf5"
	Keras       Format = "keras"
	ZIP         Format = "zip"
	TAR         Format = "tar"
	Gzip        Format = "gzip"
	Bzip2       Format = "bzip2"
	XZ          Format = "xz"
	LZMA        Format = "lzma" // the .lzma container of before xz
	Zstd        Format = "zstd"
	Zlib        Format = "zlib"
	SevenZip    Format = "7z"
	ELF         Format = "elf"
	PE          Format = "pe"
	MachO       Format = "mach-o"
	JSON        Format = "json"
	Notebook    Format = "notebook"
	YAML        Format = "yaml"
	Markdown    Format = "markdown"
	Python      Format = "python"
	Script      Format = "script" // starts with #!
	Text        Format = "text"   // UTF-8 without control characters
	Image       Format = "image"
	Protobuf    Format = "protobuf" // sentencepiece and its like, recognised structure
	Empty       Format = "empty"
	Unknown     Format = "unknown"
)

// Role is what a file is for in a model, from its format and its name.
type Role string

// The roles.
const (
	Weight    Role = "weight"
	Config    Role = "config"
	Tokenizer Role = "tokenizer"
	Code      Role = "code"
	Doc       Role = "doc"
	Other     Role = "other"
)

// File is a file of a model.
type File struct {
	Entry
	Format   Format
	Declared Format // what the name promises; Unknown when it promises nothing
	Role     Role
	// Training says that the name or place is one of training leftovers:
	// optimizer, scheduler, rng state, training_args.
	Training bool
	// Set is the path of the file that names the files of a checkpoint
	// which this one is a part of; "" for files by themselves. Only files of
	// format DCP and DCPShard have one.
	Set string
}

// Model is the inventory of a source.
type Model struct {
	Name   string // as the user typed it
	Files  []File // sorted by path
	Source Source
}

// Open opens one file of the model.
func (m *Model) Open(ctx context.Context, path string) (Blob, error) {
	return m.Source.Open(ctx, path)
}
