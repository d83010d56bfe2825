// Package convert turns a checkpoint into a Plan: a converted file that is a
// view of its source, with its exact size and first bytes known before any
// tensor byte is read.
package convert

import (
	"context"
	"io"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// Options says what to convert to, and how.
type Options struct {
	To          model.Format // model.Safetensors (default) or model.TorchZip
	Select      string       // subtree of a nested checkpoint, keys joined by dots
	WeightsOnly bool         // take the tensors beside known inert objects; losses are listed
	KeepAliases bool         // write every name of tied tensors
	Limits      torch.Limits
}

// Input is the file to convert. The Plan reads from Blob as long as it lives.
type Input struct {
	Path   string
	Format model.Format
	Blob   model.Blob
}

// Converter makes plans from one family of formats.
type Converter interface {
	Name() string
	From() []model.Format
	To() model.Format
	Plan(ctx context.Context, in Input, opt Options) (*Plan, error)
}

// Default is the list of converters.
func Default() []Converter { panic("unbuilt") }

// File plans the conversion of one file. ErrNoConverter when no converter of
// the list takes the format.
func File(ctx context.Context, in Input, opt Options) (*Plan, error) { panic("unbuilt") }

// Plan is a converted file: an io.ReaderAt over its source. It is immutable
// and may be read concurrently and again and again; the bytes are always the
// same as long as the source is.
type Plan struct {
	Path    string // of the output, relative
	Format  model.Format
	Source  SourceFile
	Subtree string
	// Header of the safetensors file that is written, or, writing another
	// format, of the tensors that go into it.
	Header  *safetensors.Header
	Aliases []Alias
	Dropped []torch.Dropped
	Notes   []torch.Finding
	// InOrder says that the output reads the source front to back.
	InOrder bool
	// Engine details are unexported: segments over the source.
}

// SourceFile is what was converted.
type SourceFile struct {
	Path   string
	Format model.Format
	Size   int64
}

// Alias is a name that was left out because it is the same memory, shape and
// strides as the kept name; safetensors metadata records it (removed -> kept).
type Alias struct{ Removed, Kept string }

// Size is the exact length of the output in bytes.
func (p *Plan) Size() int64 { panic("unbuilt") }

// ReadAt reads the output.
func (p *Plan) ReadAt(b []byte, off int64) (int, error) { panic("unbuilt") }

// Close closes the source.
func (p *Plan) Close() error { panic("unbuilt") }

// Unchanged says whether the source is still what was planned from.
func (p *Plan) Unchanged() error { panic("unbuilt") }

// Proof says that the output holds the source's tensors, bit for bit.
type Proof struct {
	SourceDigest string                     // SHA-256 of the whole source file, hex
	Tensors      []safetensors.TensorDigest // all names, aliases included
	SetDigest    string                     // tensor-set digest, of the output and of the source
}

// Recorder takes the output's bytes, once and in order, as an io.Writer: it
// digests every tensor on the way. A new one is needed when an upload starts
// again.
type Recorder struct{}

// NewRecorder prepares a recorder for this plan's output.
func (p *Plan) NewRecorder() *Recorder { panic("unbuilt") }

// Write takes the next bytes of the output.
func (r *Recorder) Write(b []byte) (int, error) { panic("unbuilt") }

// Witness is what one reading of the source, apart from the output, saw.
type Witness struct{}

// Witness reads the source once, front to back, by itself: it digests the file
// and fingerprints each tensor's bytes where the checkpoint says they lie
// (contiguous tensors in passing, under a key drawn at random for this plan;
// the others gathered one by one, not with the code that the output uses). It
// may run beside the upload.
func (p *Plan) Witness(ctx context.Context) (*Witness, error) { panic("unbuilt") }

// Prove compares what went out with what the witness saw in the source. Any
// difference is a *ProofError that names the tensor.
func (p *Plan) Prove(r *Recorder, w *Witness) (*Proof, error) { panic("unbuilt") }

// WriteFile writes the output to path, by kernel copies where a range of the
// source is taken as it is. It writes a temporary file beside path and
// renames it when all is there and the source is unchanged; on any failure
// nothing is left.
func (p *Plan) WriteFile(ctx context.Context, path string) error { panic("unbuilt") }

var _ io.ReaderAt = (*Plan)(nil)

// Set is a converted model: every file of it under its new name.
type Set struct {
	Plans []*Plan           // converted files
	Kept  []model.File      // files that stay as they are
	Made  []MadeFile        // small files written anew: the rewritten index
	Gone  map[string]string // source path -> why it is not in the output (replaced by ...)
}

// MadeFile is a small file with its content.
type MadeFile struct {
	Path    string
	From    string // the file that it replaces
	Content []byte
}

// Model plans a whole model: pickle-based weights are converted, sharded sets
// get their index rewritten, everything else is kept. skip lists files that
// must not be converted. Two inputs that would write one name give a
// *ClashError, an index that does not fit its shards an *IndexError; the
// failures of all files come joined, each as *FileError.
func Model(ctx context.Context, m *model.Model, opt Options, skip func(model.File) bool) (*Set, error) {
	panic("unbuilt")
}

// OutputPath is the name of the converted file: pytorch_model*.bin becomes
// model*.safetensors as the Hugging Face tools have it, otherwise only the
// extension changes.
func OutputPath(path string, to model.Format) string { panic("unbuilt") }

// FileError says which file failed.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }
