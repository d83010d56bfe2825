package npz

import (
	"errors"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

// TestHeader compares headers with what numpy.lib.format writes, but for the
// room that newer NumPy leaves for growth.
func TestHeader(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]safetensors.Spec{
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }": {DType: safetensors.F32, Shape: []uint64{3, 4}},
		"{'descr': '|b1', 'fortran_order': False, 'shape': (), }":     {DType: safetensors.BOOL},
		"{'descr': '<c8', 'fortran_order': False, 'shape': (0,), }":   {DType: safetensors.C64, Shape: []uint64{0}},
	} {
		b, err := header(&spec)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		length := int(b[8]) | int(b[9])<<8
		if !strings.HasPrefix(text, "\x93NUMPY\x01\x00") || len(b)%64 != 0 || length != len(b)-10 || strings.TrimSpace(text[10:]) != want || b[len(b)-1] != '\n' {
			t.Errorf("%q, want %q", text, want)
		}
	}
}

// TestRefuses has what an archive cannot hold; each says what to do.
func TestRefuses(t *testing.T) {
	t.Parallel()
	f32 := func(names ...string) (specs []safetensors.Spec) {
		for _, n := range names {
			specs = append(specs, safetensors.Spec{Name: n, DType: safetensors.F32, Shape: []uint64{1}})
		}
		return specs
	}
	for want, specs := range map[string][]safetensors.Spec{
		"F8_E4M3 tensor": {{Name: "x", DType: safetensors.F8E4M3}},
		"F4 tensor":      {{Name: "x", DType: safetensors.F4, Shape: []uint64{2}}},
		"BF16 tensor":    {{Name: "x", DType: safetensors.BF16}},
		"33 dimensions":  {{Name: "x", DType: safetensors.F32, Shape: make([]uint64, 33)}},
		"NUL":            f32("a\x00b"),
		"not UTF-8":      f32("\xff"),
		"leads out":      f32(`a\..\b`),
		`the array "x"`:  f32("x.npy", "x"),
	} {
		_, err := NewLayout(specs)
		var u *format.UnsupportedError
		if !errors.As(err, &u) || u.Next == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := NewLayout(f32("x.npy", "..y", "a/b", "größe")); err != nil {
		t.Error(err)
	}
}
