package convert

import (
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
)

// describe gives what goes into the metadata beside the framework and the
// ties, and what is dropped all the same. With all it takes the plain values
// that would be dropped. An entry that would be taken for something else is
// left out: its key is a name or taken, or its value is a tensor's name, which
// makes it read as a tie.
func (c *contents) describe(all bool) (map[string]string, []format.Dropped) {
	d := description{names: make(map[string]bool, len(c.tensors)), meta: map[string]string{}}
	for i := range c.tensors {
		d.names[c.tensors[i].Name] = true
	}
	var dropped []format.Dropped
	for _, key := range slices.Sorted(maps.Keys(c.metadata)) {
		if key == formatKey || d.put(key, c.metadata[key]) {
			continue
		}
		dropped = append(dropped, format.Dropped{Path: metadataKey + "." + key, Kind: "metadata", Reason: "it would be taken for a tie"})
	}
	if f, ok := c.metadata[formatKey]; ok {
		c.framework = f
	}
	if !all {
		return d.meta, append(dropped, c.dropped...)
	}
	for _, key := range slices.Sorted(maps.Keys(c.texts)) {
		d.put(key, c.texts[key])
	}
	for _, x := range c.dropped {
		if text, ok := valueText(x.Value); !ok || !d.put(x.Path, text) {
			dropped = append(dropped, x)
		}
	}
	for _, x := range c.values {
		if text, ok := valueText(x.Value); ok {
			d.put(x.Path, text)
		}
	}
	return d.meta, dropped
}

// description is metadata in the making.
type description struct {
	names map[string]bool // of all tensors, ties included
	meta  map[string]string
}

// put adds an entry, unless it could be taken for something else.
func (d *description) put(key, value string) bool {
	_, twice := d.meta[key]
	if twice || key == formatKey || key == metadataKey || d.names[key] || d.names[value] || !utf8.ValidString(key) || !utf8.ValidString(value) {
		return false
	}
	d.meta[key] = value
	return true
}

// valueText is a dropped value as metadata has it: text as it is, everything
// else as JSON.
func valueText(value string) (string, bool) {
	if value == "" || value[0] != '"' {
		return value, value != ""
	}
	var s string
	err := json.Unmarshal([]byte(value), &s)
	return s, err == nil
}
