package scan

import (
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonEvents receives what a JSON text holds, in order. Keys and texts longer
// than maxJSONText are cut; the text is checked to its end all the same.
type jsonEvents interface {
	// begin opens an object ('{') or array ('[').
	begin(kind byte, off int64)
	end()
	// key is a member's name in the object that is open.
	key(name string, off int64)
	text(s string, off int64)
	// scalar is a number, true, false or null, as written.
	scalar(s string, off int64)
}

const (
	maxJSONDepth = 512
	maxJSONText  = 1 << 20
)

// jsonLexer checks and reports JSON (RFC 8259), and the numbers NaN and
// Infinity that Python writes. It reads forward and keeps no more than one
// text.
type jsonLexer struct {
	c     *cursor
	out   jsonEvents
	stack []byte
	buf   []byte
	back  bool // the last byte is to be read again
	last  byte
}

func (l *jsonLexer) fail(what string) error {
	return fmt.Errorf("byte %d: %s", l.c.pos, what)
}

func (l *jsonLexer) byte() (byte, error) {
	if l.back {
		l.back = false
		return l.last, nil
	}
	b, err := l.c.byte()
	l.last = b
	return b, err
}

func (l *jsonLexer) offset() int64 {
	if l.back {
		return l.c.pos - 1
	}
	return l.c.pos
}

// token gives the next byte that is no white space; 0 at the end.
func (l *jsonLexer) token() (byte, error) {
	for {
		if !l.back && l.c.left() == 0 {
			return 0, nil
		}
		b, err := l.byte()
		if err != nil {
			return 0, err
		}
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		case 0:
			return 0, l.fail("a NUL byte")
		}
		return b, nil
	}
}

// run reads one value, or with many set any number of them one after the
// other (JSON lines).
func (l *jsonLexer) run(many bool) error {
	if bom := peek(l.c.r, l.c.end, l.c.pos, 3); string(bom) == "\xef\xbb\xbf" {
		l.c.pos += 3
	}
	for n := 0; ; n++ {
		b, err := l.token()
		if err != nil {
			return err
		}
		if b == 0 {
			if n == 0 {
				return l.fail("no value")
			}
			return nil
		}
		if n > 0 && !many {
			return l.fail("text after the value")
		}
		if err := l.value(b); err != nil {
			return err
		}
	}
}

// value reads the value that begins with b, with all that it holds.
func (l *jsonLexer) value(b byte) error {
	base := len(l.stack)
	for {
		if err := l.open(b); err != nil {
			return err
		}
		// Close what ends here, and find where the next value begins.
		for {
			if len(l.stack) == base {
				return nil
			}
			next, more, err := l.follow()
			if err != nil {
				return err
			}
			if more {
				b = next
				break
			}
		}
	}
}

// open reads a scalar, or the beginning of a container.
func (l *jsonLexer) open(b byte) error {
	at := l.offset() - 1
	switch b {
	case '{', '[':
		if len(l.stack) >= maxJSONDepth {
			return l.fail("nested too deep")
		}
		l.out.begin(b, at)
		l.stack = append(l.stack, b)
		return nil
	case '"':
		s, err := l.string()
		if err == nil {
			l.out.text(s, at)
		}
		return err
	}
	return l.word(b, at)
}

// follow is called after a value or the beginning of a container: it gives the
// first byte of the next value, or closes the container.
func (l *jsonLexer) follow() (next byte, more bool, err error) {
	top := l.stack[len(l.stack)-1]
	fresh := top == '{' || top == '['
	kind := top
	switch top {
	case 'o':
		kind = '{'
	case 'a':
		kind = '['
	}
	b, err := l.token()
	if err != nil {
		return 0, false, err
	}
	if kind == '{' && b == '}' || kind == '[' && b == ']' {
		l.stack = l.stack[:len(l.stack)-1]
		l.out.end()
		return 0, false, nil
	}
	if !fresh {
		if b != ',' {
			return 0, false, l.fail("no comma between values")
		}
		if b, err = l.token(); err != nil {
			return 0, false, err
		}
	}
	if kind == '[' {
		l.stack[len(l.stack)-1] = 'a'
		if b == 0 {
			return 0, false, io.ErrUnexpectedEOF
		}
		return b, true, nil
	}
	l.stack[len(l.stack)-1] = 'o'
	return l.member(b)
}

