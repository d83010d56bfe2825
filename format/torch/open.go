package torch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// Open reads a container's directory and pickles. It reads no tensor bytes.
// A file that is none of the containers gives ErrNotTorch. When the container
// is recognised but broken, what was understood is returned together with the
// error (a *FormatError or a *pickle.Error, several of them joined), so that a
// scanner can still judge the pickle.
func Open(r io.ReaderAt, size int64, lim Limits) (*Checkpoint, error) {
	lim = lim.defaults()
	head := make([]byte, min(512, max(size, 0)))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		if err == nil || errors.Is(err, io.EOF) {
			err = broken(ErrNotTorch, "", -1, "the file is shorter than %d bytes", size)
		}
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), endsAsZip(r, size):
		return openZip(r, size, lim)
	case len(head) == 512 && string(head[257:262]) == "ustar":
		return openTar(r, size, lim)
	case bytes.HasPrefix(head, []byte("PYTORCH1")):
		return nil, &UnsupportedError{What: "a file of a PyTorch preview release",
			Next: "load it with that release and save its state_dict() with a current one"}
	case isLegacy(head, r, size):
		return openLegacy(r, size, lim)
	}
	return nil, broken(ErrNotTorch, "", -1, "no zip, tar or legacy container of torch.save begins there")
}

func (l Limits) defaults() Limits {
	if l.Entries == 0 {
		l.Entries = 1_000_000
	}
	if l.Expand == 0 {
		l.Expand = 4
	}
	if l.Inflate == 0 {
		l.Inflate = 1000
	}
	return l
}

// endsAsZip says whether a zip end record ends the file: then zip readers
// take it for an archive, whatever it begins with.
func endsAsZip(r io.ReaderAt, size int64) bool {
	if size < lenEnd {
		return false
	}
	var b [lenEnd]byte
	n, _ := r.ReadAt(b[:], size-lenEnd)
	return n == lenEnd && string(b[:4]) == "PK\x05\x06" && b[20] == 0 && b[21] == 0
}

// openZip reads the container of torch >= 1.6 and TorchScript.
func openZip(r io.ReaderAt, size int64, lim Limits) (*Checkpoint, error) {
	a := readArchive(r, size, lim)
	c := &Checkpoint{Container: Zip, Storages: map[string]*Storage{}, lim: lim}
	z := &zipOpener{a: a, c: c, byInner: map[string]*entry{}}
	objects := z.sort()
	if !z.named {
		if len(a.errs) > 0 && len(a.entries) == 0 {
			c.Findings = a.finds
			return c, errors.Join(a.errs...)
		}
		return nil, broken(ErrNotTorch, "", -1, "the zip archive has no data.pkl")
	}
	for _, e := range objects {
		z.stream("data.pkl", e)
	}
	if e := z.byInner["constants.pkl"]; e != nil && e.located {
		c.Container = TorchScript
		z.stream("constants.pkl", e)
		z.readCode()
	}
	z.smallRecords()
	if object := c.stream("data.pkl"); object != nil {
		c.Root = object.Root
		a.errs = append(a.errs, c.declare(object.Stream, "data.pkl", z.storage)...)
	}
	z.listRecords()
	c.Findings = append(c.Findings, a.finds...)
	c.liftFindings()
	return c, errors.Join(a.errs...)
}

// stream gives the first stream of a name.
func (c *Checkpoint) stream(name string) *NamedStream {
	for i := range c.Streams {
		if c.Streams[i].Name == name {
			return &c.Streams[i]
		}
	}
	return nil
}

// zipOpener builds a Checkpoint from an archive.
type zipOpener struct {
	a       *archive
	c       *Checkpoint
	byInner map[string]*entry
	used    int  // storages that the pickle names
	named   bool // there is a data.pkl, however broken
}

// sort indexes the records, and gives those that some reader may take for the
// object: data.pkl in any spelling, as often as it is there.
func (z *zipOpener) sort() (objects []*entry) {
	for _, e := range z.a.entries {
		if _, ok := z.byInner[e.inner]; !ok {
			z.byInner[e.inner] = e
		}
		if asciiLower(e.inner) == "data.pkl" {
			z.named = true
			if e.located && len(objects) < maxErrors {
				objects = append(objects, e)
			}
		}
	}
	return objects
}

// wholeLimit bounds records that are read whole to check their CRC.
const wholeLimit = 64 << 20

// stream runs a pickle record.
func (z *zipOpener) stream(name string, e *entry) {
	if e.bomb || e.flags&1 != 0 || (e.method != 0 && e.method != 8) {
		return
	}
	s := NamedStream{Name: name, Source: z.a.r}
	start, end := e.data, e.data+e.size
	if e.method == 8 {
		s.Source, s.Inner, start, end = z.a.source(e), e.inner, 0, e.size
	}
	var err error
	s.Stream, err = pickle.Load(s.Source, start, end, z.c.lim.Pickle)
	if err != nil {
		z.a.errs = append(z.a.errs, fmt.Errorf("torch: %s: %w", quote(e.inner), err))
	}
	z.c.Streams = append(z.c.Streams, s)
	if err == nil && s.End != end {
		z.a.finds = append(z.a.finds, Finding{Rule: "bytes-after-stop", Inner: e.inner, Offset: s.End,
			Detail: fmt.Sprintf("%d bytes follow the pickle in its record", end-s.End), Refuse: true})
	}
	if e.size <= wholeLimit {
		if err := z.a.checkCRC(e); err != nil {
			z.a.errs = append(z.a.errs, err)
		}
	}
}

