package convert

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"sort"

	"github.com/weightseal/weightseal/internal/sha256x2"
	"github.com/weightseal/weightseal/model"
)

// Part is one file of a source that is several files.
type Part struct {
	Path string
	Blob model.Blob
}

// SourcePart is one file of what was converted.
type SourcePart struct {
	Path string
	Size int64
}

// PartDigest is one file of a source, and what the witness saw in it.
type PartDigest struct {
	Path   string
	Size   int64
	Digest string // SHA-256, hex
}

// joined reads several blobs as one: the second begins where the first ends.
type joined struct {
	parts []Part
	ends  []int64 // of each part in the whole
}

// join makes one blob of the parts; it owns them.
func join(parts []Part) (*joined, error) {
	j := &joined{parts: parts}
	var at int64
	for _, p := range parts {
		size := p.Blob.Size()
		if size < 0 || size > math.MaxInt64-at {
			return nil, fmt.Errorf("%s: the files together pass %d bytes", p.Path, int64(math.MaxInt64))
		}
		at += size
		j.ends = append(j.ends, at)
	}
	return j, nil
}

func (j *joined) Size() int64 {
	if len(j.ends) == 0 {
		return 0
	}
	return j.ends[len(j.ends)-1]
}

// ReadAt reads across the borders of the parts.
func (j *joined) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("convert: read before the start of the source")
	}
	n := 0
	i := sort.Search(len(j.ends), func(i int) bool { return j.ends[i] > off })
	for ; n < len(b) && i < len(j.ends); i++ {
		size := j.parts[i].Blob.Size()
		in := off + int64(n) - (j.ends[i] - size)
		part := b[n:min(int64(len(b)), int64(n)+size-in)]
		k, err := j.parts[i].Blob.ReadAt(part, in)
		n += k
		if k < len(part) {
			if err == nil || err == io.EOF { // the part is shorter than it was
				err = io.ErrUnexpectedEOF
			}
			return n, fmt.Errorf("%s: %w", j.parts[i].Path, err)
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Unchanged asks all parts.
func (j *joined) Unchanged() error {
	for _, p := range j.parts {
		if err := p.Blob.Unchanged(); err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
	}
	return nil
}

// Close closes all parts.
func (j *joined) Close() error { return closeParts(j.parts) }

func closeParts(parts []Part) error {
	var errs []error
	for _, p := range parts {
		errs = append(errs, p.Blob.Close())
	}
	return errors.Join(errs...)
}

// partDigests takes the digests of the parts of a source that is read front
// to back, beside that of the whole.
type partDigests struct {
	parts  []SourcePart
	next   int   // the part being read
	left   int64 // of it
	sum    hash.Hash
	digest [][sha256.Size]byte
}

func newPartDigests(parts []SourcePart) *partDigests {
	d := &partDigests{parts: parts}
	if len(parts) > 0 {
		d.sum, d.left = sha256.New(), parts[0].Size
	}
	return d
}

// write takes the next bytes, and adds them to whole.
func (d *partDigests) write(b []byte, whole hash.Hash) {
	if len(d.parts) == 0 {
		whole.Write(b)
		return
	}
	for len(b) > 0 {
		d.finish()
		n := min(int64(len(b)), d.left)
		sha256x2.Write(d.sum, whole, b[:n])
		b, d.left = b[n:], d.left-n
	}
}

// finish closes the parts that are complete, empty ones too.
func (d *partDigests) finish() {
	for d.next < len(d.parts) && d.left == 0 {
		var sum [sha256.Size]byte
		d.sum.Sum(sum[:0])
		d.digest = append(d.digest, sum)
		d.sum.Reset()
		if d.next++; d.next < len(d.parts) {
			d.left = d.parts[d.next].Size
		}
	}
}

// all gives the digests when everything went through.
func (d *partDigests) all() []PartDigest {
	d.finish()
	var out []PartDigest
	for i, sum := range d.digest {
		out = append(out, PartDigest{d.parts[i].Path, d.parts[i].Size, hex.EncodeToString(sum[:])})
	}
	return out
}
