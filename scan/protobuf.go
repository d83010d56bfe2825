package scan

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// protobufDetector judges protobuf files: ONNX models, TensorFlow graphs, Core
// ML programs, and sentencepiece vocabularies.
type protobufDetector struct{}

func (protobufDetector) Name() string { return "protobuf" }

func (protobufDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.ONNX, model.Protobuf:
		return true
	case model.Unknown:
		return f.Declared == model.ONNX || f.Declared == model.Protobuf || isGraphName(f.Path)
	}
	return false
}

// isGraphName says whether a file is named as a TensorFlow graph or Core ML
// model. The name decides only which structure is looked for first.
func isGraphName(p string) bool {
	switch ext(p) {
	case ".pb", ".mlmodel", ".meta", ".onnx":
		return true
	}
	return false
}

func (protobufDetector) Scan(_ context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	kind := protoKind(f, b)
	var err error
	switch kind {
	case protoONNX:
		err = (&onnxWalk{r: r, local: map[operator]bool{}}).model(newMessage(b, 0, b.Size()))
	case protoSavedModel:
		err = (&graphWalk{r: r}).savedModel(newMessage(b, 0, b.Size()))
	case protoMetaGraph:
		err = (&graphWalk{r: r}).metaGraph(newMessage(b, 0, b.Size()))
	case protoGraph:
		err = (&graphWalk{r: r}).graph(newMessage(b, 0, b.Size()))
	case protoCoreML:
		r.add("WS-PROGRAM-001", 0, "a Core ML model")
		err = newMessage(b, 0, b.Size()).each(func() error { return nil })
	case protoKeras:
		r.add("WS-TF-002", 0, "the Keras objects of a SavedModel")
		err = scanKerasMetadata(r, newMessage(b, 0, b.Size()))
	case protoPieces:
		// The structure has been walked to the end: text and numbers.
	default:
		r.add("WS-FORMAT-002", 0, "a protobuf message of an unknown type")
	}
	switch {
	case errors.Is(err, errLimit):
		r.add("WS-LIMIT-001", -1, "%v", err)
	case err != nil:
		r.add("WS-ONNX-004", -1, "%v", err)
	}
	return r.result()
}

// protoType is which message a file holds. Protobuf has no signature: the
// type is told by which fields are there and how.
type protoType int

const (
	protoUnknown protoType = iota
	protoONNX
	protoSavedModel
	protoGraph
	protoMetaGraph
	protoCoreML
	protoPieces
	protoKeras
)

func protoKind(f model.File, b model.Blob) protoType {
	if f.Format == model.ONNX {
		return protoONNX
	}
	base := path.Base(f.Path)
	switch {
	case looksLike(b, savedModelShape) && hasNodes(b, protoSavedModel):
		return protoSavedModel
	case looksLike(b, onnxShape) && fieldThere(b, 7):
		return protoONNX
	case hasNodes(b, protoSavedModel):
		// Readers of protobuf pass over fields that they do not expect.
		return protoSavedModel
	case !isGraphName(f.Path) && looksLike(b, piecesShape) && piecesValid(b):
		return protoPieces
	case base == "keras_metadata.pb" && isKerasMetadata(b):
		return protoKeras
	case looksLike(b, graphShape) && hasNodes(b, protoGraph):
		return protoGraph
	case looksLike(b, metaGraphShape) && hasNodes(b, protoMetaGraph):
		return protoMetaGraph
	case looksLike(b, coreMLShape) && (ext(base) == ".mlmodel" || strings.HasSuffix(base, ".mlmodel")):
		return protoCoreML
	}
	return protoUnknown
}

// The shapes: for each field number, its wire type. A message with a field
// that is not in the table, or of another wire type, is of another type.
var (
	// tensorflow/core/protobuf/saved_model.proto
	savedModelShape = map[int32]uint8{1: wireVarint, 2: wireLen}
	// onnx/onnx.proto3, ModelProto
	onnxShape = map[int32]uint8{1: wireVarint, 2: wireLen, 3: wireLen, 4: wireLen, 5: wireVarint, 6: wireLen,
		7: wireLen, 8: wireLen, 14: wireLen, 20: wireLen, 25: wireLen, 26: wireLen}
	// tensorflow/core/framework/graph.proto
	graphShape = map[int32]uint8{1: wireLen, 2: wireLen, 3: wireVarint, 4: wireLen, 5: wireLen}
	// tensorflow/core/protobuf/meta_graph.proto
	metaGraphShape = map[int32]uint8{1: wireLen, 2: wireLen, 3: wireLen, 4: wireLen, 5: wireLen, 6: wireLen, 7: wireLen}
	// sentencepiece_model.proto: pieces, trainer_spec, normalizer_spec,
	// self_test_data, denormalizer_spec
	piecesShape = map[int32]uint8{1: wireLen, 2: wireLen, 3: wireLen, 4: wireLen, 5: wireLen}
	pieceShape  = map[int32]uint8{1: wireLen, 2: wireI32, 3: wireVarint}
	// Core ML Model.proto: specification version, description, and one of
	// the model types
	coreMLShape map[int32]uint8
)

// looksLike says whether the first fields of a message are those of a type. A
// nil shape takes every well-formed message that begins with a number.
func looksLike(b model.Blob, shape map[int32]uint8) bool {
	m := newMessage(b, 0, b.Size())
	for n := range 64 {
		ok, err := m.next()
		if err != nil {
			return false
		}
		if !ok {
			return n > 0
		}
		if shape == nil {
			if n == 0 && (m.num != 1 || m.wire != wireVarint) {
				return false
			}
			continue
		}
		if w, known := shape[m.num]; !known || w != m.wire {
			return false
		}
	}
	return true
}

func fieldThere(b model.Blob, num int32) bool {
	m := newMessage(b, 0, b.Size())
	for {
		ok, err := m.next()
		if !ok || err != nil {
			return false
		}
		if m.num == num {
			return true
		}
	}
}

// hasNodes says whether a graph has at least one node with an operator.
func hasNodes(b model.Blob, kind protoType) bool {
	g := &graphWalk{r: &report{}}
	walk := g.graph
	switch kind {
	case protoSavedModel:
		walk = g.savedModel
	case protoMetaGraph:
		walk = g.metaGraph
	}
	err := walk(newMessage(b, 0, b.Size()))
	return g.nodes > 0 || errors.Is(err, errLimit)
}

// piecesValid says whether a file is a sentencepiece vocabulary, to its last
// byte: pieces of text, score and type, and specifications.
func piecesValid(b model.Blob) bool {
	m := newMessage(b, 0, b.Size())
	pieces := 0
	err := m.each(func() error {
		if w, known := piecesShape[m.num]; !known || w != m.wire {
			return errProto
		}
		sub, err := m.sub()
		if err != nil {
			return err
		}
		piece := m.num == 1
		if piece {
			pieces++
		}
		return sub.each(func() error {
			if w, known := pieceShape[sub.num]; piece && (!known || w != sub.wire) {
				return errProto
			}
			return nil
		})
	})
	return err == nil && pieces > 0
}
