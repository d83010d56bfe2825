package scan

import (
	"io"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/model"
)

// call judges one call. The callee as an import has been judged already; here
// it is what the call does with it, and the arguments.
func (j *streamJudge) call(c *pickle.Call) error {
	g, ok := j.callee(c)
	if !ok {
		j.r.add("WS-PICKLE-006", c.Offset, "%s is called", describe(c.Callee)).withOpcode(c.Opcode)
		return nil
	}
	module, name := g.Mapped()
	if isLoadFromBytes(g) {
		return j.inner(c, g)
	}
	u := j.use(g)
	switch {
	case isReconstructor(g):
		j.reconstructor(c, g)
		return nil
	case module == "builtins" && name == "type" && isNoneType(c):
		return nil
	case j.members[g]:
		j.member(c, g)
		return nil
	}
	if (c.Opcode == opInst || c.Opcode == opObj || c.Opcode == opNewObjEx) && !u.inert() {
		j.r.add("WS-PICKLE-009", c.Offset, "%s is made by %s", globalName(g), opcodeName(c.Opcode)).withGlobal(g).withOpcode(c.Opcode)
	}
	switch u {
	case constant, value:
		j.r.add("WS-PICKLE-024", c.Offset, "%s is called", globalName(g)).withGlobal(g)
	case holder:
		if c.Opcode == opReduce || c.Opcode == opInst || c.Opcode == opObj {
			j.calledHolder(c, g, module)
		}
		j.plainArgs(c, g, nil)
	case builder, class, function:
		if c.Opcode == opInst || c.Opcode == opObj || c.Opcode == opNewObjEx {
			j.r.add("WS-PICKLE-016", c.Offset, "%s is made by %s", globalName(g), opcodeName(c.Opcode)).withGlobal(g)
		}
		j.allowedCall(c, g, module, name)
	case foreign:
		j.plainArgs(c, g, nil)
	}
	return nil
}

// callee gives the global that a call calls. Legacy checkpoints of whole modules
// name the class through a persistent id, ("module", class, file, source); the
// source is only compared, never run.
func (j *streamJudge) callee(c *pickle.Call) (*pickle.Global, bool) {
	if p, ok := c.Callee.(*pickle.Persistent); ok && j.persistent {
		if t, ok := p.ID.(*pickle.Tuple); ok && len(t.Items) == 4 {
			if kind, _ := text(t.Items[0]); kind == "module" {
				g, ok := t.Items[1].(*pickle.Global)
				return g, ok
			}
		}
	}
	g, ok := c.Callee.(*pickle.Global)
	return g, ok
}

// calledHolder judges a class whose constructor is run. Scikit-learn's
// convention is that constructors only keep their arguments; numpy's types
// convert theirs.
func (j *streamJudge) calledHolder(c *pickle.Call, g *pickle.Global, module string) {
	if strings.HasPrefix(module, "sklearn.") && isEstimator(g.Name) || module == "numpy" {
		return
	}
	j.r.add("WS-PICKLE-024", c.Offset, "the constructor of %s is called", globalName(g)).withGlobal(g)
}

// reconstructor judges copyreg._reconstructor(cls, base, state), with which
// protocols 0 and 1 make instances.
func (j *streamJudge) reconstructor(c *pickle.Call, g *pickle.Global) {
	if cls, state := j.reconstructed(c); cls != nil {
		j.plain(c, cls, state)
		return
	}
	j.r.add("WS-PICKLE-007", c.Offset, "%s makes an object of a class that is not known to be inert", globalName(g)).withGlobal(g)
}

// reconstructed gives the class of the object that such a call makes, and what
// its base class makes it of; nil where the class is not known to be inert.
func (j *streamJudge) reconstructed(c *pickle.Call) (cls *pickle.Global, state pickle.Value) {
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || c.Opcode != opReduce || len(args.Items) != 3 {
		return nil, nil
	}
	cls, isClass := args.Items[0].(*pickle.Global)
	base, isBase := args.Items[1].(*pickle.Global)
	if !isClass || !isBase || !baseIsPlain(base) {
		return nil, nil
	}
	switch j.use(cls) {
	case foreign, holder, builder, class:
		return cls, args.Items[2]
	}
	return nil, nil
}

