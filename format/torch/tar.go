package torch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// tarTensor is a tensor of the tar container: they are numbered, and the
// object refers to them by number.
type tarTensor struct {
	storage             *Storage
	size, stride        []int64
	offset, first, view int64
}

// openTar reads the container of torch < 0.1.10: members sys_info, pickle,
// tensors and storages (legacy_load in torch/serialization.py).
func openTar(r io.ReaderAt, size int64, lim Limits) (*Checkpoint, error) {
	members, errs := tarMembers(r, size)
	if members["pickle"] == nil || members["storages"] == nil || members["tensors"] == nil {
		return nil, broken(ErrNotTorch, "", -1, "the tar archive lacks pickle, tensors or storages")
	}
	t := &tarOpener{
		c: &Checkpoint{Container: Tar, Storages: map[string]*Storage{}, tarTensors: map[int64]*tarTensor{}, lim: lim},
		r: r, views: map[string]tarView{},
	}
	if m := members["sys_info"]; m != nil {
		_, err := t.stream("sys_info", m.start, m.end, true)
		errs = append(errs, err)
	}
	object, err := t.stream("pickle", members["pickle"].start, members["pickle"].end, true)
	errs = append(errs, err)
	t.c.Root = object.Root
	if err := t.storages(members["storages"]); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, t.tensors(members["tensors"]), t.references(object))
	}
	t.c.liftFindings()
	return t.c, errors.Join(errs...)
}

type member struct{ start, end int64 }

// tarMembers reads the directory of a plain ustar archive: all that belongs
// to a torch checkpoint, and what is wrong.
func tarMembers(r io.ReaderAt, size int64) (members map[string]*member, errs []error) {
	members = map[string]*member{}
	fail := func(err error) {
		if err != nil && len(errs) < maxErrors {
			errs = append(errs, err)
		}
	}
	s := &smallReader{r: r, size: size}
	for at := int64(0); ; {
		h, err := s.read(at, 512)
		if err != nil {
			fail(err)
			return members, errs
		}
		if len(bytes.Trim(h, "\x00")) == 0 {
			fail(s.zeros(at))
			return members, errs
		}
		name, length, err := tarHeader(h, at)
		if err != nil {
			fail(err)
			return members, errs
		}
		at += 512
		if length > size-at {
			fail(broken(ErrContainer, name, at, "the member has %d bytes, %d are left", length, size-at))
			return members, errs
		}
		switch name {
		case "sys_info", "pickle", "tensors", "storages":
			if members[name] != nil {
				fail(broken(ErrContainer, name, at, "two members of one name"))
			}
			members[name] = &member{at, at + length} // the last one, as tarfile takes it
		default:
			fail(broken(ErrContainer, name, at, "no such member belongs to a torch checkpoint"))
		}
		pad := (512 - length%512) % 512
		fail(s.padding(name, at+length, pad))
		at += length + pad
	}
}

// padding demands that what fills up a block is empty.
func (s *smallReader) padding(name string, at, n int64) error {
	if n == 0 {
		return nil
	}
	b, err := s.read(at, int(n))
	if err != nil {
		return err
	}
	if len(bytes.Trim(b, "\x00")) > 0 {
		return broken(ErrContainer, name, at, "the padding has content")
	}
	return nil
}

// zeros demands that the rest of an archive is empty: two blocks or more.
func (s *smallReader) zeros(at int64) error {
	if s.size-at < 1024 || s.size-at > 1<<20 {
		return broken(ErrContainer, "", at, "%d bytes are no end of a tar archive", s.size-at)
	}
	for ; at < s.size; at += 512 {
		b, err := s.read(at, int(min(512, s.size-at)))
		if err != nil {
			return err
		}
		if len(bytes.Trim(b, "\x00")) > 0 {
			return broken(ErrContainer, "", at, "content behind the end of the tar archive")
		}
	}
	return nil
}

// tarHeader reads a ustar header of a regular file.
func tarHeader(h []byte, at int64) (name string, length int64, err error) {
	sum := int64(0)
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	name = string(bytes.TrimRight(h[:100], "\x00"))
	if v, ok := tarOctal(h[148:156]); !ok || v != sum {
		return "", 0, broken(ErrContainer, name, at, "the checksum of the tar header is wrong")
	}
	if h[156] != '0' && h[156] != 0 {
		return "", 0, broken(ErrContainer, name, at, "a tar member of type %q", h[156])
	}
	if string(h[257:263]) == "ustar\x00" && len(bytes.Trim(h[345:500], "\x00")) > 0 {
		return "", 0, broken(ErrContainer, name, at, "a tar member in a folder")
	}
	length, ok := tarOctal(h[124:136])
	if !ok {
		return "", 0, broken(ErrContainer, name, at, "the size of the tar member is no number")
	}
	return strings.TrimPrefix(name, "./"), length, nil
}