// smallRecords reads what torch writes beside the object.
func (z *zipOpener) smallRecords() {
	for _, name := range []string{"byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id"} {
		e := z.byInner[name]
		if e == nil || !e.located || e.bomb {
			continue
		}
		b, err := z.a.content(e, 4<<10)
		if err == nil {
			err = z.a.checkCRC(e)
		}
		if err != nil {
			z.a.errs = append(z.a.errs, err)
			continue
		}
		if name == "byteorder" {
			switch string(b) {
			case "little":
			case "big":
				z.c.BigEndian = true
			default:
				z.a.fail(e.name, e.data, "byte order %s", quote(string(b)))
			}
			continue
		}
		if digits := strings.TrimSpace(string(b)); digits == "" || strings.Trim(digits, "0123456789") != "" {
			e.odd = true
			z.a.find("odd-record", e.inner, e.data, "the content is no number")
		}
	}
}

// storage finds the record of a storage and checks that it is large enough.
func (z *zipOpener) storage(st *Storage, ref *storageRef, p *pickle.Persistent) error {
	if strings.ContainsAny(st.Key, "/\\") || st.Key == "" || st.Key == "." || st.Key == ".." {
		return broken(ErrStorage, "", p.Offset, "storage key %s is a path", quote(st.Key))
	}
	e := z.byInner["data/"+st.Key]
	if e == nil || !e.located {
		return broken(ErrStorage, "", p.Offset, "storage %s has no record", quote(st.Key))
	}
	want := st.Numel * st.ElementSize // checked for overflow before
	if e.size < want && !ref.elements.packed {
		return broken(ErrStorage, e.inner, e.data, "the record has %d bytes, the storage needs %d", e.size, want)
	}
	if e.size > want && !ref.elements.packed {
		z.a.find("storage-larger", e.inner, e.data, "the record has %d bytes, the storage only %d", e.size, want)
	}
	z.used++
	st.Offset, st.Length, st.Deflated, st.Data = e.data, e.size, e.method == 8, z.a.source(e)
	return nil
}

// listRecords enters all records, and finds those that torch.save does not
// write.
func (z *zipOpener) listRecords() {
	storages := 0
	for _, e := range z.a.entries {
		if e.directory {
			continue
		}
		rec := Record{Name: e.inner, Offset: e.data, Stored: e.stored, Size: e.size, Deflated: e.method == 8, CRC32: e.crc}
		rec.Known = z.known(e.inner) && !e.odd
		if strings.HasPrefix(e.inner, "data/") {
			storages++
		}
		if !rec.Known {
			z.a.find("unknown-record", e.inner, e.data, "torch.save writes no such record")
		}
		z.c.Records = append(z.c.Records, rec)
	}
	if storages > z.used && z.c.Container == Zip && z.c.Root != nil {
		z.a.find("unused-storage", "", -1, "%d storages belong to no tensor", storages-z.used)
	}
}

// known says whether torch writes a record of this name.
func (z *zipOpener) known(inner string) bool {
	switch inner {
	case "data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id", ".data/version":
		return true
	}
	if key, ok := strings.CutPrefix(inner, "data/"); ok {
		return !strings.Contains(key, "/")
	}
	if z.c.Container != TorchScript {
		return false
	}
	top, rest, _ := strings.Cut(inner, "/")
	switch top {
	case "constants.pkl", "attributes.pkl", "bytecode.pkl":
		return rest == ""
	case "code", "constants", "extra":
		return rest != ""
	}
	return false
}

// refusing are the findings of the pickle machine after which two readings
// are possible, or the result is not in the file.
func refusing(rule string) bool {
	switch rule {
	case pickle.RuleExtension, pickle.RuleBuildOnGlobal, pickle.RuleOnOpaque, pickle.RuleTextNumber,
		pickle.RuleFrame, pickle.RuleMutated, pickle.RuleEqualKeys, pickle.RuleComputedName, pickle.RuleArgs, pickle.RuleBuffer:
		return true
	}
	return false
}

// liftFindings copies what the pickle machine found.
func (c *Checkpoint) liftFindings() {
	for _, s := range c.Streams {
		if s.Stream == nil {
			continue
		}
		for _, f := range s.Findings {
			c.Findings = append(c.Findings, Finding{Rule: f.Rule, Inner: s.Name, Offset: f.Offset, Opcode: f.Opcode,
				Detail: f.Detail, Refuse: refusing(f.Rule)})
		}
	}
}

// The magic number that legacy files begin with (MAGIC_NUMBER in
// torch/serialization.py), and the only protocol version there is.
const (
	legacyMagic   = "1950a86a20f9469cfc6c"
	legacyVersion = 1001
)

// isLegacy says whether the file begins with a pickle of the magic number, as
// a constant.
func isLegacy(head []byte, r io.ReaderAt, size int64) bool {
	if len(head) == 0 || (head[0] != 0x80 && head[0] != 'L' && head[0] != 'I') {
		return false
	}
	s, err := pickle.Load(r, 0, min(size, 128), pickle.Limits{Ops: 8})
	return err == nil && isMagic(s.Root)
}

func isMagic(v pickle.Value) bool {
	n, ok := v.(pickle.BigInt)
	want, _ := new(big.Int).SetString(legacyMagic, 16)
	return ok && n.Cmp(want) == 0
}
