package safetensors

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// padded is a file reader over a header and data that is not there.
func readBack(t testing.TB, h *Header, raw []byte) *Header {
	t.Helper()
	size := int64(len(raw))
	for i := range h.Tensors {
		size = max(size, int64(len(raw))+int64(h.Tensors[i].End))
	}
	got, err := ReadHeader(bytes.NewReader(raw), size)
	if err != nil {
		t.Fatalf("reading back: %v\n%s", err, raw[8:])
	}
	return got
}

func TestNewHeader(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		specs []Spec
		meta  map[string]string
		want  string
	}{
		"nothing":        {nil, nil, `{}      `},
		"empty metadata": {nil, map[string]string{}, `{"__metadata__":{}}     `},
		"order": {[]Spec{{"b", F32, []uint64{1}}, {"B", F32, []uint64{2, 1}}, {"z", I64, nil}, {"a", BOOL, []uint64{0}}},
			map[string]string{"z": "1", "a": "2"},
			`{"__metadata__":{"a":"2","z":"1"},"z":{"dtype":"I64","shape":[],"data_offsets":[0,8]},` +
				`"B":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},"b":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},` +
				`"a":{"dtype":"BOOL","shape":[0],"data_offsets":[20,20]}}     `},
		"escapes": {[]Spec{{"\"\\\b\t\n\f\r\x00\x1f\x7f/<é\u2028😀", U8, nil}}, nil,
			`{"\"\\\b\t\n\f\r\u0000\u001f` + "\x7f/<é\u2028😀" + `":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, raw, err := NewHeader(tt.specs, tt.meta)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(raw[8:]); strings.TrimRight(got, " ") != strings.TrimRight(tt.want, " ") || len(got)%8 != 0 {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			got := readBack(t, h, raw)
			got.Findings = nil
			if !equal(got, h) {
				t.Errorf("read back %+v\nwritten   %+v", got, h)
			}
		})
	}
}

func TestNewHeaderRefuses(t *testing.T) { // not parallel: some headers have 100 MB
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(300 << 20)) // collect between them
	long := strings.Repeat("a", MaxHeaderLength)
	tests := map[string]struct {
		specs []Spec
		meta  map[string]string
		kind  Kind
	}{
		"twice":               {[]Spec{{"a", F32, nil}, {"a", U8, nil}}, nil, InvalidHeader},
		"name not UTF-8":      {[]Spec{{"a\xff", F32, nil}}, nil, InvalidHeader},
		"surrogate in name":   {[]Spec{{"\xed\xa0\x80", F32, nil}}, nil, InvalidHeader},
		"reserved name":       {[]Spec{{"__metadata__", F32, nil}}, nil, InvalidHeader},
		"key not UTF-8":       {nil, map[string]string{"\xff": ""}, InvalidHeader},
		"value not UTF-8":     {nil, map[string]string{"a": "\xff"}, InvalidHeader},
		"no dtype":            {[]Spec{{"a", 0, nil}}, nil, InvalidHeaderDeserialization},
		"unknown dtype":       {[]Spec{{"a", U64 + 1, nil}}, nil, InvalidHeaderDeserialization},
		"half a byte":         {[]Spec{{"a", F4, []uint64{3}}}, nil, MisalignedSlice},
		"overflow":            {[]Spec{{"a", F32, []uint64{1 << 40, 1 << 40}}}, nil, ValidationOverflow},
		"sum overflow":        {many(5, Spec{DType: U8, Shape: []uint64{1<<61 - 1}}), nil, ValidationOverflow},
		"header too long":     {[]Spec{{long, F32, nil}}, nil, HeaderTooLarge},
		"metadata too long":   {nil, map[string]string{"a": strings.Repeat("\x00", MaxHeaderLength/6)}, HeaderTooLarge},
		"too long by padding": {[]Spec{{long[:MaxHeaderLength-len(`{"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`)+1], U8, nil}}, nil, HeaderTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := NewHeader(tt.specs, tt.meta)
			if got := kindOf(t, err); got != tt.kind {
				t.Errorf("kind %s (%.200v), want %s", got, err, tt.kind)
			}
			if len(err.Error()) > 500 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestLongestHeader: the cap itself is allowed, on both sides. Not parallel,
// for its memory.
func TestLongestHeader(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(300 << 20))
	frame := len(`{"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`)
	h, raw, err := NewHeader([]Spec{{strings.Repeat("a", MaxHeaderLength-frame), U8, nil}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := readBack(t, h, raw); got.Length != MaxHeaderLength {
		t.Errorf("length %d", got.Length)
	}
}

func many(n int, s Spec) []Spec {
	var list []Spec
	for i := range n {
		s.Name = fmt.Sprint("t", i)
		list = append(list, s)
	}
	return list
}

// equal compares headers, where a shape of no dimensions may be nil.
func equal(a, b *Header) bool {
	same := slices.EqualFunc(a.Tensors, b.Tensors, func(x, y Tensor) bool {
		return x.Name == y.Name && x.DType == y.DType && x.Begin == y.Begin && x.End == y.End && slices.Equal(x.Shape, y.Shape)
	})
	return same && a.Length == b.Length && reflect.DeepEqual(a.Metadata, b.Metadata)
}

// TestRoundTrip: whatever NewHeader writes, ReadHeader gives back, with no
// finding but those about names and empty tensors.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		specs, meta := randomSpecs(rng)
		h, raw, err := NewHeader(specs, meta)
		if err != nil {
			t.Fatalf("%v: %+v", err, specs)
		}
		got := readBack(t, h, raw)
		for _, f := range got.Findings {
			if f.Rule != RuleControlName && f.Rule != RuleEmptyName {
				t.Fatalf("finding %+v in %s", f, raw[8:])
			}
		}
		if !equal(got, h) {
			t.Fatalf("read back %+v\nwritten   %+v", got, h)
		}
		again, raw2, err := NewHeader(shuffled(rng, got), got.Metadata)
		if err != nil || !bytes.Equal(raw, raw2) || !equal(again, h) {
			t.Fatalf("not canonical: %v\n%s\n%s", err, raw, raw2)
		}
	}
}

func randomSpecs(rng *rand.Rand) ([]Spec, map[string]string) {
	text := func() string {
		r := []rune("ab.01\"\\\n\x00\x7fé😀\u2028/")
		b := make([]rune, rng.IntN(6))
		for i := range b {
			b[i] = r[rng.IntN(len(r))]
		}
		return string(b)
	}
	seen := map[string]bool{}
	var specs []Spec
	for range rng.IntN(12) {
		s := Spec{Name: text(), DType: DType(1 + rng.IntN(int(U64)))}
		for range rng.IntN(4) {
			s.Shape = append(s.Shape, uint64(rng.IntN(5)))
		}
		if _, err := ByteSize(s.DType, s.Shape); err != nil {
			s.Shape = append(s.Shape, 4)
		}
		if !seen[s.Name] {
			specs = append(specs, s)
		}
		seen[s.Name] = true
	}
	var meta map[string]string
	for range rng.IntN(4) {
		if meta == nil {
			meta = map[string]string{}
		}
		meta[text()] = text()
	}
	return specs, meta
}

// shuffled gives a header's tensors in another order.
func shuffled(rng *rand.Rand, h *Header) []Spec {
	var specs []Spec
	for _, t := range h.Tensors {
		specs = append(specs, Spec{t.Name, t.DType, t.Shape})
	}
	rng.Shuffle(len(specs), func(i, j int) { specs[i], specs[j] = specs[j], specs[i] })
	return specs
}

func TestAliases(t *testing.T) {
	t.Parallel()
	h, _, err := NewHeader([]Spec{{"wte", F32, nil}, {"pt", F32, nil}, {"b", F32, nil}}, map[string]string{
		"format": "pt", "lm_head": "wte", "b": "wte", "author": "nobody", "tie2": "wte",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"lm_head": "wte", "tie2": "wte"}
	if got := h.Aliases(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (&Header{}).Aliases(); got != nil {
		t.Errorf("no metadata gives %v", got)
	}
}

// bigHeader has 100,000 tensors with names as long as real ones.
func bigHeader(tb testing.TB) (*Header, []byte) {
	tb.Helper()
	var specs []Spec
	for i := range 100_000 {
		specs = append(specs, Spec{fmt.Sprintf("model.layers.%d.mlp.experts.%d.gate_proj.weight", i/512, i%512), BF16, []uint64{2048, 7168}})
	}
	h, raw, err := NewHeader(specs, map[string]string{"format": "pt"})
	if err != nil {
		tb.Fatal(err)
	}
	return h, raw
}

func BenchmarkReadHeader(b *testing.B) {
	h, raw := bigHeader(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		readBack(b, h, raw)
	}
}

func BenchmarkNewHeader(b *testing.B) {
	h, raw := bigHeader(b)
	specs := shuffled(rand.New(rand.NewPCG(1, 2)), h)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := NewHeader(specs, h.Metadata); err != nil {
			b.Fatal(err)
		}
	}
}
