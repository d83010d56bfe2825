package torch

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
)

// rebuild is one of the functions that make a tensor (torch/_utils.py,
// torch/_tensor.py).
type rebuild int

const (
	notRebuild rebuild = iota
	rebuildV1
	rebuildV2
	rebuildV3
	rebuildParameter
	rebuildParameterState
	rebuildFromType
	rebuildDeviceFromCPU
	// What follows cannot be converted without loss.
	rebuildDeviceFromNumpy
	rebuildQuantised
	rebuildSparse
	rebuildNested
	rebuildMeta
	rebuildWrapper
)

func rebuildKind(module, name string) rebuild {
	if module == "torch._tensor" && name == "_rebuild_from_type_v2" {
		return rebuildFromType
	}
	if module != "torch._utils" {
		return notRebuild
	}
	switch name {
	case "_rebuild_tensor":
		return rebuildV1
	case "_rebuild_tensor_v2":
		return rebuildV2
	case "_rebuild_tensor_v3":
		return rebuildV3
	case "_rebuild_parameter":
		return rebuildParameter
	case "_rebuild_parameter_with_state":
		return rebuildParameterState
	case "_rebuild_device_tensor_from_cpu_tensor":
		return rebuildDeviceFromCPU
	case "_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor":
		return rebuildDeviceFromNumpy
	case "_rebuild_qtensor":
		return rebuildQuantised
	case "_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor":
		return rebuildSparse
	case "_rebuild_nested_tensor":
		return rebuildNested
	case "_rebuild_meta_tensor_no_storage":
		return rebuildMeta
	case "_rebuild_wrapper_subclass":
		return rebuildWrapper
	}
	return notRebuild
}

// The next steps for what cannot be converted without loss.
const (
	nextQuantised  = "take it apart: --split-quantized writes the integers as NAME, NAME.scale and NAME.zero_point; or save the model as it was before quantisation, or save t.int_repr(), t.q_scale() and t.q_zero_point() as plain values, and convert that"
	nextSparse     = "take it apart: --split-sparse writes its indices, values and size as plain tensors, such as NAME.indices, NAME.values and NAME.size; or save its indices and values as two tensors, or t.to_dense() if the model takes that, and convert that"
	nextPacked     = "save t.dequantize() if the model takes that, and convert that"
	nextNested     = "save the list t.unbind() and convert that"
	nextMeta       = "it has no data: load the weights into the model before saving it"
	nextWrapper    = "save the plain tensors inside it (t.full_tensor() of a DTensor) and convert that"
	nextNumpy      = "save t.cpu() and convert that"
	nextCast       = "save the tensor in the type that is wanted, t.to(dtype), and convert that"
	nextComplex128 = "save torch.view_as_real(t), or t.to(torch.complex64) if that precision is enough, and convert that"
	nextDType      = "save t.view() of a type that safetensors has, and convert that"
	nextSubclass   = "save t.as_subclass(torch.Tensor) and convert that"
	nextSetState   = "load it once with the torch release that wrote it, save its state_dict() again, and convert that"
	nextEmpty      = "leave it out: --exclude FILE"
	nextModule     = "load it where its code is, save model.state_dict(), and convert that"
	nextFrozen     = "freezing has taken the names away: take the model as it was before torch.jit.freeze, torch.save(model.state_dict(), \"weights.pt\"), and convert weights.pt"
	nextArrays     = "save torch.from_numpy(a) of each array and convert that"
	nextSharded    = "gather the weights: from torch.distributed.checkpoint.state_dict import get_model_state_dict, StateDictOptions; torch.save(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)), \"weights.pt\") where it is trained, and convert weights.pt"
	nextTorchao    = "save the model as it was before quantisation, or torch.save({k: v.dequantize() if hasattr(v, \"dequantize\") else v for k, v in model.state_dict().items()}, \"weights.pt\"), and convert weights.pt"
	nextZeRO       = "python zero_to_fp32.py CHECKPOINT_DIR OUT_DIR (DeepSpeed leaves the script beside the checkpoint), and convert what it writes"
	nextMegatron   = "python tools/checkpoint/convert.py --model-type GPT --loader mcore --saver mcore --target-tensor-parallel-size 1 --target-pipeline-parallel-size 1 --load-dir CHECKPOINT_DIR --save-dir OUT_DIR (of Megatron-LM), and convert what it writes"
)

