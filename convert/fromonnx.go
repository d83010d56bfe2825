package convert

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/onnx"
	"github.com/weightseal/weightseal/model"
)

// fromONNX converts the initialisers of ONNX models to safetensors.
type fromONNX struct{}

func (fromONNX) Name() string         { return "onnx-to-safetensors" }
func (fromONNX) From() []model.Format { return []model.Format{model.ONNX} }
func (fromONNX) To() model.Format     { return model.Safetensors }

// Plan reads the structure and lays out the output.
func (fromONNX) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := noSubtrees("onnx", opt); err != nil {
		return nil, err
	}
	files := &onnxFiles{ctx: ctx, in: in, parts: []Part{{Path: in.Path, Blob: in.Blob}}, end: in.Blob.Size()}
	var ext onnx.Options
	if in.Beside != nil {
		ext.External = files.open
	}
	open := func() (*format.Checkpoint, error) { return onnx.Open(in.Blob, in.Blob.Size(), ext) }
	ck, err := open()
	if err == nil {
		var p *Plan
		p, err = planONNX(files, ck, open, opt)
		if err == nil {
			return p, nil
		}
	}
	return nil, errors.Join(err, closeParts(files.parts[1:]))
}

func planONNX(files *onnxFiles, ck *format.Checkpoint, open func() (*format.Checkpoint, error), opt Options) (*Plan, error) {
	in := files.in
	if len(files.parts) > 1 {
		whole, err := join(files.parts)
		if err != nil {
			return nil, err
		}
		in.Parts, in.Blob = files.parts, whole
	}
	return fromCheckpoint(in, "onnx", ck, func() (map[string]io.ReaderAt, error) {
		again, err := open()
		if err != nil {
			return nil, err
		}
		return keyed(again), nil
	}, opt)
}

// onnxFiles are a model and the files that its tensors lie in, which are read
// as one: each begins where the one before it ends.
type onnxFiles struct {
	ctx   context.Context
	in    Input
	parts []Part
	end   int64 // of the last part in the whole
}

// open opens a file beside the model, once.
func (f *onnxFiles) open(location string) (onnx.File, error) {
	name, at := path.Join(path.Dir(f.in.Path), location), int64(0)
	for _, p := range f.parts {
		if p.Path == name {
			return onnx.File{Data: p.Blob, Size: p.Blob.Size(), At: at}, nil
		}
		at += p.Blob.Size()
	}
	blob, err := f.in.Beside(f.ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return onnx.File{}, &format.UnsupportedError{Format: "onnx", Where: name, What: "file with the model's data that is not there",
			Next: "put it beside the model, and convert it again"}
	}
	if err != nil {
		return onnx.File{}, err
	}
	at, f.end = f.end, f.end+blob.Size()
	f.parts = append(f.parts, Part{Path: name, Blob: blob})
	return onnx.File{Data: blob, Size: blob.Size(), At: at}, nil
}

// keyed gives the storages of a checkpoint that are not ranges of its file.
func keyed(ck *format.Checkpoint) map[string]io.ReaderAt {
	all := map[string]io.ReaderAt{}
	for i := range ck.Tensors {
		if st := ck.Tensors[i].Storage; st.Offset < 0 && st.Key != "" {
			all[st.Key] = st.Data
		}
	}
	return all
}
