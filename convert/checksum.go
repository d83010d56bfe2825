package convert

import (
	"hash/crc32"
	"sync"

	"github.com/weightseal/weightseal/format"
)

// crcs holds the checksums of the data records of an archive. Readings of the
// output in order feed them in passing; what is missing when it is asked for
// is read then.
type crcs struct {
	plan   *Plan
	layout *format.Archive

	mu    sync.Mutex
	sums  []crc
	dir   []byte
	extra sync.Mutex // one computation at a time
}

// crc is the checksum of a record's prefix and the first done bytes of its
// data.
type crc struct {
	segment int // of the output, where size is not 0
	size    int64
	done    int64
	sum     uint32
}

func newCRCs(p *Plan, l *format.Archive, n int) *crcs {
	c := &crcs{plan: p, layout: l, sums: make([]crc, n)}
	for i := range c.sums {
		c.sums[i].sum = l.Begun(i)
	}
	return c
}

func (c *crcs) place(record, segment int, size int64) {
	c.sums[record].segment, c.sums[record].size = segment, size
}

// saw takes bytes that were read at offset in of a record.
func (c *crcs) saw(record int, in int64, b []byte) {
	c.mu.Lock()
	s := c.sums[record]
	c.mu.Unlock()
	if in > s.done || in+int64(len(b)) <= s.done {
		return
	}
	b = b[s.done-in:]
	sum := crc32.Update(s.sum, crc32.IEEETable, b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := &c.sums[record]; now.done == s.done {
		now.done, now.sum = s.done+int64(len(b)), sum
	}
}

// of gives the checksum of a record, reading what was not seen.
func (c *crcs) of(record int) (uint32, error) {
	c.mu.Lock()
	s := c.sums[record]
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
		s := c.sums[record]
		c.mu.Unlock()
		if s.done == s.size {
			return s.sum, nil
		}
		b := buf[:min(scratchSize, s.size-s.done)]
		if err := c.plan.readBytes(s.segment, b, s.done); err != nil {
			return 0, err
		}
		c.saw(record, s.done, b)
	}
}

func (c *crcs) descriptor(record int) ([]byte, error) {
	sum, err := c.of(record)
	if err != nil {
		return nil, err
	}
	return c.layout.Descriptor(record, sum), nil
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
