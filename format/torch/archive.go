package torch

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// The records of a zip archive (APPNOTE 4.3), and how torch writes them
// (caffe2/serialize/inline_container.cc over miniz).
const (
	sigLocal      = 0x04034b50
	sigCentral    = 0x02014b50
	sigEnd        = 0x06054b50
	sigEnd64      = 0x06064b50
	sigLocator64  = 0x07064b50
	sigDescriptor = 0x08074b50

	lenLocal     = 30
	lenCentral   = 46
	lenEnd       = 22
	lenEnd64     = 56
	lenLocator64 = 20

	flagDescriptor = 0x0008
	flagUTF8       = 0x0800
	flagLevel      = 0x0006 // how hard deflate tried

	extraZip64   = 0x0001
	extraPadding = 0x4246 // "FB": torch aligns data with it
	extraUnicode = 0x7075 // a second name for the entry
)

// entry is a central directory entry with what its local header says.
type entry struct {
	name           string
	flags, method  uint16
	crc            uint32
	stored, size   int64
	header         int64 // offset of the local header
	data           int64 // offset of the stored bytes
	located        bool  // the local header could be read
	wide           bool  // sizes are in a ZIP64 extra field
	directory      bool
	inner          string // name without the top folder
	symlink, note  bool
	bomb           bool // inflates beyond the limit
	extraUndefined bool
	odd            bool // a small record of torch's own, with another content
}

func (e *entry) end() int64 { return e.data + e.stored }

// archive reads a zip file strictly: every byte of it belongs to exactly one
// record, and the two copies of each entry's facts agree.
type archive struct {
	r       io.ReaderAt
	size    int64
	lim     Limits
	entries []*entry // by offset
	root    string
	finds   []Finding
	errs    []error
	window  []byte // a small piece of the file around the local headers
	winOff  int64
}

// maxErrors bounds how many faults of one archive are told.
const maxErrors = 20

func (a *archive) fail(record string, offset int64, format string, args ...any) {
	if len(a.errs) < maxErrors {
		a.errs = append(a.errs, broken(ErrContainer, record, offset, format, args...))
	}
}

func (a *archive) find(rule, record string, offset int64, format string, args ...any) {
	a.finds = append(a.finds, Finding{Rule: rule, Inner: record, Offset: offset, Detail: fmt.Sprintf(format, args...)})
}

// readArchive reads all that describes the records. What is wrong is in errs;
// entries holds what could be understood all the same.
func readArchive(r io.ReaderAt, size int64, lim Limits) *archive {
	a := &archive{r: r, size: size, lim: lim}
	dir, err := a.findDirectory()
	if err == nil {
		err = a.readDirectory(dir)
	}
	if err != nil {
		a.errs = append(a.errs, err)
	}
	a.checkNames()
	slices.SortStableFunc(a.entries, func(x, y *entry) int { return cmp.Compare(x.header, y.header) })
	a.readLocals(dir)
	return a
}

// directory says where the central directory lies.
type directory struct {
	offset, size int64
	count        uint64
}

func (a *archive) read(off int64, n int) ([]byte, error) {
	if off < 0 || off > a.size-int64(n) {
		return nil, broken(ErrContainer, "", off, "%d bytes are needed there, the file has %d", n, a.size)
	}
	b := make([]byte, n)
	if got, err := a.r.ReadAt(b, off); got < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = broken(ErrContainer, "", off, "the file ends early")
		}
		return nil, err
	}
	return b, nil
}

