package model

import "encoding/binary"

// isFlax recognises the msgpack of flax.serialization, which has no magic
// number: from the top map down the first keys, past plain values, there must
// be a well-formed packed array, an extension of type 1 or 3 that holds a shape, the
// name of a dtype and as many bytes as are left in it.
func (s *sniffer) isFlax() (bool, error) {
	if len(s.head) == 0 || s.head[0]&0xf0 != 0x80 && s.head[0] != 0xde && s.head[0] != 0xdf {
		return false, nil
	}
	m := &msgpack{window: window{r: s, size: s.size}}
	return m.firstArray(), m.err
}

// msgpack reads the heads of msgpack objects.
type msgpack struct {
	window
	depth int
}

// Bounds on the way to the first array: a training state has a few numbers
// before the first layer.
const (
	flaxDepth = 32
	flaxWays  = 4096
)

// firstArray walks to the first packed array and checks it.
func (m *msgpack) firstArray() bool {
	for range flaxWays {
		c, ok := m.byte()
		if !ok {
			return false
		}
		switch n, kind := m.head(c); kind {
		case 'm': // a key and a value, or nothing
			if n == 0 {
				break
			}
			if m.depth++; m.depth > flaxDepth || !m.key() {
				return false
			}
			continue
		case 'v':
			if n > uint64(m.size-m.pos) {
				return false
			}
			m.pos += int64(n)
		case 'e':
			ext, _ := m.byte()
			if ext != 2 || n > 32 { // no complex number before the first array
				return (ext == 1 || ext == 3) && m.isArray(n)
			}
			m.pos += int64(n)
		default:
			return false
		}
		// The value is done: the next one has a key too, in whatever map.
		if !m.key() {
			return false
		}
	}
	return false
}

// head tells maps, plain values and extensions, with their pairs or bytes.
func (m *msgpack) head(c byte) (n uint64, kind byte) {
	switch {
	case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return 0, 'v'
	case c < 0x90:
		return uint64(c & 15), 'm'
	case c >= 0xa0 && c < 0xc0:
		return uint64(c & 31), 'v'
	case c == 0xde, c == 0xdf:
		return m.number(2<<(c-0xde), 'm')
	case c >= 0xc4 && c <= 0xc6:
		return m.number(1<<(c-0xc4), 'v')
	case c >= 0xd9 && c <= 0xdb:
		return m.number(1<<(c-0xd9), 'v')
	case c >= 0xc7 && c <= 0xc9:
		return m.number(1<<(c-0xc7), 'e')
	case c >= 0xd4 && c <= 0xd8:
		return 1 << (c - 0xd4), 'e'
	case c == 0xca, c == 0xcb:
		return 4 << (c - 0xca), 'v'
	case c >= 0xcc && c <= 0xcf:
		return 1 << (c - 0xcc), 'v'
	case c >= 0xd0 && c <= 0xd3:
		return 1 << (c - 0xd0), 'v'
	}
	return 0, 0 // a list: Flax makes maps of them
}

// number reads a length of so many bytes.
func (m *msgpack) number(bytes int, kind byte) (uint64, byte) {
	var b [8]byte
	for i := range bytes {
		c, ok := m.byte()
		if !ok {
			return 0, 0
		}
		b[8-bytes+i] = c
	}
	return binary.BigEndian.Uint64(b[:]), kind
}

// key reads a key, which is a text.
func (m *msgpack) key() bool {
	text, ok := m.text(1024)
	return ok && isText([]byte(text), false)
}

func (m *msgpack) text(limit uint64) (string, bool) {
	c, ok := m.byte()
	if !ok || c < 0xa0 || c >= 0xc0 && c != 0xd9 && c != 0xda && c != 0xdb {
		return "", false
	}
	n, kind := m.head(c)
	if kind != 'v' || n > limit {
		return "", false
	}
	b := make([]byte, n)
	for i := range b {
		if b[i], ok = m.byte(); !ok {
			return "", false
		}
	}
	return string(b), true
}

// isArray checks the content of an extension: a list of shape, dtype and bytes.
func (m *msgpack) isArray(length uint64) bool {
	if length > uint64(m.size-m.pos) {
		return false
	}
	end := m.pos + int64(length)
	if c, _ := m.byte(); c != 0x93 {
		return false
	}
	dims, ok := m.byte()
	if !ok || dims&0xf0 != 0x90 && dims != 0xdc {
		return false
	}
	n := uint64(dims & 15)
	if dims == 0xdc {
		if n, _ = m.number(2, 'v'); n > 32 {
			return false
		}
	}
	for range n {
		c, ok := m.byte()
		width, kind := m.head(c)
		if !ok || kind != 'v' || c > 0x7f && (c < 0xcc || c > 0xcf) {
			return false
		}
		m.pos += int64(width) // at most 8
	}
	dtype, ok := m.text(64)
	if !ok || dtype == "" || !isText([]byte(dtype), false) {
		return false
	}
	c, _ := m.byte()
	if c < 0xc4 || c > 0xc6 {
		return false
	}
	bytes, kindOf := m.head(c)
	return kindOf == 'v' && bytes == uint64(max(end-m.pos, 0))
}
