package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/weightseal/weightseal/model"
)

// stdinName is what the file from standard input is called in reports.
const stdinName = "stdin"

// spooled is standard input as a source of one file, in a temporary file: what
// judges it needs random access.
type spooled struct {
	f    *os.File
	size int64
}

// spool copies at most limit bytes of in; more is an error, and never a scan of
// the first part.
func spool(ctx context.Context, in io.Reader, limit int64) (*spooled, error) {
	f, err := os.CreateTemp("", program+"-stdin-*")
	if err != nil {
		return nil, err
	}
	s := &spooled{f: f}
	n, err := io.Copy(f, io.LimitReader(&contextReader{ctx, in}, limit))
	s.size = n
	if err == nil {
		err = atEnd(in, limit)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if n == 0 {
		s.close()
		return nil, fail(exitError, errors.New("standard input is empty"), "pipe a tar, tar.gz or zip archive, or a file of a model: git archive HEAD | weightseal scan -")
	}
	return s, nil
}

func atEnd(in io.Reader, limit int64) error {
	var one [1]byte
	n, err := io.ReadFull(in, one[:])
	if n > 0 {
		return fail(exitError, fmt.Errorf("it is longer than %s", bytesText(limit)), "raise --stdin-limit, or scan a file or folder")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// close removes the temporary file.
func (s *spooled) close() {
	s.f.Close()
	os.Remove(s.f.Name())
}

func (s *spooled) List(context.Context) ([]model.Entry, error) {
	return []model.Entry{{Path: stdinName, Size: s.size}}, nil
}

func (s *spooled) Open(_ context.Context, path string) (model.Blob, error) {
	if path != stdinName {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return spooledBlob{io.NewSectionReader(s.f, 0, s.size)}, nil
}

type spooledBlob struct{ *io.SectionReader }

func (spooledBlob) Close() error     { return nil }
func (spooledBlob) Unchanged() error { return nil }