// endRecord finds the end record: the one whose comment ends with the file.
func (a *archive) endRecord() (int64, []byte, error) {
	if a.size >= lenEnd {
		b, err := a.read(a.size-lenEnd, lenEnd)
		if err != nil {
			return 0, nil, err
		}
		if binary.LittleEndian.Uint32(b) == sigEnd && binary.LittleEndian.Uint16(b[20:]) == 0 {
			return a.size - lenEnd, b, nil
		}
	}
	n := min(a.size, lenEnd+math.MaxUint16)
	tail, err := a.read(a.size-n, int(n))
	if err != nil {
		return 0, nil, err
	}
	var fits, others []int64
	for i := len(tail) - lenEnd; i >= 0; i-- {
		if binary.LittleEndian.Uint32(tail[i:]) != sigEnd {
			continue
		}
		if i+lenEnd+int(binary.LittleEndian.Uint16(tail[i+20:])) == len(tail) {
			fits = append(fits, int64(i))
		} else {
			others = append(others, int64(i))
		}
	}
	base := a.size - n
	switch {
	case len(fits) == 0 && len(others) == 0:
		return 0, nil, broken(ErrContainer, "", -1, "the zip archive has no end record: it is cut off")
	case len(fits) == 0:
		return 0, nil, broken(ErrContainer, "", base+others[0], "bytes follow the end record of the zip archive")
	case len(fits) > 1 || (len(others) > 0 && others[0] > fits[0]):
		return 0, nil, broken(ErrContainer, "", base+fits[0], "the zip archive has more than one end record")
	}
	a.find("archive-comment", "", base+fits[0], "the archive has a comment of %d bytes", n-fits[0]-lenEnd)
	return base + fits[0], tail[fits[0] : fits[0]+lenEnd], nil
}

// findDirectory reads the end record and its ZIP64 companion, which must not
// contradict each other, and must lie right behind the directory.
func (a *archive) findDirectory() (directory, error) {
	at, b, err := a.endRecord()
	if err != nil {
		return directory{}, err
	}
	le := binary.LittleEndian
	d := directory{count: uint64(le.Uint16(b[10:])), size: int64(le.Uint32(b[12:])), offset: int64(le.Uint32(b[16:]))}
	if le.Uint16(b[4:]) != 0 || le.Uint16(b[6:]) != 0 || le.Uint16(b[8:]) != le.Uint16(b[10:]) {
		return d, broken(ErrContainer, "", at, "the zip archive spans several volumes")
	}
	end, wide, err := a.end64(at, &d)
	if err != nil {
		return d, err
	}
	if !wide && (d.count == math.MaxUint16 || d.size == math.MaxUint32 || d.offset == math.MaxUint32) {
		return d, broken(ErrContainer, "", at, "the ZIP64 end record is missing")
	}
	if d.size < 0 || d.offset < 0 || d.offset > end || d.size != end-d.offset {
		return d, broken(ErrContainer, "", at, "the directory is said to be %d bytes at %d, but must end at %d",
			d.size, d.offset, end)
	}
	limit := uint64(a.lim.Entries)
	if d.count > limit || d.count > uint64(d.size)/lenCentral {
		if d.count > limit {
			return d, broken(ErrLimit, "", at, "%d records, more than %d", d.count, limit)
		}
		return d, broken(ErrContainer, "", at, "a directory of %d bytes cannot have %d entries", d.size, d.count)
	}
	return d, nil
}

// end64 looks for the ZIP64 end record in front of the end record at offset
// at, and says where the directory must end.
func (a *archive) end64(at int64, d *directory) (end int64, wide bool, err error) {
	if at < lenLocator64+lenEnd64 {
		return at, false, nil
	}
	le := binary.LittleEndian
	loc, err := a.read(at-lenLocator64, lenLocator64)
	if err != nil {
		return 0, false, err
	}
	if le.Uint32(loc) != sigLocator64 {
		return at, false, nil
	}
	off := le.Uint64(loc[8:])
	if le.Uint32(loc[4:]) != 0 || le.Uint32(loc[16:]) > 1 || off > uint64(at-lenLocator64-lenEnd64) {
		return 0, false, broken(ErrContainer, "", at-lenLocator64, "the ZIP64 locator points to %d", off)
	}
	b, err := a.read(int64(off), lenEnd64)
	if err != nil {
		return 0, false, err
	}
	if le.Uint32(b) != sigEnd64 || le.Uint64(b[4:]) != uint64(at-lenLocator64)-off-12 ||
		le.Uint32(b[16:]) != 0 || le.Uint32(b[20:]) != 0 || le.Uint64(b[24:]) != le.Uint64(b[32:]) {
		return 0, false, broken(ErrContainer, "", int64(off), "the ZIP64 end record is broken")
	}
	count, size, offset := le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:])
	if (d.count != math.MaxUint16 && d.count != count) || (d.size != math.MaxUint32 && uint64(d.size) != size) ||
		(d.offset != math.MaxUint32 && uint64(d.offset) != offset) || size > math.MaxInt64 || offset > math.MaxInt64 {
		return 0, false, broken(ErrContainer, "", int64(off), "the two end records of the archive disagree")
	}
	*d = directory{count: count, size: int64(size), offset: int64(offset)}
	return int64(off), true, nil
}

