package pickle

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// operand checks the declared length of a value that is read into memory.
func (m *machine) operand(n uint64) error {
	if err := m.w.check(n); err != nil {
		return err
	}
	if n > uint64(m.lim.String) {
		return fmt.Errorf("%w: an operand of %d bytes", ErrLimit, n)
	}
	return m.charge(nodeCost + int64(n))
}

func opBinunicode(m *machine) error      { return m.unicode(4) }
func opShortBinunicode(m *machine) error { return m.unicode(1) }
func opBinunicode8(m *machine) error     { return m.unicode(8) }

func (m *machine) unicode(width int) error {
	n, err := m.w.uint(width)
	if err != nil {
		return err
	}
	if n > uint64(m.lim.Text) {
		return m.longText(n)
	}
	if err := m.operand(n); err != nil {
		return err
	}
	s, err := m.w.text(int64(n))
	if err != nil {
		return err
	}
	return m.pushText(s)
}

// pushText pushes text in UTF-8 with surrogates let through, as picklers
// encode it.
func (m *machine) pushText(s string) error {
	if utf8.ValidString(s) {
		return m.push(String{S: s, Valid: true})
	}
	if !surrogateUTF8(s) {
		return fmt.Errorf("%w: text is not UTF-8", ErrSyntax)
	}
	m.find(RuleSurrogate, "text with a lone surrogate: %s", strconv.QuoteToASCII(shorten(s)))
	return m.push(String{S: s})
}

// surrogateUTF8 says whether s is UTF-8 but for encoded surrogates (ED A0..BF
// 80..BF), which Python's "surrogatepass" lets through.
func surrogateUTF8(s string) bool {
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			if len(s) < 3 || s[0] != 0xed || s[1] < 0xa0 || s[1] > 0xbf || s[2] < 0x80 || s[2] > 0xbf {
				return false
			}
			n = 3
		}
		s = s[n:]
	}
	return true
}

// opUnicode reads a line in raw-unicode-escape.
func opUnicode(m *machine) error {
	start := m.w.offset()
	line, err := m.w.line(m.lim.Text)
	if errors.Is(err, ErrLimit) {
		return m.longLine(start)
	}
	if err != nil {
		return err
	}
	if err := m.charge(nodeCost + 2*int64(len(line))); err != nil {
		return err
	}
	s, err := rawUnicodeEscape(line)
	if err != nil {
		return err
	}
	return m.pushText(s)
}

// rawUnicodeEscape decodes \uXXXX and \UXXXXXXXX; any other byte is itself
// (Latin-1), and a backslash before anything else stays, with what follows.
func rawUnicodeEscape(b []byte) (string, error) {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = utf8.AppendRune(out, rune(b[i]))
			continue
		}
		i++
		var width int
		switch b[i] {
		case 'u':
			width = 4
		case 'U':
			width = 8
		default:
			out = append(out, '\\')
			out = utf8.AppendRune(out, rune(b[i]))
			continue
		}
		if i+width >= len(b) {
			return "", fmt.Errorf("%w: truncated \\%c escape", ErrSyntax, b[i])
		}
		r, err := parseEscape(b[i : i+1+width])
		if err != nil {
			return "", err
		}
		out = appendSurrogate(out, r)
		i += width
	}
	return string(out), nil
}

// parseEscape gives the character of uXXXX or UXXXXXXXX.
func parseEscape(b []byte) (rune, error) {
	r, err := strconv.ParseUint(string(b[1:]), 16, 32)
	if err != nil || r > utf8.MaxRune {
		return 0, fmt.Errorf("%w: bad \\%c escape", ErrSyntax, b[0])
	}
	return rune(r), nil
}

// appendSurrogate is utf8.AppendRune that lets surrogates through.
func appendSurrogate(out []byte, r rune) []byte {
	if r >= 0xd800 && r <= 0xdfff {
		return append(out, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f|0x80, 0x80|byte(r)&0x3f)
	}
	return utf8.AppendRune(out, r)
}

func opBinbytes(m *machine) error       { return m.bytes(4) }
func opShortBinbytes(m *machine) error  { return m.bytes(1) }
func opBinbytes8(m *machine) error      { return m.bytes(8) }
func opBytearray8(m *machine) error     { return m.bytes(8) }
func opShortBinstring(m *machine) error { return m.bytes(1) }

