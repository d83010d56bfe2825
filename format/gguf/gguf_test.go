package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/gguf"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/internal/writers"
)

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 5))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func open(b []byte) (*format.Checkpoint, error) {
	return gguf.Open(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
}

// plain are the types that convert: ggml's number, ours, bytes.
var plain = []struct {
	number uint32
	dtype  safetensors.DType
	bytes  int64
}{
	{0, safetensors.F32, 4}, {1, safetensors.F16, 2}, {30, safetensors.BF16, 2}, {28, safetensors.F64, 8},
	{24, safetensors.I8, 1}, {25, safetensors.I16, 2}, {26, safetensors.I32, 4}, {27, safetensors.I64, 8},
}

// allTypes is a file with a tensor of every plain type.
func allTypes(version uint32, order binary.AppendByteOrder, align int) *writers.GGUF {
	g := &writers.GGUF{Version: version, Order: order, Alignment: align}
	u32 := func(v uint32) []byte { return order.AppendUint32(nil, v) }
	u64 := func(v uint64) []byte { return order.AppendUint64(nil, v) }
	g.Keys = []writers.GGUFKey{
		{Name: "general.architecture", Type: 8, Value: g.Text("llama")},
		{Name: "a.u8", Type: 0, Value: []byte{200}}, {Name: "a.i8", Type: 1, Value: []byte{200}},
		{Name: "a.u16", Type: 2, Value: order.AppendUint16(nil, 65000)}, {Name: "a.i16", Type: 3, Value: order.AppendUint16(nil, 65000)},
		{Name: "a.u32", Type: 4, Value: u32(4e9)}, {Name: "a.i32", Type: 5, Value: u32(4e9)},
		{Name: "a.f32", Type: 6, Value: u32(math.Float32bits(0.1))}, {Name: "a.bool", Type: 7, Value: []byte{1}},
		{Name: "a.u64", Type: 10, Value: u64(1 << 63)}, {Name: "a.i64", Type: 11, Value: u64(1 << 63)},
		{Name: "a.f64", Type: 12, Value: u64(math.Float64bits(0.1))},
		{Name: "tokens", Type: 9, Value: append(append(u32(8), u64(2)...), append(g.Text("<s>"), g.Text("ab")...)...)},
		{Name: "nested", Type: 9, Value: append(append(u32(9), u64(1)...), append(append(u32(4), u64(3)...), make([]byte, 12)...)...)},
	}
	if align != 0 {
		g.Keys = append(g.Keys, writers.GGUFKey{Name: "general.alignment", Type: 4, Value: u32(uint32(align))})
	}
	for i, p := range plain {
		for j, dims := range [][]uint64{{3, 5}, {}, {7}, {2, 3, 4, 2}, {0, 4}} {
			n := p.bytes
			for _, d := range dims {
				n *= int64(d)
			}
			g.Tensors = append(g.Tensors, writers.GGUFTensor{Name: fmt.Sprintf("t%d.%d", i, j), Dims: dims, Type: p.number, Data: noise(int(n))})
		}
	}
	return g
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for _, version := range []uint32{2, 3} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			for _, align := range []int{0, 8, 64, 4096} {
				g := allTypes(version, order, align)
				file := g.Bytes(t)
				ck, err := open(file)
				if err != nil {
					t.Fatal(version, order, align, err)
				}
				checkTensors(t, g, file, ck)
				checkMetadata(t, ck, align)
			}
		}
	}
}

func checkTensors(t *testing.T, g *writers.GGUF, file []byte, ck *format.Checkpoint) {
	t.Helper()
	if len(ck.Tensors) != len(g.Tensors) {
		t.Fatalf("%d tensors, want %d", len(ck.Tensors), len(g.Tensors))
	}
	for i, w := range g.Tensors {
		x := &ck.Tensors[i]
		shape := slices.Clone(w.Dims)
		slices.Reverse(shape)
		p := plain[i/5]
		swap := int64(0)
		if g.Order == binary.AppendByteOrder(binary.BigEndian) && p.bytes > 1 {
			swap = p.bytes
		}
		data := file[x.Storage.Offset : x.Storage.Offset+x.Storage.Length]
		if x.Name != w.Name || x.DType != p.dtype || !slices.Equal(x.Shape, shape) || x.Swap != swap || !bytes.Equal(data, w.Data) {
			t.Errorf("%+v, want %s %s %v, swap %d", x, w.Name, p.dtype, shape, swap)
		}
		read := make([]byte, len(data))
		if n, err := x.Storage.Data.ReadAt(read, 0); n < len(read) || !bytes.Equal(read, data) {
			t.Errorf("%s: %v", x.Name, err)
		}
	}
}

