package convert

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"

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

	// largeHeader is a header's length, in bytes, beyond which some readers
	// stop.
	largeHeader = 25_000_000

	// Inflating may take this many times the bytes of all storages, or
	// inflateFloor if that is more.
	inflateFactor = 16
	inflateFloor  = 4 << 30
)

// source is a tensor of the source, and how its elements change.
type source struct {
	format.Tensor
	form element
	tied bool // the source itself says what it is tied to
}

// contents is a checkpoint of whatever format, ready to be laid out.
type contents struct {
	format    string // for errors: "torch", "npy", ...
	framework string // the metadata value of "format"; "" for none
	tensors   []source
	dropped   []format.Dropped
	values    []format.Dropped  // in what dropped lists as a whole
	texts     map[string]string // for the metadata, where that is asked for
	metadata  map[string]string // that is always kept
}

// fromCheckpoint lays out what a codec read. reopen opens the storages that do
// not lie in the file as they are a second time, by key; nil where all do.
func fromCheckpoint(in Input, name string, ck *format.Checkpoint, reopen func() (map[string]io.ReaderAt, error), opt Options) (*Plan, error) {
	c := contents{format: name, framework: ck.Framework, tensors: make([]source, len(ck.Tensors)), dropped: ck.Dropped, texts: ck.Metadata}
	for i := range ck.Tensors {
		t := &ck.Tensors[i]
		form, err := elementSize(name, t.Name, t.DType)
		if err != nil {
			return nil, err
		}
		form.swap = t.Swap
		c.tensors[i] = source{Tensor: *t, form: form}
	}
	p, err := layOut(in, &c, opt)
	if err != nil {
		return nil, err
	}
	p.reopen = reopen
	return p, nil
}

// layOut lays out the files for the tensors of a checkpoint. It gives the
// plan of the first; it has those of the others in shards.
func layOut(in Input, c *contents, opt Options) (*Plan, error) {
	renamed, err := c.rename(&opt)
	if err != nil {
		return nil, err
	}
	if err := c.distinct(); err != nil {
		return nil, err
	}
	kept, aliases := c.written(opt)
	if opt.to() == model.Safetensors {
		c.metadata, c.dropped = c.describe(opt.Output.Metadata)
	}
	parts, err := c.split(kept, opt.Output.MaxShardSize)
	if err != nil {
		return nil, err
	}
	plans := make([]*Plan, len(parts))
	for i, part := range parts {
		if plans[i], err = layPart(in, c, part, aliases, opt); err != nil {
			return nil, err
		}
	}
	if err := c.checkSizes(plans, kept, opt.Limits.Expand); err != nil {
		return nil, err
	}
	p := together(plans)
	p.Dropped, p.Renamed = c.dropped, renamed
	return p, nil
}

// distinct refuses names under which no tensor can be written.
func (c *contents) distinct() error {
	name, why := format.BadName(func(yield func(string) bool) {
		for i := range c.tensors {
			if !yield(c.tensors[i].Name) {
				return
			}
		}
	})
	switch why {
	case "":
		return nil
	case format.NameTwice:
		return unsupported(c.format, name, why, "rename one of them in the checkpoint")
	}
	return unsupported(c.format, name, why, "rename it: --rename FROM=TO")
}

// written says which tensors are written, and which names are left out as
// ties. A torch file has ties, an npz file has none.
func (c *contents) written(opt Options) ([]int, []Alias) {
	if to := opt.to(); to == model.TorchZip || to != model.NPZ && !opt.KeepAliases {
		return ties(c.tensors)
	}
	kept := make([]int, len(c.tensors))
	for i := range kept {
		kept[i] = i
	}
	return kept, nil
}

