// Package hdf5 reads the tensors of HDF5 files: plain ones, and the weights
// that Keras, TensorFlow and Transformers save in them.
//
// Source: the HDF5 File Format Specification, version 3.0. Read are the
// superblocks 0 to 3, object headers 1 and 2, groups of the old and new kind,
// compact, contiguous and chunked datasets of numbers under every chunk index,
// and the filters deflate, shuffle and fletcher32. Checksums of what is read
// are verified. Nothing outside the file is ever followed.
//
// A tensor has the dataset's path as its name, without the first slash:
// "layers/dense/vars/0" (Keras 3), "model_weights/dense/dense/kernel:0" (Keras
// 2), "bert/embeddings/weight:0" (Transformers). The slashes stay, because
// Keras layers and TensorFlow variables have dots of their own, and because
// these are the names that h5py and Keras themselves show.
package hdf5

import (
	"fmt"
	"io"

	"github.com/weightseal/weightseal/format"
)

const name = "hdf5"

// Limits are budgets. A zero field stands for its default.
type Limits struct {
	Objects  int   // groups, datasets and links that are walked; 1,000,000
	Depth    int   // of groups in each other; 64
	Metadata int64 // bytes of headers, heaps and indices that are read; 256 MiB
	Chunks   int   // chunks of all datasets; 2,000,000
	// Slab is how many bytes of a chunked dataset may be held decoded: the
	// chunks side by side along all dimensions but the first; 64 MiB.
	Slab int64
	// Total is how many bytes of tensors may come out of a file; 64 times its
	// size, or 1 GiB if that is more. Compression and fill values could else
	// make terabytes of nothing.
	Total int64
	// Inflate is how many bytes of a compressed archive member may be held in
	// memory; 128 MiB. For Keras archives.
	Inflate int64
}

func (l Limits) withDefaults(size int64) Limits {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def64 := func(p *int64, v int64) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.Objects, 1_000_000)
	def(&l.Depth, 64)
	def(&l.Chunks, 2_000_000)
	def64(&l.Metadata, 256<<20)
	def64(&l.Slab, 64<<20)
	def64(&l.Inflate, 128<<20)
	def64(&l.Total, max(1<<30, 64*min(size, 1<<56)))
	return l
}

// Options says what to take of a file.
type Options struct {
	// Select is the path of a group, joined by slashes: only what is in it is
	// taken, under names that begin there. "." or "" is the root.
	Select string
	Limits Limits

	keras  bool  // out of a Keras archive
	origin int64 // of the HDF5 file in the source file; negative: not there as it is
}

// Open reads the structure of an HDF5 file of size bytes, and no tensor.
//
// Groups that hold an optimizer's state ("optimizer_weights" and "optimizer" at
// the root) are left out, unless Select leads there; attributes, empty
// dataspaces and links that lead nowhere are listed in Dropped. Errors are
// *format.Error, where the file is broken or a budget is spent, and
// *format.UnsupportedError.
//
// The storages whose Offset is negative are decoded on reading; they may be
// read concurrently, and share one slab of memory.
func Open(r io.ReaderAt, size int64, opt Options) (*format.Checkpoint, error) {
	f := &file{r: r, size: size, lim: opt.Limits.withDefaults(size), opt: opt, slab: new(slab)}
	root, err := f.superblock()
	if err != nil {
		return nil, err
	}
	w := newWalker(f)
	if err := w.run(root); err != nil {
		return nil, err
	}
	return w.checkpoint()
}

// file is an open HDF5 file.
type file struct {
	r    io.ReaderAt
	size int64
	lim  Limits
	opt  Options
	slab *slab // of all chunked datasets

	base   int64 // of all addresses
	width  int   // bytes of an address
	length int   // bytes of a length
	spent  int64 // bytes of metadata
	chunks int   // of all datasets
	where  string
}

// undefined is the address of what is not there.
const undefined = -1

// bad makes the error about the byte at an address; negative for none.
func (f *file) bad(addr int64, msg string, args ...any) error {
	at := int64(-1)
	if addr >= 0 {
		at = f.base + addr
		if f.opt.origin > 0 {
			at += f.opt.origin
		}
	}
	return &format.Error{Format: name, Where: f.where, Offset: at, Detail: fmt.Sprintf(msg, args...)}
}

func (f *file) unsupported(next, what string, args ...any) error {
	return &format.UnsupportedError{Format: name, Where: f.where, What: fmt.Sprintf(what, args...), Next: next}
}

// What to do about what is not read.
const (
	nextSelect = "take the group that holds the weights: --select GROUP"
	nextPlain  = "save the dataset again with a plain type of numbers"
	nextRepack = "pack it again plainly: h5repack -f NONE -l CONTI IN OUT"
	nextCopy   = "put all data into one file: h5repack IN OUT, or copy the datasets with h5py"
)

// within says whether n bytes at an address lie in the file.
func (f *file) within(addr, n int64) bool {
	return addr >= 0 && n >= 0 && addr <= f.size-f.base && n <= f.size-f.base-addr
}

// spend takes n bytes off the budget for metadata.
func (f *file) spend(addr, n int64) error {
	if f.spent += n; f.spent > f.lim.Metadata {
		return f.bad(addr, "more than %d bytes of headers, heaps and indices", f.lim.Metadata)
	}
	return nil
}

// block reads n bytes of metadata at an address.
func (f *file) block(addr, n int64, what string) (*cursor, error) {
	if addr < 0 {
		return nil, f.bad(undefined, "%s has no address", what)
	}
	if !f.within(addr, n) {
		return nil, f.bad(addr, "%s of %d bytes reaches past the end of the file", what, n)
	}
	if err := f.spend(addr, n+32); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if got, err := f.r.ReadAt(b, f.base+addr); got < len(b) {
		return nil, fmt.Errorf("reading %s at %d: %w", what, f.base+addr, err)
	}
	return &cursor{f: f, b: b, at: addr, what: what}, nil
}

// signed reads a block that begins with a signature and, after it, a version.
func (f *file) signed(addr, n int64, sig string, version byte, what string) (*cursor, error) {
	c, err := f.block(addr, n, what)
	if err != nil {
		return nil, err
	}
	if got := c.bytes(4); c.err == nil && string(got) != sig {
		return nil, f.bad(addr, "%s begins with %q and not with %s", what, got, sig)
	}
	if v := c.u8(); c.err == nil && v != version {
		return nil, f.bad(addr, "%s has version %d", what, v)
	}
	return c, c.err
}
