package scan

import (
	"errors"
	"io"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/joblib"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/pickle"
)

// arrays asks whether the arrays of a pickle that is called convertible are
// what their shapes and dtypes say: the codec that the converter uses reads
// them.
func arrays(r *report, ra io.ReaderAt, size int64) {
	if r.verdict > Convertible || !r.imports {
		return // plain values need no class: there is no array
	}
	_, err := joblib.Open(ra, size, joblib.Limits{Pickle: pickleLimits()})
	var (
		unsupported *format.UnsupportedError
		forbidden   *numpy.ForbiddenError
		broken      *format.Error
	)
	switch {
	case err == nil:
	case errors.As(err, &unsupported):
		if unsupported.Where != "" { // of one array; else there is none
			r.add("WS-PICKLE-020", -1, "%v", err)
		}
	case errors.As(err, &forbidden):
		for _, g := range forbidden.Globals {
			r.add("WS-PICKLE-003", g.Offset, "%s is nothing that the converter knows", globalName(g)).withGlobal(g)
		}
	case errors.Is(err, pickle.ErrLimit), errors.Is(err, errLimit):
		r.add("WS-LIMIT-001", offsetOf(err), "%v", err)
	case errors.As(err, &broken) && strings.HasPrefix(broken.Detail, "limit reached"):
		r.add("WS-LIMIT-001", broken.Offset, "%v", err)
	case errors.As(err, &broken):
		r.add("WS-NUMPY-002", broken.Offset, "%v", err)
	default:
		r.add("WS-NUMPY-002", offsetOf(err), "%v", err)
	}
}
