package hdf5

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/weightseal/weightseal/format"
)

const (
	kerasName    = "keras"
	kerasWeights = "model.weights.h5"

	// mostDirectory bounds what is read to list an archive.
	mostDirectory = 32 << 20
)

// OpenKeras reads the weights of a Keras 3 archive (".keras": a zip of
// config.json, metadata.json and model.weights.h5; keras/src/saving/saving_lib.py).
// The other members are listed in Dropped. Of the weights, size and place come
// from the directory of the archive.
//
// Weights that are stored, as Keras does it, stay where they are: contiguous
// tensors are ranges of the archive. Compressed ones are inflated into memory,
// up to Limits.Inflate.
func OpenKeras(r io.ReaderAt, size int64, opt Options) (*format.Checkpoint, error) {
	lim := opt.Limits.withDefaults(size)
	z, err := zip.NewReader(&directoryReader{r: r, left: mostDirectory}, size)
	if err != nil {
		return nil, kerasError("", -1, "not a zip archive: %v", err)
	}
	var weights *zip.File
	var others []format.Dropped
	for _, m := range z.File {
		switch m.Name {
		case kerasWeights:
			if weights != nil {
				return nil, kerasError(kerasWeights, -1, "is in the archive twice")
			}
			weights = m
		default:
			if m.FileInfo().IsDir() {
				continue
			}
			others = append(others, format.Dropped{Path: m.Name, Kind: "file", Reason: kerasReason(m.Name)})
		}
	}
	if weights == nil {
		return nil, kerasError(kerasWeights, -1, "is not in the archive")
	}
	opt.keras, opt.Limits = true, lim
	src, n, err := kerasMember(r, size, weights, &opt)
	if err != nil {
		return nil, err
	}
	ck, err := Open(src, n, opt)
	if err != nil {
		return nil, err
	}
	ck.Dropped = append(ck.Dropped, others...)
	return ck, nil
}

func kerasReason(member string) string {
	switch member {
	case "config.json":
		return "is the architecture of the model"
	case "metadata.json":
		return "says what version of Keras wrote the model"
	}
	return "is no weights"
}

func kerasError(where string, at int64, msg string, args ...any) error {
	return &format.Error{Format: kerasName, Where: where, Offset: at, Detail: fmt.Sprintf(msg, args...)}
}

// kerasMember opens the weights of an archive, and notes in opt where they lie.
func kerasMember(r io.ReaderAt, size int64, m *zip.File, opt *Options) (io.ReaderAt, int64, error) {
	const encrypted = 1
	if m.Flags&encrypted != 0 {
		return nil, 0, &format.UnsupportedError{Format: kerasName, Where: m.Name, What: "encrypted member", Next: "pack the archive again without a password"}
	}
	at, err := m.DataOffset()
	if err != nil {
		return nil, 0, kerasError(m.Name, -1, "%v", err)
	}
	if m.CompressedSize64 > math.MaxInt64 || at < 0 || at > size || int64(m.CompressedSize64) > size-at {
		return nil, 0, kerasError(m.Name, at, "%d bytes reach past the end of the archive", m.CompressedSize64)
	}
	stored := int64(m.CompressedSize64)
	if m.Method == zip.Store {
		if m.UncompressedSize64 != m.CompressedSize64 {
			return nil, 0, kerasError(m.Name, at, "stored in %d bytes, and has %d", m.CompressedSize64, m.UncompressedSize64)
		}
		opt.origin = at
		return io.NewSectionReader(r, at, stored), stored, nil
	}
	if limit := opt.Limits.Inflate; m.UncompressedSize64 > uint64(limit) {
		return nil, 0, &format.UnsupportedError{
			Format: kerasName, Where: m.Name, What: fmt.Sprintf("compressed member of %d bytes, more than the %d that are held in memory", m.UncompressedSize64, limit),
			Next: "unpack the weights and convert them: unzip FILE.keras " + kerasWeights,
		}
	}
	b, err := inflateMember(m, r, at, stored)
	if err != nil {
		return nil, 0, err
	}
	opt.origin = -1
	return bytes.NewReader(b), int64(len(b)), nil
}

// inflateMember inflates a member whose size is within the limit.
func inflateMember(m *zip.File, r io.ReaderAt, at, stored int64) ([]byte, error) {
	if m.Method != zip.Deflate {
		return nil, &format.UnsupportedError{
			Format: kerasName, Where: m.Name, What: fmt.Sprintf("member compressed with method %d", m.Method),
			Next: "unpack the weights and convert them: unzip FILE.keras " + kerasWeights,
		}
	}
	in, err := inflateZip(io.NewSectionReader(r, at, stored), int64(m.UncompressedSize64), m.CRC32)
	if err != nil {
		return nil, kerasError(m.Name, at, "%v", err)
	}
	return in, nil
}

// directoryReader bounds how much is read for the directory.
type directoryReader struct {
	r    io.ReaderAt
	left int64
}

func (d *directoryReader) ReadAt(p []byte, off int64) (int, error) {
	if d.left -= int64(len(p)); d.left < 0 {
		return 0, errors.New("its directory is too large")
	}
	return d.r.ReadAt(p, off)
}
