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
	whole := peekText(b, b.Size(), maxYAML)
	y := &yamlScan{r: r}
	off := int64(0)
	for s := range yamlLines(whole) {
		y.line(off, strings.TrimPrefix(s, "\ufeff"))
		off += int64(len(s))
	}
	y.end()
	if folded := foldYAML(whole); folded != "" {
		for s := range yamlLines(folded) {
			y.keys(0, unescape(s))
		}
	}
	if y.template {
		checkTemplate(r, whole, 0, "template")
	}
}

// yamlFold is where a text in double quotes goes on in the next line.
var yamlFold = pattern(`\\\r?\n[ \t]*`)

// foldYAML puts such texts into one line; it is empty where there are none.
func foldYAML(s string) string {
	at := yamlFold().FindStringIndex(s)
	if at == nil {
		return ""
	}
	var folded strings.Builder
	folded.Grow(len(s))
	for ; at != nil; at = yamlFold().FindStringIndex(s) {
		folded.WriteString(s[:at[0]])
		s = s[at[1]:]
	}
	folded.WriteString(s)
	return folded.String()
}

// yamlScan goes through the lines of a YAML text.
type yamlScan struct {
	r *report
	// quoted says that a quotation mark was seen that may begin a text: it
	// can reach over lines, and what looks like a comment may be none.
	quoted bool
	// open is a key whose value is in the lines that follow.
	open     string
	openAt   int64
	template bool // there is a key for a template
}

// yamlLines gives the lines of a text, each with its end. YAML 1.1 also ends
// lines at NEL and at the line and paragraph separators.
func yamlLines(s string) func(func(string) bool) { return linesOf(s, "\n\r\u0085\u2028\u2029") }

func (y *yamlScan) line(off int64, s string) {
	code := s
	if !y.quoted {
		code = yamlCode(s)
	}
	switch tag := yamlTag(code); {
	case strings.HasPrefix(s, "%TAG"):
		y.r.add("WS-CONFIG-002", off, "a directive that renames tags: %s", clip(strings.TrimSpace(s)))
	case strings.Contains(code, "python/") && strings.Contains(code, "!"), strings.Contains(code, "tag:yaml.org,2002:py"):
		y.r.add("WS-CONFIG-002", off, "a tag that makes Python objects: %s", clip(strings.TrimSpace(code)))
	case strings.Contains(tag, "%"):
		y.r.add("WS-CONFIG-002", off, "a tag that hides its name: %s", clip(tag))
	case tag != "" && !isYAMLTag(tag):
		y.r.add("WS-CONFIG-001", off, "the tag %s makes an object", clip(tag))
	}
	if text := yamlValue(code); y.open != "" && text != "" {
		y.key(y.openAt, y.open, text)
		y.open = ""
	}
	y.keys(off, code)
	if strings.Contains(code, `\`) && strings.Contains(code, `"`) {
		if plain := unescape(code); plain != code {
			y.keys(off, plain)
		}
	}
	y.quoted = y.quoted || opensQuote(code)
}

func (y *yamlScan) end() {
	if y.open != "" {
		y.key(y.openAt, y.open, "")
	}
}

