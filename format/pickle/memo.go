package pickle

import "fmt"

// memo keeps entries of small consecutive indexes in a slice, as every
// pickler numbers them, and all others in a map: an index may be 2^32-1.
type memo struct {
	dense  []Value // nil where nothing was stored
	sparse map[uint64]Value
	count  int
}

func (m *memo) get(i uint64) (Value, bool) {
	if i < uint64(len(m.dense)) {
		return m.dense[i], m.dense[i] != nil
	}
	v, ok := m.sparse[i]
	return v, ok
}

// put stores v and says whether the index was taken already.
func (m *memo) put(i uint64, v Value) (again bool) {
	_, again = m.get(i)
	if !again {
		m.count++
	}
	// Python 2's cPickle counts from 1: one index may be left out.
	if n := uint64(len(m.dense)); i >= n && i <= n+1 && len(m.sparse) == 0 {
		for uint64(len(m.dense)) <= i {
			m.dense = append(m.dense, nil)
		}
	}
	if i < uint64(len(m.dense)) {
		m.dense[i] = v
		return again
	}
	if m.sparse == nil {
		m.sparse = map[uint64]Value{}
	}
	m.sparse[i] = v
	return again
}

func (m *machine) put(i uint64) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	// A pickler stores at most one entry for each opcode that makes a value.
	if i > uint64(m.out.Ops) {
		m.find(RuleMemoSparse, "memo index %d after %d opcodes", i, m.out.Ops)
	}
	if m.memo.put(i, v) {
		m.find(RulePutOverwrites, "memo index %d is stored again", i)
		return nil
	}
	if m.memo.count > m.lim.Memo {
		return fmt.Errorf("%w: more than %d memo entries", ErrLimit, m.lim.Memo)
	}
	if m.memo.sparse != nil {
		return m.charge(keyCost)
	}
	return m.charge(memoCost)
}

func (m *machine) get(i uint64) error {
	v, ok := m.memo.get(i)
	if !ok {
		return fmt.Errorf("%w: index %d", ErrMemo, i)
	}
	return m.push(v)
}

func opBinput(m *machine) error {
	i, err := m.w.uint(1)
	if err != nil {
		return err
	}
	return m.put(i)
}

func opLongBinput(m *machine) error {
	i, err := m.w.uint(4)
	if err != nil {
		return err
	}
	return m.put(i)
}

// opMemoize stores at the index that is the number of entries.
func opMemoize(m *machine) error { return m.put(uint64(m.memo.count)) }

func opBinget(m *machine) error {
	i, err := m.w.uint(1)
	if err != nil {
		return err
	}
	return m.get(i)
}

func opLongBinget(m *machine) error {
	i, err := m.w.uint(4)
	if err != nil {
		return err
	}
	return m.get(i)
}

func opPut(m *machine) error {
	i, err := m.textIndex()
	if err != nil {
		return err
	}
	return m.put(i)
}

func opGet(m *machine) error {
	i, err := m.textIndex()
	if err != nil {
		return err
	}
	return m.get(i)
}

// textIndex reads the decimal operand of PUT and GET.
func (m *machine) textIndex() (uint64, error) {
	line, err := m.number()
	if err != nil {
		return 0, err
	}
	v, plain, err := parseInteger(line, 10)
	if err != nil {
		return 0, err
	}
	if !v.IsInt64() || v.Sign() < 0 {
		return 0, fmt.Errorf("%w: memo index %q", ErrSyntax, shorten(line))
	}
	if !plain {
		m.find(RuleTextNumber, "memo index %q", shorten(line))
	}
	return v.Uint64(), nil
}