// readDirectory reads the central directory in order.
func (a *archive) readDirectory(d directory) error {
	sec := io.NewSectionReader(a.r, d.offset, d.size)
	br := bufio.NewReaderSize(sec, int(min(max(d.size, 16), 64<<10))) // most archives have a few records
	at := d.offset
	var head [lenCentral]byte
	for range d.count {
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return directoryError(err, at)
		}
		e, n, err := a.centralEntry(head[:], br, at)
		if err != nil {
			return err
		}
		a.entries = append(a.entries, e)
		at += int64(n)
	}
	if at != d.offset+d.size {
		return broken(ErrContainer, "", at, "%d bytes follow the last entry of the directory", d.offset+d.size-at)
	}
	return nil
}

func directoryError(err error, at int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return broken(ErrContainer, "", at, "the directory is cut off")
	}
	return err
}

// centralEntry reads one entry; faults that leave the rest readable are noted
// and passed over.
func (a *archive) centralEntry(head []byte, br *bufio.Reader, at int64) (*entry, int, error) {
	le := binary.LittleEndian
	if le.Uint32(head) != sigCentral {
		return nil, 0, broken(ErrContainer, "", at, "no directory entry")
	}
	nameLen, extraLen, noteLen := int(le.Uint16(head[28:])), int(le.Uint16(head[30:])), int(le.Uint16(head[32:]))
	rest := make([]byte, nameLen+extraLen+noteLen)
	if _, err := io.ReadFull(br, rest); err != nil {
		return nil, 0, directoryError(err, at)
	}
	e := &entry{
		name:   string(rest[:nameLen]),
		flags:  le.Uint16(head[8:]),
		method: le.Uint16(head[10:]),
		crc:    le.Uint32(head[16:]),
	}
	e.symlink = le.Uint32(head[38:])>>16&0xf000 == 0xa000
	e.note = noteLen > 0
	sizes := []uint64{uint64(le.Uint32(head[24:])), uint64(le.Uint32(head[20:])), uint64(le.Uint32(head[42:]))}
	if err := centralExtra(rest[nameLen:nameLen+extraLen], sizes, e); err != nil {
		a.fail(e.name, at, "%v", err)
	}
	if le.Uint16(head[34:]) != 0 {
		a.fail(e.name, at, "the entry is on another volume")
	}
	for _, v := range sizes {
		if v > math.MaxInt64 {
			return nil, 0, broken(ErrContainer, e.name, at, "size or offset %d", v)
		}
	}
	e.size, e.stored, e.header = int64(sizes[0]), int64(sizes[1]), int64(sizes[2])
	return e, lenCentral + len(rest), nil
}

// centralExtra takes 64-bit values for those of sizes (uncompressed, stored,
// offset) that are saturated.
func centralExtra(extra []byte, sizes []uint64, e *entry) error {
	seen := false
	err := eachExtra(extra, func(id uint16, b []byte) error {
		switch id {
		case extraUnicode:
			return errors.New("the entry has a second name")
		case extraZip64:
			if seen {
				return errors.New("two ZIP64 extra fields")
			}
			seen = true
			for i := range sizes {
				if sizes[i] != math.MaxUint32 {
					continue
				}
				if len(b) < 8 {
					return errors.New("the ZIP64 extra field is too short")
				}
				sizes[i] = binary.LittleEndian.Uint64(b)
				b = b[8:]
				e.wide = e.wide || i < 2
			}
			if len(b) != 0 {
				return errors.New("the ZIP64 extra field is too long")
			}
		case extraPadding:
			e.extraUndefined = e.extraUndefined || len(bytes.Trim(b, "Z\x00")) > 0
		default:
			e.extraUndefined = e.extraUndefined || !timesOrOwner(id, len(b))
		}
		return nil
	})
	if err == nil && !seen && slices.Contains(sizes, math.MaxUint32) {
		return errors.New("the ZIP64 extra field is missing")
	}
	return err
}

