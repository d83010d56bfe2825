package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// What a terminal obeys or hides is escaped in JSON, and means the same.
func TestPrintJSONEscapes(t *testing.T) {
	t.Parallel()
	const hostile = "a\x1b[31m\u009b31m\x7f\u202e\u200b\ufeff\U000e0041##[error]é中"
	var b bytes.Buffer
	if err := printJSON(&b, hostile); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(b.String(), func(r rune) bool { return isControl(r) || isInvisible(r) }) {
		t.Errorf("printed %q", b.String())
	}
	var got string
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got != hostile {
		t.Errorf("read back %q, %v", got, err)
	}
	if !strings.Contains(b.String(), "é中") {
		t.Errorf("escaped too much: %s", b.String())
	}
}

// A byte that is of no character is not printed as it is.
func TestPrintableBytes(t *testing.T) {
	t.Parallel()
	if got, want := printable("bad\xff\xc3.pkl \ufffd"), `bad\xff\xc3.pkl `+"\ufffd"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