// member reads a key and the colon, and gives the first byte of the value.
func (l *jsonLexer) member(b byte) (byte, bool, error) {
	if b != '"' {
		return 0, false, l.fail("no key")
	}
	at := l.offset() - 1
	key, err := l.string()
	if err != nil {
		return 0, false, err
	}
	l.out.key(key, at)
	if b, err = l.token(); err != nil {
		return 0, false, err
	}
	if b != ':' {
		return 0, false, l.fail("no colon after a key")
	}
	if b, err = l.token(); err == nil && b == 0 {
		err = io.ErrUnexpectedEOF
	}
	return b, err == nil, err
}

// word reads a number or a name.
func (l *jsonLexer) word(b byte, at int64) error {
	l.buf = append(l.buf[:0], b)
	for l.c.left() > 0 {
		b, err := l.byte()
		if err != nil {
			return err
		}
		if b == '-' || b == '+' || b == '.' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' {
			if len(l.buf) > 1<<12 {
				return l.fail("a number of more than 4096 digits")
			}
			l.buf = append(l.buf, b)
			continue
		}
		l.back = true
		break
	}
	s := string(l.buf)
	switch s {
	case "true", "false", "null", "NaN", "Infinity", "-Infinity":
	default:
		if !isJSONNumber(s) {
			return l.fail(fmt.Sprintf("%q is no value", clip(s)))
		}
	}
	l.out.scalar(s, at)
	return nil
}

func isJSONNumber(s string) bool {
	i := 0
	digits := func() bool {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return false
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(s)
}

// string reads a text after its opening quote.
func (l *jsonLexer) string() (string, error) {
	l.buf = l.buf[:0]
	for {
		if l.c.left() == 0 {
			return "", io.ErrUnexpectedEOF
		}
		b, err := l.byte()
		if err != nil {
			return "", err
		}
		switch {
		case b == '"':
			if !utf8.Valid(l.buf) && len(l.buf) < maxJSONText {
				return "", l.fail("a text that is not UTF-8")
			}
			return string(l.buf), nil
		case b < 0x20:
			return "", l.fail("a control character in a text")
		case b == '\\':
			r, err := l.escape()
			if err != nil {
				return "", err
			}
			l.append(string(r))
		default:
			if len(l.buf) < maxJSONText {
				l.buf = append(l.buf, b)
			}
		}
	}
}

func (l *jsonLexer) append(s string) {
	if len(l.buf)+len(s) <= maxJSONText {
		l.buf = append(l.buf, s...)
	}
}

func (l *jsonLexer) escape() (rune, error) {
	b, err := l.byte()
	if err != nil {
		return 0, err
	}
	switch b {
	case '"', '\\', '/':
		return rune(b), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return l.unicode()
	}
	return 0, l.fail("an unknown escape")
}

func (l *jsonLexer) unicode() (rune, error) {
	r, err := l.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	// The second half of a pair, where there is one.
	if string(peek(l.c.r, l.c.end, l.c.pos, 2)) != `\u` {
		return utf8.RuneError, nil
	}
	at := l.c.pos
	l.c.pos += 2
	low, err := l.hex4()
	if err != nil {
		return 0, err
	}
	if p := utf16.DecodeRune(r, low); p != utf8.RuneError {
		return p, nil
	}
	l.c.pos = at
	return utf8.RuneError, nil
}

func (l *jsonLexer) hex4() (rune, error) {
	b, err := l.c.bytes(4)
	if err != nil {
		return 0, err
	}
	var r rune
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, l.fail("an unknown escape")
		}
		r = r<<4 | rune(c)
	}
	return r, nil
}
