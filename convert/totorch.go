package convert

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// toTorch converts safetensors to torch.save zip archives.
type toTorch struct{}

func (toTorch) Name() string         { return "safetensors-to-torch" }
func (toTorch) From() []model.Format { return []model.Format{model.Safetensors} }
func (toTorch) To() model.Format     { return model.TorchZip }

// Plan reads the header and lays out the archive. Ties that the metadata
// records share one storage again.
func (toTorch) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
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
	p := newPlan(in, model.TorchZip)
	p.Header = h
	tied := h.Aliases()
	p.Dropped = droppedMetadata(h, tied)
	layout, err := torch.NewLayout(saved(h, tied))
	if err != nil {
		return nil, err
	}
	if err := p.addLayout(layout); err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// droppedMetadata lists what a torch.save file has no place for.
func droppedMetadata(h *safetensors.Header, tied map[string]string) []torch.Dropped {
	var out []torch.Dropped
	for _, key := range slices.Sorted(maps.Keys(h.Metadata)) {
		if _, ok := tied[key]; ok || key == formatKey {
			continue
		}
		out = append(out, torch.Dropped{Path: metadataKey + "." + key, Kind: "metadata", Reason: "a torch.save file of tensors has no metadata"})
	}
	return out
}

// saved lists the tensors in the order of the file, each followed by the names
// tied to it.
func saved(h *safetensors.Header, tied map[string]string) []torch.Saved {
	names := map[string][]string{}
	for removed, kept := range tied {
		names[kept] = append(names[kept], removed)
	}
	out := make([]torch.Saved, 0, len(h.Tensors)+len(tied))
	for i := range h.Tensors {
		t := &h.Tensors[i]
		out = append(out, torch.Saved{Name: t.Name, DType: t.DType, Shape: t.Shape, Storage: i})
		slices.SortFunc(names[t.Name], strings.Compare)
		for _, name := range names[t.Name] {
			out = append(out, torch.Saved{Name: name, DType: t.DType, Shape: t.Shape, Storage: i})
		}
	}
	return out
}

// addLayout turns the layout's pieces into segments. Storage i is tensor i of
// the header.
func (p *Plan) addLayout(l *torch.Layout) error {
	h := p.Header
	p.sums = newCRCs(p, l, len(h.Tensors))
	start := h.DataStart()
	for _, piece := range l.Pieces() {
		s := segment{size: piece.Size}
		switch piece.Kind {
		case torch.PieceBytes:
			s.literal = piece.Bytes
		case torch.PieceData:
			s.src, s.file, s.from = p.blob, true, start+int64(h.Tensors[piece.Storage].Begin)
			s.summed = piece.Storage + 1
		case torch.PieceDescriptor:
			p.addStored(piece.Storage)
			storage := piece.Storage
			s.late = func() ([]byte, error) { return p.sums.descriptor(storage) }
		case torch.PieceDirectory:
			s.late = p.sums.directory
		}
		if err := p.add(s); err != nil {
			return err
		}
		if piece.Kind == torch.PieceData {
			p.sums.place(piece.Storage, s.from, piece.Size)
		}
	}
	return nil
}

// addStored notes tensor i, whose bytes were just laid out.
func (p *Plan) addStored(i int) {
	t := &p.Header.Tensors[i]
	length := int64(t.End - t.Begin)
	o := origin{data: p.blob, base: p.Header.DataStart() + int64(t.Begin), form: element{size: 1}, length: length, adjacent: true}
	o.file = o.base
	p.tensors = append(p.tensors, planned{name: t.Name, dtype: t.DType, shape: t.Shape, from: p.size - length, to: p.size, origin: o})
}
