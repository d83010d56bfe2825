package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
)

// TestCompareValues has pairs of bits of every dtype, with the values and the
// distance as the formats' specifications give them.
func TestCompareValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dtype             safetensors.DType
		a, b              uint64
		textA, textB, gap string
	}{
		{safetensors.BOOL, 0, 1, "0", "1", "1"},
		{safetensors.U8, 250, 3, "250", "3", "247"},
		{safetensors.I8, 0x80, 0x7f, "-128", "127", "255"},
		{safetensors.I16, 0xffff, 1, "-1", "1", "2"},
		{safetensors.U16, 0xffff, 0, "65535", "0", "65535"},
		{safetensors.I32, 0x80000000, 0x7fffffff, "-2147483648", "2147483647", "4294967295"},
		{safetensors.U32, 0, 0xffffffff, "0", "4294967295", "4294967295"},
		{safetensors.I64, 1 << 63, 1<<63 - 1, "-9223372036854775808", "9223372036854775807", "18446744073709551615"},
		{safetensors.U64, math.MaxUint64, 1, "18446744073709551615", "1", "18446744073709551614"},
		{safetensors.F64, math.Float64bits(1.5), math.Float64bits(-2), "1.5", "-2", "3.5"},
		{safetensors.F64, math.Float64bits(math.MaxFloat64), math.Float64bits(-math.MaxFloat64), "1.7976931348623157e+308", "-1.7976931348623157e+308", "+Inf"},
		{safetensors.F64, 1 << 63, 0, "-0", "0", "0"},
		{safetensors.F32, 0x3f8ccccd, 0x3f800000, "1.1", "1", "0.10000002384185791"},
		{safetensors.F32, 0x7fc00001, 0x7fc00000, "NaN(0x7fc00001)", "NaN(0x7fc00000)", "NaN"},
		{safetensors.F32, 0x7f800000, 0xff800000, "+Inf", "-Inf", "+Inf"},
		{safetensors.F32, 1, 0, "1e-45", "0", "1.401298464324817e-45"},
		{safetensors.F16, 0x3c00, 0x4200, "1", "3", "2"},
		{safetensors.F16, 0x0001, 0x7bff, "5.9604645e-08", "65504", "65503.99999994040"},
		{safetensors.F16, 0x7c01, 0, "NaN(0x7c01)", "0", "NaN"},
		{safetensors.BF16, 0x3f80, 0xbf80, "1", "-1", "2"},
		{safetensors.BF16, 0x7f80, 0, "+Inf", "0", "+Inf"},
		{safetensors.F8E4M3, 0x7e, 0x38, "448", "1", "447"},
		{safetensors.F8E4M3, 0x7f, 0x01, "NaN(0x7f)", "0.001953125", "NaN"},
		{safetensors.F8E5M2, 0x7b, 0x3c, "57344", "1", "57343"},
		{safetensors.F8E5M2, 0x7c, 0x7d, "+Inf", "NaN(0x7d)", "NaN"},
		{safetensors.F8E4M3FNUZ, 0x7f, 0x80, "240", "NaN(0x80)", "NaN"},
		{safetensors.F8E4M3FNUZ, 0x40, 0x01, "1", "0.0009765625", "0.9990234375"},
		{safetensors.F8E5M2FNUZ, 0x7f, 0x40, "57344", "1", "57343"},
		{safetensors.F8E5M2FNUZ, 0x80, 0, "NaN(0x80)", "0", "NaN"},
		{safetensors.F8E8M0, 127, 130, "1", "8", "7"},
		{safetensors.F8E8M0, 255, 0, "NaN(0xff)", "5.877472e-39", "NaN"},
		{safetensors.F6E2M3, 0x1f, 0x3f, "7.5", "-7.5", "15"},
		{safetensors.F6E3M2, 0x1f, 0x01, "28", "0.0625", "27.9375"},
		{safetensors.F4, 0x7, 0x1, "6", "0.5", "5.5"},
		{safetensors.C64, uint64(math.Float32bits(3)), uint64(math.Float32bits(4)) << 32, "3,0i", "0,4i", "5"},
		{safetensors.C64, 0x7fc00000, 0x7f800000 << 32, "NaN(0x7fc00000),0i", "0,+Infi", "NaN"},
	} {
		n, err := numbersOf(c.dtype)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := n.text(c.a), n.text(c.b); a != c.textA || b != c.textB {
			t.Errorf("%s: %s and %s, want %s and %s", c.dtype, a, b, c.textA, c.textB)
		}
		if gap := n.distance(c.a, c.b).String(); !sameNumber(gap, c.gap) {
			t.Errorf("%s: %s and %s lie %s apart, want %s", c.dtype, c.textA, c.textB, gap, c.gap)
		}
	}
}