// layPart lays out the file that holds part of the tensors.
func layPart(in Input, c *contents, part []int, aliases []Alias, opt Options) (*Plan, error) {
	p := newPlan(in, opt.to())
	here := make(map[string]bool, len(part))
	for _, i := range part {
		here[c.tensors[i].Name] = true
	}
	for _, a := range aliases {
		if here[a.Kept] {
			p.Aliases = append(p.Aliases, a)
		}
	}
	var err error
	switch opt.to() {
	case model.TorchZip:
		err = p.layTorch(c, part)
	case model.NPZ:
		err = p.layNPZ(c, part)
	default:
		err = p.laySafetensors(c, part, opt.Output.align())
	}
	if err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// laySafetensors lays out a safetensors file.
func (p *Plan) laySafetensors(c *contents, part []int, align int) error {
	h, raw, err := p.header(c, part, align)
	if err != nil {
		return err
	}
	p.Header = h
	if h.Length > largeHeader {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the header has %d bytes, and some readers stop at %d: smaller shards have smaller headers (--max-shard-size)", h.Length, largeHeader))
	}
	if err := p.add(segment{size: int64(len(raw)), literal: raw}); err != nil {
		return err
	}
	byName := make(map[string]int, len(part))
	for _, i := range part {
		byName[c.tensors[i].Name] = i
	}
	for i := range h.Tensors {
		x := &h.Tensors[i]
		if err := p.addTensor(&c.tensors[byName[x.Name]], int64(x.End-x.Begin), 0); err != nil {
			return err
		}
	}
	return nil
}

// checkSizes bounds what tensors may take of what is stored.
func (c *contents) checkSizes(plans []*Plan, kept []int, factor int64) error {
	var storages sizes
	for _, i := range kept {
		storages.add(c.tensors[i].Storage)
	}
	var total int64
	for _, p := range plans {
		for i := range p.tensors {
			total = min(total+p.tensors[i].origin.length, 1<<60) // no overflow
		}
	}
	if total > storages.limit(factor) {
		return &format.UnsupportedError{
			Format: c.format,
			What:   fmt.Sprintf("checkpoint whose %d bytes of storage become %d bytes of tensors", storages.total, total),
			Next:   "save it again with views replaced by copies of what is needed",
		}
	}
	return checkInflating(plans, c.format, storages.total)
}

// checkInflating bounds how often compressed records are inflated again
// because views of them do not come in their order: a small file could demand
// days of it.
func checkInflating(plans []*Plan, name string, stored int64) error {
	limit := max(inflateFloor, inflateFactor*float64(stored))
	var work float64
	for _, p := range plans {
		work += p.inflating()
	}
	if work <= limit {
		return nil
	}
	return &format.UnsupportedError{
		Format: name,
		What:   "compressed checkpoint whose tensors lie so that its records must be inflated again and again",
		Next:   "unpack the archive and pack it again without compression (zip -0), or save it again uncompressed",
	}
}

// inflating is how many bytes are inflated when the output is read in order.
func (p *Plan) inflating() float64 {
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
	return work
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

// header makes the header for the tensors of a part, and the file's first
// bytes.
func (p *Plan) header(c *contents, part []int, align int) (*safetensors.Header, []byte, error) {
	specs := make([]safetensors.Spec, len(part))
	for k, i := range part {
		specs[k] = specOf(&c.tensors[i])
	}
	meta := map[string]string{}
	if c.framework != "" {
		meta[formatKey] = c.framework
	}
	if p.Format == model.Safetensors {
		maps.Copy(meta, c.metadata)
	}
	for _, a := range p.Aliases {
		meta[a.Removed] = a.Kept
	}
	h, raw, err := safetensors.NewAlignedHeader(specs, meta, align)
	var st *safetensors.Error
	switch {
	case !errors.As(err, &st):
		return h, raw, err
	case st.Kind == safetensors.HeaderTooLarge:
		return nil, nil, unsupported(c.format, "", fmt.Sprintf("%d tensors that need a header of more than %d bytes, which no reader takes", len(part), safetensors.MaxHeaderLength),
			"split them into more files: --max-shard-size, with a size that is a part of theirs")
	}
	return nil, nil, unsupported(c.format, st.Tensor, "tensor that no safetensors header can hold ("+st.Detail+")", "rename it: --rename FROM=TO")
}

func specOf(t *source) safetensors.Spec {
	return safetensors.Spec{Name: t.Name, DType: t.DType, Shape: t.Shape}
}

// addTensor appends a tensor's bytes to the output. summed is 1 + the number
// of the checksum over them; 0 for none.
func (p *Plan) addTensor(t *source, length int64, summed int) error {
	if err := checkView(t, t.form.size, length); err != nil {
		return err
	}
	o := origin{data: t.Storage.Data, base: t.Offset * t.form.size, size: t.Size, stride: t.Stride, form: t.form, file: -1, length: length}
	o.adjacent = rowMajor(t.Size, t.Stride)
	if t.Storage.Offset < 0 {
		o.key, o.stream, o.at = t.Storage.Key, t.Storage.Stream, t.Storage.At
	} else {
		o.file = t.Storage.Offset + o.base
	}
	from := p.size
	s := segmentOf(p.blob, t, &o)
	s.summed = summed
	if err := p.add(s); err != nil {
		return err
	}
	p.tensors = append(p.tensors, planned{name: t.Name, dtype: t.DType, shape: t.Shape, from: from, to: p.size, origin: o})
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
