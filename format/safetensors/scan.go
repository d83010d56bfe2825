package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is the nesting that serde_json, the reference's parser, refuses: it
// allows one level less.
const maxDepth = 128

// scanner walks JSON text by the grammar of RFC 8259, neither more nor less,
// as serde_json does. It allocates nothing for what is skipped and for strings
// without escapes. The text must be valid UTF-8. It has its own type because
// encoding/json neither gives offsets of values nor sees a key twice.
type scanner struct {
	b     []byte
	i     int
	depth int
	tmp   []byte // the last string that had escapes
}

// syntaxError is a fault at an index into the scanned text.
type syntaxError struct {
	at  int
	msg string
}

func (e *syntaxError) Error() string { return e.msg }

func (s *scanner) fail(at int, format string, args ...any) error {
	return &syntaxError{at, fmt.Sprintf(format, args...)}
}

// unexpected names what stands where something else must.
func (s *scanner) unexpected(want string) error {
	if s.i >= len(s.b) {
		return s.fail(s.i, "the text ends where %s must be", want)
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return s.fail(s.i, "%q where %s must be", r, want)
}

// space skips JSON's four kinds of white space.
func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek skips white space and gives the next byte, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// enter steps over an opening bracket.
func (s *scanner) enter(open byte, want string) error {
	if s.peek() != open {
		return s.unexpected(want)
	}
	if s.depth++; s.depth >= maxDepth {
		return s.fail(s.i, "nested deeper than %d levels", maxDepth-1)
	}
	s.i++
	return nil
}

// more steps to the next item of an array or object: past the comma, unless
// it is the first one, or past the closing bracket.
func (s *scanner) more(first bool, end byte) (bool, error) {
	switch c := s.peek(); {
	case c == end && s.i < len(s.b):
		s.i++
		s.depth--
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.i++
		s.space()
		return true, nil
	}
	return false, s.unexpected("',' or '" + string(end) + "'")
}

// object calls member for each key, with the key's offset and the scanner
// before the value, which member must step over. The key is valid until the
// next string is read.
func (s *scanner) object(want string, member func(key []byte, at int) error) error {
	if err := s.enter('{', want); err != nil {
		return err
	}
	for first := true; ; first = false {
		ok, err := s.more(first, '}')
		if !ok || err != nil {
			return err
		}
		at := s.i
		key, err := s.str("a key")
		if err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.unexpected("':'")
		}
		s.i++
		s.space()
		if err := member(key, at); err != nil {
			return err
		}
	}
}

// array calls item for each element, which item must step over.
func (s *scanner) array(want string, item func(n int) error) error {
	if err := s.enter('[', want); err != nil {
		return err
	}
	for n := 0; ; n++ {
		ok, err := s.more(n == 0, ']')
		if !ok || err != nil {
			return err
		}
		s.space()
		if err := item(n); err != nil {
			return err
		}
	}
}

// str reads a string. The result lies in the text or in the scratch buffer.
func (s *scanner) str(want string) ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected(want)
	}
	s.i++
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, s.fail(s.i, "control character %#02x in a string", c)
		}
		s.i++
	}
	return nil, s.fail(start-1, "the string does not end")
}

// escaped reads on in a string that has escapes.
func (s *scanner) escaped(start int) ([]byte, error) {
	s.tmp = append(s.tmp[:0], s.b[start:s.i]...)
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.tmp, nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.fail(s.i, "control character %#02x in a string", c)
		default:
			s.tmp = append(s.tmp, c)
			s.i++
		}
	}
	return nil, s.fail(start-1, "the string does not end")
}

// escape reads one escape into the scratch buffer.
func (s *scanner) escape() error {
	at := s.i
	if s.i += 2; s.i > len(s.b) {
		return s.fail(at, "the escape does not end")
	}
	c := s.b[s.i-1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, err := s.unicode(at)
		s.tmp = utf8.AppendRune(s.tmp, r)
		return err
	default:
		return s.fail(at, "unknown escape")
	}
	s.tmp = append(s.tmp, c)
	return nil
}

