package scan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// zipEntry is an entry of a zip archive as its central directory has it.
type zipEntry struct {
	name          string
	flags, method uint16
	crc           uint32
	stored, size  int64
	header        int64 // offset of the local header
	data          int64 // offset of the stored bytes
	end           int64 // offset after the entry, data descriptor included
	symlink       bool
	readable      bool // the local header was found
}

// The bits of a zip entry's flags (APPNOTE 4.4.4).
const (
	zipEncrypted  = 1 << 0
	zipDescriptor = 1 << 3
	zipUTF8       = 1 << 11
	zipDeflateOpt = 3 << 1 // compression level hints
)

// zipDir is a zip archive's directory, with all that its readers could see
// differently in the report.
type zipDir struct {
	r       *report
	b       io.ReaderAt
	size    int64
	entries []zipEntry
	end     int64 // offset of the end record
	cd      int64 // offset of the central directory
	cdEnd   int64
	gaps    [][2]int64 // what belongs to no entry
}

// scanZip judges every entry of a zip archive, and the archive itself.
func scanZip(ctx context.Context, r *report, b model.Blob) error {
	d := readZip(r, b, b.Size())
	if d == nil {
		return forwardZip(ctx, r, b)
	}
	if err := d.scanEntries(ctx, b, func(string) bool { return true }); err != nil {
		return err
	}
	return d.scanGaps(ctx, b)
}

// scanGaps judges what lies outside the entries, so that the report says what
// hides there.
func (d *zipDir) scanGaps(ctx context.Context, b model.Blob) error {
	for i, g := range d.gaps {
		if i == maxGaps {
			break
		}
		name := fmt.Sprintf("bytes %d-%d", g[0], g[1])
		if err := (nested{}).scan(ctx, d.r, b, name, io.NewSectionReader(b, g[0], g[1]-g[0]), g[1]-g[0]); err != nil {
			return err
		}
	}
	return nil
}

// maxGaps bounds the places outside the entries that are looked at.
const maxGaps = 16

func (d *zipDir) gap(from, to int64) {
	if from < to {
		d.gaps = append(d.gaps, [2]int64{from, to})
	}
}

// scanEntries judges the entries whose name the filter takes.
func (d *zipDir) scanEntries(ctx context.Context, b model.Blob, take func(string) bool) error {
	at := nest(b)
	for i := range d.entries {
		e := &d.entries[i]
		if !e.readable || strings.HasSuffix(e.name, "/") || !take(e.name) {
			continue
		}
		ra, size, err := d.open(e, at)
		if err != nil {
			if err := memberError(ctx, d.r, clip(e.name), err); err != nil {
				return err
			}
		}
		if ra == nil || size == 0 {
			continue
		}
		if err := (nested{}).scan(ctx, d.r, b, e.name, ra, size); err != nil {
			return err
		}
	}
	return nil
}

// open gives random access to an entry's content.
func (d *zipDir) open(e *zipEntry, at place) (io.ReaderAt, int64, error) {
	switch {
	case e.flags&zipEncrypted != 0:
		return nil, 0, nil // has a finding
	case e.method == 0:
		return io.NewSectionReader(d.b, e.data, e.stored), e.stored, nil
	case e.method == 8:
		return inflated(at, flateOpener(d.b, e.data, e.stored), e.size)
	}
	return nil, 0, nil
}

// readZip reads the directory; nil when there is none.
func readZip(r *report, b io.ReaderAt, size int64) *zipDir {
	d := &zipDir{r: r, b: b, size: size}
	if err := d.findEnd(); err != nil {
		r.add("WS-ARCHIVE-007", -1, "%v", err)
		return nil
	}
	err := d.readCentral()
	switch {
	case errors.Is(err, errLimit):
		r.add("WS-LIMIT-001", d.cd, "%v", err)
	case err != nil:
		r.add("WS-ARCHIVE-007", d.cd, "%v", err)
	}
	for i := range d.entries {
		d.readLocal(&d.entries[i])
	}
	if !errors.Is(err, errLimit) { // else there are entries that are not known
		d.coverage()
	}
	return d
}