// timesOrOwner knows the extra fields with times and owners of files, and how
// long they can be (Info-ZIP, proginfo/extrafld.txt; APPNOTE 4.5.5).
func timesOrOwner(id uint16, n int) bool {
	longest := map[uint16]int{0x5455: 13, 0x7875: 24, 0x5855: 12, 0x7855: 4, 0x000a: 32}[id]
	return longest > 0 && n <= longest
}

func eachExtra(b []byte, visit func(id uint16, data []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 || int(binary.LittleEndian.Uint16(b[2:])) > len(b)-4 {
			return errors.New("the extra fields are cut off")
		}
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if err := visit(binary.LittleEndian.Uint16(b), b[4:4+n]); err != nil {
			return err
		}
		b = b[4+n:]
	}
	return nil
}

// checkNames demands one top folder, and names that every reader takes for
// the same: torch finds records without regard to case.
func (a *archive) checkNames() {
	seen := make(map[string]*entry, len(a.entries))
	for i, e := range a.entries {
		folded := asciiLower(e.name)
		if first, ok := seen[folded]; ok {
			if first.name == e.name {
				a.fail(e.name, e.header, "two records of one name")
			} else {
				a.fail(e.name, e.header, "a record of the same name but for case: %s", quote(first.name))
			}
		}
		seen[folded] = e
		if why := badName(e.name); why != "" {
			a.fail(e.name, e.header, "%s", why)
		}
		root, inner, ok := strings.Cut(e.name, "/")
		if !ok {
			a.fail(e.name, e.header, "the record has no top folder")
			inner = e.name
		} else if i == 0 {
			a.root = root
		} else if root != a.root {
			a.fail(e.name, e.header, "a second top folder beside %s", quote(a.root))
		}
		e.inner = inner
		a.checkEntry(e)
	}
}

func (a *archive) checkEntry(e *entry) {
	switch {
	case e.flags&1 != 0:
		a.fail(e.name, e.header, "the record is encrypted")
	case e.flags&^(flagDescriptor|flagUTF8|flagLevel) != 0:
		a.fail(e.name, e.header, "unusual flags 0x%04x", e.flags)
	}
	switch {
	case e.method != 0 && e.method != 8:
		a.fail(e.name, e.header, "unknown compression method %d", e.method)
	case e.method == 0 && e.stored != e.size:
		a.fail(e.name, e.header, "a stored record of %d bytes takes %d", e.size, e.stored)
	case e.method == 8 && e.size/a.lim.Inflate > e.stored:
		e.bomb = true
		a.errs = append(a.errs, broken(ErrLimit, e.name, e.header, "%d bytes inflate to %d, more than %d times as much",
			e.stored, e.size, a.lim.Inflate))
	}
	if e.symlink {
		a.fail(e.name, e.header, "the record is a symbolic link")
	}
	if e.directory = strings.HasSuffix(e.name, "/"); e.directory && (e.size != 0 || e.stored != 0) {
		a.fail(e.name, e.header, "a folder with content")
	}
	if e.note {
		a.find("record-comment", e.name, e.header, "the record has a comment")
	}
	if e.extraUndefined {
		a.find("extra-field", e.name, e.header, "the directory entry has an extra field of unknown meaning")
	}
}

// asciiLower folds case as miniz does when it looks up a record.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return strings.Map(func(r rune) rune {
				if r >= 'A' && r <= 'Z' {
					return r + 'a' - 'A'
				}
				return r
			}, s)
		}
	}
	return s
}

// badName says why a record's name is no plain relative path.
func badName(name string) string {
	if !utf8.ValidString(name) {
		return "the name is not UTF-8"
	}
	for _, r := range name {
		switch {
		case r == '\\':
			return "the name has a backslash"
		case r < 0x20 || r == 0x7f:
			return "the name has a control character"
		}
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(name, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return "the name is no plain path"
		}
	}
	return ""
}

