package safetensors

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/internal/sha256x2"
)

// TensorDigest identifies one name's tensor: the SHA-256 of its row-major
// little-endian bytes, in lower-case hex without a prefix.
type TensorDigest struct {
	Name   string
	DType  DType
	Shape  []uint64
	Digest string
}

// Digester is an io.Writer that takes a whole safetensors file from its first
// byte on and yields the digest of every tensor in it. It never fails; Sum
// reports a stream that ended early or ran on.
type Digester struct {
	h     *Header
	pos   uint64 // bytes of the file taken so far
	next  int    // the tensor being hashed
	hash  hash.Hash
	sums  [][sha256.Size]byte
	extra uint64 // bytes past the last tensor
}

// NewDigester prepares for the file that begins with header h, which ReadHeader
// or NewHeader gave and which must not change while the Digester is in use.
func NewDigester(h *Header) *Digester {
	d := &Digester{h: h, hash: sha256.New(), sums: make([][sha256.Size]byte, len(h.Tensors))}
	return d
}

// Write takes the next bytes of the file.
func (d *Digester) Write(p []byte) (int, error) { return d.WriteHashing(p, nil) }

// WriteHashing takes the next bytes of the file and adds them to whole, the
// SHA-256 of all of it, at a smaller price than adding them apart.
func (d *Digester) WriteHashing(p []byte, whole hash.Hash) (int, error) {
	n := len(p)
	if start := uint64(d.h.DataStart()); d.pos < start {
		skip := min(start-d.pos, uint64(len(p)))
		outside(whole, p[:skip])
		d.pos += skip
		p = p[skip:]
	}
	for len(p) > 0 && d.next < len(d.sums) {
		left := d.left()
		part := min(left, uint64(len(p)))
		sha256x2.Write(d.hash, whole, p[:part])
		d.pos += part
		p = p[part:]
		if part == left {
			d.close()
		}
	}
	outside(whole, p)
	d.extra += uint64(len(p))
	return n, nil
}

// outside takes bytes that belong to no tensor.
func outside(whole hash.Hash, p []byte) {
	if whole != nil {
		_, _ = whole.Write(p)
	}
}

// left is what the current tensor still needs.
func (d *Digester) left() uint64 {
	end := uint64(d.h.DataStart()) + d.h.Tensors[d.next].End
	return end - min(end, d.pos)
}

// close takes the current tensor's digest and goes on to the next.
func (d *Digester) close() {
	d.hash.Sum(d.sums[d.next][:0])
	d.hash.Reset()
	d.next++
}

// Sum gives the digests of all tensors, sorted by name. Names that the
// metadata lists as removed ties (removed -> kept) are in it, with the digest,
// dtype and shape of the kept tensor. A stream that ended early gives
// io.ErrUnexpectedEOF, one that ran on an *Error of kind
// MetadataIncompleteBuffer.
func (d *Digester) Sum() ([]TensorDigest, error) {
	if d.pos < uint64(d.h.DataStart()) {
		return nil, fmt.Errorf("safetensors: stream ended at byte %d, in the header: %w", d.pos, io.ErrUnexpectedEOF)
	}
	for d.next < len(d.sums) && d.left() == 0 {
		d.close()
	}
	if d.next < len(d.sums) {
		return nil, fmt.Errorf("safetensors: stream ended at byte %d, in tensor %s: %w", d.pos, quote(d.h.Tensors[d.next].Name), io.ErrUnexpectedEOF)
	}
	if d.extra > 0 {
		return nil, &Error{Kind: MetadataIncompleteBuffer, Offset: int64(min(d.pos, math.MaxInt64)),
			Detail: fmt.Sprintf("the stream has %d bytes after the last tensor", d.extra)}
	}
	return d.list(), nil
}

// list joins the digests with the names, ties included.
func (d *Digester) list() []TensorDigest {
	aliases := d.h.Aliases()
	all := make([]TensorDigest, 0, len(d.sums)+len(aliases))
	kept := make(map[string]int, len(aliases))
	for _, name := range aliases {
		kept[name] = -1
	}
	for i := range d.h.Tensors {
		t := &d.h.Tensors[i]
		if _, ok := kept[t.Name]; ok {
			kept[t.Name] = i
		}
		all = append(all, TensorDigest{Name: t.Name, DType: t.DType, Shape: t.Shape, Digest: hex.EncodeToString(d.sums[i][:])})
	}
	for removed, name := range aliases {
		tie := all[kept[name]]
		tie.Name = removed
		all = append(all, tie)
	}
	slices.SortFunc(all, func(a, b TensorDigest) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// SetDigest is the SHA-256, in hex, over the canonical listing of tensors: one
// line per name, sorted by the bytes of the name:
//
//	sha256:<hex> <dtype> [<d0>,<d1>,...] <name as JSON string>\n
//
// Over one file's tensors this is the tensor-set digest, over all weight files
// of a model together the weights digest. Names must be unique.
func SetDigest(tensors []TensorDigest) (string, error) {
	order := make([]*TensorDigest, len(tensors))
	for i := range tensors {
		order[i] = &tensors[i]
	}
	slices.SortFunc(order, func(a, b *TensorDigest) int { return cmp.Compare(a.Name, b.Name) })
	sum := sha256.New()
	var line []byte
	for i, t := range order {
		if i > 0 && order[i-1].Name == t.Name {
			return "", fmt.Errorf("safetensors: set digest: the name %s is there twice", quote(t.Name))
		}
		if err := t.check(); err != nil {
			return "", err
		}
		line = append(line[:0], "sha256:"...)
		line = append(line, t.Digest...)
		line = append(line, ' ')
		line = append(line, t.DType.String()...)
		line = append(line, ' ')
		line = append(appendShape(line, t.Shape), ' ')
		line = append(appendString(line, t.Name), '\n')
		sum.Write(line)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// check refuses what would make a line of the listing ambiguous.
func (t *TensorDigest) check() error {
	if err := checkText(t.Name, "a tensor name"); err != nil {
		return err
	}
	if t.DType.Bits() == 0 {
		return fmt.Errorf("safetensors: set digest: tensor %s: unknown dtype %s", quote(t.Name), t.DType)
	}
	if len(t.Digest) != 2*sha256.Size || strings.Trim(t.Digest, "0123456789abcdef") != "" {
		return fmt.Errorf("safetensors: set digest: tensor %s: %s is not a SHA-256 in lower-case hex", quote(t.Name), quote(t.Digest))
	}
	return nil
}
