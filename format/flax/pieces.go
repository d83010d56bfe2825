package flax

import (
	"errors"
	"io"
	"sort"
)

// pieces reads several ranges of a file as if they followed each other.
type pieces struct {
	r    io.ReaderAt
	all  []piece
	size int64
}

type piece struct {
	at     int64 // in what is read
	offset int64 // in the file
	length int64
}

func (p *pieces) add(offset, length int64) {
	p.all = append(p.all, piece{p.size, offset, length})
	p.size += length // parts of one file: no overflow
}

// ReadAt reads on through the pieces.
func (p *pieces) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("flax: read before the start of an array")
	}
	i := sort.Search(len(p.all), func(i int) bool { return p.all[i].at+p.all[i].length > off })
	for ; n < len(b) && i < len(p.all); i++ {
		c := &p.all[i]
		in := off + int64(n) - c.at
		part := b[n:min(int64(len(b)), int64(n)+c.length-in)]
		got, err := p.r.ReadAt(part, c.offset+in)
		n += got
		if got < len(part) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
