package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// lookers is how many files Load looks into at a time: a source can be far.
const lookers = 8

// Load lists a source and looks at the first bytes of each file (and the
// directory of archives). Paths that CheckPaths refuses are an error, unless
// the source says so itself (Entry.Refused), and so is a file that cannot be read.
func Load(ctx context.Context, name string, src Source) (*Model, error) {
	entries, err := src.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	paths := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.Refused {
			paths = append(paths, e.Path)
		}
	}
	if err := CheckPaths(paths); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := &Model{Name: name, Files: make([]File, len(entries)), Source: src}
	if err := m.look(ctx, entries); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := m.sets(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return m, nil
}

// look fills in what each file is, several at a time, and gives the first error
// by path.
func (m *Model) look(ctx context.Context, entries []Entry) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(entries))
	todo := make(chan int)
	var all sync.WaitGroup
	for range min(lookers, len(entries)) {
		all.Go(func() {
			for i := range todo {
				if m.Files[i], errs[i] = lookAt(ctx, m.Source, entries[i]); errs[i] != nil {
					cancel()
				}
			}
		})
	}
feed:
	for i := range entries {
		select {
		case todo <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(todo)
	all.Wait()
	return firstError(context.Cause(ctx), errs)
}

// firstError prefers what went wrong over what was then given up.
func firstError(cause error, errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return cause
}

// lookAt says what one file is.
func lookAt(ctx context.Context, src Source, e Entry) (File, error) {
	if err := ctx.Err(); err != nil {
		return File{}, err
	}
	b, err := src.Open(ctx, e.Path)
	if err != nil {
		return File{}, err
	}
	defer b.Close()
	if b.Size() != e.Size {
		return File{}, fmt.Errorf("%s: %w: %d bytes when listed, %d when opened", e.Path, ErrChanged, e.Size, b.Size())
	}
	content, err := Sniff(b, b.Size())
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", e.Path, err)
	}
	f := File{Entry: e, Declared: DeclaredFormat(e.Path), Training: isTraining(e.Path)}
	f.Format = refine(content, f.Declared)
	f.Role = roleOf(e.Path, f.Format, f.Declared)
	return f, nil
}
