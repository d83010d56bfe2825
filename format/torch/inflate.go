package torch

import (
	"bufio"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
)

// inflater reads a deflated record by random access. Reading in order costs
// one pass; going back begins anew. It never gives more than the declared
// size, and demands that the compressed data ends exactly there.
type inflater struct {
	src          io.ReaderAt
	off          int64 // of the compressed data
	stored, size int64
	name         string

	mu  sync.Mutex
	in  *bufio.Reader // nil while nothing is open
	out io.ReadCloser
	pos int64
}

func newInflater(src io.ReaderAt, off, stored, size int64, name string) *inflater {
	return &inflater{src: src, off: off, stored: stored, size: size, name: name}
}

// ReadAt reads inflated bytes. It may be called concurrently.
func (f *inflater) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("torch: %s: negative offset", quote(f.name))
	}
	if off >= f.size {
		return 0, io.EOF
	}
	short := f.size-off < int64(len(p))
	if short {
		p = p[:f.size-off]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.readAt(p, off)
	if err != nil {
		f.close()
		return n, f.explain(err)
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

func (f *inflater) readAt(p []byte, off int64) (int, error) {
	if f.in == nil || off < f.pos {
		f.in = bufio.NewReader(io.NewSectionReader(f.src, f.off, f.stored))
		f.out = flate.NewReader(f.in)
		f.pos = 0
	}
	if off > f.pos {
		n, err := io.CopyN(io.Discard, f.out, off-f.pos)
		f.pos += n
		if err != nil {
			return 0, err
		}
	}
	n, err := io.ReadFull(f.out, p)
	f.pos += int64(n)
	if err != nil {
		return n, err
	}
	if f.pos == f.size {
		return n, f.finish()
	}
	return n, nil
}

// finish checks that the data ends where it should, and lets the buffers go.
func (f *inflater) finish() error {
	var one [1]byte
	n, err := f.out.Read(one[:])
	if n > 0 {
		return errors.New("more data than declared")
	}
	if err != io.EOF {
		return err
	}
	if _, err := f.in.ReadByte(); err != io.EOF {
		return errors.New("bytes follow the compressed data")
	}
	f.close()
	return nil
}

func (f *inflater) close() { f.in, f.out = nil, nil }

func (f *inflater) explain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("less data than declared")
	}
	return fmt.Errorf("torch: %s: %w: %w", quote(f.name), ErrContainer, err)
}
