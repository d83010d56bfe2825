package scan

import (
	"github.com/weightseal/weightseal/format/pickle"
)

// walkTo goes through the containers of a value by identity, without
// recursion. It does not enter calls.
type walkTo struct {
	todo  []level
	seen  map[pickle.Value]struct{}
	value pickle.Value
	depth int
	// enter says that calls are entered too.
	enter bool
}

type level struct {
	v     pickle.Value
	depth int
}

func newWalk(v ...pickle.Value) *walkTo {
	w := &walkTo{seen: map[pickle.Value]struct{}{}}
	for _, v := range v {
		w.push(v, 0)
	}
	return w
}

func (w *walkTo) push(v pickle.Value, depth int) {
	switch v.(type) {
	case *pickle.List, *pickle.Tuple, *pickle.Set, *pickle.Dict, *pickle.Call:
		if _, ok := w.seen[v]; ok {
			return
		}
		w.seen[v] = struct{}{}
	case *pickle.Global, *pickle.Persistent, *pickle.Extension, *pickle.Buffer:
	default:
		return // plain values are nobody's concern
	}
	w.todo = append(w.todo, level{v, depth})
}

// next moves to the next container or object.
func (w *walkTo) next() bool {
	n := len(w.todo)
	if n == 0 {
		return false
	}
	l := w.todo[n-1]
	w.todo = w.todo[:n-1]
	w.value, w.depth = l.v, l.depth
	w.children(l.v, l.depth+1)
	return true
}

func (w *walkTo) children(v pickle.Value, depth int) {
	switch v := v.(type) {
	case *pickle.List:
		w.pushAll(v.Items, depth)
	case *pickle.Tuple:
		w.pushAll(v.Items, depth)
	case *pickle.Set:
		w.pushAll(v.Items, depth)
	case *pickle.Dict:
		for _, it := range v.Items {
			w.push(it.Key, depth)
			w.push(it.Value, depth)
		}
	case *pickle.Call:
		if !w.enter {
			return
		}
		w.push(v.Args, depth)
		w.push(v.Kwargs, depth)
		for _, s := range v.States {
			w.push(s.Value, depth)
		}
		for _, it := range v.Items {
			w.push(it.Key, depth)
			w.push(it.Value, depth)
		}
		w.pushAll(v.Appends, depth)
	}
}

func (w *walkTo) pushAll(vs []pickle.Value, depth int) {
	for _, v := range vs {
		w.push(v, depth)
	}
}

// maxNesting is Python's default recursion limit.
const maxNesting = 1000

// walk looks at the object that the stream makes.
func (j *streamJudge) walk() {
	if j.s.Root == nil {
		return
	}
	w := newWalk(j.s.Root)
	w.enter = true
	deep := false
	for w.next() {
		if w.depth > maxNesting && !deep {
			deep = true
			j.r.add("WS-PICKLE-018", -1, "objects are nested more than %d deep", maxNesting)
		}
		var items []pickle.Item
		switch v := w.value.(type) {
		case *pickle.Dict:
			items = v.Items
		case *pickle.Call:
			items = v.Items
		}
		j.targets(items)
	}
}

// targets looks for configurations that name a callable.
func (j *streamJudge) targets(items []pickle.Item) {
	for _, it := range items {
		k, ok := it.Key.(pickle.String)
		if !ok || !isTargetKey(k.S) {
			continue
		}
		if t, ok := it.Value.(pickle.String); ok {
			j.r.add("WS-PICKLE-019", -1, "%s names %s", k.S, clip(t.S))
		}
	}
}

// isTargetKey says whether a key of a configuration names what is to be called
// (hydra, and its like).
func isTargetKey(k string) bool { return k == "_target_" || k == "__target__" }
