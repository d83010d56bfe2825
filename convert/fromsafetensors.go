package convert

import (
	"context"
	"maps"
	"slices"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// fromSafetensors makes other formats of safetensors, and safetensors that is
// split, renamed or aligned.
type fromSafetensors struct{}

func (fromSafetensors) Name() string         { return "safetensors" }
func (fromSafetensors) From() []model.Format { return []model.Format{model.Safetensors} }
func (fromSafetensors) To() model.Format     { return model.Safetensors }

// Plan reads the header. Ties that the metadata records share one storage
// again.
func (fromSafetensors) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.Select != "" {
		return nil, &torch.UnsupportedError{Path: opt.Select, What: "subtree of a safetensors file: it has none", Next: "leave the selection out"}
	}
	h, err := safetensors.ReadHeader(in.Blob, in.Blob.Size())
	if err != nil {
		return nil, err
	}
	if err := h.Strict(); err != nil {
		return nil, err
	}
	return layOut(in, stored(in.Blob, h, opt), opt)
}

// stored lists the tensors in the order of the file, each followed by the
// names tied to it.
func stored(blob model.Blob, h *safetensors.Header, opt Options) *contents {
	tied := h.Aliases()
	names := map[string][]string{}
	for _, removed := range slices.Sorted(maps.Keys(tied)) {
		names[tied[removed]] = append(names[tied[removed]], removed)
	}
	c := &contents{format: "safetensors", metadata: map[string]string{}}
	for i := range h.Tensors {
		t := &h.Tensors[i]
		n := int64(t.End - t.Begin)
		at := h.DataStart() + int64(t.Begin)
		// As bytes: a header says how many there are, whatever the dtype.
		x := source{form: element{size: 1}, tied: true, Tensor: format.Tensor{
			Name: t.Name, DType: t.DType, Shape: t.Shape, Size: []int64{n}, Stride: []int64{1},
			Storage: &format.Storage{Data: section{blob, at}, Length: n, Offset: at},
		}}
		c.tensors = append(c.tensors, x)
		for _, name := range names[t.Name] {
			x.Name = name
			c.tensors = append(c.tensors, x)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.Metadata)) {
		switch _, ok := tied[key]; {
		case ok:
		case opt.to() == model.Safetensors:
			c.metadata[key] = h.Metadata[key]
		case key != formatKey:
			c.dropped = append(c.dropped, format.Dropped{Path: metadataKey + "." + key, Kind: "metadata", Reason: "a file of " + string(opt.to()) + " has no metadata"})
		}
	}
	return c
}

// section reads a blob from an offset on.
type section struct {
	blob model.Blob
	at   int64
}

func (s section) ReadAt(b []byte, off int64) (int, error) { return s.blob.ReadAt(b, s.at+off) }
