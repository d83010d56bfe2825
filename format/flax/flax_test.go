package flax_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/flax"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/internal/writers"
)

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 3))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func array(dtype string, elem int, shape ...int) writers.Array {
	n := elem
	for _, d := range shape {
		n *= d
	}
	return writers.Array{Shape: shape, DType: dtype, Data: noise(n)}
}

func open(b []byte, sub string) (*format.Checkpoint, error) {
	return flax.Open(bytes.NewReader(b), int64(len(b)), sub, flax.Limits{})
}

// content reads a tensor's bytes.
func content(t *testing.T, file []byte, x *format.Tensor) []byte {
	t.Helper()
	b := make([]byte, x.Storage.Length)
	if n, err := x.Storage.Data.ReadAt(b, 0); n < len(b) {
		t.Fatal(x.Name, err)
	}
	if at := x.Storage.Offset; at >= 0 && !bytes.Equal(file[at:at+x.Storage.Length], b) {
		t.Fatalf("%s: the range of the file is not its data", x.Name)
	}
	return b
}

// want is a tensor that a file should have.
type want struct {
	name  string
	dtype safetensors.DType
	shape []uint64
	data  []byte
}

func compare(t *testing.T, file []byte, ck *format.Checkpoint, all []want) {
	t.Helper()
	if len(ck.Tensors) != len(all) {
		t.Fatalf("%d tensors, want %d", len(ck.Tensors), len(all))
	}
	for i, w := range all {
		x := &ck.Tensors[i]
		if x.Name != w.name || x.DType != w.dtype || !slices.Equal(x.Shape, w.shape) || !bytes.Equal(content(t, file, x), w.data) {
			t.Errorf("%s %s %v, want %s %s %v", x.Name, x.DType, x.Shape, w.name, w.dtype, w.shape)
		}
	}
}

// TestDTypes reads an array of every dtype, with shapes of every kind.
func TestDTypes(t *testing.T) {
	t.Parallel()
	types := []struct {
		name  string
		dtype safetensors.DType
	}{
		{"bool", safetensors.BOOL}, {"int8", safetensors.I8}, {"uint8", safetensors.U8}, {"int16", safetensors.I16},
		{"uint16", safetensors.U16}, {"int32", safetensors.I32}, {"uint32", safetensors.U32}, {"int64", safetensors.I64},
		{"uint64", safetensors.U64}, {"float16", safetensors.F16}, {"bfloat16", safetensors.BF16}, {"float32", safetensors.F32},
		{"float64", safetensors.F64}, {"complex64", safetensors.C64}, {"float8_e4m3fn", safetensors.F8E4M3},
		{"float8_e5m2", safetensors.F8E5M2}, {"float8_e8m0fnu", safetensors.F8E8M0},
		{"float8_e4m3fnuz", safetensors.F8E4M3FNUZ}, {"float8_e5m2fnuz", safetensors.F8E5M2FNUZ},
	}
	var params writers.Map
	var all []want
	for _, d := range types {
		var layer writers.Map
		for name, shape := range map[string][]int{"scalar": {}, "empty": {0, 3}, "small": {2}, "large": {70, 5, 200}} {
			a := array(d.name, int(d.dtype.Bits()/8), shape...)
			layer = append(layer, writers.Pair{Key: name, Value: a})
			u := make([]uint64, len(shape))
			for i, n := range shape {
				u[i] = uint64(n)
			}
			all = append(all, want{"params." + d.name + "." + name, d.dtype, u, a.Data})
		}
		params = append(params, writers.Pair{Key: d.name, Value: layer})
	}
	file := writers.Msgpack(t, writers.Map{{Key: "params", Value: params}})
	ck, err := open(file, "")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, file, ck, all)
	if ck.Framework != "flax" || len(ck.Dropped) != 0 {
		t.Errorf("framework %q, dropped %v", ck.Framework, ck.Dropped)
	}
}

