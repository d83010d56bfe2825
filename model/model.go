// Package model sees a model as named files with random access, whatever they
// come from: a directory, one file, an OCI layout, a repository in a registry.
// It says what each file is, by its content and never by its name.
package model

import (
	"context"
	"io"
)

// Blob is the content of one file. ReadAt may be called concurrently.
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
}

// Source is where a model's files come from.
type Source interface {
	// List gives all regular files, sorted by path. What cannot be followed
	// (links that leave the model, sockets, ...) is an error that names it.
	List(ctx context.Context) ([]Entry, error)
	// Open opens one of them.
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
	NPY         Format = "npy"
	NPZ         Format = "npz"
	GGUF        Format = "gguf"
	ONNX        Format = "onnx"
	HDF5        Format = "hdf5"
	Keras       Format = "keras"
	ZIP         Format = "zip"
	TAR         Format = "tar"
	Gzip        Format = "gzip"
	Bzip2       Format = "bzip2"
	XZ          Format = "xz"
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
}

// Model is the inventory of a source.
type Model struct {
	Name   string // as the user typed it
	Files  []File // sorted by path
	Source Source
}

// Load lists a source and looks at the first bytes of each file (and the
// directory of archives).
func Load(ctx context.Context, name string, src Source) (*Model, error) { panic("unbuilt") }

// Open opens one file of the model.
func (m *Model) Open(ctx context.Context, path string) (Blob, error) {
	return m.Source.Open(ctx, path)
}

// Sniff says what a blob is. It reads at most a few kilobytes, and the
// directory of a zip archive.
func Sniff(r io.ReaderAt, size int64) (Format, error) { panic("unbuilt") }

// DeclaredFormat is what a file's name promises.
func DeclaredFormat(path string) Format { panic("unbuilt") }

// CheckPath says whether a path may be a file of a model: relative, clean,
// slash-separated, valid UTF-8, no "..", no NUL or control characters, no
// backslash, no drive, no name that Windows reserves, at most 1024 bytes. The
// one check for every door through which a path comes in.
func CheckPath(path string) error { panic("unbuilt") }

// CheckPaths applies CheckPath to all of them, and refuses duplicates, names
// equal but for case, and a path that is another's directory.
func CheckPaths(paths []string) error { panic("unbuilt") }

// Dir is the source for a directory. Symbolic links to regular files are
// followed when they stay inside the directory or lead into the blobs folder
// of the Hugging Face cache that the directory lies in. VCS and cache folders
// (.git, .cache/huggingface) are left out.
func Dir(root string) Source { panic("unbuilt") }

// SingleFile is the source for one file, listed under its base name.
func SingleFile(path string) Source { panic("unbuilt") }
