package convert

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// copyStep is how much is written between two looks at the context.
const copyStep = 32 << 20

// WriteFile writes the output to path, by kernel copies where a range of the
// source is taken as it is. It writes a temporary file beside path and
// renames it when all is there and the source is unchanged; on any failure
// nothing is left, and what was at path is untouched.
func (p *Plan) WriteFile(ctx context.Context, path string) error {
	return p.WriteFileProgress(ctx, path, nil)
}

// WriteFileProgress is WriteFile; progress, unless nil, is told after each
// step how many bytes of the output are written.
func (p *Plan) WriteFileProgress(ctx context.Context, path string, progress func(done int64)) (err error) {
	f, err := createPartial(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = withRemove(err, f.Name())
		}
	}()
	w := &fileWriter{plan: p, out: f, in: p.file(), progress: progress}
	if err := w.all(ctx); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := p.Unchanged(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// createPartial makes the temporary file for path, which must be new.
func createPartial(path string) (*os.File, error) {
	var random [6]byte
	for range 100 {
		if _, err := rand.Read(random[:]); err != nil {
			return nil, err
		}
		name := filepath.Join(filepath.Dir(path), "."+shorten(filepath.Base(path))+"."+hex.EncodeToString(random[:])+".partial")
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !os.IsExist(err) {
			return f, err
		}
	}
	return nil, fmt.Errorf("no free temporary name beside %s", path)
}

// shorten leaves room for the rest of the temporary name, of which file
// systems allow 255 bytes.
func shorten(base string) string { return strings.ToValidUTF8(base[:min(len(base), 200)], "") }

func withRemove(err error, name string) error {
	if bad := os.Remove(name); bad != nil && !os.IsNotExist(bad) {
		return fmt.Errorf("%w (and %w)", err, bad)
	}
	return err
}

// fileWriter writes a plan's segments to a file.
type fileWriter struct {
	plan     *Plan
	out, in  *os.File // in is nil when the source is no local file
	progress func(int64)
	buf      []byte
}

func (w *fileWriter) all(ctx context.Context) error {
	for i := range w.plan.segments {
		s := &w.plan.segments[i]
		for at := int64(0); at < s.size; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := w.step(s, at)
			if err != nil {
				return err
			}
			at += n
			if w.progress != nil {
				w.progress(s.at + at)
			}
		}
	}
	return nil
}

// step writes the next part of a segment.
func (w *fileWriter) step(s *segment, at int64) (int64, error) {
	if w.in != nil && s.plain() && s.summed == 0 && s.size >= directRun {
		n, err := kernelCopy(w.out, s.at+at, w.in, s.from+at, min(copyStep, s.size-at))
		if n > 0 || err != nil {
			return n, err
		}
		w.in = nil // the kernel cannot do it between these two files
	}
	return w.copy(s, at)
}

// copy writes through a buffer; gathers come in whole blocks.
func (w *fileWriter) copy(s *segment, at int64) (int64, error) {
	n := min(minBlock, s.size-at)
	if s.gather != nil {
		_, n, _, _ = s.gather.block(at)
	}
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	b := w.buf[:n]
	if _, err := w.plan.ReadAt(b, s.at+at); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	_, err := w.out.WriteAt(b, s.at+at)
	return n, err
}