// state is a training state as flax.training.checkpoints has it.
func state() (writers.Map, []want) {
	kernel, bias, mu := array("bfloat16", 2, 3, 4), array("float32", 4, 4), array("float32", 4, 3, 4)
	count := writers.Array{Shape: []int{}, DType: "int32", Data: []byte{7, 0, 0, 0}}
	rate := writers.Array{Shape: []int{}, DType: "float32", Data: []byte{0, 0, 0, 0x3f}, Scalar: true}
	m := writers.Map{
		{Key: "step", Value: 1000},
		{Key: "params", Value: writers.Map{{Key: "dense", Value: writers.Map{{Key: "kernel", Value: kernel}, {Key: "bias", Value: bias}}}}},
		{Key: "opt_state", Value: writers.Map{
			{Key: "0", Value: writers.Map{{Key: "count", Value: count}, {Key: "mu", Value: mu}, {Key: "rate", Value: rate}}},
			{Key: "1", Value: writers.Map{}}, {Key: "2", Value: nil},
		}},
		{Key: "note", Value: "a text"}, {Key: "raw", Value: []byte("bytes")}, {Key: "z", Value: complex(1, 2)}, {Key: "eps", Value: 1e-8},
		{Key: "list", Value: writers.List{-5, bias}},
	}
	return m, []want{
		{"params.dense.kernel", safetensors.BF16, []uint64{3, 4}, kernel.Data}, {"params.dense.bias", safetensors.F32, []uint64{4}, bias.Data},
		{"opt_state.0.count", safetensors.I32, nil, count.Data}, {"opt_state.0.mu", safetensors.F32, []uint64{3, 4}, mu.Data},
		{"opt_state.0.rate", safetensors.F32, nil, rate.Data}, {"list.1", safetensors.F32, []uint64{4}, bias.Data},
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	m, all := state()
	file := writers.Msgpack(t, m)
	ck, err := open(file, "")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, file, ck, all)
	for key, value := range map[string]string{"step": "1000", "note": "a text", "eps": "1e-08", "list.0": "-5"} {
		if ck.Metadata[key] != value {
			t.Errorf("%s is %q, want %q", key, ck.Metadata[key], value)
		}
	}
	var lost []string
	for _, d := range ck.Dropped {
		lost = append(lost, d.Path+" "+d.Kind)
	}
	if got := strings.Join(lost, ", "); got != "step int, opt_state.1 dict, opt_state.2 None, note str, raw bytes[5], z complex, eps float, list.0 int" {
		t.Errorf("dropped %s", got)
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	m, all := state()
	file := writers.Msgpack(t, m)
	for sub, names := range map[string][]string{
		"params": {"dense.kernel", "dense.bias"}, "params.dense": {"kernel", "bias"}, "params.dense.bias": {"bias"}, "opt_state.0": {"count", "mu", "rate"},
	} {
		ck, err := open(file, sub)
		if err != nil {
			t.Fatal(sub, err)
		}
		var chosen []want
		for _, w := range all {
			below := strings.TrimPrefix(w.name, sub+".")
			if w.name == sub {
				below = sub[strings.LastIndexByte(sub, '.')+1:]
			}
			if slices.Contains(names, below) && (below != w.name) {
				w.name = below
				chosen = append(chosen, w)
			}
		}
		compare(t, file, ck, chosen)
	}
	_, err := open(file, "param")
	var u *format.UnsupportedError
	if !errors.As(err, &u) || !strings.Contains(u.Next, "--select params") {
		t.Errorf("%v", err)
	}
}

// chunkedArray is how Flax writes what is larger than 2^30 bytes.
func chunkedArray(shape writers.Map, chunks ...any) writers.Map {
	var all writers.Map
	for i, c := range chunks {
		all = append(all, writers.Pair{Key: string(rune('0' + i)), Value: c})
	}
	return writers.Map{{Key: "__msgpack_chunked_array__", Value: true}, {Key: "shape", Value: shape}, {Key: "chunks", Value: all}}
}

func TestChunked(t *testing.T) {
	t.Parallel()
	a, b, c := array("float16", 2, 100), array("float16", 2, 100), array("float16", 2, 40)
	shape := writers.Map{{Key: "0", Value: 60}, {Key: "1", Value: 4}}
	file := writers.Msgpack(t, writers.Map{{Key: "x", Value: chunkedArray(shape, a, b, c)}, {Key: "y", Value: a}})
	ck, err := open(file, "")
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Concat(a.Data, b.Data, c.Data)
	compare(t, file, ck, []want{{"x", safetensors.F16, []uint64{60, 4}, data}, {"y", safetensors.F16, []uint64{100}, a.Data}})
	for off := range len(data) {
		part := make([]byte, 37)
		n, err := ck.Tensors[0].Storage.Data.ReadAt(part, int64(off))
		if n != min(37, len(data)-off) || n < 37 && err != io.EOF || !bytes.Equal(part[:n], data[off:off+n]) {
			t.Fatalf("at %d: %d, %v", off, n, err)
		}
	}
}

// bad are files that must be refused, and what the error says.
func bad(tb testing.TB) map[string]struct {
	file []byte
	says string
} {
	pack := func(v any) []byte { return writers.Msgpack(tb, v) }
	one := func(v any) []byte { return pack(writers.Map{{Key: "a", Value: v}}) }
	good := array("float32", 4, 2)
	deep := any(good)
	for range 100 {
		deep = writers.Map{{Key: "d", Value: deep}}
	}
	bomb := bytes.Repeat([]byte{0x81, 0xa1, 'a'}, 300000)
	lists := append([]byte{0x81, 0xa1, 'a'}, bytes.Repeat([]byte{0x91}, 1<<20)...)
	return map[string]struct {
		file []byte
		says string
	}{
		"empty":            {nil, "1 bytes are wanted"},
		"no map":           {pack(good), "no dict"},
		"deep":             {pack(deep), "nested more than 64 deep"},
		"deep, cut":        {bomb, "nested more than 64 deep"},
		"deep lists":       {lists, "nested more than 64 deep"},
		"huge map":         {[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, "of length 4294967295"},
		"huge list":        {[]byte{0x81, 0xa1, 'a', 0xdd, 0xff, 0xff, 0xff, 0xff}, "of length 4294967295"},
		"huge text":        {[]byte{0x81, 0xdb, 0xff, 0xff, 0xff, 0xff}, "of length 4294967295"},
		"huge array":       {[]byte{0x81, 0xa1, 'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 1}, "of length 4294967295"},
		"reserved":         {[]byte{0x81, 0xa1, 'a', 0xc1}, "0xc1"},
		"number as key":    {[]byte{0x81, 1, 1}, "a key that is a int"},
		"key no text":      {[]byte{0x81, 0xa1, 0xff, 1}, "no UTF-8"},
		"twice":            {pack(writers.Map{{Key: "a", Value: good}, {Key: "a", Value: good}}), `two values under the key "a"`},
		"behind":           {append(one(good), 0), "1 bytes behind"},
		"short data":       {one(writers.Array{Shape: []int{3}, DType: "float32", Data: noise(8)}), "has 8 bytes"},
		"long data":        {one(writers.Array{Shape: []int{1}, DType: "float32", Data: noise(8)}), "has 8 bytes"},
		"overflow":         {one(writers.Array{Shape: []int{1 << 40, 1 << 40}, DType: "int8", Data: nil}), "has 0 bytes"},
		"overflow, empty":  {one(writers.Array{Shape: []int{0, 1 << 40, 1 << 40}, DType: "int8", Data: nil}), "has 0 bytes"},
		"negative":         {one(writers.Array{Shape: []int{-1}, DType: "int8", Data: nil}), "a dimension of -1"},
		"not three":        {one(writers.Ext{Type: 1, Content: pack(writers.List{1, 2})}), "no list of 3"},
		"behind array":     {one(writers.Ext{Type: 1, Content: append(pack(writers.List{writers.List{}, "int8", []byte{1}}), 0)}), "behind a packed array"},
		"past array":       {one(writers.Ext{Type: 1, Content: []byte{0x93, 0x90, 0xa4}}), "are left"},
		"many dimensions":  {one(writers.Array{Shape: make([]int, 33), DType: "int8"}), "length 33"},
		"dtype":            {one(writers.Array{Shape: []int{1}, DType: "complex128", Data: noise(16)}), "complex128"},
		"object":           {one(writers.Array{Shape: []int{1}, DType: "object", Data: noise(8)}), `"object"`},
		"int4":             {one(writers.Array{Shape: []int{1}, DType: "int4", Data: noise(1)}), "int4"},
		"extension":        {one(writers.Ext{Type: 9, Content: noise(4)}), "extension of type 9"},
		"chunks differ":    {one(chunkedArray(writers.Map{{Key: "0", Value: 4}}, good, array("int32", 4, 2))), "do not go together"},
		"chunks missing":   {one(chunkedArray(writers.Map{{Key: "0", Value: 4}}, good)), "has 8 bytes"},
		"no chunks":        {one(chunkedArray(writers.Map{{Key: "0", Value: 0}})), "without chunks"},
		"chunk no array":   {one(chunkedArray(writers.Map{{Key: "0", Value: 4}}, 5)), "a chunk is a int"},
		"chunks unordered": {one(chunkedArray(writers.Map{{Key: "1", Value: 4}}, good)), `where "0" is expected`},
		"late mark":        {one(writers.Map{{Key: "shape", Value: 1}, {Key: "__msgpack_chunked_array__", Value: true}}), "not its first key"},
	}
}

func TestBad(t *testing.T) {
	t.Parallel()
	for name, c := range bad(t) {
		ck, err := open(c.file, "")
		var broken *format.Error
		var lossy *format.UnsupportedError
		if !errors.As(err, &broken) && !errors.As(err, &lossy) {
			t.Errorf("%s: %v, %v", name, ck, err)
			continue
		}
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	// Every beginning of a good file is a bad one.
	m, _ := state()
	file := writers.Msgpack(t, m)
	for n := range file {
		if _, err := open(file[:n], ""); !errors.As(err, new(*format.Error)) {
			t.Fatalf("%d bytes of %d: %v", n, len(file), err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	m, _ := state()
	file := writers.Msgpack(t, m)
	for name, lim := range map[string]flax.Limits{"depth": {Depth: 2}, "tensors": {Tensors: 3}, "objects": {Objects: 20}} {
		if _, err := flax.Open(bytes.NewReader(file), int64(len(file)), "", lim); !errors.As(err, new(*format.Error)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A long name above many values: the names together are bounded.
	var small writers.Map
	for i := range 20000 {
		small = append(small, writers.Pair{Key: string(rune(0x4e00 + i)), Value: 1})
	}
	file = writers.Msgpack(t, writers.Map{{Key: strings.Repeat("k", 4000), Value: small}})
	if _, err := open(file, ""); err == nil || !strings.Contains(err.Error(), "names of more than") {
		t.Errorf("%v", err)
	}
}

func FuzzOpen(f *testing.F) {
	m, _ := state()
	f.Add(writers.Msgpack(f, m), "")
	f.Add(writers.Msgpack(f, m), "params.dense")
	f.Add(writers.Msgpack(f, writers.Map{{Key: "x", Value: chunkedArray(writers.Map{{Key: "0", Value: 4}}, array("int8", 1, 2), array("int8", 1, 2))}}), "")
	for _, c := range bad(f) {
		if len(c.file) < 10000 {
			f.Add(c.file, "")
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, sub string) {
		ck, err := open(b, sub)
		if err != nil {
			if !errors.As(err, new(*format.Error)) && !errors.As(err, new(*format.UnsupportedError)) {
				t.Fatal(err)
			}
			return
		}
		for i := range ck.Tensors {
			x := &ck.Tensors[i]
			if x.Storage.Length > int64(len(b)) {
				t.Fatalf("%s has %d bytes of a file of %d", x.Name, x.Storage.Length, len(b))
			}
			content(t, b, x)
		}
	})
}
