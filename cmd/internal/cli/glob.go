package cli

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// globs is a list of file patterns. A pattern without a slash is matched
// against the base name in any folder, as .gitignore has it; one that names a
// folder takes everything in it.
type globs []*regexp.Regexp

func compileGlobs(flag string, patterns []string) (globs, error) {
	var out globs
	for _, p := range patterns {
		re, ok := compileGlob(strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/"), globExpression)
		if !ok {
			return nil, usage("such as --"+flag+" '*.bin'", "--%s %q: not a glob", flag, p)
		}
		out = append(out, re)
	}
	return out, nil
}

// compileGlob makes a pattern's expression; false where it is no glob.
func compileGlob(p string, expression func(string) string) (*regexp.Regexp, bool) {
	if _, err := path.Match(strings.ReplaceAll(p, "**", "*"), ""); err != nil || p == "" {
		return nil, false
	}
	re, err := regexp.Compile(expression(p))
	return re, err == nil
}

func globExpression(p string) string {
	if strings.Contains(p, "/") {
		return "^" + globBody(p) + "(/.*)?$"
	}
	return "^(.*/)?" + globBody(p) + "(/.*)?$"
}

// globBody is the expression for the pattern itself.
func globBody(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '*':
			if strings.HasPrefix(p[i:], "**/") {
				b.WriteString("(.*/)?")
				i += 2
			} else if strings.HasPrefix(p[i:], "**") {
				b.WriteString(".*")
				i++
			} else {
				b.WriteString("[^/]*")
			}
		case '?':
			b.WriteString("[^/]")
		case '[':
			end := strings.IndexByte(p[i:], ']')
			class := p[i : i+end+1] // path.Match has checked that it ends
			b.WriteString(strings.Replace(class, "[!", "[^", 1))
			i += end
		case '\\':
			i++
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1])) // bytes: characters may have several
		}
	}
	return b.String()
}

func (g globs) match(p string) bool { return g.which(p) >= 0 }

// which is the index of the first pattern that matches, or -1.
func (g globs) which(p string) int {
	return slices.IndexFunc(g, func(re *regexp.Regexp) bool { return re.MatchString(p) })
}
