package model

import (
	"encoding/binary"
	"errors"
	"io"
)

// protobufKind recognises two messages by their structure: ONNX's ModelProto
// (onnx/onnx.proto) and sentencepiece's (src/sentencepiece_model.proto). Other
// protobuf files are not told: any bytes may be one.
func (s *sniffer) protobufKind() (Format, error) {
	if len(s.head) < 2 {
		return "", nil
	}
	known := onnxFields
	format := ONNX
	switch s.head[0] {
	case 0x08: // field 1, a number
	case 0x0a: // field 1, a message
		known, format = sentencepieceFields, Protobuf
	default:
		return "", nil
	}
	seen, err := s.fields(known)
	switch {
	case err != nil || seen == nil:
		return "", err
	case format == ONNX && (!seen[7] || s.head[1] == 0 || s.head[1] > 64):
		return "", nil // no graph, or no version of the format
	case format == Protobuf && !isPiece(s.head):
		return "", nil
	}
	return format, nil
}

// Wire types by field number.
var (
	onnxFields = map[uint64]uint64{
		1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2,
	}
	sentencepieceFields = map[uint64]uint64{1: 2, 2: 2, 3: 2, 4: 2, 5: 2}
)

// maxFields bounds the walk over a message: a vocabulary has one field a piece.
const maxFields = 4 << 20

// fields walks over the fields of the top message, which must all be known and
// end where the file ends. It gives the numbers it saw, nil if they do not fit.
func (s *sniffer) fields(known map[uint64]uint64) (map[uint64]bool, error) {
	in := &window{r: s, size: s.size}
	seen := map[uint64]bool{}
	for n := 0; in.pos < s.size; n++ {
		tag, ok := in.varint()
		wire, field := known[tag>>3]
		if !ok || n > maxFields || !field || wire != tag&7 {
			return nil, in.err
		}
		length, ok := in.varint()
		if wire == 2 {
			ok = ok && length <= uint64(s.size-in.pos)
			in.pos += int64(length)
		}
		if !ok {
			return nil, in.err
		}
		seen[tag>>3] = true
	}
	return seen, nil
}

// isPiece checks the first entry of a vocabulary: text, then perhaps a score
// and a type.
func isPiece(b []byte) bool {
	length, n := binary.Uvarint(b[1:])
	if n <= 0 || length > uint64(len(b)-1-n) {
		return false
	}
	b = b[1+n:][:length]
	if len(b) < 2 || b[0] != 0x0a || int(b[1]) > len(b)-2 {
		return false
	}
	end := 2 + int(b[1])
	if !isText(b[2:end], false) {
		return false
	}
	rest := b[end:]
	return len(rest) == 0 || rest[0] == 0x15 || rest[0] == 0x18
}

// window reads a file forward in pieces, with jumps.
type window struct {
	r    io.ReaderAt
	size int64
	pos  int64
	at   int64 // of buf
	buf  []byte
	err  error
}

func (w *window) byte() (byte, bool) {
	if i := w.pos - w.at; i < 0 || i >= int64(len(w.buf)) {
		if w.pos >= w.size || w.err != nil {
			return 0, false
		}
		w.buf = append(w.buf[:0], make([]byte, min(w.size-w.pos, sampleLen))...)
		n, err := w.r.ReadAt(w.buf, w.pos)
		if n < len(w.buf) && err != nil && !errors.Is(err, io.EOF) {
			w.err = err
		}
		w.buf, w.at = w.buf[:n], w.pos
		if n == 0 {
			return 0, false
		}
	}
	c := w.buf[w.pos-w.at]
	w.pos++
	return c, true
}

func (w *window) varint() (uint64, bool) {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		c, ok := w.byte()
		if !ok {
			return 0, false
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, true
		}
	}
	return 0, false
}