func baseIsPlain(g *pickle.Global) bool {
	m, n := g.Mapped()
	switch n {
	case "object", "dict", "list", "tuple", "set", "frozenset", "int", "float", "complex", "str", "bytes":
		return m == "builtins"
	}
	return false
}

// The positions of arguments that a rebuild function would call or keep.
var hookAt = map[string]int{
	"_rebuild_tensor_v2": 5, "_rebuild_tensor_v3": 5, "_rebuild_parameter": 2,
	"_rebuild_parameter_with_state": 2, "_rebuild_qtensor": 6,
}

// allowedCall checks the arguments of an allowed call as strictly as the call.
func (j *streamJudge) allowedCall(c *pickle.Call, g *pickle.Global, module, name string) {
	var items []pickle.Value
	if t, ok := c.Args.(*pickle.Tuple); ok {
		items = t.Items
	}
	switch module + "." + name {
	case "torch._tensor._rebuild_from_type_v2":
		j.fromType(c, g, items)
		return
	case "torch._utils._rebuild_parameter_with_state":
		j.parameterState(c, g, items)
	case "_codecs.encode":
		j.encode(c, g, items)
	case "builtins.bytes", "builtins.bytearray":
		j.sized(c, g, items, maxSizedBytes)
	case "builtins.range":
		j.sized(c, g, items, maxSizedRange)
	case "fractions.Fraction":
		j.exponent(c, g, items)
	case "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct":
		j.ndarrayClass(c, g, items)
		j.sized(c, g, items, maxSizedBytes)
	case "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar":
		j.scalar(c, g, items)
	case "numpy.random._pickle.__randomstate_ctor", "numpy.random._pickle.__generator_ctor", "numpy.random._pickle.__bit_generator_ctor":
		j.takesOnly(c, g, items, isBitGenerator)
	case "pandas.core.indexes.base._new_Index":
		j.takesOnly(c, g, items[:min(1, len(items))], func(m, _ string) bool { return strings.HasPrefix(m, "pandas.core.indexes.") })
	case "pandas.core.indexes.datetimes._new_DatetimeIndex", "pandas.core.indexes.period._new_PeriodIndex", "pandas.core.indexes.interval._new_IntervalIndex":
		j.takesOnly(c, g, items[:min(1, len(items))], func(m, _ string) bool { return strings.HasPrefix(m, "pandas.core.indexes.") })
	case "array._array_reconstructor":
		j.takesOnly(c, g, items[:min(1, len(items))], func(m, n string) bool { return m == "array" && n == "array" })
	case "numpy.ma.core._mareconstruct":
		j.takesOnly(c, g, items, func(m, n string) bool { return topOf(m) == "numpy" && n != "memmap" })
	case "numpy.dtype":
		j.dtypeCode(c, g, items)
	case "numpy.ndarray":
		// Arrays are pickled by _reconstruct; the constructor itself takes
		// a buffer and strides.
		j.r.add("WS-PICKLE-024", c.Offset, "the constructor of %s is called", globalName(g)).withGlobal(g)
	}
	switch {
	case name == "newObj" && strings.HasPrefix(module, "sklearn."):
		j.takesOnly(c, g, items, func(m, _ string) bool { return topOf(m) == "sklearn" })
	case strings.HasPrefix(name, cythonMaker):
		j.takesOnly(c, g, items[:min(1, len(items))], func(m, n string) bool { return topOf(m) == topOf(module) && isSimpleClass(n) })
	case topOf(module) == "torch" && j.use(g) == class:
		j.sized(c, g, items, maxSizedTensor)
	}
	if at, ok := hookAt[name]; ok && module == "torch._utils" && at < len(items) && !emptyHooks(items[at]) {
		j.r.add("WS-PICKLE-007", c.Offset, "%s gets backward hooks", globalName(g)).withGlobal(g)
	}
	j.plainArgs(c, g, items)
	j.filled(c, g, module, name)
}

