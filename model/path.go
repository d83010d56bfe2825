package model

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// ErrPath is in every error of CheckPath and CheckPaths.
var ErrPath = errors.New("path not allowed in a model")

// maxPath is the longest path in bytes, maxName the longest part of one: what
// the common file systems take.
const (
	maxPath = 1024
	maxName = 255
)

// CheckPath says whether a path may be a file of a model: relative, clean,
// slash-separated, valid UTF-8, no "..", no NUL or control characters, no
// backslash, no colon (a drive or a hidden stream on Windows), no name that
// Windows reserves or changes, at most 1024 bytes. The one check for every door
// through which a path comes in.
func CheckPath(p string) error {
	if why := pathFault(p); why != "" {
		return fmt.Errorf("%w: %q: %s", ErrPath, clip(p), why)
	}
	return nil
}

func pathFault(p string) string {
	switch {
	case p == "":
		return "it is empty"
	case len(p) > maxPath:
		return fmt.Sprintf("it has %d bytes, the most is %d", len(p), maxPath)
	case !utf8.ValidString(p):
		return "it is not UTF-8"
	case strings.ContainsFunc(p, unicode.IsControl):
		return "it has control characters"
	case strings.Contains(p, `\`):
		return "it has a backslash, which some systems take as a separator"
	case strings.Contains(p, ":"):
		return "it has a colon, which is a drive or a stream on Windows"
	case path.IsAbs(p):
		return "it is absolute"
	}
	for part := range strings.SplitSeq(p, "/") {
		if why := partFault(part); why != "" {
			return why
		}
	}
	return ""
}

func partFault(part string) string {
	switch {
	case part == "":
		return "it has an empty part"
	case part == "." || part == "..":
		return "it has the part " + part
	case len(part) > maxName:
		return fmt.Sprintf("a part has %d bytes, the most is %d", len(part), maxName)
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return "a part ends with a dot or a space, which Windows drops"
	case reserved(part):
		return "a part is a device name on Windows"
	}
	return ""
}

// reserved says whether Windows takes a name as a device, whatever follows the
// first dot. Source: "Naming Files, Paths, and Namespaces", Microsoft.
func reserved(part string) bool {
	stem, _, _ := strings.Cut(part, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	digit, ok := strings.CutPrefix(stem, "COM")
	if !ok {
		digit, ok = strings.CutPrefix(stem, "LPT")
	}
	if !ok {
		return false
	}
	r, n := utf8.DecodeRuneInString(digit)
	return n == len(digit) && (r >= '0' && r <= '9' || r == '¹' || r == '²' || r == '³')
}

// CheckNames says whether a system (a value of runtime.GOOS) can have files of
// these paths, which have passed CheckPaths. What it refuses is no danger
// elsewhere: Windows has no way to write these characters in a name, and would
// say so in the middle of the work. Source: "Naming Files, Paths, and
// Namespaces", Microsoft.
func CheckNames(goos string, paths []string) error {
	if goos != "windows" {
		return nil
	}
	for _, p := range paths {
		if i := strings.IndexAny(p, `<>"|?*`); i >= 0 {
			return fmt.Errorf("%w: %q: it has %q, which no name on Windows can have: pull it on another system", ErrPath, clip(p), p[i:i+1])
		}
	}
	return nil
}

// CheckPaths applies CheckPath to all of them, and refuses duplicates, names
// equal but for case or for the way their characters are composed (macOS), and
// a path that is another's directory: what one file system keeps apart,
// another one overwrites. So it is the same check on every system.
func CheckPaths(paths []string) error {
	seen := make(map[string]string, len(paths))
	for _, p := range paths {
		if err := CheckPath(p); err != nil {
			return err
		}
		if err := checkTwice(seen, p); err != nil {
			return err
		}
		seen[fold(p)] = p
	}
	for _, p := range paths {
		if err := checkBelow(seen, p); err != nil {
			return err
		}
	}
	return nil
}

// checkTwice says whether a path is one of those that were seen, to some system.
func checkTwice(seen map[string]string, p string) error {
	other, twice := seen[fold(p)]
	switch {
	case !twice:
		return nil
	case other == p:
		return fmt.Errorf("%w: %q is there twice", ErrPath, clip(p))
	case caseFold(other) == caseFold(p):
		return fmt.Errorf("%w: %q and %q differ in case only", ErrPath, clip(other), clip(p))
	}
	return fmt.Errorf("%w: %+q and %+q are one name to some systems: they differ in how characters are composed, or in invisible ones", ErrPath, clip(other), clip(p))
}

// checkBelow says whether a file that was seen is the directory of a path.
func checkBelow(seen map[string]string, p string) error {
	key := fold(p)
	for i, c := range key {
		if c != '/' {
			continue
		}
		if other, ok := seen[key[:i]]; ok {
			return fmt.Errorf("%w: %q is a file and the directory of %q", ErrPath, clip(other), clip(p))
		}
	}
	return nil
}

// fold maps all spellings that some file system takes for one name to one key:
// case (Windows, macOS), composed and decomposed characters (macOS; APFS and
// HFS+ compare so), and the invisible characters that HFS+ ignores. Source:
// "Apple File System Reference"; Unicode Standard Annex #15.
func fold(s string) string {
	if isASCII(s) {
		return caseFold(s)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
	// Folding case can leave what decomposes further, and the other way round.
	return norm.NFD.String(caseFold(norm.NFD.String(s)))
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// caseFold maps all spellings that differ in case only to one.
func caseFold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}

// clip keeps messages short where a path is absurdly long.
func clip(p string) string {
	const most = 200
	if len(p) <= most {
		return p
	}
	return p[:most] + "..."
}
