package scan

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/weightseal/weightseal/format/xz"
	"github.com/weightseal/weightseal/model"
)

// opener starts a decompressor from the beginning, which keeps at most window
// bytes of what it wrote.
type opener struct {
	start func(window int64) (io.ReadCloser, error)
	keeps bool // the window is of some size; that of Deflate and bzip2 is nothing beside it
}

// smallMember is the size up to which decompressed content is kept whole.
const smallMember = 4 << 20

// inflated gives random access to decompressed content. size is the length if
// it is known, and negative otherwise. Content that is longer than said is an
// error, so that nothing hides behind a small number.
func inflated(at place, open opener, size int64) (io.ReaderAt, int64, error) {
	r, err := open.start(at.window())
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = r.Close() }()
	first, err := io.ReadAll(io.LimitReader(&charged{r, at.budget}, at.whole()+1))
	if err != nil {
		return partly(first, err)
	}
	if int64(len(first)) <= at.whole() {
		if n := restOf(r); n > 0 {
			return partly(first, &trailingError{n})
		}
		if size >= 0 && int64(len(first)) != size {
			return partly(first, fmt.Errorf("holds %d bytes, %d are declared", len(first), size))
		}
		return bytes.NewReader(first), int64(len(first)), nil
	}
	n, err := io.Copy(io.Discard, &charged{r, at.budget})
	n += int64(len(first))
	if err != nil {
		return partly(first, err)
	}
	if k := restOf(r); k > 0 {
		return partly(first, &trailingError{k})
	}
	if size >= 0 && n != size {
		return partly(first, fmt.Errorf("holds %d bytes, %d are declared", n, size))
	}
	holds := int64(rewindWindow)
	if open.keeps {
		holds += at.window()
	}
	return &rewinding{open: open, place: at, size: n, holds: holds}, n, nil
}

// partly gives what was decompressed before an error: a loader has seen it.
func partly(b []byte, err error) (io.ReaderAt, int64, error) {
	return bytes.NewReader(b), int64(len(b)), err
}

// charged counts decompressed bytes against the budget.
type charged struct {
	r      io.Reader
	shared *budget
}

func (c *charged) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if berr := c.shared.inflate(int64(n)); berr != nil {
		return n, berr
	}
	return n, err
}

// rewinding is random access to a decompressed stream: it goes forward, keeps
// a window for short steps back, and starts again for longer ones.
type rewinding struct {
	open  opener
	place place
	size  int64
	holds int64 // bytes of memory, with all decompressors

	mu     sync.Mutex
	r      io.ReadCloser
	window []byte
	at     int64 // of window[0]
}

const rewindWindow = 1 << 20

