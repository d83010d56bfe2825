package torch

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
)

// valueOf gives a plain number, truth value or text as JSON; "" for anything
// else. Numbers that JSON does not have are written as Python's json module
// has them.
func valueOf(v pickle.Value) string {
	switch v := v.(type) {
	case pickle.Bool:
		return strconv.FormatBool(bool(v))
	case pickle.Int:
		return strconv.FormatInt(int64(v), 10)
	case pickle.BigInt:
		if v.BitLen() <= 1024 {
			return v.String()
		}
	case pickle.Float:
		return floatText(float64(v))
	}
	s, ok := textOf(v)
	if !ok || len(s) > format.MaxValue {
		return ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil || b.Len() > format.MaxValue {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// floatText is the shortest text that reads as the same number, and not as an
// integer.
func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		if f < 0 {
			return "-Infinity"
		}
		return "Infinity"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// The bounds of what is looked at inside of a dropped container.
const (
	maxInsideDepth  = 16
	maxInsideVisits = 100_000
)

// inside lists the plain values in a container that is dropped as a whole, by
// path. It gives up where there are too many.
func (w *walker) inside(path string, v pickle.Value) {
	visits := 0
	var walk func(path string, v pickle.Value, depth int)
	walk = func(path string, v pickle.Value, depth int) {
		if !isContainer(v) || w.c.isTensor(v) || depth > maxInsideDepth {
			return
		}
		_ = w.children(v, func(l label, part pickle.Value) error {
			if visits++; visits > maxInsideVisits {
				return errEnough
			}
			if l.bad != "" {
				return nil
			}
			at := join(path, l.text)
			if value := valueOf(part); value != "" && len(at) <= maxName {
				w.out.Values = append(w.out.Values, Dropped{Path: at, Kind: leafKind(part), Reason: "outside " + quote(w.out.Subtree), Value: value})
				return nil
			}
			walk(at, part, depth+1)
			return nil
		})
	}
	walk(path, v, 0)
}

var errEnough = errors.New("enough")
