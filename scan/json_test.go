package scan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func lex(b []byte) error {
	n := &noEvents{}
	l := &jsonLexer{c: newCursor(bytes.NewReader(b), 0, int64(len(b))), out: n}
	err := l.run(false)
	if err == nil && n.depth != 0 {
		panic("containers are left open")
	}
	return err
}

func TestJSONLexer(t *testing.T) {
	t.Parallel()
	for _, s := range []string{`{}`, `[]`, `[1,2]`, `{"a":[{"b":null}],"c":-1.5e+3}`, `"\ud83d\ude00"`, ` [ ] `, `[[],[]]`, "0", `{"":""}`, "\ufeff{}", `[NaN]`} {
		if err := lex([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{``, `{`, `[1,]`, `{"a"}`, `{"a":}`, `{,}`, `[1 2]`, `"\x"`, `01`, `1.`, `[]]`, `{"a":1,}`, "\"\n\"", `nul`, `{a:1}`, "[\x00]", strings.Repeat("[", 1000)} {
		if lex([]byte(s)) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// The lexer takes what encoding/json takes, but for depth and the names that
// Python writes.
func FuzzJSON(f *testing.F) {
	for _, b := range seeds(f, ".json") {
		f.Add(b)
	}
	f.Add([]byte(`[NaN, -Infinity, "\ud800x", 1e5]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := lex(b)
		if json.Valid(b) != (err == nil) && !lenient(b) {
			t.Fatalf("valid %v, lexer says %v", json.Valid(b), err)
		}
		r := &report{}
		scanJSON(r, "config.json", blobOf(b))
	})
}

// lenient says whether a text has what the two readers are meant to take
// differently.
func lenient(b []byte) bool {
	s := string(b)
	return strings.Contains(s, "NaN") || strings.Contains(s, "Infinity") || strings.HasPrefix(s, "\xef\xbb\xbf") ||
		strings.Count(s, "[")+strings.Count(s, "{") >= maxJSONDepth || !strings.ContainsFunc(s, func(r rune) bool { return r != 0xfffd }) ||
		bytes.ContainsRune(b, 0xfffd) || strings.ToValidUTF8(s, "") != s || len(b) > 4096
}
