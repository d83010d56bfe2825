package picklegen

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// Entry is an entry of a zip archive. The fields beginning with Local are what
// the local header says; they are the entry's own where they are not set.
type Entry struct {
	Name, LocalName   string
	Data              []byte
	Flags, LocalFlags uint16
	Size, LocalSize   uint32 // of Data where 0
	CRC, LocalCRC     uint32
	Outside           bool // not in the directory
}

// Archive is a stored zip archive, and what may be wrong with it.
type Archive struct {
	Entries        []Entry
	Prefix, Suffix []byte
	Gap            []byte // between the last entry and the directory
	Align          int    // of the data, by padding in the local extra field, as torch does
	Count          int    // added to the number of entries that the end record has
}

func or[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

// Bytes writes the archive.
func (a *Archive) Bytes() []byte {
	le := binary.LittleEndian
	out := append([]byte{}, a.Prefix...)
	var dir []byte
	n := 0
	for _, e := range a.Entries {
		crc, size := or(e.CRC, crc32.ChecksumIEEE(e.Data)), or(e.Size, uint32(len(e.Data)))
		name := or(e.LocalName, e.Name)
		at := uint32(len(out))
		extra := []byte{}
		if a.Align > 0 {
			pad := (a.Align - (len(out)+34+len(name))%a.Align) % a.Align
			extra = append(le.AppendUint16([]byte("FB"), uint16(pad)), strings.Repeat("Z", pad)...)
		}
		out = append(out, "PK\x03\x04\x14\x00"...)
		out = le.AppendUint16(out, or(e.LocalFlags, e.Flags))
		out = append(out, 0, 0, 0, 0, 0, 0) // stored, no time
		out = le.AppendUint32(out, or(e.LocalCRC, crc))
		out = le.AppendUint32(le.AppendUint32(out, or(e.LocalSize, size)), or(e.LocalSize, size))
		out = le.AppendUint16(le.AppendUint16(out, uint16(len(name))), uint16(len(extra)))
		out = append(append(append(out, name...), extra...), e.Data...)
		if e.Outside {
			continue
		}
		n++
		dir = append(dir, "PK\x01\x02\x14\x00\x14\x00"...)
		dir = append(le.AppendUint16(dir, e.Flags), 0, 0, 0, 0, 0, 0)
		dir = le.AppendUint32(le.AppendUint32(le.AppendUint32(dir, crc), size), size)
		dir = append(le.AppendUint16(dir, uint16(len(e.Name))), make([]byte, 12)...)
		dir = append(le.AppendUint32(dir, at), e.Name...)
	}
	out = append(out, a.Gap...)
	at := len(out)
	out = append(append(out, dir...), "PK\x05\x06\x00\x00\x00\x00"...)
	out = le.AppendUint16(le.AppendUint16(out, uint16(n+a.Count)), uint16(n+a.Count))
	out = le.AppendUint32(le.AppendUint32(out, uint32(len(dir))), uint32(at))
	return append(append(out, 0, 0), a.Suffix...)
}

// Mutate changes one thing about the archive that readers see differently, or
// should refuse.
func (a *Archive) Mutate(c *Choices) {
	i := c.Below(len(a.Entries))
	e := &a.Entries[i]
	switch c.Below(16) {
	case 0:
		e.LocalName = e.Name[:len(e.Name)-1] + "x"
	case 1:
		e.Flags = pick(c, []uint16{1, 8, 0x20, 0x40, 0x800, 0x2000})
	case 2:
		e.LocalFlags = pick(c, []uint16{1, 8, 0x20, 0x40, 0x800})
	case 3:
		e.CRC = 1
	case 4:
		e.LocalCRC = 1
	case 5:
		e.LocalSize = uint32(len(e.Data)) + 1
	case 6:
		e.Size = uint32(c.Below(2*len(e.Data)+2)) + 1
	case 7:
		a.Entries = append(a.Entries, *e)
	case 8:
		again := *e
		again.Name = strings.ToUpper(e.Name)
		a.Entries = append(a.Entries, again)
	case 9:
		a.Prefix = c.Bytes(1 + c.Below(64))
	case 10:
		a.Suffix = c.Bytes(1 + c.Below(64))
	case 11:
		a.Gap = c.Bytes(1 + c.Below(64))
	case 12:
		again := *e
		again.Outside = true
		a.Entries = append(a.Entries, again)
	case 13:
		a.Entries = append(a.Entries[:i:i], a.Entries[i+1:]...)
	case 14:
		a.Count = pick(c, []int{-1, 1})
	default:
		e.Data = Mutate(c, e.Data)
	}
}
