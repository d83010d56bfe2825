package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/scan"
)

// excludedFile is a file that was kept out: it was not opened. A folder's path
// ends in a slash.
type excludedFile struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	By      string `json:"by"`      // --include, --exclude or weightseal
	Pattern string `json:"pattern"` // of --exclude; "" for --include, which no pattern of matched
}

// scanSource is a model's files as a scan wants them: what is kept out is
// noted, a file that cannot be read does not hide the others, and the bytes
// read are counted.
type scanSource struct {
	model.Source
	include, exclude globs
	patterns         []string // of exclude

	excluded []excludedFile
	looking  atomic.Bool // while model.Load looks at the first bytes

	mu     sync.Mutex
	sizes  map[string]int64
	broken map[string]error
	pages  map[string]*pageSet
	remote map[string]int64 // bytes that came from a registry
}

func newScanSource(src model.Source, sel *selection) (*scanSource, error) {
	in, err := compileGlobs("include", sel.include)
	if err != nil {
		return nil, err
	}
	ex, err := compileGlobs("exclude", sel.exclude)
	if err != nil {
		return nil, err
	}
	return &scanSource{
		Source: src, include: in, exclude: ex, patterns: sel.exclude,
		sizes: map[string]int64{}, broken: map[string]error{}, pages: map[string]*pageSet{}, remote: map[string]int64{},
	}, nil
}

// List gives the files that are not kept out.
func (s *scanSource) List(ctx context.Context) ([]model.Entry, error) {
	all, err := model.Look(ctx, s.Source)
	if err != nil {
		return nil, err
	}
	for path, err := range all.Broken {
		s.fail(path, err)
	}
	for _, path := range all.LeftOut {
		s.excluded = append(s.excluded, excludedFile{Path: path, By: program})
	}
	var kept []model.Entry
	for _, e := range all.Entries {
		out := excludedFile{Path: e.Path, Size: e.Size}
		if i := s.exclude.which(e.Path); i >= 0 {
			out.By, out.Pattern = "--exclude", s.patterns[i]
		} else if len(s.include) > 0 && !s.include.match(e.Path) {
			out.By = "--include"
		} else {
			kept = append(kept, e)
			s.sizes[e.Path] = e.Size
			continue
		}
		s.excluded = append(s.excluded, out)
	}
	return kept, nil
}

// load makes the inventory. A file that cannot be read is in it, and opening it
// again gives the error: the scan then judges it unknown.
func (s *scanSource) load(ctx context.Context, name string) (*model.Model, error) {
	s.looking.Store(true)
	defer s.looking.Store(false)
	return model.Load(ctx, name, s)
}

// Open opens a file and counts what is read of it.
func (s *scanSource) Open(ctx context.Context, path string) (model.Blob, error) {
	s.mu.Lock()
	err, size := s.broken[path], s.sizes[path]
	s.mu.Unlock()
	if err != nil && s.looking.Load() {
		return unreadable(size), nil
	}
	if err != nil {
		return nil, err
	}
	b, err := s.Source.Open(ctx, path)
	if err == nil && b.Size() != size {
		err = errors.Join(fmt.Errorf("%w: %d bytes when listed, %d when opened", model.ErrChanged, size, b.Size()), b.Close())
	}
	if err == nil {
		return &countedBlob{Blob: b, source: s, path: path, pages: s.pagesOf(path, size)}, nil
	}
	if !s.looking.Load() || ctx.Err() != nil {
		return nil, err
	}
	s.fail(path, err)
	return unreadable(size), nil
}

func (s *scanSource) fail(path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken[path] == nil {
		s.broken[path] = err
	}
}

func (s *scanSource) pagesOf(path string, size int64) *pageSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages[path] == nil {
		s.pages[path] = &pageSet{size: size, seen: map[int64]*[64]uint64{}}
	}
	return s.pages[path]
}

// countedBlob is a file that is being read.
type countedBlob struct {
	model.Blob
	source *scanSource
	path   string
	pages  *pageSet
}

// ReadAt counts. While the inventory is made, a failure is kept for later and
// ends the file for whoever looks at it.
func (c *countedBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Blob.ReadAt(p, off)
	c.pages.add(off, n)
	if err != nil && !errors.Is(err, io.EOF) && c.source.looking.Load() && !errors.Is(err, context.Canceled) {
		c.source.fail(c.path, err)
		err = io.EOF
	}
	return n, err
}

// Close notes what came from a registry.
func (c *countedBlob) Close() error {
	if remote, ok := c.Blob.(interface{ Fetched() int64 }); ok {
		c.source.mu.Lock()
		c.source.remote[c.path] += remote.Fetched()
		c.source.mu.Unlock()
	}
	return c.Blob.Close()
}

// unreadable stands for a file that could not be opened, while the inventory is
// made.
type unreadable int64

func (u unreadable) Size() int64                         { return int64(u) }
func (unreadable) ReadAt(_ []byte, _ int64) (int, error) { return 0, io.EOF }
func (unreadable) Close() error                          { return nil }
func (unreadable) Unchanged() error                      { return nil }

// bytesRead is how much of a file was read, each page once; from a registry, the
// bytes that came.
func (s *scanSource) bytesRead(path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.remote[path]; ok {
		return n
	}
	return s.pages[path].bytes()
}

// pageSize is the unit in which files are read from a disk.
const pageSize = 4096

// pageSet is the pages of a file that were read: a bit for each, in groups of
// 64 words.
type pageSet struct {
	size int64

	mu   sync.Mutex
	seen map[int64]*[64]uint64
}

func (p *pageSet) add(off int64, n int) {
	if n <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for page := off / pageSize; page <= (off+int64(n)-1)/pageSize; page++ {
		group := p.seen[page>>12]
		if group == nil {
			group = new([64]uint64)
			p.seen[page>>12] = group
		}
		group[page>>6&63] |= 1 << (page & 63)
	}
}

// bytes is how many bytes the pages hold; the last page of a file may be short.
func (p *pageSet) bytes() int64 {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, group := range p.seen {
		for _, word := range group {
			n += int64(bits.OnesCount64(word)) * pageSize
		}
	}
	last := (p.size - 1) / pageSize
	if group := p.seen[last>>12]; p.size > 0 && group != nil && group[last>>6&63]>>(last&63)&1 == 1 {
		n -= (last+1)*pageSize - p.size
	}
	return n
}

// run makes the inventory and judges it. memory is that of scan.Scanner.
func (s *scanSource) run(ctx context.Context, name string, memory int64, bar *progress) (*model.Model, *scan.Report, error) {
	m, err := s.load(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if len(m.Files)+len(s.excluded) == 0 {
		return nil, nil, usage("see what is there: ls "+policy.ShellQuote(name), "%s: no files to scan", name)
	}
	if len(m.Files) == 0 && !slices.ContainsFunc(s.excluded, func(x excludedFile) bool { return x.By != program }) {
		return nil, nil, usage("scan the files themselves: weightseal scan "+policy.ShellQuote(s.excluded[0].Path), "%s: no files to scan but %s, which is never part of a model", name, s.excluded[0].Path)
	}
	if len(m.Files) == 0 {
		return nil, nil, usage("a pattern without a slash matches names in any folder: --include '*.bin'", "%s: --include and --exclude leave no file to scan", name)
	}
	tell := func(e scan.Event) { bar.scanned(e, s.bytesRead(e.Path)) }
	r, err := scan.Scanner{Detectors: scan.Default(), Memory: memory, Progress: tell}.Run(ctx, m)
	return m, r, err
}
