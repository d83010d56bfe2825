package onnx_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/onnx"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/internal/writers"
)

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 9))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func open(b []byte) (*format.Checkpoint, error) {
	return onnx.Open(bytes.NewReader(b), int64(len(b)), onnx.Options{})
}

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

// TestRaw reads raw data of every type, as ranges of the file.
func TestRaw(t *testing.T) {
	t.Parallel()
	types := map[uint64]struct {
		dtype safetensors.DType
		bytes int
	}{
		1: {safetensors.F32, 4}, 2: {safetensors.U8, 1}, 3: {safetensors.I8, 1}, 4: {safetensors.U16, 2}, 5: {safetensors.I16, 2},
		6: {safetensors.I32, 4}, 7: {safetensors.I64, 8}, 9: {safetensors.BOOL, 1}, 10: {safetensors.F16, 2}, 11: {safetensors.F64, 8},
		12: {safetensors.U32, 4}, 13: {safetensors.U64, 8}, 14: {safetensors.C64, 8}, 16: {safetensors.BF16, 2},
		17: {safetensors.F8E4M3, 1}, 18: {safetensors.F8E4M3FNUZ, 1}, 19: {safetensors.F8E5M2, 1}, 20: {safetensors.F8E5M2FNUZ, 1},
		24: {safetensors.F8E8M0, 1},
	}
	for number, k := range types {
		data := noise(6 * k.bytes)
		one := noise(k.bytes)
		file := writers.ONNX(t, nil,
			writers.TensorProto("w", number, 2, 3).Bytes(9, data),
			writers.TensorProto("scalar", number).Bytes(9, one),
			writers.TensorProto("empty", number, 0, 4),
			writers.Message(nil).Packed(1, 3, 2).Number(2, number).Bytes(9, data).Text(8, "packed dims"))
		ck, err := open(file)
		if err != nil {
			t.Fatal(number, err)
		}
		for i, w := range []struct {
			name  string
			shape []uint64
			data  []byte
		}{{"w", []uint64{2, 3}, data}, {"scalar", nil, one}, {"empty", []uint64{0, 4}, nil}, {"packed dims", []uint64{3, 2}, data}} {
			x := &ck.Tensors[i]
			if x.Name != w.name || x.DType != k.dtype || !slices.Equal(x.Shape, w.shape) || !bytes.Equal(content(t, file, x), w.data) || x.Storage.Offset < 0 {
				t.Errorf("type %d: %+v, want %v", number, x, w)
			}
		}
	}
	data := noise(12)
	file := writers.ONNX(t, nil, writers.TensorProto("f4", 23, 3, 8).Bytes(9, data))
	ck, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	if x := &ck.Tensors[0]; x.DType != safetensors.F4 || !slices.Equal(x.Size, []int64{3, 4}) || !slices.Equal(x.Shape, []uint64{3, 8}) || !bytes.Equal(content(t, file, x), data) {
		t.Errorf("%+v", x)
	}
}

