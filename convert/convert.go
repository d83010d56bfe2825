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
	Path   string // for a source of several files, the one that names the others
	Format model.Format
	Blob   model.Blob
	// Parts is set where the source is several files, which are read one
	// after the other as one: Blob is not, then.
	Parts []Part
}

// Converter makes plans from one family of formats.
type Converter interface {
	Name() string
	From() []model.Format
	To() model.Format
	Plan(ctx context.Context, in Input, opt Options) (*Plan, error)
}

// Default is the list of converters.
func Default() []Converter { return []Converter{fromTorch{}, fromDCP{}, toTorch{}} }

// ErrNoConverter says that no converter takes a file's format to the one
// asked for.
var ErrNoConverter = errors.New("no converter")

// File plans the conversion of one file. ErrNoConverter when no converter of
// the list takes the format; a file without a format is looked at first.
//
// What cannot be converted gives the typed errors of format/torch
// (*UnsupportedError, *AmbiguousError, *ForbiddenError, *RefusedError,
// *FormatError) or *safetensors.Error. The plan owns in.Blob or the parts once
// File succeeds; on failure they are still the caller's to close.
func File(ctx context.Context, in Input, opt Options) (*Plan, error) {
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
		return nil, fmt.Errorf("%w from %s to %s", ErrNoConverter, in.Format, opt.to())
	}
	return c.Plan(ctx, in, opt)
}

func converterFor(from model.Format, opt Options) Converter {
	for _, c := range Default() {
		if c.To() == opt.to() && slices.Contains(c.From(), from) {
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