// unicode reads the digits of a \u escape, and its second half where there
// must be one: half a surrogate pair is no character.
func (s *scanner) unicode(at int) (rune, error) {
	r, err := s.hex4(at)
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if s.i+2 > len(s.b) || s.b[s.i] != '\\' || s.b[s.i+1] != 'u' {
		return 0, s.fail(at, "half a surrogate pair")
	}
	s.i += 2
	low, err := s.hex4(at)
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, s.fail(at, "half a surrogate pair")
	}
	return r, nil
}

func (s *scanner) hex4(at int) (rune, error) {
	if len(s.b)-s.i < 4 {
		return 0, s.fail(at, "the escape does not end")
	}
	var r rune
	for _, c := range s.b[s.i : s.i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, s.fail(at, "%q is not a hexadecimal digit", c)
		}
	}
	s.i += 4
	return r, nil
}

// uint reads a non-negative integer of at most 64 bits, without fraction or
// exponent.
func (s *scanner) uint(want string) (uint64, error) {
	s.space()
	start := s.i
	var n uint64
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		d := uint64(s.b[s.i] - '0')
		if n > (1<<64-1-d)/10 {
			return 0, s.fail(start, "the number does not fit in 64 bits")
		}
		n = n*10 + d
		s.i++
	}
	switch {
	case s.i == start:
		return 0, s.unexpected(want)
	case s.b[start] == '0' && s.i > start+1:
		return 0, s.fail(start, "a number with a leading zero")
	case s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i]|0x20 == 'e'):
		return 0, s.fail(start, "a number with fraction or exponent where %s must be", want)
	}
	return n, nil
}

// number steps over any JSON number. One that is beyond a double is an error,
// as it is to the reference's parser.
func (s *scanner) number() (string, error) {
	start := s.i
	if s.peekRaw() == '-' {
		s.i++
	}
	lead := s.i
	if !s.digits() {
		return "", s.unexpected("a value")
	}
	if s.b[lead] == '0' && s.i > lead+1 {
		return "", s.fail(start, "a number with a leading zero")
	}
	if s.peekRaw() == '.' {
		s.i++
		if !s.digits() {
			return "", s.unexpected("a digit")
		}
	}
	if s.peekRaw()|0x20 == 'e' {
		s.i++
		if c := s.peekRaw(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return "", s.unexpected("a digit")
		}
	}
	text := string(s.b[start:s.i])
	if _, err := strconv.ParseFloat(text, 64); errors.Is(err, strconv.ErrRange) {
		return "", s.fail(start, "the number is out of range")
	}
	return text, nil
}

func (s *scanner) peekRaw() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > start
}

// word steps over a literal name.
func (s *scanner) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.unexpected("a value")
	}
	s.i += len(w)
	return nil
}

// skip steps over any value.
func (s *scanner) skip() error {
	switch s.peek() {
	case '{':
		return s.object("an object", func([]byte, int) error { return s.skip() })
	case '[':
		return s.array("an array", func(int) error { return s.skip() })
	case '"':
		_, err := s.str("a string")
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		_, err := s.number()
		return err
	}
}

// value reads any value into the types of encoding/json, with json.Number for
// numbers. A key twice in one object is an error.
func (s *scanner) value() (any, error) {
	switch s.peek() {
	case '{':
		return s.anyMap("an object")
	case '[':
		list := []any{}
		err := s.array("an array", func(int) error {
			v, err := s.value()
			list = append(list, v)
			return err
		})
		return list, err
	case '"':
		b, err := s.str("a string")
		return string(b), err
	case 't':
		return true, s.word("true")
	case 'f':
		return false, s.word("false")
	case 'n':
		return nil, s.word("null")
	default:
		text, err := s.number()
		return json.Number(text), err
	}
}

// anyMap reads an object whose keys must be unique.
func (s *scanner) anyMap(want string) (map[string]any, error) {
	m := map[string]any{}
	err := s.object(want, func(key []byte, at int) error {
		name := string(key)
		if _, twice := m[name]; twice {
			return s.fail(at, "the key %s is there twice", quote(name))
		}
		v, err := s.value()
		m[name] = v
		return err
	})
	return m, err
}

// end checks that nothing but white space follows.
func (s *scanner) end() error {
	if s.space(); s.i < len(s.b) {
		return s.fail(s.i, "bytes after the end of the JSON value")
	}
	return nil
}
