package pickle

// slab hands out values from chunks that grow with use: a stream of millions
// of nodes costs thousands of allocations.
type slab[T any] struct {
	free []T
	size int
}

const slabMax = 1024

// take gives n fresh values.
func (s *slab[T]) take(n int) []T {
	if n > len(s.free) {
		s.size = min(max(2*s.size, 8), slabMax)
		if n > s.size {
			return make([]T, n)
		}
		s.free = make([]T, s.size)
	}
	out := s.free[:n:n]
	s.free = s.free[n:]
	return out
}

func (s *slab[T]) one() *T { return &s.take(1)[0] }
