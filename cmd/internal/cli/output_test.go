package cli

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"5GB": 5e9, "500MiB": 500 << 20, "1.5 GiB": 3 << 29, "10kb": 10_000, "7": 7, "7B": 7, "2TiB": 2 << 40, "0.5KB": 500,
		"": 0, "GB": 0, "0": 0, "-1GB": 0, "5XB": 0, "1e3": 0, "inf": 0, "0x10": 0, "9999999999TB": 0, "1.2.3": 0, "0.1B": 0,
	} {
		got, err := parseSize(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}

// TestPrintableCommands: what comes from a model can neither draw on a terminal, hide,
// nor give commands to the CI system that shows the log.
func TestPrintableCommands(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain: text":                 "plain: text",
		"a::b":                        "a::b",
		"::error::x":                  `\::error::x`,
		"  ::stop-commands::x":        `  \::stop-commands::x`,
		"a\n::set-env name=x::y":      "a\n" + `\::set-env name=x::y`,
		"x ##vso[task.complete]":      `x #\#vso[task.complete]`,
		"##[error]x":                  `#\#[error]x`,
		"##teamcity[message]":         `#\#teamcity[message]`,
		"## heading [1]":              "## heading [1]",
		"\x1b[31mred":                 `\x1b[31mred`,
		"\u009b31m":                   `\x9b31m`,
		"a\u2028b\u2029":              `a\u{2028}b\u{2029}`,
		"soft\u00adhyphen":            `soft\u{ad}hyphen`,
		"rtl\u202egpj":                `rtl\u{202e}gpj`,
		"tag\U000e0041":               `tag\u{e0041}`,
		"filler\u3164":                `filler\u{3164}`,
		"żółć 模型 😀":                   "żółć 模型 😀",
		"\x1b]0;title\a":              `\x1b]0;title\x07`,
		"\u200b::warning::zero width": `\u{200b}::warning::zero width`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// TestJSONCommands: JSON that a log shows gives no commands either, and is read
// as what was written.
func TestJSONCommands(t *testing.T) {
	t.Parallel()
	in := map[string]string{"##vso[task.complete]": "##[error]"}
	var b bytes.Buffer
	if err := printJSON(&b, in); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "##") {
		t.Errorf("a command: %s", b.String())
	}
	var out map[string]string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || !maps.Equal(in, out) {
		t.Errorf("%v, %v", out, err)
	}
}

// TestMarkdownCells: what comes from a model stays in its code span and cell.
func TestMarkdownCells(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a|b":            "`a\\|b`",
		`a\|<img src=x>`: "`a\\ \\|<img src=x>`",
		"tick`s``":       "``` tick`s`` ```",
		"":               "`  `",
		"two\nlines":     "`two lines`",
	} {
		if got := markdownCode(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
