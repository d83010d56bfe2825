package torch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
)

// parts is what a quantised or sparse tensor is made of: plain tensors under
// names of their own.
type parts struct {
	made  []piece
	about string // what it was, for the record
}

// piece is a plain tensor. Its name is that of the whole tensor and suffix.
type piece struct {
	suffix string
	tensor Tensor
}

// takeApart splits a tensor that no safetensors dtype holds, where the options
// ask for that. nil where they do not, or it is of another kind.
func (w *walker) takeApart(u *UnsupportedError) (*parts, error) {
	switch {
	case u.kind == rebuildQuantised && w.splitQuantised:
		return w.b.quantised(u.args)
	case u.kind == rebuildSparse && w.splitSparse:
		return w.b.sparse(u.args)
	}
	return nil, nil
}

// quantised reads the arguments of torch._utils._rebuild_qtensor: storage,
// offset, size, stride, quantizer parameters, requires_grad, hooks.
func (b *builder) quantised(args []pickle.Value) (*parts, error) {
	if err := wantArgs(args, 7); err != nil {
		return nil, err
	}
	whole := &built{}
	ref, err := b.storage(whole, args[0])
	if err != nil {
		return nil, err
	}
	if whole.DType, err = integersOf(ref); err != nil {
		return nil, err
	}
	if whole.Offset, err = count(args[1], "offset"); err != nil {
		return nil, err
	}
	if whole.Size, err = counts(args[2], "size"); err != nil {
		return nil, err
	}
	if whole.Stride, err = counts(args[3], "stride"); err != nil {
		return nil, err
	}
	if err := noHooks(args[6]); err != nil {
		return nil, err
	}
	if err := b.extent(whole, ref); err != nil {
		return nil, err
	}
	p := &parts{made: []piece{{"", whole.Tensor}}}
	return p, b.quantiser(p, args[4], whole.Size, ref.class)
}

// integersOf gives the integers that a quantised storage holds.
func integersOf(ref *storageRef) (safetensors.DType, error) {
	switch _, name := splitClass(ref.class); name {
	case "QInt8Storage":
		return safetensors.I8, nil
	case "QUInt8Storage":
		return safetensors.U8, nil
	case "QInt32Storage":
		return safetensors.I32, nil
	}
	return 0, &UnsupportedError{What: "quantised tensor of " + quote(ref.class) + ", several elements a byte", Next: nextPacked}
}

// quantiser reads (scheme, scale, zero point) or (scheme, scales, zero points,
// axis).
func (b *builder) quantiser(p *parts, v pickle.Value, size []int64, class string) error {
	t, ok := v.(*pickle.Tuple)
	if !ok || len(t.Items) < 3 {
		return errors.New("the quantizer parameters are no tuple")
	}
	g, ok := t.Items[0].(*pickle.Global)
	if !ok {
		return errors.New("the quantisation scheme is no global")
	}
	module, scheme := g.Mapped()
	p.about = class + " " + scheme
	switch {
	case module == "torch" && scheme == "per_tensor_affine" && len(t.Items) == 3:
		scale, ok := t.Items[1].(pickle.Float)
		zero, ok2 := t.Items[2].(pickle.Int)
		if !ok || !ok2 {
			return errors.New("scale or zero point is no number")
		}
		p.made = append(p.made,
			piece{".scale", b.literal(safetensors.F64, nil, math.Float64bits(float64(scale)))},
			piece{".zero_point", b.literal(safetensors.I64, nil, uint64(zero))})
		return nil
	case module == "torch" && (scheme == "per_channel_affine" || scheme == "per_channel_affine_float_qparams") && len(t.Items) == 4:
		axis, err := count(t.Items[3], "axis")
		if err != nil {
			return err
		}
		if axis >= int64(len(size)) {
			return fmt.Errorf("axis %d of %d dimensions", axis, len(size))
		}
		for i, suffix := range []string{".scale", ".zero_point"} {
			x, err := b.strided(t.Items[1+i])
			if err != nil {
				return fmt.Errorf("%s: %w", suffix[1:], err)
			}
			if len(x.Size) != 1 || x.Size[0] != size[axis] {
				return fmt.Errorf("%s of shape %v for %d channels", suffix[1:], x.Size, size[axis])
			}
			p.made = append(p.made, piece{suffix, *x})
		}
		p.made = append(p.made, piece{".axis", b.literal(safetensors.I64, nil, uint64(axis))})
		p.about += " along " + strconv.FormatInt(axis, 10)
		return nil
	}
	return &UnsupportedError{What: "quantised tensor of scheme " + quote(module+"."+scheme), Next: nextPacked}
}

