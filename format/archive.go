package format

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/weightseal/weightseal/format/safetensors"
)

// PieceKind is what a stretch of a laid-out archive is.
type PieceKind uint8

// The kinds. Bytes are known beforehand; Data are a record's bytes, to be
// filled in; a Descriptor and the Directory hold CRC-32 checksums of records.
const (
	PieceBytes PieceKind = iota + 1
	PieceData
	PieceDescriptor
	PieceDirectory
)

// Piece is a stretch of a laid-out archive.
type Piece struct {
	Kind   PieceKind
	Size   int64
	Bytes  []byte // PieceBytes
	Record int    // PieceData and PieceDescriptor: number of the data record
}

// Archive is a ZIP archive of stored records whose every length is known
// before a byte of data is read, and whose checksums follow the data that they
// are about, so that it can be written in one pass. The same records give the
// same bytes: data is aligned to 64 bytes, dates are 1980-01-01, nothing of
// the host goes in.
//
// It follows PKWARE's APPNOTE: stored records, ZIP64 where a field would not
// hold its value.
type Archive struct {
	pieces   []Piece
	records  []record // in order; those with crc unknown are data records
	data     []int    // data record -> record
	size     int64
	dirSize  int64
	dirStart int64
}

const (
	dataAlignment = 64 // of a record's data in the file

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
	max32          = math.MaxUint32
	max16          = math.MaxUint16
)

// MaxRecordName is the length in bytes of the longest name a record can have.
const MaxRecordName = max16

// record is an entry of the archive.
type record struct {
	name   string
	size   int64
	offset int64  // of the local header
	crc    uint32 // of what is known of its content
	late   bool   // the rest of it is filled in
}

// Known appends a record whose content is at hand.
func (a *Archive) Known(name string, content []byte) error {
	r := record{name: name, size: int64(len(content)), offset: a.size, crc: crc32.ChecksumIEEE(content)}
	a.records = append(a.records, r)
	if err := a.bytes(r.local()); err != nil {
		return err
	}
	return a.bytes(content)
}

// Data appends a data record: prefix, which is at hand, and size bytes to be
// filled in. Data records are numbered from 0 in the order of the file.
func (a *Archive) Data(name string, prefix []byte, size int64) error {
	if size > math.MaxInt64-int64(len(prefix)) {
		return tooLarge()
	}
	r := record{name: name, size: int64(len(prefix)) + size, offset: a.size, crc: crc32.ChecksumIEEE(prefix), late: true}
	number := len(a.data)
	a.data = append(a.data, len(a.records))
	a.records = append(a.records, r)
	if err := a.bytes(append(r.local(), prefix...)); err != nil {
		return err
	}
	if err := a.add(Piece{Kind: PieceData, Size: size, Record: number}); err != nil {
		return err
	}
	return a.add(Piece{Kind: PieceDescriptor, Size: int64(len(r.descriptor(0))), Record: number})
}

// Finish appends the central directory and the end records. Nothing can be
// appended after it.
func (a *Archive) Finish() error {
	a.dirStart = a.size
	for i := range a.records {
		a.dirSize += int64(len(a.records[i].central(0)))
	}
	return a.add(Piece{Kind: PieceDirectory, Size: a.dirSize + int64(len(a.end()))})
}

// Size is the length of the file in bytes.
func (a *Archive) Size() int64 { return a.size }

// Pieces lists the whole file in order. It must not be changed.
func (a *Archive) Pieces() []Piece { return a.pieces }

// Begun is the CRC-32 (IEEE) of a data record's prefix, from which that of
// its data goes on.
func (a *Archive) Begun(number int) uint32 { return a.records[a.data[number]].crc }

// Descriptor is the content of a PieceDescriptor, given the CRC-32 (IEEE) of
// the record, prefix included.
func (a *Archive) Descriptor(number int, crc uint32) []byte {
	return a.records[a.data[number]].descriptor(crc)
}

// Directory is the content of the PieceDirectory, given the CRC-32 of every
// data record, prefixes included.
func (a *Archive) Directory(crcs []uint32) []byte {
	b := make([]byte, 0, a.size-a.dirStart)
	for i := range a.records {
		r := &a.records[i]
		crc := r.crc
		if r.late {
			crc, crcs = crcs[0], crcs[1:]
		}
		b = append(b, r.central(crc)...)
	}
	return append(b, a.end()...)
}

func tooLarge() error {
	return &safetensors.Error{Kind: safetensors.ValidationOverflow, Detail: "the archive would be larger than 2^63 bytes"}
}

