package torch

import (
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

func splitClass(s string) (module, name string) {
	i := strings.LastIndexByte(s, '.')
	return s[:max(i, 0)], s[i+1:]
}

// isTensor says whether v makes a tensor.
func (c *Checkpoint) isTensor(v pickle.Value) bool {
	switch v := v.(type) {
	case *pickle.Call:
		return kindOf(v) != notRebuild
	case *pickle.Persistent:
		return c.Container == Tar
	}
	return false
}

// calleeName gives the name that a call calls; "" where it is no global.
func calleeName(c *pickle.Call) (module, name string) {
	switch f := c.Callee.(type) {
	case *pickle.Global:
		return f.Mapped()
	case *pickle.Persistent: // ('module', class, ...) of legacy files
		if t, ok := f.ID.(*pickle.Tuple); ok && len(t.Items) == 4 {
			if g, ok := t.Items[1].(*pickle.Global); ok {
				return g.Mapped()
			}
		}
	}
	return "", ""
}

// dictItems gives the items of a dictionary: a dict, an OrderedDict or
// Counter with its pairs in the arguments (Python 2) or set afterwards, or a
// defaultdict.
func dictItems(v pickle.Value) ([]pickle.Item, bool) {
	switch v := v.(type) {
	case *pickle.Dict:
		return v.Items, true
	case *pickle.Call:
		module, name := calleeName(v)
		if module != "collections" {
			return nil, false
		}
		switch name {
		case "OrderedDict", "Counter":
			items, ok := argItems(v.Args)
			if len(items) == 0 {
				return v.Items, ok
			}
			return append(items[:len(items):len(items)], v.Items...), ok
		case "defaultdict": // what comes after the factory would be its items
			args, ok := v.Args.(*pickle.Tuple)
			return v.Items, ok && len(args.Items) <= 1
		}
	}
	return nil, false
}

// argItems reads the argument of OrderedDict(pairs) or Counter(dict).
func argItems(v pickle.Value) ([]pickle.Item, bool) {
	args, ok := v.(*pickle.Tuple)
	if !ok || len(args.Items) > 1 {
		return nil, false
	}
	if len(args.Items) == 0 {
		return nil, true
	}
	if d, ok := args.Items[0].(*pickle.Dict); ok {
		return d.Items, true
	}
	pairs, ok := sequence(args.Items[0])
	if !ok {
		return nil, false
	}
	items := make([]pickle.Item, 0, len(pairs))
	for _, p := range pairs {
		kv, ok := sequence(p)
		if !ok || len(kv) != 2 {
			return nil, false
		}
		items = append(items, pickle.Item{Key: kv[0], Value: kv[1]})
	}
	return items, true
}

func sequence(v pickle.Value) ([]pickle.Value, bool) {
	switch v := v.(type) {
	case *pickle.List:
		return v.Items, true
	case *pickle.Tuple:
		return v.Items, true
	}
	return nil, false
}

// seqItems gives the items of what has indexes.
func seqItems(v pickle.Value) ([]pickle.Value, bool) {
	if c, ok := v.(*pickle.Call); ok {
		return sizeItems(c)
	}
	return sequence(v)
}

// fillsByArgument says whether v is a dictionary that its argument fills: the
// machine has not compared those keys.
func fillsByArgument(v pickle.Value) bool {
	c, ok := v.(*pickle.Call)
	if !ok {
		return false
	}
	items, ok := argItems(c.Args)
	return ok && len(items) > 0
}

// mixedKeys says whether a dictionary filled by its argument has keys that
// Python may take for others: True, 1 and 1.0 are one key.
func mixedKeys(items []pickle.Item) bool {
	for _, it := range items {
		switch it.Key.(type) {
		case pickle.Bool, pickle.Float, pickle.BigInt:
			return true
		}
	}
	return false
}

// shapeShift finds a key whose tensor or container is replaced by something of
// another sort: weights would vanish. A tensor in place of a plain value takes
// nothing away, and the finding says so.
func (c *Checkpoint) shapeShift(items []pickle.Item) (again bool, key string) {
	sorts := make(map[string]int, len(items))
	for _, it := range items {
		l := labelOf(it.Key)
		sort := 1
		switch {
		case l.bad != "":
			continue
		case c.isTensor(it.Value):
			sort = 2
		case isContainer(it.Value), hasState(it.Value):
			sort = 3
		}
		first := sorts[l.id()]
		again = again || first != 0
		if first > 1 && first != sort {
			return true, quote(l.text)
		}
		sorts[l.id()] = sort
	}
	return again, ""
}

// hasState says whether v is an object that may hold weights.
func hasState(v pickle.Value) bool {
	c, ok := v.(*pickle.Call)
	return ok && len(c.States) > 0
}

// lastWins leaves out items whose key is set again later: as in Python, the
// first place and the last value count.
func lastWins(items []pickle.Item) []pickle.Item {
	place := make(map[string]int, len(items))
	out := make([]pickle.Item, 0, len(items))
	for _, it := range items {
		l := labelOf(it.Key)
		if i, ok := place[l.id()]; ok && l.bad == "" {
			out[i].Value = it.Value
			continue
		}
		place[l.id()] = len(out)
		out = append(out, it)
	}
	return out
}

// label is a key as part of a path.
type label struct {
	text   string
	number bool
	bad    string // why it can be part of no tensor's name
}

func (l label) id() string {
	if l.number {
		return "i" + l.text
	}
	return "s" + l.text
}

func labelOf(key pickle.Value) label {
	switch k := key.(type) {
	case pickle.String:
		if !k.Valid {
			return label{text: strconv.QuoteToASCII(k.S), bad: "the key is not UTF-8"}
		}
		return textLabel(k.S)
	case *pickle.Bytes:
		if s, ok := textOf(k); ok {
			if strings.ToValidUTF8(s, "") != s {
				return label{text: strconv.QuoteToASCII(s), bad: "the key is not UTF-8"}
			}
			return textLabel(s)
		}
		return label{text: "<bytes>", bad: "the key is bytes"}
	case pickle.Int:
		return label{text: strconv.FormatInt(int64(k), 10), number: true}
	case pickle.Bool:
		return label{text: "<bool>", bad: "the key is a bool"}
	case *pickle.Tuple:
		return label{text: "<tuple>", bad: "the key is a tuple"}
	case *pickle.Global:
		module, name := k.Mapped()
		return label{text: "<" + quote(module+"."+name) + ">", bad: "the key is an object"}
	}
	return label{text: "<key>", bad: "the key is neither text nor an integer"}
}

func textLabel(s string) label {
	if s == "" {
		return label{bad: "the key is empty"}
	}
	return label{text: s}
}

// leafKind names what is no tensor and no container, as Python does.
func leafKind(v pickle.Value) string {
	switch v := v.(type) {
	case pickle.None:
		return "NoneType"
	case pickle.Bool:
		return "bool"
	case pickle.Int, pickle.BigInt:
		return "int"
	case pickle.Float:
		return "float"
	case pickle.String, *pickle.LongText:
		return "str"
	case *pickle.Bytes:
		switch {
		case v.Text():
			return "str"
		case pickle.OpcodeName(v.Opcode) == "BYTEARRAY8":
			return "bytearray"
		}
		return "bytes"
	case *pickle.List:
		return "list"
	case *pickle.Tuple:
		return "tuple"
	case *pickle.Set:
		if v.Frozen {
			return "frozenset"
		}
		return "set"
	case *pickle.Dict:
		return "dict"
	case *pickle.Persistent:
		if t, ok := v.ID.(*pickle.Tuple); ok && len(t.Items) > 1 {
			if g, ok := t.Items[1].(*pickle.Global); ok && g.Name == "UntypedStorage" {
				return "UntypedStorage"
			}
		}
		return "TypedStorage"
	case *pickle.Global:
		module, name := v.Mapped()
		if module == "torch" && isDTypeName(name) {
			return "dtype"
		}
		return quote(module + "." + name)
	case *pickle.Call:
		return callKind(v)
	}
	return "object"
}

func callKind(c *pickle.Call) string {
	module, name := calleeName(c)
	switch module + "." + name {
	case "torch.device":
		return "device"
	case "torch.serialization._get_layout":
		return "layout"
	case "torch.Size":
		return "Size"
	case "builtins.complex", "builtins.set", "builtins.frozenset", "builtins.bytearray",
		"collections.OrderedDict", "collections.Counter", "collections.defaultdict":
		return name
	case "_codecs.encode":
		return "bytes"
	case "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar":
		return "numpy scalar"
	case "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
		"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer":
		return "numpy array"
	case "copyreg._reconstructor":
		if t, ok := c.Args.(*pickle.Tuple); ok && len(t.Items) > 0 {
			if g, ok := t.Items[0].(*pickle.Global); ok {
				module, name = g.Mapped()
			}
		}
	}
	if module == "" {
		return "object"
	}
	return quote(module + "." + name)
}