// readLocals walks the file from its first byte to the directory: local
// header, data, descriptor, next local header, with nothing between.
func (a *archive) readLocals(d directory) {
	var at int64
	var before *entry
	for _, e := range a.entries {
		if e.header > a.size-lenLocal {
			a.fail(e.name, e.header, "the record begins beyond the file")
			continue
		}
		a.between(before, at, e.header)
		if err := a.readLocal(e); err != nil {
			if len(a.errs) < maxErrors {
				a.errs = append(a.errs, err)
			}
			continue
		}
		if e.end() > d.offset {
			e.located = false
			a.fail(e.name, e.header, "the record ends beyond the start of the directory")
			continue
		}
		before, at = e, max(at, e.end())
	}
	if len(a.entries) > 0 && d.offset >= at {
		a.between(before, at, d.offset)
	}
}

// between accounts for the bytes from the end of a record to what follows:
// nothing, or the record's data descriptor.
func (a *archive) between(before *entry, at, next int64) {
	name := ""
	if before != nil {
		name = before.name
	}
	switch gap := next - at; {
	case gap < 0:
		a.fail(name, next, "the record after it begins inside it")
	case before == nil && gap > 0:
		a.fail("", 0, "%d bytes in front of the first record", gap)
	case before == nil:
	case before.flags&flagDescriptor == 0 && gap > 0:
		a.fail(name, at, "%d bytes after it belong to no record", gap)
	case before.flags&flagDescriptor != 0:
		a.descriptor(before, at, gap)
	}
}

// descriptor checks a data descriptor: 16 bytes, or 24 with 64-bit sizes, or
// either without its signature.
func (a *archive) descriptor(e *entry, at, n int64) {
	if n != 12 && n != 16 && n != 20 && n != 24 {
		a.fail(e.name, at, "%d bytes after it are no data descriptor", n)
		return
	}
	b, err := a.piece(at, int(n))
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	le := binary.LittleEndian
	if n == 16 || n == 24 {
		if le.Uint32(b) != sigDescriptor {
			a.fail(e.name, at, "the data descriptor has no signature")
			return
		}
		b = b[4:]
	}
	var stored, size uint64
	if len(b) == 12 {
		stored, size = uint64(le.Uint32(b[4:])), uint64(le.Uint32(b[8:]))
	} else {
		stored, size = le.Uint64(b[4:]), le.Uint64(b[12:])
	}
	if le.Uint32(b) != e.crc || stored != uint64(e.stored) || size != uint64(e.size) {
		a.fail(e.name, at, "data descriptor and directory disagree")
	}
}

// windowSize is how much is read around a local header: one page, so that
// hardly any tensor byte is touched.
const windowSize = 4 << 10

// piece gives n bytes at off by way of the window. They are valid until the
// next call.
func (a *archive) piece(off int64, n int) ([]byte, error) {
	if off >= a.winOff && off+int64(n) <= a.winOff+int64(len(a.window)) {
		return a.window[off-a.winOff:][:n], nil
	}
	size := max(int64(n), min(windowSize, a.size-off))
	b, err := a.read(off, int(size))
	if err != nil {
		return nil, err
	}
	a.window, a.winOff = b, off
	return b[:n], nil
}

// readLocal compares the local header with the directory. torch itself goes
// by the directory alone, other readers by the local header.
func (a *archive) readLocal(e *entry) error {
	b, err := a.piece(e.header, lenLocal)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(b) != sigLocal {
		return broken(ErrContainer, e.name, e.header, "no local header")
	}
	flags, method, crc := le.Uint16(b[6:]), le.Uint16(b[8:]), le.Uint32(b[14:])
	stored, size := uint64(le.Uint32(b[18:])), uint64(le.Uint32(b[22:]))
	nameLen, extraLen := int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	if b, err = a.piece(e.header+lenLocal, nameLen+extraLen); err != nil {
		return err
	}
	if string(b[:nameLen]) != e.name {
		a.fail(e.name, e.header, "the local header calls it %s", quote(string(b[:nameLen])))
	}
	if flags != e.flags || method != e.method {
		a.fail(e.name, e.header, "flags or method of local header and directory disagree")
	}
	if err := a.localExtra(b[nameLen:], e, &stored, &size); err != nil {
		a.fail(e.name, e.header, "%v", err)
	}
	late := flags&flagDescriptor != 0 && crc == 0 && stored == 0 && size == 0
	if !late && (crc != e.crc || stored != uint64(e.stored) || size != uint64(e.size)) {
		a.fail(e.name, e.header, "CRC or sizes of local header and directory disagree")
	}
	e.data, e.located = e.header+lenLocal+int64(nameLen+extraLen), true
	if e.stored > math.MaxInt64-e.data {
		e.located = false
		return broken(ErrContainer, e.name, e.header, "%d bytes", e.stored)
	}
	return nil
}

