// Package convert turns a checkpoint into a Plan: a converted file that is a
// view of its source, with its exact size and first bytes known before any
// tensor byte is read.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// Options says what to convert to, and how.
type Options struct {
	To          model.Format // model.Safetensors (default), model.TorchZip or model.NPZ
	Select      string       // subtree of a nested checkpoint, keys joined by dots
	WeightsOnly bool         // take the tensors beside known inert objects; losses are listed
	KeepAliases bool         // write every name of tied tensors

	// SplitQuantized and SplitSparse write such tensors of torch as plain
	// ones: see torch.SelectOptions. Notes of the plan say what was split.
	SplitQuantized, SplitSparse bool

	Rename []Rename // applied in order to the names, keys joined by dots
	Output Output
	Limits torch.Limits
}

// Output says how the converted file is written. The zero value is one
// canonical file: what the reference writer of safetensors makes.
type Output struct {
	// MaxShardSize is how many bytes of tensors a file may hold; 0 has no
	// limit. A larger tensor gets a file of its own. File does not look at
	// it, Files and Model do.
	MaxShardSize int64
	// Align is what the tensors of a safetensors file start at a multiple of:
	// a power of two from 8 (which 0 means) to safetensors.MaxAlignment.
	Align int
	// Metadata puts the plain numbers, truth values and texts that would be
	// dropped into the metadata of a safetensors file.
	Metadata bool
}

// canonical says that nothing asks for another file than the reference makes.
func (o Options) canonical() bool {
	return o.Output.MaxShardSize == 0 && o.Output.Align == 0 && len(o.Rename) == 0
}

func (o Output) align() int {
	if o.Align == 0 {
		return 8
	}
	return o.Align
}

// Check refuses what cannot be asked for together, or at all.
func (o Options) Check() error {
	switch a := o.Output.align(); {
	case o.Output.MaxShardSize < 0:
		return fmt.Errorf("a shard of %d bytes", o.Output.MaxShardSize)
	case a < 8 || a > safetensors.MaxAlignment || a&(a-1) != 0:
		return fmt.Errorf("alignment %d is no power of two from 8 to %d", a, safetensors.MaxAlignment)
	case o.to() != model.Safetensors && (o.Output.Align != 0 || o.Output.Metadata):
		return fmt.Errorf("only a safetensors file has a header to align and metadata, not %s", o.to())
	case o.to() == model.NPZ && o.Output.MaxShardSize > 0:
		return errors.New("npz has no index for shards")
	}
	return nil
}

// Input is the file to convert. The Plan reads from Blob as long as it lives.
type Input struct {
	Path   string // for a source of several files, the one that names the others
	Format model.Format
	Blob   model.Blob
	// Parts is set where the source is several files, which are read one
	// after the other as one: Blob is not, then.
	Parts []Part
	// Beside opens another file of the model, for formats that keep data in
	// other files; nil where there are none.
	Beside func(ctx context.Context, path string) (model.Blob, error)
}

// Converter makes plans from one family of formats.
type Converter interface {
	Name() string
	From() []model.Format
	// To is model.Safetensors: whoever lays that out lays out the others.
	To() model.Format
	Plan(ctx context.Context, in Input, opt Options) (*Plan, error)
}

// Default is the list of converters.
func Default() []Converter {
	return []Converter{
		fromTorch{},
		fromNumpy{},
		fromPickle{},
		fromJoblib{},
		fromHDF5{},
		fromDCP{},
		fromFlax{},
		fromGGUF{},
		fromONNX{},
		fromSafetensors{},
	}
}

// ErrNoConverter says that no converter takes a file's format to the one
// asked for.
var ErrNoConverter = errors.New("no converter")

// File plans the conversion of one file into one file. ErrNoConverter when no
// converter of the list takes the format; a file without a format is looked at
// first.
//
// What cannot be converted gives the typed errors of format/torch
// (*UnsupportedError, *AmbiguousError, *ForbiddenError, *RefusedError,
// *FormatError), of format (*Unsupported, *Error) or *safetensors.Error, two
// tensors that a renaming gives one name a *RenameError. The plan owns in.Blob
// or the parts once File succeeds; on failure they are still the caller's to
// close.
func File(ctx context.Context, in Input, opt Options) (*Plan, error) {
	opt.Output.MaxShardSize = 0
	return planFirst(ctx, in, opt)
}

// planFirst gives the plan of the first file; the others are in its shards.
func planFirst(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := opt.Check(); err != nil {
		return nil, err
	}
	if len(in.Parts) > 0 {
		whole, err := join(in.Parts)
		if err != nil {
			return nil, err
		}
		in.Blob = whole
	}
	if in.Format == "" {
		f, err := model.Sniff(in.Blob, in.Blob.Size())
		if err != nil {
			return nil, err
		}
		in.Format = f
	}
	c := converterFor(in.Format, opt)
	if c == nil {
		if err := recognise(in, opt); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w from %s to %s", ErrNoConverter, in.Format, opt.to())
	}
	p, err := c.Plan(ctx, in, opt)
	if err != nil {
		return nil, err
	}
	for _, q := range p.shards {
		q.Subtree, q.reopen = p.Subtree, p.reopen
	}
	return p, nil
}

// converterFor finds who reads a format. Whoever can make safetensors of it
// can write the other formats; but a file of torch's is not made into one
// again, and safetensors only where it is to be another file.
func converterFor(from model.Format, opt Options) Converter {
	switch to := opt.to(); {
	case to == model.Safetensors && from == model.Safetensors && opt.canonical():
		return nil
	case to == model.TorchZip && slices.Contains(fromTorch{}.From(), from):
		return nil
	case to != model.Safetensors && to != model.TorchZip && to != model.NPZ:
		return nil
	}
	for _, c := range Default() {
		if c.To() == model.Safetensors && slices.Contains(c.From(), from) {
			return c
		}
	}
	return nil
}

func (o Options) to() model.Format {
	if o.To == "" {
		return model.Safetensors
	}
	return o.To
}

// FileError says which file failed.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

var _ io.ReaderAt = (*Plan)(nil)