// findEnd finds the end record, and whether there could be two.
func (d *zipDir) findEnd() error {
	n := min(d.size, 22+0xffff)
	tail := peek(d.b, d.size, d.size-n, int(n))
	var at []int
	for i := len(tail) - 22; i >= 0; i-- {
		if bytes.Equal(tail[i:i+4], []byte("PK\x05\x06")) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return errors.New("a zip archive without an end record")
	}
	// Readers take the last one whose comment ends with the file, or simply
	// the last one.
	i := at[0]
	base := d.size - int64(len(tail))
	d.end = base + int64(i)
	comment := int64(le16(tail[i+20:]))
	if rest := d.size - d.end - 22; rest != comment {
		d.r.add("WS-ARCHIVE-002", d.end+22, "%d bytes follow the end record, which declares a comment of %d", rest, comment)
		d.gap(d.end+22, d.size)
	} else if comment > 0 {
		d.r.add("WS-ARCHIVE-008", d.end+22, "the archive has a comment of %d bytes", comment)
	}
	for _, k := range at[1:] {
		if int64(k)+22+int64(le16(tail[k+20:])) >= int64(i) {
			d.r.add("WS-ARCHIVE-001", base+int64(k), "a second end record: readers take different ones")
			break
		}
	}
	return d.readEnd(tail[i : i+22])
}

func (d *zipDir) readEnd(rec []byte) error {
	if le16(rec[4:]) != 0 && le16(rec[4:]) != 0xffff || le16(rec[6:]) != 0 && le16(rec[6:]) != 0xffff {
		return errors.New("an archive in several parts")
	}
	count, size, off := uint64(le16(rec[10:])), uint64(le32(rec[12:])), uint64(le32(rec[16:]))
	d.cdEnd = d.end
	if loc := peek(d.b, d.size, d.end-20, 20); len(loc) == 20 && string(loc[:4]) == "PK\x06\x07" {
		at := le64(loc[8:])
		if at > uint64(d.end) {
			return errors.New("the ZIP64 end record lies outside the file")
		}
		rec := peek(d.b, d.size, int64(at), 56)
		if len(rec) < 56 || string(rec[:4]) != "PK\x06\x06" {
			return errors.New("the ZIP64 end record is not where its locator says")
		}
		d.cdEnd = int64(at)
		if at+12+le64(rec[4:]) != uint64(d.end-20) {
			d.r.add("WS-ARCHIVE-002", int64(at), "the ZIP64 end record does not reach its locator")
		}
		count64, size64, off64 := le64(rec[32:]), le64(rec[40:]), le64(rec[48:])
		if count != 0xffff && count != count64 || size != 0xffffffff && size != size64 || off != 0xffffffff && off != off64 {
			d.r.add("WS-ARCHIVE-001", d.end, "the two end records disagree")
		}
		count, size, off = count64, size64, off64
	}
	if size > uint64(d.cdEnd) || off > uint64(d.cdEnd) || off+size > uint64(d.cdEnd) {
		return errors.New("the directory lies outside the file")
	}
	d.cd = int64(off)
	if off+size != uint64(d.cdEnd) {
		d.r.add("WS-ARCHIVE-002", d.cd, "the directory does not end where the end record begins: readers look for it in different places")
		d.cd = d.cdEnd - int64(size)
	}
	if count > size/46 {
		return fmt.Errorf("%d entries do not fit into a directory of %d bytes", count, size)
	}
	if count > maxMembers {
		return fmt.Errorf("%d entries: %w", count, errLimit)
	}
	d.entries = make([]zipEntry, 0, count)
	return nil
}

func (d *zipDir) readCentral() error {
	count := cap(d.entries)
	c := newCursor(d.b, d.cd, d.cdEnd)
	seen, names := entryNames{}, 0
	for c.left() >= 46 {
		at := c.pos
		h, err := c.bytes(46)
		if err != nil {
			return err
		}
		if string(h[:4]) != "PK\x01\x02" {
			return fmt.Errorf("no directory entry at byte %d", at)
		}
		if len(d.entries) >= maxMembers || names > maxNames {
			return fmt.Errorf("%d entries, with names of %d bytes: %w", len(d.entries), names, errLimit)
		}
		e := zipEntry{
			flags: le16(h[8:]), method: le16(h[10:]), crc: le32(h[16:]),
			stored: int64(le32(h[20:])), size: int64(le32(h[24:])), header: int64(le32(h[42:])),
			symlink: le16(h[4:])>>8 == 3 && le32(h[38:])>>16&0xf000 == 0xa000,
		}
		nameLen, extraLen, commentLen := int(le16(h[28:])), int(le16(h[30:])), int(le16(h[32:]))
		rest, err := c.bytes(nameLen + extraLen + commentLen)
		if err != nil {
			return err
		}
		e.name = string(rest[:nameLen])
		names += nameLen
		if err := zip64Extra(&e, rest[nameLen:nameLen+extraLen]); err != nil {
			return fmt.Errorf("entry %q: %w", clip(e.name), err)
		}
		d.checkExtra(&e, rest[nameLen:nameLen+extraLen], at)
		if commentLen > 0 {
			d.r.add("WS-ARCHIVE-008", at, "the entry %q has a comment", clip(e.name))
		}
		d.checkEntry(&e, at, seen)
		d.entries = append(d.entries, e)
	}
	if len(d.entries) != count || c.left() > 0 {
		d.r.add("WS-ARCHIVE-001", d.cd, "the end record declares %d entries, the directory has %d", count, len(d.entries))
	}
	return nil
}

