package picklegen

import (
	"encoding/binary"
	"strconv"
)

// kind is what the generator knows of a value on the stack.
type kind int

const (
	scalar kind = iota // hashable, nothing else to know
	text
	tuple // of hashable values
	loose // a tuple of any values
	list
	dict
	set
	frozen
	global
	object // made by a call, a persistent id, or the registry
	buffer // or a bytearray
)

func (k kind) hashable() bool {
	return k == scalar || k == text || k == tuple || k == frozen || k == global
}

// stream writes opcodes and follows what they do to the stack, so that an
// unpickler's checks of types and depths hold.
type stream struct {
	c     *Choices
	out   []byte
	proto int
	stack []kind
	marks []int
	memo  []slot
	next  int // memo index that MEMOIZE takes
}

type slot struct {
	index int
	kind  kind
}

// Opcodes gives a valid pickle of about n opcodes, from all that protocol has.
func Opcodes(c *Choices, protocol, n int) []byte {
	s := &stream{c: c, proto: protocol}
	if protocol >= 2 {
		s.out = append(s.out, 0x80, byte(protocol))
	}
	body := len(s.out)
	for range n {
		s.step()
	}
	s.finish()
	if protocol >= 4 && !c.One(3) {
		return framed(c, s.out[:body], s.out[body:])
	}
	return s.out
}

// framed puts the opcodes into a frame, as picklers of protocol 4 do.
func framed(c *Choices, head, body []byte) []byte {
	out := append([]byte{}, head...)
	if c.One(4) {
		out = append(out, 'N', '0') // opcodes before the frame
	}
	out = binary.LittleEndian.AppendUint64(append(out, 0x95), uint64(len(body)))
	return append(out, body...)
}

func (s *stream) op(op byte, operand ...byte) { s.out = append(append(s.out, op), operand...) }
func (s *stream) line(op byte, lines ...string) {
	s.out = append(s.out, op)
	for _, l := range lines {
		s.out = append(append(s.out, l...), '\n')
	}
}

func (s *stream) push(k kind) { s.stack = append(s.stack, k) }
func (s *stream) drop(n int)  { s.stack = s.stack[:len(s.stack)-n] }

// height is how many values lie above the topmost mark.
func (s *stream) height() int {
	if n := len(s.marks); n > 0 {
		return len(s.stack) - s.marks[n-1]
	}
	return len(s.stack)
}

func (s *stream) top(depth int) kind { return s.stack[len(s.stack)-1-depth] }

// above are the values over the topmost mark.
func (s *stream) above() []kind { return s.stack[s.marks[len(s.marks)-1]:] }

func (s *stream) popMark() {
	n := len(s.marks) - 1
	s.stack, s.marks = s.stack[:s.marks[n]], s.marks[:n]
}

func allHashable(ks []kind) bool {
	for _, k := range ks {
		if !k.hashable() {
			return false
		}
	}
	return true
}

// pairs says whether the values can be keys and values by turns.
func pairs(ks []kind) bool {
	for i := 0; i < len(ks); i += 2 {
		if !ks[i].hashable() {
			return false
		}
	}
	return len(ks)%2 == 0
}

// step writes one opcode that is possible now.
func (s *stream) step() {
	switch s.c.Below(10) {
	case 0, 1, 2:
		s.value()
	case 3:
		s.container()
	case 4:
		s.name()
	case 5:
		s.memoOp()
	case 6, 7:
		s.group()
	case 8:
		s.call()
	default:
		s.rare()
	}
}

// value pushes a number, a text or bytes.
func (s *stream) value() {
	at := s.c.Below(24)
	if since(at) > s.proto {
		at = s.c.Below(9)
	}
	s.scalar(at)
}

// since is the protocol that has the opcodes of scalar.
func since(at int) int {
	switch {
	case at < 9:
		return 0
	case at < 15:
		return 1
	case at < 19:
		return 2
	case at < 21:
		return 3
	case at < 23:
		return 4
	}
	return 5
}

