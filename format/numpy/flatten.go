package numpy

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
)

// The bounds of a walk: a graph of shared containers has more paths than
// anybody can visit.
const (
	maxVisits = 4 << 20
	maxLeaves = 1 << 20
	maxDepth  = 1000
	maxName   = 64 << 10
)

// flattener walks the object by path, and names what it meets.
type flattener struct {
	opt      *PickleOptions
	out      format.Checkpoint
	arrays   map[*pickle.Call]*format.Tensor
	storages map[pickle.Value]*format.Storage
	texts    format.Streams
	memory   int64
	onPath   map[pickle.Value]bool
	visits   int
	size     int // of all names
}

func (f *flattener) limit(what string) error {
	return &format.Error{Format: f.opt.name(), Offset: -1, Detail: "limit reached: " + what}
}

func pathText(path []string) string {
	s := strings.Join(path, ".")
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "") + "..."
	}
	return s
}

func (f *flattener) walk(v pickle.Value, path []string) error {
	if f.visits++; f.visits > maxVisits {
		return f.limit("the object has too many parts")
	}
	if len(path) > maxDepth {
		return f.limit("the object is nested too deeply")
	}
	if c, ok := v.(*pickle.Call); ok && f.isArray(c) {
		return f.take(c, path)
	}
	items, isDict, err := f.dict(v, path)
	if err != nil {
		return err
	}
	seq, isSeq := sequence(v)
	switch {
	case !isDict && !isSeq:
		return f.drop(path, kindOf(v), "safetensors holds tensors only")
	case len(items)+len(seq) == 0:
		return f.drop(path, "empty "+kindOf(v), "safetensors holds tensors only")
	case f.onPath[v]:
		return f.drop(path, "cycle", "the container holds itself")
	}
	f.onPath[v] = true
	defer delete(f.onPath, v)
	for i, part := range seq {
		if err := f.walk(part, append(path, strconv.Itoa(i))); err != nil {
			return err
		}
	}
	for _, it := range lastWins(items) {
		if err := f.walk(it.Value, append(path, keyText(it.Key))); err != nil {
			return err
		}
	}
	return nil
}

// dict gives the items of a dictionary. An attribute of an OrderedDict is
// dropped.
func (f *flattener) dict(v pickle.Value, path []string) ([]pickle.Item, bool, error) {
	switch v := v.(type) {
	case *pickle.Dict:
		for _, it := range v.Items {
			if s, ok := textOf(it.Key); ok && s == "UnpackBigParamInfor@@" {
				return nil, true, &format.UnsupportedError{Format: f.opt.name(), Where: pathText(path), What: "parameters cut into slices (UnpackBigParamInfor@@)",
					Next: "load it with Paddle and save it again with protocol 4: paddle.save(STATE, FILE, protocol=4)"}
			}
		}
		return v.Items, true, nil
	case *pickle.Call:
		name := calleeOf(v)
		if name != callOrdered && name != callDefault {
			return nil, false, nil
		}
		args, ok := v.Args.(*pickle.Tuple)
		if !ok || len(args.Items) > 1 {
			return nil, false, f.broken(pathText(path), v.Offset, "%s is made in no known way", name)
		}
		for range v.States {
			if err := f.drop(append(path, ""), "attributes", "safetensors has no place for attributes"); err != nil {
				return nil, false, err
			}
		}
		if name == callDefault || len(args.Items) == 0 {
			return v.Items, true, nil
		}
		items, ok := pairs(args.Items[0])
		if !ok {
			return nil, false, f.broken(pathText(path), v.Offset, "%s is made of something that is no list of pairs", name)
		}
		return append(items, v.Items...), true, nil
	}
	return nil, false, nil
}

// pairs reads the argument of OrderedDict([[key, value], ...]).
func pairs(v pickle.Value) ([]pickle.Item, bool) {
	seq, ok := sequence(v)
	items := make([]pickle.Item, 0, len(seq))
	for _, p := range seq {
		kv, isPair := sequence(p)
		if !isPair || len(kv) != 2 {
			return nil, false
		}
		items = append(items, pickle.Item{Key: kv[0], Value: kv[1]})
	}
	return items, ok
}

