package sevenzip

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// The ids of properties.
const (
	idEnd = iota
	idHeader
	idArchiveProperties
	idAdditionalStreams
	idMainStreams
	idFiles
	idPackInfo
	idUnpackInfo
	idSubStreams
	idSize
	idCRC
	idFolder
	idCodersUnpackSize
	idNumUnpackStream
	idEmptyStream
	idEmptyFile
	idAnti
	idNames
	idCTime
	idATime
	idMTime
	idWinAttributes
	idComment
	idEncodedHeader
	idStartPos
	idDummy
)

// header is what the header says, in slices over its bytes where it can be: an
// archive may have very many members.
type header struct {
	main       streamsInfo
	files      int
	names      []uint32 // offsets of the names in next
	empty      bitVector
	emptyFile  bitVector // over those that are empty
	anti       bitVector // the same
	hasAttr    bitVector
	attributes []byte
}

// streamsInfo says where packed streams are, and what is made of them.
type streamsInfo struct {
	packAt    int64 // after the signature header
	packSizes []int64
	folders   []folder
	// substreams are the sizes of what the folders hold, one after the other.
	// nil where there is one in each.
	substreams []substream
	first      []int32 // of each folder in substreams; one more at the end
}

type substream struct {
	size   int64
	crc    uint32
	hasCRC bool
}

// folder is a run of packed streams and the coders that unpack them.
type folder struct {
	coders []coder // the one whose output is the folder's comes last
	packed int     // number of the first packed stream
	packs  int
	at     int64 // of that in the file
	length int64
	sizes  []int64 // that come out, in the order of coders
	crc    uint32
	hasCRC bool
	why    error // it cannot be decoded
}

// coder is a step of decoding, with one stream in and one out.
type coder struct {
	method uint64
	props  []byte
}

func (f *folder) size() int64 { return f.sizes[len(f.sizes)-1] }

// count is the number of streams in a folder.
func (s *streamsInfo) count(folder int) int {
	if s.substreams == nil {
		return 1
	}
	return int(s.first[folder+1] - s.first[folder])
}

// stream is one of the streams of a folder.
func (s *streamsInfo) stream(folder, n int) substream {
	f := &s.folders[folder]
	if s.substreams == nil {
		return substream{f.size(), f.crc, f.hasCRC}
	}
	return s.substreams[int(s.first[folder])+n]
}

// bitVector has the first bit of each byte in its highest one.
type bitVector []byte

func (v bitVector) has(i int) bool { return i>>3 < len(v) && v[i>>3]&(0x80>>(i&7)) != 0 }

func (v bitVector) count(n int) int {
	k := 0
	for i, b := range v {
		if rest := n - 8*i; rest < 8 {
			b &^= 0xff >> max(rest, 0)
		}
		k += bits.OnesCount8(b)
	}
	return k
}

// parser reads a header. Every count is checked against the bytes that are
// left before anything is allocated.
type parser struct {
	a   *Archive
	b   []byte
	pos int
}

func (p *parser) left() int { return len(p.b) - p.pos }

func (p *parser) errorf(layout string, args ...any) error {
	return broken(p.a.headerAt, "byte %d of the header: %s", p.pos, fmt.Sprintf(layout, args...))
}

func (p *parser) byte() (byte, error) {
	if p.left() < 1 {
		return 0, p.errorf("it ends here")
	}
	p.pos++
	return p.b[p.pos-1], nil
}

func (p *parser) bytes(n uint64) ([]byte, error) {
	if n > uint64(p.left()) {
		return nil, p.errorf("%d bytes are wanted and %d are left", n, p.left())
	}
	p.pos += int(n)
	return p.b[p.pos-int(n) : p.pos], nil
}

// number reads an integer: the ones at the top of the first byte say how many
// bytes follow.
func (p *parser) number() (uint64, error) {
	first, err := p.byte()
	if err != nil {
		return 0, err
	}
	extra := bits.LeadingZeros8(^first)
	rest, err := p.bytes(uint64(extra))
	if err != nil {
		return 0, err
	}
	var v uint64
	for i, b := range rest {
		v |= uint64(b) << (8 * i)
	}
	if extra < 7 {
		v |= uint64(first&(0x7f>>extra)) << (8 * extra)
	}
	return v, nil
}

// size reads a number of bytes.
func (p *parser) size() (int64, error) {
	n, err := p.number()
	if err == nil && n > math.MaxInt64/2 {
		err = p.errorf("a size of %d bytes", n)
	}
	return int64(n), err
}

// count reads a number of things of which each takes bytes of the header.
func (p *parser) count(what string) (int, error) {
	n, err := p.number()
	if err == nil && n > uint64(p.left()) {
		err = p.errorf("%d %s do not fit", n, what)
	}
	return int(n), err
}

// want reads an id that must come here.
func (p *parser) want(id byte) error {
	got, err := p.byte()
	if err == nil && got != id {
		p.pos--
		err = p.errorf("the property %#x stands where %#x is expected", got, id)
	}
	return err
}