// unsupportedRebuild says why a function's tensor cannot be converted.
func unsupportedRebuild(k rebuild) *UnsupportedError {
	switch k {
	case rebuildDeviceFromNumpy:
		return &UnsupportedError{What: "tensor of another device, kept as a numpy array", Next: nextNumpy}
	case rebuildQuantised:
		return &UnsupportedError{What: "quantised tensor", Next: nextQuantised}
	case rebuildSparse:
		return &UnsupportedError{What: "sparse tensor", Next: nextSparse}
	case rebuildNested:
		return &UnsupportedError{What: "nested tensor", Next: nextNested}
	case rebuildMeta:
		return &UnsupportedError{What: "meta tensor", Next: nextMeta}
	case rebuildWrapper:
		return &UnsupportedError{What: "tensor of a wrapper class", Next: nextWrapper}
	}
	return nil
}

// DTypeOf gives the element type of a torch.dtype by its name: "float32".
// float4_e2m1fn_x2 is two F4 values in a byte. Types that safetensors has
// none for are not known.
func DTypeOf(name string) (safetensors.DType, bool) { return dtypeOf(name) }

// dtypeOf gives the element type of a torch.dtype by its name.
// float4_e2m1fn_x2 is two F4 values in a byte.
func dtypeOf(name string) (safetensors.DType, bool) {
	switch name {
	case "float64", "double":
		return safetensors.F64, true
	case "float32", "float":
		return safetensors.F32, true
	case "float16", "half":
		return safetensors.F16, true
	case "bfloat16":
		return safetensors.BF16, true
	case "int64", "long":
		return safetensors.I64, true
	case "int32", "int":
		return safetensors.I32, true
	case "int16", "short":
		return safetensors.I16, true
	case "int8":
		return safetensors.I8, true
	case "uint8":
		return safetensors.U8, true
	case "uint16":
		return safetensors.U16, true
	case "uint32":
		return safetensors.U32, true
	case "uint64":
		return safetensors.U64, true
	case "bool":
		return safetensors.BOOL, true
	case "complex64", "cfloat":
		return safetensors.C64, true
	case "float8_e4m3fn":
		return safetensors.F8E4M3, true
	case "float8_e5m2":
		return safetensors.F8E5M2, true
	case "float8_e4m3fnuz":
		return safetensors.F8E4M3FNUZ, true
	case "float8_e5m2fnuz":
		return safetensors.F8E5M2FNUZ, true
	case "float8_e8m0fnu":
		return safetensors.F8E8M0, true
	case "float4_e2m1fn_x2":
		return safetensors.F4, true
	}
	return 0, false
}

// maxRank is more than any tensor has: torch itself stops at 64.
const maxRank = 64

// minExpand is what a view may always take, however small its storage.
const minExpand = 1 << 30

// built is a tensor without its name. extra names what is lost with it.
type built struct {
	Tensor
	extra string
}

// builder validates tensors of one checkpoint.
type builder struct{ c *Checkpoint }

