package oci

import (
	"context"
	"errors"
	"io"
	"sync"
)

// errBodyEnded is given to whoever delivers to, or reads from, a body that
// the connection has closed before its end: after a refused token, say.
var errBodyEnded = errors.New("the connection took no more of the upload")

// chunkBody is a request body fed by deliver. No byte is copied but into the
// connection: deliver returns when its chunk has been taken, and nobody looks
// at the chunk after that.
type chunkBody struct {
	size int64

	mu    sync.Mutex
	moved *sync.Cond
	cur   []byte // what is left of the chunk being taken
	busy  bool   // a write of cur is under way, outside mu
	took  int64  // bytes taken
	ended bool
	err   error // why it ended; nil for properly
}

// newChunkBody makes a body of size bytes that ends with ctx. stop releases
// it.
func newChunkBody(ctx context.Context, size int64) (b *chunkBody, stop func() bool) {
	b = &chunkBody{size: size}
	b.moved = sync.NewCond(&b.mu)
	return b, context.AfterFunc(ctx, func() { b.end(context.Cause(ctx)) })
}

// deliver hands one chunk over and waits until it was taken to its end.
func (b *chunkBody) deliver(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.cur = p
		b.moved.Broadcast()
	}
	for b.busy || (len(b.cur) > 0 && !b.ended) {
		b.moved.Wait()
	}
	left := len(b.cur)
	b.cur = nil
	if b.ended && (left > 0 || b.took < b.size) {
		return b.why()
	}
	return nil
}

func (b *chunkBody) why() error {
	if b.err == nil {
		return errBodyEnded
	}
	return b.err
}

// end says that no more comes: for a reason or, with nil, because that was
// all. Only the first call counts.
func (b *chunkBody) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.ended, b.err = true, err
		b.moved.Broadcast()
	}
}

// finished says whether every byte was taken.
func (b *chunkBody) finished() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.took == b.size
}

// await gives, with mu held, whether there is something to take, or why not.
// Only one may take at a time: a request that is sent again, for a token or on
// another connection, can begin while the first is still writing.
func (b *chunkBody) await() error {
	for (b.busy || len(b.cur) == 0) && !b.ended && b.took < b.size {
		b.moved.Wait()
	}
	switch {
	case b.took == b.size:
		return io.EOF
	case b.ended:
		return b.why()
	}
	return nil
}

// Read is the way of encrypted connections.
func (b *chunkBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.await(); err != nil {
		return 0, err
	}
	n := copy(p, b.cur)
	b.advance(n)
	return n, nil
}

// advance notes, with mu held, that n bytes of cur were taken.
func (b *chunkBody) advance(n int) {
	b.cur = b.cur[n:]
	b.took += int64(n)
	if len(b.cur) == 0 {
		b.moved.Broadcast()
	}
}

// writeTo writes at most limit bytes of the body to w, whole chunks at a
// time: the way of plain connections, which spares a copy.
func (b *chunkBody) writeTo(w io.Writer, limit int64) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var total int64
	for total < limit {
		if err := b.await(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		p := b.cur
		if int64(len(p)) > limit-total {
			p = p[:limit-total]
		}
		b.busy = true
		b.mu.Unlock()
		n, err := w.Write(p)
		b.mu.Lock()
		b.busy = false
		b.advance(n)
		b.moved.Broadcast()
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Close is called by the connection, when it is done with the body or wants
// no more of it.
func (b *chunkBody) Close() error {
	b.end(errBodyEnded)
	return nil
}
