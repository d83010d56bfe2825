package torch

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format/pickle"
)

// emitter walks the chosen subtree by path: what is shared is met once on
// each path.
type emitter struct {
	*walker
	prefix []label // from the root to the subtree
	path   []label // from the subtree on
	names  map[string]int
	taken  map[view]bool
	total  uint64 // bytes of all views taken
	limit  uint64
	frames []frame
	onPath map[pickle.Value]bool
}

// frame is a container on the path.
type frame struct {
	value pickle.Value
	items []pickle.Item
	seq   []pickle.Value
	next  int
}

// countLeaves gives the number of leaves that a walk of v by path would meet,
// at most limit+1, looking at each container once.
func (w *walker) countLeaves(v pickle.Value, limit int) int {
	type open struct {
		value pickle.Value
		parts []pickle.Value
		sum   int
	}
	const inside = -1 // on the way: a cycle counts as a leaf
	counts := map[pickle.Value]int{}
	stack := []open{{parts: []pickle.Value{v}}}
	for {
		f := &stack[len(stack)-1]
		if len(f.parts) == 0 || f.sum > limit {
			sum := min(f.sum, limit+1)
			if len(stack) == 1 {
				return sum
			}
			counts[f.value] = sum
			stack = stack[:len(stack)-1]
			stack[len(stack)-1].sum += sum
			continue
		}
		part := f.parts[len(f.parts)-1]
		f.parts = f.parts[:len(f.parts)-1]
		parts := w.parts(part)
		if len(parts) == 0 {
			f.sum++
			continue
		}
		if n, ok := counts[part]; ok {
			f.sum += max(n, 1) // inside: 1
			continue
		}
		counts[part] = inside
		stack = append(stack, open{value: part, parts: parts})
	}
}

// parts gives what a plain container holds, to be consumed; nothing for
// tensors and leaves.
func (w *walker) parts(v pickle.Value) []pickle.Value {
	if w.c.isTensor(v) {
		return nil
	}
	if items, ok := dictItems(v); ok {
		out := make([]pickle.Value, len(items))
		for i, it := range items {
			out[i] = it.Value
		}
		return out
	}
	seq, _ := seqItems(v)
	return seq
}

// emit walks v, which is the subtree.
func (e *emitter) emit(v pickle.Value) error {
	if e.countLeaves(v, maxLeaves) > maxLeaves {
		return broken(ErrLimit, "", -1, "the object has more than %d leaves", maxLeaves)
	}
	e.onPath = map[pickle.Value]bool{}
	if err := e.enter(v); err != nil {
		return err
	}
	for len(e.frames) > 0 {
		f := &e.frames[len(e.frames)-1]
		l, v, ok := f.step()
		if !ok {
			delete(e.onPath, f.value)
			e.frames = e.frames[:len(e.frames)-1]
			if len(e.path) > 0 {
				e.path = e.path[:len(e.path)-1]
			}
			continue
		}
		e.path = append(e.path, l)
		depth := len(e.frames)
		if err := e.enter(v); err != nil {
			return err
		}
		if len(e.frames) == depth { // a leaf
			e.path = e.path[:len(e.path)-1]
		}
	}
	return nil
}

// step gives the next part of the container.
func (f *frame) step() (label, pickle.Value, bool) {
	i := f.next
	f.next++
	switch {
	case i < len(f.items):
		return labelOf(f.items[i].Key), f.items[i].Value, true
	case i < len(f.seq):
		return label{text: strconv.Itoa(i), number: true}, f.seq[i], true
	}
	return label{}, nil, false
}

// enter takes a leaf, or opens a container.
func (e *emitter) enter(v pickle.Value) error {
	if err := e.visit(); err != nil {
		return err
	}
	if e.c.isTensor(v) {
		return e.tensor(v)
	}
	items, isDict := e.items(v)
	seq, isSeq := seqItems(v)
	if !isDict && !isSeq {
		return e.leaf(v)
	}
	if call, ok := v.(*pickle.Call); ok {
		if err := e.attributes(call); err != nil {
			return err
		}
	}
	switch {
	case len(items)+len(seq) == 0:
		return e.dropHere("empty "+leafKind(v), "safetensors holds tensors only")
	case e.onPath[v]:
		e.found("cycle", "the container holds itself")
		return e.dropHere("cycle", "the container holds itself")
	case len(e.frames) >= maxDepth:
		return broken(ErrLimit, "", -1, "the object is nested more than %d deep", maxDepth)
	}
	e.onPath[v] = true
	e.frames = append(e.frames, frame{value: v, items: items, seq: seq})
	return nil
}

// here is the path of the leaf that is met, from the root.
func (e *emitter) here() []string {
	out := make([]string, 0, len(e.prefix)+len(e.path))
	for _, l := range e.prefix {
		out = append(out, l.text)
	}
	for _, l := range e.path {
		out = append(out, l.text)
	}
	return out
}

// shownPath is a path for lists and messages, of bounded length.
func (e *emitter) shownPath() string {
	s := strings.Join(e.here(), ".")
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "") + "..."
	}
	return s
}

func (e *emitter) found(rule, format string, args ...any) {
	const most = 100
	if len(e.out.Findings) < most {
		e.out.Findings = append(e.out.Findings, Finding{Rule: rule, Inner: e.shownPath(), Offset: -1, Detail: fmt.Sprintf(format, args...)})
	}
}