func (s *stream) scalar(at int) {
	c := s.c
	n := strconv.Itoa(c.Below(1<<16) - 1000)
	switch at {
	case 0:
		s.op('N')
	case 1:
		s.line('I', n)
	case 2:
		s.line('I', pick(c, []string{"00", "01"}))
	case 3:
		s.line('L', n+pick(c, []string{"L", ""}))
	case 4:
		s.line('L', pick(c, []string{"-", ""})+strconv.FormatUint(c.rng.Uint64(), 10)+"123L")
	case 5:
		s.line('F', pick(c, []string{n + ".5", n, "1e300", "-0.0", "inf", "-inf", "nan", n + "e-3"}))
	case 6:
		s.line('S', pick(c, []string{`''`, `'abc'`, `"it's"`, `'\x41\n\\'`, `'\101'`}))
	case 7:
		s.line('V', pick(c, []string{"", "abc", `\u20ac`, `\U0001f600`, "\xe9", `a\\b`}))
		s.push(text)
		return
	case 8:
		s.line('I', "-"+strconv.Itoa(c.Below(1<<16)+1))
	case 9:
		s.op('J', c.Bytes(4)...)
	case 10:
		s.op('K', c.Bytes(1)...)
	case 11:
		s.op('M', c.Bytes(2)...)
	case 12:
		s.op('G', c.Bytes(8)...)
	case 13:
		b := c.Bytes(c.Below(20))
		s.op('U', append([]byte{byte(len(b))}, b...)...)
	case 14:
		s.text('X', 4)
		return
	case 15:
		s.op(pick(c, []byte{0x88, 0x89}))
	case 16:
		b := c.Bytes(c.Below(12))
		s.op(0x8a, append([]byte{byte(len(b))}, b...)...)
	case 17:
		s.sized(0x8b, 4, c.Bytes(c.Below(12)))
	case 18:
		s.sized('T', 4, c.Bytes(c.Below(300)))
	case 19:
		s.sized('B', 4, c.Bytes(c.Below(300)))
	case 20:
		s.sized('C', 1, c.Bytes(c.Below(200)))
	case 21:
		s.text(0x8c, 1)
		return
	case 22:
		if c.One(2) {
			s.text(0x8d, 8)
			return
		}
		s.sized(0x8e, 8, c.Bytes(c.Below(300)))
	default:
		s.sized(0x96, 8, c.Bytes(c.Below(300)))
		s.push(buffer) // a bytearray is no key
		return
	}
	s.push(scalar)
}

// sized writes an operand behind its length in width bytes.
func (s *stream) sized(op byte, width int, b []byte) {
	s.op(op, binary.LittleEndian.AppendUint64(nil, uint64(len(b)))[:width]...)
	s.out = append(s.out, b...)
}

func (s *stream) text(op byte, width int) {
	s.sized(op, width, []byte(pick(s.c, []string{"", "a", "weight", "€", "\U0001f600", "a\nb", "\xed\xa0\x80"})))
	s.push(text)
}

// container pushes an empty container or a mark.
func (s *stream) container() {
	switch s.c.Below(6) {
	case 0:
		if s.proto >= 1 {
			s.op(']')
			s.push(list)
		}
	case 1:
		if s.proto >= 1 {
			s.op('}')
			s.push(dict)
		}
	case 2:
		if s.proto >= 1 {
			s.op(')')
			s.push(tuple)
		}
	case 3:
		if s.proto >= 4 {
			s.op(0x8f)
			s.push(set)
		}
	default:
		s.op('(')
		s.marks = append(s.marks, len(s.stack))
	}
}

// Harmless names: no module is called so, or it only holds data.
var modules = []string{"picklegen_a", "picklegen_b.c", "collections", "copy_reg"}

// name pushes a global.
func (s *stream) name() {
	module, name := pick(s.c, modules), pick(s.c, []string{"Thing", "_make", "OrderedDict"})
	if s.proto >= 4 && !s.c.One(4) {
		s.sized(0x8c, 1, []byte(module))
		if s.c.One(2) {
			s.op(0x94)
			s.memo, s.next = append(s.memo, slot{s.next, text}), s.next+1
		}
		s.sized(0x8c, 1, []byte(name))
		s.op(0x93)
	} else {
		s.line('c', module, name)
	}
	s.push(global)
}

// memoOp stores the top of the stack, or gets something back.
func (s *stream) memoOp() {
	if s.height() > 0 && (len(s.memo) == 0 || s.c.One(2)) {
		s.store()
		return
	}
	if len(s.memo) == 0 {
		return
	}
	m := pick(s.c, s.memo)
	switch way := s.c.Below(3); {
	case way == 0 && m.index < 256 && s.proto >= 1:
		s.op('h', byte(m.index))
	case way == 1 && s.proto >= 1:
		s.op('j', binary.LittleEndian.AppendUint32(nil, uint32(m.index))...)
	default:
		s.line('g', strconv.Itoa(m.index))
	}
	s.push(m.kind)
}

func (s *stream) store() {
	i := s.next
	switch way := s.c.Below(4); {
	case way == 0 && i < 256 && s.proto >= 1:
		s.op('q', byte(i))
	case way == 1 && s.proto >= 1:
		s.op('r', binary.LittleEndian.AppendUint32(nil, uint32(i))...)
	case way == 2 && s.proto >= 4:
		s.op(0x94)
	default:
		s.line('p', strconv.Itoa(i))
	}
	s.memo, s.next = append(s.memo, slot{i, s.top(0)}), i+1
}

