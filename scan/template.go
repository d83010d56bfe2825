package scan

import (
	"strconv"
	"strings"
	"unicode"
)

// checkTemplate judges a chat template (Jinja). Templates are programs: most
// programs render them in a sandbox that hides names with underscores, some do
// not. Whatever needs such names, builds names at run time, or reads other
// templates is a finding. at is the offset of the template in the file, or
// negative.
func checkTemplate(r *report, template string, at int64, what string) {
	t := &templateScan{s: strings.Map(blanks, template)}
	t.run()
	if t.unsafe != "" {
		r.add("WS-TEMPLATE-001", at, "%s: %s", what, t.unsafe)
	}
	if t.odd != "" {
		r.add("WS-TEMPLATE-002", at, "%s: %s", what, t.odd)
	}
}

// blanks makes one blank of what Python takes for one.
func blanks(r rune) rune {
	if r != '\n' && unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f {
		return ' '
	}
	return r
}

// templateScan goes through the tokens inside {{ }} and {% %}.
type templateScan struct {
	s           string
	unsafe, odd string // the first of each
	prev        string // the token before
	literals    strings.Builder
	bound       map[string]bool // names that the template defines
	macros      map[string]bool
	noRaw       bool   // no raw block ends in what is left
	at          int    // behind the name that is looked at
	open        []byte // brackets
	parts       int    // signs and names since the last comma or bracket
	texts       *textFlow
	subscripts  int
}

func (t *templateScan) run() {
	for i := 0; i < len(t.s); {
		k := strings.IndexByte(t.s[i:], '{')
		if k < 0 || i+k+1 >= len(t.s) {
			break
		}
		i += k
		switch t.s[i+1] {
		case '#':
			end := strings.Index(t.s[i+2:], "#}")
			if end < 0 {
				return
			}
			i += end + 4
		case '{', '%':
			if n := t.rawBlock(i); n > 0 {
				// Only a renderer that knows raw blocks leaves them alone.
				t.note(&t.odd, "a block that is not rendered")
				i += n
				continue
			}
			i = t.code(i+2, t.s[i+1])
		default:
			i++
		}
	}
	// Pieces of a name that are put together at run time.
	if t.unsafe == "" && hasDunder(t.literals.String()) {
		t.unsafe = "a name with double underscores is put together from pieces"
	}
}

// rawBlock is the length of the raw block that begins at i; 0 without.
func (t *templateScan) rawBlock(i int) int {
	if t.noRaw {
		return 0
	}
	body := strings.TrimLeft(strings.TrimLeft(t.s[i+2:], "-+"), " \t\r\n\v\f")
	body, ok := strings.CutPrefix(body, "raw")
	if !ok {
		return 0
	}
	body, ok = strings.CutPrefix(strings.TrimPrefix(strings.TrimLeft(body, " \t\r\n\v\f"), "-"), "%}")
	if !ok {
		return 0
	}
	if end := rawEnd().FindStringIndex(body); end != nil {
		return len(t.s) - i - len(body) + end[1]
	}
	t.noRaw = true
	return 0
}

var rawEnd = pattern(`\{%[-+]?\s*endraw\s*[-+]?%\}`)

// binds says whether the template gives a meaning of its own to one of the
// names that ordinary templates call: by set, with, for, a parameter, a keyword
// of namespace, or a key.
func (t *templateScan) binds(w string) bool {
	if t.bound == nil {
		t.bound = map[string]bool{}
		t.bind(t.s)
		if plain := unescape(t.s); plain != t.s {
			t.bind(plain)
		}
	}
	return t.bound[w]
}

var dictOfKeywords = pattern(`^\s{0,100}\(\s{0,100}(?:\)|[A-Za-z_]\w{0,100}\s{0,100}=)`)

func (t *templateScan) bind(s string) {
	for _, m := range boundNames().FindAllStringSubmatch(s, -1) {
		for _, list := range m[1:] {
			for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r >= 0x80 || !isNameByte(byte(r)) }) {
				t.bound[name] = true
			}
		}
	}
}

var boundNames = pattern(`([A-Za-z_]\w*)\s*=[^=]|\bfor\s+([^%{}]{1,200}?)\s+in\b|\b(?:macro\s+\w+|call)\s*\(([^)]{0,400})\)|` +
	`['"]([A-Za-z_]\w*)['"]\s*:|\bset\s+([\w\s,.]{1,200}?)\s*=`)

