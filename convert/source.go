package convert

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
)

const (
	formatKey   = "format" // metadata key of the framework, as the reference sets it
	metadataKey = "__metadata__"

	// The tensors that are written may take this many times the bytes of
	// their storages, or expandFloor if that is more: views can overlap, and
	// names repeat, without end. torch.Limits.Expand overrides it.
	expandFactor = 4
	expandFloor  = 1 << 30

	// Inflating may take this many times the bytes of all storages, or
	// inflateFloor if that is more.
	inflateFactor = 16
	inflateFloor  = 4 << 30
)

// source is a tensor of the source, and how its elements change.
type source struct {
	format.Tensor
	form element
}

// contents is a checkpoint of whatever format, ready to be laid out.
type contents struct {
	format    string // for errors: "torch", "npy", ...
	framework string // the metadata value of "format"; "" for none
	tensors   []source
}

// fromCheckpoint lays out what a codec read. reopen opens the storages that do
// not lie in the file as they are a second time, by key; nil where all do.
func fromCheckpoint(in Input, name string, ck *format.Checkpoint, reopen func() (map[string]io.ReaderAt, error), opt Options) (*Plan, error) {
	c := contents{format: name, framework: ck.Framework, tensors: make([]source, len(ck.Tensors))}
	for i := range ck.Tensors {
		t := &ck.Tensors[i]
		form, err := elementSize(name, t.Name, t.DType)
		if err != nil {
			return nil, err
		}
		form.swap = t.Swap
		c.tensors[i] = source{*t, form}
	}
	p, err := layOut(in, &c, opt)
	if err != nil {
		return nil, err
	}
	p.Dropped, p.reopen = ck.Dropped, reopen
	return p, nil
}

