package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Pickled says whether an unpickler that is given the bytes of r, of size
// bytes, would do something with them: run at least one call, or reach the end
// of a stream. It is meant for files that something else than a pickle could
// be: the text protocols 0 and 1 have no magic number, so any file may be one.
//
// The opcodes are walked with the real rules for stack, mark and memo but
// without values. Prose, tables, source code and random bytes stop at one of
// the first opcodes. What is still a pickle after maxSniffOps opcodes, or after
// a line operand of maxSniffLine bytes, counts as one: to hide a payload
// behind more of the same must not help.
// Opcodes: CPython Lib/pickletools.py, protocols 0 to 5.
func Pickled(r io.ReaderAt, size int64) (bool, error) {
	w := &walker{r: r, size: size, memo: map[uint64]kind{}}
	w.skipBlank()
	yes := w.run()
	if w.readErr != nil {
		return false, w.readErr
	}
	return yes, nil
}

const (
	maxSniffOps  = 4096
	maxSniffLine = 16 << 20
	walkWindow   = 4096
)

// kind is what the walker knows about a stack entry.
type kind byte

const (
	anyKind kind = iota
	markKind
	tupleKind
	globalKind
	dataKind // text, numbers, containers: nothing that can be called
)

// walker is the state of a walk.
type walker struct {
	r       io.ReaderAt
	size    int64
	pos     int64
	win     []byte // bytes from winAt on
	winAt   int64
	store   [walkWindow]byte
	stack   []kind
	memo    map[uint64]kind
	ops     int
	imports bool // something that looks like a Python name was imported
	odd     bool // something else was
	readErr error
}

// The results of one opcode.
type step int

const (
	bad  step = iota // no unpickler goes on here
	next             // fine
	call             // the unpickler called something
	stop             // end of a stream
)

// run walks until something is clear.
func (w *walker) run() bool {
	for streamOps := 0; ; streamOps++ {
		if w.ops++; w.ops > maxSniffOps {
			return true
		}
		op, ok := w.byte()
		if !ok {
			return false
		}
		switch w.step(op) {
		case bad:
			return false
		case call:
			return true
		case stop:
			// A short stream without imports, such as "N.", may
			// well be text: then nothing sensible follows.
			if w.imports && !w.odd || streamOps >= 8 || w.onlyBlankLeft() {
				return true
			}
			w.stack, streamOps = w.stack[:0], -1
		}
	}
}

// onlyBlankLeft says whether the rest of the file is a little white space.
func (w *walker) onlyBlankLeft() bool {
	if w.size-w.pos > 64 {
		return false
	}
	p := w.pos
	w.skipBlank()
	blank := w.pos == w.size
	w.pos = p
	return blank
}

func (w *walker) skipBlank() {
	for {
		c, ok := w.byte()
		if !ok {
			return
		}
		if c != '\n' && c != '\r' && c != ' ' && c != '\t' {
			w.pos--
			return
		}
	}
}

// fill makes sure that the byte at pos is in the window.
func (w *walker) fill() bool {
	if i := w.pos - w.winAt; i >= 0 && i < int64(len(w.win)) {
		return true
	}
	if w.pos >= w.size || w.readErr != nil {
		return false
	}
	n := min(w.size-w.pos, walkWindow)
	got, err := w.r.ReadAt(w.store[:n], w.pos)
	if int64(got) < n && err != nil && !errors.Is(err, io.EOF) {
		w.readErr = err
	}
	w.win, w.winAt = w.store[:got], w.pos
	return got > 0
}

func (w *walker) byte() (byte, bool) {
	if !w.fill() {
		return 0, false
	}
	c := w.win[w.pos-w.winAt]
	w.pos++
	return c, true
}

// uint reads a little-endian number of n bytes.
func (w *walker) uint(n int) (uint64, bool) {
	var b [8]byte
	for i := range n {
		c, ok := w.byte()
		if !ok {
			return 0, false
		}
		b[i] = c
	}
	return binary.LittleEndian.Uint64(b[:]), true
}

// skip steps over n bytes that must be there.
func (w *walker) skip(n uint64) bool {
	if n > uint64(w.size-w.pos) {
		return false
	}
	w.pos += int64(n)
	return true
}

// sized steps over a string whose length is n bytes wide.
func (w *walker) sized(n int) bool {
	length, ok := w.uint(n)
	return ok && w.skip(length)
}

