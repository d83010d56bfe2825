package convert

import (
	"context"
	"io"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/hdf5"
	"github.com/weightseal/weightseal/model"
)

// fromHDF5 converts HDF5 files and the weights of Keras archives to
// safetensors, under the datasets' paths. Options.Select is a path in the file,
// joined by slashes; "" leaves an optimizer's state out, "." takes it along.
type fromHDF5 struct{}

func (fromHDF5) Name() string { return "hdf5-to-safetensors" }

func (fromHDF5) From() []model.Format { return []model.Format{model.HDF5, model.Keras} }

func (fromHDF5) To() model.Format { return model.Safetensors }

// Plan reads the file's structure and lays out the output. A Keras archive is
// a whole model: that its architecture is lost must be asked for.
func (fromHDF5) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if in.Format == model.Keras && !opt.WeightsOnly {
		return nil, &format.UnsupportedError{
			Format: "keras", What: "a whole model, whose architecture (config.json) is no tensors",
			Next: "take the tensors alone: --weights-only",
		}
	}
	open := func() (*format.Checkpoint, error) {
		read := hdf5.Open
		if in.Format == model.Keras {
			read = hdf5.OpenKeras
		}
		return read(in.Blob, in.Blob.Size(), hdf5.Options{Select: opt.Select})
	}
	ck, err := open()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := fromCheckpoint(in, "hdf5", ck, func() (map[string]io.ReaderAt, error) {
		again, err := open()
		if err != nil {
			return nil, err
		}
		return decoded(again), nil
	}, opt)
	if err == nil {
		p.Subtree = opt.Select
	}
	return p, err
}

// decoded are the storages of a checkpoint that are not in the file as they
// are, by key.
func decoded(ck *format.Checkpoint) map[string]io.ReaderAt {
	all := map[string]io.ReaderAt{}
	for i := range ck.Tensors {
		if st := ck.Tensors[i].Storage; st.Offset < 0 {
			all[st.Key] = st.Data
		}
	}
	return all
}
