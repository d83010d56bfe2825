package convert

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"os"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// Plan is a converted file: an io.ReaderAt over its source. It is immutable
// and may be read concurrently and again and again; the bytes are always the
// same as long as the source is.
type Plan struct {
	Path    string // of the output, relative
	Format  model.Format
	Source  SourceFile
	Subtree string
	// Header of the safetensors file that is written, or, writing another
	// format, one that the tensors that go into it would have.
	Header  *safetensors.Header
	Aliases []Alias
	// Dropped, Notes and Renamed are about the whole source. Where several
	// files come out of it, the first one has them.
	Dropped []format.Dropped
	Notes   []torch.Finding
	// Renamed lists the tensors that go by another name than in the source.
	Renamed []Renamed
	// Warnings say what a reader of the output may stumble over.
	Warnings []string
	// InOrder says that the output reads the source front to back.
	InOrder bool

	blob     model.Blob
	source   *shared // how many plans read from blob
	shards   []*Plan // the others of the same source, on the first of them
	closed   atomic.Bool
	segments []segment
	size     int64
	tensors  []planned // in output order
	sums     *crcs     // output with checksums in it; nil otherwise
	reopen   func() (map[string]io.ReaderAt, error)
	seed     maphash.Seed
	scratch  sync.Pool
	cache    blockCache
}

// SourceFile is what was converted.
type SourceFile struct {
	Path   string
	Format model.Format
	Size   int64
	// Parts lists the files of a source that is several, in the order in
	// which they are read as one; Size is that of all together.
	Parts []SourcePart
}

// Renamed is a tensor that goes by another name.
type Renamed struct{ From, To string }

// shared counts the plans that read from one blob.
type shared struct{ plans atomic.Int32 }

// Alias is a name that was left out because it is the same memory, shape and
// strides as the kept name; safetensors metadata records it (removed -> kept).
type Alias struct{ Removed, Kept string }

// planned is a tensor of the output: where its bytes go, and where the
// checkpoint says that they lie.
type planned struct {
	name     string
	dtype    safetensors.DType
	shape    []uint64
	from, to int64 // output
	origin   origin
}

// segment is a stretch of the output. Exactly one of literal, src, gather and
// late is set.
type segment struct {
	at, size int64

	literal []byte
	src     io.ReaderAt // bytes from "from" on, changed by form
	from    int64
	gather  *gather // blocks, changed by form
	form    element
	late    func() ([]byte, error) // known only when the data was read

	file   bool // src is the source file, at the file's offsets
	summed int  // 1 + number of the checksum over these bytes; 0 for none
}

func (s *segment) plain() bool { return s.src != nil && s.file && !s.form.changes() }

// newPlan starts the plan of a blob.
func newPlan(in Input, to model.Format) *Plan {
	p := &Plan{
		Path:   OutputPath(in.Path, to),
		Format: to,
		Source: SourceFile{Path: in.Path, Format: in.Format, Size: in.Blob.Size()},
		blob:   in.Blob,
		seed:   maphash.MakeSeed(),
	}
	for _, part := range in.Parts {
		p.Source.Parts = append(p.Source.Parts, SourcePart{part.Path, part.Blob.Size()})
	}
	p.scratch.New = func() any { return new([scratchSize]byte) }
	return p
}

// add appends a segment; ranges of the source that continue each other become
// one.
func (p *Plan) add(s segment) error {
	if s.size == 0 {
		return nil
	}
	if s.size > math.MaxInt64-p.size {
		return fmt.Errorf("output passes %d bytes", int64(math.MaxInt64))
	}
	s.at = p.size
	p.size += s.size
	if k := len(p.segments) - 1; k >= 0 {
		last := &p.segments[k]
		if last.plain() && s.plain() && last.summed == s.summed && last.from+last.size == s.from {
			last.size += s.size
			return nil
		}
	}
	p.segments = append(p.segments, s)
	return nil
}

// settle computes what follows from the finished list of segments.
func (p *Plan) settle() {
	p.InOrder = true
	var at int64
	for i := range p.segments {
		s := &p.segments[i]
		if s.literal != nil || s.late != nil {
			continue
		}
		if s.gather != nil || !s.file || s.from < at {
			p.InOrder = false
			return
		}
		at = s.from + s.size
	}
}

// Size is the exact length of the output in bytes.
func (p *Plan) Size() int64 { return p.size }

// Close closes the source, when all plans over it are closed.
func (p *Plan) Close() error {
	if p.source != nil && (p.closed.Swap(true) || p.source.plans.Add(-1) > 0) {
		return nil
	}
	return p.blob.Close()
}

// Unchanged says whether the source is still what was planned from.
func (p *Plan) Unchanged() error { return p.blob.Unchanged() }

