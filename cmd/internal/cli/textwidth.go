package cli

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// ellipsis stands where a text was cut; it takes one column.
const ellipsis = "…"

// textWidth is how many columns of a terminal a text takes: two for wide East
// Asian characters and most emoji (Unicode Standard Annex 11), none for
// combining marks. The text holds no control characters (see oneLine).
func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300: // Latin: most texts never get further
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me), r >= 0x1160 && r <= 0x11ff: // and Hangul vowels that join
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// padded fills a text with blanks to n columns, on the right, or on the left
// for numbers.
func padded(s string, n int, left bool) string {
	blanks := strings.Repeat(" ", max(n-textWidth(s), 0))
	if left {
		return blanks + s
	}
	return s + blanks
}

// cutEnd shortens a text to n columns at its end: for sentences.
func cutEnd(s string, n int) string {
	if textWidth(s) <= n {
		return s
	}
	return firstColumns(s, n-1) + fitting(n)
}

// cutMiddle shortens a text to n columns in its middle, so that most of its end
// stays: for paths, whose last part says most, and for digests.
func cutMiddle(s string, n int) string {
	if textWidth(s) <= n {
		return s
	}
	head := max(n-1, 0) / 3
	start := firstColumns(s, head)
	return start + fitting(n) + lastColumns(s, n-1-textWidth(start))
}

// fitting is the ellipsis where there is room for one.
func fitting(n int) string {
	if n < 1 {
		return ""
	}
	return ellipsis
}

// firstColumns is the longest beginning that takes at most n columns.
func firstColumns(s string, n int) string {
	for i, r := range s {
		if n -= runeWidth(r); n < 0 {
			return s[:i]
		}
	}
	return s
}

// lastColumns is the longest end that takes at most n columns, and does not
// begin with a mark that belongs to the character before.
func lastColumns(s string, n int) string {
	runes := []rune(s)
	start := len(runes)
	for i := len(runes) - 1; i >= 0; i-- {
		w := runeWidth(runes[i])
		if n -= w; n < 0 {
			break
		}
		if w > 0 {
			start = i
		}
	}
	return string(runes[start:])
}

// wrapped breaks a text at blanks into lines of at most n columns. A word that
// is longer gets a line of its own and is not broken: it may be pasted. n < 1
// is one line.
func wrapped(s string, n int) []string {
	if n < 1 {
		return []string{s}
	}
	var lines []string
	line, used := "", 0
	for word := range strings.SplitSeq(s, " ") {
		w := textWidth(word)
		if used > 0 && used+1+w > n {
			lines, line, used = append(lines, line), "", 0
		}
		if used > 0 {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+w
	}
	return append(lines, line)
}
