// Package dcp reads checkpoints of torch.distributed.checkpoint: a folder with
// a pickle, .metadata, which says which chunk of which tensor lies where, and
// the files of the ranks (__0_0.distcp, ...), in which every chunk is a file
// of torch.save by itself.
//
// Behaviour follows torch/distributed/checkpoint/{metadata,filesystem,
// planner_helpers,default_planner}.py of PyTorch. The metadata is read
// symbolically: nothing it names is imported or called.
package dcp

import (
	"io"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/torch"
)

// MetadataName is the file that makes a folder a checkpoint, and Extension
// what the files beside it end in.
const (
	MetadataName = ".metadata"
	Extension    = ".distcp"
)

const name = "dcp" // in errors

// File is one of the files beside the metadata.
type File struct {
	Name string // relative to the folder of the metadata
	Data io.ReaderAt
	Size int64
	// Offset is where the file begins in the source, when metadata and
	// files are read as one.
	Offset int64
}

// Source is a checkpoint's folder.
type Source struct {
	Metadata io.ReaderAt
	Size     int64 // of the metadata
	Files    []File
}

// Options says what to take, and how much a checkpoint may use.
type Options struct {
	// Select is the subtree whose tensors are taken, keys joined by dots;
	// "" to find it, torch.WholeRoot for everything.
	Select string
	Limits Limits
}

// Limits bounds what a checkpoint may use; zero fields mean their default.
type Limits struct {
	Torch  torch.Limits // of the metadata's pickle, and of each blob
	Chunks int          // of all tensors together; default 4 million
	// Comparisons bounds the search for chunks that overlap; default 256 million.
	Comparisons int
}

func (l Limits) defaults() Limits {
	if l.Chunks == 0 {
		l.Chunks = 4 << 20
	}
	if l.Comparisons == 0 {
		l.Comparisons = 256 << 20
	}
	return l
}

// Checkpoint is a folder that was read. A tensor of several chunks is a
// storage of its own, with the offset -1 and its name as the key.
type Checkpoint struct {
	format.Checkpoint
	Subtree string // the path that was taken; "" for the root

	built []*assembly
}

// Again gives the storages of several chunks a second time, by key, put
// together in another way than those of the tensors: by chunk, not by place.
func (c *Checkpoint) Again() map[string]io.ReaderAt {
	all := make(map[string]io.ReaderAt, len(c.built))
	for _, a := range c.built {
		all[a.name] = &scattered{a}
	}
	return all
}

func broken(where, detail string) *format.Error {
	return &format.Error{Format: name, Where: where, Offset: -1, Detail: detail}
}

func brokenAt(offset int64, detail string) *format.Error {
	return &format.Error{Format: name, Where: MetadataName, Offset: offset, Detail: detail}
}

func unsupported(where, what, next string) *format.UnsupportedError {
	return &format.UnsupportedError{Format: name, Where: where, What: what, Next: next}
}
