package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/model"
)

// Pull downloads files into dir, which must exist and be empty: through
// verifying readers, several at a time. On failure complete files stay in
// dir, which is the caller's to remove; a file that is incomplete or wrong is
// removed. Nothing is written outside dir, whatever the paths are, and no
// byte is fetched unless all of them are good. Files are not synced to disk.
//
// progress may be nil; it is never called twice at the same time.
func Pull(ctx context.Context, s Store, files []File, dir string, opt Options, progress func(Event)) error {
	total, err := checkFiles(files)
	if err != nil {
		return err
	}
	if err := checkSpace(dir, total); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()

	p := &puller{root: root, store: rawOf(s), out: &outlet{progress: progress}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(opt.concurrency())
	for _, f := range largestFilesFirst(files) {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			if err := p.file(gctx, f); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			return nil
		})
	}
	err = g.Wait()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// checkFiles checks all paths and descriptors, and gives the sum of sizes.
func checkFiles(files []File) (total int64, err error) {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
		if err := checkBlobDescriptor(f.Descriptor); err != nil {
			return 0, fmt.Errorf("%s: %w", f.Path, err)
		}
		if f.Size > math.MaxInt64-total {
			return 0, fmt.Errorf("%s: the sizes of all files overflow", f.Path)
		}
		total += f.Size
	}
	if err := model.CheckPaths(paths); err != nil {
		return 0, err
	}
	return total, model.CheckNames(runtime.GOOS, paths)
}

func largestFilesFirst(files []File) []File {
	order := append([]File(nil), files...)
	sort.SliceStable(order, func(i, j int) bool { return order[i].Size > order[j].Size })
	return order
}

type puller struct {
	root    *os.Root
	store   rawStore
	out     *outlet
	buffers bufferPool
}

// file downloads one file.
func (p *puller) file(ctx context.Context, f File) (err error) {
	tell := p.out.teller(f.Path, f.Size)
	tell("download", 0)
	name := filepath.FromSlash(f.Path)
	if dir := path.Dir(f.Path); dir != "." {
		if err := p.root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return err
		}
	}
	w, err := p.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = p.root.Remove(name)
		}
	}()
	if err := p.content(ctx, f, w, tell); err != nil {
		return err
	}
	p.out.event(Event{Path: f.Path, Phase: "done", Done: f.Size, Total: f.Size})
	return nil
}

// content reads, hashes and writes, beside each other, and verifies.
func (p *puller) content(ctx context.Context, f File, w io.Writer, tell report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	src, err := p.store.fetchRaw(ctx, f.Descriptor)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()

	h, written := sha256.New(), int64(0)
	err = fanOut(ctx, &p.buffers, boundedReader(src, f), hashSink(h), func(b []byte) error {
		n, err := w.Write(b)
		written += int64(n)
		tell("download", written)
		if err != nil {
			err = &localError{err}
			cancel(err) // the reading may be waiting for the network
		}
		return err
	})
	if err == nil {
		got := "sha256:" + hex.EncodeToString(h.Sum(nil))
		if got == f.Digest.String() && written == f.Size {
			return nil
		}
		err = &DigestError{What: "blob", Want: f.Digest.String(), Got: got, WantSize: f.Size, GotSize: written}
	}
	var local *localError
	if errors.As(err, &local) {
		return local.err
	}
	return p.store.blame(ctx, "download blob", f.Descriptor, err)
}

// boundedReader fills whole chunks, and fails on the first byte too many.
func boundedReader(src io.Reader, f File) func(b []byte) (int, error) {
	var total int64
	return func(b []byte) (int, error) {
		n, err := io.ReadFull(src, b)
		total += int64(n)
		if total > f.Size {
			return 0, &DigestError{What: "blob", Want: f.Digest.String(), WantSize: f.Size, GotSize: total}
		}
		if err == io.ErrUnexpectedEOF && n > 0 {
			err = nil // the next call sees the end again
		}
		return n, err
	}
}
