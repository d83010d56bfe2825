package convert

import (
	"context"
	"errors"
	"io"
	"path"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/dcp"
	"github.com/weightseal/weightseal/model"
)

// fromDCP converts checkpoints of torch.distributed.checkpoint: a source of
// several files, of which the first is the metadata.
type fromDCP struct{}

func (fromDCP) Name() string { return "dcp-to-safetensors" }

func (fromDCP) From() []model.Format { return []model.Format{model.DCP, model.DCPShard} }

func (fromDCP) To() model.Format { return model.Safetensors }

// Plan reads the metadata and where the chunks lie, and lays out the output.
func (fromDCP) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(in.Parts) == 0 {
		return nil, &format.Unsupported{Format: "dcp", Where: in.Path, What: "one file of a distributed checkpoint",
			Next: "convert or push the folder that holds .metadata and all .distcp files"}
	}
	dir := path.Dir(in.Parts[0].Path)
	src := dcp.Source{Metadata: in.Parts[0].Blob, Size: in.Parts[0].Blob.Size()}
	at := src.Size
	for _, p := range in.Parts[1:] {
		name := p.Path
		if dir != "." {
			name = name[len(dir)+1:]
		}
		src.Files = append(src.Files, dcp.File{Name: name, Data: p.Blob, Size: p.Blob.Size(), Offset: at})
		at += p.Blob.Size()
	}
	ck, err := dcp.Open(ctx, src, dcp.Options{Select: opt.Select, Limits: dcp.Limits{Torch: opt.Limits}})
	if err != nil {
		return nil, err
	}
	p, err := fromCheckpoint(in, "dcp", &ck.Checkpoint, func() (map[string]io.ReaderAt, error) { return ck.Again(), nil }, opt)
	if err != nil {
		return nil, err
	}
	p.Subtree = ck.Subtree
	return p, nil
}

// group gives the files of the checkpoint whose metadata is f, the metadata
// first.
func (b *setBuilder) group(f model.File) []model.File {
	files := []model.File{f}
	for _, s := range b.m.Files {
		if s.Format == model.DCPShard && s.Set == f.Path {
			files = append(files, s)
		}
	}
	return files
}

// openParts opens the files of a source that is several.
func (b *setBuilder) openParts(ctx context.Context, files []model.File) ([]Part, error) {
	var parts []Part
	for _, f := range files {
		blob, err := b.m.Open(ctx, f.Path)
		if err != nil {
			return nil, errors.Join(err, closeParts(parts))
		}
		parts = append(parts, Part{Path: f.Path, Blob: blob})
	}
	return parts, nil
}

// planGroup plans a distributed checkpoint: several files become one.
func (b *setBuilder) planGroup(ctx context.Context, f model.File) error {
	files := b.group(f)
	parts, err := b.openParts(ctx, files)
	if err != nil {
		return err
	}
	p, err := File(ctx, Input{Path: f.Path, Format: f.Format, Parts: parts}, b.opt)
	if err != nil {
		return errors.Join(err, closeParts(parts))
	}
	b.set.Plans = append(b.set.Plans, p)
	for _, part := range files {
		b.set.Gone[part.Path] = "converted to " + p.Path
	}
	b.plans[f.Path] = p
	return nil
}
