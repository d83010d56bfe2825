package dcp

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
)

// Open reads a checkpoint: the metadata, and of each blob that holds a chunk
// of a chosen tensor its directory and pickle, but no tensor bytes.
//
// Every element of a tensor must be in exactly one chunk, and every chunk in
// a blob of its shape and dtype; anything else is a *format.Error. What
// cannot be converted without loss is a *format.UnsupportedError or an error of
// package torch; weights beside training state a *torch.AmbiguousError.
func Open(ctx context.Context, src Source, opt Options) (*Checkpoint, error) {
	m, err := ReadMetadata(src.Metadata, src.Size, opt.Limits)
	if err != nil {
		return nil, err
	}
	o := &opener{lim: opt.Limits.defaults(), files: map[string]*File{}, used: map[string]bool{}}
	o.work = o.lim.Comparisons
	for i := range src.Files {
		o.files[src.Files[i].Name] = &src.Files[i]
	}
	if err := o.places(m); err != nil {
		return nil, err
	}
	for _, f := range src.Files {
		if !o.used[f.Name] && f.Size > 0 {
			return nil, unsupported(f.Name, "checkpoint with a file that its metadata does not name",
				"remove the file if it is left from an earlier save, or leave it out: --exclude")
		}
	}
	ck := &Checkpoint{Checkpoint: format.Checkpoint{Framework: "pt"}}
	chosen, err := choose(m, opt.Select, ck)
	if err != nil {
		return nil, err
	}
	for _, c := range chosen {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t, a, err := o.tensor(c.tensor, c.name)
		if err != nil {
			return nil, err
		}
		ck.Tensors = append(ck.Tensors, t)
		if a != nil {
			ck.built = append(ck.built, a)
		}
	}
	return ck, o.objects(ctx, m, ck)
}

// opener opens blobs.
type opener struct {
	lim   Limits
	files map[string]*File
	used  map[string]bool
	work  int
}

// places checks that every blob lies in a file that is there.
func (o *opener) places(m *Metadata) error {
	check := func(entry string, p Place) error {
		f := o.files[p.File]
		if f == nil {
			return broken(entry, "its bytes are in "+quote(p.File)+", which is not in the folder")
		}
		if p.Offset > f.Size || p.Length > f.Size-p.Offset {
			return broken(entry, fmt.Sprintf("its bytes are %d from %d on in %s, which has %d", p.Length, p.Offset, quote(p.File), f.Size))
		}
		o.used[p.File] = true
		return nil
	}
	for _, t := range m.Tensors {
		for _, c := range t.Chunks {
			if err := check(t.Name, c.Place); err != nil {
				return err
			}
		}
	}
	for _, x := range m.Objects {
		if err := check(x.Name, x.Place); err != nil {
			return err
		}
	}
	return nil
}

// tensor opens the chunks of a tensor.
func (o *opener) tensor(t *Tensor, outName string) (out format.Tensor, built *assembly, err error) {
	dtype, elem, err := elementOf(t)
	if err != nil {
		return out, nil, err
	}
	if err := checkChunks(t, elem); err != nil {
		return out, nil, err
	}
	views := make([]format.Tensor, len(t.Chunks))
	boxes := make([]box, len(t.Chunks))
	swap := int64(0)
	for i, c := range t.Chunks {
		v, err := o.chunk(t, c, dtype)
		if err != nil {
			return out, nil, err
		}
		if i == 0 {
			swap = v.Swap
		}
		if v.Swap != swap {
			return out, nil, broken(t.Name, "its chunks are of several byte orders")
		}
		views[i] = v
		boxes[i] = box{offset: c.Offset, size: c.Size, data: v.Storage.Data, base: v.Offset * elem, stride: scaled(v.Stride, elem)}
	}
	out = format.Tensor{Name: outName, DType: dtype, Shape: shapeOf(dtype, t.Size), Size: t.Size, Swap: swap}
	a, err := assemble(t.Name, t.Size, elem, boxes, &o.work)
	if err != nil {
		return out, nil, err
	}
	if len(t.Chunks) == 1 {
		out.Stride, out.Offset, out.Storage = views[0].Stride, views[0].Offset, views[0].Storage
		return out, nil, nil
	}
	out.Stride = format.RowMajor(t.Size)
	out.Storage = &format.Storage{Data: a, Length: a.length(), Offset: -1, Key: t.Name}
	return out, a, nil
}

func scaled(stride []int64, elem int64) []int64 {
	out := slices.Clone(stride)
	for i := range out {
		out[i] *= elem
	}
	return out
}

// elementOf gives a tensor's type and the bytes of an element (of the
// two-element byte for F4).
func elementOf(t *Tensor) (safetensors.DType, int64, error) {
	dtype, ok := torch.DTypeOf(t.DType)
	if !ok {
		return 0, 0, unsupported(t.Name, t.DType+" tensor", "save it in a dtype that safetensors has, and convert that")
	}
	if dtype == safetensors.F4 {
		if len(t.Size) == 0 {
			return 0, 0, broken(t.Name, "a float4 tensor without dimensions")
		}
		return dtype, 1, nil
	}
	return dtype, int64(dtype.Bits() / 8), nil
}

func shapeOf(dtype safetensors.DType, size []int64) []uint64 {
	shape := make([]uint64, len(size))
	for i, n := range size {
		shape[i] = uint64(n)
	}
	if dtype == safetensors.F4 {
		shape[len(shape)-1] *= 2
	}
	return shape
}