// line reads an operand that ends with a newline. Of a long one only the first
// bytes are kept. far says that it is longer than anybody's patience.
func (w *walker) line() (text []byte, last byte, far, ok bool) {
	start := w.pos
	for w.fill() {
		chunk := w.win[w.pos-w.winAt:]
		i := bytes.IndexByte(chunk, '\n')
		if keep := walkWindow - len(text); keep > 0 {
			end := len(chunk)
			if i >= 0 {
				end = i
			}
			text = append(text, chunk[:min(end, keep)]...)
		}
		if i >= 0 {
			if i > 0 {
				last = chunk[i-1]
			}
			w.pos += int64(i) + 1
			return text, last, false, true
		}
		last = chunk[len(chunk)-1]
		w.pos += int64(len(chunk))
		if w.pos-start > maxSniffLine {
			return nil, 0, true, true
		}
	}
	return nil, 0, false, false
}

func (w *walker) push(k kind) step {
	w.stack = append(w.stack, k)
	return next
}

// pop takes n entries, none of which may be a mark.
func (w *walker) pop(n int) bool {
	if len(w.stack) < n || slices.Contains(w.stack[len(w.stack)-n:], markKind) {
		return false
	}
	w.stack = w.stack[:len(w.stack)-n]
	return true
}

// popMark takes everything down to the last mark and says how many were above.
func (w *walker) popMark() (int, bool) {
	for i := len(w.stack) - 1; i >= 0; i-- {
		if w.stack[i] == markKind {
			n := len(w.stack) - 1 - i
			w.stack = w.stack[:i]
			return n, true
		}
	}
	return 0, false
}

func (w *walker) top() kind {
	if len(w.stack) == 0 {
		return markKind
	}
	return w.stack[len(w.stack)-1]
}

// pushIf pushes k if ok.
func (w *walker) pushIf(ok bool, k kind) step {
	if !ok {
		return bad
	}
	return w.push(k)
}

// step runs one opcode.
func (w *walker) step(op byte) step {
	switch op {
	case '(':
		return w.push(markKind)
	case '.':
		return when(w.top() != markKind, stop)
	case 'N', 0x88, 0x89, '}', ']', 0x8f, 0x97:
		return w.push(dataKind)
	case ')':
		return w.push(tupleKind)
	case 'I', 'L', 'F', 'V', 'S', 'P', 'c', 'i', 'p', 'g':
		return w.lineOp(op)
	case 'K', 'M', 'J', 'G', 0x8a, 0x8b, 'T', 'U', 'X', 'B', 'C', 0x8c, 0x8d, 0x8e, 0x96:
		return w.pushIf(w.operand(op), dataKind)
	case 'q', 'r', 'h', 'j', 0x94:
		return w.memoOp(op)
	case 0x80:
		v, ok := w.byte()
		return when(ok && v <= 5, next)
	case 0x95:
		n, ok := w.uint(8)
		return when(ok && n <= uint64(w.size-w.pos), next)
	case 0x82, 0x83, 0x84:
		return w.pushIf(w.skip(1<<(op-0x82)), globalKind)
	default:
		return w.stackOp(op)
	}
}

func when(ok bool, s step) step {
	if ok {
		return s
	}
	return bad
}

// operand steps over the operand of a binary data opcode.
func (w *walker) operand(op byte) bool {
	switch op {
	case 'K':
		return w.skip(1)
	case 'M':
		return w.skip(2)
	case 'J':
		return w.skip(4)
	case 'G':
		return w.skip(8)
	case 0x8a, 'U', 'C', 0x8c:
		return w.sized(1)
	case 0x8b, 'T', 'X', 'B':
		return w.sized(4)
	default: // 0x8d, 0x8e, 0x96
		return w.sized(8)
	}
}

// stackOp runs an opcode that has no operand.
func (w *walker) stackOp(op byte) step {
	switch op {
	case '0':
		if len(w.stack) == 0 {
			return bad
		}
		w.stack = w.stack[:len(w.stack)-1]
		return next
	case '2':
		k := w.top()
		return w.pushIf(k != markKind, k)
	case 0x85, 0x86, 0x87:
		return w.pushIf(w.pop(int(op-0x84)), tupleKind)
	case 'a':
		return w.pushIf(w.pop(2), dataKind)
	case 's':
		return w.pushIf(w.pop(3), dataKind)
	case 0x98, 'Q':
		return w.pushIf(w.pop(1), anyKind)
	case 0x93:
		w.imports = true
		return w.pushIf(w.pop(2), globalKind)
	case 'R', 0x81, 0x92, 'b':
		return w.callOp(op)
	default:
		return w.markOp(op)
	}
}

