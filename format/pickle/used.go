package pickle

// argDepth is how deep arguments are taken to be read when the call is made:
// the tuple, a list in it, the pairs of that list and what they hold.
const argDepth = 4

// markUsed remembers that v and what it holds, down to depth, was given away.
// A real unpickler calls at once, so what the callee reads is what is there
// now; here the arguments are kept, and would show a later change. A
// container is looked at again only when that reaches deeper than before: no
// more than argDepth times.
func (m *machine) markUsed(v Value, depth uint8) {
	switch v := v.(type) {
	case *Tuple:
		if v.used < depth {
			v.used = depth
			m.markItems(v.Items, depth-1)
		}
	case *List:
		if v.used < depth {
			v.used = depth
			m.markItems(v.Items, depth-1)
		}
	case *Set:
		if v.used < depth {
			v.used = depth // members are hashable: nothing in them changes
		}
	case *Dict:
		if v.used < depth {
			v.used = depth
			if depth > 1 {
				for _, it := range v.Items {
					m.markUsed(it.Value, depth-1)
				}
			}
		}
	}
}

func (m *machine) markItems(items []Value, depth uint8) {
	if depth == 0 {
		return
	}
	for _, v := range items {
		m.markUsed(v, depth)
	}
}

// markState marks the state of a BUILD: its attributes are taken from the
// dictionary, or from the two of (dict, slots), and their values stay shared.
// Cyclic objects change such values later by right.
func (m *machine) markState(v Value) {
	if t, ok := v.(*Tuple); ok {
		m.markItems(t.Items, 1)
		return
	}
	m.markUsed(v, 1)
}

// changed finds n changes of a container that was given away.
func (m *machine) changed(v Value, used uint8, n int) {
	if used > 0 && n > 0 {
		m.find(RuleMutated, "%s changes after a call or state took it", kind(v))
	}
}
