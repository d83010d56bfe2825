package pickle

import (
	"errors"
	"fmt"
	"io"
)

// machine is the state of one run.
type machine struct {
	w     *window
	lim   Limits
	out   *Stream
	stack []Value
	marks []int
	memo  memo

	at       int64 // offset of the opcode that runs
	op       byte
	proto    int   // as the latest PROTO said
	refs     int64 // bytes that stay references
	memory   int64 // estimated
	hashed   int64 // bytes hashed for keys
	frameEnd int64 // of the open frame, 0 without one
	perRule  map[string]int
	keySets  []**keySet
	stop     bool

	slots  slab[Value]
	tuples slab[Tuple]
	calls  slab[Call]
	pids   slab[Persistent]
}

// Load runs the pickle that begins at offset start of r; the stream may not
// read at or past end. A broken stream gives what was seen up to the error
// together with an *Error: what comes before an error has already happened in
// a real unpickler.
func Load(r io.ReaderAt, start, end int64, lim Limits) (*Stream, error) {
	if start < 0 || end < start {
		return nil, fmt.Errorf("pickle: range [%d, %d) is none", start, end)
	}
	m := newMachine(r, start, end, lim)
	err := m.run()
	m.forgetKeys()
	m.out.End = m.w.offset()
	if err == nil {
		return m.out, nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = m.located(err)
	}
	return m.out, e
}

func newMachine(r io.ReaderAt, start, end int64, lim Limits) *machine {
	return &machine{
		w:       newWindow(r, start, end),
		lim:     lim.defaults(),
		out:     &Stream{Start: start, End: start},
		perRule: map[string]int{},
	}
}

// located turns a cause into an *Error of the opcode that runs.
func (m *machine) located(err error) *Error {
	e := &Error{Offset: m.at, Opcode: m.op, Reason: err}
	for _, s := range []error{ErrTruncated, ErrOpcode, ErrProtocol, ErrStack, ErrMark, ErrMemo,
		ErrLength, ErrLimit, ErrSyntax, ErrType, ErrUnhashable} {
		if !errors.Is(err, s) {
			continue
		}
		e.Reason = s
		if text := err.Error(); len(text) > len(s.Error()) {
			e.Detail = text[len(s.Error())+2:] // fmt.Errorf("%w: ...", s)
		}
	}
	return e
}

func (l Limits) defaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 64 << 20
	}
	if l.Ops == 0 {
		l.Ops = 20_000_000
	}
	if l.Stack == 0 {
		l.Stack = 1_000_000
	}
	if l.Memo == 0 {
		l.Memo = 20_000_000
	}
	if l.String == 0 {
		l.String = 16 << 20
	}
	if l.Text == 0 || l.Text > l.String {
		l.Text = l.String
	}
	if l.Inline == 0 {
		l.Inline = 4 << 10
	}
	if l.Memory == 0 {
		l.Memory = 512 << 20
	}
	return l
}

// run is the loop: one opcode a turn, until STOP.
func (m *machine) run() error {
	for !m.stop {
		if err := m.step(); err != nil {
			return err
		}
	}
	return nil
}

// step runs the opcode that comes next.
func (m *machine) step() error {
	m.at = m.w.offset()
	m.op = 0
	op, err := m.w.byte()
	if err != nil {
		if errors.Is(err, ErrTruncated) {
			return fmt.Errorf("%w: no STOP", ErrTruncated)
		}
		return err
	}
	m.op = op
	run := opcodes[op].run
	if run == nil {
		return fmt.Errorf("%w: 0x%02x", ErrOpcode, op)
	}
	m.out.Opcodes[op] = true
	m.out.Ops++
	if m.out.Ops > m.lim.Ops {
		return fmt.Errorf("%w: more than %d opcodes", ErrLimit, m.lim.Ops)
	}
	if err := run(m); err != nil {
		return err
	}
	if m.w.offset()-m.out.Start-m.refs > m.lim.Bytes {
		return fmt.Errorf("%w: more than %d bytes of pickle", ErrLimit, m.lim.Bytes)
	}
	if m.frameEnd != 0 && m.w.offset() >= m.frameEnd {
		m.closeFrame()
	}
	return nil
}

// The estimated sizes of what values take, for Limits.Memory.
const (
	slotCost   = 16 // a Value in a slice
	nodeCost   = 48 // a container without its items
	callCost   = 176
	memoCost   = 24 // the slice grows by copying
	keyCost    = 64
	keySetCost = 256 // with the first keys
	scalarCost = 16
)

