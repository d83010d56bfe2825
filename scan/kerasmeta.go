package scan

import (
	"strings"

	"github.com/weightseal/weightseal/model"
)

// metadataShape is the form of a keras_metadata.pb, which Keras 2 writes into
// a SavedModel: SavedMetadata (keras/protobuf/saved_metadata.proto).
var metadataShape = map[int32]uint8{1: wireLen}

// isKerasMetadata says whether a message is such a list of objects: each has
// the number and path of a node, and its configuration as JSON.
func isKerasMetadata(b model.Blob) bool {
	shape := map[int32]uint8{1: wireVarint, 2: wireVarint, 3: wireLen, 4: wireLen, 5: wireLen, 6: wireLen}
	if !looksLike(b, metadataShape) {
		return false
	}
	m, objects := newMessage(b, 0, b.Size()), 0
	err := m.each(func() error {
		sub, err := m.sub()
		if err != nil {
			return err
		}
		return sub.each(func() error {
			if w, known := shape[sub.num]; !known || w != sub.wire {
				return errProto
			}
			if sub.num == 5 {
				objects++
			}
			return nil
		})
	})
	return err == nil && objects > 0
}

// scanKerasMetadata judges the configuration of every object.
func scanKerasMetadata(r *report, m *message) error {
	return m.each(func() error {
		sub, err := m.sub()
		if err != nil {
			return err
		}
		path := ""
		return sub.each(func() error {
			if sub.num != 3 && sub.num != 5 {
				return nil
			}
			text, err := sub.text()
			if err != nil {
				return err
			}
			if sub.num == 3 {
				path = text
				return nil
			}
			part := &report{}
			scanJSON(part, "metadata", &member{ReaderAt: strings.NewReader(text), size: int64(len(text)), place: place{budget: new(budget)}})
			r.merge(clip(path), 0, part.findings)
			return nil
		})
	})
}