// TestTyped reads typed data, packed and not, of every type.
func TestTyped(t *testing.T) {
	t.Parallel()
	minus := func(n int64) uint64 { return uint64(-n) }
	le := binary.LittleEndian
	f32 := func(v ...float32) (b []byte) {
		for _, x := range v {
			b = le.AppendUint32(b, math.Float32bits(x))
		}
		return b
	}
	var eight []byte
	for _, v := range []int64{-1, math.MaxInt64, math.MinInt64} {
		eight = le.AppendUint64(eight, uint64(v))
	}
	nan := f32(1.5, -2)
	nan = append(nan, 0x01, 0x00, 0xa0, 0x7f) // a signalling one keeps its bits
	cases := map[string]struct {
		kind   uint64
		field  int
		values []uint64 // of varints
		data   []byte
	}{
		"int8":     {3, 5, []uint64{minus(1), 127, minus(128)}, []byte{0xff, 0x7f, 0x80}},
		"short":    {3, 5, []uint64{0xffffffff, 127, 0xffffff80}, []byte{0xff, 0x7f, 0x80}}, // not extended to 64 bits
		"uint8":    {2, 5, []uint64{255, 0, 128}, []byte{255, 0, 128}},
		"bool":     {9, 5, []uint64{1, 0, 1}, []byte{1, 0, 1}},
		"int16":    {5, 5, []uint64{minus(2), 32767, minus(32768)}, []byte{0xfe, 0xff, 0xff, 0x7f, 0x00, 0x80}},
		"uint16":   {4, 5, []uint64{65535, 1, 258}, []byte{0xff, 0xff, 1, 0, 2, 1}},
		"int32":    {6, 5, []uint64{minus(1), 1, minus(1 << 31)}, []byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0x80}},
		"float16":  {10, 5, []uint64{0x3c00, 0x7e01, 0x8000}, []byte{0, 0x3c, 1, 0x7e, 0, 0x80}},
		"bfloat16": {16, 5, []uint64{0x3f80, 0xffff, 0x8000}, []byte{0x80, 0x3f, 0xff, 0xff, 0, 0x80}},
		"fp8":      {17, 5, []uint64{0x7f, 0xff, 1}, []byte{0x7f, 0xff, 1}},
		"int64":    {7, 7, []uint64{minus(1), math.MaxInt64, 1 << 63}, eight},
		"uint64":   {13, 11, []uint64{minus(1), math.MaxInt64, 1 << 63}, eight},
		"uint32":   {12, 11, []uint64{0xffffffff, 1, 2}, []byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 2, 0, 0, 0}},
		"float":    {1, 4, nil, nan},
		"double":   {11, 10, nil, eight},
		"complex":  {14, 4, nil, f32(1, 2, 3, 4, 5, 6)},
	}
	for name, c := range cases {
		packed, single := writers.TensorProto("p", c.kind, 3), writers.TensorProto("s", c.kind, 3)
		split := writers.TensorProto("x", c.kind, 3)
		switch {
		case c.values != nil:
			packed = packed.Packed(c.field, c.values...)
			split = split.Packed(c.field, c.values[:2]...).Packed(c.field, c.values[2:]...)
			for _, v := range c.values {
				single = single.Number(c.field, v)
			}
		case c.field == 4:
			packed, split = packed.Bytes(4, c.data), split.Bytes(4, c.data[:4]).Bytes(4, c.data[4:])
			for i := 0; i < len(c.data); i += 4 {
				single = single.Fixed32(4, le.Uint32(c.data[i:]))
			}
		default:
			packed, split = packed.Bytes(10, c.data), split.Bytes(10, c.data[:8]).Bytes(10, c.data[8:])
			for i := 0; i < len(c.data); i += 8 {
				single = single.Fixed64(10, le.Uint64(c.data[i:]))
			}
		}
		file := writers.ONNX(t, nil, packed, single, split)
		ck, err := open(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range ck.Tensors {
			if got := content(t, file, &ck.Tensors[i]); !bytes.Equal(got, c.data) {
				t.Errorf("%s %s: %x, want %x", name, ck.Tensors[i].Name, got, c.data)
			}
		}
		if inFile := ck.Tensors[0].Storage.Offset >= 0; inFile != (c.values == nil) {
			t.Errorf("%s: offset %d", name, ck.Tensors[0].Storage.Offset)
		}
	}
}

// tensorAttribute is a node with a tensor as an attribute.
func tensorAttribute(name, op string, tensor []byte) writers.Message {
	return writers.Message(nil).Text(3, name).Text(4, op).Bytes(5, writers.Message(nil).Text(1, "value").Bytes(5, tensor))
}

