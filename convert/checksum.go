package convert

import (
	"hash/crc32"
	"sync"

	"github.com/weightseal/weightseal/format/torch"
)

// crcs holds the checksums of the storages of an archive. Readings of the
// output in order feed them in passing; what is missing when it is asked for
// is read from the source.
type crcs struct {
	plan   *Plan
	layout *torch.Layout

	mu    sync.Mutex
	sums  []crc
	dir   []byte
	extra sync.Mutex // one computation at a time
}

// crc is the checksum of the first done bytes of a storage.
type crc struct {
	from, size int64 // range of the source
	done       int64
	sum        uint32
}

func newCRCs(p *Plan, l *torch.Layout, n int) *crcs {
	return &crcs{plan: p, layout: l, sums: make([]crc, n)}
}

func (c *crcs) place(storage int, from, size int64) {
	c.sums[storage].from, c.sums[storage].size = from, size
}

// saw takes bytes that were read at offset in of a storage.
func (c *crcs) saw(storage int, in int64, b []byte) {
	c.mu.Lock()
	s := c.sums[storage]
	c.mu.Unlock()
	if in > s.done || in+int64(len(b)) <= s.done {
		return
	}
	b = b[s.done-in:]
	sum := crc32.Update(s.sum, crc32.IEEETable, b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := &c.sums[storage]; now.done == s.done {
		now.done, now.sum = s.done+int64(len(b)), sum
	}
}

// of gives the checksum of a storage, reading what was not seen.
func (c *crcs) of(storage int) (uint32, error) {
	c.mu.Lock()
	s := c.sums[storage]
	c.mu.Unlock()
	if s.done == s.size {
		return s.sum, nil
	}
	c.extra.Lock()
	defer c.extra.Unlock()
	buf := c.plan.scratch.Get().(*[scratchSize]byte)
	defer c.plan.scratch.Put(buf)
	for {
		c.mu.Lock()
		s := c.sums[storage]
		c.mu.Unlock()
		if s.done == s.size {
			return s.sum, nil
		}
		b := buf[:min(scratchSize, s.size-s.done)]
		if err := readFull(c.plan.blob, b, s.from+s.done); err != nil {
			return 0, err
		}
		c.saw(storage, s.done, b)
	}
}

func (c *crcs) descriptor(storage int) ([]byte, error) {
	sum, err := c.of(storage)
	if err != nil {
		return nil, err
	}
	return c.layout.Descriptor(storage, sum), nil
}

// directory is made once.
func (c *crcs) directory() ([]byte, error) {
	c.mu.Lock()
	dir := c.dir
	c.mu.Unlock()
	if dir != nil {
		return dir, nil
	}
	all := make([]uint32, len(c.sums))
	for i := range all {
		sum, err := c.of(i)
		if err != nil {
			return nil, err
		}
		all[i] = sum
	}
	dir = c.layout.Directory(all)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dir = dir
	return dir, nil
}
