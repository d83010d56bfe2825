package model

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// local is a file on disk, opened once.
type local struct {
	*io.SectionReader // of the size at opening: a file that grows does not show
	f                 *os.File
	path              string      // as the source names it
	info              fs.FileInfo // at opening
}

// openLocal opens target, the file that path stands for.
func openLocal(path, target string) (Blob, error) {
	f, err := os.OpenFile(target, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrNotFollowed, path)
	}
	return &local{SectionReader: io.NewSectionReader(f, 0, info.Size()), f: f, path: path, info: info}, nil
}

// Close closes the file.
func (l *local) Close() error { return l.f.Close() }

// Unchanged compares the open file, and the file that the path leads to now,
// with what was opened.
func (l *local) Unchanged() error {
	info, err := l.f.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w: %w", l.path, ErrChanged, err)
	}
	if why := difference(l.info, info); why != "" {
		return fmt.Errorf("%s: %w: %s", l.path, ErrChanged, why)
	}
	if info, err = os.Stat(l.path); err != nil {
		return fmt.Errorf("%s: %w: %w", l.path, ErrChanged, err)
	}
	if !os.SameFile(l.info, info) {
		return fmt.Errorf("%s: %w: another file is in its place", l.path, ErrChanged)
	}
	if why := difference(l.info, info); why != "" {
		return fmt.Errorf("%s: %w: %s", l.path, ErrChanged, why)
	}
	return nil
}

// difference says how a file differs from what it was.
func difference(was, is fs.FileInfo) string {
	switch {
	case was.Size() != is.Size():
		return fmt.Sprintf("%d bytes when opened, %d now", was.Size(), is.Size())
	case !was.ModTime().Equal(is.ModTime()):
		return fmt.Sprintf("modified at %s, after it was opened", is.ModTime().Format("15:04:05.000"))
	case changeTime(was) != changeTime(is):
		return "its attributes or content were changed after it was opened"
	}
	return ""
}

// File is the open file, for those who can let the kernel copy from it. They
// must not move its offset or close it.
func (l *local) File() *os.File { return l.f }
