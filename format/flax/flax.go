// Package flax reads what flax.serialization.msgpack_serialize writes (file
// flax/serialization.py): nested maps of arrays in msgpack. The arrays' bytes
// are ranges of the file.
package flax

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
)

const name = "flax"

// The extension types (enum _MsgpackExtType).
const (
	extArray   = 1
	extComplex = 2
	extScalar  = 3 // a numpy scalar, packed as an array without dimensions
)

// Limits bound what is read. Zero fields take the default.
type Limits struct {
	Depth   int    // of maps and lists in each other: 64
	Tensors int    // tensors and other values: 2^18
	Objects int    // of msgpack, keys and numbers of shapes included: 2^24
	Text    uint64 // bytes of one text that is kept: 64 KiB; longer ones are dropped
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = 64
	}
	if l.Tensors <= 0 {
		l.Tensors = 1 << 18
	}
	if l.Objects <= 0 {
		l.Objects = 1 << 24
	}
	if l.Text == 0 {
		l.Text = 64 << 10
	}
	return l
}

// parser reads one file.
type parser struct {
	*format.Cursor
	file    io.ReaderAt
	lim     Limits
	budget  *format.Budget
	objects int
	kept    uint64 // bytes of text that may still be kept
	prefix  string // of what is selected, with its dot; empty for all
	found   bool   // something is selected
	refused error
	ck      *format.Checkpoint
}

const outsideReason = "outside the selected subtree"

// Open reads the structure of a file of size bytes. Names are the keys joined
// with dots. sub, if not empty, chooses a subtree by such a name: only its
// tensors are taken, and their names begin below it. A damaged file gives a
// *format.Error; arrays that safetensors cannot hold, and a subtree that is not
// there, a *format.UnsupportedError.
func Open(r io.ReaderAt, size int64, sub string, lim Limits) (*format.Checkpoint, error) {
	p := &parser{
		Cursor: format.NewCursor(name, r, size), file: r, lim: lim.withDefaults(), kept: 16 << 20,
		ck: &format.Checkpoint{Framework: "flax", Metadata: map[string]string{}},
	}
	p.Order = binary.BigEndian
	p.budget, p.objects = format.NewBudget(name, p.lim.Tensors), p.lim.Objects
	if sub != "" {
		p.prefix = sub + "."
	}
	root, err := p.next()
	if err != nil {
		return nil, err
	}
	if root.class != classMap {
		return nil, p.Errorf(0, "", "the file is a %s and no dict of arrays", root.class)
	}
	top, err := p.walkMap(&root, "", 0)
	if err != nil {
		return nil, err
	}
	if p.Left() > 0 {
		return nil, p.Errorf(p.Pos(), "", "%d bytes behind the checkpoint", p.Left())
	}
	if sub != "" && !p.found {
		return nil, nothingThere(sub, top)
	}
	if p.refused != nil {
		return nil, p.refused
	}
	return p.ck, nil
}

func nothingThere(sub string, top []string) error {
	const listed = 16
	if len(top) > listed {
		top = top[:listed]
	}
	next := "choose another subtree, or all: leave --select out"
	if len(top) > 0 {
		next = "choose one of --select " + strings.Join(top, ", --select ")
	}
	return &format.UnsupportedError{Format: name, Where: sub, What: "no such subtree", Next: next}
}

// walk reads what an object holds.
func (p *parser) walk(o object, path string, depth int) error {
	var err error
	switch o.class {
	case classMap:
		_, err = p.walkMap(&o, path, depth)
	case classList:
		err = p.walkList(&o, path, depth)
	case classExt:
		err = p.extension(&o, path)
	case classText:
		err = p.keepText(&o, path)
	case classBytes:
		if err = p.Skip(o.length); err == nil {
			err = p.drop(path, fmt.Sprintf("bytes[%d]", o.length), "no tensor")
		}
	case classNil:
		err = p.drop(path, "None", "no tensor")
	default:
		err = p.keep(path, o.class.String(), o.scalar())
	}
	return within(path, err)
}

