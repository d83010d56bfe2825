package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// Text up to wholeText is read whole; of longer text the head, the tail and
// samples between them.
const (
	wholeText   = 1 << 20
	textSamples = 8
	sampleLen   = 4096
)

// textKind tells JSON, notebooks and other text; "" for what is no text.
func (s *sniffer) textKind() (Format, error) {
	if !isText(s.head, s.size > int64(len(s.head))) {
		return "", nil
	}
	if s.size <= wholeText {
		b, err := s.bytesAt(0, wholeText)
		if err != nil || !isText(b, false) {
			return "", err
		}
		return jsonKind(b), nil
	}
	tail, err := s.samples()
	if err != nil || tail == nil {
		return "", err
	}
	return longJSONKind(s.head, tail), nil
}

// samples looks at some places of a long text and gives its tail, nil if one
// of them is no text.
func (s *sniffer) samples() ([]byte, error) {
	var last []byte
	for i := 1; i <= textSamples; i++ {
		b, err := s.bytesAt((s.size-sampleLen)/textSamples*int64(i), sampleLen)
		if i == textSamples {
			b, err = s.bytesAt(s.size-sampleLen, sampleLen)
		}
		if err != nil {
			return nil, err
		}
		for len(b) > 0 && !utf8.RuneStart(b[0]) && len(b) > sampleLen-utf8.UTFMax {
			b = b[1:]
		}
		if !isText(b, i < textSamples) {
			return nil, nil
		}
		last = b
	}
	return last, nil
}

// isText says whether bytes are UTF-8 without control characters but white
// space. cut allows a character that is cut off at the end.
func isText(b []byte, cut bool) bool {
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f', c == 0x7f:
			return false
		case c < utf8.RuneSelf:
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n < 2 {
			return cut && !utf8.FullRune(b[i:])
		}
		i += n
	}
	return true
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// jsonKind tells a complete text.
func jsonKind(b []byte) Format {
	b = bytes.TrimPrefix(b, byteOrderMark)
	if !startsJSON(b) || !json.Valid(b) {
		return Text
	}
	var top struct {
		Cells    []json.RawMessage `json:"cells"`
		NBFormat json.RawMessage   `json:"nbformat"`
	}
	if err := json.Unmarshal(b, &top); err == nil && top.Cells != nil && top.NBFormat != nil {
		return Notebook
	}
	return JSON
}

// longJSONKind tells a long text by its ends: the beginning must be the
// beginning of JSON, the end a closing bracket.
func longJSONKind(head, tail []byte) Format {
	head = bytes.TrimPrefix(head, byteOrderMark)
	end := bytes.TrimRight(tail, " \t\r\n")
	if !startsJSON(head) || len(end) == 0 || end[len(end)-1] != '}' && end[len(end)-1] != ']' {
		return Text
	}
	d := json.NewDecoder(bytes.NewReader(head))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return Text
		}
	}
	const mark = `"nbformat"`
	if bytes.Contains(head, []byte(`"cells"`)) && (bytes.Contains(tail, []byte(mark)) || bytes.Contains(head, []byte(mark))) {
		return Notebook
	}
	return JSON
}

// startsJSON wants an object or an array: other values are plain text.
func startsJSON(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && (b[0] == '{' || b[0] == '[')
}
