package torch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/weightseal/weightseal/format/pickle"
)

// openLegacy reads the container of torch < 1.6: five pickles, then for each
// key of the fifth an int64 number of elements and the elements
// (_legacy_load in torch/serialization.py).
func openLegacy(r io.ReaderAt, size int64, lim Limits) (*Checkpoint, error) {
	c := &Checkpoint{Container: Legacy, Storages: map[string]*Storage{}, lim: lim}
	err := c.readLegacy(r, size)
	c.liftFindings()
	return c, err
}

func (c *Checkpoint) readLegacy(r io.ReaderAt, size int64) error {
	at := int64(0)
	for _, name := range []string{"magic", "protocol", "sys_info", "object", "keys"} {
		s, err := pickle.Load(r, at, size, c.lim.Pickle)
		c.Streams = append(c.Streams, NamedStream{Name: name, Stream: s, Source: r})
		if err != nil {
			return fmt.Errorf("torch: %s: %w", name, err)
		}
		at = s.End
	}
	object := c.stream("object")
	c.Root = object.Root
	errs := c.legacyHeader()
	classes := map[string]*storageRef{}
	errs = append(errs, c.declare(object.Stream, "object", func(st *Storage, ref *storageRef, _ *pickle.Persistent) error {
		classes[st.Key] = ref
		return nil
	})...)
	keys, err := c.legacyKeys(len(classes))
	if err == nil {
		err = c.legacyStorages(r, size, at, keys, classes)
	}
	return errors.Join(append(errs, err)...)
}

// legacyHeader checks the protocol version and what is said of the machine.
func (c *Checkpoint) legacyHeader() (errs []error) {
	if v, ok := countOf(c.stream("protocol").Root); !ok || v != legacyVersion {
		errs = append(errs, broken(ErrContainer, "protocol", c.stream("protocol").Start, "the version is not %d", legacyVersion))
	}
	info := c.stream("sys_info")
	d, ok := info.Root.(*pickle.Dict)
	if !ok {
		return append(errs, broken(ErrContainer, "sys_info", info.Start, "it is no dictionary"))
	}
	for _, it := range d.Items {
		key, _ := textOf(it.Key)
		if little, ok := it.Value.(pickle.Bool); key == "little_endian" && (!ok || !bool(little)) {
			// torch writes elements in little-endian order on every machine,
			// but nobody has such a file to check that against.
			c.Findings = append(c.Findings, Finding{Rule: "big-endian-machine", Inner: "sys_info", Offset: info.Start,
				Detail: "the file was written on a big-endian machine", Refuse: true})
		}
	}
	return errs
}

// legacyKeys reads the list of storage keys, which gives their order.
func (c *Checkpoint) legacyKeys(want int) ([]string, error) {
	s := c.stream("keys")
	list, ok := s.Root.(*pickle.List)
	if !ok {
		return nil, broken(ErrContainer, "keys", s.Start, "it is no list")
	}
	if len(list.Items) != want {
		return nil, broken(ErrStorage, "keys", s.Start, "%d storages are listed, the object names %d", len(list.Items), want)
	}
	keys := make([]string, 0, len(list.Items))
	seen := make(map[string]bool, len(list.Items))
	for _, v := range list.Items {
		key, ok := textOf(v)
		if !ok {
			return nil, broken(ErrStorage, "keys", s.Start, "a key is no text")
		}
		if c.Storages[key] == nil || seen[key] {
			return nil, broken(ErrStorage, "keys", s.Start, "storage %s is listed twice or not named by the object", quote(key))
		}
		seen[key] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// legacyStorages walks the storages behind the pickles, up to the end of the
// file.
func (c *Checkpoint) legacyStorages(r io.ReaderAt, size, at int64, keys []string, classes map[string]*storageRef) error {
	sizes := &smallReader{r: r, size: size}
	for _, key := range keys {
		st := c.Storages[key]
		end, err := sizes.storage(st, at, classes[key].elements)
		if err != nil {
			return err
		}
		at = end
	}
	if at != size {
		return broken(ErrContainer, "", at, "%d bytes follow the last storage", size-at)
	}
	return nil
}

// smallReader reads the sizes between storages, by way of a window for files
// of many small ones.
type smallReader struct {
	r      io.ReaderAt
	size   int64
	window []byte
	off    int64
}

func (s *smallReader) read(off int64, n int) ([]byte, error) {
	if off < 0 || off > s.size-int64(n) {
		return nil, broken(ErrContainer, "", off, "the file ends, %d bytes are missing", int64(n)-(s.size-off))
	}
	if off < s.off || off+int64(n) > s.off+int64(len(s.window)) {
		w := make([]byte, max(int64(n), min(windowSize, s.size-off)))
		if got, err := s.r.ReadAt(w, off); got < len(w) {
			if err == nil || errors.Is(err, io.EOF) {
				err = broken(ErrContainer, "", off, "the file ends early")
			}
			return nil, err
		}
		s.window, s.off = w, off
	}
	return s.window[off-s.off:][:n], nil
}

// storage reads the number of elements at offset at, and places st behind it.
func (s *smallReader) storage(st *Storage, at int64, elements storageClass) (end int64, err error) {
	b, err := s.read(at, 8)
	if err != nil {
		return 0, err
	}
	numel := int64(binary.LittleEndian.Uint64(b))
	if numel != st.Numel {
		return 0, broken(ErrStorage, "", at, "storage %s has %d elements, the object says %d", quote(st.Key), numel, st.Numel)
	}
	if elements.packed {
		return 0, &UnsupportedError{What: "storage of " + st.Class, Next: nextQuantised}
	}
	length := numel * st.ElementSize // checked for overflow before
	if length > s.size-at-8 {
		return 0, broken(ErrStorage, "", at, "storage %s needs %d bytes, %d are left", quote(st.Key), length, s.size-at-8)
	}
	st.Offset, st.Length = at+8, length
	st.Data = io.NewSectionReader(s.r, st.Offset, length)
	return st.Offset + length, nil
}
