package scan

import (
	"encoding/binary"
	"math"

	"github.com/weightseal/weightseal/model"
)

// Bounds on files of bare numbers: below, anything could look like them; above,
// too much would have to be read.
const (
	leastNumbers = 1 << 10
	mostNumbers  = 64 << 20
)

// bareNumbers says whether a file is nothing but floating-point numbers, as the
// parts of a model lie beside a graph that names them (ONNX external data,
// OpenVINO, TensorFlow.js): every one of them is finite and of the size that
// weights have, and most are not zero. There is nothing in it to act on.
func bareNumbers(b model.Blob) (width int, ok bool) {
	if b.Size() < leastNumbers || b.Size() > mostNumbers || b.Size()%4 != 0 {
		return 0, false
	}
	single, double := numberCheck{ok: true}, numberCheck{ok: b.Size()%8 == 0}
	c := newCursor(b, 0, b.Size())
	c.windowLen = 64 << 10
	for c.left() > 0 && (single.ok || double.ok) {
		p, err := c.bytes(int(min(c.left(), 64<<10)))
		if err != nil {
			return 0, false
		}
		for i := 0; i < len(p) && single.ok; i += 4 {
			single.take(float64(math.Float32frombits(binary.LittleEndian.Uint32(p[i:]))))
		}
		for i := 0; i+8 <= len(p) && double.ok; i += 8 {
			double.take(math.Float64frombits(binary.LittleEndian.Uint64(p[i:])))
		}
	}
	switch {
	case double.plausible():
		return 8, true
	case single.plausible():
		return 4, true
	}
	return 0, false
}

// numberCheck counts numbers, until one is none.
type numberCheck struct {
	ok         bool
	all, zeros int
}

func (n *numberCheck) take(v float64) {
	const smallest, largest = 1e-12, 1e6
	n.all++
	switch a := math.Abs(v); {
	case a == 0:
		n.zeros++
	case !(a >= smallest && a <= largest): // also for what is no number
		n.ok = false
	}
}

func (n *numberCheck) plausible() bool { return n.ok && n.zeros < n.all/2 }