// ReadAt reads the output. A source that ends early gives an error that wraps
// io.ErrUnexpectedEOF.
//
// In a torch-zip output, the bytes after a tensor and the directory at the end
// hold checksums of tensors: they come for nothing when the output is read in
// order, and cost a reading of those tensors when it is not.
func (p *Plan) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("convert: read before the start of the output")
	}
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].at+p.segments[i].size > off })
	n := 0
	for ; n < len(b) && i < len(p.segments); i++ {
		s := &p.segments[i]
		in := off + int64(n) - s.at
		part := b[n:min(int64(len(b)), int64(n)+s.size-in)]
		if err := p.readSegment(i, part, in); err != nil {
			return n, p.sourceError(s, err)
		}
		n += len(part)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (p *Plan) sourceError(s *segment, err error) error {
	return fmt.Errorf("reading %s for output bytes %d to %d: %w", p.Source.Path, s.at, s.at+s.size, err)
}

// readSegment reads b at offset in of segment i.
func (p *Plan) readSegment(i int, b []byte, in int64) error {
	if err := p.readBytes(i, b, in); err != nil {
		return err
	}
	if s := &p.segments[i]; s.summed > 0 {
		p.sums.saw(s.summed-1, in, b)
	}
	return nil
}

// readBytes is readSegment without a look at the bytes.
func (p *Plan) readBytes(i int, b []byte, in int64) error {
	s := &p.segments[i]
	switch {
	case s.literal != nil:
		copy(b, s.literal[in:])
		return nil
	case s.late != nil:
		late, err := s.late()
		if err != nil {
			return err
		}
		copy(b, late[in:])
		return nil
	case s.gather != nil:
		return p.readGather(i, b, in)
	case s.form.changes():
		return s.readForm(b, in)
	}
	return readFull(s.src, b, s.from+in)
}

// readForm reads a range whose elements change: whole elements in place, cut
// ones beside it.
func (s *segment) readForm(b []byte, in int64) error {
	e := s.form.size
	if cut := in % e; cut != 0 {
		n, err := s.readCut(b, in-cut, cut)
		if err != nil {
			return err
		}
		b, in = b[n:], in+int64(n)
	}
	whole := int64(len(b)) / e * e
	if err := readFull(s.src, b[:whole], s.from+in); err != nil {
		return err
	}
	s.form.apply(b[:whole])
	if b = b[whole:]; len(b) > 0 {
		_, err := s.readCut(b, in+whole, 0)
		return err
	}
	return nil
}

// readCut reads the element at offset at and gives its bytes from cut on.
func (s *segment) readCut(b []byte, at, cut int64) (int, error) {
	var one [8]byte
	if err := readFull(s.src, one[:s.form.size], s.from+at); err != nil {
		return 0, err
	}
	s.form.apply(one[:s.form.size])
	return copy(b, one[cut:s.form.size]), nil
}

// readGather reads from the blocks of a gather: those that b holds whole are
// gathered in place, the others through the cache.
func (p *Plan) readGather(i int, b []byte, in int64) error {
	s := &p.segments[i]
	for len(b) > 0 {
		start, length, base, dims := s.gather.block(in)
		if start == in && length <= int64(len(b)) {
			if err := p.fill(s, b[:length], base, dims); err != nil {
				return err
			}
			b, in = b[length:], in+length
			continue
		}
		n, err := p.cache.read(b, i, start, length, in-start, start+length == s.size, func(buf []byte) error {
			return p.fill(s, buf, base, dims)
		})
		if err != nil {
			return err
		}
		b, in = b[n:], in+int64(n)
	}
	return nil
}

// fill gathers one block.
func (p *Plan) fill(s *segment, dst []byte, base int64, dims []dim) error {
	scratch := p.scratch.Get().(*[scratchSize]byte)
	defer p.scratch.Put(scratch)
	if err := s.gather.fill(dst, base, dims, scratch[:]); err != nil {
		return err
	}
	if s.form.changes() {
		s.form.apply(dst)
	}
	return nil
}

// blockCache holds the block that was gathered last, because readers that come
// with small buffers ask for it piece by piece. It holds at most maxBlock, and
// nothing once the end of the tensor was read.
type blockCache struct {
	mu      sync.Mutex
	segment int
	start   int64
	buf     []byte // nil: nothing held
}

// read copies from offset in of the block at start of a segment, which fill
// makes when it is not held. The last block of a segment is let go at its end.
func (c *blockCache) read(b []byte, segment int, start, length, in int64, last bool, fill func([]byte) error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil || c.segment != segment || c.start != start {
		if int64(cap(c.buf)) < length {
			c.buf = make([]byte, length)
		}
		buf := c.buf[:length]
		c.buf = nil
		if err := fill(buf); err != nil {
			return 0, err
		}
		c.buf, c.segment, c.start = buf, segment, start
	}
	n := copy(b, c.buf[in:])
	if last && in+int64(n) == length {
		c.buf = nil
	}
	return n, nil
}

// file gives the blob's file for kernel copies, nil when it has none.
func (p *Plan) file() *os.File {
	if f, ok := p.blob.(fileBlob); ok {
		return f.File()
	}
	return nil
}

// fileBlob is what a model.Blob has that is a plain local file: the offsets of
// the blob are those of the file.
type fileBlob interface{ File() *os.File }
