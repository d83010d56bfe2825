package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/internal/sha256x2"
)

// Recorder takes the output's bytes, once and in order, as an io.Writer: it
// digests every tensor on the way. A new one is needed when an upload starts
// again. It never fails; Prove reports a stream that was cut, ran on or was
// not the plan's.
type Recorder struct {
	plan   *Plan
	pos    int64
	next   int // the tensor being taken
	sha    hash.Hash
	fast   maphash.Hash
	seen   []seen
	wrong  int64 // first byte outside the tensors that is not the plan's; -1 for none
	beyond int64 // bytes past the end
}

// seen is what the recorder keeps of a tensor.
type seen struct {
	digest [sha256.Size]byte
	print  uint64
}

// NewRecorder prepares a recorder for this plan's output.
func (p *Plan) NewRecorder() *Recorder {
	r := &Recorder{plan: p, sha: sha256.New(), seen: make([]seen, len(p.tensors)), wrong: -1}
	r.fast.SetSeed(p.seed)
	return r
}

// Write takes the next bytes of the output.
func (r *Recorder) Write(b []byte) (int, error) { return r.WriteHashing(b, nil) }

// WriteHashing takes the next bytes of the output and adds them to whole, the
// SHA-256 of all of it, at a smaller price than adding them apart.
func (r *Recorder) WriteHashing(b []byte, whole hash.Hash) (int, error) {
	n := len(b)
	for len(b) > 0 && r.next < len(r.seen) {
		t := &r.plan.tensors[r.next]
		if r.pos < t.from {
			part := b[:min(int64(len(b)), t.from-r.pos)]
			r.outside(part, whole)
			b = b[len(part):]
			continue
		}
		part := b[:min(int64(len(b)), t.to-r.pos)]
		sha256x2.Write(r.sha, whole, part)
		r.fast.Write(part)
		r.pos += int64(len(part))
		b = b[len(part):]
		if r.pos == t.to {
			r.close()
		}
	}
	if len(b) > 0 {
		r.outside(b, whole)
	}
	return n, nil
}

// close takes a tensor's digests.
func (r *Recorder) close() {
	s := &r.seen[r.next]
	r.sha.Sum(s.digest[:0])
	s.print = r.fast.Sum64()
	r.sha.Reset()
	r.fast.Reset()
	r.next++
}

// outside compares what lies around the tensors with what the plan knows
// beforehand: the header.
func (r *Recorder) outside(b []byte, whole hash.Hash) {
	if whole != nil {
		_, _ = whole.Write(b)
	}
	p := r.plan
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].at+p.segments[i].size > r.pos })
	for ; len(b) > 0 && i < len(p.segments); i++ {
		s := &p.segments[i]
		in := r.pos - s.at
		part := b[:min(int64(len(b)), s.size-in)]
		if s.literal != nil && r.wrong < 0 && !bytes.Equal(part, s.literal[in:in+int64(len(part))]) {
			r.wrong = r.pos
		}
		r.pos += int64(len(part))
		b = b[len(part):]
	}
	r.pos += int64(len(b))
	r.beyond += int64(len(b))
}

// finish checks that all of the output went through.
func (r *Recorder) finish() error {
	p := r.plan
	for r.next < len(r.seen) && p.tensors[r.next].to <= r.pos && p.tensors[r.next].from == p.tensors[r.next].to {
		r.close()
	}
	switch {
	case r.beyond > 0:
		return &ProofError{Path: p.Path, Detail: fmt.Sprintf("%d bytes went out after its end at %d", r.beyond, p.size)}
	case r.pos < p.size:
		return fmt.Errorf("proving %s: %d of %d bytes went out: %w", p.Path, r.pos, p.size, io.ErrUnexpectedEOF)
	case r.wrong >= 0:
		return &ProofError{Path: p.Path, Detail: fmt.Sprintf("byte %d or one soon after it, outside the tensors, is not what was planned", r.wrong)}
	}
	return nil
}

// Proof says that the output holds the source's tensors, bit for bit.
type Proof struct {
	SourceDigest string                     // SHA-256 of the whole source file, hex; of several, one after the other
	SourceParts  []PartDigest               // where the source is several files
	Tensors      []safetensors.TensorDigest // all names, aliases included
	SetDigest    string                     // tensor-set digest, of the output and of the source
}

// ProofError says where the output and the source differ, or that what went
// out is not what was planned.
type ProofError struct {
	Path   string // of the output
	Tensor string // empty when no single tensor is concerned
	Detail string
}

func (e *ProofError) Error() string {
	if e.Tensor == "" {
		return fmt.Sprintf("proving %s: %s", e.Path, e.Detail)
	}
	return fmt.Sprintf("proving %s: tensor %q: %s", e.Path, e.Tensor, e.Detail)
}

// Prove compares what went out with what the witness saw in the source. Any
// difference is a *ProofError that names the tensor; an output that was cut
// gives an error that wraps io.ErrUnexpectedEOF.
func (p *Plan) Prove(r *Recorder, w *Witness) (*Proof, error) {
	first, witnessed := w.first[p]
	if r.plan != p || !witnessed {
		return nil, &ProofError{Path: p.Path, Detail: "recorder or witness belong to another plan"}
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	for i := range p.tensors {
		if r.seen[i].print != w.prints[first+i] {
			return nil, &ProofError{Path: p.Path, Tensor: p.tensors[i].name, Detail: "the bytes that went out are not those that the source holds"}
		}
	}
	all := p.digests(r)
	set, err := safetensors.SetDigest(all)
	if err != nil {
		return nil, err
	}
	return &Proof{SourceDigest: hex.EncodeToString(w.digest[:]), SourceParts: w.parts, Tensors: all, SetDigest: set}, nil
}

// JoinProofs makes one proof of those of all files that came out of a source:
// its tensors are those of all. Proofs about different sources, and a name in
// two of them, are an error.
func JoinProofs(proofs ...*Proof) (*Proof, error) {
	if len(proofs) == 0 {
		return nil, errors.New("no proofs to join")
	}
	one := *proofs[0]
	all := &one
	all.Tensors = nil
	for _, p := range proofs {
		if p.SourceDigest != all.SourceDigest {
			return nil, fmt.Errorf("proofs about two sources, %s and %s", all.SourceDigest, p.SourceDigest)
		}
		all.Tensors = append(all.Tensors, p.Tensors...)
	}
	slices.SortFunc(all.Tensors, func(a, b safetensors.TensorDigest) int { return strings.Compare(a.Name, b.Name) })
	var err error
	all.SetDigest, err = safetensors.SetDigest(all.Tensors)
	return all, err
}

// digests lists all names with what the recorder saw, ties included, by name.
func (p *Plan) digests(r *Recorder) []safetensors.TensorDigest {
	all := make([]safetensors.TensorDigest, 0, len(p.tensors))
	at := make(map[string]int, len(p.tensors))
	for i := range p.tensors {
		t := &p.tensors[i]
		at[t.name] = i
		all = append(all, safetensors.TensorDigest{Name: t.name, DType: t.dtype, Shape: t.shape, Digest: hex.EncodeToString(r.seen[i].digest[:])})
	}
	for removed, kept := range p.Header.Aliases() {
		tie := all[at[kept]]
		tie.Name = removed
		all = append(all, tie)
	}
	slices.SortFunc(all, func(a, b safetensors.TensorDigest) int { return strings.Compare(a.Name, b.Name) })
	return all
}
