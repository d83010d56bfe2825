package oci

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"
)

// slowWriter takes its time outside the body's lock.
type slowWriter struct{ n int }

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	w.n += len(p)
	return len(p), nil
}

// Two connections may hold the same body for a moment, when a request is sent
// again. Each byte is taken once all the same.
func TestChunkBodyTwoTakers(t *testing.T) {
	t.Parallel()
	const chunks, size = 40, 1000
	body, stop := newChunkBody(context.Background(), chunks*size)
	defer stop()
	writers := []*slowWriter{{}, {}}
	var wg sync.WaitGroup
	for _, w := range writers {
		wg.Go(func() {
			if _, err := body.writeTo(w, chunks*size); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
	})
	for range chunks {
		if err := body.deliver(bytes.Repeat([]byte{1}, size)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if !body.finished() || writers[0].n+writers[1].n > chunks*size {
		t.Errorf("taken %d and %d of %d bytes", writers[0].n, writers[1].n, chunks*size)
	}
}