func (m *machine) charge(n int64) error {
	m.memory += n
	if m.memory > m.lim.Memory {
		return fmt.Errorf("%w: values would take more than %d bytes", ErrLimit, m.lim.Memory)
	}
	return nil
}

// find notes a finding at the opcode that runs.
func (m *machine) find(rule, format string, args ...any) {
	m.perRule[rule]++
	switch n := m.perRule[rule]; {
	case n <= findingsPerRule:
		m.out.Findings = append(m.out.Findings, Finding{rule, m.at, m.op, fmt.Sprintf(format, args...)})
	case n == findingsPerRule+1:
		m.out.Findings = append(m.out.Findings, Finding{RuleMore, m.at, m.op, "further findings of " + rule + " are left out"})
	}
}

func (m *machine) push(v Value) error {
	if len(m.stack) >= m.lim.Stack {
		return fmt.Errorf("%w: stack deeper than %d", ErrLimit, m.lim.Stack)
	}
	m.stack = append(m.stack, v)
	return nil
}

// fence is the stack height that values may not be taken below: that of the
// topmost mark.
func (m *machine) fence() int {
	if n := len(m.marks); n > 0 {
		return m.marks[n-1]
	}
	return 0
}

func (m *machine) pop() (Value, error) {
	n := len(m.stack)
	if n <= m.fence() {
		return nil, ErrStack
	}
	v := m.stack[n-1]
	m.stack = m.stack[:n-1]
	return v, nil
}

func (m *machine) top() (Value, error) {
	if len(m.stack) <= m.fence() {
		return nil, ErrStack
	}
	return m.stack[len(m.stack)-1], nil
}

// popMark takes what lies above the topmost mark. The result is part of the
// stack: copy it before the next push.
func (m *machine) popMark() ([]Value, error) {
	n := len(m.marks)
	if n == 0 {
		return nil, ErrMark
	}
	at := m.marks[n-1]
	m.marks = m.marks[:n-1]
	items := m.stack[at:]
	m.stack = m.stack[:at]
	return items, nil
}

func opMark(m *machine) error {
	if len(m.marks) >= m.lim.Stack {
		return fmt.Errorf("%w: more than %d marks", ErrLimit, m.lim.Stack)
	}
	m.marks = append(m.marks, len(m.stack))
	return nil
}

// opPop drops the top of the stack, or a mark that lies there.
func opPop(m *machine) error {
	if n := len(m.marks); n > 0 && m.marks[n-1] == len(m.stack) {
		m.marks = m.marks[:n-1]
		return nil
	}
	_, err := m.pop()
	return err
}

func opPopMark(m *machine) error {
	_, err := m.popMark()
	return err
}

func opDup(m *machine) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	m.find(RuleDup, "no pickler writes DUP")
	return m.push(v)
}

func opStop(m *machine) error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	if len(m.stack) > 0 || len(m.marks) > 0 {
		m.find(RuleStackRest, "%d values and %d marks are left on the stack", len(m.stack), len(m.marks))
	}
	if m.frameEnd != 0 && m.w.offset() < m.frameEnd {
		m.find(RuleFrame, "STOP comes %d bytes before the end of the frame", m.frameEnd-m.w.offset())
	}
	m.out.Root = v
	m.stop = true
	return nil
}

func opProto(m *machine) error {
	v, err := m.w.byte()
	if err != nil {
		return err
	}
	if v > 5 {
		return fmt.Errorf("%w: %d", ErrProtocol, v)
	}
	if m.at != m.out.Start {
		m.find(RuleProto, "PROTO %d inside the stream", v)
	}
	if m.out.Protocol == 0 {
		m.out.Protocol = int(v)
	}
	m.proto = int(v)
	return nil
}

// opFrame opens a frame. The C unpickler only demands that its bytes are
// there; the Python one also wants opcodes not to cross its ends.
func opFrame(m *machine) error {
	n, err := m.w.uint(8)
	if err != nil {
		return err
	}
	if err := m.w.check(n); err != nil {
		if !m.lim.Lenient {
			return err
		}
		m.find(RuleFrame, "a frame of %d bytes, which the stream does not have", n)
		return nil
	}
	if m.frameEnd != 0 && m.w.offset() < m.frameEnd {
		m.find(RuleFrame, "a frame begins inside a frame")
	}
	m.frameEnd = m.w.offset() + int64(n)
	return nil
}

func (m *machine) closeFrame() {
	if m.w.offset() > m.frameEnd {
		m.find(RuleFrame, "the opcode crosses the end of its frame at %d", m.frameEnd)
	}
	m.frameEnd = 0
}
