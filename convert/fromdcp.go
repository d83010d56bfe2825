package convert

import (
	"context"
	"errors"
	"fmt"
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
		return nil, &format.UnsupportedError{Format: "dcp", Where: in.Path, What: "one file of a distributed checkpoint",
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

// OpenInput opens a file of a model as what is to be converted: the metadata
// of a distributed checkpoint with all files that belong to it. The caller
// closes it, or the plan that owns it.
func OpenInput(ctx context.Context, m *model.Model, f model.File) (Input, error) {
	in := Input{Path: f.Path, Format: f.Format, Beside: m.Open}
	var err error
	files := group(m, f)
	if len(files) == 1 {
		in.Blob, err = m.Open(ctx, f.Path)
		return in, err
	}
	for _, part := range files {
		blob, err := m.Open(ctx, part.Path)
		if err != nil {
			return Input{}, errors.Join(fmt.Errorf("%s: %w", part.Path, err), closeParts(in.Parts))
		}
		in.Parts = append(in.Parts, Part{Path: part.Path, Blob: blob})
	}
	return in, nil
}

// Close closes the file or files.
func (in Input) Close() error {
	if len(in.Parts) > 0 {
		return closeParts(in.Parts)
	}
	return in.Blob.Close()
}

// group gives the files of the checkpoint whose metadata is f, the metadata
// first; f alone for any other file.
func group(m *model.Model, f model.File) []model.File {
	files := []model.File{f}
	for _, s := range m.Files {
		if f.Format == model.DCP && s.Format == model.DCPShard && s.Set == f.Path {
			files = append(files, s)
		}
	}
	return files
}
