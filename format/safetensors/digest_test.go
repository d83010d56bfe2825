package safetensors

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// sample is a file of four tensors, one empty, and a tie.
func sample(tb testing.TB) (*Header, []byte) {
	tb.Helper()
	h, raw, err := NewHeader([]Spec{{"w", F32, []uint64{2}}, {"e", F64, []uint64{0}}, {"b", U8, []uint64{3}}, {"z", BOOL, []uint64{0}}},
		map[string]string{"tied": "w", "format": "w"})
	if err != nil {
		tb.Fatal(err)
	}
	return h, append(raw, "01234567abc"...)
}

func TestDigester(t *testing.T) {
	t.Parallel()
	h, file := sample(t)
	want := []TensorDigest{
		{"b", U8, []uint64{3}, hexSum("abc")},
		{"e", F64, []uint64{0}, hexSum("")},
		{"tied", F32, []uint64{2}, hexSum("01234567")},
		{"w", F32, []uint64{2}, hexSum("01234567")},
		{"z", BOOL, []uint64{0}, hexSum("")},
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 { // cut into pieces of all kinds
		d := NewDigester(h)
		for p := file; len(p) > 0; {
			n := min(len(p), rng.IntN(9))
			if got, err := d.Write(p[:n]); got != n || err != nil {
				t.Fatalf("Write gives %d, %v", got, err)
			}
			p = p[n:]
		}
		got, err := d.Sum()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\ngot  %v\nwant %v", err, got, want)
		}
	}
}

func TestDigesterLength(t *testing.T) {
	t.Parallel()
	h, file := sample(t)
	for n := range len(file) {
		d := NewDigester(h)
		d.Write(file[:n])
		if _, err := d.Sum(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d of %d bytes: %v", n, len(file), err)
		}
	}
	d := NewDigester(h)
	d.Write(append(file, 'x'))
	if _, err := d.Sum(); kindOf(t, err) != MetadataIncompleteBuffer {
		t.Errorf("a byte too many: %v", err)
	}
	d = NewDigester(&Header{Length: 8})
	d.Write(make([]byte, 16))
	if got, err := d.Sum(); err != nil || len(got) != 0 {
		t.Errorf("no tensors: %v, %v", got, err)
	}
}

func TestSetDigest(t *testing.T) {
	t.Parallel()
	a, b := hexSum("a"), hexSum("b")
	set := []TensorDigest{{"b\n\"", F16, []uint64{2, 3}, b}, {"a", I64, nil, a}}
	got, err := SetDigest(set)
	if err != nil {
		t.Fatal(err)
	}
	if want := hexSum("sha256:" + a + " I64 [] a-\n"); got == want {
		t.Error("a name without quotes has the same digest")
	}
	want := hexSum("sha256:" + a + " I64 [] \"a\"\n" + "sha256:" + b + " F16 [2,3] \"b\\n\\\"\"\n")
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	slices.Reverse(set)
	if again, _ := SetDigest(set); again != want {
		t.Error("the order of the arguments matters")
	}
	if empty, err := SetDigest(nil); err != nil || empty != hexSum("") {
		t.Errorf("nothing: %s, %v", empty, err)
	}
}

func TestSetDigestRefuses(t *testing.T) {
	t.Parallel()
	sum := hexSum("")
	tests := map[string][]TensorDigest{
		"twice":            {{"a", F32, nil, sum}, {"b", F32, nil, sum}, {"a", F32, nil, sum}},
		"not UTF-8":        {{"\xff", F32, nil, sum}},
		"no dtype":         {{"a", 0, nil, sum}},
		"with prefix":      {{"a", F32, nil, "sha256:" + sum}},
		"upper case":       {{"a", F32, nil, strings.ToUpper(sum)}},
		"short":            {{"a", F32, nil, sum[1:]}},
		"newline in digit": {{"a", F32, nil, sum[:31] + "\n" + sum[32:]}},
	}
	for name, set := range tests {
		if got, err := SetDigest(set); err == nil {
			t.Errorf("%s: accepted, %s", name, got)
		}
	}
}

// TestDigesterAllocates: a Write costs no memory.
func TestDigesterAllocates(t *testing.T) {
	var specs []Spec
	for i := range 64 {
		specs = append(specs, Spec{fmt.Sprint(i), U8, []uint64{100}})
	}
	h, raw, err := NewHeader(specs, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDigester(h)
	d.Write(raw)
	piece := make([]byte, 250)
	if n := testing.AllocsPerRun(20, func() { d.Write(piece) }); n != 0 {
		t.Errorf("%v allocations a Write", n)
	}
}

func BenchmarkDigester(b *testing.B) {
	const size = 1 << 20
	var specs []Spec
	for i := range 64 {
		specs = append(specs, Spec{fmt.Sprint(i), U8, []uint64{size}})
	}
	h, raw, err := NewHeader(specs, nil)
	if err != nil {
		b.Fatal(err)
	}
	piece := make([]byte, size)
	b.SetBytes(64 * size)
	for b.Loop() {
		d := NewDigester(h)
		d.Write(raw)
		for range 64 {
			d.Write(piece)
		}
		if _, err := d.Sum(); err != nil {
			b.Fatal(err)
		}
	}
}