// opensQuote says whether a line has a quotation mark that is no apostrophe of
// a word.
func opensQuote(s string) bool {
	for i := range len(s) {
		if (s[i] == '"' || s[i] == '\'') && (i == 0 || !isNameByte(s[i-1])) {
			return true
		}
	}
	return false
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
		if before == "" || strings.HasSuffix(before, `":`) || strings.HasSuffix(before, `':`) || i > 0 && strings.IndexByte(" \t[{,", line[i-1]) >= 0 && strings.IndexByte(":-?[{,", before[len(before)-1]) >= 0 {
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

// maxYAMLValue is how much of a line is looked at around a key, in bytes.
const maxYAMLValue = 1 << 10

// keys looks for keys of loaders anywhere in a line: maps can stand in one. A
// name with an anchor or behind a question mark can be a key too.
func (y *yamlScan) keys(off int64, line string) {
	for i := 0; i < len(line); {
		if !isNameByte(line[i]) {
			i++
			continue
		}
		k := i
		for k < len(line) && (isNameByte(line[k]) || line[k] == '/') {
			k++
		}
		key, rest := line[i:k], strings.TrimLeft(line[k:min(k+maxYAMLValue, len(line))], "\"' \t")
		far := k+maxYAMLValue < len(line) && strings.Trim(rest, ": \t\"'") == "" && isYAMLKey(key)
		before := strings.TrimRight(line[max(0, i-maxYAMLValue):i], "\"' \t")
		i = k
		value, isKey := strings.CutPrefix(rest, ":")
		value = yamlValue(value)
		switch {
		case far:
			y.r.add("WS-CONFIG-001", off, "%s has its value far behind it", clip(key))
		case !isKey && isLoaderKey(key) && (before == "?" || strings.HasSuffix(before, " ?") || strings.Contains(before, "&")):
			y.r.add("WS-CONFIG-001", off, "%s is a key", clip(key))
		case !isKey:
		case isYAMLKey(key):
			if value == "" {
				y.open, y.openAt = key, off
				continue
			}
			y.key(off, key, value)
		case strings.HasSuffix(key, "template"):
			y.template = true
		}
	}
}

// isYAMLKey knows the keys that are judged.
func isYAMLKey(key string) bool {
	switch key {
	case "target", "class_path", "class_name", "vocabulary":
		return true
	}
	return isLoaderKey(key)
}

// yamlValue is a value without the anchors, the tags of the core schema and the
// signs of a block in front of it.
func yamlValue(s string) string {
	for s = strings.TrimSpace(s); s != ""; {
		word, rest, _ := strings.Cut(s, " ")
		switch {
		case word[0] == '&', word[0] == '!' && isYAMLTag(word), strings.Trim(word, "|>+-0123456789") == "" && (word[0] == '|' || word[0] == '>'):
			s = strings.TrimSpace(rest)
		default:
			return s
		}
	}
	return ""
}

// key judges a key by its value.
func (y *yamlScan) key(off int64, key, value string) {
	plain := strings.Trim(value, `"' },`)
	switch {
	case key == "trust_remote_code":
		if truthy(plain) {
			y.r.add("WS-CONFIG-001", off, "%s: %s", key, clip(value))
		}
	case key == "target", key == "class_path":
		// What an alias stands for is not looked up.
		if isDotted(plain) || strings.HasPrefix(plain, "*") {
			y.r.add("WS-CONFIG-001", off, "%s names %s, which instantiating the configuration calls", key, clip(plain))
		}
	case key == "class_name":
		if isCodeLayer(plain) {
			y.r.add("WS-KERAS-001", off, "%s runs code of the configuration", plain)
		}
	case key == "vocabulary":
		if outside(plain) && strings.ContainsAny(plain, "/\\") {
			y.r.add("WS-CONFIG-006", off, "%s is %q", key, clip(plain))
		}
	case key == "python_function", key == "auto_map", value != "":
		y.r.add("WS-CONFIG-001", off, "%s: %s", key, clip(value))
	}
}

// isDotted says whether a text is the path of something to import: with dots,
// perhaps with a colon before the name.
func isDotted(s string) bool {
	if len(s) > maxYAMLValue/2 { // it may be cut
		return !strings.ContainsAny(s, " \t\n")
	}
	parts := strings.Split(strings.Replace(s, ":", ".", 1), ".")
	for _, p := range parts {
		if p == "" || p[0] >= '0' && p[0] <= '9' || !isNameLike(p) {
			return false
		}
	}
	return len(parts) > 1
}

// truthy says whether Python takes a scalar of JSON or YAML for true.
func truthy(s string) bool {
	switch strings.ToLower(s) {
	case "", "false", "null", "none", "no", "off", "~", "0", "0.0", "-0":
		return false
	}
	return true
}