// tensor validates what v makes. The error is an *UnsupportedError where the
// tensor is sound but cannot be converted.
func (b *builder) tensor(v pickle.Value) (*built, error) {
	if p, ok := v.(*pickle.Persistent); ok {
		return b.fromTar(p)
	}
	call := v.(*pickle.Call)
	kind, args, err := callParts(call)
	if err != nil {
		return nil, err
	}
	out := &built{}
	for depth := 0; depth < 16; depth++ {
		if err := unsupportedRebuild(kind); err != nil {
			err.kind, err.args = kind, args
			return nil, err
		}
		switch kind {
		case rebuildV1, rebuildV2, rebuildV3:
			return out, b.plain(out, kind, args)
		case rebuildParameter, rebuildParameterState:
			call, err = b.parameter(out, kind, args)
		case rebuildFromType:
			kind, args, err = b.fromType(out, args)
			if err != nil {
				return nil, err
			}
			continue
		case rebuildDeviceFromCPU:
			return b.fromCPU(out, args)
		default:
			return nil, errors.New("it is made by no function that makes tensors")
		}
		if err == nil {
			kind, args, err = callParts(call)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("too many wrappers around one tensor")
}

// callParts takes a call of a rebuild function apart.
func callParts(call *pickle.Call) (rebuild, []pickle.Value, error) {
	kind := kindOf(call)
	args, ok := call.Args.(*pickle.Tuple)
	switch {
	case call.Opcode != 'R' || !ok || call.Kwargs != nil:
		return 0, nil, errors.New("it is not made by a plain call")
	case len(call.Items) > 0 || len(call.Appends) > 0:
		return 0, nil, errors.New("the stream sets items of it")
	case len(call.States) > 0:
		return 0, nil, errors.New("the stream sets its state: torch would replace its storage")
	}
	return kind, args.Items, nil
}

// kindOf says which rebuild function a call names.
func kindOf(call *pickle.Call) rebuild {
	g, ok := call.Callee.(*pickle.Global)
	if !ok {
		return notRebuild
	}
	return rebuildKind(g.Mapped())
}

func wantArgs(args []pickle.Value, counts ...int) error {
	for _, n := range counts {
		if len(args) == n {
			return nil
		}
	}
	return fmt.Errorf("%d arguments, %d are needed", len(args), counts[0])
}

// parameter unwraps _rebuild_parameter(data, requires_grad, hooks[, state]).
func (b *builder) parameter(out *built, kind rebuild, args []pickle.Value) (*pickle.Call, error) {
	want := 3
	if kind == rebuildParameterState {
		want = 4
	}
	if err := wantArgs(args, want); err != nil {
		return nil, err
	}
	data, ok := args[0].(*pickle.Call)
	if !ok {
		return nil, errors.New("the data of the parameter is no tensor")
	}
	if _, ok := args[1].(pickle.Bool); !ok {
		return nil, errors.New("requires_grad is no bool")
	}
	if err := noHooks(args[2]); err != nil {
		return nil, err
	}
	if want == 4 && !isEmptyState(args[3]) {
		if err := harmlessState(args[3]); err != nil {
			return nil, err
		}
		out.extra = "state of the parameter"
	}
	out.Parameter = true
	return data, nil
}

// fromType unwraps _rebuild_from_type_v2(func, type, args, state).
func (b *builder) fromType(out *built, args []pickle.Value) (rebuild, []pickle.Value, error) {
	if err := wantArgs(args, 4); err != nil {
		return 0, nil, err
	}
	fn, ok1 := args[0].(*pickle.Global)
	class, ok2 := args[1].(*pickle.Global)
	inner, ok3 := args[2].(*pickle.Tuple)
	if !ok1 || !ok2 || !ok3 {
		return 0, nil, errors.New("function, type or arguments of the tensor are not what they should be")
	}
	kind := rebuildKind(fn.Mapped())
	if kind == notRebuild || kind == rebuildFromType {
		return 0, nil, errors.New("the function called makes no tensor")
	}
	switch module, name := class.Mapped(); {
	case module == "torch" && name == "Tensor":
	case module == "torch.nn.parameter" && name == "Parameter":
		out.Parameter = true
	default:
		return 0, nil, &UnsupportedError{What: "tensor of class " + quote(module+"."+name), Next: nextSubclass}
	}
	if !isEmptyState(args[3]) {
		if err := harmlessState(args[3]); err != nil {
			return 0, nil, err
		}
		out.extra = "attributes of the tensor"
	}
	return kind, inner.Items, nil
}

// fromCPU unwraps _rebuild_device_tensor_from_cpu_tensor(data, dtype, device,
// requires_grad), which casts data to dtype.
func (b *builder) fromCPU(out *built, args []pickle.Value) (*built, error) {
	if err := wantArgs(args, 4); err != nil {
		return nil, err
	}
	data, ok := args[0].(*pickle.Call)
	if !ok {
		return nil, errors.New("the data is no tensor")
	}
	kind, inner, err := callParts(data)
	if err != nil {
		return nil, err
	}
	if kind != rebuildV1 && kind != rebuildV2 && kind != rebuildV3 {
		return nil, errors.New("the data is no plain tensor")
	}
	if err := b.plain(out, kind, inner); err != nil {
		return nil, err
	}
	g, ok := args[1].(*pickle.Global)
	if !ok {
		return nil, errors.New("the element type is no global")
	}
	module, name := g.Mapped()
	if dtype, ok := dtypeOf(name); module != "torch" || !ok || dtype != out.DType {
		return nil, &UnsupportedError{What: "tensor that is cast to " + quote(module+"."+name) + " when loaded", Next: nextCast}
	}
	return out, nil
}

// isEmptyState says whether a state holds nothing.
func isEmptyState(v pickle.Value) bool {
	switch v := v.(type) {
	case pickle.None:
		return true
	case *pickle.Dict:
		return len(v.Items) == 0
	}
	return false
}

// noHooks demands an empty OrderedDict, or None as torch 0.3 wrote: whatever
// else lies there is called by backward().
func noHooks(v pickle.Value) error {
	if _, none := v.(pickle.None); none {
		return nil
	}
	c, ok := v.(*pickle.Call)
	if ok && isOrderedDict(c) && len(c.Items) == 0 && len(c.States) == 0 && len(c.Appends) == 0 && c.Kwargs == nil {
		if items, ok := argItems(c.Args); ok && len(items) == 0 { // Python 2 writes OrderedDict([])
			return nil
		}
	}
	return errors.New("the backward hooks are no empty OrderedDict")
}

func isOrderedDict(c *pickle.Call) bool {
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return false
	}
	module, name := g.Mapped()
	return module == "collections" && name == "OrderedDict"
}

// plain reads (storage, offset, size, stride[, requires_grad, hooks[, dtype]
// [, metadata]]).
func (b *builder) plain(out *built, kind rebuild, args []pickle.Value) error {
	var err error
	switch kind {
	case rebuildV1:
		err = wantArgs(args, 4)
	case rebuildV2:
		err = wantArgs(args, 6, 7)
	default:
		err = wantArgs(args, 7, 8)
	}
	if err != nil {
		return err
	}
	ref, err := b.storage(out, args[0])
	if err != nil {
		return err
	}
	if out.Offset, err = count(args[1], "offset"); err != nil {
		return err
	}
	if out.Size, err = counts(args[2], "size"); err != nil {
		return err
	}
	if out.Stride, err = counts(args[3], "stride"); err != nil {
		return err
	}
	rest := args[4:]
	if kind != rebuildV1 {
		if _, ok := rest[0].(pickle.Bool); !ok {
			return errors.New("requires_grad is no bool")
		}
		if err := noHooks(rest[1]); err != nil {
			return err
		}
		rest = rest[2:]
	}
	if kind == rebuildV3 {
		if err := retype(out, ref, rest[0]); err != nil {
			return err
		}
		rest = rest[1:]
	} else if ref.elements.untyped {
		return errors.New("the storage has no element type")
	}
	if err := b.extent(out, ref); err != nil {
		return err
	}
	if out.DType == 0 {
		return unsupportedElements(ref.elements)
	}
	if len(rest) == 1 {
		return metadata(out, rest[0])
	}
	return nil
}

func unsupportedElements(class storageClass) error {
	if class.what == "complex128" {
		return &UnsupportedError{What: "complex128 tensor", Next: nextComplex128}
	}
	return &UnsupportedError{What: class.what + " tensor", Next: nextPacked}
}

// storage finds the storage of a tensor.
func (b *builder) storage(out *built, v pickle.Value) (*storageRef, error) {
	p, ok := v.(*pickle.Persistent)
	if !ok {
		return nil, errors.New("the first argument is no storage")
	}
	ref, err := b.c.reference(p)
	if err != nil {
		return nil, err
	}
	st := b.c.Storages[ref.key]
	if ref.module != nil || st == nil {
		return nil, errors.New("the first argument is no storage of this file")
	}
	out.Storage, out.DType = st, st.DType
	return ref, nil
}

// retype takes the element type of _rebuild_tensor_v3, whose storage is
// untyped: numel, and a view, count bytes there.
func retype(out *built, ref *storageRef, v pickle.Value) error {
	if !ref.elements.untyped {
		return errors.New("the storage is not untyped")
	}
	g, ok := v.(*pickle.Global)
	if !ok {
		return errors.New("the element type is no global")
	}
	module, name := g.Mapped()
	dtype, ok := dtypeOf(name)
	switch {
	case module == "torch" && ok:
		out.DType = dtype
	case module == "torch" && name == "complex128":
		return &UnsupportedError{What: "complex128 tensor", Next: nextComplex128}
	case module == "torch" && isDTypeName(name):
		return &UnsupportedError{What: quote(name) + " tensor", Next: nextDType}
	default:
		return errors.New("unknown element type " + quote(module+"."+name))
	}
	size := elementSize(dtype)
	if ref.first%size != 0 {
		return errors.New("the view begins inside an element")
	}
	ref.first, ref.view = ref.first/size, ref.view/size
	return nil
}

// elementSize is the bytes of what torch calls an element.
func elementSize(d safetensors.DType) int64 {
	return max(1, int64(d.Bits()/8)) // F4: the byte of two
}

func count(v pickle.Value, what string) (int64, error) {
	switch n := v.(type) {
	case pickle.Int:
		if n >= 0 {
			return int64(n), nil
		}
		return 0, fmt.Errorf("%s %d is negative", what, n)
	case pickle.BigInt:
		return 0, fmt.Errorf("%s of %d bits overflows", what, n.BitLen())
	}
	return 0, fmt.Errorf("%s is no integer", what)
}

// counts reads a tuple of counts, or a torch.Size of one.
func counts(v pickle.Value, what string) ([]int64, error) {
	if c, ok := v.(*pickle.Call); ok {
		if items, ok := sizeItems(c); ok {
			v = &pickle.Tuple{Items: items}
		}
	}
	t, ok := v.(*pickle.Tuple)
	if !ok {
		return nil, fmt.Errorf("%s is no tuple", what)
	}
	if len(t.Items) > maxRank {
		return nil, fmt.Errorf("%d dimensions, more than %d", len(t.Items), maxRank)
	}
	out := make([]int64, len(t.Items))
	for i, v := range t.Items {
		n, err := count(v, what)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}

// sizeItems takes torch.Size((...)) apart.
func sizeItems(c *pickle.Call) ([]pickle.Value, bool) {
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return nil, false
	}
	args, ok := c.Args.(*pickle.Tuple)
	if module, name := g.Mapped(); !ok || module != "torch" || name != "Size" || len(args.Items) != 1 {
		return nil, false
	}
	t, ok := args.Items[0].(*pickle.Tuple)
	if !ok {
		return nil, false
	}
	return t.Items, true
}

// metadata takes the conjugate and negative bits.
func metadata(out *built, v pickle.Value) error {
	items, ok := dictItems(v)
	if _, none := v.(pickle.None); !ok && !none {
		return errors.New("the metadata is no dictionary")
	}
	for _, it := range items {
		key, _ := textOf(it.Key)
		set, isBool := it.Value.(pickle.Bool)
		switch {
		case !isBool:
			return errors.New("metadata " + quote(key) + " is no bool")
		case key == "conj":
			out.Conj = bool(set)
		case key == "neg":
			out.Neg = bool(set)
		default:
			return errors.New("unknown metadata " + quote(key))
		}
	}
	if out.Conj && out.DType != safetensors.C64 {
		return errors.New("the conjugate bit on numbers that are not complex")
	}
	if out.Neg {
		switch out.DType {
		case safetensors.F16, safetensors.BF16, safetensors.F32, safetensors.F64, safetensors.C64,
			safetensors.I8, safetensors.I16, safetensors.I32, safetensors.I64:
		default:
			return &UnsupportedError{What: "negative bit on " + out.DType.String(), Next: "save t.resolve_neg() and convert that"}
		}
	}
	return nil
}

// extent checks that every element of the view lies in its storage, and
// places the view. Without that a reader would take memory that belongs to
// something else.
func (b *builder) extent(out *built, ref *storageRef) error {
	if len(out.Size) != len(out.Stride) {
		return fmt.Errorf("%d sizes and %d strides", len(out.Size), len(out.Stride))
	}
	numel, last, err := span(out.Size, out.Stride)
	if err != nil {
		return err
	}
	if numel == 0 {
		// A slice of nothing may begin anywhere (checkInBoundsForStorage in
		// aten/src/ATen/native/Resize.h); nothing is read there.
		out.Offset = min(out.Offset, ref.view)
	}
	if out.Offset > math.MaxInt64-last || (numel > 0 && out.Offset+last >= ref.view) {
		return fmt.Errorf("the view ends at element %d+%d of a storage of %d", out.Offset, last, ref.view)
	}
	size := ref.elements.bytes
	if out.DType != 0 {
		size = elementSize(out.DType)
	}
	hi, total := bits.Mul64(uint64(numel), uint64(size))
	if hi != 0 || total > math.MaxInt64 {
		return fmt.Errorf("%d elements overflow", numel)
	}
	if limit := b.expandLimit(out.Storage.Numel * out.Storage.ElementSize); total > limit {
		return fmt.Errorf("the view would take %d bytes of a storage of %d", total, out.Storage.Numel*out.Storage.ElementSize)
	}
	out.Offset += ref.first
	return shape(out)
}

// expandLimit is how many bytes a view of so large a storage may take.
func (b *builder) expandLimit(storage int64) uint64 {
	hi, lo := bits.Mul64(uint64(storage), uint64(b.c.lim.Expand))
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return max(lo, minExpand)
}

// span gives the number of elements, and the distance of the last from the
// first; every intermediate product must fit, also where a later size is 0.
func span(size, stride []int64) (numel, last int64, err error) {
	numel = 1
	for i, n := range size {
		hi, lo := bits.Mul64(uint64(numel), uint64(n))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, 0, fmt.Errorf("the product of the sizes overflows")
		}
		numel = int64(lo)
		if n == 0 {
			continue
		}
		hi, lo = bits.Mul64(uint64(n-1), uint64(stride[i]))
		if hi != 0 || lo > uint64(math.MaxInt64-last) {
			return 0, 0, fmt.Errorf("size and stride of dimension %d overflow", i)
		}
		last += int64(lo)
	}
	if numel == 0 {
		last = 0
	}
	return numel, last, nil
}

