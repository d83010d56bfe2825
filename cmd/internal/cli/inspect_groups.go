package cli

import (
	"cmp"
	"slices"
	"strings"
)

// tensorGroup is a part of a model as its tensors' names have it.
type tensorGroup struct {
	Name       string `json:"name"` // such as h.{0..11}.attn
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

// maxGroups is how many groups are at most made: a picture, not a list.
const maxGroups = 14

// groupTensors puts tensors into groups by their names, the largest first.
// Beginning with all tensors, the group with the most bytes is divided again
// and again, but not into single tensors, while the groups are few.
func groupTensors(tensors []inspectedTensor) []tensorGroup {
	type open struct {
		name string
		tree *nameTree
	}
	follow := func(prefix string, t *nameTree) open {
		name, end, _ := t.chain()
		return open{prefix + name, end}
	}
	groups := []open{follow("", newNameTree(tensors, true))}
	for {
		best := -1
		for i, g := range groups {
			if g.tree.divides() && len(groups)-1+len(g.tree.kids) <= maxGroups && (best < 0 || g.tree.bytes > groups[best].tree.bytes) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		g := groups[best]
		groups = slices.Delete(groups, best, best+1)
		for _, kid := range g.tree.kids {
			groups = append(groups, follow(g.name, kid))
		}
	}
	out := make([]tensorGroup, 0, len(groups))
	for _, g := range groups {
		name := strings.TrimLeft(g.name, "./")
		if g.tree.tensors > 0 {
			out = append(out, tensorGroup{cmp.Or(name, "all"), g.tree.tensors, g.tree.parameters, g.tree.bytes})
		}
	}
	slices.SortStableFunc(out, func(a, b tensorGroup) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// divides says whether the tree below is worth dividing: some part of it holds
// more than a weight and its bias.
func (n *nameTree) divides() bool {
	return n.tensor == nil && len(n.kids) > 1 && slices.ContainsFunc(n.kids, func(k *nameTree) bool {
		return len(k.kids) > 0
	})
}

// elements is how many numbers a tensor holds.
func (t *inspectedTensor) elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}
