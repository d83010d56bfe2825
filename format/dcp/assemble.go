package dcp

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sort"
)

// box is a chunk of a tensor whose blob was opened.
type box struct {
	offset, size []int64 // in elements of the tensor
	data         io.ReaderAt
	base         int64   // of its first element in data, in bytes
	stride       []int64 // in data, in bytes
}

// assembly is a tensor of several chunks as one row-major run of bytes, put
// together while it is read.
type assembly struct {
	name  string
	size  []int64
	elem  int64
	inner []int64 // elements that one index of a dimension stands for
	boxes []box   // sorted by their offset in dimension by
	by    int
}

// assemble checks that the chunks cover the tensor, each element once.
// work is what is left of the comparisons.
func assemble(name string, size []int64, elem int64, boxes []box, work *int) (*assembly, error) {
	a := &assembly{name: name, size: size, elem: elem, boxes: boxes, inner: make([]int64, len(size))}
	total, _ := volume(size)
	step := int64(1)
	for d := len(size) - 1; d >= 0; d-- {
		a.inner[d] = step
		step *= max(size[d], 1)
	}
	var covered int64
	for _, b := range boxes {
		n, _ := volume(b.size)
		if covered += n; covered > total {
			return nil, broken(name, "its chunks hold more elements than it has: they overlap")
		}
	}
	if covered < total {
		return nil, broken(name, fmt.Sprintf("its chunks hold %d of its %d elements: there are gaps", covered, total))
	}
	a.boxes = slices.DeleteFunc(slices.Clone(boxes), func(b box) bool { return slices.Contains(b.size, 0) })
	a.sort()
	return a, a.overlaps(work)
}

// sort orders the boxes by the dimension that is cut most often.
func (a *assembly) sort() {
	most := 0
	for d := range a.size {
		starts := map[int64]struct{}{}
		for _, b := range a.boxes {
			starts[b.offset[d]] = struct{}{}
		}
		if len(starts) > most {
			most, a.by = len(starts), d
		}
	}
	slices.SortFunc(a.boxes, func(x, y box) int {
		if len(a.size) == 0 {
			return 0
		}
		return cmp.Or(cmp.Compare(x.offset[a.by], y.offset[a.by]), slices.Compare(x.offset, y.offset))
	})
}

// overlaps compares every box with those that begin before it ends. As the
// boxes hold as many elements as the tensor, no overlap means no gap.
func (a *assembly) overlaps(work *int) error {
	for i := range a.boxes {
		x := &a.boxes[i]
		for k := i + 1; k < len(a.boxes); k++ {
			y := &a.boxes[k]
			if len(a.size) > 0 && y.offset[a.by] >= x.offset[a.by]+x.size[a.by] {
				break
			}
			if *work--; *work < 0 {
				return unsupported(a.name, "checkpoint whose tensors are cut into too many chunks", "save it again from fewer ranks")
			}
			if meets(x, y) {
				return broken(a.name, fmt.Sprintf("the chunks at %v and %v overlap", x.offset, y.offset))
			}
		}
	}
	return nil
}

func meets(x, y *box) bool {
	for d := range x.offset {
		if x.offset[d] >= y.offset[d]+y.size[d] || y.offset[d] >= x.offset[d]+x.size[d] {
			return false
		}
	}
	return true
}

func (a *assembly) length() int64 {
	n, _ := volume(a.size)
	return n * a.elem
}

// ReadAt reads the tensor's bytes: from each place on as far as one chunk goes.
func (a *assembly) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: read before the start of a tensor", name)
	}
	end := a.length()
	n := 0
	index := make([]int64, len(a.size))
	var last *box
	for n < len(b) && off < end {
		at := off / a.elem
		for d := range index {
			index[d] = at / a.inner[d] % a.size[d]
		}
		if last == nil || !last.holds(index) {
			last = a.find(index)
		}
		if last == nil {
			return n, broken(a.name, fmt.Sprintf("no chunk has its element %v", index))
		}
		from, run, step := a.run(last, index)
		in := off % a.elem
		part := b[n:min(int64(len(b)), int64(n)+min(run*a.elem-in, end-off))]
		if err := last.read(part, from, step, in, a.elem); err != nil {
			return n, fmt.Errorf("chunk %v of %s: %w", last.offset, quote(a.name), err)
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// find gives the box that holds an element.
func (a *assembly) find(index []int64) *box {
	if len(index) == 0 {
		if len(a.boxes) == 0 {
			return nil
		}
		return &a.boxes[0]
	}
	at := index[a.by]
	i := sort.Search(len(a.boxes), func(i int) bool { return a.boxes[i].offset[a.by] > at })
	for i--; i >= 0; i-- {
		if a.boxes[i].holds(index) {
			return &a.boxes[i]
		}
	}
	return nil
}

func (b *box) holds(index []int64) bool {
	for d, i := range index {
		if i < b.offset[d] || i >= b.offset[d]+b.size[d] {
			return false
		}
	}
	return true
}

// run gives where an element lies in its box, how many of the following ones
// of the tensor lie behind it, and how many bytes apart.
func (a *assembly) run(b *box, index []int64) (from, elements, step int64) {
	from = b.base
	for d, i := range index {
		from += (i - b.offset[d]) * b.stride[d]
	}
	k := len(index) - 1
	for k >= 0 && b.size[k] == 1 && a.size[k] == 1 {
		k--
	}
	if k < 0 {
		return from, 1, a.elem
	}
	step = b.stride[k]
	elements = b.offset[k] + b.size[k] - index[k]
	span := b.size[k] * step // of all of dimension k
	for ; k > 0 && b.size[k] == a.size[k]; k-- {
		up := k - 1
		if b.size[up] != 1 && b.stride[up] != span {
			break
		}
		elements += (b.offset[up] + b.size[up] - index[up] - 1) * (span / max(step, 1))
		span = b.size[up] * span
	}
	return from, elements, step
}

// spanRead is how much is read to pick elements that lie apart.
const spanRead = 64 << 10

// read reads a run of elements, from byte in of the first on.
func (b *box) read(dst []byte, from, step, in, elem int64) error {
	if step == elem {
		return readFull(b.data, dst, from+in)
	}
	var buf []byte
	for len(dst) > 0 {
		n := (in + int64(len(dst)) + elem - 1) / elem
		if step > 0 {
			n = max(1, min(n, (spanRead-elem)/step+1))
		}
		span := (n-1)*step + elem
		if int64(cap(buf)) < span {
			buf = make([]byte, span)
		}
		if err := readFull(b.data, buf[:span], from); err != nil {
			return err
		}
		for i := range n {
			k := copy(dst, buf[i*step+in:i*step+elem])
			dst, in = dst[k:], 0
		}
		from += n * step
	}
	return nil
}

// readFull reads all of b; a reader that ends early gives
// io.ErrUnexpectedEOF.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
