package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
)

// json reads one JSON document. The items of a list are handed on one by one,
// so that a list of all pods of a cluster is never in memory as a whole.
func (in *input) json() error {
	lines := &lineCounter{r: in.r, line: in.line}
	dec := json.NewDecoder(lines)
	dec.UseNumber()
	j := &jsonValues{in: in, dec: dec, lines: lines}
	err := j.document()
	// What the decoder has read ahead is read again.
	rest, _ := io.ReadAll(dec.Buffered())
	in.line = lines.at(dec.InputOffset())
	in.unread(rest)
	if err == nil {
		return nil
	}
	var read *ReadError
	if errors.As(err, &read) || errors.Is(err, errStop) {
		return err
	}
	// Where a broken JSON document ends is not known.
	if err := in.broken(in.line, jsonReason(err)); err != nil {
		return err
	}
	return errStop
}

func jsonReason(err error) error {
	var limit *LimitError
	if errors.As(err, &limit) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends in the middle")
	}
	return fmt.Errorf("not JSON: %w", err)
}

// jsonValues decodes values token by token: maps with a key twice are refused,
// depth and number of values are bounded.
type jsonValues struct {
	in    *input
	dec   *json.Decoder
	lines *lineCounter
	count int
	from  int64 // offset where the object may begin that is being read
	start int64 // offset of its first byte
}

// document reads the top value. Of a list only what is not in items is kept.
func (j *jsonValues) document() error {
	first := j.lines.line
	j.begin()
	if _, err := j.dec.Token(); err != nil { // the brace
		return err
	}
	m := map[string]any{}
	var pending []any // items that came before the list's kind
	for j.dec.More() {
		key, err := j.key(m)
		if err != nil {
			return err
		}
		j.begin()
		if key == "items" {
			m[key] = nil // so that it cannot come twice
			pending, err = j.items(m)
		} else {
			m[key], err = j.value(1)
		}
		if err != nil {
			return err
		}
	}
	if _, err := j.dec.Token(); err != nil {
		return err
	}
	if pending != nil {
		m["items"] = pending
		return j.in.value(m, first)
	}
	if _, list := m["items"]; list && strings.HasSuffix(text(m["kind"]), "List") {
		return nil
	}
	return j.in.value(m, first)
}

// items hands the items of a list on as they come, where the list's kind is
// known or every item has its own; others are given back.
func (j *jsonValues) items(list map[string]any) (pending []any, err error) {
	tok, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		list["items"], err = j.of(tok, 1)
		return nil, err
	}
	kind := text(list["kind"])
	for j.dec.More() {
		if err := j.in.ctx.Err(); err != nil {
			return nil, &ReadError{Origin: Origin{File: j.in.file}, Err: err}
		}
		j.begin()
		v, err := j.value(1)
		if err != nil {
			return nil, err
		}
		line := j.lines.at(j.start)
		o, isMap := v.(map[string]any)
		switch {
		case !isMap:
			if err := j.in.broken(line, fmt.Errorf("an item is %s, want a map", typeName(v))); err != nil {
				return nil, err
			}
		case strings.HasSuffix(kind, "List") || text(o["kind"]) != "" && text(o["apiVersion"]) != "":
			if err := j.in.object(o, line, text(list["apiVersion"]), strings.TrimSuffix(kind, "List")); err != nil {
				return nil, err
			}
		case len(pending) >= 10_000:
			return nil, &LimitError{What: "items without a kind", Max: 10_000}
		default:
			pending = append(pending, v)
		}
	}
	_, err = j.dec.Token()
	return pending, err
}

// begin starts the count of a new object, which the next value is.
func (j *jsonValues) begin() {
	j.count, j.from = 0, j.dec.InputOffset()
	j.lines.limit = j.from + 2*maxObject
}

// key reads a key that is not in m yet.
func (j *jsonValues) key(m map[string]any) (string, error) {
	tok, err := j.dec.Token()
	if err != nil {
		return "", err
	}
	key, ok := tok.(string)
	if !ok {
		return "", errors.New("a key is no string")
	}
	if _, twice := m[key]; twice {
		return "", fmt.Errorf("the key %q is there twice", key)
	}
	return key, nil
}

func (j *jsonValues) value(depth int) (any, error) {
	tok, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	return j.of(tok, depth)
}

// of reads the value that begins with a token.
func (j *jsonValues) of(tok json.Token, depth int) (any, error) {
	if j.count == 0 {
		j.start = j.dec.InputOffset() - 1 // of a map; of what is none, the last byte
	}
	if j.count++; j.count > maxValues {
		return nil, &LimitError{What: "values in one object", Max: maxValues}
	}
	if depth > maxDepth {
		return nil, &LimitError{What: "levels of nesting", Max: maxDepth}
	}
	if j.dec.InputOffset()-j.from > maxObject {
		return nil, &LimitError{What: "bytes in one object", Max: maxObject}
	}
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '[' {
			return j.list(depth)
		}
		return j.mapping(depth)
	case json.Number:
		return number(tok), nil
	}
	return tok, nil
}

func (j *jsonValues) list(depth int) (any, error) {
	list := []any{}
	for j.dec.More() {
		v, err := j.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := j.dec.Token()
	return list, err
}

func (j *jsonValues) mapping(depth int) (any, error) {
	m := map[string]any{}
	for j.dec.More() {
		key, err := j.key(m)
		if err != nil {
			return nil, err
		}
		if m[key], err = j.value(depth + 1); err != nil {
			return nil, err
		}
	}
	_, err := j.dec.Token()
	return m, err
}

// lineCounter knows on which line an offset is, for offsets that only grow.
type lineCounter struct {
	r     io.Reader
	read  int64
	limit int64   // no offset after this one is read: one string could be endless
	ends  []int64 // offsets of newlines after the last offset that was asked for
	line  int     // of the last offset that was asked for
}

func (c *lineCounter) Read(p []byte) (int, error) {
	if c.read >= c.limit {
		return 0, &LimitError{What: "bytes in one object", Max: maxObject}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.limit-c.read)])
	for i, b := range p[:n] {
		if b == '\n' {
			c.ends = append(c.ends, c.read+int64(i))
		}
	}
	c.read += int64(n)
	return n, err
}

func (c *lineCounter) at(offset int64) int {
	n := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] >= offset })
	c.line += n
	c.ends = c.ends[:copy(c.ends, c.ends[n:])]
	return c.line
}
