package hdf5

import "io"

const signature = "\x89HDF\r\n\x1a\n"

// Addresses count from where the superblock was found, as the library has it,
// whatever base it names; the end counts from the base that it names.

// superblock finds the beginning of the file, which may lie behind a block of
// the user's, and gives the address of the root group's header (section II).
func (f *file) superblock() (root int64, err error) {
	if err := f.findBase(); err != nil {
		return 0, err
	}
	c, err := f.block(0, min(128, f.size-f.base), "the superblock")
	if err != nil {
		return 0, err
	}
	c.skip(len(signature))
	version := c.u8()
	if c.err != nil {
		return 0, c.err
	}
	var end int64
	switch version {
	case 0, 1:
		root, end, err = f.oldSuperblock(c, version)
	case 2, 3:
		root, end, err = f.newSuperblock(c)
	default:
		return 0, f.unsupported("write it again with an older library: h5repack IN OUT", "superblock of version %d", version)
	}
	if err != nil {
		return 0, err
	}
	if end < 0 || !f.within(end, 0) {
		return 0, f.bad(undefined, "truncated: the file says that it ends at %d, and has %d bytes", end, f.size-f.base)
	}
	return root, nil
}

func (f *file) findBase() error {
	var b [8]byte
	for at := int64(0); at >= 0 && at <= f.size-int64(len(b)); {
		n, err := f.r.ReadAt(b[:], at)
		if n < len(b) && err != nil && err != io.EOF {
			return err
		}
		if string(b[:n]) == signature {
			f.base = at
			return nil
		}
		if at *= 2; at == 0 {
			at = 512
		}
	}
	return f.bad(undefined, "no HDF5 signature")
}

// widths takes the sizes of addresses and lengths.
func (f *file) widths(c *cursor) error {
	at := c.here()
	f.width, f.length = int(c.u8()), int(c.u8())
	if c.err != nil {
		return c.err
	}
	for _, n := range []int{f.width, f.length} {
		if n != 2 && n != 4 && n != 8 {
			return f.bad(at, "addresses of %d and lengths of %d bytes", f.width, f.length)
		}
	}
	return nil
}

func (f *file) oldSuperblock(c *cursor, version byte) (root, end int64, err error) {
	c.skip(4) // versions of the free space, the root entry, the shared headers
	if err := f.widths(c); err != nil {
		return 0, 0, err
	}
	c.skip(1 + 2 + 2 + 4)
	if version == 1 {
		c.skip(4)
	}
	base := c.addr()
	c.addr() // free space
	end = c.addr() - base
	if driver := c.addr(); c.err == nil && driver != undefined {
		return 0, 0, f.unsupported(nextCopy, "file in several parts (a driver information block)")
	}
	c.skip(f.width)
	return c.addr(), end, c.err
}

func (f *file) newSuperblock(c *cursor) (root, end int64, err error) {
	if err := f.widths(c); err != nil {
		return 0, 0, err
	}
	if flags := c.u8(); flags&5 != 0 {
		return 0, 0, f.unsupported("close it where it is written, or clear the mark: h5clear -s FILE", "file that was not closed")
	}
	base, ext := c.addr(), c.addr()
	end = c.addr() - base
	root = c.addr()
	if err := c.sum(); err != nil || ext == undefined {
		return root, end, err
	}
	o, err := f.object(ext)
	if err != nil {
		return 0, 0, err
	}
	if o.find(msgDriver) != nil {
		return 0, 0, f.unsupported(nextCopy, "file in several parts (a driver information message)")
	}
	return root, end, nil
}
