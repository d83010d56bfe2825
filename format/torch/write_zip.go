package torch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"strconv"

	"github.com/weightseal/weightseal/format/safetensors"
)

// The archive follows PKWARE's APPNOTE: stored records, ZIP64 where a field
// would not hold its value.
const (
	saveRoot      = "archive/"
	saveAlignment = 64 // of a record's data in the file

	sigLocal      = 0x04034b50
	sigDescriptor = 0x08074b50
	sigCentral    = 0x02014b50
	sigEnd64      = 0x06064b50
	sigLocator64  = 0x07064b50
	sigEnd        = 0x06054b50

	flagDescriptor = 1 << 3 // checksum follows the data
	flagUTF8       = 1 << 11
	dosDate        = 1<<5 | 1 // 1980-01-01
	version20      = 20
	version45      = 45 // ZIP64
	extraZip64     = 0x0001
	extraPadding   = 'B'<<8 | 'F' // "FB", as torch pads
	full32         = math.MaxUint32
	full16         = math.MaxUint16
)

// zipRecord is an entry of the archive.
type zipRecord struct {
	name    string
	size    int64
	offset  int64 // of the local header
	crc     uint32
	storage int // -1 for records whose checksum is known
}

func (r *zipRecord) big() bool { return r.size >= full32 }

func (r *zipRecord) flags() uint16 {
	if r.storage >= 0 {
		return flagUTF8 | flagDescriptor
	}
	return flagUTF8
}

func (r *zipRecord) version() uint16 {
	if r.big() || r.offset >= full32 {
		return version45
	}
	return version20
}

// add appends a piece.
func (l *Layout) add(p Piece) error {
	if p.Size > math.MaxInt64-l.size {
		return &safetensors.Error{Kind: safetensors.ValidationOverflow, Detail: "the archive would be larger than 2^63 bytes"}
	}
	l.size += p.Size
	if k := len(l.pieces) - 1; p.Kind == PieceBytes && k >= 0 && l.pieces[k].Kind == PieceBytes {
		l.pieces[k].Bytes = append(l.pieces[k].Bytes, p.Bytes...)
		l.pieces[k].Size += p.Size
		return nil
	}
	l.pieces = append(l.pieces, p)
	return nil
}

func (l *Layout) bytes(b []byte) error {
	return l.add(Piece{Kind: PieceBytes, Size: int64(len(b)), Bytes: b})
}

// known appends a record whose content is at hand.
func (l *Layout) known(name string, content []byte) error {
	r := zipRecord{name: saveRoot + name, size: int64(len(content)), offset: l.size, crc: crc32.ChecksumIEEE(content), storage: -1}
	l.records = append(l.records, r)
	if err := l.bytes(r.local()); err != nil {
		return err
	}
	return l.bytes(content)
}

// data appends the storages.
func (l *Layout) data(sizes []int64) error {
	for i, n := range sizes {
		r := zipRecord{name: saveRoot + "data/" + strconv.Itoa(i), size: n, offset: l.size, storage: i}
		l.storages = append(l.storages, len(l.records))
		l.records = append(l.records, r)
		if err := l.bytes(r.local()); err != nil {
			return err
		}
		if n > 0 {
			if err := l.add(Piece{Kind: PieceData, Size: n, Storage: i}); err != nil {
				return err
			}
		}
		if err := l.add(Piece{Kind: PieceDescriptor, Size: int64(len(r.descriptor(0))), Storage: i}); err != nil {
			return err
		}
	}
	return nil
}

// directory appends the central directory and the end records.
func (l *Layout) directory() error {
	l.dirStart = l.size
	for i := range l.records {
		l.dirSize += int64(len(l.records[i].central(0)))
	}
	return l.add(Piece{Kind: PieceDirectory, Size: l.dirSize + int64(len(l.end()))})
}

