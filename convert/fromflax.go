package convert

import (
	"context"

	"github.com/weightseal/weightseal/format/flax"
	"github.com/weightseal/weightseal/model"
)

// fromFlax converts Flax's msgpack to safetensors.
type fromFlax struct{}

func (fromFlax) Name() string         { return "flax-to-safetensors" }
func (fromFlax) From() []model.Format { return []model.Format{model.Flax} }
func (fromFlax) To() model.Format     { return model.Safetensors }

// Plan reads the structure and lays out the output.
func (fromFlax) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ck, err := flax.Open(in.Blob, in.Blob.Size(), opt.Select, flax.Limits{})
	if err != nil {
		return nil, err
	}
	p, err := fromCheckpoint(in, "flax", ck, nil, opt)
	if err != nil {
		return nil, err
	}
	p.Subtree = opt.Select
	return p, nil
}