func checkMetadata(t *testing.T, ck *format.Checkpoint, align int) {
	t.Helper()
	values := map[string]string{
		"general.architecture": "llama", "a.u8": "200", "a.i8": "-56", "a.u16": "65000", "a.i16": "-536", "a.u32": "4000000000",
		"a.i32": "-294967296", "a.f32": "0.1", "a.bool": "true", "a.u64": "9223372036854775808", "a.i64": "-9223372036854775808", "a.f64": "0.1",
	}
	if align != 0 {
		values["general.alignment"] = fmt.Sprint(align)
	}
	if len(ck.Metadata) != len(values) {
		t.Errorf("metadata %v", ck.Metadata)
	}
	for k, v := range values {
		if ck.Metadata[k] != v {
			t.Errorf("%s is %q, want %q", k, ck.Metadata[k], v)
		}
	}
	lost := map[string]string{}
	for _, d := range ck.Dropped {
		lost[d.Path] = d.Kind
	}
	if lost["tokens"] != "string[2]" || lost["nested"] != "array[1]" || lost["a.bool"] != "bool" || len(lost) != len(values)+2 {
		t.Errorf("dropped %v", lost)
	}
}

// TestQuantised refuses every quantised type by its name.
func TestQuantised(t *testing.T) {
	t.Parallel()
	types := map[uint32]struct {
		name            string
		elements, bytes int
	}{
		2: {"Q4_0", 32, 18}, 3: {"Q4_1", 32, 20}, 6: {"Q5_0", 32, 22}, 7: {"Q5_1", 32, 24}, 8: {"Q8_0", 32, 34}, 9: {"Q8_1", 32, 40},
		10: {"Q2_K", 256, 84}, 11: {"Q3_K", 256, 110}, 12: {"Q4_K", 256, 144}, 13: {"Q5_K", 256, 176}, 14: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292},
		16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74}, 18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50}, 20: {"IQ4_NL", 32, 18},
		21: {"IQ3_S", 256, 110}, 22: {"IQ2_S", 256, 82}, 23: {"IQ4_XS", 256, 136}, 29: {"IQ1_M", 256, 56}, 34: {"TQ1_0", 256, 54},
		35: {"TQ2_0", 256, 66}, 39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36},
	}
	for number, k := range types {
		g := &writers.GGUF{Version: 3, Order: binary.LittleEndian, Tensors: []writers.GGUFTensor{
			{Name: "norm", Dims: []uint64{4}, Type: 0, Data: noise(16)},
			{Name: "blk.0.q", Dims: []uint64{uint64(k.elements), 2}, Type: number, Data: noise(2 * k.bytes)},
		}}
		_, err := open(g.Bytes(t))
		var u *format.UnsupportedError
		if !errors.As(err, &u) || !strings.Contains(u.What, "blk.0.q ("+k.name+")") || !strings.Contains(u.What, "1 of 2 tensors") || u.Next == "" {
			t.Errorf("%s: %v", k.name, err)
		}
	}
	many := &writers.GGUF{Version: 3, Order: binary.LittleEndian}
	for i := range 60 {
		many.Tensors = append(many.Tensors, writers.GGUFTensor{Name: fmt.Sprintf("b%d", i), Dims: []uint64{32}, Type: 2 + uint32(i%3/2), Data: noise(18 + 2*(i%3/2))})
	}
	_, err := open(many.Bytes(t))
	if err == nil || !strings.Contains(err.Error(), "60 of 60") || !strings.Contains(err.Error(), "40 of type Q4_0, 20 of type Q4_1") || !strings.Contains(err.Error(), "and 36 more") {
		t.Error(err)
	}
}

type badCase struct {
	file []byte
	says string
}

