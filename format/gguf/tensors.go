package gguf

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

// info is a tensor of the header.
type info struct {
	name       string
	shape      []uint64 // row-major: ggml's order reversed
	kind       kind
	begin, end uint64 // in the data
	at         int64  // of its entry
}

const maxDims = 8 // ggml has 4

func (g *reader) readInfos(n uint64) error {
	seen := map[string]bool{}
	for range n {
		at := g.Pos()
		name, err := g.named("tensors", seen)
		if err != nil {
			return err
		}
		if err := g.info(info{name: name, at: at}); err != nil {
			return err
		}
	}
	return nil
}

// info reads one entry. ggml counts dimensions from the one whose elements lie
// side by side, so the shape is the reverse.
func (g *reader) info(t info) error {
	dims, err := g.Uint(4)
	if err != nil {
		return err
	}
	if dims > maxDims {
		return g.Errorf(t.at, t.name, "%d dimensions", dims)
	}
	for range dims {
		d, err := g.Uint(8)
		if err != nil {
			return err
		}
		t.shape = append(t.shape, d)
	}
	count, ok := format.Elements(t.shape)
	if !ok {
		return g.Errorf(t.at, t.name, "the product of the dimensions %v is too large", t.shape)
	}
	number, err := g.Uint(4)
	if err != nil {
		return err
	}
	if t.begin, err = g.Uint(8); err != nil {
		return err
	}
	var known bool
	if t.kind, known = kinds[number]; !known {
		return &format.UnsupportedError{
			Format: name, Where: t.name, What: fmt.Sprintf("tensor type %d of ggml, which is not known or was removed", number),
			Next: "make the GGUF file again from the original weights: convert_hf_to_gguf.py --outtype bf16",
		}
	}
	row := uint64(1)
	if len(t.shape) > 0 {
		row = t.shape[0]
	}
	if row%t.kind.elements != 0 {
		return g.Errorf(t.at, t.name, "rows of %d elements are no whole blocks of %d", row, t.kind.elements)
	}
	length := count / t.kind.elements * t.kind.bytes // at most 2^56 * 8
	if t.begin > 1<<62 || length > 1<<62 {
		return g.Errorf(t.at, t.name, "it lies at %d and has %d bytes", t.begin, length)
	}
	t.end = t.begin + length
	slices.Reverse(t.shape)
	g.infos = append(g.infos, t)
	return nil
}

// listed is how many tensors an error lists by name.
const listed = 24

// quantised refuses files with tensors that no safetensors dtype can hold.
func (g *reader) quantised() error {
	count := map[string]int{}
	var names []string
	total := 0
	for _, t := range g.infos {
		if t.kind.dtype != 0 {
			continue
		}
		total++
		count[t.kind.name]++
		if total <= listed {
			names = append(names, t.name+" ("+t.kind.name+")")
		}
	}
	if total == 0 {
		return nil
	}
	if total > listed {
		names = append(names, fmt.Sprintf("and %d more", total-listed))
	}
	var types []string
	for _, k := range slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	}) {
		types = append(types, fmt.Sprintf("%d of type %s", count[k], k))
	}
	return &format.UnsupportedError{
		Format: name,
		What:   fmt.Sprintf("%d of %d tensors are quantised, %s: %s", total, len(g.infos), strings.Join(types, ", "), strings.Join(names, ", ")),
		Next: "convert the weights it was quantised from, or a GGUF file of them of type F32, F16 or BF16; " +
			"the file can also be kept as it is: weightseal push --policy safetensors-first",
	}
}

// layOut checks where the tensors lie, and makes them views of the file.
func (g *reader) layOut(r io.ReaderAt, size int64) error {
	start := (uint64(g.Pos()) + g.align - 1) / g.align * g.align
	for i := range g.infos {
		if err := g.place(r, &g.infos[i], start, uint64(size)); err != nil {
			return err
		}
	}
	return g.tiled(start, uint64(size))
}

func (g *reader) place(r io.ReaderAt, t *info, start, end uint64) error {
	if t.begin%g.align != 0 {
		return g.Errorf(t.at, t.name, "its data lies at %d, which is no multiple of %d", t.begin, g.align)
	}
	if start > end || t.end > end-start {
		return g.Errorf(t.at, t.name, "its data ends at byte %d of a file of %d", start+t.end, end)
	}
	length, offset := int64(t.end-t.begin), int64(start+t.begin)
	size := format.Sizes(t.shape)
	swap := int64(0)
	if g.big() {
		swap = swapOf(t.kind.dtype)
	}
	g.ck.Tensors = append(g.ck.Tensors, format.Tensor{
		Name: t.name, DType: t.kind.dtype, Shape: t.shape, Size: size, Stride: format.RowMajor(size), Swap: swap,
		Storage: &format.Storage{Data: io.NewSectionReader(r, offset, length), Length: length, Offset: offset},
	})
	return nil
}

// tiled refuses tensors that share bytes, and bytes that belong to none but
// padding: no writer makes such files, and readers disagree about them.
func (g *reader) tiled(start, size uint64) error {
	order := make([]*info, 0, len(g.infos))
	for i := range g.infos {
		if t := &g.infos[i]; t.end > t.begin {
			order = append(order, t)
		}
	}
	slices.SortStableFunc(order, func(a, b *info) int { return cmp.Compare(a.begin, b.begin) })
	end, before := uint64(0), ""
	for _, t := range order {
		switch {
		case t.begin < end:
			return g.Errorf(int64(start+t.begin), t.name, "its data overlaps that of %q", before)
		case t.begin-end >= g.align:
			return g.Errorf(int64(start+end), t.name, "%d bytes before its data belong to no tensor", t.begin-end)
		}
		end, before = t.end, t.name
	}
	if size > start && size-start-end >= g.align {
		return g.Errorf(int64(start+end), "", "%d bytes after the last tensor belong to none", size-start-end)
	}
	return nil
}

// big says whether numbers are big-endian.
func (g *reader) big() bool { return g.Order == binary.BigEndian }

// swapOf is the number of bytes that change places in an element.
func swapOf(d safetensors.DType) int64 {
	if d.Bits() <= 8 {
		return 0
	}
	return int64(d.Bits() / 8)
}
