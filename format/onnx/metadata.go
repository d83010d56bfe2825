package onnx

import (
	"fmt"

	"github.com/weightseal/weightseal/format"
)

const (
	maxName = 64 << 10
	maxText = 1 << 20
	// longest is how long a text of the metadata may be that is kept.
	longest = 64 << 10
)

// drop lists what safetensors cannot hold.
func (m *reader) drop(path, kind, reason string) error {
	if err := m.budget.Take(len(path)); err != nil {
		return err
	}
	m.ck.Dropped = append(m.ck.Dropped, format.Dropped{Path: path, Kind: kind, Reason: reason})
	return nil
}

// keep lists a value of the model that metadata can hold.
func (m *reader) keep(key, kind, value string) error {
	if _, twice := m.ck.Metadata[key]; twice {
		return m.Errorf(m.Pos(), key, "two values under this key")
	}
	m.ck.Metadata[key] = value
	return m.drop(key, kind, "metadata")
}

func (m *reader) keepText(f *field, key string) error {
	if f.wire == wireBytes && (f.value > longest || f.value > m.kept) {
		return m.drop(key, "str", fmt.Sprintf("metadata of %d bytes", f.value))
	}
	s, err := m.text(f, longest)
	if err != nil || s == "" {
		return err
	}
	m.kept -= f.value
	return m.keep(key, "str", s)
}

// property takes an entry of metadata_props.
func (m *reader) property(f *field) error {
	if f.wire == wireBytes && (f.value > longest || f.value > m.kept) {
		return m.drop("metadata_props", "str", fmt.Sprintf("metadata of %d bytes", f.value))
	}
	key, value, err := m.pair(f)
	if err != nil {
		return err
	}
	m.kept -= f.value
	return m.keep("metadata_props."+key, "str", value)
}

// pair reads a StringStringEntryProto.
func (m *reader) pair(f *field) (key, value string, err error) {
	err = m.message(f, func(f *field) (err error) {
		switch f.number {
		case 1:
			key, err = m.text(f, longest)
		case 2:
			value, err = m.text(f, longest)
		}
		return err
	})
	return key, value, err
}
