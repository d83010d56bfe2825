package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// ggufDetector judges GGUF files: every count, length and offset against the
// file, and the templates in it.
type ggufDetector struct{}

func (ggufDetector) Name() string { return "gguf" }

func (ggufDetector) Wants(f model.File) bool { return f.Format == model.GGUF }

func (ggufDetector) Scan(_ context.Context, _ model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	g := &gguf{r: r, c: newCursor(b, 0, b.Size()), align: 32}
	if err := g.read(); err != nil {
		rule := "WS-GGUF-001"
		switch {
		case errors.Is(err, errLimit):
			rule = "WS-LIMIT-001"
		case errors.Is(err, errUnsupported):
			rule = "WS-FORMAT-002"
		}
		r.add(rule, g.c.pos, "%v", err)
	}
	return r.result()
}

// gguf reads the header of a GGUF file (specification in ggml/docs/gguf.md).
type gguf struct {
	r       *report
	c       *cursor
	version uint32
	align   uint64
	tensors []ggufTensor
	odd     bool // the filling is not of zeros
}

type ggufTensor struct {
	name       string
	begin, end uint64
	sized      bool
}

// Bounds on what ordinary files have many times less of.
const (
	maxGGUFItems  = 16 << 20 // elements of all arrays of text
	maxGGUFKeys   = 1 << 16
	maxGGUFCount  = 1 << 17 // tensors
	maxGGUFString = 16 << 20
	maxGGUFName   = 1 << 16
)

func (g *gguf) read() error {
	magic, err := g.c.u32()
	if err != nil || magic != 0x46554747 {
		return errors.New("no GGUF signature")
	}
	if g.version, err = g.c.u32(); err != nil {
		return err
	}
	if v := bits.ReverseBytes32(g.version); g.version > 0xffff && (v == 2 || v == 3) {
		g.version, g.c.bigEndian = v, true // written for a big-endian machine, numbers and all
	}
	if g.version < 2 || g.version > 3 {
		return fmt.Errorf("version %d: %w", g.version, errUnsupported)
	}
	tensors, err := g.c.u64()
	if err != nil {
		return err
	}
	keys, err := g.c.u64()
	if err != nil {
		return err
	}
	// The smallest key takes 13 bytes, the smallest tensor 24.
	if left := uint64(g.c.left()); keys > left/13 || tensors > left/24 {
		return fmt.Errorf("%d keys and %d tensors do not fit into %d bytes", keys, tensors, left)
	}
	if keys > maxGGUFKeys || tensors > maxGGUFCount {
		return fmt.Errorf("%d keys and %d tensors: %w", keys, tensors, errLimit)
	}
	if err := g.readKeys(keys); err != nil {
		return err
	}
	if err := g.readTensors(tensors); err != nil {
		return err
	}
	return g.layout()
}

func (g *gguf) readKeys(n uint64) error {
	seen := entryNames{}
	for range n {
		key, err := g.string(maxGGUFName)
		if err != nil {
			return fmt.Errorf("a key: %w", err)
		}
		if seen.add(key) {
			g.r.add("WS-GGUF-002", g.c.pos, "the key %q is there twice", clip(key))
		}
		kind, err := g.c.u32()
		if err != nil {
			return err
		}
		if err := g.value(key, kind); err != nil {
			return fmt.Errorf("the value of %q: %w", clip(key), err)
		}
	}
	return nil
}

// The value types that have no fixed size.
const (
	ggufString = 8
	ggufArray  = 9
)

// ggufSizes are the sizes of the value types in bytes; 0 where there is none.
var ggufSizes = [...]int64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

func (g *gguf) value(key string, kind uint32) error {
	switch {
	case kind >= uint32(len(ggufSizes)):
		return fmt.Errorf("the type %d is unknown", kind)
	case kind == ggufString:
		return g.text(key)
	case kind == ggufArray:
		if strings.HasPrefix(key, "tokenizer.chat_template") && key != "tokenizer.chat_templates" {
			g.r.add("WS-TEMPLATE-002", g.c.pos, "%s is an array, and was not looked through", clip(key))
		}
		return g.array(0)
	case key == "general.alignment":
		return g.alignment(kind)
	}
	return g.c.skip(ggufSizes[kind])
}

