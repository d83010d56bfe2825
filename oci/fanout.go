package oci

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
)

const (
	// chunkSize is the unit in which bytes walk from a reader to those who
	// hash, send and store them: large enough that hand-overs cost nothing,
	// small enough to stay in a processor's cache on the way.
	chunkSize = 256 << 10
	// chunksInFlight bounds the memory of one transfer.
	chunksInFlight = 8
)

// chunk is a buffer on its way. It is free again when every sink is done
// with it.
type chunk struct {
	buf  []byte
	n    int
	left atomic.Int32
}

// bufferPool lends the chunks' buffers. It never blocks, so transfers cannot
// wait for each other.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *chunk {
	if c, ok := p.pool.Get().(*chunk); ok {
		return c
	}
	return &chunk{buf: make([]byte, chunkSize)}
}

func (p *bufferPool) put(c *chunk) { p.pool.Put(c) }

// sink takes every byte once and in order. It must not keep p.
type sink func(p []byte) error

// fanOut reads until read gives io.EOF and hands each chunk to all sinks,
// which run beside each other and beside the reading. It returns when all of
// them have stopped: the first error, or the cancellation's cause. Memory is
// chunksInFlight buffers, whatever is read.
func fanOut(ctx context.Context, pool *bufferPool, read func(p []byte) (int, error), sinks ...sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	free := make(chan *chunk, chunksInFlight)
	for range chunksInFlight {
		free <- nil // buffers are taken from the pool when first needed
	}
	queues := make([]chan *chunk, len(sinks))
	var wg sync.WaitGroup
	for i, s := range sinks {
		queues[i] = make(chan *chunk, chunksInFlight)
		wg.Go(func() { drain(ctx, cancel, queues[i], free, s) })
	}

	err := feed(ctx, pool, free, queues, read)
	if err != nil {
		cancel(err)
	}
	for _, q := range queues {
		close(q)
	}
	wg.Wait()
	for range chunksInFlight {
		select {
		case c := <-free:
			if c != nil {
				pool.put(c)
			}
		default: // lost in a transfer that failed
		}
	}
	return context.Cause(ctx)
}

// feed is the reading side of fanOut.
func feed(ctx context.Context, pool *bufferPool, free chan *chunk, queues []chan *chunk, read func(p []byte) (int, error)) error {
	for {
		var c *chunk
		select {
		case <-ctx.Done():
			return nil // the cause is already set
		case c = <-free:
		}
		if c == nil {
			c = pool.get()
		}
		n, err := read(c.buf)
		if n > 0 {
			c.n = n
			c.left.Store(int32(len(queues)))
			for _, q := range queues {
				q <- c // never blocks: a queue holds all chunks
			}
		} else {
			free <- c
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// drain is one sink's side of fanOut.
func drain(ctx context.Context, cancel context.CancelCauseFunc, queue, free chan *chunk, s sink) {
	failed := false
	for c := range queue {
		if !failed && ctx.Err() == nil {
			if err := s(c.buf[:c.n]); err != nil {
				failed = true
				cancel(err)
			}
		}
		if c.left.Add(-1) == 0 {
			free <- c
		}
	}
}
