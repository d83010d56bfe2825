package convert

import (
	"context"
	"io"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/joblib"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/model"
)

// codec reads a file of one family of formats.
type codec func(r io.ReaderAt, size int64) (*format.Checkpoint, error)

// fromNumpy converts .npy and .npz files to safetensors.
type fromNumpy struct{}

func (fromNumpy) Name() string         { return "numpy-to-safetensors" }
func (fromNumpy) From() []model.Format { return []model.Format{model.NPY, model.NPZ} }
func (fromNumpy) To() model.Format     { return model.Safetensors }

// Plan reads the headers and lays out the output.
func (fromNumpy) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	open := numpy.OpenNPZ
	if in.Format == model.NPY {
		open = numpy.Open
	}
	return planWith(ctx, in, string(in.Format), opt, func(r io.ReaderAt, size int64) (*format.Checkpoint, error) {
		return open(r, size, numpyLimits(opt))
	})
}

// fromPickle converts arrays in pickles that are no torch container, Paddle's
// and joblib's among them, to safetensors.
type fromPickle struct{}

func (fromPickle) Name() string         { return "pickle-to-safetensors" }
func (fromPickle) From() []model.Format { return []model.Format{model.Pickle} }
func (fromPickle) To() model.Format     { return model.Safetensors }

// Plan runs the pickle symbolically and lays out the output.
func (fromPickle) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	return planJoblib(ctx, in, opt)
}

// fromJoblib converts joblib's compressed files to safetensors.
type fromJoblib struct{}

func (fromJoblib) Name() string { return "joblib-to-safetensors" }

func (fromJoblib) From() []model.Format {
	return []model.Format{model.Zlib, model.Gzip, model.Bzip2, model.XZ, model.LZMA}
}

func (fromJoblib) To() model.Format { return model.Safetensors }

// Plan decompresses the file once and lays out the output.
func (fromJoblib) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	return planJoblib(ctx, in, opt)
}

// planJoblib plans from a pickle: joblib writes it as it is, or compressed, or
// with the arrays' bytes between the opcodes.
func planJoblib(ctx context.Context, in Input, opt Options) (*Plan, error) {
	return planWith(ctx, in, "pickle", opt, func(r io.ReaderAt, size int64) (*format.Checkpoint, error) {
		return joblib.Open(r, size, numpyLimits(opt))
	})
}

func numpyLimits(opt Options) numpy.Limits {
	return numpy.Limits{Pickle: opt.Limits.Pickle}
}

// planWith plans from what a codec reads, which also opens the compressed
// storages a second time.
func planWith(ctx context.Context, in Input, name string, opt Options, open codec) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ck, err := open(in.Blob, in.Blob.Size())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := selectPart(ck, name, opt.Select); err != nil {
		return nil, err
	}
	p, err := fromCheckpoint(in, name, ck, func() (map[string]io.ReaderAt, error) {
		again, err := open(in.Blob, in.Blob.Size())
		if err != nil {
			return nil, err
		}
		all := map[string]io.ReaderAt{}
		for i := range again.Tensors {
			if st := again.Tensors[i].Storage; st.Offset < 0 && st.Key != "" {
				all[st.Key] = st.Data
			}
		}
		return all, nil
	}, opt)
	if err == nil {
		p.Subtree = opt.Select
	}
	return p, err
}

// selectPart keeps the tensors below a path, and lists the others as dropped.
func selectPart(ck *format.Checkpoint, name, path string) error {
	if path == "" {
		return nil
	}
	var kept []format.Tensor
	for _, t := range ck.Tensors {
		rest, ok := strings.CutPrefix(t.Name, path+".")
		if !ok {
			ck.Dropped = append(ck.Dropped, format.Dropped{Path: t.Name, Kind: "tensor", Reason: "not in " + path})
			continue
		}
		t.Name = rest
		kept = append(kept, t)
	}
	if len(kept) == 0 {
		return &format.Error{Format: name, Where: path, Offset: -1, Detail: "no such subtree with tensors in it"}
	}
	ck.Tensors = kept
	return nil
}
