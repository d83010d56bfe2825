package torch

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
)

// TestValueOf writes plain values as JSON, and others not at all.
func TestValueOf(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("18446744073709551616", 10)
	for want, v := range map[string]pickle.Value{
		"true": pickle.Bool(true), "-7": pickle.Int(-7), "18446744073709551616": pickle.BigInt{Int: huge},
		"0.1": pickle.Float(0.1), "3.0": pickle.Float(3), "1e-05": pickle.Float(1e-5), "NaN": pickle.Float(math.NaN()),
		"Infinity": pickle.Float(math.Inf(1)), "-Infinity": pickle.Float(math.Inf(-1)),
		`"a\"<é"`: pickle.String{S: `a"<é`, Valid: true}, `""`: pickle.String{Valid: true},
	} {
		if got := valueOf(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
	for _, v := range []pickle.Value{
		pickle.None{}, pickle.String{S: "\xff"}, &pickle.List{}, pickle.String{S: strings.Repeat("x", 70_000), Valid: true},
		&pickle.Bytes{Data: []byte("x"), Len: 1, Opcode: 'C'}, pickle.BigInt{Int: new(big.Int).Lsh(huge, 2000)},
	} {
		if got := valueOf(v); got != "" {
			t.Errorf("%T is %s", v, got)
		}
	}
}
