package pickle

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
)

// keySet remembers the keys of a dictionary while the stream runs, to find
// keys that are set twice.
type keySet struct {
	text  map[string]struct{}
	other map[any]byte // with the kind of the first
}

// forgetKeys lets go of all key sets: only findings need them.
func (m *machine) forgetKeys() {
	for _, k := range m.keySets {
		*k = nil
	}
	m.keySets = nil
}

// noteKey checks that a key can be one, and finds repeated ones.
func (m *machine) noteKey(owner Value, set **keySet, key Value) error {
	text, isText, err := m.asText(key)
	if err != nil {
		return err
	}
	if err := m.spendHash(len(text)); err != nil {
		return err
	}
	var other any
	if !isText {
		if other, err = m.hash(key); err != nil {
			if _, known := owner.(*Dict); !known && errors.Is(err, ErrUnhashable) {
				return nil // what the object is, nobody knows: it need not hash
			}
			return err
		}
	}
	if *set == nil {
		if err := m.charge(keySetCost); err != nil {
			return err
		}
		*set = &keySet{}
		m.keySets = append(m.keySets, set)
	}
	if err := m.charge(keyCost); err != nil {
		return err
	}
	var again, alien bool
	if isText {
		again = (*set).addText(text)
	} else {
		again, alien = (*set).addOther(other, keyKind(key))
	}
	switch {
	case alien:
		m.find(RuleEqualKeys, "key %s equals one of another type", quoteKey(key, text))
	case again:
		m.find(RuleDuplicateKey, "key %s is set again", quoteKey(key, text))
	}
	return nil
}

func (k *keySet) addText(s string) (again bool) {
	if k.text == nil {
		k.text = map[string]struct{}{}
	}
	n := len(k.text)
	k.text[s] = struct{}{}
	return len(k.text) == n
}

// addOther says whether the key was there, and whether as another type.
func (k *keySet) addOther(v any, kind byte) (again, alien bool) {
	if k.other == nil {
		k.other = map[any]byte{}
	}
	first, again := k.other[v]
	if !again {
		k.other[v] = kind
	}
	return again, again && first != kind
}

// keyKind tells the types apart whose values may be equal.
func keyKind(v Value) byte {
	switch v.(type) {
	case Bool:
		return 'b'
	case Int, BigInt:
		return 'i'
	case Float:
		return 'f'
	}
	return 'o'
}

func quoteKey(v Value, text string) string {
	switch v := v.(type) {
	case String, *Bytes:
		return strconv.Quote(shorten(text))
	case Int:
		return strconv.FormatInt(int64(v), 10)
	}
	return kind(v)
}

// hashable says whether all items can be members of a set.
func (m *machine) hashable(items []Value) error {
	for _, v := range items {
		switch v.(type) {
		case String, Int, Bool, None, Float:
			continue
		}
		if _, err := m.hash(v); err != nil {
			return err
		}
	}
	return nil
}

// maxKeyNodes bounds a key: hashing walks it whole, and a tuple of tuples
// from the memo can have 2^80 leaves.
const maxKeyNodes = 4096

type (
	bytesKey  string
	numberKey string // canonical decimal of an integer outside int64
	tupleKey  string
	globalKey struct{ module, name string }
)

// spendHash bounds the work of hashing: the same long key may be used again
// and again.
func (m *machine) spendHash(bytes int) error {
	m.hashed += int64(bytes)
	if m.hashed > 64*m.lim.Ops {
		return fmt.Errorf("%w: too much work for keys", ErrLimit)
	}
	return nil
}

// hash gives a comparable value that is equal for keys that are equal in
// Python: 1, 1.0 and True are one key. Objects are their own identity.
func (m *machine) hash(v Value) (any, error) {
	switch v := v.(type) {
	case None, *Call, *Persistent, *Extension, *Buffer:
		return v, nil
	case Bool:
		if v {
			return Int(1), nil
		}
		return Int(0), nil
	case Int:
		return v, nil
	case BigInt:
		return numberKey(v.Text(16)), m.spendHash(v.BitLen() / 4)
	case Float:
		return hashFloat(float64(v)), nil
	case String:
		return v.S, m.spendHash(len(v.S))
	case *LongText:
		return nil, fmt.Errorf("%w: text of %d bytes as a key", ErrLimit, v.Len)
	case *Bytes:
		return m.hashBytes(v)
	case *Global:
		return globalKey{v.Module, v.Name}, nil
	case *Tuple:
		return m.hashTuple(v)
	case *Set:
		if v.Frozen {
			return v, nil // made of members that were hashed before
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnhashable, kind(v))
}

func hashFloat(f float64) any {
	switch {
	case f != f || math.IsInf(f, 0):
		return math.Float64bits(f)
	case f == math.Trunc(f) && math.Abs(f) < 1<<63:
		return Int(int64(f))
	case f == math.Trunc(f):
		i, _ := big.NewFloat(f).Int(nil)
		return numberKey(i.Text(16))
	}
	return Float(f)
}

func (m *machine) hashBytes(b *Bytes) (any, error) {
	if b.Opcode == opcodeBytearray8 {
		return nil, fmt.Errorf("%w: a bytearray", ErrUnhashable)
	}
	if err := m.materialise(b); err != nil {
		return nil, err
	}
	if err := m.spendHash(len(b.Data)); err != nil {
		return nil, err
	}
	if b.Text() {
		return string(b.Data), nil
	}
	return bytesKey(b.Data), nil
}

// hashTuple flattens a tuple, by a stack of its own.
func (m *machine) hashTuple(t *Tuple) (any, error) {
	var flat []byte
	todo := []Value{t}
	objects := false
	for nodes := 0; len(todo) > 0; nodes++ {
		if err := m.spendHash(64); err != nil {
			return nil, err
		}
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if t, ok := v.(*Tuple); ok {
			if nodes+len(todo)+len(t.Items) > maxKeyNodes {
				return nil, fmt.Errorf("%w: a key of more than %d values", ErrLimit, maxKeyNodes)
			}
			flat = fmt.Appendf(flat, "(%d ", len(t.Items))
			todo = append(todo, t.Items...)
			continue
		}
		h, err := m.hash(v)
		if err != nil {
			return nil, err
		}
		switch h.(type) {
		case *Call, *Persistent, *Extension, *Buffer, *Set:
			objects = true
		default:
			flat = fmt.Appendf(flat, "%T%q ", h, fmt.Sprint(h))
		}
	}
	if objects {
		return t, nil // what objects inside are equal to, nobody knows
	}
	return tupleKey(flat), nil
}
