package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/model"
)

const (
	// readAhead is the unit of small reads: a header, a directory of an
	// archive and the records beside it come with one request each.
	readAhead = 256 << 10
	// cachedBlocks bounds what is kept of a blob: its start, its end and
	// what is being looked at.
	cachedBlocks = 4
	// maxDiscard is what is read away at most to reach an offset where the
	// registry ignores ranges.
	maxDiscard = 64 << 20
)

// Blob opens a blob for reading by range. Nothing is asked before the first
// read.
func (r *registry) Blob(ctx context.Context, d ocispec.Descriptor) (model.Blob, error) {
	if err := checkBlobDescriptor(d); err != nil {
		return nil, err
	}
	return &remoteBlob{r: r, ctx: ctx, d: d, ref: r.Reference(d.Digest.String())}, nil
}

// remoteBlob reads by HTTP ranges. Small reads go through a few cached
// blocks; large ones that follow each other share one open response.
type remoteBlob struct {
	r   *registry
	ctx context.Context
	d   ocispec.Descriptor
	ref string

	fetched atomic.Int64

	mu     sync.Mutex // for what follows
	blocks [cachedBlocks]block
	turn   int
	last   int64 // where the last large read ended
	stream *rangeStream
	closed bool
}

// block is a cached piece, at a multiple of readAhead.
type block struct {
	at   int64
	data []byte
}

func (b *remoteBlob) Size() int64 { return b.d.Size }

// Fetched is how many bytes of the blob have come from the registry so far:
// more than was read, as small reads come in blocks, or less, as blocks are
// read again.
func (b *remoteBlob) Fetched() int64 { return b.fetched.Load() }

// Unchanged is nil: a digest names one content.
func (b *remoteBlob) Unchanged() error { return nil }

func (b *remoteBlob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.stream.close()
	b.stream = nil
	b.blocks = [cachedBlocks]block{}
	return nil
}

// ReadAt implements io.ReaderAt.
func (b *remoteBlob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("blob %s: negative offset %d", b.d.Digest, off)
	}
	if off >= b.d.Size {
		return 0, io.EOF
	}
	end := error(nil)
	if left := b.d.Size - off; int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	read := b.readBlocks
	if len(p) >= readAhead {
		read = b.readLarge
	}
	n, err := read(p, off)
	if err != nil {
		return n, networkError(b.ctx, "read blob", b.ref, err)
	}
	return n, end
}

// readBlocks serves a small read from at most two blocks.
func (b *remoteBlob) readBlocks(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := (off + int64(n)) / readAhead * readAhead
		data, err := b.block(at)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[off+int64(n)-at:])
	}
	return n, nil
}

// block gets a block from the cache or the registry. Readers of one blob
// wait for each other here: they mostly want the same block.
func (b *remoteBlob) block(at int64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	for i := range b.blocks {
		if b.blocks[i].data != nil && b.blocks[i].at == at {
			return b.blocks[i].data, nil
		}
	}
	data := make([]byte, min(readAhead, b.d.Size-at))
	if err := b.readRange(data, at); err != nil {
		return nil, err
	}
	b.blocks[b.turn] = block{at: at, data: data}
	b.turn = (b.turn + 1) % cachedBlocks
	return data, nil
}

var errClosed = &localError{errors.New("read from a closed blob")}

// readLarge reads past the cache. A read that starts where the last one ended
// opens a response up to the blob's end, which the next reads continue.
func (b *remoteBlob) readLarge(p []byte, off int64) (int, error) {
	if !b.mu.TryLock() {
		return len(p), b.readRange(p, off) // another reader: keep out of its way
	}
	defer b.mu.Unlock()
	if b.closed {
		return 0, errClosed
	}
	if b.stream != nil && b.stream.at == off {
		n, err := io.ReadFull(b.stream, p)
		if err == nil {
			b.last = off + int64(n)
			return n, nil
		}
		if b.ctx.Err() != nil {
			return n, context.Cause(b.ctx)
		}
		// Broken: the range is asked for again, below.
	}
	b.stream.close()
	b.stream = nil
	if off == b.last && off > 0 {
		if n, err := b.openStream(p, off); err == nil {
			return n, nil
		}
	}
	if err := b.readRange(p, off); err != nil {
		return 0, err
	}
	b.last = off + int64(len(p))
	return len(p), nil
}

func (b *remoteBlob) openStream(p []byte, off int64) (int, error) {
	s, err := b.open(off, b.d.Size-off)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s, p)
	if err != nil {
		s.close()
		return n, err
	}
	b.stream, b.last = s, off+int64(n)
	return n, nil
}

// readRange fills p from off by one request of its own, with retries.
func (b *remoteBlob) readRange(p []byte, off int64) error {
	return b.r.retry(b.ctx, "read blob", b.ref, nil, func(int) error {
		s, err := b.open(off, int64(len(p)))
		if err != nil {
			return err
		}
		defer s.close()
		_, err = io.ReadFull(s, p)
		return err
	})
}

// rangeStream is the body of a ranged response.
type rangeStream struct {
	body  io.ReadCloser
	watch *stallWatch
	at    int64
	count *atomic.Int64 // bytes that came
}

func (s *rangeStream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.at += int64(n)
	s.count.Add(int64(n))
	if n > 0 {
		s.watch.progress()
	}
	return n, err
}

func (s *rangeStream) close() {
	if s != nil {
		_ = s.body.Close()
		s.watch.stop()
	}
}

// open asks for n bytes from off.
func (b *remoteBlob) open(off, n int64) (*rangeStream, error) {
	ctx, watch := watchStall(b.ctx, b.r.stall)
	resp, err := b.r.send(ctx, b.r.reader(), request{
		method: http.MethodGet, url: b.r.endpoint("blobs", b.d.Digest.String()),
		header: http.Header{"Range": {byteRange(off, n)}, "Accept-Encoding": {"identity"}},
		want:   []int{http.StatusPartialContent, http.StatusOK},
	})
	if err != nil {
		watch.stop()
		return nil, err
	}
	if err := b.position(resp, watch, off, n); err != nil {
		_ = resp.Body.Close()
		watch.stop()
		return nil, err
	}
	return &rangeStream{body: resp.Body, watch: watch, at: off, count: &b.fetched}, nil
}

func (b *remoteBlob) position(resp *http.Response, watch *stallWatch, off, n int64) error {
	if resp.StatusCode == http.StatusPartialContent {
		return checkContentRange(resp.Header, off, n, b.d.Size)
	}
	if l := resp.ContentLength; l >= 0 && l != b.d.Size {
		return &DigestError{What: "blob", Want: b.d.Digest.String(), WantSize: b.d.Size, GotSize: l}
	}
	if off > maxDiscard {
		return &UnsupportedError{What: "blob " + b.d.Digest.String(), Reason: "the registry does not serve byte ranges"}
	}
	return discard(resp.Body, off, watch)
}
