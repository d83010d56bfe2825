package numpy

import (
	"fmt"
	"io"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
)

// PickleOptions says how a pickle with arrays in it is read. All but Limits is
// for containers that have more than the pickle.
type PickleOptions struct {
	Limits Limits
	Format string // for errors; default "pickle"
	// Storage gives the bytes at an offset of the stream. Default: a range of
	// the file.
	Storage func(off, n int64) *format.Storage
	// Array gives the array that an object stands for which the container
	// itself has read; nil for any other object.
	Array func(*pickle.Call) (*format.Tensor, error)
	// InOrder says that reading r back and forth is slow: long text is kept
	// in memory then, and limited.
	InOrder bool
	// Known are further globals, as "module.name", that are known to Array.
	Known map[string]bool

	source io.ReaderAt
}

// longText is the length from which text stays in the file.
const longText = 64 << 10

func (o *PickleOptions) name() string {
	if o.Format == "" {
		return "pickle"
	}
	return o.Format
}

// ForbiddenError lists every global of a pickle that no array needs.
type ForbiddenError struct {
	Format  string
	Globals []*pickle.Global
}

func (e *ForbiddenError) Error() string {
	const shown = 5
	var names []string
	for i, g := range e.Globals {
		if i == shown {
			names = append(names, fmt.Sprintf("and %d more", len(e.Globals)-shown))
			break
		}
		names = append(names, fmt.Sprintf("%q at offset %d", shorten(fullName(g)), g.Offset))
	}
	return e.Format + ": the pickle names what no weights need: " + strings.Join(names, ", ")
}

// LoadPickle runs the pickle at the beginning of r and gives its arrays, named
// by their keys joined with dots. end is where the stream ends at the latest.
// What is no array is listed as dropped. A global that no array needs gives
// a *ForbiddenError, an object of scikit-learn and arrays that safetensors
// cannot hold a *format.UnsupportedError, a broken stream a *pickle.Error.
func LoadPickle(r io.ReaderAt, end int64, opt PickleOptions) (*format.Checkpoint, *pickle.Stream, error) {
	opt.source = r
	if opt.Limits.Pickle.Text == 0 && !opt.InOrder {
		opt.Limits.Pickle.Text = longText
	}
	s, err := pickle.Load(r, 0, end, opt.Limits.Pickle)
	if s != nil { // what comes before an error counts too
		if bad := checkGlobals(s, &opt); bad != nil {
			return nil, s, bad
		}
	}
	if err != nil {
		return nil, s, err
	}
	if err := checkStream(s, &opt); err != nil {
		return nil, s, err
	}
	if opt.Storage == nil {
		opt.Storage = func(off, n int64) *format.Storage {
			return &format.Storage{Data: io.NewSectionReader(r, off, n), Length: n, Offset: off}
		}
	}
	f := &flattener{opt: &opt, arrays: map[*pickle.Call]*format.Tensor{}, storages: map[pickle.Value]*format.Storage{},
		memory: opt.Limits.memory(), onPath: map[pickle.Value]bool{}}
	f.out.Framework = framework
	if err := f.walk(s.Root, nil); err != nil {
		return nil, s, err
	}
	return &f.out, s, f.checkLost(s)
}

// OpenPickle reads a pickle of arrays in dictionaries, lists and tuples that
// takes the whole file, of any protocol: see LoadPickle.
func OpenPickle(r io.ReaderAt, size int64, lim Limits) (*format.Checkpoint, error) {
	ck, s, err := LoadPickle(r, size, PickleOptions{Limits: lim})
	if err == nil && s.End != size {
		return nil, &format.Error{Format: "pickle", Offset: s.End, Detail: fmt.Sprintf("%d bytes follow the pickle", size-s.End)}
	}
	return ck, err
}

func fullName(g *pickle.Global) string {
	module, name := g.Mapped()
	return module + "." + name
}

// calleeOf is the name that a call calls, with numpy's two names for its core
// made one; "" where it calls no global.
func calleeOf(c *pickle.Call) string {
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return ""
	}
	return canonical(fullName(g))
}

// canonical makes the names that numpy 2 gives its core those of numpy 1.
func canonical(name string) string {
	if rest, ok := strings.CutPrefix(name, "numpy._core."); ok {
		return "numpy.core." + rest
	}
	return name
}

// The callables that arrays are made of.
const (
	callReconstruct = "numpy.core.multiarray._reconstruct"
	callScalar      = "numpy.core.multiarray.scalar"
	callFromBuffer  = "numpy.core.numeric._frombuffer"
	callEncode      = "_codecs.encode"
	callBytes       = "builtins.bytes"
	callByteArray   = "builtins.bytearray"
	callOrdered     = "collections.OrderedDict"
	callDefault     = "collections.defaultdict"
	callCounter     = "collections.Counter"
	callTuple       = "builtins.tuple" // Paddle makes its tensors (name, array) so
)

