package onnx

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format"
)

// externalPair takes an entry of external_data: location, offset, length,
// checksum.
func (m *reader) externalPair(t *tensor, f *field) error {
	key, value, err := m.pair(f)
	if err != nil {
		return err
	}
	if t.external == nil {
		t.external = map[string]string{}
	}
	if _, twice := t.external[key]; twice {
		return m.Errorf(f.at, "", "two values of %q for its data", key)
	}
	if len(t.external) > 16 {
		return m.Errorf(f.at, "", "more about its data than is read")
	}
	t.external[key] = value
	return nil
}

// outside gives the bytes of a tensor that lies in another file.
func (m *reader) outside(t *tensor, want int64) (*format.Storage, error) {
	location := t.external["location"]
	if t.location != 1 || location == "" {
		return nil, m.Errorf(t.at, "", "its data lies outside, but not where")
	}
	if !local(location) {
		return nil, m.Errorf(t.at, "", "its data lies at %q, which is not beside the model", location)
	}
	if m.opt.External == nil {
		return nil, &format.UnsupportedError{
			Format: name, Where: t.name, What: fmt.Sprintf("tensor whose data lies in another file, %q", location),
			Next: "put the data into the model first: python3 -c 'import onnx; onnx.save(onnx.load(\"model.onnx\"), \"whole.onnx\")'",
		}
	}
	offset, err := m.position(t, "offset", 0)
	if err != nil {
		return nil, err
	}
	length, err := m.position(t, "length", want)
	if err != nil {
		return nil, err
	}
	if length != want {
		return nil, m.Errorf(t.at, "", "%d bytes in %q, and %d are its size", length, location, want)
	}
	e, err := m.other(location)
	if err != nil {
		return nil, err
	}
	if offset > e.Size || length > e.Size-offset {
		return nil, m.Errorf(t.at, "", "its data ends at byte %d of %q, which has %d", offset+length, location, e.Size)
	}
	st := &format.Storage{Data: io.NewSectionReader(e.Data, offset, length), Length: length, Offset: -1}
	if e.At >= 0 {
		st.Offset = e.At + offset
	}
	return st, nil
}

// position reads a number of external_data.
func (m *reader) position(t *tensor, key string, otherwise int64) (int64, error) {
	s, there := t.external[key]
	if !there {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(s, 10, 63)
	if err != nil || n < 0 {
		return 0, m.Errorf(t.at, "", "%s %q of its data", key, s)
	}
	return n, nil
}

// other opens a file once.
func (m *reader) other(location string) (*File, error) {
	if e := m.others[location]; e != nil {
		return e, nil
	}
	e, err := m.opt.External(location)
	if errors.As(err, new(*format.UnsupportedError)) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("the model's data in %q: %w", location, err)
	}
	m.others[location] = &e
	return &e, nil
}

// local says whether a path leads to a file beside the model or below it.
func local(p string) bool {
	if p == "" || path.IsAbs(p) || strings.ContainsAny(p, "\\\x00:") || strings.HasPrefix(p, "~") {
		return false
	}
	clean := path.Clean(p)
	return clean != "." && clean != ".." && !strings.HasPrefix(clean, "../")
}
