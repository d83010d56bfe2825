package convert

import "io"

// origin is where a checkpoint says that a tensor lies, for the witness. It
// comes straight from the checkpoint, not from the segments of the plan.
type origin struct {
	data     io.ReaderAt // the storage
	key      string      // of the storage when it is compressed; else empty
	stream   string      // that the storage lies in with others, from at on; else empty
	at       int64
	base     int64 // of element 0 in data, in bytes
	size     []int64
	stride   []int64 // in elements
	form     element
	file     int64 // offset of element 0 in the source file; -1 when it is not there as it is
	length   int64 // of the tensor's bytes
	adjacent bool  // its bytes lie row-major, one after the other
}

// inPassing says that the tensor's bytes are a range of the source file.
func (o *origin) inPassing() bool { return o.file >= 0 && o.adjacent && !o.form.changes() }

// end is the offset in data behind the last element; there must be one.
func (o *origin) end() int64 {
	end := o.base + o.form.size
	for d, n := range o.size {
		end += (n - 1) * o.stride[d] * o.form.size
	}
	return end
}
