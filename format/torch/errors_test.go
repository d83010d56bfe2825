package torch

import (
	"errors"
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
)

// checkTyped demands that an error is one that a program can tell apart.
func checkTyped(tb testing.TB, err error) {
	tb.Helper()
	var (
		format      *FormatError
		machine     *pickle.Error
		refused     *RefusedError
		ambiguous   *AmbiguousError
		unsupported *UnsupportedError
		forbidden   *ForbiddenError
	)
	if !errors.As(err, &format) && !errors.As(err, &machine) && !errors.As(err, &refused) && !errors.As(err, &ambiguous) &&
		!errors.As(err, &unsupported) && !errors.As(err, &forbidden) && !errors.Is(err, ErrContainer) {
		tb.Errorf("untyped error %T: %v", err, err)
	}
	if err.Error() == "" {
		tb.Error("empty message")
	}
}