// group takes values off the stack and makes or fills a container.
func (s *stream) group() {
	if len(s.marks) > 0 && s.c.One(2) {
		s.closeMark()
		return
	}
	h := s.height()
	switch way := s.c.Below(6); {
	case way == 0 && h >= 2 && s.top(1) == list:
		s.op('a')
		s.drop(1)
	case way == 1 && h >= 3 && s.top(2) == dict && s.top(1).hashable():
		s.op('s')
		s.drop(2)
	case way > 1 && h >= 1 && s.proto >= 2:
		n := 1 + s.c.Below(min(3, h))
		s.op(0x84 + byte(n))
		s.tuple(s.stack[len(s.stack)-n:])
	}
}

func (s *stream) tuple(items []kind) {
	k := loose
	if allHashable(items) {
		k = tuple
	}
	s.drop(len(items))
	s.push(k)
}

// closeMark uses what lies above the topmost mark.
func (s *stream) closeMark() {
	items := s.above()
	under := kind(-1)
	if at := s.marks[len(s.marks)-1]; at > 0 && (len(s.marks) < 2 || at > s.marks[len(s.marks)-2]) {
		under = s.stack[at-1]
	}
	hashable, even := allHashable(items), pairs(items)
	switch way := s.c.Below(6); {
	case under == list && s.proto >= 1 && way < 4:
		s.op('e')
		s.popMark()
	case under == dict && even && s.proto >= 1 && way < 4:
		s.op('u')
		s.popMark()
	case under == set && hashable && way < 4:
		s.op(0x90)
		s.popMark()
	case way == 0:
		s.op('l')
		s.popMark()
		s.push(list)
	case way == 1 && even:
		s.op('d')
		s.popMark()
		s.push(dict)
	case way == 2 && s.proto >= 1 && len(items) > 0 && items[0] == global:
		s.op('o')
		s.popMark()
		s.push(object)
	case way == 3:
		s.line('i', pick(s.c, modules), "Thing")
		s.popMark()
		s.push(object)
	case way == 4 && hashable && s.proto >= 4:
		s.op(0x91)
		s.popMark()
		s.push(frozen)
	default:
		s.op('t')
		n := len(items)
		s.marks = s.marks[:len(s.marks)-1]
		s.tuple(s.stack[len(s.stack)-n:])
	}
}

// call writes an opcode that calls, or one that sets a state.
func (s *stream) call() {
	h := s.height()
	isTuple := func(k kind) bool { return k == tuple || k == loose }
	switch {
	case h >= 3 && s.proto >= 4 && s.top(0) == dict && isTuple(s.top(1)) && s.top(2) == global:
		s.op(0x92)
		s.drop(3)
		s.push(object)
	case h >= 2 && isTuple(s.top(0)) && s.top(1) == global:
		op := byte('R')
		if s.proto >= 2 && s.c.One(2) {
			op = 0x81
		}
		s.op(op)
		s.drop(2)
		s.push(object)
	case h >= 2 && s.top(1) == object:
		s.op('b')
		s.drop(1)
	case s.proto >= 1 && h >= 1 && s.top(0) == global:
		s.op(')')
		s.push(tuple)
	}
}

// rare writes what few picklers do.
func (s *stream) rare() {
	h := s.height()
	switch s.c.Below(9) {
	case 0:
		if h > 0 {
			s.op('0')
			s.drop(1)
		}
	case 1:
		if h > 0 {
			s.op('2')
			s.push(s.top(0))
		}
	case 2:
		if len(s.marks) > 0 {
			s.op('1')
			s.popMark()
		}
	case 3:
		s.line('P', pick(s.c, []string{"id", "", "a b"}))
		s.push(object)
	case 4:
		if h > 0 && s.proto >= 1 {
			s.op('Q')
			s.drop(1)
			s.push(object)
		}
	case 5:
		s.extension()
	case 6:
		if s.proto >= 5 {
			s.op(0x97)
			s.push(buffer)
		}
	case 7:
		if s.proto >= 5 && h > 0 && s.top(0) == buffer {
			s.op(0x98)
		}
	default:
		if s.proto >= 2 {
			s.op(0x80, byte(s.proto))
		}
	}
}

func (s *stream) extension() {
	if s.proto < 2 {
		return
	}
	code := 1 + s.c.Below(120)
	width := pick(s.c, []int{1, 2, 4})
	op := map[int]byte{1: 0x82, 2: 0x83, 4: 0x84}[width]
	s.op(op, binary.LittleEndian.AppendUint64(nil, uint64(code))[:width]...)
	s.push(object)
}

// finish makes one value of what is left and stops.
func (s *stream) finish() {
	for len(s.marks) > 0 {
		s.op('t')
		n := len(s.above())
		s.marks = s.marks[:len(s.marks)-1]
		s.tuple(s.stack[len(s.stack)-n:])
	}
	for len(s.stack) > 1 && !s.c.One(50) {
		s.op('0')
		s.drop(1)
	}
	if len(s.stack) == 0 {
		s.op('N')
	}
	s.op('.')
}
