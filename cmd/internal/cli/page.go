package cli

import (
	"fmt"
	"io"
	"runtime"
	"strings"
)

// page is where text for people goes: a terminal with so many columns, or a file
// or pipe, where nothing is shortened.
type page struct {
	io.Writer
	columns int // of the terminal; 0 where there is none
	colour  bool
}

// style is what a text means; its colour follows from that. The codes are those
// of ECMA-48 (SGR), and the colours those that the terminal's owner has chosen.
type style string

const (
	plainText style = ""
	strong    style = "1"
	faint     style = "2"
	good      style = "32"
	doubtful  style = "33"
	bad       style = "31"
	accent    style = "36"
)

// paint gives a text its colour, where there are colours.
func (p *page) paint(st style, text string) string {
	if !p.colour || st == plainText || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

// paragraph writes a text under an indentation, in lines that fit the terminal.
func (p *page) paragraph(indent, text string) {
	room := 0
	if p.columns > 0 {
		room = max(p.columns-textWidth(indent), 20)
	}
	for _, l := range wrapped(text, room) {
		fmt.Fprintf(p, "%s%s\n", indent, l)
	}
}

// page is standard output for people.
func (s *streams) page() *page {
	p := &page{Writer: s.out, colour: s.coloured(s.outTTY)}
	if s.outTTY {
		p.columns = s.columns(s.outSize)
	}
	return p
}

// errPage is standard error for people.
func (s *streams) errPage() *page {
	p := &page{Writer: s.err, colour: s.coloured(s.errTTY)}
	if s.errTTY {
		p.columns = s.columns(s.errSize)
	}
	return p
}

// termSize asks for the columns and rows of a terminal; 0 for what is unknown.
type termSize func() (columns, rows int)

func (s *streams) columns(size termSize) int {
	if size != nil {
		if columns, _ := size(); columns > 0 {
			return columns
		}
	}
	return 80
}

// coloured says whether what goes to a terminal, or to none, has colours.
// --color comes first, then NO_COLOR (no-color.org), then CLICOLOR_FORCE and
// CLICOLOR (bixense.com/clicolors); a terminal without abilities has none.
func (s *streams) coloured(tty bool) bool {
	switch {
	case s.color == "always":
		return true
	case s.color == "never", s.getenv("NO_COLOR") != "":
		return false
	}
	if force := s.getenv("CLICOLOR_FORCE"); force != "" && force != "0" {
		return true
	}
	return tty && s.capable() && s.getenv("CLICOLOR") != "0"
}

// capable says whether the terminal understands more than text.
func (s *streams) capable() bool {
	name := s.getenv("TERM")
	return name != "dumb" && (name != "" || runtime.GOOS == "windows")
}

// verdictStyle is the style of a verdict, a severity, a result or an action.
func verdictStyle(word string) style {
	switch strings.ToLower(word) {
	case "safe", "passed", "allowed", "checked", "keep", "verified":
		return good
	case "unsafe", "critical", "high", "error", "failed", "denied", "refuse", "refused":
		return bad
	case "review", "unknown", "medium", "warning", "convertible", "convert":
		return doubtful
	case "info", "low", "none", "not checked", "-":
		return faint
	}
	return plainText
}