// code goes through one block and gives the index behind it.
func (t *templateScan) code(i int, open byte) int {
	closing := "%}"
	if open == '{' {
		closing = "}}"
	}
	t.prev, t.open, t.parts = "", t.open[:0], 0
	first := true
	for i < len(t.s) {
		c := t.s[i]
		switch {
		case strings.HasPrefix(t.s[i:], closing):
			return i + 2
		case c == '\'' || c == '"':
			i = t.literal(i)
			t.prev = "''"
		case isNameByte(c):
			k := i
			for k < len(t.s) && isNameByte(t.s[k]) {
				k++
			}
			word := t.s[i:k]
			t.at = k
			t.word(word, nextByte(t.s, k), open == '%' && first)
			first, t.prev, i = false, word, k
			t.parts++
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '-' && t.prev == "":
			i++
		default:
			if c == '[' && isValueEnd(t.prev) {
				t.subscript(i)
			}
			t.sign(c)
			i++
		}
	}
	return i
}

// isValueEnd says whether a value ends with the token, so that a bracket behind
// it takes a part of the value.
func isValueEnd(prev string) bool {
	switch prev {
	case "":
		return false
	case "''", "]", ")", "}":
		return true
	}
	return isNameByte(prev[0]) && !isTemplateKeyword(prev)
}

// isTemplateKeyword knows the words of the language, which nothing can redefine.
var isTemplateKeyword = words(`if elif else in is not and or for set with filter recursive print do return`)

// sign takes a character that is no name and no text. What is called or cut
// without a name cannot be told before the template runs.
func (t *templateScan) sign(c byte) {
	t.brackets(c)
	switch {
	case c == '(' && (t.prev == "]" || t.prev == ")"):
		t.note(&t.odd, "a call of something that has no name")
	case c == '[' && t.prev == "''":
		t.note(&t.odd, "a part of a text")
	case c != '=' && t.prev == "attribute=" || c == '(' && t.prev == "attribute=":
		t.note(&t.odd, "an attribute by a name made at run time")
	}
	if c == '=' && t.prev == "attribute" {
		t.prev = "attribute="
		return
	}
	t.prev = string(c)
}