// TestLost names what is not converted: the graph, tensors of its nodes and of
// graphs in them, metadata.
func TestLost(t *testing.T) {
	t.Parallel()
	constant := tensorAttribute("c1", "Constant", writers.TensorProto("", 1, 2).Bytes(9, noise(8)))
	sub := writers.Message(nil).Bytes(1, constant).Bytes(5, writers.TensorProto("inner", 7, 1).Bytes(9, noise(8)))
	branch := writers.Message(nil).Text(3, "if").Text(4, "If").Bytes(5, writers.Message(nil).Text(1, "then_branch").Bytes(6, sub))
	file := writers.ONNX(t, writers.Message(nil).Bytes(1, constant).Bytes(1, branch), writers.TensorProto("w", 1, 1).Bytes(9, noise(4)))
	file = append(file, writers.Message(nil).Bytes(14, writers.Message(nil).Text(1, "author").Text(2, "someone")).Bytes(20, nil).Bytes(25, nil)...)
	ck, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	lost := make([]string, len(ck.Dropped))
	for i, d := range ck.Dropped {
		lost[i] = d.Path + ": " + d.Kind
	}
	want := []string{
		"ir_version: int", "producer_name: str", "graph main: ONNX graph", "graph/c1 (Constant)/constant: FLOAT tensor [2]",
		"graph/if (If)/subgraph/c1 (Constant)/constant: FLOAT tensor [2]", "graph/if (If)/inner: INT64 tensor [1]",
		"metadata_props.author: str", "training_info: TrainingInfoProto", "functions: FunctionProto",
	}
	if !slices.Equal(lost, want) {
		t.Errorf("lost %q, want %q", lost, want)
	}
	if ck.Metadata["metadata_props.author"] != "someone" || ck.Metadata["producer_name"] != "writers" || ck.Metadata["ir_version"] != "8" {
		t.Errorf("metadata %v", ck.Metadata)
	}
	if !strings.Contains(ck.Dropped[2].Reason, "4 nodes") {
		t.Errorf("%q", ck.Dropped[2].Reason)
	}
}

// outside is a tensor whose data lies in another file.
func outside(pairs ...string) writers.Message {
	m := writers.TensorProto("w", 1, 2)
	for i := 0; i < len(pairs); i += 2 {
		m = m.Bytes(13, writers.Message(nil).Text(1, pairs[i]).Text(2, pairs[i+1]))
	}
	return m.Number(14, 1)
}

func TestExternal(t *testing.T) {
	t.Parallel()
	other := noise(64)
	opened := 0
	opt := onnx.Options{External: func(location string) (onnx.File, error) {
		if opened++; location != "weights/w.bin" {
			return onnx.File{}, io.ErrClosedPipe
		}
		return onnx.File{Data: bytes.NewReader(other), Size: int64(len(other)), At: 1000}, nil
	}}
	file := writers.ONNX(t, nil, outside("location", "weights/w.bin", "offset", "16", "length", "8", "checksum", "x"),
		append(outside("location", "weights/w.bin"), writers.Message(nil).Text(8, "v")...))
	ck, err := onnx.Open(bytes.NewReader(file), int64(len(file)), opt)
	if err != nil {
		t.Fatal(err)
	}
	whole := append(append(slices.Clone(file), make([]byte, 1000-len(file))...), other...)
	if !bytes.Equal(content(t, whole, &ck.Tensors[0]), other[16:24]) || !bytes.Equal(content(t, whole, &ck.Tensors[1]), other[:8]) || opened != 1 {
		t.Errorf("%+v, opened %d times", ck.Tensors, opened)
	}
	if _, err = open(file); !errors.As(err, new(*format.UnsupportedError)) || !strings.Contains(err.Error(), "weights/w.bin") {
		t.Errorf("%v", err)
	}
	for says, pairs := range map[string][]string{
		"not beside the model": {"location", "../w.bin"}, `"/etc/passwd"`: {"location", "/etc/passwd"}, `"a\\b"`: {"location", `a\b`},
		`"a/../../b"`: {"location", "a/../../b"}, `"C:w"`: {"location", "C:w"}, "but not where": {"offset", "0"},
		`offset "-1"`: {"location", "weights/w.bin", "offset", "-1"}, "1 bytes in": {"location", "weights/w.bin", "length", "1"},
		"ends at byte": {"location", "weights/w.bin", "offset", "60"}, `two values of "location"`: {"location", "a", "location", "b"},
		"closed pipe": {"location", "other"},
	} {
		file := writers.ONNX(t, nil, outside(pairs...))
		if _, err := onnx.Open(bytes.NewReader(file), int64(len(file)), opt); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want %q", pairs, err, says)
		}
	}
}

