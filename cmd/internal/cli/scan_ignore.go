package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ignoreName is the file in the root of a scanned folder that says which files
// do not count.
const ignoreName = ".weightsealignore"

// maxIgnore bounds the ignore file, in bytes.
const maxIgnore = 1 << 20

// maxIgnoreRules bounds its patterns: each becomes an expression that takes
// kilobytes, and the file may come from anybody.
const maxIgnoreRules = 2000

// ignoreMark says what ignores a file.
type ignoreMark struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Pattern string `json:"pattern"`
}

// ignoreRule is one line of the ignore file.
type ignoreRule struct {
	ignoreMark
	expression *regexp.Regexp
	negated    bool
}

// readIgnore reads the ignore file of a folder; none is no rules. A link is not
// followed, and a pipe not waited for: the folder may come from anybody.
func readIgnore(dir string) ([]ignoreRule, error) {
	name := filepath.Join(dir, ignoreName)
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, usage("--no-ignore scans without it", "%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIgnore+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxIgnore {
		return nil, usage("a glob takes many files: logs/** for all in a folder", "%s: more than %s", ignoreName, bytesText(maxIgnore))
	}
	return parseIgnore(b)
}

// parseIgnore reads patterns as gitignore(5) has them: comments, ! to take a
// file in again, a slash at the end for folders, one elsewhere for the root.
// The last line that matches decides.
func parseIgnore(b []byte) ([]ignoreRule, error) {
	var rules []ignoreRule
	for i, line := range strings.Split(string(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))), "\n") {
		text := trimBlanks(strings.TrimSuffix(line, "\r"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if len(rules) == maxIgnoreRules {
			return nil, usage("name folders instead of files, or scan with --no-ignore and --exclude", "%s: more than %d patterns", ignoreName, maxIgnoreRules)
		}
		r := ignoreRule{ignoreMark: ignoreMark{File: ignoreName, Line: i + 1, Pattern: text}}
		pattern, negated := strings.CutPrefix(text, "!")
		r.negated = negated
		var ok bool
		if r.expression, ok = compileGlob(pattern, ignoreExpression); !ok {
			return nil, usage("such as *.log or docs/**, one a line", "%s:%d: %q is not a glob", ignoreName, i+1, text)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// trimBlanks removes blanks at the end, but not one behind a backslash.
func trimBlanks(s string) string {
	short := strings.TrimRight(s, " \t")
	if strings.HasSuffix(short, `\`) && len(short) < len(s) {
		return s[:len(short)+1]
	}
	return short
}

func ignoreExpression(p string) string {
	core, folder := strings.CutSuffix(p, "/")
	start, end := "^(.*/)?", "(/.*)?$"
	if strings.Contains(core, "/") {
		start, core = "^", strings.TrimPrefix(core, "/")
	}
	if folder {
		end = "/.*$"
	}
	return start + globBody(core) + end
}

// ignored gives the line that ignores a file, or nil.
func ignored(rules []ignoreRule, path string) *ignoreMark {
	for i := len(rules) - 1; i >= 0; i-- {
		if !rules[i].expression.MatchString(path) {
			continue
		}
		if rules[i].negated {
			return nil
		}
		mark := rules[i].ignoreMark
		return &mark
	}
	return nil
}

func (m *ignoreMark) String() string {
	return fmt.Sprintf("%s line %d: %s", m.File, m.Line, m.Pattern)
}