// brackets keeps track of the brackets that are open, and of the keys of
// dictionaries: any but a single text is made at run time.
func (t *templateScan) brackets(c byte) {
	switch c {
	case '(', '[', '{':
		t.open, t.parts = append(t.open, c), 0
		return
	case ')', ']', '}':
		if len(t.open) > 0 {
			t.open = t.open[:len(t.open)-1]
		}
	case ',':
		t.parts = 0
		return
	case ':':
		if len(t.open) > 0 && t.open[len(t.open)-1] == '{' && (t.parts != 0 || t.prev != "''") {
			t.note(&t.odd, "a key that is made at run time")
		}
	}
	t.parts++
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// nextByte is the first byte from i on that is no white space.
func nextByte(s string, i int) byte {
	for ; i < len(s); i++ {
		switch s[i] {
		case ' ', '\t', '\n', '\r':
		default:
			return s[i]
		}
	}
	return 0
}

// word judges a name in the code; statement says that it begins a {% %} block.
func (t *templateScan) word(w string, next byte, statement bool) {
	switch {
	case t.prev == "attribute=":
		t.note(&t.odd, "an attribute by a name made at run time")
	case strings.HasPrefix(w, "__") && len(w) > 2 || t.prev == "." && strings.HasPrefix(w, "_"):
		t.note(&t.unsafe, "the name "+clip(w))
	case statement && (w == "import" || w == "include" || w == "extends" || w == "from"):
		t.note(&t.odd, "the statement "+w)
	case t.prev == "|" && w == "attr":
		t.note(&t.odd, "the filter attr, which reaches attributes by a name made at run time")
	case w == "dict" && next == '(' && t.prev != ".":
		if !dictOfKeywords().MatchString(t.s[t.at:]) {
			t.note(&t.odd, "a dictionary with keys that are made at run time")
		}
	case isTemplateGlobal(w) && t.prev != ".":
		t.note(&t.odd, "the name "+w)
	case next == '(' && t.prev != "|" && !statement && !isTemplateCall(w) && t.prev != "macro" && t.prev != "call":
		if t.prev == "." || !t.isMacro(w) {
			t.note(&t.odd, "the call "+clip(w)+"()")
		}
	case next == '(' && t.prev != "|" && !statement && t.prev != "macro" && t.prev != "call" && !isTemplateKeyword(w) && t.binds(w):
		t.note(&t.odd, "the call "+clip(w)+"(), which the template defines itself")
	}
}

// isMacro says whether the template itself defines the function.
func (t *templateScan) isMacro(w string) bool {
	if t.macros == nil {
		t.macros = map[string]bool{}
		for _, m := range macroNames().FindAllStringSubmatch(t.s, -1) {
			t.macros[m[1]] = true
		}
	}
	return t.macros[w]
}

var macroNames = pattern(`\bmacro\s+(\w+)\s*\(`)

// literal takes a text in the code and gives the index behind it.
func (t *templateScan) literal(i int) int {
	quote := t.s[i]
	k := i + 1
	for k < len(t.s) && t.s[k] != quote {
		if t.s[k] == '\\' {
			k++
		}
		k++
	}
	k = min(k, len(t.s))
	text := unescape(t.s[min(i+1, k):k])
	if what := oddPiece(text, t.prev, nextByte(t.s, k+1)); what != "" {
		t.note(&t.odd, what)
	}
	if hasDunder(text) {
		t.note(&t.unsafe, "the text "+strconv.Quote(clip(text))+" names an attribute of Python's own")
	}
	if t.literals.Len() < 1<<16 {
		t.literals.WriteString(text)
	}
	return k + 1
}

// oddPiece says what is odd about a text in the code: pieces that names with
// underscores can be made of, and the name of the filter that reaches
// attributes. prev is the token before it, next the character behind.
func oddPiece(s, prev string, next byte) string {
	shown := strconv.Quote(clip(s))
	switch {
	case s == "attr" && (prev == "(" || prev == ","):
		return "the filter attr, by its name"
	case strings.HasPrefix(s, "__") || strings.HasSuffix(s, "__"):
		return "the text " + shown + ", a part of a name with double underscores"
	case strings.Trim(s, "_") == "" && s != "" && (next == '*' || next == '~' || next == '+' || next == '%'),
		strings.Trim(s, "_") == "" && s != "" && (prev == "~" || prev == "+" || prev == "*"):
		return "the text " + shown + ", put together with others"
	case strings.Contains(s, "%c"), strings.Contains(s, "{:c}"):
		return "a text that makes characters of numbers"
	case next == '|' && strings.Contains(s, "_") && strings.Count(s, "_") >= 4 && isNameLike(s):
		return "the text " + shown + " is changed into another"
	}
	return ""
}

// isNameLike says whether a text is letters, digits and underscores.
func isNameLike(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return true
}

func (t *templateScan) note(where *string, what string) {
	if *where == "" {
		*where = what
	}
}

// unescape resolves the escapes with which a name can be hidden.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	s = strings.ReplaceAll(s, `\/`, "/") // in YAML
	var b strings.Builder
	for len(s) > 0 {
		r, multi, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		if multi || r >= 0x80 {
			b.WriteRune(r)
		} else {
			b.WriteByte(byte(r))
		}
		s = rest
	}
	return b.String()
}

// hasDunder says whether a text has the name of an attribute with which one
// object of Python reaches all others.
func hasDunder(s string) bool {
	for {
		_, rest, ok := strings.Cut(s, "__")
		if !ok {
			return false
		}
		name, _, closed := strings.Cut(rest, "__")
		if closed && isReachingAttribute(strings.ToLower(name)) {
			return true
		}
		s = rest
	}
}

var isReachingAttribute = words(`class mro base bases subclasses globals builtins init import getattribute getattr setattr
dict code func self reduce reduce_ex module loader spec call new closure defaults wrapped kwdefaults annotations getitem
init_subclass subclasshook file name qualname doc weakref enter exit build_class`)

// isTemplateGlobal knows objects of the renderers from which Python's
// internals can be reached.
var isTemplateGlobal = words(`lipsum cycler joiner self caller_globals request config application url_for get_flashed_messages
environ os sys subprocess builtins eval exec open getattr setattr globals locals vars importlib`)

// isTemplateCall knows the functions and methods that ordinary chat templates
// call.
var isTemplateCall = words(`raise_exception strftime_now range namespace dict loop super caller cycle
startswith endswith strip lstrip rstrip split rsplit splitlines upper lower title capitalize replace join find rfind index count
removeprefix removesuffix items keys values get append extend pop update insert copy isdigit isalpha isalnum isspace isupper islower
format zfill ljust rjust center tojson int string list length map select selectattr rejectattr trim default first last
if elif in is not and or else set with filter`)
