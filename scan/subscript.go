package scan

import (
	"regexp"
	"strings"
)

// Bounds on what is looked at of a template for its subscripts, far above what
// any has: what is over them is not plain.
const (
	maxSubscript  = 512       // bytes between the brackets
	maxSubscripts = 1 << 16   // of a template
	maxArguments  = 4 << 10   // bytes of a call's arguments
	maxCalls      = 4 << 10   // of a template's macros
	maxFlow       = 256 << 10 // bytes of a template
)

// subscript judges x[...] in a template: a renderer without a sandbox takes an
// attribute of Python's own by any text, also by one that the template puts
// together. Plain are a text, a number, a slice, and a value of the messages.
func (t *templateScan) subscript(at int) {
	if t.odd != "" {
		return
	}
	inner, ok := bracketed(t.s[at:min(len(t.s), at+maxSubscript)])
	if t.subscripts++; !ok || t.subscripts > maxSubscripts || len(t.s) > maxFlow || !t.flow().plain(inner) {
		t.note(&t.odd, "a part by a name made at run time")
	}
}

// bracketed gives what is between the bracket at the beginning and its other
// half, texts passed over.
func bracketed(s string) (string, bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[', '(', '{':
			depth++
		case ']', ')', '}':
			if depth--; depth == 0 {
				return s[1:i], true
			}
		case '\'', '"':
			k := strings.IndexByte(s[i+1:], s[i])
			if k < 0 {
				return "", false
			}
			i += 1 + k
		}
	}
	return "", false
}

// textFlow knows the names of a template, and which of them can hold a text that
// the template puts together.
type textFlow struct {
	bound, made map[string]bool
}

func (t *templateScan) flow() *textFlow {
	if t.texts == nil {
		t.texts = newTextFlow(t.s)
	}
	return t.texts
}

// binding gives names a value.
type binding struct {
	names []string
	value string
}

// What gives names a value: set and with, for, keywords and defaults,
// parameters, a block, and what is put into a list.
var (
	setBinding   = pattern(`\b(?:set|with)\s+([\w\s,.]{1,200}?)\s*=([^=][^%]*(?:%[^}][^%]*)*)%\}`)
	blockBinding = pattern(`\bset\s+(\w+)\s*(?:\|[^%=]{0,200})?[-+]?%\}`)
	forBinding   = pattern(`\bfor\s+([\w\s,()]{1,200}?)\s+in\b([^%]*(?:%[^}][^%]*)*)%\}`)
	keyBinding   = pattern(`\b(\w+)\s*=([^=][^,)%]*)`)
	paramBinding = pattern(`\bmacro\s+(\w+)\s*\(([^)]{0,1000})\)`)
	callBinding  = pattern(`\bcall\s*\(([^)]{0,400})\)`)
	listBinding  = pattern(`([\w.]+)\s*\.\s*(?:append|insert|extend|update|setdefault)\s*\(`)
	macroCall    = pattern(`(\w+)\s*\(`)
)

// arguments gives, for each call that a pattern finds, its first group and what
// it is called with; what is too long counts as put together.
func arguments(re *regexp.Regexp, s string, use func(name, args string)) {
	for n, m := range re.FindAllStringSubmatchIndex(s, -1) {
		args, ok := "", false
		if n < maxCalls {
			args, ok = bracketed(s[m[1]-1 : min(len(s), m[1]+maxArguments)])
		}
		if !ok {
			args = "~"
		}
		use(s[m[2]:m[3]], args)
	}
}

func newTextFlow(s string) *textFlow {
	f := &textFlow{bound: map[string]bool{}, made: map[string]bool{}}
	var all []binding
	add := func(names, value string) {
		b := binding{splitNames(names), value}
		for _, n := range b.names {
			f.bound[n] = true
		}
		all = append(all, b)
	}
	arguments(listBinding(), s, add)
	for _, re := range []*regexp.Regexp{setBinding(), forBinding(), keyBinding()} {
		for _, m := range re.FindAllStringSubmatch(s, -1) {
			add(m[1], m[2])
		}
	}
	for _, m := range blockBinding().FindAllStringSubmatch(s, -1) {
		add(m[1], "~")
	}
	for _, m := range callBinding().FindAllStringSubmatch(s, -1) {
		add(m[1], "~")
	}
	f.macros(s, add)
	f.spread(all)
	return f
}

// macros binds the parameters of macros to what they are called with.
func (f *textFlow) macros(s string, add func(names, value string)) {
	params := map[string]string{}
	for _, m := range paramBinding().FindAllStringSubmatch(s, -1) {
		params[m[1]] += "," + keyBinding().ReplaceAllString(m[2], "$1")
		add(m[2], "")
	}
	if len(params) == 0 {
		return
	}
	arguments(macroCall(), s, func(name, args string) {
		if names, ok := params[name]; ok {
			add(names, args)
		}
	})
}

// maxSpread bounds the rounds in which made texts go from name to name.
const maxSpread = 8

// spread marks the names that get a made text, directly or by other names.
func (f *textFlow) spread(all []binding) {
	for range maxSpread {
		n := len(f.made)
		for _, b := range all {
			if f.makes(b.value) {
				for _, name := range b.names {
					f.made[name] = true
				}
			}
		}
		if len(f.made) == n {
			return
		}
	}
}

// splitNames gives the names of a list; of a path the last.
func splitNames(s string) []string {
	var out []string
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(", \t\r\n()=", r) }) {
		out = append(out, part[strings.LastIndexByte(part, '.')+1:])
	}
	return out
}

