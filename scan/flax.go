package scan

import (
	"context"
	"errors"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/flax"
	"github.com/weightseal/weightseal/model"
)

// flaxDetector judges the msgpack of Flax. Nothing in it is executed; it is
// safe when every byte of it is accounted for.
type flaxDetector struct{}

func (flaxDetector) Name() string { return "flax" }

// Wants leaves alone what programs hand to an unpickler for its name: that is
// judged as what the unpickler would make of it.
func (flaxDetector) Wants(f model.File) bool { return f.Format == model.Flax && !unpickledByName(f) }

func (flaxDetector) Scan(_ context.Context, _ model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	_, err := flax.Open(b, b.Size(), "", flax.Limits{})
	var damaged *format.Error
	var lossy *format.UnsupportedError
	switch {
	case err == nil, errors.As(err, &lossy): // what has no place in safetensors does no harm
	case errors.As(err, &damaged):
		r.add("WS-FORMAT-002", damaged.Offset, "%v", damaged)
	default:
		return r.verdict, r.findings, err
	}
	return r.result()
}