// sameNumber allows for the last digits that a decimal of a test leaves out.
func sameNumber(a, b string) bool {
	x, ok := new(big.Float).SetString(a)
	y, ok2 := new(big.Float).SetString(b)
	if !ok || !ok2 || x.IsInf() {
		return a == b
	}
	gap, _ := new(big.Float).Sub(x, y).Float64()
	return math.Abs(gap) < 1e-9
}

// TestCompareEveryDType changes some elements of a random tensor that is
// larger than what is read at a time, and counts them.
func TestCompareEveryDType(t *testing.T) {
	t.Parallel()
	shape := []uint64{11, 3, 96000}
	for d := safetensors.BOOL; d <= safetensors.U64; d++ {
		r := rand.New(rand.NewPCG(7, uint64(d)))
		width := d.Bits()
		a := make([]byte, 11*3*96000*width/8)
		for i := range a {
			a[i] = byte(r.Uint32())
		}
		b := bytes.Clone(a)
		want := map[uint64]bool{0: true, 11*3*96000 - 1: true, compareChunk * 8 / width: true, compareChunk*8/width - 1: true}
		for range 20 {
			want[r.Uint64N(11*3*96000)] = true
		}
		delete(want, 0)
		first := uint64(math.MaxUint64)
		for i := range want {
			bit := i * width
			b[bit/8] ^= 1 << (bit % 8)
			first = min(first, i)
		}
		got, err := Compare(context.Background(), d, shape, bytes.NewReader(a), bytes.NewReader(b))
		if err != nil {
			t.Fatal(d, err)
		}
		if got.Differing != uint64(len(want)) || got.Elements != 11*3*96000 || got.First.Index != first {
			t.Errorf("%s: %+v, want %d differences, the first at %d", d, got, len(want), first)
		}
		at := []uint64{first / 288000, first / 96000 % 3, first % 96000}
		if !slices.Equal(got.First.At, at) {
			t.Errorf("%s: first at %v, want %v", d, got.First.At, at)
		}
	}
}

// TestCompareLargest wants the first of the pairs that lie furthest apart, and
// NaN and infinity counted apart from it.
func TestCompareLargest(t *testing.T) {
	t.Parallel()
	f32 := func(v ...float32) []byte {
		var b []byte
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		return b
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	a := f32(1, 2, 3, nan, inf, 5, 5)
	b := f32(1, 2.5, 1, 4, -inf, 7, 5.5)
	d, err := Compare(context.Background(), safetensors.F32, []uint64{7, 1}, bytes.NewReader(a), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if d.Differing != 6 || d.NaN != 1 || d.Infinite != 1 || d.First.Index != 1 || d.Largest.Index != 2 || d.Largest.Distance != "2" || d.Largest.A != "3" || d.Largest.B != "1" {
		t.Errorf("%+v, first %+v, largest %+v", d, d.First, d.Largest)
	}
	d, err = Compare(context.Background(), safetensors.F32, []uint64{1}, bytes.NewReader(f32(nan)), bytes.NewReader(f32(1)))
	if err != nil || d.Largest != nil || d.NaN != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = Compare(context.Background(), safetensors.F32, []uint64{2, 0}, bytes.NewReader(nil), bytes.NewReader(nil)); err != nil || d.First != nil || d.Elements != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestCompareFails(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	four := []byte{1, 2, 3, 4}
	for name, c := range map[string]struct {
		ctx   context.Context
		dtype safetensors.DType
		shape []uint64
		b     []byte
		want  error
	}{
		"short":     {context.Background(), safetensors.U8, []uint64{4}, four[:3], io.ErrUnexpectedEOF},
		"empty":     {context.Background(), safetensors.U8, []uint64{4}, nil, io.ErrUnexpectedEOF},
		"cancelled": {ctx, safetensors.U8, []uint64{4}, four, context.Canceled},
		"overflow":  {context.Background(), safetensors.U8, []uint64{1 << 33, 1 << 33}, four, nil},
		"too large": {context.Background(), safetensors.U64, []uint64{1 << 62}, four, nil},
		"half byte": {context.Background(), safetensors.F4, []uint64{3}, four, nil},
		"no dtype":  {context.Background(), 0, []uint64{4}, four, nil},
	} {
		_, err := Compare(c.ctx, c.dtype, c.shape, bytes.NewReader(four), bytes.NewReader(c.b))
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