// zip64Extra takes sizes and offset from the ZIP64 extra field where the
// entry's own are full.
func zip64Extra(e *zipEntry, extra []byte) error {
	for len(extra) >= 4 {
		id, n := le16(extra), int(le16(extra[2:]))
		if n > len(extra)-4 {
			break
		}
		field := extra[4 : 4+n]
		extra = extra[4+n:]
		if id != 1 {
			continue
		}
		for _, p := range []*int64{&e.size, &e.stored, &e.header} {
			if *p != 0xffffffff {
				continue
			}
			if len(field) < 8 || le64(field) > 1<<62 {
				return errors.New("the ZIP64 field is too short or impossible")
			}
			*p, field = int64(le64(field)), field[8:]
		}
	}
	return nil
}

// checkExtra looks for a second name of an entry (APPNOTE 4.6.9, Info-ZIP
// Unicode Path), which some readers take.
func (d *zipDir) checkExtra(e *zipEntry, extra []byte, at int64) {
	for len(extra) >= 4 {
		id, n := le16(extra), int(le16(extra[2:]))
		if n > len(extra)-4 {
			return
		}
		field := extra[4 : 4+n]
		extra = extra[4+n:]
		if id == 0x7075 && (len(field) < 5 || string(field[5:]) != e.name) {
			d.r.add("WS-ARCHIVE-001", at, "the entry %q has a second name", clip(e.name)).Inner = clip(e.name)
		}
	}
}

// checkEntry judges an entry by its directory record.
func (d *zipDir) checkEntry(e *zipEntry, at int64, seen entryNames) {
	checkEntryName(d.r, e.name, at, seen)
	name := clip(e.name)
	if e.symlink {
		d.r.add("WS-ARCHIVE-004", at, "the entry %q is a symbolic link", name).Inner = name
	}
	if e.flags&zipEncrypted != 0 {
		d.r.add("WS-ARCHIVE-005", at, "the entry %q is encrypted", name).Inner = name
	}
	if odd := e.flags &^ (zipEncrypted | zipDescriptor | zipUTF8 | zipDeflateOpt); odd != 0 {
		d.r.add("WS-ARCHIVE-006", at, "the entry %q has the flags %#x", name, odd).Inner = name
	}
	switch e.method {
	case 0, 8:
		if e.method == 0 && e.stored != e.size {
			d.r.add("WS-ARCHIVE-001", at, "the entry %q is stored, with two sizes", name).Inner = name
		}
	default:
		d.r.add("WS-ARCHIVE-006", at, "the entry %q has the compression method %d", name, e.method).Inner = name
	}
}

