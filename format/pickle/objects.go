package pickle

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

func opGlobal(m *machine) error {
	module, name, err := m.twoLines()
	if err != nil {
		return err
	}
	g, err := m.global(module, name)
	if err != nil {
		return err
	}
	return m.push(g)
}

// twoLines reads the operand of GLOBAL and INST.
func (m *machine) twoLines() (module, name string, err error) {
	var s [2]string
	for i := range s {
		line, err := m.w.line(m.lim.String)
		if err != nil {
			return "", "", err
		}
		if len(line) == 0 || !utf8.Valid(line) {
			return "", "", fmt.Errorf("%w: name %s", ErrSyntax, strconv.QuoteToASCII(shorten(string(line))))
		}
		s[i] = string(line)
	}
	return s[0], s[1], nil
}

func (m *machine) global(module, name string) (*Global, error) {
	if err := m.charge(3*nodeCost + int64(len(module)+len(name))); err != nil {
		return nil, err
	}
	if !spelled(module) || !spelled(name) {
		m.find(RuleOddName, "%s of %s", strconv.QuoteToASCII(shorten(name)), strconv.QuoteToASCII(shorten(module)))
	}
	g := &Global{Module: module, Name: name, Offset: m.at, Opcode: m.op, Py2: m.proto < 3}
	if g.Py2 {
		g.toModule, g.toName = g.lookup()
	}
	m.out.Globals = append(m.out.Globals, g)
	return g, nil
}

// spelled says whether a dotted name could stand in a source file, roughly:
// <lambda> and the like are what picklers write too.
func spelled(s string) bool {
	for _, r := range s {
		if r < 0x21 || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return s != ""
}

func opStackGlobal(m *machine) error {
	at := len(m.stack) - 2
	if at < m.fence() {
		return ErrStack
	}
	var s [2]string
	for i := range s {
		v := m.stack[at+i]
		text, ok, err := m.asText(v)
		if err != nil {
			return err
		}
		if !ok {
			if !opaque(v) {
				return fmt.Errorf("%w: a name that is %s", ErrType, kind(v))
			}
			m.find(RuleComputedName, "a name that is %s", kind(v))
			text = ComputedName
		}
		s[i] = text
	}
	m.stack = m.stack[:at]
	g, err := m.global(s[0], s[1])
	if err != nil {
		return err
	}
	return m.push(g)
}

// opaque says whether only a run would tell what v is.
func opaque(v Value) bool {
	switch v.(type) {
	case *Global, *Call, *Persistent, *Extension, *Buffer:
		return true
	}
	return false
}

// call notes a call and pushes its result.
func (m *machine) call(callee, args, kwargs Value) error {
	if !opaque(callee) {
		return fmt.Errorf("%w: %s is called", ErrType, kind(callee))
	}
	if _, ok := args.(*Tuple); !ok {
		if !opaque(args) {
			return fmt.Errorf("%w: arguments are %s", ErrType, kind(args))
		}
		m.find(RuleArgs, "arguments are %s", kind(args))
	}
	if err := m.charge(callCost); err != nil {
		return err
	}
	m.markUsed(args, argDepth)
	if kwargs != nil {
		m.markUsed(kwargs, argDepth)
	}
	c := m.calls.one()
	*c = Call{Opcode: m.op, Offset: m.at, Callee: callee, Args: args, Kwargs: kwargs}
	m.out.Calls = append(m.out.Calls, c)
	return m.push(c)
}

// opReduce is REDUCE and NEWOBJ: both call what lies under the arguments.
func opReduce(m *machine) error {
	at := len(m.stack) - 2
	if at < m.fence() {
		return ErrStack
	}
	callee, args := m.stack[at], m.stack[at+1]
	m.stack = m.stack[:at]
	return m.call(callee, args, nil)
}

func opNewobjEx(m *machine) error {
	at := len(m.stack) - 3
	if at < m.fence() {
		return ErrStack
	}
	cls, args, kwargs := m.stack[at], m.stack[at+1], m.stack[at+2]
	m.stack = m.stack[:at]
	if _, ok := kwargs.(*Dict); !ok {
		if !opaque(kwargs) {
			return fmt.Errorf("%w: keyword arguments are %s", ErrType, kind(kwargs))
		}
		m.find(RuleArgs, "keyword arguments are %s", kind(kwargs))
	}
	return m.call(cls, args, kwargs)
}

func opInst(m *machine) error {
	module, name, err := m.twoLines()
	if err != nil {
		return err
	}
	// The Python unpickler imports before it looks for the mark.
	g, err := m.global(module, name)
	if err != nil {
		return err
	}
	items, err := m.popMark()
	if err != nil {
		return err
	}
	return m.callItems(g, items)
}

func opObj(m *machine) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return ErrStack
	}
	return m.callItems(items[0], items[1:])
}

