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

// inside lists the plain values in what is dropped as a whole, by path: items
// of containers and of dictionary classes, attributes of objects. It gives up
// where there are too many.
func (w *walker) inside(path string, v pickle.Value) {
	visits := 0
	var walk func(path string, v pickle.Value, depth int)
	part := func(path string, l label, v pickle.Value, depth int) error {
		if visits++; visits > maxInsideVisits {
			return errEnough
		}
		at := join(path, l.text)
		if l.bad != "" || len(at) > maxName {
			return nil
		}
		if value := valueOf(v); value != "" {
			w.out.Values = append(w.out.Values, Dropped{Path: at, Kind: leafKind(v), Value: value})
			return nil
		}
		walk(at, v, depth+1)
		return nil
	}
	walk = func(path string, v pickle.Value, depth int) {
		if w.c.isTensor(v) || depth > maxInsideDepth {
			return
		}
		if isContainer(v) {
			_ = w.children(v, func(l label, x pickle.Value) error { return part(path, l, x, depth) })
			return
		}
		for _, it := range objectItems(v) {
			if part(path, labelOf(it.Key), it.Value, depth) != nil {
				return
			}
		}
	}
	walk(path, v, 0)
}

// objectItems gives the items of a dictionary class and the attributes of an
// object.
func objectItems(v pickle.Value) []pickle.Item {
	call, ok := v.(*pickle.Call)
	if !ok {
		return nil
	}
	items := call.Items
	for _, st := range call.States {
		attributes, _ := dictItems(st.Value)
		items = append(items[:len(items):len(items)], attributes...)
	}
	return items
}

var errEnough = errors.New("enough")
