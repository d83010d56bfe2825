package gguf

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
)

// readKeys reads the metadata: scalars and texts become text, arrays are
// passed over. All of it is listed as dropped, for without being asked the
// converter writes none of it.
func (g *reader) readKeys(n uint64) error {
	seen := map[string]bool{}
	for range n {
		key, err := g.named("metadata keys", seen)
		if err != nil {
			return err
		}
		kind, err := g.Uint(4)
		if err != nil {
			return err
		}
		if err := g.value(key, kind); err != nil {
			return err
		}
	}
	return nil
}

// drop lists a metadata value.
func (g *reader) drop(key, kind, reason string) {
	g.ck.Dropped = append(g.ck.Dropped, format.Dropped{Path: key, Kind: kind, Reason: reason})
}

func (g *reader) value(key string, kind uint64) error {
	switch {
	case kind >= uint64(len(values)):
		return g.Errorf(g.Pos()-4, key, "the value type %d is not known", kind)
	case key == alignmentKey:
		return g.alignment(kind)
	case kind == typeArray:
		what, err := g.array(key, 0)
		g.drop(key, what, "metadata that is a list")
		return err
	case kind == typeString:
		return g.string(key)
	}
	s, err := g.scalar(kind)
	if err != nil {
		return err
	}
	g.ck.Metadata[key] = s
	g.drop(key, values[kind].name, "metadata")
	return nil
}

// scalar reads a number or a truth value, as JSON has it.
func (g *reader) scalar(kind uint64) (string, error) {
	switch v := values[kind]; v.name {
	case "bool":
		b, err := g.Byte()
		if err == nil && b > 1 {
			err = g.Errorf(g.Pos()-1, "", "a truth value of %d", b)
		}
		return strconv.FormatBool(b == 1), err
	case "float32", "float64":
		f, err := g.Float(v.bytes)
		return strconv.FormatFloat(f, 'g', -1, int(8*v.bytes)), err
	case "int8", "int16", "int32", "int64":
		i, err := g.Int(v.bytes)
		return strconv.FormatInt(i, 10), err
	default:
		u, err := g.Uint(v.bytes)
		return strconv.FormatUint(u, 10), err
	}
}

// string keeps a text if it is short enough and is one.
func (g *reader) string(key string) error {
	n, err := g.Uint(8)
	if err != nil {
		return err
	}
	if err := g.Need(n); err != nil {
		return err
	}
	if n > g.lim.Text || n > g.kept {
		g.drop(key, values[typeString].name, fmt.Sprintf("metadata that is a text of %d bytes", n))
		return g.Skip(n)
	}
	b, err := g.Bytes(n, n)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		g.drop(key, values[typeString].name, "metadata that is no UTF-8")
		return nil
	}
	g.kept -= n
	g.ck.Metadata[key] = string(b)
	g.drop(key, values[typeString].name, "metadata")
	return nil
}

// alignment is the one key that reading depends on.
func (g *reader) alignment(kind uint64) error {
	at := g.Pos()
	if values[kind].name != "uint32" {
		return g.Errorf(at, alignmentKey, "the alignment is a value of type %s and no uint32", values[kind].name)
	}
	n, err := g.Uint(4)
	if err != nil {
		return err
	}
	if n == 0 || n%8 != 0 || n&(n-1) != 0 || n > maxAlignment {
		return g.Errorf(at, alignmentKey, "an alignment of %d: it must be a power of two from 8 to %d", n, maxAlignment)
	}
	g.align = n
	g.ck.Metadata[alignmentKey] = strconv.FormatUint(n, 10)
	g.drop(alignmentKey, "uint32", "metadata")
	return nil
}

// maxArrayDepth bounds arrays in arrays, which no known file has.
const maxArrayDepth = 4

// array jumps over a list and says what it is.
func (g *reader) array(key string, depth int) (string, error) {
	at := g.Pos()
	kind, err := g.Uint(4)
	if err != nil {
		return "", err
	}
	n, err := g.Uint(8)
	if err != nil {
		return "", err
	}
	if kind >= uint64(len(values)) {
		return "", g.Errorf(at, key, "the element type %d is not known", kind)
	}
	what := fmt.Sprintf("%s[%d]", values[kind].name, n)
	least := uint64(max(values[kind].bytes, 8))
	if size := values[kind].bytes; size > 0 {
		least = uint64(size)
	}
	if left := uint64(g.Left()); n > left/least {
		return "", g.Errorf(at, key, "a list of %d elements does not fit into %d bytes", n, left)
	}
	if values[kind].bytes > 0 {
		return what, g.Skip(n * least)
	}
	if depth >= maxArrayDepth {
		return "", g.Errorf(at, key, "lists nested more than %d deep", maxArrayDepth)
	}
	if n > g.items {
		return "", g.Errorf(at, key, "lists of more than %d elements together", g.lim.Items)
	}
	g.items -= n
	for range n {
		if err := g.element(key, kind, depth); err != nil {
			return "", err
		}
	}
	return what, nil
}

// element jumps over an element of variable length.
func (g *reader) element(key string, kind uint64, depth int) error {
	if kind == typeArray {
		_, err := g.array(key, depth+1)
		return err
	}
	n, err := g.Uint(8)
	if err != nil {
		return err
	}
	return g.Skip(n)
}
