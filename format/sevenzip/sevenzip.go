// Package sevenzip reads 7z archives: what is in them, and the content of their
// folders from the beginning to the end. Nothing is extracted.
//
// Source: 7zFormat.txt and Methods.txt of the LZMA SDK
// (https://www.7-zip.org/sdk.html).
package sevenzip

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/weightseal/weightseal/format"
)

// Why an archive, or a folder of it, is not read though it may be sound.
var (
	ErrEncrypted   = errors.New("encrypted")
	ErrUnsupported = errors.New("not supported")
	ErrLimit       = errors.New("over the limit")
	// ErrVolume says that the archive goes on in another file, or is cut short.
	ErrVolume = errors.New("the archive does not end in this file: a part of one in several volumes, or cut short")
)

// Limits bounds what reading may use. Zero is the default.
type Limits struct {
	Members int   // files, folders and links; 200,000
	Header  int64 // bytes of the header, decompressed; 12 MiB
	Window  int64 // bytes of the dictionaries of one folder, whatever it declares; 16 MiB
	// Spend is asked before work that the size of the output does not show: so
	// many bytes are about to be written.
	Spend func(n int64) error
}

const (
	signature  = "7z\xbc\xaf\x27\x1c"
	startSize  = 32 // of the signature header
	maxLayers  = 4  // of encoded headers
	maxCoders  = 4  // of one folder
	maxOneName = 64 << 10
)

// Kind says what a Remark is about.
type Kind int

// The kinds.
const (
	Differs Kind = iota + 1 // readers see different things
	Outside                 // bytes that belong to nothing
	Free                    // records that no content needs
)

// Remark is something that no archiver writes, and that readers may take
// differently. Offset is that in the file, and negative where there is none.
type Remark struct {
	Kind   Kind
	Offset int64
	Text   string
}

// Member is a file, a folder, a link or a deletion.
type Member struct {
	Name       string // as UTF-8, with slashes as the archive has them
	Size       int64
	CRC        uint32 // of the content, where HasCRC
	HasCRC     bool
	HasStream  bool // there is content, perhaps of no bytes; it is in a folder
	Dir        bool
	Anti       bool // extracting deletes the file
	Unclear    bool // the name is not UTF-16
	Attributes uint32
	Number     int
}

// The attributes of Windows that matter, and where those of Unix are.
const (
	attrReparse = 0x400
	attrUnix    = 0x8000
)

// Special says whether the member is a symbolic link, a device, a pipe or a
// socket.
func (m *Member) Special() bool {
	if m.Attributes&attrReparse != 0 {
		return true
	}
	kind := m.Attributes >> 16 & 0xf000
	return m.Attributes&attrUnix != 0 && kind != 0 && kind != 0x8000 && kind != 0x4000
}

// Archive is a 7z archive.
type Archive struct {
	Remarks []Remark
	Gaps    [][2]int64 // where bytes belong to nothing

	r        io.ReaderAt
	size     int64
	lim      Limits
	headerAt int64
	next     []byte // the header
	header
	pieces []piece
}

// piece is a stretch of the file that belongs to something.
type piece struct {
	at, end int64
	what    string
}

// Open reads the headers. Of an archive that is broken, what could be read
// comes with the error, a *format.Error; the other errors are those above.
func Open(r io.ReaderAt, size int64, lim Limits) (*Archive, error) {
	if lim.Members <= 0 {
		lim.Members = 200_000
	}
	if lim.Header <= 0 {
		lim.Header = 12 << 20
	}
	if lim.Window <= 0 {
		lim.Window = 16 << 20
	}
	a := &Archive{r: r, size: size, lim: lim}
	if err := a.start(); err != nil {
		return a, err
	}
	for layer := 0; len(a.next) > 0; layer++ {
		if a.next[0] != idEncodedHeader {
			if err := a.parse(); err != nil {
				return a, err
			}
			break
		}
		if layer == maxLayers {
			return a, fmt.Errorf("a header encoded more than %d times: %w", maxLayers, ErrLimit)
		}
		if err := a.decodeHeader(); err != nil {
			return a, err
		}
	}
	a.coverage()
	return a, nil
}

func broken(at int64, layout string, args ...any) error {
	return &format.Error{Format: "7z", Offset: at, Detail: fmt.Sprintf(layout, args...)}
}

func (a *Archive) remark(k Kind, at int64, layout string, args ...any) {
	const enough = 100
	if len(a.Remarks) < enough {
		a.Remarks = append(a.Remarks, Remark{k, at, fmt.Sprintf(layout, args...)})
	}
}