func opBinstring(m *machine) error {
	n, err := m.w.uint(4)
	if err != nil {
		return err
	}
	if int32(n) < 0 {
		return fmt.Errorf("%w: %d", ErrLength, int32(n))
	}
	return m.pushBytes(n)
}

func (m *machine) bytes(width int) error {
	n, err := m.w.uint(width)
	if err != nil {
		return err
	}
	return m.pushBytes(n)
}

// pushBytes pushes the next n bytes: a copy of short ones, else a reference.
func (m *machine) pushBytes(n uint64) error {
	if err := m.w.check(n); err != nil {
		return err
	}
	b := &Bytes{Offset: m.w.offset(), Len: int64(n), Opcode: m.op}
	if b.Len > m.lim.Inline {
		if err := m.charge(nodeCost); err != nil {
			return err
		}
		m.w.skip(b.Len)
		m.refs += b.Len
		return m.push(b)
	}
	if err := m.charge(nodeCost + b.Len); err != nil {
		return err
	}
	data, err := m.w.bytes(b.Len)
	if err != nil {
		return err
	}
	b.Data = data
	return m.push(b)
}

// opString reads a quoted Python 2 string literal.
func opString(m *machine) error {
	off := m.w.offset()
	line, err := m.w.line(m.lim.String)
	if err != nil {
		return err
	}
	if err := m.charge(nodeCost + int64(len(line))); err != nil {
		return err
	}
	n := len(line)
	if n < 2 || line[0] != line[n-1] || (line[0] != '\'' && line[0] != '"') {
		return fmt.Errorf("%w: STRING without quotes", ErrSyntax)
	}
	data, err := escaped(line[1 : n-1])
	if err != nil {
		return err
	}
	return m.push(&Bytes{Offset: off, Len: int64(len(data)), Data: data, Opcode: m.op})
}

var simpleEscapes = [256]byte{
	'\\': '\\', '\'': '\'', '"': '"', 'b': '\b', 'f': '\f', 't': '\t', 'n': '\n', 'r': '\r', 'v': '\v', 'a': '\a',
}

// escaped decodes a bytes literal (PyBytes_DecodeEscape): an unknown escape
// stays as it is.
func escaped(b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++
		if i == len(b) {
			return nil, fmt.Errorf("%w: trailing backslash", ErrSyntax)
		}
		switch c := b[i]; {
		case simpleEscapes[c] != 0:
			out = append(out, simpleEscapes[c])
		case c >= '0' && c <= '7':
			v, n := 0, 0
			for n < 3 && i+n < len(b) && b[i+n] >= '0' && b[i+n] <= '7' {
				v = v*8 + int(b[i+n]-'0')
				n++
			}
			out = append(out, byte(v))
			i += n - 1
		case c == 'x':
			if i+2 >= len(b) {
				return nil, fmt.Errorf("%w: truncated \\x escape", ErrSyntax)
			}
			v, err := strconv.ParseUint(string(b[i+1:i+3]), 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%w: bad \\x escape", ErrSyntax)
			}
			out = append(out, byte(v))
			i += 2
		default:
			out = append(out, '\\', c)
		}
	}
	return out, nil
}

// Text says whether b was a Python 2 str, which a Python 3 unpickler decodes
// to text.
func (b *Bytes) Text() bool { return b.Opcode == 'S' || b.Opcode == 'T' || b.Opcode == 'U' }

// asText gives the content of a text value; false for anything else.
func (m *machine) asText(v Value) (string, bool, error) {
	switch v := v.(type) {
	case String:
		return v.S, true, nil
	case *Bytes:
		if !v.Text() {
			return "", false, nil
		}
		err := m.materialise(v)
		return string(v.Data), err == nil, err
	}
	return "", false, nil
}

// materialise reads bytes that stayed a reference.
func (m *machine) materialise(b *Bytes) error {
	if b.Data != nil || b.Len == 0 {
		return nil
	}
	if b.Len > m.lim.String {
		return fmt.Errorf("%w: a name of %d bytes", ErrLimit, b.Len)
	}
	if err := m.charge(b.Len); err != nil {
		return err
	}
	data := make([]byte, b.Len)
	if err := m.w.readAt(data, b.Offset); err != nil {
		return err
	}
	b.Data = data
	return nil
}