func (m *machine) callItems(callee Value, items []Value) error {
	if err := m.charge(nodeCost + slotCost*int64(len(items))); err != nil {
		return err
	}
	return m.call(callee, m.newTuple(items), nil)
}

// opBuild applies a state to an object.
func opBuild(m *machine) error {
	at := len(m.stack) - 2
	if at < m.fence() {
		return ErrStack
	}
	object, state := m.stack[at], State{m.stack[at+1], m.at}
	m.stack = m.stack[:at+1]
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	m.markState(state.Value)
	m.out.Builds = append(m.out.Builds, Build{object, state})
	if err := m.buildOn(object, state); err != nil || m.lim.AfterBuild == nil {
		return err
	}
	return m.passOver(m.lim.AfterBuild(Build{object, state}, m.w.offset()))
}

// passOver leaves out bytes that are not opcodes.
func (m *machine) passOver(n int64) error {
	if n <= 0 {
		return nil
	}
	if err := m.w.check(uint64(n)); err != nil {
		return err
	}
	if m.frameEnd != 0 {
		m.closeFrame()
	}
	m.w.skip(n)
	m.refs += n
	return nil
}

func (m *machine) buildOn(object Value, state State) error {
	switch o := object.(type) {
	case *Call:
		o.States = append(o.States, state)
	case *Global:
		m.find(RuleBuildOnGlobal, "state set on %s", kind(o))
	case *Persistent, *Extension, *Buffer:
		m.find(RuleOnOpaque, "state set on %s", kind(o))
	default:
		if _, ok := state.Value.(None); !ok {
			return fmt.Errorf("%w: state set on %s", ErrType, kind(o))
		}
		m.find(RuleBuildOnPlain, "state None set on %s", kind(o))
	}
	return nil
}

func opPersid(m *machine) error {
	line, err := m.w.line(m.lim.String)
	if err != nil {
		return err
	}
	for _, c := range line {
		if c >= 0x80 {
			return fmt.Errorf("%w: persistent id is not ASCII", ErrSyntax)
		}
	}
	if err := m.charge(2*nodeCost + int64(len(line))); err != nil {
		return err
	}
	return m.persistent(String{string(line), true})
}

func opBinpersid(m *machine) error {
	id, err := m.pop()
	if err != nil {
		return err
	}
	return m.persistent(id)
}

func (m *machine) persistent(id Value) error {
	if err := m.charge(nodeCost + slotCost); err != nil {
		return err
	}
	m.markUsed(id, argDepth)
	p := m.pids.one()
	*p = Persistent{ID: id, Offset: m.at, Opcode: m.op}
	m.out.Persistents = append(m.out.Persistents, p)
	return m.push(p)
}

func opExt1(m *machine) error { return m.extension(1) }
func opExt2(m *machine) error { return m.extension(2) }
func opExt4(m *machine) error { return m.extension(4) }

func (m *machine) extension(width int) error {
	u, err := m.w.uint(width)
	if err != nil {
		return err
	}
	code := int64(u)
	if width == 4 {
		code = int64(int32(u))
	}
	if code <= 0 {
		return fmt.Errorf("%w: extension code %d", ErrSyntax, code)
	}
	m.find(RuleExtension, "extension code %d: only the loading process knows what it is", code)
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	return m.push(&Extension{Code: code, Offset: m.at})
}

func opNextBuffer(m *machine) error {
	m.find(RuleBuffer, "the content of a buffer is not in the stream")
	if err := m.charge(nodeCost); err != nil {
		return err
	}
	return m.push(&Buffer{Offset: m.at})
}

// opReadonlyBuffer leaves the buffer on top where it is.
func opReadonlyBuffer(m *machine) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	switch v.(type) {
	case *Buffer, *Bytes, *Call, *Persistent, *Extension:
		m.find(RuleBuffer, "READONLY_BUFFER on %s", kind(v))
		return nil
	}
	return fmt.Errorf("%w: READONLY_BUFFER on %s", ErrType, kind(v))
}
