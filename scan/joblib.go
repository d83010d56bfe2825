package scan

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/joblib"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/xz"
	"github.com/weightseal/weightseal/model"
)

// joblibRun runs pickles with the arrays that joblib writes between opcodes
// taken as what they are.
type joblibRun struct {
	ra     io.ReaderAt
	end    int64
	limits pickle.Limits
	// first is the offset of the first data passed over, 0 without one.
	first int64
	// unclear are the offsets where joblib would read an array of which the
	// length is not known.
	unclear []int64
	// inner are the pickles that hold arrays of objects.
	inner  []innerStream
	dtypes dtypeReader
}

type innerStream struct {
	s   *pickle.Stream
	err error
}

func (j *joblibRun) load(start int64) (*pickle.Stream, error) {
	lim := j.limits
	lim.AfterBuild = j.after
	return pickle.Load(j.ra, start, j.end, lim)
}

// after is asked after each BUILD. An array of objects is read by a plain
// unpickler, which knows nothing of the arrays of joblib.
func (j *joblibRun) after(b pickle.Build, at int64) int64 {
	n, objects, clear := j.array(b, at)
	if !clear && len(j.unclear) < maxFindings {
		j.unclear = append(j.unclear, b.State.Offset)
	}
	if objects && len(j.inner) < maxStreams {
		s, err := pickle.Load(j.ra, at, j.end, j.limits)
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

// array gives the number of bytes of an array that joblib writes after
// the BUILD of a NumpyArrayWrapper (joblib/numpy_pickle.py: read_array): an
// optional byte with the length of padding, the padding, the numbers. It is 0
// for every other object. An array of objects follows as a pickle of its own.
// With clear unset joblib would read something, and how much is not known.
func (j *joblibRun) array(b pickle.Build, at int64) (n int64, objects, clear bool) {
	if !isArrayWrapper(b.Object) {
		return 0, false, true
	}
	state, ok := b.State.Value.(*pickle.Dict)
	if !ok {
		return 0, false, false
	}
	fields := map[string]pickle.Value{}
	for _, it := range state.Items {
		if k, ok := text(it.Key); ok {
			fields[k] = it.Value
		}
	}
	d, ok := j.dtypes.read(fields["dtype"], 0)
	if !ok {
		return 0, false, false
	}
	if d.objects {
		return 0, true, true
	}
	if n, ok = countOf(fields["shape"], d.size); !ok {
		return 0, false, false
	}
	if align, ok := fields["numpy_array_alignment_bytes"]; ok && align != (pickle.None{}) {
		pad := peek(j.ra, j.end, at, 1)
		if len(pad) == 0 {
			return 0, false, true
		}
		n += 1 + int64(pad[0])
	}
	if n > j.end-at {
		return j.end - at, false, true // the stream then ends too early, and is malformed
	}
	return n, false, true
}

// isArrayWrapper says whether joblib takes an object for one that stands for
// an array, in whatever way it was made.
func isArrayWrapper(v pickle.Value) bool {
	c, ok := v.(*pickle.Call)
	if !ok {
		return false
	}
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return false
	}
	module, name := g.Mapped()
	if args, ok := c.Args.(*pickle.Tuple); ok && module == "copyreg" && name == "_reconstructor" && len(args.Items) > 0 {
		if g, ok = args.Items[0].(*pickle.Global); !ok {
			return false
		}
		module, name = g.Mapped()
	}
	return strings.HasPrefix(module, "joblib.numpy_pickle") && name == "NumpyArrayWrapper"
}

// unwritten finds a name of an array that safetensors cannot have, and why. A
// torch checkpoint's names are checked by its codec.
func unwritten(arrays []format.Tensor) (name, why string) {
	const reserved = "__metadata__"
	if slices.ContainsFunc(arrays, func(a format.Tensor) bool { return a.Name == reserved }) {
		return reserved, "name that is reserved in safetensors"
	}
	return format.BadName(func(yield func(string) bool) {
		for _, a := range arrays {
			if !yield(a.Name) {
				return
			}
		}
	})
}

// arraysConvert asks the codec whether the arrays of a pickle, perhaps
// compressed, convert, and records why not. It is false where the file is no
// pickle of arrays at all.
func arraysConvert(r *report, b model.Blob) bool {
	arrays, err := joblib.Open(b, b.Size(), joblib.Limits{Pickle: pickleLimits(b), Window: inflateRoom / 3})
	var (
		unsupported *format.UnsupportedError
		forbidden   *numpy.ForbiddenError
		stream      *pickle.Error
	)
	switch {
	case err == nil:
		if name, why := unwritten(arrays.Tensors); why != "" {
			r.add("WS-TORCH-011", -1, "%q: %s", clip(name), why)
		}
	case errors.As(err, &unsupported):
		r.add("WS-TORCH-008", -1, "%v", err)
	case errors.As(err, &forbidden):
		for _, g := range forbidden.Globals {
			r.add("WS-PICKLE-003", g.Offset, "%s is nothing that arrays are made of, and no container of torch.save holds it", globalName(g)).withGlobal(g)
		}
	case errors.Is(err, xz.ErrLimit):
		r.add("WS-LIMIT-001", -1, "%v", err)
	case errors.As(err, &stream):
		return false
	default:
		r.add("WS-PICKLE-020", -1, "%v", err)
	}
	return true
}
