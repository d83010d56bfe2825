package scan

import (
	"errors"
	"io"
	"math/big"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/joblib"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/model"
)

// joblibRun runs pickles with the arrays that joblib writes between opcodes
// taken as what they are.
type joblibRun struct {
	ra    io.ReaderAt
	end   int64
	depth int
	// first is the offset of the first data passed over, 0 without one.
	first int64
	// inner are the pickles that hold arrays of objects.
	inner []innerStream
}

type innerStream struct {
	s   *pickle.Stream
	err error
}

func (j *joblibRun) load(start int64) (*pickle.Stream, error) {
	lim := pickleLimits()
	lim.AfterBuild = j.after
	return pickle.Load(j.ra, start, j.end, lim)
}

// after is asked after each BUILD.
func (j *joblibRun) after(b pickle.Build, at int64) int64 {
	n, objects := joblibArray(j.ra, b, at, j.end)
	if objects && j.depth < maxDepth && len(j.inner) < maxStreams {
		j.depth++
		s, err := j.load(at)
		j.depth--
		j.inner = append(j.inner, innerStream{s, err})
		if s != nil {
			n = s.End - at
		}
	}
	if n > 0 && j.first == 0 {
		j.first = at
	}
	return n
}

// joblibArray gives the number of bytes of an array that joblib writes after
// the BUILD of a NumpyArrayWrapper (joblib/numpy_pickle.py: read_array): an
// optional byte with the length of padding, the padding, the numbers. It is 0
// for every other object. An array of objects follows as a pickle of its own.
func joblibArray(ra io.ReaderAt, b pickle.Build, at, end int64) (n int64, objects bool) {
	c, ok := b.Object.(*pickle.Call)
	if !ok {
		return 0, false
	}
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return 0, false
	}
	module, name := g.Mapped()
	if !strings.HasPrefix(module, "joblib.numpy_pickle") || name != "NumpyArrayWrapper" {
		return 0, false
	}
	state, ok := b.State.Value.(*pickle.Dict)
	if !ok {
		return 0, false
	}
	fields := map[string]pickle.Value{}
	for _, it := range state.Items {
		if k, ok := text(it.Key); ok {
			fields[k] = it.Value
		}
	}
	if isObjectDtype(fields["dtype"]) {
		return 0, true
	}
	n, ok = arrayBytes(fields["shape"], fields["dtype"])
	if !ok {
		return 0, false
	}
	if align, ok := fields["numpy_array_alignment_bytes"]; ok && align != (pickle.None{}) {
		pad := peek(ra, end, at, 1)
		if len(pad) == 0 {
			return 0, false
		}
		n += 1 + int64(pad[0])
	}
	if n > end-at {
		return end - at, false // the stream then ends too early, and is malformed
	}
	return n, false
}

// arraysConvert asks the codec whether the arrays of a pickle, perhaps
// compressed, convert, and records why not. It is false where the file is no
// pickle of arrays at all.
func arraysConvert(r *report, b model.Blob) bool {
	_, err := joblib.Open(b, b.Size(), joblib.Limits{Pickle: pickleLimits()})
	var (
		unsupported *format.UnsupportedError
		forbidden   *numpy.ForbiddenError
		stream      *pickle.Error
	)
	switch {
	case err == nil:
	case errors.As(err, &unsupported):
		r.add("WS-TORCH-008", -1, "%v", err)
	case errors.As(err, &forbidden):
		for _, g := range forbidden.Globals {
			r.add("WS-PICKLE-003", g.Offset, "%s is nothing that arrays are made of, and no container of torch.save holds it", globalName(g)).withGlobal(g)
		}
	case errors.As(err, &stream):
		return false
	default:
		r.add("WS-PICKLE-020", -1, "%v", err)
	}
	return true
}

func isObjectDtype(v pickle.Value) bool {
	c, ok := v.(*pickle.Call)
	if !ok {
		return false
	}
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || len(args.Items) == 0 {
		return false
	}
	code, _ := text(args.Items[0])
	return strings.HasPrefix(code, "O")
}

// arrayBytes is the number of bytes of an array, from a shape and a dtype as
// they are pickled.
func arrayBytes(shape, dtype pickle.Value) (int64, bool) {
	t, ok := shape.(*pickle.Tuple)
	if !ok || len(t.Items) > 64 {
		return 0, false
	}
	size, ok := dtypeSize(dtype)
	if !ok {
		return 0, false
	}
	n := big.NewInt(size)
	for _, d := range t.Items {
		v, ok := d.(pickle.Int)
		if !ok || v < 0 {
			return 0, false
		}
		n.Mul(n, big.NewInt(int64(v)))
	}
	if !n.IsInt64() {
		return 1<<63 - 1 - 512, true
	}
	return min(n.Int64(), 1<<62), true
}

// dtypeSize is a pickled dtype's itemsize: that of its code, or, where the
// dtype is structured, the one in its state.
func dtypeSize(v pickle.Value) (int64, bool) {
	c, ok := v.(*pickle.Call)
	if !ok {
		return 0, false
	}
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || len(args.Items) == 0 {
		return 0, false
	}
	code, ok := text(args.Items[0])
	if !ok || len(code) < 2 || code[0] == 'O' || code[0] == '|' {
		return 0, false
	}
	var n int64
	for _, d := range code[1:] {
		if d < '0' || d > '9' || n > 1<<40 {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	if code[0] == 'U' {
		n *= 4
	}
	return n, true
}
