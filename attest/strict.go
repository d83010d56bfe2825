package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Limits on any JSON document that came from outside.
const (
	maxJSONDepth  = 64
	maxJSONKeys   = 10_000  // of one object
	maxJSONItems  = 100_000 // of one array
	maxDecodeFail = 200     // bytes of a document's text that an error may quote
)

// decodeStrict decodes one JSON document into v, a pointer to a struct.
// encoding/json takes the last of two equal keys, matches keys whatever their
// case and repairs bad UTF-8; another parser may do otherwise, so that two
// verifiers read two documents. Here all of that is an error, as are bytes
// after the document. Keys that v does not know are ignored (in-toto parsing
// rules), unless they differ from a known one in case alone.
func decodeStrict(data []byte, v any) error {
	if err := checkStrict(data, reflect.TypeOf(v)); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// checkStrict applies the rules of decodeStrict. t is the type the document is
// for; nil when only duplicates, depth and counts matter.
func checkStrict(data []byte, t reflect.Type) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	w := strictWalk{dec: dec, fields: map[reflect.Type]map[string]reflect.Type{}}
	if err := w.value(t, 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("at offset %d: %w", dec.InputOffset(), err)
	}
	end := dec.InputOffset()
	if rest := bytes.TrimLeft(data[end:], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("%d bytes after the end of the document, at offset %d", len(rest), int64(len(data)-len(rest)))
	}
	if !json.Valid(data) { // the token reader is more lenient than the grammar
		return errors.New("not valid JSON")
	}
	return nil
}

type strictWalk struct {
	dec    *json.Decoder
	fields map[reflect.Type]map[string]reflect.Type
}

func (w *strictWalk) value(t reflect.Type, depth int) error {
	tok, err := w.dec.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxJSONDepth {
		return fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	if delim == '{' {
		return w.object(t, depth)
	}
	return w.array(t, depth)
}

func (w *strictWalk) object(t reflect.Type, depth int) error {
	known, elem := w.shape(t)
	seen := map[string]struct{}{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok {
			return errors.New("an object's key is not a string")
		}
		if _, twice := seen[key]; twice {
			return fmt.Errorf("key %s twice in one object", quote(key))
		}
		if len(seen) == maxJSONKeys {
			return fmt.Errorf("more than %d keys in one object", maxJSONKeys)
		}
		seen[key] = struct{}{}
		next := elem
		if known != nil {
			if next, err = lookUp(known, key); err != nil {
				return err
			}
		}
		if err := w.value(next, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func (w *strictWalk) array(t reflect.Type, depth int) error {
	var elem reflect.Type
	if t = deref(t); t != nil && t.Kind() == reflect.Slice && t != rawType {
		elem = t.Elem()
	}
	for n := 0; w.dec.More(); n++ {
		if n == maxJSONItems {
			return fmt.Errorf("more than %d items in one array", maxJSONItems)
		}
		if err := w.value(elem, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

var rawType = reflect.TypeFor[json.RawMessage]()

// shape gives the keys of a struct with their types, or the element type of a
// map; nothing for what is not known.
func (w *strictWalk) shape(t reflect.Type) (known map[string]reflect.Type, elem reflect.Type) {
	t = deref(t)
	if t == nil {
		return nil, nil
	}
	switch t.Kind() {
	case reflect.Map:
		return nil, t.Elem()
	case reflect.Struct:
	default:
		return nil, nil
	}
	if m, ok := w.fields[t]; ok {
		return m, nil
	}
	m := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "-" && name != "" {
			m[name] = f.Type
		}
	}
	w.fields[t] = m
	return m, nil
}

func lookUp(known map[string]reflect.Type, key string) (reflect.Type, error) {
	if t, ok := known[key]; ok {
		return t, nil
	}
	for name := range known {
		if strings.EqualFold(name, key) {
			return nil, fmt.Errorf("key %s is %q in another case", quote(key), name)
		}
	}
	return nil, nil
}

func deref(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// quote makes text from outside fit to print.
func quote(s string) string {
	if len(s) > maxDecodeFail {
		s = s[:maxDecodeFail] + "..."
	}
	return fmt.Sprintf("%q", s)
}