// Descriptor is the content of a PieceDescriptor, given the CRC-32 (IEEE) of
// the storage's bytes.
func (l *Layout) Descriptor(storage int, crc uint32) []byte {
	return l.records[l.storages[storage]].descriptor(crc)
}

// Directory is the content of the PieceDirectory, given the CRC-32 of every
// storage.
func (l *Layout) Directory(crcs []uint32) []byte {
	b := make([]byte, 0, l.size-l.dirStart)
	for i := range l.records {
		r := &l.records[i]
		crc := r.crc
		if r.storage >= 0 {
			crc = crcs[r.storage]
		}
		b = append(b, r.central(crc)...)
	}
	return append(b, l.end()...)
}

// local is the local header, padded so that the data is aligned. Records with
// a descriptor have zeros where it will say more, as torch's own writer has.
func (r *zipRecord) local() []byte {
	var extra []byte
	size, crc := uint32(min(r.size, full32)), r.crc
	if r.big() {
		extra = le16(extra, extraZip64, 16)
		extra = le64(extra, uint64(r.size), uint64(r.size))
	} else if r.storage >= 0 {
		size = 0
	}
	const fixed, head = 30, 4
	start := r.offset + fixed + int64(len(r.name)) + int64(len(extra)) + head
	pad := (saveAlignment - start%saveAlignment) % saveAlignment
	extra = le16(extra, extraPadding, uint16(pad))
	for range pad {
		extra = append(extra, 'Z')
	}
	b := le32(nil, sigLocal)
	b = le16(b, r.version(), r.flags(), 0, 0, dosDate)
	b = le32(b, crc, size, size)
	b = le16(b, uint16(len(r.name)), uint16(len(extra)))
	return append(append(b, r.name...), extra...)
}

// descriptor has sizes of 8 bytes where the local header has a ZIP64 field
// (APPNOTE 4.3.9.2).
func (r *zipRecord) descriptor(crc uint32) []byte {
	b := le32(nil, sigDescriptor, crc)
	if r.big() {
		return le64(b, uint64(r.size), uint64(r.size))
	}
	return le32(b, uint32(r.size), uint32(r.size))
}

// central is the record's entry in the directory.
func (r *zipRecord) central(crc uint32) []byte {
	var extra []byte
	if r.big() {
		extra = le64(extra, uint64(r.size), uint64(r.size))
	}
	if r.offset >= full32 {
		extra = le64(extra, uint64(r.offset))
	}
	if len(extra) > 0 {
		extra = append(le16(nil, extraZip64, uint16(len(extra))), extra...)
	}
	size := uint32(min(r.size, full32))
	b := le32(nil, sigCentral)
	b = le16(b, r.version(), r.version(), r.flags(), 0, 0, dosDate)
	b = le32(b, crc, size, size)
	b = le16(b, uint16(len(r.name)), uint16(len(extra)), 0, 0, 0)
	b = le32(b, 0, uint32(min(r.offset, full32)))
	return append(append(b, r.name...), extra...)
}

// end is what follows the directory: the ZIP64 end record and its locator
// where the plain record cannot say it, and the plain record.
func (l *Layout) end() []byte {
	n := uint64(len(l.records))
	size, start := uint64(l.dirSize), uint64(l.dirStart)
	var b []byte
	if n >= full16 || size >= full32 || start >= full32 {
		b = le64(le32(b, sigEnd64), 44)
		b = le16(b, version45, version45)
		b = le32(b, 0, 0)
		b = le64(b, n, n, size, start)
		b = le32(b, sigLocator64, 0)
		b = le64(b, start+size)
		b = le32(b, 1)
	}
	b = le32(b, sigEnd)
	b = le16(b, 0, 0, uint16(min(n, full16)), uint16(min(n, full16)))
	b = le32(b, uint32(min(size, full32)), uint32(min(start, full32)))
	return le16(b, 0)
}

func le16(b []byte, v ...uint16) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

func le32(b []byte, v ...uint32) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func le64(b []byte, v ...uint64) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}