// shape gives the sizes as safetensors counts them.
func shape(out *built) error {
	out.Shape = make([]uint64, len(out.Size))
	for i, n := range out.Size {
		out.Shape[i] = uint64(n)
	}
	if out.DType != safetensors.F4 {
		return nil
	}
	if len(out.Shape) == 0 || out.Size[len(out.Size)-1] > math.MaxInt64/2 {
		return &UnsupportedError{What: "float4 tensor without dimensions", Next: nextDType}
	}
	out.Shape[len(out.Shape)-1] *= 2
	return nil
}

// fromTar builds a tensor of the tar container.
func (b *builder) fromTar(p *pickle.Persistent) (*built, error) {
	t := b.c.tarTensor(p)
	if t == nil {
		return nil, errors.New("the persistent id names no tensor")
	}
	out := &built{}
	out.Storage, out.DType = t.storage, t.storage.DType
	out.Size, out.Stride, out.Offset = t.size, t.stride, t.offset
	for i := range t.size {
		if t.size[i] < 0 || t.stride[i] < 0 {
			return nil, errors.New("a size or stride is negative")
		}
	}
	if t.offset < 0 {
		return nil, errors.New("the offset is negative")
	}
	module, name := splitClass(t.storage.Class)
	class, _ := classOf(module, name)
	if err := b.extent(out, &storageRef{elements: class, first: t.first, view: t.view}); err != nil {
		return nil, err
	}
	if out.DType == 0 {
		return nil, unsupportedElements(class)
	}
	return out, nil
}