// makes says whether an expression can put a text together, or has one that is.
func (f *textFlow) makes(expr string) bool {
	plain := quotedText().ReplaceAllString(expr, "''")
	if strings.ContainsAny(plain, "~") || strings.ContainsAny(plain, "+*%") && !isIndexing(plain) {
		return true
	}
	for _, m := range filterOrCall().FindAllStringSubmatch(plain, -1) {
		switch {
		case m[1] == "|" && !isPlainFilter(m[2]):
			return true
		case m[1] == "." && m[3] == "(" && !isPlainMethod(m[2]):
			return true
		case m[1] == "" && m[3] == "(" && !isPlainCall(m[2]):
			return true
		case m[1] != "|" && m[3] == "" && f.made[m[2]]:
			return true
		case m[1] == "" && m[3] == "" && strings.HasSuffix(m[2], "token") && !f.bound[m[2]]:
			return true // the model's own tokens
		}
	}
	return false
}

var (
	quotedText   = pattern(`'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"`)
	filterOrCall = pattern(`([|.]?)\s*\b([A-Za-z_]\w*)\b\s*(\(?)`)
)

// isIndexing says whether a sum is one of numbers.
func isIndexing(s string) bool {
	return !strings.Contains(s, "''") && (strings.ContainsAny(s, "0123456789") || strings.Contains(s, "length") || strings.Contains(s, "index"))
}

// Filters, methods and functions that make no new text out of pieces.
var (
	isPlainFilter = words(`length count int float abs round trim lower upper list sort unique items dictsort selectattr rejectattr select
reject default d tojson map`)
	isPlainMethod = words(`items keys values get index find rfind count startswith endswith strip lstrip rstrip lower upper split rsplit
splitlines append insert extend update pop`)
	isPlainCall = words(`namespace dict range loop if elif else in is and or not`)
)

// plain says whether a subscript is one of ordinary templates.
func (f *textFlow) plain(inner string) bool {
	inner = strings.TrimSpace(inner)
	if isSlice(inner) || quotedText().FindString(inner) == inner && inner != "" {
		return true
	}
	if f.makes(inner) {
		return false
	}
	plain := quotedText().ReplaceAllString(inner, "''")
	for _, m := range filterOrCall().FindAllStringSubmatch(plain, -1) {
		if name := m[2]; m[1] == "" && !f.bound[name] && !isPlainCall(name) && !isTemplateData(name) {
			return false
		}
	}
	return inner != ""
}

// isTemplateData knows what a renderer is given by whoever asks it.
var isTemplateData = words(`messages message tools tool documents document loop conversation item content true false none True False None
defined mapping string iterable sequence number`)

// isSlice says whether a colon stands between the brackets themselves.
func isSlice(s string) bool {
	depth := 0
	for _, c := range quotedText().ReplaceAllString(s, "") {
		switch c {
		case '[', '(', '{':
			depth++
		case ']', ')', '}':
			depth--
		case ':':
			if depth == 0 {
				return true
			}
		}
	}
	return false
}