func bad(tb testing.TB) map[string]badCase {
	le := binary.LittleEndian
	tensor := func(name string, typ uint32, data []byte, dims ...uint64) writers.GGUFTensor {
		return writers.GGUFTensor{Name: name, Dims: dims, Type: typ, Data: data}
	}
	file := func(keys []writers.GGUFKey, tensors ...writers.GGUFTensor) []byte {
		return (&writers.GGUF{Version: 3, Order: le, Keys: keys, Tensors: tensors}).Bytes(tb)
	}
	key := func(name string, typ uint32, value ...byte) []writers.GGUFKey {
		return []writers.GGUFKey{{Name: name, Type: typ, Value: value}}
	}
	head := func(version uint32, tensors, keys uint64, rest ...byte) []byte {
		b := le.AppendUint32([]byte("GGUF"), version)
		return append(le.AppendUint64(le.AppendUint64(b, tensors), keys), rest...)
	}
	placed := func(at uint64) writers.GGUFTensor {
		x := tensor("b", 0, noise(64), 16)
		x.At = &at
		return x
	}
	array := func(kind uint32, n uint64) []byte { return le.AppendUint64(le.AppendUint32(nil, kind), n) }
	deep := []byte{}
	for range 50 {
		deep = append(deep, array(9, 1)...)
	}
	deep = append(deep, array(0, 0)...)
	return map[string]badCase{
		"empty":            {nil, "4 bytes are wanted"},
		"magic":            {[]byte("GGUX\x03\x00\x00\x00"), "no GGUF signature"},
		"version 1":        {head(1, 0, 0), "version 1"},
		"version 4":        {head(4, 0, 0), "version 4"},
		"version 0":        {head(0, 0, 0), "version 0"},
		"many keys":        {head(3, 0, 1<<60), "do not fit"},
		"many tensors":     {head(3, 1<<60, 0), "do not fit"},
		"more than limit":  {head(3, 1<<19, 0, make([]byte, 24<<19)...), "at most"},
		"long key":         {head(3, 0, 1, append(le.AppendUint64(nil, 1<<62), make([]byte, 20)...)...), "bytes are wanted"},
		"value type":       {file(key("a", 13, 0)), "value type 13"},
		"array type":       {file(key("a", 9, array(13, 1)...)), "element type 13"},
		"array length":     {file(key("a", 9, array(10, 1<<61)...)), "does not fit"},
		"array of texts":   {file(key("a", 9, array(8, 1<<50)...)), "does not fit"},
		"deep arrays":      {file(key("a", 9, deep...)), "nested more than"},
		"bool":             {file(key("a", 7, 2)), "truth value of 2"},
		"alignment 3":      {file(key("general.alignment", 4, 3, 0, 0, 0)), "alignment of 3"},
		"alignment 0":      {file(key("general.alignment", 4, 0, 0, 0, 0)), "alignment of 0"},
		"alignment 24":     {file(key("general.alignment", 4, 24, 0, 0, 0)), "alignment of 24"},
		"alignment text":   {file(key("general.alignment", 8, make([]byte, 8)...)), "no uint32"},
		"key twice":        {file(append(key("a", 0, 1), key("a", 0, 1)...)), "two metadata keys"},
		"tensor twice":     {file(nil, tensor("a", 0, noise(4), 1), tensor("a", 0, noise(4), 1)), "two tensors"},
		"dimensions":       {file(nil, tensor("a", 0, noise(4), make([]uint64, 9)...)), "9 dimensions"},
		"overflow":         {file(nil, tensor("a", 0, noise(4), 1<<40, 1<<40)), "too large"},
		"overflow, empty":  {file(nil, tensor("a", 0, noise(4), 0, 1<<40, 1<<40)), "too large"},
		"removed type":     {file(nil, tensor("a", 4, noise(4), 1)), "type 4"},
		"unknown type":     {file(nil, tensor("a", 1000, noise(4), 1)), "type 1000"},
		"part of a block":  {file(nil, tensor("a", 2, noise(18), 16, 2)), "no whole blocks"},
		"past the end":     {file(nil, tensor("a", 0, noise(4), 100)), "of a file of"},
		"offset":           {file(nil, placed(1<<61)), "of a file of"},
		"offset, overflow": {file(nil, placed(1<<63)), "it lies at"},
		"unaligned":        {file(nil, tensor("a", 0, noise(64), 16), placed(16)), "no multiple of 32"},
		"overlap":          {file(nil, tensor("a", 0, noise(64), 16), placed(32)), "overlaps"},
		"same place":       {file(nil, tensor("a", 0, noise(64), 16), placed(0)), "overlaps"},
		"hole":             {append(file(nil, tensor("a", 0, noise(64), 16), placed(128)), noise(64)...), "64 bytes before its data"},
		"suffix":           {append(file(nil, tensor("a", 0, noise(64), 16)), noise(32)...), "after the last tensor"},
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
	file := allTypes(3, binary.LittleEndian, 8).Bytes(t)
	for n := range len(file) - 8 {
		if _, err := open(file[:n]); !errors.As(err, new(*format.Error)) {
			t.Fatalf("%d bytes of %d: %v", n, len(file), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(allTypes(3, binary.LittleEndian, 0).Bytes(f))
	f.Add(allTypes(2, binary.BigEndian, 8).Bytes(f))
	for _, c := range bad(f) {
		if len(c.file) < 10000 {
			f.Add(c.file)
		}
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
			st := ck.Tensors[i].Storage
			if st.Offset < 0 || st.Length < 0 || st.Offset+st.Length > int64(len(b)) {
				t.Fatalf("%+v in a file of %d", st, len(b))
			}
		}
	})
}
