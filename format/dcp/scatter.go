package dcp

import (
	"fmt"
	"io"
	"sort"
)

// scattered is a tensor of several chunks read the other way round: each
// chunk, row by row, is put where it belongs. It shares with assembly what
// the metadata says, and nothing of the way to read.
type scattered struct{ a *assembly }

// ReadAt reads the tensor's bytes.
func (s *scattered) ReadAt(b []byte, off int64) (int, error) {
	end := s.a.length()
	if off < 0 || off > end {
		return 0, io.EOF
	}
	want := b[:min(int64(len(b)), end-off)]
	filled := 0
	for i := range s.a.boxes {
		n, err := s.take(&s.a.boxes[i], want, off)
		if err != nil {
			return 0, fmt.Errorf("chunk %v of %s: %w", s.a.boxes[i].offset, quote(s.a.name), err)
		}
		if filled += n; filled == len(want) {
			break
		}
	}
	if filled < len(want) {
		return 0, io.ErrUnexpectedEOF
	}
	if len(want) < len(b) {
		return len(want), io.EOF
	}
	return len(b), nil
}

// take puts those bytes of a box that lie in the window [off, off+len(dst))
// of the tensor into dst, and counts them. The rows of a box come in the
// order of the tensor.
func (s *scattered) take(b *box, dst []byte, off int64) (filled int, err error) {
	rank := len(b.size)
	width, rows := int64(1), int64(1)
	if rank > 0 {
		width = b.size[rank-1]
		for _, n := range b.size[:rank-1] {
			rows *= n
		}
	}
	first := sort.Search(int(rows), func(r int) bool {
		to, _ := s.row(b, int64(r))
		return to+width*s.a.elem > off
	})
	for r := int64(first); r < rows; r++ {
		to, from := s.row(b, r)
		begin, stop := max(to, off), min(to+width*s.a.elem, off+int64(len(dst)))
		if begin >= stop {
			break
		}
		if err := s.copyRow(b, dst[begin-off:stop-off], begin-to, from); err != nil {
			return 0, err
		}
		filled += int(stop - begin)
	}
	return filled, nil
}

// row gives where row r of a box goes in the tensor and where it comes from.
func (s *scattered) row(b *box, r int64) (to, from int64) {
	from = b.base
	step := int64(1) // elements of the tensor that an index stands for
	for d := len(b.size) - 1; d >= 0; d-- {
		i := int64(0)
		if d < len(b.size)-1 {
			i = r % b.size[d]
			r /= b.size[d]
		}
		to += (b.offset[d] + i) * step
		from += i * b.stride[d]
		step *= s.a.size[d]
	}
	return to * s.a.elem, from
}

// copyRow reads bytes of a row, beginning in bytes behind its start.
func (s *scattered) copyRow(b *box, dst []byte, in, from int64) error {
	elem := s.a.elem
	step := elem
	if n := len(b.size); n > 0 {
		step = b.stride[n-1]
	}
	if step == elem {
		return readFull(b.data, dst, from+in)
	}
	for len(dst) > 0 {
		cut := in % elem
		n := min(int64(len(dst)), elem-cut)
		if err := readFull(b.data, dst[:n], from+in/elem*step+cut); err != nil {
			return err
		}
		dst, in = dst[n:], in+n
	}
	return nil
}
