package convert

import (
	"context"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/gguf"
	"github.com/weightseal/weightseal/model"
)

// fromGGUF converts GGUF files whose tensors are not quantised to safetensors.
type fromGGUF struct{}

func (fromGGUF) Name() string         { return "gguf-to-safetensors" }
func (fromGGUF) From() []model.Format { return []model.Format{model.GGUF} }
func (fromGGUF) To() model.Format     { return model.Safetensors }

// Plan reads the header and lays out the output.
func (fromGGUF) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := noSubtrees("gguf", opt); err != nil {
		return nil, err
	}
	ck, err := gguf.Open(in.Blob, in.Blob.Size(), gguf.Limits{})
	if err != nil {
		return nil, err
	}
	return fromCheckpoint(in, "gguf", ck, nil, opt)
}

// noSubtrees refuses a selection in a format that has no subtrees.
func noSubtrees(name string, opt Options) error {
	if opt.Select == "" {
		return nil
	}
	return &format.UnsupportedError{Format: name, Where: opt.Select, What: "a " + name + " file has no subtrees", Next: "leave --select out"}
}