// allowed says whether arrays, or plain data beside them, need a global.
// Reaching one of them runs no code of the file.
func allowed(name string) bool {
	switch name {
	case callReconstruct, callScalar, callFromBuffer, callEncode, callBytes, callByteArray, callOrdered, callDefault, callCounter, callTuple,
		"numpy.dtype", "numpy.ndarray", "builtins.set", "builtins.frozenset", "builtins.complex",
		"builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.bool":
		return true
	}
	return false
}

func checkGlobals(s *pickle.Stream, opt *PickleOptions) error {
	e := &ForbiddenError{Format: opt.name()}
	estimator := ""
	for _, g := range s.Globals {
		name := fullName(g)
		if allowed(canonical(name)) && strings.Count(g.Name, ".") == 0 || opt.Known[name] {
			continue
		}
		e.Globals = append(e.Globals, g)
		if estimator == "" && strings.HasPrefix(name, "sklearn.") {
			estimator = name
		}
	}
	if len(e.Globals) == 0 {
		return nil
	}
	for _, g := range e.Globals {
		if !besideEstimators(g) {
			return e
		}
	}
	if estimator == "" {
		return e
	}
	return &format.UnsupportedError{Format: opt.name(), What: "scikit-learn estimator (" + shorten(estimator) + ")",
		Next: "its arrays alone are no model: load it where it was made, and export it with skl2onnx, or with skops.io.dump"}
}

// besideEstimators knows the modules that estimators are made of. It decides
// about the wording of a refusal and nothing else.
func besideEstimators(g *pickle.Global) bool {
	module, name := g.Mapped()
	if strings.Contains(name, ".") {
		return false
	}
	switch canonical(module + "." + name) {
	case "copyreg._reconstructor", "builtins.object", "numpy.random._pickle.__randomstate_ctor", "numpy.random._pickle.__generator_ctor":
		return true
	}
	for _, m := range []string{"sklearn.", "scipy.sparse.", "numpy.random."} {
		if strings.HasPrefix(module+".", m) {
			return true
		}
	}
	return false
}

// checkStream refuses what no pickler of arrays writes: every call and BUILD
// counts, also where the result is thrown away.
func checkStream(s *pickle.Stream, opt *PickleOptions) error {
	bad := func(at int64, layout string, args ...any) error {
		return &format.Error{Format: opt.name(), Offset: at, Detail: fmt.Sprintf(layout, args...)}
	}
	for _, f := range s.Findings {
		switch f.Rule {
		case pickle.RuleDuplicateKey, pickle.RuleSurrogate, pickle.RuleMemoSparse, pickle.RulePutOverwrites:
		case pickle.RuleBuffer:
			return &format.UnsupportedError{Format: opt.name(), What: "pickle whose arrays lie outside of it (out-of-band buffers)",
				Next: "pickle it again without buffer_callback"}
		default:
			return bad(f.Offset, "refused: %s: %s", f.Rule, f.Detail)
		}
	}
	if len(s.Persistents) > 0 {
		return bad(s.Persistents[0].Offset, "refused: a persistent id, which only its own reader can resolve")
	}
	for _, c := range s.Calls {
		name := calleeOf(c)
		if name == "" || !callable(name) && !opt.Known[name] {
			return bad(c.Offset, "refused: %q is called", shorten(name))
		}
		switch op := pickle.OpcodeName(c.Opcode); op {
		case "REDUCE":
		case "NEWOBJ":
			if opt.Known[name] {
				continue
			}
			fallthrough
		default:
			return bad(c.Offset, "refused: %q is called by %s", shorten(name), op)
		}
	}
	for _, b := range s.Builds {
		c, ok := b.Object.(*pickle.Call)
		if !ok {
			return bad(b.State.Offset, "refused: a state is set on something that is no object")
		}
		switch name := calleeOf(c); {
		case name == callReconstruct, name == "numpy.dtype", name == callOrdered, name == callCounter, opt.Known[name]:
		default:
			return bad(b.State.Offset, "refused: a state is set on what %q makes", shorten(name))
		}
	}
	return nil
}

func callable(name string) bool {
	switch name {
	case "numpy.ndarray", "builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.bool":
		return false
	}
	return allowed(name)
}

// textOf gives text of either Python.
func textOf(v pickle.Value) (string, bool) {
	switch v := v.(type) {
	case pickle.String:
		return v.S, v.Valid
	case *pickle.Bytes:
		return string(v.Data), v.Text() && int64(len(v.Data)) == v.Len
	}
	return "", false
}

// PickledShape reads a tuple of dimensions.
func PickledShape(v pickle.Value) ([]int64, bool) {
	t, ok := v.(*pickle.Tuple)
	if !ok || len(t.Items) > maxDims {
		return nil, false
	}
	out := make([]int64, len(t.Items))
	for i, d := range t.Items {
		n, ok := d.(pickle.Int)
		if !ok || n < 0 {
			return nil, false
		}
		out[i] = int64(n)
	}
	return out, true
}
