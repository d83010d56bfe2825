package torch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// What can be wrong with a checkpoint. A *FormatError unwraps to one of these.
var (
	ErrNotTorch  = errors.New("not a torch checkpoint")
	ErrContainer = errors.New("broken container")
	ErrStorage   = errors.New("broken storage")
	ErrTensor    = errors.New("broken tensor")
	ErrName      = errors.New("tensor name that cannot be written")
	ErrLimit     = errors.New("limit reached")
	ErrNoSubtree = errors.New("no such subtree")
	ErrRefused   = errors.New("refused")
)

// FormatError says what in a checkpoint is wrong, and where.
type FormatError struct {
	Reason error  // one of the sentinel errors above
	Record string // record or stream, if one is concerned
	Offset int64  // byte offset in the file, or in a compressed record; -1 where there is none
	Path   string // keys of the tensor from the root, if one is concerned
	Detail string
}

func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString("torch: " + e.Reason.Error())
	if e.Path != "" {
		b.WriteString(": " + quote(e.Path))
	}
	if e.Record != "" {
		b.WriteString(": " + quote(e.Record))
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at offset %d", e.Offset)
	}
	return b.String() + ": " + e.Detail
}

func (e *FormatError) Unwrap() error { return e.Reason }

// quote shows names as they are while that is unmistakable.
func quote(s string) string {
	const longest = 200
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	q := strconv.QuoteToASCII(s)
	if s != "" && q == `"`+s+`"` && !strings.Contains(s, " ") {
		return s
	}
	return q
}

func broken(reason error, record string, offset int64, format string, args ...any) *FormatError {
	return &FormatError{Reason: reason, Record: record, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}

// RefusedError lists what makes a checkpoint ambiguous or able to act: it can
// be read, but never converted.
type RefusedError struct{ Findings []Finding }

func (e *RefusedError) Error() string {
	f := e.Findings[0]
	s := fmt.Sprintf("torch: refused: %s: %s at offset %d: %s", f.Rule, quote(f.Inner), f.Offset, f.Detail)
	if n := len(e.Findings) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

func (e *RefusedError) Unwrap() error { return ErrRefused }

// AmbiguousError says that a checkpoint holds several things that could be
// the weights. Candidates are paths that Select takes.
type AmbiguousError struct{ Candidates []string }

func (e *AmbiguousError) Error() string {
	return "torch: several parts of the checkpoint hold tensors, choose one: " + strings.Join(e.Candidates, ", ") +
		" (or " + WholeRoot + " for all of it)"
}

// UnsupportedError says what cannot be converted without loss. What to do
// instead is in Next and not in the error's text, for callers show it apart.
type UnsupportedError struct {
	Path string // of the tensor in the checkpoint
	What string // "complex128 tensor"
	Next string // the exact next step
	// Forbidden lists inert objects that are there besides; nil where there
	// are none. Leaving them out would not help.
	Forbidden *ForbiddenError
}

func (e *UnsupportedError) Error() string {
	if e.Path == "" {
		return "torch: cannot be converted without loss: " + e.What
	}
	return "torch: " + quote(e.Path) + " cannot be converted without loss: " + e.What
}

// NextStep is what to do instead.
func (e *UnsupportedError) NextStep() string { return e.Next }

// ForbiddenError lists every global outside what the converter knows. Inert
// says that all of them are classes known to be data holders (torch.nn
// modules, argparse.Namespace, ...), so that only code is lost.
type ForbiddenError struct {
	Globals []*pickle.Global
	Inert   bool
}

func (e *ForbiddenError) Error() string {
	const shown = 5
	var names []string
	for i, g := range e.Globals {
		if i == shown {
			names = append(names, fmt.Sprintf("and %d more", len(e.Globals)-shown))
			break
		}
		module, name := g.Mapped()
		names = append(names, fmt.Sprintf("%s at offset %d", quote(module+"."+name), g.Offset))
	}
	what := "the pickle names what no weights need"
	if e.Inert {
		what = "beside the weights there are objects that safetensors cannot hold"
	}
	return "torch: " + what + ": " + strings.Join(names, ", ")
}
