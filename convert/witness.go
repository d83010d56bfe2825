package convert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
)

const (
	witnessRead = 1 << 20
	// mostOpen bounds the tensors whose fingerprints are open at once while
	// the source is read; views that overlap beyond that are read again.
	mostOpen = 4096
)

// Witness is what one reading of the source, apart from the output, saw.
type Witness struct {
	plan   *Plan         // has the tensors of all
	first  map[*Plan]int // number in prints of each plan's first tensor
	digest [sha256.Size]byte
	parts  []PartDigest // of a source of several files
	prints []uint64     // as plan.tensors

	storages map[string]io.ReaderAt // opened for what is not in the file as it is
}

// Witness reads the source once, front to back, by itself: it digests the file
// and fingerprints each tensor's bytes where the checkpoint says they lie
// (contiguous tensors in passing, under a key drawn at random for this plan;
// the others gathered one by one, not with the code that the output uses). It
// may run beside the upload. A source that changed since it was planned from
// gives the error of model.Blob.Unchanged.
func (p *Plan) Witness(ctx context.Context) (*Witness, error) { return WitnessAll(ctx, []*Plan{p}) }

// WitnessAll is the Witness of all plans that came out of one source: it is
// read once for them.
func WitnessAll(ctx context.Context, plans []*Plan) (*Witness, error) {
	if len(plans) == 0 {
		return nil, errors.New("no plans to witness")
	}
	p := plans[0]
	if len(plans) == 1 {
		return witness(ctx, &Witness{first: map[*Plan]int{p: 0}, plan: p})
	}
	w := &Witness{first: map[*Plan]int{}, plan: &Plan{Source: p.Source, blob: p.blob, reopen: p.reopen, seed: p.seed}}
	for _, q := range plans {
		if q != p && (q.source == nil || q.source != p.source) {
			return nil, fmt.Errorf("%s and %s do not come out of one planning", p.Path, q.Path)
		}
		w.first[q] = len(w.plan.tensors)
		w.plan.tensors = append(w.plan.tensors, q.tensors...)
	}
	return witness(ctx, w)
}

// witness reads the source of w.plan.
func witness(ctx context.Context, w *Witness) (*Witness, error) {
	w.prints = make([]uint64, len(w.plan.tensors))
	err := w.read(ctx)
	// Asked for after a failure too: a file cut short gives a read error first.
	if err := cmp.Or(w.plan.blob.Unchanged(), err); err != nil {
		return nil, err
	}
	w.storages = nil
	return w, nil
}

// read reads the source, and again what did not fit into one pass.
func (w *Witness) read(ctx context.Context) error {
	runs, others := w.plan.runs()
	buf := make([]byte, witnessRead)
	again, err := w.pass(ctx, runs, buf)
	if err != nil {
		return err
	}
	for _, r := range again {
		if err := w.reread(ctx, r, buf); err != nil {
			return err
		}
	}
	var pages pages
	for _, i := range others {
		if err := w.collect(ctx, i, &pages); err != nil {
			return err
		}
	}
	return nil
}

// run is a range of the source file that is the bytes of some tensors.
type run struct {
	from, to int64
	tensors  []int
	hash     *maphash.Hash
}

// runs gives the ranges to fingerprint in passing, by place, and the tensors
// that must be gathered.
func (p *Plan) runs() (runs []*run, others []int) {
	same := map[[2]int64]*run{}
	for i := range p.tensors {
		o := &p.tensors[i].origin
		if o.length == 0 || !o.inPassing() {
			others = append(others, i)
			continue
		}
		key := [2]int64{o.file, o.file + o.length}
		if same[key] == nil {
			same[key] = &run{from: key[0], to: key[1]}
			runs = append(runs, same[key])
		}
		same[key].tensors = append(same[key].tensors, i)
	}
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	return runs, others
}

// pass reads the file once. It returns the ranges that it had no room for.
func (w *Witness) pass(ctx context.Context, runs []*run, buf []byte) (again []*run, err error) {
	p := w.plan
	whole, parts := sha256.New(), newPartDigests(p.Source.Parts)
	var open, still []*run
	for at := int64(0); at < p.Source.Size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), p.Source.Size-at)]
		if err := readFull(p.blob, b, at); err != nil {
			return nil, fmt.Errorf("reading %s at %d: %w", p.Source.Path, at, err)
		}
		parts.write(b, whole)
		end := at + int64(len(b))
		for len(runs) > 0 && runs[0].from < end {
			r := runs[0]
			runs = runs[1:]
			if r.to > end && len(open) >= mostOpen {
				again = append(again, r)
				continue
			}
			r.hash = w.newHash()
			open = append(open, r)
		}
		still = still[:0]
		for _, r := range open {
			r.hash.Write(b[max(r.from, at)-at : min(r.to, end)-at])
			if r.to > end {
				still = append(still, r)
				continue
			}
			w.close(r)
		}
		open, still = still, open
		at = end
	}
	if len(open)+len(runs) > 0 {
		return nil, fmt.Errorf("%s: tensors lie past its end", p.Source.Path)
	}
	whole.Sum(w.digest[:0])
	w.parts = parts.all()
	return again, nil
}

func (w *Witness) newHash() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(w.plan.seed)
	return h
}

func (w *Witness) close(r *run) {
	for _, i := range r.tensors {
		w.prints[i] = r.hash.Sum64()
	}
	r.hash = nil
}

// reread fingerprints one range by itself.
func (w *Witness) reread(ctx context.Context, r *run, buf []byte) error {
	r.hash = w.newHash()
	for at := r.from; at < r.to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), r.to-at)]
		if err := readFull(w.plan.blob, b, at); err != nil {
			return fmt.Errorf("reading %s at %d: %w", w.plan.Source.Path, at, err)
		}
		r.hash.Write(b)
		at += int64(len(b))
	}
	w.close(r)
	return nil
}