// readLocal compares the local header with the directory.
func (d *zipDir) readLocal(e *zipEntry) {
	name := clip(e.name)
	h := peek(d.b, d.cd, e.header, 30)
	if len(h) < 30 || string(h[:4]) != "PK\x03\x04" {
		d.r.add("WS-ARCHIVE-001", e.header, "the entry %q has no local header", name).Inner = name
		return
	}
	nameLen, extraLen := int64(le16(h[26:])), int64(le16(h[28:]))
	e.data = e.header + 30 + nameLen + extraLen
	if e.data > d.cd || e.stored > d.cd-e.data {
		d.r.add("WS-ARCHIVE-001", e.header, "the entry %q reaches into the directory", name).Inner = name
		return
	}
	e.end, e.readable = e.data+e.stored, true
	vary := peek(d.b, d.cd, e.header+30, int(nameLen+extraLen))
	local := zipEntry{flags: le16(h[6:]), method: le16(h[8:]), crc: le32(h[14:]), stored: int64(le32(h[18:])), size: int64(le32(h[22:]))}
	if int64(len(vary)) == nameLen+extraLen {
		local.name = string(vary[:nameLen])
		d.checkExtra(e, vary[nameLen:], e.header)
		if zip64Extra(&local, vary[nameLen:]) != nil {
			d.r.add("WS-ARCHIVE-001", e.header, "the local header of %q is broken", name).Inner = name
		}
	}
	deferred := local.flags&zipDescriptor != 0
	var differs []string
	for _, c := range []struct {
		what string
		same bool
	}{
		{"name", local.name == e.name},
		{"flags", local.flags == e.flags},
		{"method", local.method == e.method},
		{"size", local.size == e.size && local.stored == e.stored || deferred && local.size == 0 && local.stored == 0},
		{"checksum", local.crc == e.crc || deferred && local.crc == 0},
	} {
		if !c.same {
			differs = append(differs, c.what)
		}
	}
	if len(differs) > 0 {
		d.r.add("WS-ARCHIVE-001", e.header, "the local header of %q has another %s than the directory", name, strings.Join(differs, ", ")).Inner = name
	}
	if deferred {
		e.end += d.descriptor(e)
	}
}

// descriptor gives the length of a data descriptor: with or without its
// signature, with sizes of 4 or 8 bytes.
func (d *zipDir) descriptor(e *zipEntry) int64 {
	h := peek(d.b, d.cd, e.end, 24)
	for _, wide := range []bool{false, true} {
		for _, sig := range []int{4, 0} {
			n := sig + 12
			if wide {
				n += 8
			}
			if len(h) < n || sig == 4 && string(h[:4]) != "PK\x07\x08" {
				continue
			}
			p := h[sig:]
			if le32(p) != e.crc {
				continue
			}
			if !wide && int64(le32(p[4:])) == e.stored && int64(le32(p[8:])) == e.size ||
				wide && le64(p[4:]) == uint64(e.stored) && le64(p[12:]) == uint64(e.size) {
				return int64(n)
			}
		}
	}
	return 0
}

// coverage checks that every byte before the directory belongs to exactly one
// entry.
func (d *zipDir) coverage() {
	byPlace := make([]*zipEntry, 0, len(d.entries))
	for i := range d.entries {
		if d.entries[i].readable {
			byPlace = append(byPlace, &d.entries[i])
		}
	}
	slices.SortFunc(byPlace, func(a, b *zipEntry) int { return cmp.Compare(a.header, b.header) })
	pos := int64(0)
	for _, e := range byPlace {
		switch {
		case e.header > pos:
			d.r.add("WS-ARCHIVE-002", pos, "%d bytes before the entry %q belong to nothing", e.header-pos, clip(e.name))
			d.gap(pos, e.header)
		case e.header < pos:
			d.r.add("WS-ARCHIVE-001", e.header, "the entry %q overlaps another one", clip(e.name))
			e.readable = false // judged once is enough: so many entries can share one place
		}
		pos = max(pos, e.end)
	}
	if pos < d.cd {
		d.r.add("WS-ARCHIVE-002", pos, "%d bytes before the directory belong to nothing", d.cd-pos)
		d.gap(pos, d.cd)
	}
}

// forwardZip judges the entries of an archive without a usable directory, as a
// reader does that goes through the local headers. The verdict is unsafe
// already.
func forwardZip(ctx context.Context, r *report, b model.Blob) error {
	at := nest(b)
	size := b.Size()
	for pos, n := int64(0), 0; n < maxMembers; n++ {
		h := peek(b, size, pos, 30)
		if len(h) < 30 || string(h[:4]) != "PK\x03\x04" {
			return nil
		}
		e := zipEntry{method: le16(h[8:]), stored: int64(le32(h[18:])), size: int64(le32(h[22:])), readable: true}
		nameLen := int(le16(h[26:]))
		e.name = string(peek(b, size, pos+30, nameLen))
		e.data = pos + 30 + int64(nameLen) + int64(le16(h[28:]))
		if e.stored > size-e.data {
			e.stored = max(0, size-e.data)
		}
		d := &zipDir{r: r, b: b, size: size}
		ra, length, err := d.open(&e, at)
		if err := memberError(ctx, r, clip(e.name), err); err != nil {
			return err
		}
		if ra != nil && length > 0 {
			if err := (nested{}).scan(ctx, r, b, e.name, ra, length); err != nil {
				return err
			}
		}
		pos = e.data + e.stored
	}
	return nil
}