// add appends a piece.
func (a *Archive) add(p Piece) error {
	if p.Size > math.MaxInt64-a.size {
		return tooLarge()
	}
	a.size += p.Size
	if k := len(a.pieces) - 1; p.Kind == PieceBytes && k >= 0 && a.pieces[k].Kind == PieceBytes {
		a.pieces[k].Bytes = append(a.pieces[k].Bytes, p.Bytes...)
		a.pieces[k].Size += p.Size
		return nil
	}
	a.pieces = append(a.pieces, p)
	return nil
}

func (a *Archive) bytes(b []byte) error {
	return a.add(Piece{Kind: PieceBytes, Size: int64(len(b)), Bytes: b})
}

func (r *record) big() bool { return r.size >= max32 }

func (r *record) flags() uint16 {
	if r.late {
		return flagUTF8 | flagDescriptor
	}
	return flagUTF8
}

func (r *record) version() uint16 {
	if r.big() || r.offset >= max32 {
		return version45
	}
	return version20
}

// local is the local header, padded so that the data is aligned. Records with
// a descriptor have zeros for what it will say, large ones their sizes in the
// ZIP64 field all the same, as torch's own writer has it: that field is what
// makes the descriptor's sizes 8 bytes long.
func (r *record) local() []byte {
	var extra []byte
	size, crc := uint32(min(r.size, max32)), r.crc
	if r.big() {
		extra = put16(extra, extraZip64, 16)
		extra = put64(extra, uint64(r.size), uint64(r.size))
	}
	if r.late {
		size, crc = 0, 0
	}
	const fixed, head = 30, 4
	start := r.offset + fixed + int64(len(r.name)) + int64(len(extra)) + head
	pad := (dataAlignment - start%dataAlignment) % dataAlignment
	extra = put16(extra, extraPadding, uint16(pad))
	for range pad {
		extra = append(extra, 'Z')
	}
	b := put32(nil, sigLocal)
	b = put16(b, r.version(), r.flags(), 0, 0, dosDate)
	b = put32(b, crc, size, size)
	b = put16(b, uint16(len(r.name)), uint16(len(extra)))
	return append(append(b, r.name...), extra...)
}

// descriptor has sizes of 8 bytes where the local header has a ZIP64 field
// (APPNOTE 4.3.9.2).
func (r *record) descriptor(crc uint32) []byte {
	b := put32(nil, sigDescriptor, crc)
	if r.big() {
		return put64(b, uint64(r.size), uint64(r.size))
	}
	return put32(b, uint32(r.size), uint32(r.size))
}

// central is the record's entry in the directory.
func (r *record) central(crc uint32) []byte {
	var extra []byte
	if r.big() {
		extra = put64(extra, uint64(r.size), uint64(r.size))
	}
	if r.offset >= max32 {
		extra = put64(extra, uint64(r.offset))
	}
	if len(extra) > 0 {
		extra = append(put16(nil, extraZip64, uint16(len(extra))), extra...)
	}
	size := uint32(min(r.size, max32))
	b := put32(nil, sigCentral)
	b = put16(b, r.version(), r.version(), r.flags(), 0, 0, dosDate)
	b = put32(b, crc, size, size)
	b = put16(b, uint16(len(r.name)), uint16(len(extra)), 0, 0, 0)
	b = put32(b, 0, uint32(min(r.offset, max32)))
	return append(append(b, r.name...), extra...)
}

// end is what follows the directory: the ZIP64 end record and its locator
// where the plain record cannot say it, and the plain record.
func (a *Archive) end() []byte {
	n := uint64(len(a.records))
	size, start := uint64(a.dirSize), uint64(a.dirStart)
	var b []byte
	if n >= max16 || size >= max32 || start >= max32 {
		b = put64(put32(b, sigEnd64), 44)
		b = put16(b, version45, version45)
		b = put32(b, 0, 0)
		b = put64(b, n, n, size, start)
		b = put32(b, sigLocator64, 0)
		b = put64(b, start+size)
		b = put32(b, 1)
	}
	b = put32(b, sigEnd)
	b = put16(b, 0, 0, uint16(min(n, max16)), uint16(min(n, max16)))
	b = put32(b, uint32(min(size, max32)), uint32(min(start, max32)))
	return put16(b, 0)
}

func put16(b []byte, v ...uint16) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	return b
}

func put32(b []byte, v ...uint32) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func put64(b []byte, v ...uint64) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}
