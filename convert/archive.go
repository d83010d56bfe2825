package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/npz"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
)

// layTorch lays out a torch.save archive: each tensor followed by the names
// tied to it, which share its storage.
func (p *Plan) layTorch(c *contents, part []int) error {
	names := map[string][]string{}
	for _, a := range p.Aliases {
		names[a.Kept] = append(names[a.Kept], a.Removed)
	}
	saved := make([]torch.Saved, 0, len(part)+len(p.Aliases))
	newer := map[string][]string{}
	for storage, i := range part {
		t := &c.tensors[i]
		saved = append(saved, torch.Saved{Name: t.Name, DType: t.DType, Shape: t.Shape, Storage: storage})
		for _, name := range names[t.Name] {
			saved = append(saved, torch.Saved{Name: name, DType: t.DType, Shape: t.Shape, Storage: storage})
		}
		v, d := torch.SinceVersion(t.DType), t.DType.String()
		if v != "" && !slices.Contains(newer[v], d) {
			newer[v] = append(newer[v], d)
		}
	}
	layout, err := torch.NewLayout(saved)
	if err != nil {
		return err
	}
	for _, v := range sortedKeys(newer) {
		slices.Sort(newer[v])
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s needs torch %s or later to be loaded", strings.Join(newer[v], ", "), v))
	}
	return p.layArchive(c, part, &layout.Archive)
}

// layNPZ lays out an .npz archive. It has no ties: every name is written.
func (p *Plan) layNPZ(c *contents, part []int) error {
	specs := make([]safetensors.Spec, len(part))
	for k, i := range part {
		specs[k] = specOf(&c.tensors[i])
	}
	layout, err := npz.NewLayout(specs)
	if err != nil {
		return err
	}
	return p.layArchive(c, part, layout)
}

// layArchive turns the pieces of an archive into segments. Data record k is
// tensor part[k].
func (p *Plan) layArchive(c *contents, part []int, layout *format.Archive) error {
	h, _, err := p.header(c, part, 8)
	if err != nil {
		return err
	}
	p.Header = h
	p.sums = newCRCs(p, layout, len(part))
	for _, piece := range layout.Pieces() {
		s := segment{size: piece.Size}
		switch k := piece.Record; piece.Kind {
		case format.PieceData:
			if err := p.addTensor(&c.tensors[part[k]], piece.Size, k+1); err != nil {
				return err
			}
			p.sums.place(k, len(p.segments)-1, piece.Size)
			continue
		case format.PieceBytes:
			s.literal = piece.Bytes
		case format.PieceDescriptor:
			s.late = func() ([]byte, error) { return p.sums.descriptor(k) }
		case format.PieceDirectory:
			s.late = p.sums.directory
		}
		if err := p.add(s); err != nil {
			return err
		}
	}
	return nil
}
