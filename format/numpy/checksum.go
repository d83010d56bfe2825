package numpy

import (
	"hash/crc32"
	"io"
	"sync"

	"github.com/weightseal/weightseal/format"
)

// summed is a stored entry whose checksum is compared as numpy does it: for
// nothing where the entry is read in order, with one more pass where a read
// jumps. No read that reaches the end of the entry, and none out of order,
// gives bytes of an entry whose checksum differs.
type summed struct {
	in   io.ReaderAt
	size int64
	want uint32
	name string

	mu  sync.Mutex
	at  int64 // the checksum is known up to here
	sum uint32
	err error // once at is size
}

// summed wraps an entry's content, of which the first bytes are its header.
func (e *entry) summed(in io.ReaderAt, header int64) (*summed, error) {
	s := &summed{in: in, size: int64(e.UncompressedSize64), want: e.CRC32, name: e.Name}
	if err := s.upTo(header); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *summed) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	if off == s.at && s.at < s.size {
		defer s.mu.Unlock()
		n, err := s.in.ReadAt(p, off)
		if bad := s.add(p[:n]); bad != nil {
			return 0, bad
		}
		return n, err
	}
	err := s.upTo(s.size)
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return s.in.ReadAt(p, off)
}

// upTo reads on until the checksum is known up to there.
func (s *summed) upTo(end int64) error {
	if s.at >= end {
		return s.check()
	}
	b := make([]byte, min(end-s.at, 256<<10))
	for s.at < end {
		n, err := s.in.ReadAt(b[:min(end-s.at, int64(len(b)))], s.at)
		if bad := s.add(b[:n]); bad != nil {
			return bad
		}
		if err != nil && s.at < end {
			return short(err)
		}
	}
	return nil
}

func (s *summed) add(b []byte) error {
	s.sum = crc32.Update(s.sum, crc32.IEEETable, b)
	s.at += int64(len(b))
	return s.check()
}

// check compares the checksum where all of the entry is known.
func (s *summed) check() error {
	if s.at == s.size && s.sum != s.want && s.err == nil {
		s.err = &format.Error{Format: "npz", Where: s.name, Offset: -1, Detail: "the checksum differs: the file is damaged, fetch it again"}
	}
	return s.err
}
