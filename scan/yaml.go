package scan

import (
	"strings"

	"github.com/weightseal/weightseal/model"
)

// maxYAML bounds the YAML that is looked through.
const maxYAML = 16 << 20

// checkYAML judges YAML by its lines: tags that make a full loader construct
// objects, and the keys that make programs import what they name.
func checkYAML(r *report, b model.Blob) {
	if b.Size() > maxYAML {
		r.add("WS-LIMIT-001", -1, "a YAML text of more than %d bytes", maxYAML)
	}
	off := int64(0)
	for s := range yamlLines(string(peek(b, b.Size(), 0, maxYAML))) {
		checkYAMLLine(r, off, strings.TrimPrefix(s, "\ufeff"))
		off += int64(len(s))
	}
}

// yamlLines gives the lines of a text, each with its end. YAML 1.1 also ends
// lines at NEL and at the line and paragraph separators.
func yamlLines(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for s != "" {
			n := len(s)
			if i := strings.IndexAny(s, "\n\r\u0085\u2028\u2029"); i >= 0 {
				n = i + 1
				for n < len(s) && s[n]&0xc0 == 0x80 {
					n++
				}
			}
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}

func checkYAMLLine(r *report, off int64, s string) {
	code := yamlCode(s)
	switch tag := yamlTag(code); {
	case strings.HasPrefix(s, "%TAG"):
		r.add("WS-CONFIG-002", off, "a directive that renames tags: %s", clip(strings.TrimSpace(s)))
	case strings.Contains(code, "python/") && strings.Contains(code, "!"), strings.Contains(code, "tag:yaml.org,2002:py"):
		r.add("WS-CONFIG-002", off, "a tag that makes Python objects: %s", clip(strings.TrimSpace(code)))
	case strings.Contains(tag, "%"):
		r.add("WS-CONFIG-002", off, "a tag that hides its name: %s", clip(tag))
	case tag != "" && !isYAMLTag(tag):
		r.add("WS-CONFIG-001", off, "the tag %s makes an object", clip(tag))
	}
	checkYAMLKeys(r, off, code)
	if strings.Contains(code, `\`) && strings.Contains(code, `"`) {
		if plain := unescape(code); plain != code {
			checkYAMLKeys(r, off, plain)
		}
	}
}

// yamlCode is a line without its comment: from a # at the beginning or behind
// white space, unless a quote comes before it. What may be text stays.
func yamlCode(s string) string {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\'':
			return s
		case c == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t'):
			return s[:i]
		}
	}
	return s
}

// yamlTag gives the tag of a line's value: a word with an exclamation mark in
// front, at the beginning or after an indicator or anchor.
func yamlTag(line string) string {
	for i, c := range []byte(line) {
		if c != '!' {
			continue
		}
		before := strings.TrimRight(line[:i], " \t")
		if k := strings.LastIndexAny(before, " \t[{,"); strings.HasPrefix(before[k+1:], "&") {
			before = strings.TrimRight(before[:k+1], " \t")
		}
		if before == "" || i > 0 && strings.IndexByte(" \t[{,", line[i-1]) >= 0 && strings.IndexByte(":-?[{,", before[len(before)-1]) >= 0 {
			tag := strings.Fields(line[i:])[0]
			if len(tag) > 1 && tag[1] != '=' {
				return tag
			}
		}
	}
	return ""
}

// isYAMLTag knows the tags of the core schema.
var isYAMLTag = words(`!!str !!int !!float !!bool !!null !!map !!seq !!set !!omap !!pairs !!binary !!timestamp !!merge !!value`)

// checkYAMLKeys looks for keys of loaders anywhere in a line: maps can stand
// in one.
func checkYAMLKeys(r *report, off int64, line string) {
	for i := 0; i < len(line); {
		if !isNameByte(line[i]) {
			i++
			continue
		}
		k := i
		for k < len(line) && (isNameByte(line[k]) || line[k] == '/') {
			k++
		}
		key, rest := line[i:k], strings.TrimLeft(line[k:], "\"' \t")
		i = k
		value, isKey := strings.CutPrefix(rest, ":")
		if !isKey || !isLoaderKey(key) {
			continue
		}
		checkYAMLKey(r, off, key, strings.TrimSpace(value))
	}
}

func checkYAMLKey(r *report, off int64, key, value string) {
	switch {
	case key == "trust_remote_code" && !truthy(strings.Trim(value, `"' },`)):
	case key == "python_function" || key == "auto_map" || value != "":
		r.add("WS-CONFIG-001", off, "%s: %s", key, clip(value))
	}
}

// truthy says whether Python takes a scalar of JSON or YAML for true.
func truthy(s string) bool {
	switch strings.ToLower(s) {
	case "", "false", "null", "none", "no", "off", "~", "0", "0.0", "-0":
		return false
	}
	return true
}