// inline demands that what follows is here, and not in a stream of its own.
func (p *parser) inline() error {
	external, err := p.byte()
	if err == nil && external != 0 {
		err = fmt.Errorf("a header of which parts are in streams of their own: %w", ErrUnsupported)
	}
	return err
}

// vector reads n bits.
func (p *parser) vector(n int) (bitVector, error) {
	return p.bytes((uint64(n) + 7) / 8)
}

// optional reads n bits that are left out when all are set.
func (p *parser) optional(n int) (bitVector, error) {
	all, err := p.byte()
	if err != nil || all == 0 {
		v, verr := p.vector(n)
		if err == nil {
			err = verr
		}
		return v, err
	}
	v := make(bitVector, (n+7)/8)
	for i := range v {
		v[i] = 0xff
	}
	return v, nil
}

// digests reads the checksums of n things.
func (p *parser) digests(n int, set func(i int, crc uint32)) error {
	defined, err := p.optional(n)
	if err != nil {
		return err
	}
	b, err := p.bytes(4 * uint64(defined.count(n)))
	if err != nil {
		return err
	}
	for i := range n {
		if defined.has(i) {
			set(i, binary.LittleEndian.Uint32(b))
			b = b[4:]
		}
	}
	return nil
}

// streams reads a StreamsInfo.
func (p *parser) streams() (*streamsInfo, error) {
	s := &streamsInfo{}
	last := byte(0)
	for {
		id, err := p.byte()
		if err != nil {
			return s, err
		}
		switch {
		case id == idEnd:
			return s, p.places(s)
		case id <= last:
			return s, p.errorf("the property %#x is not in its place", id)
		case id == idPackInfo:
			err = p.packs(s)
		case id == idUnpackInfo:
			err = p.folders(s)
		case id == idSubStreams:
			err = p.subStreams(s)
		default:
			err = p.errorf("the property %#x is unknown", id)
		}
		if err != nil {
			return s, err
		}
		last = id
	}
}

// packs reads where packed streams are.
func (p *parser) packs(s *streamsInfo) error {
	var err error
	if s.packAt, err = p.size(); err != nil {
		return err
	}
	n, err := p.count("packed streams")
	if err != nil {
		return err
	}
	if err := p.want(idSize); err != nil {
		return err
	}
	if n > p.left() {
		return p.errorf("%d packed streams do not fit", n)
	}
	s.packSizes = make([]int64, n)
	total := s.packAt
	for i := range s.packSizes {
		if s.packSizes[i], err = p.size(); err != nil {
			return err
		}
		// Each is less than half of what fits, and so is the sum before it.
		if total += s.packSizes[i]; total > p.a.size-startSize {
			return p.errorf("the packed streams reach behind the end of the file")
		}
	}
	id, err := p.byte()
	if err == nil && id == idCRC {
		// No reader looks at these; what is unpacked has checksums.
		if err = p.digests(n, func(int, uint32) {}); err == nil {
			id, err = p.byte()
		}
	}
	if err == nil && id != idEnd {
		err = p.errorf("the property %#x is unknown", id)
	}
	return err
}

// folders reads how packed streams are unpacked.
func (p *parser) folders(s *streamsInfo) error {
	if err := p.want(idFolder); err != nil {
		return err
	}
	n, err := p.count("folders")
	if err != nil {
		return err
	}
	if n > p.a.lim.Members {
		return fmt.Errorf("%d folders: %w", n, ErrLimit)
	}
	if err := p.inline(); err != nil {
		return err
	}
	s.folders = make([]folder, n)
	outs := make([]order, n)
	for i := range s.folders {
		if outs[i], err = p.folder(&s.folders[i]); err != nil {
			return err
		}
	}
	if err := p.want(idCodersUnpackSize); err != nil {
		return err
	}
	for i := range s.folders {
		if err := p.unpackSizes(&s.folders[i], outs[i]); err != nil {
			return err
		}
	}
	id, err := p.byte()
	if err == nil && id == idCRC {
		err = p.digests(n, func(i int, crc uint32) { s.folders[i].crc, s.folders[i].hasCRC = crc, true })
		if err == nil {
			id, err = p.byte()
		}
	}
	if err == nil && id != idEnd {
		err = p.errorf("the property %#x is unknown", id)
	}
	return err
}

// unpackSizes reads the sizes of what a folder's coders give, and puts them
// into the order of decoding.
func (p *parser) unpackSizes(f *folder, o order) error {
	sizes := make([]int64, o.outs)
	for i := range sizes {
		var err error
		if sizes[i], err = p.size(); err != nil {
			return err
		}
	}
	f.sizes = make([]int64, 0, len(o.at))
	for _, i := range o.at {
		f.sizes = append(f.sizes, sizes[i])
	}
	return nil
}