func tarOctal(b []byte) (int64, bool) {
	v, err := strconv.ParseInt(strings.Trim(string(b), " \x00"), 8, 64)
	return v, err == nil && v >= 0
}

// tarOpener builds a Checkpoint from the members.
type tarOpener struct {
	c     *Checkpoint
	r     io.ReaderAt
	views map[string]tarView
}

// tarView is what a storage id stands for: a storage or a part of one.
type tarView struct {
	storage      *Storage
	first, numel int64
}

// stream runs the pickle at start; whole demands that it fills the range.
func (t *tarOpener) stream(name string, start, end int64, whole bool) (*pickle.Stream, error) {
	s, err := pickle.Load(t.r, start, end, t.c.lim.Pickle)
	t.c.Streams = append(t.c.Streams, NamedStream{Name: name, Stream: s, Source: t.r})
	if err != nil {
		return s, fmt.Errorf("torch: %s: %w", name, err)
	}
	if whole && s.End != end {
		return s, broken(ErrContainer, name, s.End, "%d bytes follow the pickle", end-s.End)
	}
	return s, nil
}

// count reads the pickle of a number.
func (t *tarOpener) count(name string, m *member) (n, at int64, err error) {
	s, err := t.stream(name, m.start, m.end, false)
	if err != nil {
		return 0, 0, err
	}
	n, ok := countOf(s.Root)
	if !ok || n > int64(t.c.lim.Entries) {
		return 0, 0, broken(ErrContainer, name, s.Start, "it does not begin with a count of at most %d", t.c.lim.Entries)
	}
	return n, s.End, nil
}

// triple reads the pickle of a tuple of three.
func (t *tarOpener) triple(name string, at, end int64) ([]pickle.Value, int64, error) {
	s, err := t.stream(name, at, end, false)
	if err != nil {
		return nil, 0, err
	}
	tuple, ok := s.Root.(*pickle.Tuple)
	if !ok || len(tuple.Items) != 3 {
		return nil, 0, broken(ErrContainer, name, s.Start, "it is no tuple of three")
	}
	return tuple.Items, s.End, nil
}

// storages reads (key, location, class) and the elements of each storage,
// then the list of views.
func (t *tarOpener) storages(m *member) error {
	n, at, err := t.count("storages", m)
	if err != nil {
		return err
	}
	sizes := &smallReader{r: t.r, size: m.end}
	for i := range n {
		name := fmt.Sprintf("storages.%d", i)
		v, end, err := t.triple(name, at, m.end)
		if err != nil {
			return err
		}
		if at, err = t.storage(sizes, name, v, end); err != nil {
			return err
		}
	}
	s, err := t.stream("storages.views", at, m.end, true)
	if err != nil {
		return err
	}
	return t.viewList(s)
}

func (t *tarOpener) storage(sizes *smallReader, name string, v []pickle.Value, at int64) (int64, error) {
	key, ok := keyOf(v[0])
	g, isGlobal := v[2].(*pickle.Global)
	if _, isText := textOf(v[1]); !ok || !isText || !isGlobal || t.c.Storages[key] != nil {
		return 0, broken(ErrStorage, name, at, "the storage has no key, location or class, or comes twice")
	}
	module, class := g.Mapped()
	elements, ok := classOf(module, class)
	if !ok {
		return 0, broken(ErrStorage, name, at, "unknown storage class %s", quote(module+"."+class))
	}
	b, err := sizes.read(at, 8)
	if err != nil {
		return 0, err
	}
	numel := int64(binary.LittleEndian.Uint64(b))
	if numel < 0 || numel > math.MaxInt64/elements.bytes {
		return 0, broken(ErrStorage, name, at, "%d elements", numel)
	}
	st := &Storage{Key: key, Class: module + "." + class, DType: elements.dtype, ElementSize: elements.bytes, Numel: numel}
	end, err := sizes.storage(st, at, elements)
	if err != nil {
		return 0, err
	}
	t.c.Storages[key] = st
	t.views[key] = tarView{st, 0, numel}
	return end, nil
}

