// Package joblib reads what joblib.dump writes: a pickle in which the bytes of
// each array follow the object that describes it, the whole perhaps
// compressed. Nothing is unpickled.
//
// Source: joblib/numpy_pickle.py (NumpyArrayWrapper) and joblib/compressor.py.
package joblib

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/xz"
)

// Limits bounds what reading may use.
type Limits = numpy.Limits

const (
	wholeInMemory = 16 << 20 // decompressed content that is kept whole
	smallArray    = 64 << 10 // an array that is kept as it comes by
	smallArrays   = 16 << 20 // all of them
)

// Open reads a joblib file, and any other pickle of arrays. Where the file is
// compressed, the storages have a Key, and those of one file a Stream.
// Estimators and arrays that safetensors cannot hold give a
// *format.UnsupportedError, globals that no array needs a *numpy.ForbiddenError.
func Open(r io.ReaderAt, size int64, lim Limits) (*format.Checkpoint, error) {
	d := &dump{name: "joblib", r: r, end: size, lim: lim, whole: wholeInMemory, small: smallArrays, arrays: map[*pickle.Call]*found{}}
	if lim.Window > 0 {
		d.whole, d.small = min(d.whole, lim.Window/4), min(d.small, lim.Window/4)
	}
	open, err := decompressor(r, size, lim.Window)
	if err != nil {
		return nil, err
	}
	if open == nil {
		d.storage = d.inFile
	} else if err := d.decompressed(open, lim.InflateLimit(size)); err != nil {
		return nil, err
	}
	opt := numpy.PickleOptions{Limits: lim, Format: d.name, Storage: d.storage, Array: d.array, Known: map[string]bool{wrapperName: true}, InOrder: d.stream}
	opt.Limits.Pickle.AfterBuild = d.after
	ck, s, err := numpy.LoadPickle(d.r, d.end, opt)
	var forbidden *numpy.ForbiddenError
	if d.err != nil && !errors.As(err, &forbidden) {
		return nil, d.err
	}
	if err != nil {
		return nil, err
	}
	return ck, d.ends(s.End)
}

// decompressor tells by the first bytes how a file is compressed; nil for one
// that is not.
func decompressor(r io.ReaderAt, size, window int64) (func() (io.Reader, error), error) {
	head := make([]byte, min(size, 6))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, err
	}
	var start func(io.Reader) (io.Reader, error)
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		start = func(in io.Reader) (io.Reader, error) { return gzip.NewReader(in) }
	case bytes.HasPrefix(head, []byte("BZh")):
		start = bzip2Reader
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		start = func(in io.Reader) (io.Reader, error) { return xz.NewWindowReader(in, window) }
	case bytes.HasPrefix(head, []byte("\x5d\x00")):
		start = func(in io.Reader) (io.Reader, error) { return xz.NewWindowLZMAReader(in, window) }
	case len(head) > 2 && head[0] == 0x78 && (int(head[0])<<8|int(head[1]))%31 == 0:
		start = zlibReader
	case bytes.HasPrefix(head, []byte("\x04\x22\x4d\x18")):
		return nil, &format.UnsupportedError{Format: "joblib", What: "file compressed with lz4", Next: "dump it again: joblib.dump(OBJECT, FILE, compress=0)"}
	case bytes.HasPrefix(head, []byte("ZF")):
		return nil, &format.UnsupportedError{Format: "joblib", What: "file of a joblib before 0.10", Next: "load it with joblib and dump it again"}
	}
	if start == nil {
		return nil, nil
	}
	return func() (io.Reader, error) {
		in, err := start(bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10))
		return &explained{in}, explain(err)
	}, nil
}

// zlibReader reads one stream, and demands that nothing follows.
//
//nolint:unparam // one of several ways to start
func bzip2Reader(in io.Reader) (io.Reader, error) { return bzip2.NewReader(in), nil }

func zlibReader(in io.Reader) (io.Reader, error) {
	br := bufio.NewReader(in)
	z, err := zlib.NewReader(br)
	return &alone{z, br}, err
}

type alone struct {
	io.Reader
	in *bufio.Reader
}

func (a *alone) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err == io.EOF {
		if _, more := a.in.ReadByte(); more != io.EOF {
			return n, errors.New("bytes follow the compressed data")
		}
	}
	return n, err
}

// explained says where the errors of a decompressor come from.
type explained struct{ io.Reader }

func (e *explained) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	return n, explain(err)
}

func explain(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errors.Is(err, xz.ErrLimit) {
		return fmt.Errorf("joblib: the compressed data cannot be read: %w", err)
	}
	return &format.Error{Format: "joblib", Offset: -1, Detail: "the compressed data cannot be read: " + err.Error()}
}

// dump is a file that joblib wrote.
type dump struct {
	name    string
	r       io.ReaderAt // the pickle, decompressed
	end     int64
	lim     Limits
	stream  bool
	whole   int64 // bytes up to which decompressed content is kept whole
	small   int64 // bytes of small arrays that may still be kept
	storage func(off, n int64) *format.Storage
	arrays  map[*pickle.Call]*found
	err     error // why an array cannot be taken
}

// found is an array that lies in the stream.
type found struct {
	tensor *format.Tensor
	err    error
}

func (d *dump) inFile(off, n int64) *format.Storage {
	return &format.Storage{Data: io.NewSectionReader(d.r, off, n), Length: n, Offset: off}
}

// decompressed sets the dump to a file's decompressed content: in memory where
// that is small.
func (d *dump) decompressed(open func() (io.Reader, error), limit int64) error {
	in, err := open()
	if err != nil {
		return err
	}
	all, err := io.ReadAll(io.LimitReader(in, d.whole+1))
	if err != nil {
		return err
	}
	if int64(len(all)) <= d.whole {
		d.r, d.end = bytes.NewReader(all), int64(len(all))
		d.storage = func(off, n int64) *format.Storage {
			return &format.Storage{Data: io.NewSectionReader(d.r, off, n), Length: n, Offset: -1}
		}
		return nil
	}
	// How long it is shows only at its end: the machine is told the limit,
	// and reads no further than the stream goes.
	d.r, d.end, d.stream = format.NewStream(limit, open), limit, true
	d.storage = d.inStream
	return nil
}

func (d *dump) inStream(off, n int64) *format.Storage {
	if n <= smallArray && n <= d.small {
		b := make([]byte, n)
		if got, err := d.r.ReadAt(b, off); int64(got) == n || err == nil {
			d.small -= n
			return &format.Storage{Data: bytes.NewReader(b), Length: n, Offset: -1}
		}
	}
	return &format.Storage{Data: io.NewSectionReader(d.r, off, n), Length: n, Offset: -1,
		Key: strconv.FormatInt(off, 10) + "+" + strconv.FormatInt(n, 10), Stream: "joblib", At: off}
}

// ends checks that nothing follows the pickle.
func (d *dump) ends(at int64) error {
	var one [1]byte
	n, err := d.r.ReadAt(one[:], at)
	switch {
	case n > 0:
		return &format.Error{Format: d.name, Offset: at, Detail: "bytes follow the pickle"}
	case err != nil && err != io.EOF:
		return err
	}
	return nil
}

func (d *dump) broken(at int64, layout string, args ...any) error {
	return &format.Error{Format: d.name, Offset: at, Detail: fmt.Sprintf(layout, args...)}
}