// subStreams reads what the folders hold.
func (p *parser) subStreams(s *streamsInfo) error {
	n := len(s.folders)
	s.first = make([]int32, n+1)
	for i := range s.first {
		s.first[i] = int32(i)
	}
	id, err := p.byte()
	if err == nil && id == idNumUnpackStream {
		total := 0
		for i := range n {
			k, err := p.count("streams")
			if err != nil {
				return err
			}
			if total += k; total > p.a.lim.Members {
				return fmt.Errorf("more than %d members: %w", p.a.lim.Members, ErrLimit)
			}
			s.first[i+1] = int32(total)
		}
		id, err = p.byte()
	}
	if err != nil {
		return err
	}
	s.substreams = make([]substream, s.first[n])
	hasSizes := id == idSize
	for i := range n {
		if err := p.subSizes(s, i, hasSizes); err != nil {
			return err
		}
	}
	if hasSizes {
		if id, err = p.byte(); err != nil {
			return err
		}
	}
	if id == idCRC {
		if err := p.subDigests(s); err != nil {
			return err
		}
		if id, err = p.byte(); err != nil {
			return err
		}
	}
	if id != idEnd {
		return p.errorf("the property %#x is unknown", id)
	}
	return nil
}

// subSizes reads the sizes of the streams in one folder but for the last, which
// has what is left.
func (p *parser) subSizes(s *streamsInfo, i int, given bool) error {
	f := &s.folders[i]
	list := s.substreams[s.first[i]:s.first[i+1]]
	if len(list) == 0 {
		return nil
	}
	if len(list) > 1 && !given {
		return p.errorf("the sizes of %d streams are missing", len(list))
	}
	rest := f.size()
	for k := range list[:len(list)-1] {
		n, err := p.size()
		if err != nil {
			return err
		}
		if n > rest {
			return p.errorf("the streams are longer than their folder")
		}
		list[k].size, rest = n, rest-n
	}
	list[len(list)-1].size = rest
	if len(list) == 1 {
		list[0].crc, list[0].hasCRC = f.crc, f.hasCRC
	}
	return nil
}

// subDigests reads the checksums that the folders do not give.
func (p *parser) subDigests(s *streamsInfo) error {
	var unset []int32
	for i := range s.substreams {
		if !s.substreams[i].hasCRC {
			unset = append(unset, int32(i))
		}
	}
	return p.digests(len(unset), func(i int, crc uint32) {
		t := &s.substreams[unset[i]]
		t.crc, t.hasCRC = crc, true
	})
}

// places tells each folder where its packed streams lie.
func (p *parser) places(s *streamsInfo) error {
	pack, at := 0, startSize+s.packAt
	for i := range s.folders {
		f := &s.folders[i]
		if f.packs > len(s.packSizes)-pack {
			return p.errorf("the folders want more packed streams than there are")
		}
		if len(f.sizes) == 0 {
			return p.errorf("a folder without sizes")
		}
		f.at, f.packed = at, pack
		for _, n := range s.packSizes[pack : pack+f.packs] {
			f.length += n
		}
		at, pack = at+f.length, pack+f.packs
	}
	if pack < len(s.packSizes) {
		p.a.remark(Outside, at, "%d packed streams belong to no folder", len(s.packSizes)-pack)
		p.a.Gaps = append(p.a.Gaps, [2]int64{at, startSize + s.packAt + total(s.packSizes)})
	}
	return nil
}

func total(sizes []int64) int64 {
	n := int64(0)
	for _, v := range sizes {
		n += v
	}
	return n
}

// parse reads the header.
func (a *Archive) parse() error {
	p := &parser{a: a, b: a.next}
	if err := p.want(idHeader); err != nil {
		return err
	}
	last := byte(idHeader)
	for {
		id, err := p.byte()
		if err != nil {
			return err
		}
		switch {
		case id == idEnd:
			if p.left() > 0 {
				a.remark(Outside, a.headerAt, "%d bytes follow the last record of the header", p.left())
			}
			return a.consistent()
		case id <= last:
			return p.errorf("the property %#x is not in its place", id)
		case id == idArchiveProperties:
			err = p.archiveProperties()
		case id == idAdditionalStreams:
			err = fmt.Errorf("a header of which parts are in streams of their own: %w", ErrUnsupported)
		case id == idMainStreams:
			var s *streamsInfo
			if s, err = p.streams(); err == nil {
				a.main = *s
				a.claim(s, "a packed stream")
			}
		case id == idFiles:
			err = p.filesInfo()
		default:
			err = p.errorf("the property %#x is unknown", id)
		}
		if err != nil {
			return err
		}
		last = id
	}
}

// archiveProperties are free to use, and nobody writes them.
func (p *parser) archiveProperties() error {
	for {
		id, err := p.number()
		if err != nil {
			return err
		}
		if id == idEnd {
			return nil
		}
		n, err := p.number()
		if err != nil {
			return err
		}
		if _, err := p.bytes(n); err != nil {
			return err
		}
		p.a.remark(Free, p.a.headerAt, "a property of the archive, %d bytes", n)
	}
}