func (g *gguf) text(key string) error {
	at := g.c.pos
	s, err := g.string(maxGGUFString)
	if err != nil {
		return err
	}
	if strings.HasPrefix(key, "tokenizer.chat_template") {
		checkTemplate(g.r, s, at+8, key)
	}
	return nil
}

func (g *gguf) alignment(kind uint32) error {
	if kind != 4 {
		return errors.New("the alignment is no 32-bit number")
	}
	n, err := g.c.u32()
	if err != nil {
		return err
	}
	if n == 0 || n%8 != 0 || n&(n-1) != 0 || n > 1<<20 {
		return fmt.Errorf("an alignment of %d", n)
	}
	g.align = uint64(n)
	return nil
}

func (g *gguf) array(depth int) error {
	if depth > 4 {
		return errors.New("arrays nested too deep")
	}
	kind, err := g.c.u32()
	if err != nil {
		return err
	}
	n, err := g.c.u64()
	if err != nil {
		return err
	}
	if kind >= uint32(len(ggufSizes)) {
		return fmt.Errorf("the element type %d is unknown", kind)
	}
	least := uint64(8) // a string's length
	if kind == ggufArray {
		least = 12
	} else if ggufSizes[kind] > 0 {
		least = uint64(ggufSizes[kind])
	}
	if n > uint64(g.c.left())/least {
		return fmt.Errorf("an array of %d elements does not fit into %d bytes", n, g.c.left())
	}
	if ggufSizes[kind] > 0 {
		return g.c.skip(int64(n) * ggufSizes[kind])
	}
	if n > maxGGUFItems {
		return fmt.Errorf("an array of %d texts: %w", n, errLimit)
	}
	for range n {
		if kind == ggufArray {
			err = g.array(depth + 1)
		} else {
			err = g.skipString()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *gguf) skipString() error {
	n, err := g.c.u64()
	if err != nil {
		return err
	}
	if n > uint64(g.c.left()) {
		return fmt.Errorf("a text of %d bytes, %d are left", n, g.c.left())
	}
	return g.c.skip(int64(n))
}

func (g *gguf) string(limit uint64) (string, error) {
	n, err := g.c.u64()
	if err != nil {
		return "", err
	}
	if n > uint64(g.c.left()) {
		return "", fmt.Errorf("a text of %d bytes, %d are left", n, g.c.left())
	}
	if n > limit {
		return "", fmt.Errorf("a text of %d bytes: %w", n, errLimit)
	}
	b, err := g.c.bytes(int(n))
	return string(b), err
}

// ggmlTypes gives, for each tensor type of ggml, the elements of a block and
// its bytes; zero for types that were removed.
var ggmlTypes = [...]struct{ elements, bytes uint64 }{
	0: {1, 4}, 1: {1, 2}, 2: {32, 18}, 3: {32, 20}, 6: {32, 22}, 7: {32, 24}, 8: {32, 34}, 9: {32, 40},
	10: {256, 84}, 11: {256, 110}, 12: {256, 144}, 13: {256, 176}, 14: {256, 210}, 15: {256, 292},
	16: {256, 66}, 17: {256, 74}, 18: {256, 98}, 19: {256, 50}, 20: {32, 18}, 21: {256, 110}, 22: {256, 82},
	23: {256, 136}, 24: {1, 1}, 25: {1, 2}, 26: {1, 4}, 27: {1, 8}, 28: {1, 8}, 29: {256, 56}, 30: {1, 2},
	34: {256, 54}, 35: {256, 66}, 39: {32, 17}, 40: {64, 36},
}

// ggmlMostTypes is above the types of ggml and of its forks, which count to
// 400: a larger one makes a reader look outside its table.
const ggmlMostTypes = 512

func (g *gguf) readTensors(n uint64) error {
	seen := entryNames{}
	for range n {
		name, err := g.string(maxGGUFName)
		if err != nil {
			return fmt.Errorf("a tensor's name: %w", err)
		}
		if seen.add(name) {
			g.r.add("WS-GGUF-002", g.c.pos, "the tensor %q is there twice", clip(name))
		}
		t, err := g.tensor(strings.Clone(clip(name)))
		if err != nil {
			return fmt.Errorf("the tensor %q: %w", clip(name), err)
		}
		g.tensors = append(g.tensors, t)
	}
	return nil
}

func (g *gguf) tensor(name string) (ggufTensor, error) {
	t := ggufTensor{name: name}
	dims, err := g.c.u32()
	if err != nil {
		return t, err
	}
	if dims > 8 {
		return t, fmt.Errorf("%d dimensions", dims)
	}
	elements, row := uint64(1), uint64(1)
	for i := range dims {
		d, err := g.c.u64()
		if err != nil {
			return t, err
		}
		hi, lo := bits.Mul64(elements, d)
		if hi != 0 || lo > 1<<56 || d > 1<<56 {
			return t, errors.New("the product of the dimensions overflows")
		}
		if elements = lo; i == 0 {
			row = d
		}
	}
	kind, err := g.c.u32()
	if err != nil {
		return t, err
	}
	if t.begin, err = g.c.u64(); err != nil {
		return t, err
	}
	if kind >= ggmlMostTypes {
		return t, fmt.Errorf("the type %d is none", kind)
	}
	if kind >= uint32(len(ggmlTypes)) || ggmlTypes[kind].bytes == 0 {
		return t, fmt.Errorf("the type %d: %w", kind, errUnsupported)
	}
	q := ggmlTypes[kind]
	if row%q.elements != 0 {
		return t, fmt.Errorf("rows of %d elements are no whole blocks of %d", row, q.elements)
	}
	hi, size := bits.Mul64(elements/q.elements, q.bytes)
	if hi != 0 || size > 1<<60 || t.begin > 1<<60 {
		return t, errors.New("the size overflows")
	}
	t.end, t.sized = t.begin+size, true
	return t, nil
}

// layout checks that the tensors fill the rest of the file, each where the
// next multiple of the alignment is.
func (g *gguf) layout() error {
	slices.SortStableFunc(g.tensors, func(a, b ggufTensor) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	start := (uint64(g.c.pos) + g.align - 1) / g.align * g.align
	size := uint64(g.c.end)
	if len(g.tensors) > 0 {
		if err := g.filling(uint64(g.c.pos), min(start, size)); err != nil {
			return err
		}
	}
	pos := uint64(0)
	for _, t := range g.tensors {
		if t.begin%g.align != 0 {
			return fmt.Errorf("the tensor %q lies at %d, no multiple of %d", clip(t.name), t.begin, g.align)
		}
		if start > size || t.end > size-start {
			return fmt.Errorf("the tensor %q ends at byte %d of a file of %d", clip(t.name), start+t.end, size)
		}
		if t.begin < pos {
			g.r.add("WS-GGUF-002", int64(start+t.begin), "the tensor %q overlaps another one", clip(t.name))
		} else if t.begin > (pos+g.align-1)/g.align*g.align {
			g.r.add("WS-GGUF-002", int64(start+pos), "%d bytes before the tensor %q belong to nothing", t.begin-pos, clip(t.name))
		} else if err := g.filling(start+pos, start+t.begin); err != nil {
			return err
		}
		pos = max(pos, t.end)
	}
	if len(g.tensors) == 0 {
		start = uint64(g.c.pos)
	}
	return g.rest(start+pos, size)
}

// rest looks at what follows the last tensor: padding of zeros up to the
// alignment, nothing else.
func (g *gguf) rest(from, size uint64) error {
	if from >= size {
		return nil
	}
	if size-from >= g.align {
		g.r.add("WS-GGUF-002", int64(from), "%d bytes after the last tensor", size-from)
		return nil
	}
	return g.filling(from, size)
}

// filling checks that the bytes between two parts are zeros: others could be
// anything.
func (g *gguf) filling(from, to uint64) error {
	if from >= to || g.odd {
		return nil
	}
	pad := make([]byte, to-from) // less than the alignment
	if _, err := g.c.r.ReadAt(pad, int64(from)); err != nil && err != io.EOF {
		return err
	}
	for i, v := range pad {
		if v != 0 {
			g.odd = true // one is enough
			g.r.add("WS-GGUF-002", int64(from)+int64(i), "bytes that are no zeros in the filling between byte %d and %d", from, to)
			return nil
		}
	}
	return nil
}
