package pickle

import (
	"fmt"
	"slices"
)

func opEmptyTuple(m *machine) error { return m.tuple(nil) }

func opTuple(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	return m.tuple(items)
}

func opTuple1(m *machine) error { return m.shortTuple(1) }
func opTuple2(m *machine) error { return m.shortTuple(2) }
func opTuple3(m *machine) error { return m.shortTuple(3) }

func (m *machine) shortTuple(n int) error {
	at := len(m.stack) - n
	if at < m.fence() {
		return ErrStack
	}
	items := m.stack[at:]
	m.stack = m.stack[:at]
	return m.tuple(items)
}

func (m *machine) tuple(items []Value) error {
	if err := m.charge(nodeCost + slotCost*int64(len(items))); err != nil {
		return err
	}
	return m.push(m.newTuple(items))
}

func (m *machine) newTuple(items []Value) *Tuple {
	t := m.tuples.one()
	t.Items = m.slots.take(len(items))
	copy(t.Items, items)
	return t
}

func opEmptyList(m *machine) error {
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	return m.push(&List{})
}

func opList(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	if err := m.charge(nodeCost + slotCost*int64(len(items))); err != nil {
		return err
	}
	return m.push(&List{Items: slices.Clone(items)})
}

func opEmptySet(m *machine) error {
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	return m.push(&Set{})
}

func opFrozenset(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	if err := m.charge(nodeCost + slotCost*int64(len(items))); err != nil {
		return err
	}
	s := &Set{Items: slices.Clone(items), Frozen: true}
	if err := m.hashable(s.Items); err != nil {
		return err
	}
	return m.push(s)
}

func opEmptyDict(m *machine) error {
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	return m.push(&Dict{})
}

func opDict(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	d := &Dict{}
	if err := m.setItems(d, items); err != nil {
		return err
	}
	return m.push(d)
}

func opSetitem(m *machine) error {
	at := len(m.stack) - 3
	if at < m.fence() {
		return ErrStack
	}
	err := m.setItems(m.stack[at], m.stack[at+1:])
	m.stack = m.stack[:at+1]
	return err
}

func opSetitems(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	return m.setItems(v, items)
}

// setItems sets pairs on a dictionary, a called object, or a list.
func (m *machine) setItems(v Value, pairs []Value) error {
	if len(pairs)%2 != 0 {
		return fmt.Errorf("%w: %d keys and values are an odd number", ErrLength, len(pairs))
	}
	if err := m.charge(slotCost * int64(len(pairs))); err != nil {
		return err
	}
	switch v := v.(type) {
	case *Dict:
		m.changed(v, v.used, len(pairs))
		return m.addPairs(v, &v.keys, &v.Items, pairs)
	case *Call:
		return m.addPairs(v, &v.keys, &v.Items, pairs)
	case *List:
		return m.setListItems(v, pairs)
	case *Global, *Persistent, *Extension, *Buffer:
		m.find(RuleOnOpaque, "items set on %s", kind(v))
	default:
		if len(pairs) > 0 {
			return fmt.Errorf("%w: items set on %s", ErrType, kind(v))
		}
	}
	return nil
}

// addPairs adds keys and values to the items of owner.
func (m *machine) addPairs(owner Value, keys **keySet, items *[]Item, pairs []Value) error {
	*items = slices.Grow(*items, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if err := m.noteKey(owner, keys, pairs[i]); err != nil {
			return err
		}
		*items = append(*items, Item{pairs[i], pairs[i+1]})
	}
	return nil
}

func (m *machine) setListItems(l *List, pairs []Value) error {
	m.changed(l, l.used, len(pairs))
	for i := 0; i < len(pairs); i += 2 {
		k, ok := pairs[i].(Int)
		n := Int(len(l.Items))
		if !ok || k >= n || k < -n {
			return fmt.Errorf("%w: item set on a list of %d at no index of it", ErrType, n)
		}
		m.find(RuleListItem, "item %d of a list is set", int64(k))
		l.Items[(k+n)%n] = pairs[i+1]
	}
	return nil
}

func opAppend(m *machine) error {
	at := len(m.stack) - 2
	if at < m.fence() {
		return ErrStack
	}
	err := m.appendItems(m.stack[at], m.stack[at+1:])
	m.stack = m.stack[:at+1]
	return err
}

func opAppends(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	return m.appendItems(v, items)
}

func (m *machine) appendItems(v Value, items []Value) error {
	if err := m.charge(slotCost * int64(len(items))); err != nil {
		return err
	}
	switch v := v.(type) {
	case *List:
		m.changed(v, v.used, len(items))
		v.Items = append(v.Items, m.withoutNumbers(v, items)...)
	case *Call:
		v.Appends = append(v.Appends, items...)
	case *Global, *Persistent, *Extension, *Buffer:
		m.find(RuleOnOpaque, "items appended to %s", kind(v))
	default:
		if len(items) > 0 {
			return fmt.Errorf("%w: items appended to %s", ErrType, kind(v))
		}
	}
	return nil
}

// withoutNumbers gives the items that a list keeps: see Limits.Numbers.
func (m *machine) withoutNumbers(l *List, items []Value) []Value {
	if m.lim.Numbers == 0 || len(l.Items) < m.lim.Numbers {
		return items
	}
	kept := items[:0]
	for _, v := range items {
		cost := int64(slotCost) // what was charged for it
		switch n := v.(type) {
		case Float:
			cost += scalarCost
		case Int:
			if n < 0 || n > 255 {
				cost += scalarCost
			}
		case Bool:
		default:
			kept = append(kept, v)
			continue
		}
		l.More++
		m.memory -= cost
	}
	return kept
}

func opAdditems(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	if err := m.charge(slotCost * int64(len(items))); err != nil {
		return err
	}
	switch v := v.(type) {
	case *Set:
		if v.Frozen {
			return fmt.Errorf("%w: items added to a frozenset", ErrType)
		}
		if err := m.hashable(items); err != nil {
			return err
		}
		m.changed(v, v.used, len(items))
		v.Items = append(v.Items, items...)
	case *Call:
		v.Appends = append(v.Appends, items...)
	case *Global, *Persistent, *Extension, *Buffer:
		m.find(RuleOnOpaque, "items added to %s", kind(v))
	default:
		return fmt.Errorf("%w: items added to %s", ErrType, kind(v))
	}
	return nil
}

// kind names a value in messages.
func kind(v Value) string {
	switch v := v.(type) {
	case None:
		return "None"
	case Bool:
		return "a bool"
	case Int, BigInt:
		return "an int"
	case Float:
		return "a float"
	case String, *LongText:
		return "a str"
	case *Bytes:
		if v.Opcode == opcodeBytearray8 {
			return "a bytearray"
		}
		return "bytes"
	case *List:
		return "a list"
	case *Tuple:
		return "a tuple"
	case *Set:
		return "a set"
	case *Dict:
		return "a dict"
	case *Global:
		return "the global " + shorten(v.Module+"."+v.Name)
	case *Call:
		if g, ok := v.Callee.(*Global); ok {
			return "an object made by " + shorten(g.Module+"."+g.Name)
		}
		return "an object"
	case *Persistent:
		return "a persistent object"
	case *Extension:
		return "an extension"
	case *Buffer:
		return "a buffer"
	}
	return "nothing"
}