// fromType judges torch._tensor._rebuild_from_type_v2(func, type, args, state),
// which calls its first argument and sets the state as attributes.
func (j *streamJudge) fromType(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	if len(items) != 4 {
		j.r.add("WS-PICKLE-007", c.Offset, "%s with %d arguments", globalName(g), len(items)).withGlobal(g)
		return
	}
	fn, ok := items[0].(*pickle.Global)
	m, n := "", ""
	if ok {
		m, n = fn.Mapped()
	}
	if !ok || m != "torch._utils" || !isTorchRebuild(n) {
		j.r.add("WS-PICKLE-007", c.Offset, "%s calls %s", globalName(g), describe(items[0])).withGlobal(g)
		return
	}
	switch cls, ok := items[1].(*pickle.Global); {
	case !ok, j.use(cls) != class && j.use(cls) != foreign && j.use(cls) != holder:
		j.r.add("WS-PICKLE-007", c.Offset, "%s makes a %s", globalName(g), describe(items[1])).withGlobal(g)
	}
	if _, plain := items[2].(*pickle.Tuple); !plain {
		j.r.add("WS-PICKLE-007", c.Offset, "%s calls %s with arguments that are %s", globalName(g), globalName(fn), describe(items[2])).withGlobal(g)
		return
	}
	inner := &pickle.Call{Opcode: opReduce, Offset: c.Offset, Callee: fn, Args: items[2]}
	j.allowedCall(inner, fn, m, n)
	j.state(items[3], c.Offset, c.Opcode)
}

func (j *streamJudge) encode(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	if len(items) == 2 {
		text, ok := items[0].(pickle.String)
		enc, ok2 := items[1].(pickle.String)
		if long, isLong := items[0].(*pickle.LongText); isLong {
			ok, text.Valid = long.Latin1, true
		}
		if ok && ok2 && (enc.S == "latin1" || enc.S == "latin-1" || enc.S == "iso-8859-1" || enc.S == "utf-8" && text.Valid) {
			return
		}
		if b, isBytes := items[1].(*pickle.Bytes); isBytes && string(b.Data) == "latin1" {
			return
		}
	}
	j.r.add("WS-PICKLE-007", c.Offset, "%s with another codec than latin1", globalName(g)).withGlobal(g)
}

// parameterState judges what torch._utils._rebuild_parameter_with_state sets on
// a parameter, name by name: a dictionary, or a pair of them.
func (j *streamJudge) parameterState(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	if len(items) < 4 {
		return
	}
	parts := []pickle.Value{items[3]}
	if t, ok := items[3].(*pickle.Tuple); ok && len(t.Items) == 2 {
		parts = t.Items
	}
	for _, p := range parts {
		if _, none := p.(pickle.None); none {
			continue
		}
		d, ok := p.(*pickle.Dict)
		if !ok {
			j.r.add("WS-PICKLE-007", c.Offset, "%s gets a state that is %s", globalName(g), describe(p)).withGlobal(g)
			continue
		}
		for _, it := range d.Items {
			if k, _ := text(it.Key); isHookAttribute(k) {
				j.r.add("WS-PICKLE-007", c.Offset, "%s sets the hooks %s", globalName(g), k).withGlobal(g)
			}
		}
	}
	j.state(items[3], c.Offset, c.Opcode)
}

// isHookAttribute knows the attributes of a tensor that hold functions which
// autograd calls.
var isHookAttribute = words(`_backward_hooks _post_accumulate_grad_hooks grad_fn _grad_fn backward_hooks`)

// The largest numbers that constructors may be given: pickles of weights give
// them contents, not sizes.
const (
	maxSizedBytes  = 1 << 16
	maxSizedTensor = 1 << 20
	maxSizedRange  = 1 << 27
)

// sized keeps a few bytes of pickle from taking the memory of the loader.
func (j *streamJudge) sized(c *pickle.Call, g *pickle.Global, items []pickle.Value, most int64) {
	if volume(items, 0) > most {
		j.r.add("WS-PICKLE-007", c.Offset, "%s takes more memory than the file could need", globalName(g)).withGlobal(g)
	}
}