// start reads the signature header, and the header that it points to.
func (a *Archive) start() error {
	var h [startSize]byte
	if n, err := a.r.ReadAt(h[:], 0); n < len(h) {
		return a.short(err, 0, "the file is shorter than the signature header")
	}
	if string(h[:6]) != signature {
		return broken(0, "no signature")
	}
	if h[6] != 0 {
		return fmt.Errorf("version %d.%d of the format: %w", h[6], h[7], ErrUnsupported)
	}
	if crc32.ChecksumIEEE(h[12:]) != binary.LittleEndian.Uint32(h[8:]) {
		return broken(8, "the checksum of the signature header does not fit")
	}
	off, n := binary.LittleEndian.Uint64(h[12:]), binary.LittleEndian.Uint64(h[20:])
	left := uint64(a.size - startSize)
	if n == 0 && off == 0 {
		a.pieces = append(a.pieces, piece{0, startSize, "the signature header"})
		return nil
	}
	if off > left || n > left-off {
		return ErrVolume
	}
	if n == 0 {
		return broken(20, "a header of no bytes")
	}
	if n > uint64(a.lim.Header) {
		return fmt.Errorf("a header of %d bytes: %w", n, ErrLimit)
	}
	a.headerAt = startSize + int64(off)
	a.next = make([]byte, n)
	if k, err := a.r.ReadAt(a.next, a.headerAt); k < len(a.next) {
		return a.short(err, a.headerAt, "the header is cut short")
	}
	a.pieces = append(a.pieces, piece{0, startSize, "the signature header"}, piece{a.headerAt, a.headerAt + int64(n), "the header"})
	if crc32.ChecksumIEEE(a.next) != binary.LittleEndian.Uint32(h[28:]) {
		return broken(a.headerAt, "the checksum of the header does not fit")
	}
	return nil
}

// short tells a file that ends from one that cannot be read.
func (a *Archive) short(err error, at int64, detail string) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return broken(at, "%s", detail)
	}
	return fmt.Errorf("7z: reading at offset %d: %w", at, err)
}

// decodeHeader puts what an encoded header holds in its place.
func (a *Archive) decodeHeader() error {
	p := &parser{a: a, b: a.next, pos: 1}
	s, err := p.streams()
	if err != nil {
		return err
	}
	if p.pos != len(p.b) {
		a.remark(Outside, a.headerAt, "%d bytes follow the encoded header", len(p.b)-p.pos)
	}
	if len(s.folders) != 1 || s.substreams != nil && s.count(0) != 1 {
		return broken(a.headerAt, "an encoded header in %d folders", len(s.folders))
	}
	f := &s.folders[0]
	a.claim(s, "the packed header")
	if f.why != nil {
		return f.why
	}
	if n := f.size(); n < 1 || n > a.lim.Header {
		return fmt.Errorf("a header of %d bytes: %w", n, ErrLimit)
	}
	r, err := a.decoder(f)
	if err != nil {
		return err
	}
	next := make([]byte, f.size())
	if _, err := io.ReadFull(r, next); err != nil {
		return a.undecoded(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return a.undecoded(err)
	}
	if f.hasCRC && crc32.ChecksumIEEE(next) != f.crc {
		return broken(a.headerAt, "the checksum of the packed header does not fit")
	}
	a.next = next
	return nil
}

// undecoded is the error of a header that does not decompress.
func (a *Archive) undecoded(err error) error {
	if errors.Is(err, ErrLimit) || errors.Is(err, ErrUnsupported) {
		return err
	}
	var at *format.Error
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &at) {
		return broken(a.headerAt, "the packed header does not decompress")
	}
	return fmt.Errorf("7z: the packed header: %w", err)
}

// claim notes which bytes of the file packed streams take.
func (a *Archive) claim(s *streamsInfo, what string) {
	at := startSize + s.packAt
	for _, n := range s.packSizes {
		if n > 0 {
			a.pieces = append(a.pieces, piece{at, at + n, what})
		}
		at += n
	}
}

// coverage checks that every byte of the file belongs to exactly one thing.
func (a *Archive) coverage() {
	slices.SortFunc(a.pieces, func(x, y piece) int { return cmp.Compare(x.at, y.at) })
	pos := int64(0)
	for _, p := range a.pieces {
		switch {
		case p.at > pos:
			a.remark(Outside, pos, "%d bytes before %s belong to nothing", p.at-pos, p.what)
			a.Gaps = append(a.Gaps, [2]int64{pos, p.at})
		case p.at < pos:
			a.remark(Differs, p.at, "%s overlaps something else", p.what)
		}
		pos = max(pos, p.end)
	}
	if pos < a.size {
		a.remark(Outside, pos, "%d bytes follow the archive", a.size-pos)
		a.Gaps = append(a.Gaps, [2]int64{pos, a.size})
	}
	a.pieces = nil
}
