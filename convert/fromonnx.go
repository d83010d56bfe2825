package convert

import (
	"context"
	"io"

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
	open := func() (*format.Checkpoint, error) { return onnx.Open(in.Blob, in.Blob.Size(), onnx.Options{}) }
	ck, err := open()
	if err != nil {
		return nil, err
	}
	return fromCheckpoint(in, "onnx", ck, func() (map[string]io.ReaderAt, error) {
		again, err := open()
		if err != nil {
			return nil, err
		}
		return keyed(again), nil
	}, opt)
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