func sequence(v pickle.Value) ([]pickle.Value, bool) {
	switch v := v.(type) {
	case *pickle.List:
		return v.Items, true
	case *pickle.Tuple:
		return v.Items, true
	case *pickle.Call: // tuple((a, b))
		if args, ok := v.Args.(*pickle.Tuple); ok && calleeOf(v) == callTuple && len(args.Items) == 1 {
			if _, nested := args.Items[0].(*pickle.Call); !nested {
				return sequence(args.Items[0])
			}
		}
	}
	return nil, false
}

// lastWins leaves out items whose key is set again: the first place and the
// last value count. An array that is lost so is found by checkLost.
func lastWins(items []pickle.Item) []pickle.Item {
	place := make(map[string]int, len(items))
	out := make([]pickle.Item, 0, len(items))
	for _, it := range items {
		key := keyText(it.Key)
		if _, number := it.Key.(pickle.Int); number {
			key = "#" + key
		} else {
			key = "." + key
		}
		i, again := place[key]
		if again && !strings.HasPrefix(key, ".\x00") {
			out[i].Value = it.Value
			continue
		}
		place[key] = len(out)
		out = append(out, it)
	}
	return out
}

// keyText is a key as part of a name; what can be part of none begins with a
// zero byte.
func keyText(key pickle.Value) string {
	switch k := key.(type) {
	case pickle.Int:
		return strconv.FormatInt(int64(k), 10)
	case pickle.String, *pickle.Bytes:
		if s, ok := textOf(k); ok && s != "" && utf8.ValidString(s) && s[0] != 0 {
			return s
		}
	}
	return "\x00" + kindOf(key)
}

// take names an array.
func (f *flattener) take(c *pickle.Call, path []string) error {
	where := pathText(path)
	t, err := f.array(c, where)
	if err != nil {
		return located(err, where)
	}
	length := 0
	for _, p := range path {
		if strings.HasPrefix(p, "\x00") {
			return f.broken(strings.ReplaceAll(where, "\x00", ""), c.Offset, "a key on the way to the array is no text (%s): no name can be made of it", p[1:])
		}
		length += len(p) + 1
	}
	f.size += length
	if length > maxName || f.size > 256*maxName {
		return f.limit("the names are too long")
	}
	if len(f.out.Tensors) >= maxLeaves {
		return f.limit("too many arrays")
	}
	named := *t
	named.Name = strings.Join(path, ".")
	f.out.Tensors = append(f.out.Tensors, named)
	return nil
}

// located says which array an error is about, where its maker did not know.
func located(err error, where string) error {
	switch e := err.(type) { //nolint:errorlint // made beside this, never wrapped
	case *format.UnsupportedError:
		if e.Where == "" {
			e.Where = where
		}
	case *format.Error:
		if e.Where == "" {
			e.Where = where
		}
	}
	return err
}

func (f *flattener) drop(path []string, kind, reason string) error {
	where := strings.ReplaceAll(pathText(path), "\x00", "")
	f.size += len(where)
	if len(f.out.Dropped) >= maxLeaves || f.size > 256*maxName {
		return f.limit("too many values")
	}
	f.out.Dropped = append(f.out.Dropped, format.Dropped{Path: where, Kind: kind, Reason: reason})
	return nil
}

// checkLost demands that every array of the stream has a name, and that there
// is one.
func (f *flattener) checkLost(s *pickle.Stream) error {
	for _, c := range s.Calls {
		if f.isArray(c) && f.arrays[c] == nil {
			return &format.UnsupportedError{Format: f.opt.name(), What: "array in an object that is no dictionary, list or tuple (at offset " + strconv.FormatInt(c.Offset, 10) + ")",
				Next: "save a dictionary of the arrays alone"}
		}
	}
	if len(f.out.Tensors) == 0 {
		return &format.UnsupportedError{Format: f.opt.name(), What: "pickle without any array in it", Next: "leave it out, or write what it holds as JSON"}
	}
	return nil
}

// kindOf names what is no array and no container, as Python does.
func kindOf(v pickle.Value) string {
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
		if v.Text() {
			return "str"
		}
		return "bytes"
	case *pickle.List:
		return "list"
	case *pickle.Tuple:
		return "tuple"
	case *pickle.Set:
		return "set"
	case *pickle.Dict:
		return "dict"
	case *pickle.Global:
		return shorten(fullName(v))
	case *pickle.Call:
		switch name := calleeOf(v); name {
		case callScalar:
			return "numpy scalar"
		case callEncode:
			return "bytes"
		default:
			return shorten(name[strings.LastIndexByte(name, '.')+1:])
		}
	}
	return "object"
}
