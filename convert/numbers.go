package convert

import (
	"fmt"
	"math"
	"strconv"

	"github.com/weightseal/weightseal/format/safetensors"
)

// numbers gives elements, which come as bits, their meaning.
type numbers struct {
	kind  kind
	width int // bits
	small float
}

type kind byte

const (
	unsigned kind = iota
	signed
	floating
	complexes
)

// float is a binary floating-point format of at most 32 bits.
type float struct {
	exponent, mantissa uint // bits; the sign is above them
	bias               int
	nan                nans
}

// nans is how a format writes what is no number.
type nans byte

const (
	ieee    nans = iota // the largest exponent: infinities, and the rest NaN
	allOnes             // only all ones beside the sign is NaN
	signBit             // only the sign alone is NaN: there is no -0
	none                // every pattern is a number
	powers              // E8M0: no sign and no mantissa, all ones is NaN
)

// floats are the formats by dtype: IEEE 754; OCP 8-bit floating point (OFP8)
// and microscaling (MX) specifications; the FNUZ variants as in PyTorch's
// c10/util/Float8_e4m3fnuz.h and Float8_e5m2fnuz.h.
func floatOf(d safetensors.DType) (float, bool) {
	switch d {
	case safetensors.F32:
		return float{8, 23, 127, ieee}, true
	case safetensors.BF16:
		return float{8, 7, 127, ieee}, true
	case safetensors.F16:
		return float{5, 10, 15, ieee}, true
	case safetensors.F8E5M2:
		return float{5, 2, 15, ieee}, true
	case safetensors.F8E4M3:
		return float{4, 3, 7, allOnes}, true
	case safetensors.F8E5M2FNUZ:
		return float{5, 2, 16, signBit}, true
	case safetensors.F8E4M3FNUZ:
		return float{4, 3, 8, signBit}, true
	case safetensors.F8E8M0:
		return float{8, 0, 127, powers}, true
	case safetensors.F6E3M2:
		return float{3, 2, 3, none}, true
	case safetensors.F6E2M3:
		return float{2, 3, 1, none}, true
	case safetensors.F4:
		return float{2, 1, 1, none}, true
	}
	return float{}, false
}

func numbersOf(d safetensors.DType) (numbers, error) {
	n := numbers{width: int(d.Bits())}
	switch d {
	case safetensors.BOOL, safetensors.U8, safetensors.U16, safetensors.U32, safetensors.U64:
		n.kind = unsigned
	case safetensors.I8, safetensors.I16, safetensors.I32, safetensors.I64:
		n.kind = signed
	case safetensors.C64:
		n.kind = complexes
		n.small, _ = floatOf(safetensors.F32)
	case safetensors.F64:
		n.kind = floating
	default:
		small, ok := floatOf(d)
		if !ok {
			return n, fmt.Errorf("convert: no rule for the elements of dtype %s", d)
		}
		n.kind, n.small = floating, small
	}
	return n, nil
}

// value is the number that the bits of a float mean. A float64 holds each of
// them exactly.
func (f float) value(v uint64) float64 {
	top := uint64(1)<<f.exponent - 1
	exp, man := v>>f.mantissa&top, v&(1<<f.mantissa-1)
	negative := v>>(f.exponent+f.mantissa)&1 == 1
	switch f.nan {
	case powers:
		if v == top {
			return math.NaN()
		}
		return math.Ldexp(1, int(v)-f.bias)
	case ieee:
		if exp == top && man != 0 {
			return math.NaN()
		}
		if exp == top {
			return signOf(math.Inf(1), negative)
		}
	case allOnes:
		if exp == top && man == 1<<f.mantissa-1 {
			return math.NaN()
		}
	case signBit:
		if negative && exp == 0 && man == 0 {
			return math.NaN()
		}
	}
	if exp == 0 {
		return signOf(math.Ldexp(float64(man), 1-f.bias-int(f.mantissa)), negative)
	}
	return signOf(math.Ldexp(float64(man|1<<f.mantissa), int(exp)-f.bias-int(f.mantissa)), negative)
}

func signOf(v float64, negative bool) float64 {
	if negative {
		return math.Copysign(v, -1)
	}
	return v
}

// float gives the value of a floating element.
func (n *numbers) float(v uint64) float64 {
	if n.width == 64 {
		return math.Float64frombits(v)
	}
	return n.small.value(v)
}

func (n *numbers) parts(v uint64) (re, im float64) {
	return n.small.value(v & math.MaxUint32), n.small.value(v >> 32)
}

// extended is a signed element as int64.
func (n *numbers) extended(v uint64) int64 {
	shift := 64 - n.width
	return int64(v<<shift) >> shift
}

// distance is how far two elements lie apart.
func (n *numbers) distance(a, b uint64) distance {
	switch n.kind {
	case unsigned:
		return distance{whole: max(a, b) - min(a, b), exact: true}
	case signed:
		x, y := n.extended(a), n.extended(b)
		return distance{whole: uint64(max(x, y)) - uint64(min(x, y)), exact: true}
	case complexes:
		ar, ai := n.parts(a)
		br, bi := n.parts(b)
		re, im := apart(ar, br), apart(ai, bi)
		if math.IsNaN(re) || math.IsNaN(im) { // Hypot prefers infinity
			return distance{float: math.NaN()}
		}
		return distance{float: math.Hypot(re, im)}
	}
	return distance{float: apart(n.float(a), n.float(b))}
}

// apart is |a-b|, and zero for the same infinity.
func apart(a, b float64) float64 {
	if a == b {
		return 0
	}
	return math.Abs(a - b)
}

// text is an element for people.
func (n *numbers) text(v uint64) string {
	switch n.kind {
	case unsigned:
		return strconv.FormatUint(v, 10)
	case signed:
		return strconv.FormatInt(n.extended(v), 10)
	case complexes:
		return n.floatText(v&math.MaxUint32, 32) + "," + n.floatText(v>>32, 32) + "i"
	}
	return n.floatText(v, n.width)
}

// floatText gives the shortest decimal that a float of that width reads back,
// and a NaN with its bits.
func (n *numbers) floatText(v uint64, width int) string {
	f := math.Float64frombits(v)
	if width < 64 {
		f = n.small.value(v)
	}
	if math.IsNaN(f) {
		return fmt.Sprintf("NaN(0x%0*x)", (width+3)/4, v)
	}
	if width < 64 {
		width = 32
	}
	return strconv.FormatFloat(f, 'g', -1, width)
}

// distance is an absolute difference: of integers exact, of floats as exact as
// a float64 is.
type distance struct {
	exact bool
	whole uint64
	float float64
}

func (d distance) isNaN() bool { return !d.exact && math.IsNaN(d.float) }
func (d distance) isInf() bool { return !d.exact && math.IsInf(d.float, 0) }

// less compares two distances of one dtype.
func (d distance) less(e distance) bool {
	if d.exact {
		return d.whole < e.whole
	}
	return d.float < e.float
}

func (d distance) String() string {
	if d.exact {
		return strconv.FormatUint(d.whole, 10)
	}
	return strconv.FormatFloat(d.float, 'g', -1, 64)
}