// maxDimensions is the most that numpy and torch take.
const maxDimensions = 64

// volume is the product of the numbers among values, in tuples and in
// torch.Size too, up to 1<<62.
func volume(items []pickle.Value, depth int) int64 {
	const most = 1 << 62
	if depth > 4 || len(items) > maxDimensions {
		return most
	}
	total := int64(1)
	for _, v := range items {
		n := int64(1)
		switch v := v.(type) {
		case pickle.Int:
			n = max(int64(v), 1)
		case pickle.BigInt:
			return most
		case *pickle.Tuple:
			n = volume(v.Items, depth+1)
		case *pickle.Call:
			if args, ok := v.Args.(*pickle.Tuple); ok && depth < 3 {
				if g, ok := v.Callee.(*pickle.Global); ok && g.Name == "Size" {
					n = volume(args.Items, depth+1)
				}
			}
		}
		if n > most/total {
			return most
		}
		total *= n
	}
	return total
}

// exponent refuses the text of a fraction with an exponent: 1e999999999 takes
// the loader's memory and time.
func (j *streamJudge) exponent(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	for _, v := range items {
		if s, ok := text(v); ok && strings.ContainsAny(s, "eE") {
			j.r.add("WS-PICKLE-007", c.Offset, "%s gets a number with an exponent", globalName(g)).withGlobal(g)
		}
	}
}

// takesOnly judges a function that calls, or makes objects of, what it is
// given: every global and object among its arguments must be one that take
// knows.
func (j *streamJudge) takesOnly(c *pickle.Call, g *pickle.Global, items []pickle.Value, take func(module, name string) bool) {
	j.takesOnlyIn(c, g, items, take, 0)
}

func (j *streamJudge) takesOnlyIn(c *pickle.Call, g *pickle.Global, items []pickle.Value, take func(module, name string) bool, depth int) {
	if depth > 4 || len(items) > maxDimensions {
		j.r.add("WS-PICKLE-007", c.Offset, "%s gets more than it takes", globalName(g)).withGlobal(g)
		return
	}
	for _, v := range items {
		if t, ok := v.(*pickle.Tuple); ok {
			j.takesOnlyIn(c, g, t.Items, take, depth+1)
			continue
		}
		if in, ok := v.(*pickle.Global); ok && take(in.Mapped()) || !isOpaque(v) {
			continue
		}
		if in, ok := v.(*pickle.Call); ok {
			if made, ok := j.callee(in); ok && take(made.Mapped()) {
				continue
			}
		}
		j.r.add("WS-PICKLE-007", c.Offset, "%s gets %s as an argument, which it would call", globalName(g), describe(v)).withGlobal(g)
	}
}

// isBitGenerator knows what numpy's own generators are made of.
func isBitGenerator(module, name string) bool {
	switch module {
	case "numpy.random._pickle":
		return name == "__bit_generator_ctor"
	case "numpy.random._mt19937", "numpy.random._pcg64", "numpy.random._philox", "numpy.random._sfc64", "numpy.random.bit_generator":
		return true
	}
	return false
}

// ndarrayClass checks the class that numpy's _reconstruct makes.
func (j *streamJudge) ndarrayClass(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	if len(items) > 0 {
		if cls, ok := items[0].(*pickle.Global); ok {
			if u := j.use(cls); u == class || u == holder || u == builder || u == foreign || isMemmap(cls) {
				return
			}
		}
	}
	j.r.add("WS-PICKLE-007", c.Offset, "%s makes something else than an array", globalName(g)).withGlobal(g)
}

// isMemmap knows numpy's memory map. As the class of an array it is an array;
// made by itself it opens a file.
func isMemmap(g *pickle.Global) bool {
	m, n := g.Mapped()
	return m == "numpy" && n == "memmap"
}

