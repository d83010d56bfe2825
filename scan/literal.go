package scan

import (
	"fmt"
	"strconv"
	"strings"
)

// literal reads the subset of Python literals that a .npy header may have
// (numpy reads it with ast.literal_eval): dictionaries with text keys, lists,
// tuples, text without escapes, whole numbers, True, False.
type literal struct {
	s string
	i int
}

type (
	litTuple []any
	litList  []any
	litDict  struct {
		keys   []string
		values []any
	}
)

func (d litDict) get(key string) any {
	for i, k := range d.keys {
		if k == key {
			return d.values[i]
		}
	}
	return nil
}

func (p *literal) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n\f", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *literal) peek() byte {
	p.space()
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *literal) fail() error { return fmt.Errorf("the header cannot be read at character %d", p.i) }

func (p *literal) value(depth int) (any, error) {
	if depth > 32 {
		return nil, p.fail()
	}
	switch c := p.peek(); {
	case c == '{':
		return p.dict(depth)
	case c == '[':
		v, err := p.items(']', depth)
		return litList(v), err
	case c == '(':
		v, err := p.items(')', depth)
		return litTuple(v), err
	case c == '\'' || c == '"':
		return p.text(c)
	case c >= '0' && c <= '9' || c == '-':
		return p.number()
	case strings.HasPrefix(p.s[p.i:], "True"):
		p.i += 4
		return true, nil
	case strings.HasPrefix(p.s[p.i:], "False"):
		p.i += 5
		return false, nil
	}
	return nil, p.fail()
}

func (p *literal) dict(depth int) (any, error) {
	p.i++
	var d litDict
	for p.peek() != '}' {
		k, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		key, ok := k.(string)
		if !ok || p.peek() != ':' || d.get(key) != nil || len(d.keys) >= 64 {
			return nil, p.fail()
		}
		p.i++
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, key), append(d.values, v)
		if !p.comma('}') {
			return nil, p.fail()
		}
	}
	p.i++
	return d, nil
}

func (p *literal) items(end byte, depth int) ([]any, error) {
	p.i++
	out := []any{}
	for p.peek() != end {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if !p.comma(end) {
			return nil, p.fail()
		}
	}
	p.i++
	return out, nil
}

// comma takes the separator; the last one may be left out before end.
func (p *literal) comma(end byte) bool {
	switch p.peek() {
	case ',':
		p.i++
		return true
	case end:
		return true
	}
	return false
}

func (p *literal) text(quote byte) (any, error) {
	p.i++
	n := strings.IndexByte(p.s[p.i:], quote)
	if n < 0 || strings.ContainsAny(p.s[p.i:p.i+n], "\\\n") {
		return nil, p.fail()
	}
	s := p.s[p.i : p.i+n]
	p.i += n + 1
	return s, nil
}

func (p *literal) number() (any, error) {
	start := p.i
	p.i++
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	n, err := strconv.ParseInt(p.s[start:p.i], 10, 64)
	if err != nil {
		return nil, p.fail()
	}
	if p.i < len(p.s) && p.s[p.i] == 'L' { // written by Python 2
		p.i++
	}
	return n, nil
}
