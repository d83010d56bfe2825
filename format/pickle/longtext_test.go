package pickle_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
)

func binunicode(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s + "."
}

// TestLongText: text that stays in the stream has the characters that the same
// text has in memory.
func TestLongText(t *testing.T) {
	t.Parallel()
	var all []rune
	for r := range rune(0x100) {
		all = append(all, r)
	}
	long := strings.Repeat(string(all), 1000)
	escaped := strings.NewReplacer("\\", `\u005c`, "\n", `\u000a`).Replace(long)
	raw := make([]byte, 0, len(escaped)) // as picklers write protocol 0
	for _, r := range escaped {
		raw = append(raw, byte(r))
	}
	for name, in := range map[string]string{
		"BINUNICODE":     binunicode(long),
		"UNICODE":        "V" + string(raw) + "\n.",
		"wide escape":    "V" + strings.Repeat(`\U000000e9`, 20000) + "\n.",
		"no escape":      "V" + strings.Repeat(`\x\`, 40000) + "\n.",
		"above Latin-1":  binunicode(strings.Repeat("a", 70000) + "\u0100"),
		"escaped beyond": "V" + strings.Repeat(`\u20ac`, 20000) + "\n.",
	} {
		kept, err := load(in)
		if err != nil {
			t.Fatal(name, err)
		}
		want := []rune(kept.Root.(pickle.String).S)
		s, err := pickle.Load(strings.NewReader(in), 0, int64(len(in)), pickle.Limits{Text: 100})
		if err != nil {
			t.Fatal(name, err)
		}
		got, ok := s.Root.(*pickle.LongText)
		if !ok || got.Runes != int64(len(want)) || s.End != int64(len(in)) {
			t.Fatalf("%s: %+v, %d characters", name, s.Root, len(want))
		}
		b, err := io.ReadAll(got.Bytes(strings.NewReader(in)))
		latin1 := make([]byte, 0, len(want))
		for _, r := range want {
			latin1 = append(latin1, byte(r))
		}
		if beyond := strings.Contains(name, "yond") || strings.Contains(name, "above"); got.Latin1 == beyond || (err != nil) != beyond {
			t.Errorf("%s: Latin-1 %v, %v", name, got.Latin1, err)
		} else if !beyond && !bytes.Equal(b, latin1) {
			t.Errorf("%s: %d other bytes", name, len(b))
		}
	}
}

func TestLongTextRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300)
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"longer than the file": {"X\xff\xff\xff\x7f" + long + ".", pickle.ErrLength},
		"not UTF-8":            {binunicode(long + "\xff"), pickle.ErrSyntax},
		"no newline":           {"V" + strings.Repeat("a", 1<<17), pickle.ErrTruncated},
		"half an escape":       {"V" + long + strings.Repeat("a", 1<<17) + "\\u00\n.", pickle.ErrSyntax},
		"bad escape":           {"V" + strings.Repeat("a", 1<<17) + "\\uzzzz\n.", pickle.ErrSyntax},
		"as a global":          {"\x80\x04" + binunicode(long)[:305] + "\x8c\x01x\x93.", pickle.ErrType},
	} {
		if _, err := pickle.Load(strings.NewReader(c.in), 0, int64(len(c.in)), pickle.Limits{Text: 100}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestNumbers: further numbers of a long list are counted, anything else is
// kept.
func TestNumbers(t *testing.T) {
	t.Parallel()
	in := "\x80\x04]" + strings.Repeat("(K\x01G\x00\x00\x00\x00\x00\x00\x00\x00\x88N]\x8c\x01xe", 10) + "K\x05a."
	s, err := pickle.Load(strings.NewReader(in), 0, int64(len(in)), pickle.Limits{Numbers: 12})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Root.(*pickle.List)
	if l.More != 3*8+1 || len(l.Items) != 2*6+8*3 {
		t.Errorf("%d kept, %d counted", len(l.Items), l.More)
	}
	for _, v := range l.Items[12:] {
		switch v.(type) {
		case pickle.None, *pickle.List, pickle.String:
		default:
			t.Errorf("%T is kept", v)
		}
	}
}