func (w *rewinding) ReadAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(p) {
		if off >= w.size {
			return n, io.EOF
		}
		if err := w.seek(off); err != nil {
			return n, err
		}
		k := copy(p[n:], w.window[off-w.at:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// seek makes the byte at off part of the window.
func (w *rewinding) seek(off int64) error {
	if w.r == nil || off < w.at {
		if w.r != nil {
			_ = w.r.Close()
		}
		r, err := w.open.start(w.place.window())
		if err != nil {
			return err
		}
		w.r, w.window, w.at = r, make([]byte, 0, rewindWindow), 0
	}
	for off >= w.at+int64(len(w.window)) {
		if len(w.window) == cap(w.window) {
			half := len(w.window) / 2
			w.window = append(w.window[:0], w.window[half:]...)
			w.at += int64(half)
		}
		k := len(w.window)
		n, err := (&charged{w.r, w.place.budget}).Read(w.window[k:cap(w.window)])
		w.window = w.window[:k+n]
		if n == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func flateOpener(r io.ReaderAt, off, n int64) opener {
	return opener{start: func(int64) (io.ReadCloser, error) {
		in := newExact(r, off, n)
		return &exactReader{flate.NewReader(in), in}, nil
	}}
}

// exact is a stream that decompressors take byte by byte, so that it knows
// where they stopped.
type exact struct {
	*bufio.Reader
	left int64
}

func newExact(r io.ReaderAt, off, n int64) *exact {
	return &exact{bufio.NewReaderSize(io.NewSectionReader(r, off, n), 64<<10), n}
}

func (e *exact) ReadByte() (byte, error) {
	b, err := e.Reader.ReadByte()
	if err == nil {
		e.left--
	}
	return b, err
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.left -= int64(n)
	return n, err
}

// exactReader decompresses a stream, and knows how much of it is left.
type exactReader struct {
	io.ReadCloser
	in *exact
}

func (e *exactReader) rest() int64 { return e.in.left }

// restOf is the number of bytes that follow the end of compressed data; 0
// where the decompressor itself sees to that.
func restOf(r io.ReadCloser) int64 {
	if e, ok := r.(*exactReader); ok {
		return e.rest()
	}
	return 0
}

// trailingError says that bytes follow the end of compressed data.
type trailingError struct{ n int64 }

func (e *trailingError) Error() string {
	return fmt.Sprintf("%d bytes follow the compressed data", e.n)
}

// compressedOpener gives the decompressor for a single-stream format; one
// without start where there is none.
func compressedOpener(f model.Format, r io.ReaderAt, size int64) opener {
	section := func() io.Reader { return io.NewSectionReader(r, 0, size) }
	switch f {
	case model.Gzip:
		return opener{start: func(int64) (io.ReadCloser, error) { return gzip.NewReader(section()) }}
	case model.Zlib:
		return opener{start: func(int64) (io.ReadCloser, error) {
			in := newExact(r, 0, size)
			z, err := zlib.NewReader(in)
			if err != nil {
				return nil, err
			}
			return &exactReader{z, in}, nil
		}}
	case model.Bzip2:
		return opener{start: func(int64) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(section())), nil }}
	case model.Zstd:
		return opener{keeps: true, start: func(window int64) (io.ReadCloser, error) {
			d, err := zstd.NewReader(section(), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(uint64(max(window, zstd.MinWindowSize))))
			if err != nil {
				return nil, err
			}
			return d.IOReadCloser(), nil
		}}
	case model.XZ:
		return opener{keeps: true, start: func(window int64) (io.ReadCloser, error) { return xz.NewWindowReader(section(), window) }}
	case model.LZMA:
		return opener{keeps: true, start: func(window int64) (io.ReadCloser, error) { return xz.NewWindowLZMAReader(section(), window) }}
	}
	return opener{}
}

// scanCompressed judges what a compressed file holds.
func scanCompressed(ctx context.Context, r *report, f model.File, b model.Blob) error {
	open := compressedOpener(f.Format, b, b.Size())
	if open.start == nil {
		r.add("WS-ARCHIVE-009", 0, "a %s archive is not opened", f.Format)
		return nil
	}
	place := nest(b)
	ra, size, err := inflated(place, open, -1)
	var trailing *trailingError
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case errors.As(err, &trailing):
			at := b.Size() - trailing.n
			r.add("WS-ARCHIVE-002", at, "%v", err)
			if err := (nested{}).scanAt(ctx, r, place, fmt.Sprintf("bytes %d-%d", at, b.Size()),
				io.NewSectionReader(b, at, trailing.n), trailing.n); err != nil {
				return err
			}
		case errors.Is(err, errLimit), errors.Is(err, xz.ErrLimit), errors.Is(err, zstd.ErrWindowSizeExceeded):
			r.add("WS-LIMIT-001", -1, "the decompressed content: %v", err)
		case errors.Is(err, xz.ErrUnsupported):
			r.add("WS-ARCHIVE-009", 0, "%v", err)
		default:
			r.add("WS-ARCHIVE-007", -1, "%v", err)
		}
	}
	if size == 0 {
		return nil
	}
	return nested{}.scanAt(ctx, r, place, innerName(f.Path), ra, size)
}