func (e *emitter) dropHere(kind, reason string) error {
	return e.drop(Dropped{Path: e.shownPath(), Kind: kind, Reason: reason})
}

// leaf takes what is neither tensor nor container: it is dropped, unless
// tensors would be lost in it.
func (e *emitter) leaf(v pickle.Value) error {
	if s, ok := v.(pickle.String); ok && !s.Valid {
		e.found(pickle.RuleSurrogate, "text that is not UTF-8")
	}
	kind := leafKind(v)
	switch v.(type) {
	case *pickle.Call, *pickle.Set:
		n, err := e.tensors(v)
		if err != nil {
			return err
		}
		if n > 0 {
			return &UnsupportedError{Path: e.shownPath(), What: fmt.Sprintf("%d tensors inside an object of %s", n, kind), Next: nextModule}
		}
	}
	return e.dropHere(kind, "safetensors holds tensors only")
}

// attributes looks at what is set on an OrderedDict: its _metadata is what
// every module's state_dict has and says nothing about weights.
func (e *emitter) attributes(call *pickle.Call) error {
	for _, st := range call.States {
		n, err := e.tensors(st.Value)
		if err != nil {
			return err
		}
		if n > 0 {
			return &UnsupportedError{Path: e.shownPath(), What: "tensors in attributes of a dictionary", Next: nextModule}
		}
		items, _ := dictItems(st.Value)
		for _, it := range items {
			if key, _ := textOf(it.Key); key != "_metadata" {
				if err := e.dropHere("attribute "+quote(key), "safetensors has no place for attributes"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// tensor takes a tensor under the name that its path gives.
func (e *emitter) tensor(v pickle.Value) error {
	r, err := e.resolve(v)
	if err != nil {
		return err
	}
	if u := r.unsupported; u != nil {
		return &UnsupportedError{Path: e.shownPath(), What: u.What, Next: u.Next}
	}
	if err := e.checkPath(); err != nil {
		return err
	}
	t := r.built.Tensor
	t.Path = e.here()
	t.Name = strings.Join(t.Path[len(e.prefix):], ".")
	if err := e.checkName(t.Name); err != nil {
		return err
	}
	if err := e.account(&t); err != nil {
		return err
	}
	if len(e.out.Dropped)+len(e.out.Tensors) >= maxLeaves {
		return broken(ErrLimit, "", -1, "the object has more than %d leaves", maxLeaves)
	}
	e.names[t.Name] = len(e.out.Tensors)
	e.out.Tensors = append(e.out.Tensors, t)
	return e.losses(r.built)
}

// losses lists what is lost with a tensor.
func (e *emitter) losses(b *built) error {
	if b.extra == "" {
		return nil
	}
	return e.dropHere(b.extra, "safetensors has no place for attributes")
}

func (e *emitter) nameError(format string, args ...any) error {
	return &FormatError{Reason: ErrName, Offset: -1, Path: e.shownPath(), Detail: fmt.Sprintf(format, args...)}
}

// checkPath demands that every key from the subtree on can be part of a name.
func (e *emitter) checkPath() error {
	length := 0
	for _, l := range e.path {
		if l.bad != "" {
			return e.nameError("%s", l.bad)
		}
		length += len(l.text) + 1
	}
	if length > maxName {
		return e.nameError("the name would have %d bytes, more than %d", length-1, maxName)
	}
	return nil
}

func (e *emitter) checkName(name string) error {
	if name == "__metadata__" {
		return e.nameError("the name is reserved in safetensors")
	}
	if !utf8.ValidString(name) {
		return e.nameError("the name is not UTF-8")
	}
	if strings.Contains(name, "\x00") {
		return e.nameError("the name has a NUL, where some readers would end it")
	}
	if i, ok := e.names[name]; ok {
		return e.nameError("%s would have the same name", quote(strings.Join(e.out.Tensors[i].Path, "/")))
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		e.found("control-name", "the name has control characters")
	}
	return nil
}

// view identifies memory that a tensor shows.
type view struct {
	storage *Storage
	offset  int64
	dims    string
}

// account bounds what all views together would take: many names for one
// expanded number are as bad as one. The same view under several names, as
// tied weights have, counts once.
func (e *emitter) account(t *Tensor) error {
	bytes := uint64(elementSize(t.DType))
	dims := make([]byte, 0, 64)
	for i, n := range t.Size {
		bytes *= uint64(n) // checked for overflow when it was built
		dims = binary.AppendVarint(binary.AppendVarint(dims, n), t.Stride[i])
	}
	key := view{t.Storage, t.Offset, string(dims)}
	if e.taken[key] {
		return nil
	}
	e.taken[key] = true
	e.total += bytes
	if e.total > e.limit {
		return broken(ErrLimit, "", -1, "the tensors would take more than %d bytes, many times what is stored", e.limit)
	}
	return nil
}

// totalLimit is how many bytes all tensors together may take.
func (e *emitter) totalLimit() uint64 {
	var stored uint64
	for _, s := range e.c.Storages {
		stored += uint64(s.Numel) * uint64(s.ElementSize)
	}
	return e.b.expandLimit(int64(min(stored, math.MaxInt64)))
}