// sparse reads the arguments of _rebuild_sparse_tensor and
// _rebuild_sparse_csr_tensor: the layout and its data.
func (b *builder) sparse(args []pickle.Value) (*parts, error) {
	if err := wantArgs(args, 2); err != nil {
		return nil, err
	}
	layout := layoutOf(args[0])
	data, ok := args[1].(*pickle.Tuple)
	if !ok {
		return nil, errors.New("the data of the sparse tensor is no tuple")
	}
	var names []string
	switch layout {
	case "torch.sparse_coo":
		names = []string{".indices", ".values"}
	case "torch.sparse_csr", "torch.sparse_bsr":
		names = []string{".crow_indices", ".col_indices", ".values"}
	case "torch.sparse_csc", "torch.sparse_bsc":
		names = []string{".ccol_indices", ".row_indices", ".values"}
	default:
		return nil, errors.New("unknown layout " + quote(layout))
	}
	if len(data.Items) != len(names)+1 && (layout != "torch.sparse_coo" || len(data.Items) != len(names)+2) {
		return nil, fmt.Errorf("%d parts of a tensor of layout %s", len(data.Items), layout)
	}
	p := &parts{about: layout}
	for i, name := range names {
		x, err := b.strided(data.Items[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name[1:], err)
		}
		if name != ".values" && x.DType != safetensors.I64 && x.DType != safetensors.I32 {
			return nil, fmt.Errorf("%s are %s", name[1:], x.DType)
		}
		p.made = append(p.made, piece{name, *x})
	}
	size, err := counts(data.Items[len(names)], "size")
	if err != nil {
		return nil, err
	}
	if err := checkSparse(layout, p.made, size); err != nil {
		return nil, err
	}
	if len(data.Items) > len(names)+1 {
		flag, ok := data.Items[len(names)+1].(pickle.Bool)
		if _, none := data.Items[len(names)+1].(pickle.None); !ok && !none {
			return nil, errors.New("is_coalesced is no bool")
		}
		if flag {
			p.about += " coalesced"
		}
	}
	numbers := make([]uint64, len(size))
	for i, n := range size {
		numbers[i] = uint64(n)
	}
	p.made = append(p.made, piece{".size", b.literal(safetensors.I64, []int64{int64(len(size))}, numbers...)})
	return p, nil
}

// checkSparse holds the shapes of the parts against each other. What the
// indices say is in the data, and not read.
func checkSparse(layout string, made []piece, size []int64) error {
	last := made[len(made)-1].tensor.Size // of the values
	first := made[0].tensor.Size
	if layout == "torch.sparse_coo" {
		if len(first) != 2 || first[0] > int64(len(size)) || len(last) == 0 || first[1] != last[0] {
			return fmt.Errorf("indices of shape %v and values of shape %v for size %v", first, last, size)
		}
		return nil
	}
	second := made[1].tensor.Size
	if len(size) < 2 || len(first) == 0 || len(second) != len(first) || len(last) < len(second) {
		return fmt.Errorf("indices of shapes %v and %v, values of shape %v for size %v", first, second, last, size)
	}
	if batch := len(second) - 1; last[batch] != second[batch] {
		return fmt.Errorf("%d indices and %d values", second[batch], last[batch])
	}
	return nil
}

// layoutOf reads torch.serialization._get_layout(name); "" where it is
// something else.
func layoutOf(v pickle.Value) string {
	c, ok := v.(*pickle.Call)
	if !ok {
		return ""
	}
	module, name := calleeName(c)
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || module != "torch.serialization" || name != "_get_layout" || len(args.Items) != 1 {
		return ""
	}
	s, _ := textOf(args.Items[0])
	return s
}

// strided builds a plain tensor that is part of another one.
func (b *builder) strided(v pickle.Value) (*Tensor, error) {
	if !b.c.isTensor(v) {
		return nil, errors.New("it is no tensor")
	}
	out, err := b.tensor(v)
	var u *UnsupportedError
	switch {
	case errors.As(err, &u):
		return nil, fmt.Errorf("it is a %s", u.What)
	case err != nil:
		return nil, err
	}
	return &out.Tensor, nil
}

// literal makes a tensor of values that the pickle itself holds, in the byte
// order of the checkpoint.
func (b *builder) literal(dtype safetensors.DType, size []int64, values ...uint64) Tensor {
	data := make([]byte, 0, 8*len(values))
	for _, v := range values {
		if b.c.BigEndian {
			data = binary.BigEndian.AppendUint64(data, v)
		} else {
			data = binary.LittleEndian.AppendUint64(data, v)
		}
	}
	b.c.literals++
	st := &Storage{
		Key: "pickle/" + strconv.Itoa(b.c.literals), DType: dtype, ElementSize: 8, Numel: int64(len(values)),
		Length: int64(len(data)), Literal: data, Data: bytes.NewReader(data),
	}
	t := Tensor{DType: dtype, Size: size, Stride: make([]int64, len(size)), Shape: make([]uint64, len(size)), Storage: st}
	for i, n := range size { // at most one dimension
		t.Shape[i], t.Stride[i] = uint64(n), 1
	}
	return t
}

// split emits the parts of a tensor under its name.
func (e *emitter) split(p *parts) error {
	for i := range p.made {
		if err := e.place(p.made[i].tensor, p.made[i].suffix); err != nil {
			return err
		}
	}
	e.found("split", "%s: written as its parts, %s", e.shownPath(), p.about)
	return e.dropHere(p.about, "safetensors has no such layout: written as its parts, NAME"+strings.Join(p.suffixes(), ", NAME"))
}

func (p *parts) suffixes() []string {
	out := make([]string, len(p.made))
	for i := range p.made {
		out[i] = p.made[i].suffix
	}
	return out
}
