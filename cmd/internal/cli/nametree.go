package cli

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nameTree is the tree that the names of tensors make: parts are separated by
// dots or slashes. Parts that differ in a number only are folded into one, such
// as h.{0..11}: all of them, or those with the same tree below.
type nameTree struct {
	label   string // with its separator: names are labels put together
	numbers []int  // of the parts that are folded here
	seen    map[int]bool
	kids    []*nameTree
	byKey   map[string]*nameTree

	tensor     *inspectedTensor // one whose name ends here
	tensors    int              // here and below
	parameters int64
	bytes      int64
	repeats    int // how often what is below is there
}

// maxDepth bounds the tree: a name is data from outside.
const maxDepth = 64

var namePart = regexp.MustCompile(`[./]?[^./]*`)

// splitName gives the parts of a name, each with the separator before it.
func splitName(name string) []string {
	parts := namePart.FindAllString(name, maxDepth)
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n < len(name) {
		parts[len(parts)-1] += name[n:]
	}
	return parts
}

var numbered = regexp.MustCompile(`^(.*?)(0|[1-9][0-9]{0,8})$`)

// splitNumber takes the number off the end of a part; -1 when there is none.
func splitNumber(part string) (prefix string, number int) {
	m := numbered.FindStringSubmatch(part)
	if len(m) < 3 || m[1] != "" && isDigit(m[1][len(m[1])-1]) {
		return part, -1
	}
	n, err := strconv.Atoi(m[2])
	if err != nil {
		return part, -1
	}
	return m[1], n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// newNameTree makes the tree. With fold all parts that differ in a number are
// one.
func newNameTree(tensors []inspectedTensor, fold bool) *nameTree {
	root := &nameTree{repeats: 1}
	for i := range tensors {
		t := &tensors[i]
		node := root
		node.count(t)
		for _, part := range splitName(t.Name) {
			node = node.child(part, fold)
			node.count(t)
		}
		node.tensor = t
	}
	return root
}

func (n *nameTree) count(t *inspectedTensor) {
	n.tensors++
	n.parameters += t.elements()
	n.bytes += int64(t.Bytes)
}

// child finds or makes the part of a name below n.
func (n *nameTree) child(part string, fold bool) *nameTree {
	prefix, number := splitNumber(part)
	key, label := part, part
	if fold && number >= 0 {
		key, label = prefix+"\x00", prefix
	}
	kid := n.byKey[key]
	if kid == nil {
		kid = &nameTree{label: label, repeats: 1}
		if n.byKey == nil {
			n.byKey = map[string]*nameTree{}
		}
		n.byKey[key] = kid
		n.kids = append(n.kids, kid)
	}
	if fold && number >= 0 && !kid.seen[number] {
		if kid.seen == nil {
			kid.seen = map[int]bool{}
		}
		kid.seen[number] = true
		kid.numbers = append(kid.numbers, number)
	}
	return kid
}

// name is the label with its numbers.
func (n *nameTree) name() string {
	switch len(n.numbers) {
	case 0:
		return n.label
	case 1:
		return n.label + strconv.Itoa(n.numbers[0])
	}
	return n.label + rangeText(n.numbers)
}

// rangeText writes numbers as {0..11} or {0..3,7,9}.
func rangeText(numbers []int) string {
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	var out []string
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		switch {
		case len(out) == 6: // nobody reads on
			return "{" + strings.Join(out, ",") + ",…}"
		case end == i:
			out = append(out, strconv.Itoa(numbers[i]))
		case end == i+1:
			out = append(out, strconv.Itoa(numbers[i]), strconv.Itoa(numbers[end]))
		default:
			out = append(out, fmt.Sprintf("%d..%d", numbers[i], numbers[end]))
		}
		i = end + 1
	}
	return "{" + strings.Join(out, ",") + "}"
}

// foldSame folds, from below, parts that differ in a number and have the same
// names, dtypes and shapes below them. It gives a digest of what is below: trees
// with one digest are the same.
func (n *nameTree) foldSame() string {
	h := sha256.New()
	if n.tensor != nil {
		fmt.Fprintf(h, "%s%v", n.tensor.DType, n.tensor.Shape)
	}
	first := map[string]*nameTree{}
	below := map[*nameTree]string{}
	kept := n.kids[:0]
	for _, kid := range n.kids {
		digest := kid.foldSame()
		prefix, number := splitNumber(kid.label)
		key := prefix + "\x00" + digest
		if same := first[key]; number >= 0 && same != nil {
			same.add(kid, number)
			continue
		}
		if number >= 0 {
			kid.label, kid.numbers = prefix, []int{number}
			first[key] = kid
		}
		kept, below[kid] = append(kept, kid), digest
	}
	n.kids = kept
	slices.SortStableFunc(n.kids, func(a, b *nameTree) int {
		return cmp.Or(cmp.Compare(a.label, b.label), slices.Compare(a.numbers, b.numbers))
	})
	for _, kid := range n.kids {
		fmt.Fprintf(h, "(%q%v%s)", kid.label, kid.numbers, below[kid])
	}
	return string(h.Sum(nil))
}

// add folds a tree that is the same but for its number.
func (n *nameTree) add(same *nameTree, number int) {
	n.numbers = append(n.numbers, number)
	n.repeats++
	n.tensors += same.tensors
	n.parameters += same.parameters
	n.bytes += same.bytes
}

// chain puts parts that have no branch into one: attn, c_attn and weight become
// attn.c_attn.weight.
func (n *nameTree) chain() (name string, end *nameTree, repeats int) {
	name, end, repeats = n.name(), n, n.repeats
	for len(end.kids) == 1 && end.tensor == nil {
		end = end.kids[0]
		name += end.name()
		repeats *= end.repeats
	}
	return name, end, repeats
}
