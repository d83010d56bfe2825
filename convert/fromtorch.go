package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
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

// fromTorch converts torch.save containers to safetensors.
type fromTorch struct{}

func (fromTorch) Name() string { return "torch-to-safetensors" }

func (fromTorch) From() []model.Format {
	return []model.Format{model.TorchZip, model.TorchLegacy, model.TorchTar, model.TorchScript}
}

func (fromTorch) To() model.Format { return model.Safetensors }

// Plan opens the container, chooses the tensors and lays out the output.
func (fromTorch) Plan(ctx context.Context, in Input, opt Options) (*Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ck, err := torch.Open(in.Blob, in.Blob.Size(), opt.Limits)
	if err != nil {
		return nil, err
	}
	state, err := ck.SelectWith(torch.SelectOptions{Path: opt.Select, AllowInert: opt.WeightsOnly})
	if err != nil {
		return nil, err
	}
	notes := append(slices.Clone(ck.Findings), state.Findings...)
	if err := refused(notes); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := fromState(in, state, ck.BigEndian, opt)
	if err != nil {
		return nil, err
	}
	p.Notes = notes
	p.reopen = func() (map[string]*torch.Storage, error) {
		ck, err := torch.Open(in.Blob, in.Blob.Size(), opt.Limits)
		if err != nil {
			return nil, err
		}
		return ck.Storages, nil
	}
	return p, nil
}

// refused gives an error for findings that no conversion may pass over.
func refused(notes []torch.Finding) error {
	var bad []torch.Finding
	for _, n := range notes {
		if n.Refuse {
			bad = append(bad, n)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &torch.RefusedError{Findings: bad}
}

// fromState lays out the safetensors file for the tensors of a checkpoint.
func fromState(in Input, state *torch.StateDict, bigEndian bool, opt Options) (*Plan, error) {
	p := newPlan(in, model.Safetensors)
	p.Subtree, p.Dropped = state.Subtree, state.Dropped
	kept := make([]int, len(state.Tensors))
	for i := range kept {
		kept[i] = i
	}
	if !opt.KeepAliases {
		kept, p.Aliases = ties(state.Tensors)
	}
	raw, byName, err := p.layHeader(state.Tensors, kept)
	if err != nil {
		return nil, err
	}
	if err := p.add(segment{size: int64(len(raw)), literal: raw}); err != nil {
		return nil, err
	}
	var storages sizes
	for i := range p.Header.Tensors {
		h := &p.Header.Tensors[i]
		t := &state.Tensors[byName[h.Name]]
		storages.add(t.Storage)
		if err := p.addTorch(t, h, bigEndian); err != nil {
			return nil, err
		}
	}
	if p.size-int64(len(raw)) > storages.limit(opt.Limits.Expand) {
		return nil, &torch.UnsupportedError{
			What: fmt.Sprintf("checkpoint whose %d bytes of storage become %d bytes of tensors", storages.total, p.size),
			Next: "save it again with views replaced by copies of what is needed",
		}
	}
	if err := p.checkInflating(storages.total); err != nil {
		return nil, err
	}
	p.settle()
	return p, nil
}

// checkInflating bounds how often compressed records are inflated again
// because views of them do not come in their order: a small file could demand
// days of it.
func (p *Plan) checkInflating(stored int64) error {
	limit := max(inflateFloor, inflateFactor*float64(stored))
	var work float64
	at := map[string]int64{} // where the reader of a record stands
	for i := range p.tensors {
		o := &p.tensors[i].origin
		if o.key == "" || o.length == 0 {
			continue
		}
		end, times := o.end(), float64(1)
		if !o.adjacent {
			times += float64(o.length / maxBlock)
		}
		if skip := at[o.key]; skip <= o.base && times == 1 {
			work -= float64(skip) // goes on from there
		}
		work += float64(end) * times
		at[o.key] = end
	}
	if work <= limit {
		return nil
	}
	return &torch.UnsupportedError{
		What: "compressed checkpoint whose tensors lie so that its records must be inflated again and again",
		Next: "unpack the archive and pack it again without compression (zip -0), or save it again with torch",
	}
}

// sizes adds up storages, each once.
type sizes struct {
	seen  map[*torch.Storage]struct{}
	total int64
}

func (s *sizes) add(st *torch.Storage) {
	if s.seen == nil {
		s.seen = map[*torch.Storage]struct{}{}
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
func (p *Plan) layHeader(tensors []torch.Tensor, kept []int) ([]byte, map[string]int, error) {
	byName := make(map[string]int, len(tensors))
	for i := range tensors {
		if _, twice := byName[tensors[i].Name]; twice {
			return nil, nil, unsupported(&tensors[i], "name that two tensors have once their keys are joined", "rename one of them in the checkpoint")
		}
		byName[tensors[i].Name] = i
	}
	specs := make([]safetensors.Spec, 0, len(kept))
	for _, i := range kept {
		t := &tensors[i]
		specs = append(specs, safetensors.Spec{Name: t.Name, DType: t.DType, Shape: t.Shape})
	}
	meta := map[string]string{formatKey: "pt"}
	for _, a := range p.Aliases {
		meta[a.Removed] = a.Kept
	}
	h, raw, err := safetensors.NewHeader(specs, meta)
	if err != nil {
		var st *safetensors.Error
		if errors.As(err, &st) {
			return nil, nil, &torch.UnsupportedError{Path: st.Tensor, What: "tensor that no safetensors header can hold (" + st.Detail + ")", Next: "rename it in the checkpoint"}
		}
		return nil, nil, err
	}
	p.Header = h
	return raw, byName, nil
}

// addTorch appends a tensor's bytes to the output.
func (p *Plan) addTorch(t *torch.Tensor, h *safetensors.Tensor, bigEndian bool) error {
	form, err := elementOf(t, bigEndian)
	if err != nil {
		return err
	}
	length := int64(h.End - h.Begin)
	if err := checkView(t, form.size, length); err != nil {
		return err
	}
	o := origin{data: t.Storage.Data, base: t.Offset * form.size, size: t.Size, stride: t.Stride, form: form, file: -1, length: length}
	o.adjacent = rowMajor(t.Size, t.Stride)
	if t.Storage.Deflated {
		o.key = t.Storage.Key
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
func segmentOf(blob model.Blob, t *torch.Tensor, o *origin) segment {
	s := segment{size: o.length, form: o.form}
	if o.length == 0 {
		return s
	}
	src, base, file := o.data, o.base, false
	if !t.Storage.Deflated {
		src, base, file = io.ReaderAt(blob), o.file, true
	}
	dims := normalise(t.Size, t.Stride, o.form.size)
	if len(dims) == 0 || len(dims) == 1 && dims[0].src == o.form.size {
		s.src, s.from, s.file = src, base, file
		return s
	}
	s.gather = newGather(src, base, o.form.size, dims, !t.Storage.Deflated)
	return s
}

// checkView checks once more, where the bytes are taken, that a view lies in
// its storage and has as many bytes as the header says.
func checkView(t *torch.Tensor, elem, length int64) error {
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
