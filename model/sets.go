package model

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format/dcp"
)

// sets finds the checkpoints that are several files: what a file of one is,
// only the file says that names it.
func (m *Model) sets(ctx context.Context) error {
	for i := range m.Files {
		f := &m.Files[i]
		if path.Base(f.Path) != dcp.MetadataName || f.Format != Pickle {
			continue
		}
		b, err := m.Open(ctx, f.Path)
		if err != nil {
			return err
		}
		is := dcp.IsMetadata(b, b.Size())
		if err := b.Close(); err != nil {
			return err
		}
		if is {
			m.distributed(f)
		}
	}
	return nil
}

// distributed marks a folder's files as those of one checkpoint.
func (m *Model) distributed(meta *File) {
	meta.Format, meta.Set = DCP, meta.Path
	for i := range m.Files {
		f := &m.Files[i]
		if path.Dir(f.Path) != path.Dir(meta.Path) || !strings.HasSuffix(f.Path, dcp.Extension) {
			continue
		}
		if slices.Contains([]Format{TorchZip, TorchScript, TorchLegacy, Pickle, ZIP, Empty, Unknown}, f.Format) {
			f.Format, f.Role, f.Set = DCPShard, Weight, meta.Path
		}
	}
}