// markOp runs an opcode that takes everything above the last mark.
func (w *walker) markOp(op byte) step {
	n, ok := 0, bytes.IndexByte([]byte("1tldoeu\x90\x91"), op) >= 0
	if ok {
		n, ok = w.popMark()
	}
	switch {
	case !ok:
		return bad
	case op == '1':
		return next
	case op == 't':
		return w.push(tupleKind)
	case op == 'l' || op == 0x91 || op == 'd' && n%2 == 0:
		return w.push(dataKind)
	case op == 'o':
		return when(n > 0, call)
	case op == 'e' || op == 0x90 || op == 'u' && n%2 == 0:
		return when(w.top() != markKind, next)
	}
	return bad
}

// callOp runs REDUCE, NEWOBJ, NEWOBJ_EX and BUILD.
func (w *walker) callOp(op byte) step {
	need := 2
	if op == 0x92 {
		need = 3
	}
	n := len(w.stack)
	if n < need {
		return bad
	}
	callee, args := w.stack[n-need], w.stack[n-need+1]
	if !w.pop(need) || callee == dataKind || callee == tupleKind {
		return bad
	}
	if op != 'b' && args != tupleKind && args != anyKind {
		return bad
	}
	return call
}

// memoOp runs the binary opcodes of the memo.
func (w *walker) memoOp(op byte) step {
	if op == 0x94 {
		return w.put(uint64(len(w.memo))) // MEMOIZE
	}
	width := 1
	if op == 'r' || op == 'j' {
		width = 4
	}
	n, ok := w.uint(width)
	switch {
	case !ok:
		return bad
	case op == 'q' || op == 'r':
		return w.put(n)
	}
	return w.get(n)
}

func (w *walker) put(n uint64) step {
	k := w.top()
	if k == markKind {
		return bad
	}
	w.memo[n] = k
	return next
}

func (w *walker) get(n uint64) step {
	k, ok := w.memo[n]
	return w.pushIf(ok, k)
}

// lineOp runs an opcode whose operand is a line.
func (w *walker) lineOp(op byte) step {
	text, last, far, ok := w.line()
	if !ok {
		return bad
	}
	if far {
		w.ops = maxSniffOps // undecidable in bounded time: a pickle
		return w.push(anyKind)
	}
	switch op {
	case 'V':
		return w.push(dataKind)
	case 'P':
		return w.push(anyKind)
	case 'S':
		return w.pushIf(quoted(text, last), dataKind)
	case 'I', 'L':
		return w.pushIf(integer(text), dataKind)
	case 'F':
		_, err := strconv.ParseFloat(strings.Trim(string(text), " \t\r"), 64)
		return w.pushIf(err == nil || errors.Is(err, strconv.ErrRange), dataKind)
	case 'p', 'g':
		n, err := strconv.ParseUint(strings.Trim(string(text), " \t\r"), 10, 64)
		switch {
		case err != nil:
			return bad
		case op == 'p':
			return w.put(n)
		}
		return w.get(n)
	}
	return w.importOp(op, text)
}

// importOp runs GLOBAL and INST, whose second operand is a line too. A name
// with a blank in it cannot be imported.
func (w *walker) importOp(op byte, module []byte) step {
	name, _, far, ok := w.line()
	if !ok || far || !importable(module) || !importable(name) {
		return bad
	}
	if op == 'c' {
		fine := dotted(module) && dotted(name)
		w.imports, w.odd = w.imports || fine, w.odd || !fine
		return w.push(globalKind)
	}
	_, ok = w.popMark()
	return when(ok, call)
}

func importable(name []byte) bool {
	return len(name) > 0 && len(name) < walkWindow && bytes.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) < 0
}

// dotted says whether a name consists of Python identifiers, as all but hand-made
// ones do. Lists of files and words that begin with c often do not.
func dotted(name []byte) bool {
	for part := range bytes.SplitSeq(name, []byte(".")) {
		for i, r := range string(part) {
			if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
				return false
			}
		}
		if len(part) == 0 {
			return false
		}
	}
	return true
}

// quoted says whether a STRING operand has its quotes. Of a long operand only
// the beginning and the last byte are known.
func quoted(text []byte, last byte) bool {
	if len(text) < walkWindow {
		text = bytes.TrimRight(text, " \t\r")
		if len(text) < 2 {
			return false
		}
		last = text[len(text)-1]
	}
	return (text[0] == '\'' || text[0] == '"') && (text[0] == last || last == ' ' || last == '\t' || last == '\r')
}

// integer says whether Python could read an INT or LONG operand. The C
// implementation stops at a NUL.
func integer(text []byte) bool {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	text = bytes.Trim(text, " \t\r\f\v")
	digits := false
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case c == '_', i == 0 && (c == '-' || c == '+'), c == 'L' && i == len(text)-1:
		case c|0x20 >= 'a' && c|0x20 <= 'f', c|0x20 == 'x', c|0x20 == 'o':
		default:
			return false
		}
	}
	return digits
}
