package convert

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// fromTorch converts torch.save containers to safetensors.
type fromTorch struct{}

func (fromTorch) Name() string { return "torch-to-safetensors" }

func (fromTorch) From() []model.Format {
	return []model.Format{model.TorchZip, model.TorchLegacy, model.TorchTar, model.TorchScript}
}

func (fromTorch) To() model.Format { return model.Safetensors }

// Plan opens the container, chooses the tensors and lays out the output.
func (fromTorch) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ck, err := torch.Open(in.Blob, in.Blob.Size(), opt.Limits)
	if err != nil {
		return nil, err
	}
	state, err := ck.SelectWith(torch.SelectOptions{
		Path: opt.Select, AllowInert: opt.WeightsOnly, SplitQuantized: opt.SplitQuantized, SplitSparse: opt.SplitSparse,
	})
	if err != nil {
		return nil, err
	}
	notes := append(slices.Clone(ck.Findings), state.Findings...)
	if err := refused(notes); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := fromState(in, state, ck.BigEndian, opt)
	if err != nil {
		return nil, err
	}
	p.Notes = append(notes, p.Notes...)
	p.reopen = func() (map[string]io.ReaderAt, error) { return inflating(in.Blob, state, opt.Limits) }
	return p, nil
}

// fromState lays out the tensors of a state dict.
func fromState(in Input, state *torch.StateDict, bigEndian bool, opt Options) (*Plan, error) {
	tensors, err := torchTensors(state, bigEndian)
	if err != nil {
		return nil, err
	}
	c := &contents{format: "torch", framework: "pt", tensors: tensors, dropped: state.Dropped, values: state.Values}
	p, err := layOut(in, c, opt)
	if err != nil {
		return nil, err
	}
	p.Subtree = state.Subtree
	return p, nil
}

// torchTensors sees a state dict's tensors as views of plain storages.
func torchTensors(state *torch.StateDict, bigEndian bool) ([]source, error) {
	storages := map[*torch.Storage]*format.Storage{}
	all := make([]source, len(state.Tensors))
	for i := range state.Tensors {
		t := &state.Tensors[i]
		form, err := elementOf(t, bigEndian)
		if err != nil {
			return nil, err
		}
		st := storages[t.Storage]
		if st == nil && t.Storage != nil {
			st = &format.Storage{Data: t.Storage.Data, Length: t.Storage.Length, Offset: t.Storage.Offset, Key: t.Storage.Key}
			if t.Storage.Deflated || t.Storage.Literal != nil {
				st.Offset = -1
			}
			storages[t.Storage] = st
		}
		all[i] = source{form: form, Tensor: format.Tensor{
			Name: t.Name, DType: t.DType, Shape: t.Shape,
			Size: t.Size, Stride: t.Stride, Offset: t.Offset, Storage: st,
		}}
	}
	return all, nil
}

// inflating opens a checkpoint's compressed storages, and what its pickle
// holds itself.
func inflating(blob model.Blob, state *torch.StateDict, lim torch.Limits) (map[string]io.ReaderAt, error) {
	ck, err := torch.Open(blob, blob.Size(), lim)
	if err != nil {
		return nil, err
	}
	all := map[string]io.ReaderAt{}
	for key, st := range ck.Storages {
		if st.Deflated {
			all[key] = st.Data
		}
	}
	for i := range state.Tensors {
		if st := state.Tensors[i].Storage; st != nil && st.Literal != nil {
			all[st.Key] = bytes.NewReader(st.Literal)
		}
	}
	return all, nil
}

// refused gives an error for findings that no conversion may pass over.
func refused(notes []torch.Finding) error {
	var bad []torch.Finding
	for _, n := range notes {
		if n.Refuse {
			bad = append(bad, n)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &torch.RefusedError{Findings: bad}
}
