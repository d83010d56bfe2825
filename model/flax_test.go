package model_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/weightseal/weightseal/internal/writers"
	"github.com/weightseal/weightseal/model"
)

// TestSniffFlax: only a packed array where one can be makes a file Flax's.
func TestSniffFlax(t *testing.T) {
	t.Parallel()
	pack := func(v any) []byte { return writers.Msgpack(t, v) }
	one := func(v any) []byte {
		return pack(writers.Map{{Key: "params", Value: writers.Map{{Key: "w", Value: v}}}})
	}
	a := writers.Array{Shape: []int{2, 300}, DType: "bfloat16", Data: make([]byte, 1200)}
	state := writers.Map{
		{Key: "step", Value: 70000}, {Key: "rate", Value: 0.1}, {Key: "name", Value: "x"}, {Key: "none", Value: nil}, {Key: "on", Value: true},
		{Key: "z", Value: complex(1, 2)}, {Key: "empty", Value: writers.Map{}}, {Key: "w", Value: a},
	}
	wide := writers.Map{}
	for i := range 200 {
		wide = append(wide, writers.Pair{Key: string(rune(0x4e00 + i)), Value: a})
	}
	chunked := writers.Map{{Key: "__msgpack_chunked_array__", Value: true}, {Key: "shape", Value: writers.Map{{Key: "0", Value: 600}}},
		{Key: "chunks", Value: writers.Map{{Key: "0", Value: writers.Array{Shape: []int{600}, DType: "int8", Data: make([]byte, 600)}}}}}
	deep := any(a)
	for range 40 {
		deep = writers.Map{{Key: "d", Value: deep}}
	}
	scalar := writers.Array{Shape: []int{}, DType: "float32", Data: make([]byte, 4), Scalar: true}
	short := one(a)
	cases := map[string]struct {
		file []byte
		flax bool
	}{
		"array": {one(a), true}, "state": {pack(state), true}, "wide": {pack(wide), true}, "chunked": {one(chunked), true},
		"scalar": {one(scalar), true}, "more behind": {append(one(a), 1, 2, 3), true}, // the reader says what is wrong

		"no array": {one(5), false}, "list": {pack(writers.List{a}), false}, "bare": {pack(a), false}, "deep": {pack(deep), false},
		"other extension":  {one(writers.Ext{Type: 5, Content: make([]byte, 40)}), false},
		"other content":    {one(writers.Ext{Type: 1, Content: make([]byte, 40)}), false},
		"length":           {one(writers.Ext{Type: 1, Content: append(pack(writers.List{writers.List{}, "int8", []byte{1}}), 0)}), false},
		"cut in the array": {short[:len(short)-1], false}, "cut in the key": {short[:4], false},
		"number as key": {[]byte{0x81, 1, 1}, false}, "huge": {[]byte{0x81, 0xa1, 'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 1, 0x93}, false},
		"maps only": {bytes.Repeat([]byte{0x81, 0xa1, 'a'}, 5000), false},
	}
	for name, c := range cases {
		f, err := model.Sniff(bytes.NewReader(c.file), int64(len(c.file)))
		if err != nil || (f == model.Flax) != c.flax {
			t.Errorf("%s: %s, %v", name, f, err)
		}
	}
	// What a zip reader would open at the end is that.
	zip := slices.Concat(one(a), []byte(archive(t, "a.txt")))
	if f, err := model.Sniff(bytes.NewReader(zip), int64(len(zip))); f == model.Flax || err != nil {
		t.Errorf("with an archive behind it: %s, %v", f, err)
	}
}
