package scan

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
)

// safetensorsDetector judges safetensors files by the strict reader. It reads
// the header and no tensor.
type safetensorsDetector struct{}

func (safetensorsDetector) Name() string { return "safetensors" }

// Wants also takes what is only named so: a broken header is a matter of this
// detector.
func (safetensorsDetector) Wants(f model.File) bool {
	return f.Format == model.Safetensors || f.Declared == model.Safetensors && (f.Format == model.Unknown || f.Format == model.Empty)
}

func (safetensorsDetector) Scan(_ context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	if n, most := headerLength(b), memoryOf(b)/5; n > most && n <= safetensors.MaxHeaderLength {
		r.add("WS-LIMIT-001", 0, "a header of %d bytes, at most %d are read", n, most)
		return r.result()
	}
	h, err := safetensors.ReadHeader(b, b.Size())
	var se *safetensors.Error
	switch {
	case errors.As(err, &se):
		rule := brokenRule(b, se)
		r.add(rule, se.Offset, "%v", err)
		return r.result()
	case err != nil:
		return Unknown, nil, err
	}
	for _, fd := range h.Findings {
		rule := "WS-SAFETENSORS-004"
		switch {
		case fd.Refuse:
			rule = "WS-SAFETENSORS-001"
		case fd.Rule != "unaligned":
			rule = "WS-SAFETENSORS-003"
		}
		r.add(rule, fd.Offset, "%s: %s", fd.Rule, fd.Detail)
	}
	return r.result()
}

// headerLength is the length of the header as the first bytes have it, 0 where
// it does not fit the file. What is made of a header takes seven times as much.
func headerLength(b model.Blob) int64 {
	first := peek(b, b.Size(), 0, 8)
	if len(first) < 8 || le64(first) > uint64(max(0, b.Size()-8)) {
		return 0
	}
	return int64(le64(first))
}

// brokenRule tells bytes that hide, readings that differ and sizes that only a
// careless reader would believe from a file that is cut short, and from metadata
// that other readers take as it is.
func brokenRule(b model.Blob, se *safetensors.Error) string {
	switch se.Kind {
	case safetensors.InvalidOffset, safetensors.HeaderTooLarge, safetensors.TensorInvalidInfo, safetensors.ValidationOverflow:
		return "WS-SAFETENSORS-001"
	case safetensors.MetadataIncompleteBuffer:
		if h := looseHeader(b); h == nil || !h.unique || h.length+8 > b.Size() || h.dataEnd < b.Size()-8-h.length {
			return "WS-SAFETENSORS-001"
		}
	case safetensors.InvalidHeaderDeserialization:
		if h := looseHeader(b); h != nil && h.validWithoutMetadata(b) {
			return "WS-SAFETENSORS-003"
		}
		if readTwoWays(b) {
			return "WS-SAFETENSORS-001"
		}
	}
	return "WS-SAFETENSORS-002"
}

// readTwoWays says whether the header has a key twice, or something behind its
// value: parsers of JSON keep the first, keep the last, stop or refuse.
func readTwoWays(b model.Blob) bool {
	first := peek(b, b.Size(), 0, 8)
	if len(first) < 8 || le64(first) > maxLoose || int64(le64(first)) > b.Size()-8 {
		return false
	}
	keys := &keyCheck{}
	l := &jsonLexer{c: newCursor(b, 8, 8+int64(le64(first))), out: keys}
	err := l.run(false)
	return keys.twice || err != nil && keys.closed
}

// keyCheck looks for keys that are there twice.
type keyCheck struct {
	open          []map[string]bool
	twice, closed bool
}

func (k *keyCheck) begin(byte, int64)    { k.open = append(k.open, map[string]bool{}) }
func (k *keyCheck) text(string, int64)   {}
func (k *keyCheck) scalar(string, int64) {}

func (k *keyCheck) end() {
	k.open = k.open[:len(k.open)-1]
	k.closed = len(k.open) == 0
}

func (k *keyCheck) key(name string, _ int64) {
	seen := k.open[len(k.open)-1]
	k.twice = k.twice || seen[name]
	seen[name] = true
}

// loose is a header as a lenient JSON reader sees it.
type loose struct {
	length  int64 // of the JSON in the file
	dataEnd int64 // the largest end of a tensor
	unique  bool
	// rest is the JSON without the metadata; nil where there is none, or
	// where the JSON is read differently by others.
	rest []byte
}

// maxLoose bounds the headers that are looked at a second time.
const maxLoose = 4 << 20

func looseHeader(b model.Blob) *loose {
	first := peek(b, b.Size(), 0, 8)
	if len(first) < 8 || le64(first) > maxLoose || int64(le64(first)) > b.Size()-8 {
		return nil
	}
	h := &loose{length: int64(le64(first))}
	dec := json.NewDecoder(bytes.NewReader(peek(b, b.Size(), 8, int(h.length))))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	seen := map[string]bool{}
	out := []byte{'{'}
	unique, metadata := true, false
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil
		}
		unique = unique && !seen[name]
		seen[name] = true
		if name == "__metadata__" {
			metadata = true
			continue
		}
		var info struct {
			Offsets []uint64 `json:"data_offsets"`
		}
		if json.Unmarshal(raw, &info) == nil && len(info.Offsets) == 2 {
			h.dataEnd = max(h.dataEnd, int64(min(info.Offsets[1], 1<<62)))
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		key, _ := json.Marshal(name)
		out = append(append(append(out, key...), ':'), raw...)
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') {
		return nil
	}
	h.unique = unique
	if _, err := dec.Token(); err == io.EOF && unique && metadata && !bytes.ContainsRune(out, utf8.RuneError) {
		out = append(out, '}')
		h.rest = out
	}
	return h
}

// validWithoutMetadata says whether the metadata alone is what the reference
// reader refuses.
func (h *loose) validWithoutMetadata(b model.Blob) bool {
	if h.rest == nil {
		return false
	}
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(h.rest)))
	raw = append(raw, h.rest...)
	// No tensor byte is read: only the size of the file matters.
	got, err := safetensors.ReadHeader(bytes.NewReader(raw), int64(len(raw))+b.Size()-8-h.length)
	return err == nil && got.Strict() == nil
}