// walkMap reads a map and gives the keys of those that it holds maps under.
func (p *parser) walkMap(o *object, path string, depth int) ([]string, error) {
	if depth >= p.lim.Depth {
		return nil, p.Errorf(o.at, "", "dicts nested more than %d deep", p.lim.Depth)
	}
	if o.length == 0 && path != "" {
		return nil, p.drop(path, "dict", "empty")
	}
	seen := map[string]bool{}
	for i := range o.length {
		k, err := p.next()
		if err != nil {
			return nil, err
		}
		key, err := p.key(&k)
		switch {
		case err != nil:
			return nil, err
		case key == chunkedMark && i == 0:
			return nil, p.chunked(o, path, depth)
		case key == chunkedMark:
			return nil, p.Errorf(k.at, "", "the mark of a chunked array is not its first key")
		}
		if _, twice := seen[key]; twice {
			return nil, p.Errorf(k.at, path, "two values under the key %q", key)
		}
		e, err := p.next()
		if err != nil {
			return nil, err
		}
		seen[key] = e.class == classMap
		if err := p.walk(e, joined(path, key), depth+1); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(seen, func(_ string, branch bool) bool { return !branch })
	return slices.Sorted(maps.Keys(seen)), nil
}

// joined is the name of something under a key.
func joined(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

const maxKey = 4 << 10

func (p *parser) key(o *object) (string, error) {
	if o.class != classText {
		return "", p.Errorf(o.at, "", "a key that is a %s", o.class)
	}
	return p.text(o, maxKey)
}

// walkList reads a list, the names of whose elements are their numbers.
func (p *parser) walkList(o *object, path string, depth int) error {
	if depth >= p.lim.Depth {
		return p.Errorf(o.at, "", "lists nested more than %d deep", p.lim.Depth)
	}
	for i := range o.length {
		e, err := p.next()
		if err != nil {
			return err
		}
		if err := p.walk(e, joined(path, fmt.Sprint(i)), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) extension(o *object, path string) error {
	switch o.ext {
	case extArray, extScalar:
		a, err := p.array(o, path)
		if err != nil || a.dtype == 0 {
			return err
		}
		return p.tensor(path, a)
	case extComplex:
		if err := p.Skip(o.length); err != nil {
			return err
		}
		return p.drop(path, "complex", "no tensor")
	}
	p.refuse(&format.UnsupportedError{
		Format: name, Where: path, What: fmt.Sprintf("msgpack extension of type %d, which Flax does not have", o.ext),
		Next: "save it again with flax.serialization.msgpack_serialize",
	})
	return p.Skip(o.length)
}

// refuse remembers what cannot be converted. The rest is read nevertheless, so
// that a damaged file is told from one that is only not convertible.
func (p *parser) refuse(err *format.UnsupportedError) {
	_, in := p.selected(err.Where)
	if in && p.refused == nil {
		p.refused = err
	}
}

// selected gives the name of something below the selected subtree.
func (p *parser) selected(path string) (string, bool) {
	below, in := strings.CutPrefix(path, p.prefix)
	if p.prefix != "" && path+"." == p.prefix { // the selection itself
		below, in = path[strings.LastIndexByte(path, '.')+1:], true
	}
	p.found = p.found || in
	return below, in
}

// drop lists what safetensors cannot hold.
func (p *parser) drop(path, kind, reason string) error {
	if err := p.budget.Take(len(path)); err != nil {
		return err
	}
	p.ck.Dropped = append(p.ck.Dropped, format.Dropped{Path: path, Kind: kind, Reason: reason})
	return nil
}

// keep lists a value that metadata can hold.
func (p *parser) keep(path, kind, value string) error {
	name, in := p.selected(path)
	if !in {
		return p.drop(path, kind, outsideReason)
	}
	p.ck.Metadata[name] = value
	return p.drop(path, kind, "no tensor")
}

func (p *parser) keepText(o *object, path string) error {
	if o.length > p.lim.Text || o.length > p.kept {
		if err := p.Skip(o.length); err != nil {
			return err
		}
		return p.drop(path, fmt.Sprintf("str[%d]", o.length), "no tensor")
	}
	s, err := p.text(o, o.length)
	if err != nil {
		return err
	}
	p.kept -= o.length
	return p.keep(path, "str", s)
}
