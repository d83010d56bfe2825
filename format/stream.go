package format

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// ErrInflated says that compressed content is larger than allowed.
var ErrInflated = errors.New("compressed content is larger than allowed")

// streamWindow is how far a Stream goes back without beginning anew.
const streamWindow = 256 << 10

// Stream gives random access to what a decompressor gives in order: going on
// costs nothing, going back more than the window begins anew. It may be used
// concurrently.
type Stream struct {
	open  func() (io.Reader, error)
	limit int64
	among *Streams // nil for one alone

	mu     sync.Mutex
	r      io.Reader
	window []byte
	at     int64 // of window[0]
	end    error // what the reader ended with
}

// NewStream makes a stream over what open gives, anew each time, and which
// may be at most limit bytes long.
func NewStream(limit int64, open func() (io.Reader, error)) *Stream {
	return &Stream{open: open, limit: limit}
}

// ReadAt reads bytes of the content; io.EOF past its end.
func (s *Stream) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("negative offset %d", off)
	}
	s.among.used(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		if err := s.seek(off); err != nil {
			return n, err
		}
		k := copy(p[n:], s.window[off-s.at:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// seek makes the byte at off part of the window.
func (s *Stream) seek(off int64) error {
	if s.r == nil || off < s.at {
		r, err := s.open()
		if err != nil {
			return err
		}
		if s.window == nil {
			s.window = make([]byte, 0, min(s.limit+1, streamWindow))
		}
		s.r, s.window, s.at, s.end = r, s.window[:0], 0, nil
	}
	for idle := 0; off >= s.at+int64(len(s.window)); {
		if s.end != nil {
			return s.end
		}
		n, err := s.more()
		switch {
		case err != nil:
			s.end = err
		case n > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// more reads on, and forgets the first half of a full window.
func (s *Stream) more() (int, error) {
	if len(s.window) == cap(s.window) {
		half := len(s.window) / 2
		s.at += int64(half)
		s.window = s.window[:copy(s.window, s.window[half:])]
	}
	k := len(s.window)
	n, err := s.r.Read(s.window[k:cap(s.window)])
	s.window = s.window[:k+n]
	if s.at+int64(len(s.window)) > s.limit {
		return n, fmt.Errorf("%w: more than %d bytes", ErrInflated, s.limit)
	}
	return n, err
}

// release lets go of the decompressor and its window: the next read begins
// anew. A stream that is being read keeps them.
func (s *Stream) release() {
	if s.mu.TryLock() {
		s.r, s.window = nil, nil
		s.mu.Unlock()
	}
}

// openStreams is how many streams of one file stay open.
const openStreams = 16

// Streams are the streams of one file. Those read last stay open and the others
// are let go, so that an archive of many members takes the memory of a few.
type Streams struct {
	mu   sync.Mutex
	last []*Stream // the one read last is at the end
}

// New makes a stream as NewStream does.
func (g *Streams) New(limit int64, open func() (io.Reader, error)) *Stream {
	return &Stream{open: open, limit: limit, among: g}
}

// used notes that s is about to be read.
func (g *Streams) used(s *Stream) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.last); n > 0 && g.last[n-1] == s {
		return
	}
	g.last = append(slices.DeleteFunc(g.last, func(o *Stream) bool { return o == s }), s)
	if len(g.last) > openStreams {
		g.last[0].release()
		g.last = slices.Delete(g.last, 0, 1)
	}
}