type badCase struct {
	file []byte
	says string
}

func bad(tb testing.TB) map[string]badCase {
	model := func(tensors ...writers.Message) []byte { return writers.ONNX(tb, nil, tensors...) }
	tensor := writers.TensorProto
	good := tensor("w", 1, 2).Bytes(9, noise(8))
	deep := writers.Message(nil)
	for range 40 { // a graph in a node's attribute, and again
		deep = writers.Message(nil).Bytes(1, writers.Message(nil).Bytes(5, writers.Message(nil).Bytes(6, deep)))
	}
	sparse := writers.Message(nil).Bytes(15, writers.Message(nil).Bytes(1, tensor("s", 1, 1).Bytes(9, noise(4))))
	return map[string]badCase{
		"empty":            {nil, "no graph"},
		"no graph":         {writers.Message(nil).Number(1, 8), "no graph"},
		"two graphs":       {append(model(good), model(good)...), "two "},
		"deep":             {writers.Message(nil).Bytes(7, deep), "nested more than 64 deep"},
		"field 0":          {[]byte{0, 0}, "field number 0"},
		"group":            {[]byte{0x0b}, "wire type 3"},
		"endless number":   {append([]byte{8}, bytes.Repeat([]byte{0xff}, 11)...), "more than 64 bits"},
		"huge field":       {[]byte{0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "bytes are wanted"},
		"graph no message": {writers.Message(nil).Number(7, 1), "no message"},
		"past its message": {writers.Message(nil).Bytes(7, []byte{0x2a, 0x05, 0x01}), "bytes are wanted"},
		"name twice":       {model(good, good), "two initialisers"},
		"no name":          {model(writers.Message(nil).Number(1, 1).Number(2, 2).Bytes(9, noise(1))), "without a name"},
		"no type":          {model(writers.Message(nil).Text(8, "w")), "no element type"},
		"unknown type":     {model(tensor("w", 99, 1)), "element type 99"},
		"string":           {model(tensor("w", 8, 1).Text(6, "a")), "STRING tensor"},
		"complex128":       {model(tensor("w", 15, 1).Bytes(9, noise(16))), "COMPLEX128 tensor"},
		"uint4":            {model(tensor("w", 21, 2).Bytes(9, noise(1))), "UINT4 tensor"},
		"int4":             {model(tensor("w", 22, 2).Bytes(9, noise(1))), "INT4 tensor"},
		"odd f4":           {model(tensor("w", 23, 3).Bytes(9, noise(2))), "whole bytes"},
		"segment":          {model(tensor("w", 1, 2).Bytes(3, nil).Bytes(9, noise(8))), "segments"},
		"sparse":           {writers.ONNX(tb, sparse), "sparse initialiser"},
		"short":            {model(tensor("w", 1, 3).Bytes(9, noise(8))), "raw data of 8 bytes"},
		"long":             {model(tensor("w", 1, 1).Bytes(9, noise(8))), "raw data of 8 bytes"},
		"no data":          {model(tensor("w", 1, 1)), "without data"},
		"two datas":        {model(good.Bytes(4, noise(8))), "more than one way"},
		"raw twice":        {model(good.Bytes(9, noise(8))), "there twice"},
		"two types":        {model(tensor("w", 1, 1).Packed(5, 1).Packed(7, 1)), "two types"},
		"wrong field":      {model(tensor("w", 1, 1).Packed(5, 1)), "data in field 5"},
		"texts":            {model(tensor("w", 1, 0).Text(6, "a")), "texts in a tensor"},
		"wrong wire":       {model(tensor("w", 1, 1).Number(4, 1)), "wire type 0"},
		"few values":       {model(tensor("w", 6, 3).Packed(5, 1, 2)), "data of 2 bytes for 3"},
		"few wide values":  {model(tensor("w", 6, 3).Packed(5, 1000, 2000)), "data of 8 bytes for 3"},
		"many values":      {model(tensor("w", 6, 1).Packed(5, 1, 2)), "more data"},
		"float data short": {model(tensor("w", 1, 2).Bytes(4, noise(7))), "data of 7 bytes"},
		"too large":        {model(tensor("w", 2, 1).Packed(5, 256)), "the value 256"},
		"too small":        {model(tensor("w", 3, 1).Packed(5, math.MaxUint64-200)), "the value -201"},
		"no truth value":   {model(tensor("w", 9, 1).Packed(5, 2)), "the value 2"},
		"negative":         {model(tensor("w", 4, 1).Packed(5, math.MaxUint64)), "the value -1"},
		"bomb":             {model(tensor("w", 7, 1<<40).Packed(7, 1)), "data of 1 bytes"},
		"float bomb":       {model(tensor("w", 1, 1<<40).Bytes(4, noise(4)).Bytes(4, noise(4))), "bytes of typed data"},
		"overflow":         {model(tensor("w", 1, 1<<40, 1<<40).Bytes(9, noise(8))), "too large"},
		"overflow, empty":  {model(tensor("w", 1, 0, 1<<40, 1<<40)), "too large"},
		"negative size":    {model(tensor("w", 1, math.MaxUint64).Bytes(9, noise(8))), "a dimension of -1"},
		"dimensions":       {model(tensor("w", 1, make([]uint64, 65)...)), "64 dimensions"},
		"name no text":     {model(tensor("\xff", 1, 2).Bytes(9, noise(8))), "no UTF-8"},
	}
}

func TestBad(t *testing.T) {
	t.Parallel()
	for name, c := range bad(t) {
		ck, err := open(c.file)
		if !errors.As(err, new(*format.Error)) && !errors.As(err, new(*format.UnsupportedError)) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v, want %q", name, ck, err, c.says)
		}
	}
	file := writers.ONNX(t, nil, writers.TensorProto("w", 1, 2).Bytes(9, noise(8)))
	whole := len(file) - 6 // the operator set behind the graph may be missing
	for n := range whole {
		if _, err := open(file[:n]); !errors.As(err, new(*format.Error)) {
			t.Fatalf("%d bytes of %d: %v", n, len(file), err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	file := writers.ONNX(t, nil, writers.TensorProto("a", 1, 2).Bytes(9, noise(8)), writers.TensorProto("b", 6, 2).Packed(5, 1000, 2))
	for name, lim := range map[string]onnx.Limits{"depth": {Depth: 1}, "fields": {Fields: 8}, "tensors": {Tensors: 2}, "decoded": {Decoded: 39}} {
		if _, err := onnx.Open(bytes.NewReader(file), int64(len(file)), onnx.Options{Limits: lim}); !errors.As(err, new(*format.Error)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(writers.ONNX(f, nil, writers.TensorProto("a", 1, 2).Bytes(9, noise(8)), writers.TensorProto("b", 6, 2).Packed(5, 1000, 2)))
	f.Add(writers.ONNX(f, nil, outside("location", "weights/w.bin", "offset", "16", "length", "8")))
	f.Add(writers.ONNX(f, writers.Message(nil).Bytes(1, tensorAttribute("c", "Constant", writers.TensorProto("", 1, 2).Bytes(9, noise(8))))))
	for _, c := range bad(f) {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ck, err := open(b)
		if err != nil {
			if !errors.As(err, new(*format.Error)) && !errors.As(err, new(*format.UnsupportedError)) {
				t.Fatal(err)
			}
			return
		}
		for i := range ck.Tensors {
			if st := ck.Tensors[i].Storage; st.Length > int64(8*len(b)) {
				t.Fatalf("%+v in a file of %d", st, len(b))
			}
			content(t, b, &ck.Tensors[i])
		}
	})
}