// dtypeCode checks a dtype: numbers and text are plain; objects and whatever
// is described by other means are not. The state that follows may not say
// otherwise than the code.
func (j *streamJudge) dtypeCode(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	if _, ok := j.dtypes.read(c, 0); !ok && len(c.States) > 0 {
		j.r.add("WS-PICKLE-010", c.States[0].Offset, "the state of a dtype does not fit its code, or is not one that numpy writes").withGlobal(g).withOpcode(opBuild)
	}
	if len(items) > 0 {
		if code, ok := text(items[0]); ok && plainCode(code) {
			return
		}
	}
	j.r.add("WS-PICKLE-020", c.Offset, "an array of an unusual dtype").withGlobal(g)
}

// scalar judges scalar(dtype, bytes): with objects in the fields of the dtype,
// the bytes would be taken for addresses.
func (j *streamJudge) scalar(c *pickle.Call, g *pickle.Global, items []pickle.Value) {
	if len(items) < 2 {
		return
	}
	if _, raw := items[1].(*pickle.Bytes); !raw {
		return
	}
	if d, ok := j.dtypes.read(items[0], 0); ok && d.objects {
		j.r.add("WS-PICKLE-007", c.Offset, "%s makes objects of bytes", globalName(g)).withGlobal(g)
	}
}

// plainCode says whether a dtype's code, as numpy pickles it ("f4", "U7"), is
// of numbers, truth values, or text.
func plainCode(code string) bool {
	code = strings.TrimLeft(code, "<>=|")
	if code == "" {
		return false
	}
	for _, d := range code[1:] {
		if d < '0' || d > '9' {
			return false
		}
	}
	switch code[0] {
	case 'b', 'i', 'u', 'f', 'c', 'U', 'S', '?':
		return true
	}
	return false
}

// filled judges items set on or appended to the result of an allowed call.
func (j *streamJudge) filled(c *pickle.Call, g *pickle.Global, module, name string) {
	key := module + "." + name
	mapping := key == "collections.OrderedDict" || key == "collections.Counter" || key == "collections.defaultdict" ||
		key == "builtins.dict" || strings.HasSuffix(name, "AttributeDict") || strings.HasPrefix(module, "omegaconf.")
	sequence := key == "builtins.set" || key == "builtins.list" || key == "builtins.bytearray" || key == "collections.deque"
	if len(c.Items) > 0 && !mapping || len(c.Appends) > 0 && !sequence {
		j.r.add("WS-PICKLE-024", c.Offset, "items are put into the result of %s", globalName(g)).withGlobal(g)
	}
}

// plainArgs checks that no argument is something that the callee could call.
func (j *streamJudge) plainArgs(c *pickle.Call, g *pickle.Global, _ []pickle.Value) {
	j.plain(c, g, c.Args)
	if c.Kwargs != nil {
		j.plain(c, g, c.Kwargs)
	}
}

// plain walks a value's containers for functions and opaque objects. Calls
// inside are judged on their own.
func (j *streamJudge) plain(c *pickle.Call, g *pickle.Global, v pickle.Value) {
	keeps := false // the callee only keeps its arguments
	if u := j.use(g); u == foreign || u == holder {
		keeps = true
	}
	w := j.walker(keeps, v)
	for w.next() {
		switch v := w.value.(type) {
		case *pickle.Global:
			switch j.use(v) {
			case function, constant:
				if !keeps && !isMemmap(v) {
					j.r.add("WS-PICKLE-007", c.Offset, "%s gets %s as an argument", globalName(g), globalName(v)).withGlobal(g)
				}
			case class, value, holder, builder:
			case foreign:
			default:
				j.r.add("WS-PICKLE-007", c.Offset, "%s gets %s as an argument", globalName(g), globalName(v)).withGlobal(g)
			}
		case *pickle.Extension:
			j.r.add("WS-PICKLE-007", c.Offset, "%s gets an object of the extension registry", globalName(g)).withGlobal(g)
		case *pickle.Call:
			if made, ok := v.Callee.(*pickle.Global); ok && !keeps && j.members[made] {
				j.r.add("WS-PICKLE-007", c.Offset, "%s gets an attribute of an object as an argument", globalName(g)).withGlobal(g)
			}
		}
	}
}

