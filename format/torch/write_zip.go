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

	saveSigLocal      = 0x04034b50
	saveSigDescriptor = 0x08074b50
	saveSigCentral    = 0x02014b50
	saveSigEnd64      = 0x06064b50
	saveSigLocator64  = 0x07064b50
	saveSigEnd        = 0x06054b50

	saveFlagDescriptor = 1 << 3 // checksum follows the data
	saveFlagUTF8       = 1 << 11
	dosDate            = 1<<5 | 1 // 1980-01-01
	saveVersion20      = 20
	saveVersion45      = 45 // ZIP64
	saveExtraZip64     = 0x0001
	saveExtraPadding   = 'B'<<8 | 'F' // "FB", as torch pads
	saveMax32          = math.MaxUint32
	saveMax16          = math.MaxUint16
)

// savedRecord is an entry of the archive.
type savedRecord struct {
	name    string
	size    int64
	offset  int64 // of the local header
	crc     uint32
	storage int // -1 for records whose checksum is known
}

func (r *savedRecord) big() bool { return r.size >= saveMax32 }

func (r *savedRecord) flags() uint16 {
	if r.storage >= 0 {
		return saveFlagUTF8 | saveFlagDescriptor
	}
	return saveFlagUTF8
}

func (r *savedRecord) version() uint16 {
	if r.big() || r.offset >= saveMax32 {
		return saveVersion45
	}
	return saveVersion20
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
	r := savedRecord{name: saveRoot + name, size: int64(len(content)), offset: l.size, crc: crc32.ChecksumIEEE(content), storage: -1}
	l.records = append(l.records, r)
	if err := l.bytes(r.local()); err != nil {
		return err
	}
	return l.bytes(content)
}

// data appends the storages.
func (l *Layout) data(sizes []int64) error {
	for i, n := range sizes {
		r := savedRecord{name: saveRoot + "data/" + strconv.Itoa(i), size: n, offset: l.size, storage: i}
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
// a descriptor have zeros for what it will say, large ones their sizes in the
// ZIP64 field all the same, as torch's own writer has it: that field is what
// makes the descriptor's sizes 8 bytes long.
func (r *savedRecord) local() []byte {
	var extra []byte
	size, crc := uint32(min(r.size, saveMax32)), r.crc
	if r.big() {
		extra = put16(extra, saveExtraZip64, 16)
		extra = put64(extra, uint64(r.size), uint64(r.size))
	}
	if r.storage >= 0 {
		size = 0
	}
	const fixed, head = 30, 4
	start := r.offset + fixed + int64(len(r.name)) + int64(len(extra)) + head
	pad := (saveAlignment - start%saveAlignment) % saveAlignment
	extra = put16(extra, saveExtraPadding, uint16(pad))
	for range pad {
		extra = append(extra, 'Z')
	}
	b := put32(nil, saveSigLocal)
	b = put16(b, r.version(), r.flags(), 0, 0, dosDate)
	b = put32(b, crc, size, size)
	b = put16(b, uint16(len(r.name)), uint16(len(extra)))
	return append(append(b, r.name...), extra...)
}

// descriptor has sizes of 8 bytes where the local header has a ZIP64 field
// (APPNOTE 4.3.9.2).
func (r *savedRecord) descriptor(crc uint32) []byte {
	b := put32(nil, saveSigDescriptor, crc)
	if r.big() {
		return put64(b, uint64(r.size), uint64(r.size))
	}
	return put32(b, uint32(r.size), uint32(r.size))
}

// central is the record's entry in the directory.
func (r *savedRecord) central(crc uint32) []byte {
	var extra []byte
	if r.big() {
		extra = put64(extra, uint64(r.size), uint64(r.size))
	}
	if r.offset >= saveMax32 {
		extra = put64(extra, uint64(r.offset))
	}
	if len(extra) > 0 {
		extra = append(put16(nil, saveExtraZip64, uint16(len(extra))), extra...)
	}
	size := uint32(min(r.size, saveMax32))
	b := put32(nil, saveSigCentral)
	b = put16(b, r.version(), r.version(), r.flags(), 0, 0, dosDate)
	b = put32(b, crc, size, size)
	b = put16(b, uint16(len(r.name)), uint16(len(extra)), 0, 0, 0)
	b = put32(b, 0, uint32(min(r.offset, saveMax32)))
	return append(append(b, r.name...), extra...)
}

// end is what follows the directory: the ZIP64 end record and its locator
// where the plain record cannot say it, and the plain record.
func (l *Layout) end() []byte {
	n := uint64(len(l.records))
	size, start := uint64(l.dirSize), uint64(l.dirStart)
	var b []byte
	if n >= saveMax16 || size >= saveMax32 || start >= saveMax32 {
		b = put64(put32(b, saveSigEnd64), 44)
		b = put16(b, saveVersion45, saveVersion45)
		b = put32(b, 0, 0)
		b = put64(b, n, n, size, start)
		b = put32(b, saveSigLocator64, 0)
		b = put64(b, start+size)
		b = put32(b, 1)
	}
	b = put32(b, saveSigEnd)
	b = put16(b, 0, 0, uint16(min(n, saveMax16)), uint16(min(n, saveMax16)))
	b = put32(b, uint32(min(size, saveMax32)), uint32(min(start, saveMax32)))
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
