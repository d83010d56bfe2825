package convert

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
)

// ties finds the names that are one and the same tensor: identical storage,
// offset, shape, strides, dtype and lazy bits. It returns which indices of
// tensors are written, in their order, and the names left out, sorted.
//
// Which name stays follows the reference converter
// (bindings/python/convert.py and safetensors/torch.py of safetensors): the
// alphabetically first of those that cover their whole storage, else the
// alphabetically first. Identical tensors cover their storage all or none, so
// the two rules are one here. A safetensors file has made the choice already. Unlike the reference, a view that merely lies
// inside another tensor is never left out, and neither are tensors without
// elements, which share nothing.
func ties(tensors []source) (kept []int, aliases []Alias) {
	first := make(map[tieKey]int, len(tensors)) // index of the kept name
	for i := range tensors {
		if key, ok := keyOf(&tensors[i]); ok {
			if k, seen := first[key]; !seen || !tensors[i].tied && tensors[i].Name < tensors[k].Name {
				first[key] = i
			}
		}
	}
	for i := range tensors {
		key, ok := keyOf(&tensors[i])
		if k := first[key]; ok && k != i {
			aliases = append(aliases, Alias{Removed: tensors[i].Name, Kept: tensors[k].Name})
			continue
		}
		kept = append(kept, i)
	}
	slices.SortFunc(aliases, func(a, b Alias) int { return strings.Compare(a.Removed, b.Removed) })
	return kept, aliases
}

// tieKey identifies a tensor's memory and how it is seen.
type tieKey struct {
	storage *format.Storage
	view    string
}

// keyOf is false for a tensor that is always written by itself.
func keyOf(t *source) (tieKey, bool) {
	// The metadata key "format" is taken, and "__metadata__" is no name.
	if t.Name == formatKey || t.Name == metadataKey || !t.tied && slices.Contains(t.Size, 0) {
		return tieKey{}, false
	}
	b := make([]byte, 0, 34+16*len(t.Size))
	b = append(b, byte(t.DType), byte(t.form.swap), byte(t.form.neg))
	b = binary.LittleEndian.AppendUint64(b, t.form.flip)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Offset))
	for i := range t.Size {
		b = binary.LittleEndian.AppendUint64(b, uint64(t.Size[i]))
		b = binary.LittleEndian.AppendUint64(b, uint64(t.Stride[i]))
	}
	return tieKey{storage: t.Storage, view: string(b)}, true
}
