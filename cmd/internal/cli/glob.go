package cli

import (
	"path"
	"regexp"
	"strings"
)

// globs is a list of file patterns. A pattern without a slash is matched
// against the base name in any folder, as .gitignore has it; one that names a
// folder takes everything in it.
type globs []*regexp.Regexp

func compileGlobs(flag string, patterns []string) (globs, error) {
	var out globs
	for _, p := range patterns {
		if _, err := path.Match(strings.ReplaceAll(p, "**", "*"), ""); err != nil || p == "" {
			return nil, usage("", "--%s %q: not a glob", flag, p)
		}
		re, err := regexp.Compile(globExpression(strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/")))
		if err != nil {
			return nil, usage("", "--%s %q: not a glob", flag, p)
		}
		out = append(out, re)
	}
	return out, nil
}

func globExpression(p string) string {
	var b strings.Builder
	b.WriteString("^")
	if !strings.Contains(p, "/") {
		b.WriteString("(.*/)?")
	}
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
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString("(/.*)?$")
	return b.String()
}

func (g globs) match(p string) bool {
	for _, re := range g {
		if re.MatchString(p) {
			return true
		}
	}
	return false
}