// keyOf gives an id of the tar container: a number, or its digits.
func keyOf(v pickle.Value) (string, bool) {
	if n, ok := v.(pickle.Int); ok {
		return strconv.FormatInt(int64(n), 10), true
	}
	s, ok := textOf(v)
	if !ok || s == "" || strings.Trim(s, "0123456789") != "" {
		return "", false
	}
	return s, true
}

// viewList reads (id, id of the root, offset, numel) of storages that are
// parts of others.
func (t *tarOpener) viewList(s *pickle.Stream) error {
	list, ok := s.Root.(*pickle.List)
	if !ok {
		return broken(ErrContainer, "storages.views", s.Start, "it is no list")
	}
	for _, v := range list.Items {
		tuple, ok := v.(*pickle.Tuple)
		if !ok || len(tuple.Items) != 4 {
			return broken(ErrStorage, "storages.views", s.Start, "a view is no tuple of four")
		}
		target, ok1 := keyOf(tuple.Items[0])
		rootKey, ok2 := keyOf(tuple.Items[1])
		first, ok3 := countOf(tuple.Items[2])
		numel, ok4 := countOf(tuple.Items[3])
		root, known := t.views[rootKey]
		if !ok1 || !ok2 || !ok3 || !ok4 || !known || first > root.numel || numel > root.numel-first {
			return broken(ErrStorage, "storages.views", s.Start, "a view does not fit in its storage")
		}
		if _, twice := t.views[target]; twice {
			return broken(ErrStorage, "storages.views", s.Start, "storage %s comes twice", quote(target))
		}
		t.views[target] = tarView{root.storage, root.first + first, numel}
	}
	return nil
}

// tensors reads (id, storage id, class) of each tensor, its rank, sizes,
// strides and offset.
func (t *tarOpener) tensors(m *member) error {
	n, at, err := t.count("tensors", m)
	if err != nil {
		return err
	}
	nums := &smallReader{r: t.r, size: m.end}
	for i := range n {
		name := fmt.Sprintf("tensors.%d", i)
		v, end, err := t.triple(name, at, m.end)
		if err != nil {
			return err
		}
		if at, err = t.tensor(nums, name, v, end); err != nil {
			return err
		}
	}
	if at != m.end {
		return broken(ErrContainer, "tensors", at, "%d bytes follow the last tensor", m.end-at)
	}
	return nil
}

func (t *tarOpener) tensor(nums *smallReader, name string, v []pickle.Value, at int64) (int64, error) {
	id, ok := v[0].(pickle.Int)
	key, hasKey := keyOf(v[1])
	view, known := t.views[key]
	if !ok || !hasKey || !known || t.c.tarTensors[int64(id)] != nil {
		return 0, broken(ErrTensor, name, at, "the tensor has no id or storage, or comes twice")
	}
	b, err := nums.read(at, 8)
	if err != nil {
		return 0, err
	}
	rank := int64(int32(binary.LittleEndian.Uint32(b))) // the next 4 bytes are padding
	if rank < 0 || rank > maxRank {
		return 0, broken(ErrTensor, name, at, "%d dimensions", rank)
	}
	at += 8
	if b, err = nums.read(at, int(16*rank+8)); err != nil {
		return 0, err
	}
	word := func() int64 {
		v := int64(binary.LittleEndian.Uint64(b))
		b = b[8:]
		return v
	}
	tt := &tarTensor{storage: view.storage, first: view.first, view: view.numel}
	for range rank {
		tt.size = append(tt.size, word())
	}
	for range rank {
		tt.stride = append(tt.stride, word())
	}
	tt.offset = word()
	t.c.tarTensors[int64(id)] = tt
	return at + 16*rank + 8, nil
}

// references checks that every persistent id of the object is a tensor.
func (t *tarOpener) references(s *pickle.Stream) error {
	for _, p := range s.Persistents {
		if t.c.tarTensor(p) == nil {
			return broken(ErrStorage, "pickle", p.Offset, "the persistent id names no tensor")
		}
	}
	return nil
}

// tarTensor finds the tensor that a persistent id of the tar container names.
func (c *Checkpoint) tarTensor(p *pickle.Persistent) *tarTensor {
	key, ok := keyOf(p.ID)
	if !ok {
		return nil
	}
	id, err := strconv.ParseInt(key, 10, 64)
	if err != nil {
		return nil
	}
	return c.tarTensors[id]
}
