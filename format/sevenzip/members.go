package sevenzip

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// filesInfo reads what the members are called, and what they are.
func (p *parser) filesInfo() error {
	a := p.a
	n, err := p.number()
	if err != nil {
		return err
	}
	if n > uint64(a.lim.Members) {
		return fmt.Errorf("%d members: %w", n, ErrLimit)
	}
	// A name is two bytes at least.
	if n > uint64(p.left()/2) {
		return p.errorf("%d members do not fit", n)
	}
	a.files = int(n)
	var seen uint64
	for {
		id, err := p.number()
		if err != nil {
			return err
		}
		if id == idEnd {
			break
		}
		length, err := p.number()
		if err != nil {
			return err
		}
		b, err := p.bytes(length)
		if err != nil {
			return err
		}
		if id < 64 && id != idDummy {
			if seen&(1<<id) != 0 {
				return p.errorf("the property %#x is there twice", id)
			}
			seen |= 1 << id
		}
		inner := &parser{a: a, b: p.b[:p.pos], pos: p.pos - len(b)}
		if err := inner.fileProperty(id); err != nil {
			return err
		}
		if inner.left() > 0 {
			a.remark(Free, a.headerAt, "%d bytes behind the property %#x of the members", inner.left(), id)
		}
	}
	if a.files > 0 && a.names == nil {
		return p.errorf("the members have no names")
	}
	return nil
}

func (p *parser) fileProperty(id uint64) error {
	a := p.a
	var err error
	switch id {
	case idEmptyStream:
		a.empty, err = p.vector(a.files)
	case idEmptyFile:
		a.emptyFile, err = p.vector(a.empty.count(a.files))
	case idAnti:
		a.anti, err = p.vector(a.empty.count(a.files))
	case idNames:
		err = p.nameOffsets()
	case idCTime, idATime, idMTime, idStartPos:
		_, _, err = p.numbers(8)
	case idWinAttributes:
		a.hasAttr, a.attributes, err = p.numbers(4)
	case idDummy:
		for _, b := range p.b[p.pos:] {
			if b != 0 {
				a.remark(Free, a.headerAt, "the filling of the header holds something else than zeros")
				break
			}
		}
		p.pos = len(p.b)
	default:
		a.remark(Free, a.headerAt, "the property %#x of the members, %d bytes", id, p.left())
		p.pos = len(p.b)
	}
	return err
}

// numbers reads a number of so many bytes for each member, or for some.
func (p *parser) numbers(width int) (bitVector, []byte, error) {
	has, err := p.optional(p.a.files)
	if err != nil {
		return nil, nil, err
	}
	if err := p.inline(); err != nil {
		return nil, nil, err
	}
	b, err := p.bytes(uint64(width) * uint64(has.count(p.a.files)))
	return has, b, err
}

// nameOffsets finds the names, which are UTF-16 and end with a NUL.
func (p *parser) nameOffsets() error {
	if err := p.inline(); err != nil {
		return err
	}
	p.a.names = make([]uint32, 0, p.a.files)
	for range p.a.files {
		start := p.pos
		for {
			c, err := p.bytes(2)
			if err != nil {
				return err
			}
			if c[0] == 0 && c[1] == 0 {
				break
			}
		}
		if p.pos-start > maxOneName {
			return fmt.Errorf("a name of %d bytes: %w", p.pos-start, ErrLimit)
		}
		p.a.names = append(p.a.names, uint32(start))
	}
	return nil
}

// consistent checks that members and streams fit each other.
func (a *Archive) consistent() error {
	streams := 0
	for i := range a.main.folders {
		streams += a.main.count(i)
		if a.main.count(i) == 0 {
			a.remark(Outside, a.main.folders[i].at, "a folder that holds no member")
		}
	}
	if files := a.files - a.empty.count(a.files); files != streams {
		return broken(a.headerAt, "%d members have content, and there are %d streams", files, streams)
	}
	return nil
}

// name decodes a name; false where it is not UTF-16.
func (a *Archive) name(i int) (string, bool) {
	b := a.next[a.names[i]:]
	var out []byte
	clear := true
	for len(b) >= 2 {
		c := rune(binary.LittleEndian.Uint16(b))
		if b = b[2:]; c == 0 {
			break
		}
		if utf16.IsSurrogate(c) {
			d := utf16.DecodeRune(c, rune(binary.LittleEndian.Uint16(b)))
			if d == utf8.RuneError {
				clear = false
			} else {
				b = b[2:]
			}
			c = d
		}
		out = utf8.AppendRune(out, c)
	}
	return string(out), clear
}

// Members gives the members in the order of the header. Those with content
// come in the order in which the folders hold them.
func (a *Archive) Members(yield func(*Member) bool) {
	folder, inFolder, empties, attrs := 0, 0, 0, 0
	for i := range len(a.names) {
		m := &Member{Number: i}
		var clear bool
		m.Name, clear = a.name(i)
		m.Unclear = !clear
		if a.hasAttr.has(i) {
			m.Attributes = binary.LittleEndian.Uint32(a.attributes[4*attrs:])
			attrs++
		}
		if a.empty.has(i) {
			m.Dir = !a.emptyFile.has(empties)
			m.Anti = a.anti.has(empties)
			empties++
		} else {
			for folder < len(a.main.folders) && inFolder >= a.main.count(folder) {
				folder, inFolder = folder+1, 0
			}
			if folder == len(a.main.folders) {
				return
			}
			s := a.main.stream(folder, inFolder)
			inFolder++
			m.HasStream, m.Size, m.CRC, m.HasCRC = true, s.size, s.crc, s.hasCRC
		}
		if !yield(m) {
			return
		}
	}
}

// Folder is a run of members that are compressed as one stream.
type Folder struct {
	a *Archive
	n int
}

// Folders gives the folders in the order of the file.
func (a *Archive) Folders(yield func(*Folder) bool) {
	for i := range a.main.folders {
		if !yield(&Folder{a, i}) {
			return
		}
	}
}

// Streams is the number of members in the folder: those with content, in order.
func (f *Folder) Streams() int { return f.a.main.count(f.n) }

// Size is the number of bytes of all its members.
func (f *Folder) Size() int64 { return f.a.main.folders[f.n].size() }