// layOut lays out the safetensors file for the tensors of a checkpoint.
func layOut(in Input, c *contents, opt Options) (*Plan, error) {
	p := newPlan(in, model.Safetensors)
	kept := make([]int, len(c.tensors))
	for i := range kept {
		kept[i] = i
	}
	if !opt.KeepAliases {
		kept, p.Aliases = ties(c.tensors)
	}
	raw, byName, err := p.layHeader(c, kept)
	if err != nil {
		return nil, err
	}
	if err := p.add(segment{size: int64(len(raw)), literal: raw}); err != nil {
		return nil, err
	}
	var storages sizes
	for i := range p.Header.Tensors {
		h := &p.Header.Tensors[i]
		t := &c.tensors[byName[h.Name]]
		storages.add(t.Storage)
		if err := p.addTensor(t, h); err != nil {
			return nil, err
		}
	}
	if p.size-int64(len(raw)) > storages.limit(opt.Limits.Expand) {
		return nil, &format.Unsupported{
			Format: c.format,
			What:   fmt.Sprintf("checkpoint whose %d bytes of storage become %d bytes of tensors", storages.total, p.size),
			Next:   "save it again with views replaced by copies of what is needed",
		}
	}
	if err := p.checkInflating(c.format, storages.total); err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// checkInflating bounds how often compressed records are inflated again
// because views of them do not come in their order: a small file could demand
// days of it.
func (p *Plan) checkInflating(name string, stored int64) error {
	limit := max(inflateFloor, inflateFactor*float64(stored))
	var work float64
	at := map[string]int64{} // where the reader of a record stands
	for i := range p.tensors {
		o := &p.tensors[i].origin
		if o.key == "" || o.length == 0 {
			continue
		}
		base, end, times := o.at+o.base, o.at+o.end(), float64(1)
		stream := cmp.Or(o.stream, o.key)
		if !o.adjacent {
			times += float64(o.length / maxBlock)
		}
		if skip := at[stream]; skip <= base && times == 1 {
			work -= float64(skip) // goes on from there
		}
		work += float64(end) * times
		at[stream] = end
	}
	if work <= limit {
		return nil
	}
	return &format.Unsupported{
		Format: name,
		What:   "compressed checkpoint whose tensors lie so that its records must be inflated again and again",
		Next:   "unpack the archive and pack it again without compression (zip -0), or save it again uncompressed",
	}
}

// sizes adds up storages, each once.
type sizes struct {
	seen  map[*format.Storage]struct{}
	total int64
}

func (s *sizes) add(st *format.Storage) {
	if s.seen == nil {
		s.seen = map[*format.Storage]struct{}{}
	}
	if _, ok := s.seen[st]; !ok {
		s.seen[st] = struct{}{}
		s.total = min(s.total+min(st.Length, 1<<60), 1<<60) // no overflow
	}
}

// limit is how many bytes tensors over these storages may take.
func (s *sizes) limit(factor int64) int64 {
	if factor <= 0 {
		factor = expandFactor
	}
	if s.total > math.MaxInt64/factor {
		return math.MaxInt64
	}
	return max(expandFloor, factor*s.total)
}

// layHeader makes the header, and a map from the names in it to tensors.
func (p *Plan) layHeader(c *contents, kept []int) ([]byte, map[string]int, error) {
	tensors := c.tensors
	byName := make(map[string]int, len(tensors))
	for i := range tensors {
		if strings.Contains(tensors[i].Name, "\x00") { // Strict refuses to read it
			return nil, nil, unsupported(c.format, tensors[i].Name, "name with a NUL, where some readers would end it", "rename it in the checkpoint")
		}
		if _, twice := byName[tensors[i].Name]; twice {
			return nil, nil, unsupported(c.format, tensors[i].Name, "name that two tensors have once their keys are joined", "rename one of them in the checkpoint")
		}
		byName[tensors[i].Name] = i
	}
	specs := make([]safetensors.Spec, 0, len(kept))
	for _, i := range kept {
		t := &tensors[i]
		specs = append(specs, safetensors.Spec{Name: t.Name, DType: t.DType, Shape: t.Shape})
	}
	meta := map[string]string{}
	if c.framework != "" {
		meta[formatKey] = c.framework
	}
	for _, a := range p.Aliases {
		meta[a.Removed] = a.Kept
	}
	h, raw, err := safetensors.NewHeader(specs, meta)
	if err != nil {
		var st *safetensors.Error
		if errors.As(err, &st) {
			return nil, nil, unsupported(c.format, st.Tensor, "tensor that no safetensors header can hold ("+st.Detail+")", "rename it in the checkpoint")
		}
		return nil, nil, err
	}
	p.Header = h
	return raw, byName, nil
}

// addTensor appends a tensor's bytes to the output.
func (p *Plan) addTensor(t *source, h *safetensors.Tensor) error {
	form := t.form
	length := int64(h.End - h.Begin)
	if err := checkView(t, form.size, length); err != nil {
		return err
	}
	o := origin{data: t.Storage.Data, base: t.Offset * form.size, size: t.Size, stride: t.Stride, form: form, file: -1, length: length}
	o.adjacent = rowMajor(t.Size, t.Stride)
	if t.Storage.Offset < 0 {
		o.key, o.stream, o.at = t.Storage.Key, t.Storage.Stream, t.Storage.At
	} else {
		o.file = t.Storage.Offset + o.base
	}
	from := p.size
	if err := p.add(segmentOf(p.blob, t, &o)); err != nil {
		return err
	}
	p.tensors = append(p.tensors, planned{name: h.Name, dtype: h.DType, shape: h.Shape, from: from, to: p.size, origin: o})
	return nil
}

// segmentOf says how a tensor's bytes are read.
func segmentOf(blob model.Blob, t *source, o *origin) segment {
	s := segment{size: o.length, form: o.form}
	if o.length == 0 {
		return s
	}
	src, base, file := o.data, o.base, o.file >= 0
	if file {
		src, base = io.ReaderAt(blob), o.file
	}
	dims := normalise(t.Size, t.Stride, o.form.size)
	if len(dims) == 0 || len(dims) == 1 && dims[0].src == o.form.size {
		s.src, s.from, s.file = src, base, file
		return s
	}
	s.gather = newGather(src, base, o.form.size, dims, file)
	return s
}

// checkView checks once more, where the bytes are taken, that a view lies in
// its storage and has as many bytes as the header says.
func checkView(t *source, elem, length int64) error {
	bad := func(what string) error { return fmt.Errorf("tensor %q: %s", t.Name, what) }
	if t.Storage == nil || len(t.Size) != len(t.Stride) || t.Offset < 0 {
		return bad("no storage, or shape and strides do not match")
	}
	count, last := uint64(1), uint64(t.Offset)
	for i, n := range t.Size {
		if n < 0 || t.Stride[i] < 0 {
			return bad("negative size or stride")
		}
		hi, c := bits.Mul64(count, uint64(n))
		if hi != 0 {
			return bad("too many elements")
		}
		count = c
		if n == 0 {
			continue
		}
		hi, step := bits.Mul64(uint64(n-1), uint64(t.Stride[i]))
		sum, carry := bits.Add64(last, step, 0)
		if hi != 0 || carry != 0 {
			return bad("strides reach past all storage")
		}
		last = sum
	}
	if hi, b := bits.Mul64(count, uint64(elem)); hi != 0 || b != uint64(length) {
		return bad(fmt.Sprintf("%d elements of %d bytes, but %d bytes in the header", count, elem, length))
	}
	if count == 0 {
		return nil
	}
	if end, carry := bits.Add64(last, 1, 0); carry != 0 || t.Storage.Length < 0 || end > uint64(t.Storage.Length)/uint64(elem) {
		return bad(fmt.Sprintf("reaches element %d of a storage of %d bytes", last, t.Storage.Length))
	}
	return nil
}

// rowMajor says that a view's bytes lie in order without gaps.
func rowMajor(sizes, strides []int64) bool {
	want := int64(1)
	for i := len(sizes) - 1; i >= 0; i-- {
		if sizes[i] != 1 && strides[i] != want {
			return false
		}
		want *= sizes[i]
	}
	return true
}