// checkChunks checks that the chunks lie in the tensor and sizes do not
// overflow.
func checkChunks(t *Tensor, elem int64) error {
	total, ok := volume(t.Size)
	if !ok || total > (1<<62)/elem {
		return broken(t.Name, "it has more bytes than can be counted")
	}
	if len(t.Chunks) == 0 {
		return broken(t.Name, "it has no chunks")
	}
	for _, c := range t.Chunks {
		if len(c.Offset) != len(t.Size) || len(c.Size) != len(t.Size) {
			return broken(t.Name, fmt.Sprintf("a chunk of %d dimensions in a tensor of %d", len(c.Size), len(t.Size)))
		}
		for d, n := range t.Size {
			if c.Offset[d] > n || c.Size[d] > n-c.Offset[d] {
				return broken(t.Name, fmt.Sprintf("the chunk of %v at %v reaches out of a tensor of %v", c.Size, c.Offset, t.Size))
			}
		}
	}
	return nil
}

// chunk opens the blob of a chunk.
func (o *opener) chunk(t *Tensor, c Chunk, dtype safetensors.DType) (v format.Tensor, err error) {
	ck, err := o.blob(t.Name, c.Place)
	if err != nil {
		return v, err
	}
	state, err := ck.SelectWith(torch.SelectOptions{Path: torch.WholeRoot})
	if err != nil {
		return v, fmt.Errorf("%s: %s: %w", name, quote(t.Name), err)
	}
	if len(state.Tensors) != 1 || len(state.Tensors[0].Path) != 0 || len(state.Dropped) != 0 {
		return v, broken(t.Name, fmt.Sprintf("the blob at %d of %s is not one tensor", c.Place.Offset, quote(c.Place.File)))
	}
	x := &state.Tensors[0]
	switch {
	case x.DType != dtype:
		return v, broken(t.Name, fmt.Sprintf("the metadata says %s, the blob at %d of %s holds %s", dtype, c.Place.Offset, quote(c.Place.File), x.DType))
	case !slices.Equal(x.Size, c.Size):
		return v, broken(t.Name, fmt.Sprintf("the metadata says a chunk of %v, the blob at %d of %s holds %v", c.Size, c.Place.Offset, quote(c.Place.File), x.Size))
	case x.Conj || x.Neg:
		return v, unsupported(t.Name, "tensor with a conjugate or negative bit", "save it again after resolve_conj() and resolve_neg()")
	case x.Storage.Deflated:
		return v, unsupported(t.Name, "checkpoint with compressed blobs", "save it again with torch.distributed.checkpoint, uncompressed")
	}
	f := o.files[c.Place.File]
	st := &format.Storage{Data: x.Storage.Data, Length: x.Storage.Length, Offset: f.Offset + c.Place.Offset + x.Storage.Offset, Key: x.Storage.Key}
	v = format.Tensor{DType: dtype, Size: x.Size, Stride: x.Stride, Offset: x.Offset, Storage: st}
	if ck.BigEndian {
		v.Swap = swapOf(dtype)
	}
	return v, nil
}

// swapOf is how many bytes a number of a big-endian file has; 0 for one.
func swapOf(dtype safetensors.DType) int64 {
	switch n := int64(dtype.Bits() / 8); {
	case dtype == safetensors.C64:
		return 4
	case n > 1:
		return n
	}
	return 0
}

// blob opens what torch.save wrote at a place.
func (o *opener) blob(entry string, p Place) (*torch.Checkpoint, error) {
	r := io.NewSectionReader(o.files[p.File].Data, p.Offset, p.Length)
	var head [9]byte
	if n, _ := r.ReadAt(head[:], 0); n == len(head) && head[8] == '{' && head[7] == 0 && head[6] == 0 && head[5] == 0 {
		return nil, unsupported(entry, "checkpoint whose blobs are safetensors (SerializationFormat.SAFETENSORS)",
			"consolidate it with torch.distributed.checkpoint's HuggingFace storage writer or consolidate_safetensors_files, and push the result as it is")
	}
	ck, err := torch.Open(r, p.Length, o.lim.Torch)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: the blob at %d of %s: %w", name, quote(entry), p.Offset, quote(p.File), err)
	}
	if ck.Container != torch.Zip && ck.Container != torch.Legacy {
		return nil, broken(entry, fmt.Sprintf("the blob at %d of %s is a %s file", p.Offset, quote(p.File), ck.Container))
	}
	return ck, nil
}

// objects lists what is no tensor as dropped. One that holds tensors inside
// is no plain value: they would be lost without a word.
func (o *opener) objects(ctx context.Context, m *Metadata, ck *Checkpoint) error {
	for _, x := range m.Objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !inside(x.Path, ck.Subtree) {
			continue // listed with what lies beside the subtree
		}
		b, err := o.blob(x.Name, x.Place)
		if err != nil {
			return err
		}
		if len(b.Storages) > 0 {
			return unsupported(x.Name, "object with tensors inside", "save the tensors inside it as entries of the state dict, or leave the entry out of it")
		}
		ck.Dropped = append(ck.Dropped, format.Dropped{Path: x.Name, Kind: kindOf(b.Root), Reason: "no tensor"})
	}
	return nil
}