// localExtra checks the extra fields of a local header. torch writes the
// ZIP64 field of miniz there: the sizes where they are large, then the offset
// where it is, although the header's own sizes are 0 and no offset belongs
// here.
func (a *archive) localExtra(extra []byte, e *entry, stored, size *uint64) error {
	seen := false
	return eachExtra(extra, func(id uint16, b []byte) error {
		switch id {
		case extraUnicode:
			return errors.New("the record has a second name")
		case extraPadding:
			if len(bytes.Trim(b, "Z\x00")) > 0 {
				a.find("odd-padding", e.name, e.header, "the alignment padding has content")
			}
		case extraZip64:
			if seen {
				return errors.New("two ZIP64 extra fields")
			}
			seen = true
			return localZip64(b, e, stored, size)
		default:
			if !timesOrOwner(id, len(b)) {
				a.find("extra-field", e.name, e.header, "the local header has an extra field of unknown meaning")
			}
		}
		return nil
	})
}

func localZip64(b []byte, e *entry, stored, size *uint64) error {
	var v []uint64
	for ; len(b) >= 8; b = b[8:] {
		v = append(v, binary.LittleEndian.Uint64(b))
	}
	if len(b) != 0 || len(v) == 0 || len(v) > 3 {
		return errors.New("the ZIP64 extra field has an odd length")
	}
	if len(v) != 2 { // the offset, alone or behind the sizes
		if v[len(v)-1] != uint64(e.header) {
			return errors.New("the ZIP64 extra field has another offset than the directory")
		}
		v = v[:len(v)-1]
	}
	if len(v) == 0 {
		return nil
	}
	if v[0] != uint64(e.size) || (v[1] != uint64(e.stored) && (v[1] != 0 || e.flags&flagDescriptor == 0)) {
		return errors.New("the ZIP64 extra field has other sizes than the directory")
	}
	if *size == math.MaxUint32 {
		*size = v[0]
	}
	if *stored == math.MaxUint32 {
		*stored = v[1]
	}
	return nil
}

// source gives the content of a record by random access.
func (a *archive) source(e *entry) io.ReaderAt {
	if e.method == 8 {
		return newInflater(a.r, e.data, e.stored, e.size, e.name)
	}
	return io.NewSectionReader(a.r, e.data, e.size)
}

// checkCRC reads a small record whole. torch can be told not to compute CRCs,
// which leaves zeros, and never checks them: a wrong one is no error here, but
// one for every other reader.
func (a *archive) checkCRC(e *entry) error {
	h := crc32.NewIEEE()
	buf := make([]byte, min(max(e.size, 1), 32<<10))
	if _, err := io.CopyBuffer(h, io.NewSectionReader(a.source(e), 0, e.size), buf); err != nil {
		return err
	}
	switch {
	case h.Sum32() == e.crc:
	case e.crc == 0:
		a.find("no-crc", e.inner, e.data, "the CRC is %08x, the directory has none", h.Sum32())
	default:
		a.find("crc", e.inner, e.data, "the CRC is %08x, the directory says %08x", h.Sum32(), e.crc)
	}
	return nil
}

// content reads a small record whole.
func (a *archive) content(e *entry, limit int64) ([]byte, error) {
	if e.size > limit {
		return nil, broken(ErrContainer, e.name, e.data, "the record has %d bytes, more than %d", e.size, limit)
	}
	b := make([]byte, e.size)
	if n, err := a.source(e).ReadAt(b, 0); int64(n) < e.size {
		return nil, err
	}
	return b, nil
}