// walker is a walk that leaves out the containers that such walks have been
// through: a value can be an argument of many calls.
func (j *streamJudge) walker(keeps bool, v pickle.Value) *walkTo {
	i := 0
	if keeps {
		i = 1
	}
	if j.checked[i] == nil {
		j.checked[i] = map[pickle.Value]struct{}{}
	}
	w := &walkTo{seen: j.checked[i]}
	w.push(v, 0)
	return w
}

// emptyHooks says whether a value is what torch.save writes where a tensor has
// no hooks: an empty OrderedDict, or nothing.
func emptyHooks(v pickle.Value) bool {
	switch v := v.(type) {
	case pickle.None:
		return true
	case *pickle.Dict:
		return len(v.Items) == 0
	case *pickle.Tuple:
		return len(v.Items) == 0
	case *pickle.Call:
		g, ok := v.Callee.(*pickle.Global)
		if !ok || len(v.Items)+len(v.Appends)+len(v.States) > 0 || v.Kwargs != nil {
			return false
		}
		m, n := g.Mapped()
		args, ok := v.Args.(*pickle.Tuple)
		return m == "collections" && n == "OrderedDict" && ok && (len(args.Items) == 0 || len(args.Items) == 1 && emptyList(args.Items[0]))
	}
	return false
}

func emptyList(v pickle.Value) bool {
	l, ok := v.(*pickle.List)
	return ok && len(l.Items) == 0
}

// inner judges torch.storage._load_from_bytes(b): what pickle.dump writes for
// a tensor. It loads the bytes as a checkpoint of their own, which must be one
// that torch.save wrote.
func (j *streamJudge) inner(c *pickle.Call, g *pickle.Global) error {
	t, ok := c.Args.(*pickle.Tuple)
	if !ok || len(t.Items) != 1 {
		t = &pickle.Tuple{Items: []pickle.Value{nil}}
	}
	b, ok := t.Items[0].(*pickle.Bytes)
	if !ok {
		j.r.add("WS-PICKLE-007", c.Offset, "%s gets bytes that are not in the file", globalName(g)).withGlobal(g)
		return nil
	}
	if len(c.Items)+len(c.Appends)+len(c.States) > 0 {
		j.r.add("WS-PICKLE-024", c.Offset, "what %s loads is changed", globalName(g)).withGlobal(g)
	}
	j.r.add("WS-PICKLE-021", c.Offset, "%s loads %d bytes of this file", globalName(g), b.Len).withGlobal(g)
	ra := bytesReader(j.source, b)
	switch f, err := model.Sniff(ra, b.Len); {
	case err != nil:
		return err
	case f != model.TorchLegacy && f != model.TorchZip:
		j.r.add("WS-PICKLE-007", c.Offset, "%s loads what torch.save did not write", globalName(g)).withGlobal(g)
	}
	return nested{}.scan(j.ctx, j.r, j.blob, "bytes", ra, b.Len)
}

// isLoadFromBytes knows the function with which storages are pickled outside of
// torch.save. What it loads decides: see inner.
func isLoadFromBytes(g *pickle.Global) bool {
	m, n := g.Mapped()
	return m == "torch.storage" && n == "_load_from_bytes"
}

func bytesReader(source io.ReaderAt, b *pickle.Bytes) io.ReaderAt {
	if b.Data != nil {
		return strings.NewReader(string(b.Data))
	}
	return io.NewSectionReader(source, b.Offset, b.Len)
}

// text gives a string or a Python 2 str.
func text(v pickle.Value) (string, bool) {
	switch v := v.(type) {
	case pickle.String:
		return v.S, true
	case *pickle.Bytes:
		return string(v.Data), v.Data != nil && v.Len < 1<<10
	}
	return "", false
}

// describe names a value in a message.
func describe(v pickle.Value) string {
	switch v := v.(type) {
	case *pickle.Global:
		return globalName(v)
	case *pickle.Call:
		if g, ok := v.Callee.(*pickle.Global); ok {
			return "the result of " + globalName(g)
		}
		return "the result of a call"
	case *pickle.Extension:
		return "an object of the extension registry"
	case *pickle.Persistent:
		return "a persistent object"
	case *pickle.Buffer:
		return "an out-of-band buffer"
	}
	return "a plain value"
}
