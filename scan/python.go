package scan

import (
	"strings"
	"unicode/utf8"
)

// scanPython looks for names that reach processes, code or the network, outside
// comments and texts: called, imported from their module, under another name.
// It is no proof of anything: source is for review.
func scanPython(r *report, src string) { scanPythonPart(r, src, 0, 0) }

func scanPythonPart(r *report, src string, at int64, depth int) {
	p := &pyWalk{r: r, t: pyTokens{s: src}, at: at, depth: depth, alias: map[string]string{}}
	if m := pyCoding().FindStringSubmatch(firstLines(src)); depth == 0 && m != nil && !isPlainCoding(strings.ToLower(m[1])) {
		r.add("WS-CODE-003", 0, "the source says that its encoding is %s: Python reads something else than what is written", clip(m[1]))
	}
	p.run()
}

// pyCoding is a declaration of an encoding (PEP 263), in the first two lines.
var pyCoding = pattern(`(?m)^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)`)

var isPlainCoding = words(`utf-8 utf8 utf_8 utf-8-sig ascii us-ascii latin-1 latin1 iso-8859-1 iso-8859-15 cp1252`)

func firstLines(s string) string {
	n := 0
	for i := range len(s) {
		if s[i] == '\n' {
			if n++; n == 2 {
				return s[:i]
			}
		}
	}
	return s
}

// pyWalk goes through the names of a source.
type pyWalk struct {
	r     *report
	t     pyTokens
	at    int64 // of the source in the file
	depth int
	alias map[string]string // what a name stands for
}

// maxAliases bounds the names that are remembered.
const maxAliases = 1 << 16

func (p *pyWalk) run() {
	for p.t.next() {
		if text := p.t.code; text != "" {
			if p.depth < 4 {
				scanPythonPart(p.r, text, p.at+int64(p.t.start), p.depth+1)
			}
			continue
		}
		switch {
		case p.t.tok == "", !isNameByte(p.t.tok[0]), p.t.prev == ".", p.t.prev == "def", p.t.prev == "class":
		case p.t.tok == "import" && !p.t.after():
			p.imports()
		case p.t.tok == "from" && !p.t.after():
			p.importsFrom()
		default:
			p.name()
		}
	}
}

func (p *pyWalk) found(start int, what string) {
	p.r.add("WS-CODE-003", p.at+int64(start), "%s", clip(what))
}

// imports reads the modules of an import statement.
func (p *pyWalk) imports() {
	for p.t.word() {
		start, path := p.t.start, p.path()
		if isReachingModule(path) && path != "os" {
			p.found(start, path)
		}
		p.as(topOf(path), topOf(path), path)
		if !p.t.is(",") {
			return
		}
	}
}

// as takes the name behind "as", if there is one, for what was imported.
func (p *pyWalk) as(name, plain, whole string) {
	if len(p.alias) >= maxAliases {
		return
	}
	p.alias[name] = plain
	save := p.t
	if p.t.next() && p.t.tok == "as" && p.t.word() {
		p.alias[p.t.tok] = whole
		return
	}
	p.t = save
}

// importsFrom reads what a from statement imports.
func (p *pyWalk) importsFrom() {
	if !p.t.word() {
		return // a module beside this one
	}
	start, module := p.t.start, p.path()
	if isReachingModule(module) && module != "os" {
		p.found(start, module)
	}
	if !p.t.is("import") {
		return
	}
	p.t.is("(")
	for p.t.word() {
		whole := module + "." + p.t.tok
		if isReachingPath(whole) {
			p.found(p.t.start, whole)
		}
		p.as(p.t.tok, whole, whole)
		if !p.t.is(",") {
			return
		}
	}
}

// path reads the rest of a dotted name.
func (p *pyWalk) path() string {
	path := p.t.tok
	for len(path) < 256 {
		save := p.t
		if !p.t.next() || p.t.tok != "." || !p.t.word() {
			p.t = save
			break
		}
		path += "." + p.t.tok
	}
	return path
}

// name judges a name with its attributes.
func (p *pyWalk) name() {
	start := p.t.start
	path := p.path()
	if !isPlainIdentifier(path) {
		p.found(start, path+", in letters that Python reads as others")
		return
	}
	top, rest, nested := strings.Cut(path, ".")
	if whole, ok := p.alias[top]; ok && whole != top {
		if path = whole; nested {
			path += "." + rest
		}
	}
	next := nextByte(p.t.s, p.t.i)
	switch {
	case isReachingPath(path) && next == '(', path == "__builtins__", strings.HasPrefix(path, "__builtins__."), path == "__import__":
		p.found(start, path)
	case isReachingModule(path) && (next == ',' || next == ')') && p.alias[top] != "":
		p.found(start, path+" is handed on")
	}
}

// isPlainIdentifier says whether a name has no letters that Python takes for
// others (compatibility forms, PEP 3131).
func isPlainIdentifier(s string) bool {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == 0xaa, c == 0xba, c == 0x17f, c >= 0x2070 && c <= 0x209c, c >= 0x2100 && c <= 0x2188, c >= 0xfb00 && c <= 0xfb06,
			c >= 0xff10 && c <= 0xff5a, c >= 0x1d400 && c <= 0x1d7ff:
			return false
		}
		i += n
	}
	return true
}

// isReachingModule knows modules whose import alone says what a source is up
// to, and os, of which only some functions do.
var isReachingModule = words(`os subprocess pty socket ctypes cffi marshal runpy telnetlib ftplib smtplib paramiko posix nt winreg`)

// isReachingPath says whether a function runs code or commands, removes files
// or opens connections.
func isReachingPath(path string) bool {
	path = strings.TrimPrefix(path, "builtins.")
	if name, ok := strings.CutPrefix(path, "os."); ok && hasAnyPrefix(name, "exec", "spawn", "posix_spawn", "popen") {
		return true
	}
	return isReachingCall(path)
}

var isReachingCall = words(`eval exec execfile compile __import__ os.system os.fork os.kill os.startfile os.remove os.unlink os.rmdir
os.removedirs subprocess.run subprocess.Popen subprocess.call subprocess.check_output subprocess.check_call subprocess.getoutput
pty.spawn socket.socket socket.create_connection ctypes.CDLL marshal.loads runpy.run_path runpy.run_module shutil.rmtree
urllib.request.urlopen urllib.request.urlretrieve urllib.urlopen requests.get requests.post requests.put requests.request httpx.get
httpx.post http.client.HTTPConnection http.client.HTTPSConnection pickle.loads cPickle.loads dill.loads cloudpickle.loads
code.interact asyncio.create_subprocess_shell asyncio.create_subprocess_exec types.FunctionType types.CodeType`)

// pyTokens gives the names and signs of a Python source, and the expressions in
// its formatted texts.
type pyTokens struct {
	s         string
	i         int
	tok, prev string
	code      string // an expression of a formatted text; tok is empty then
	start     int
	pending   []int // bounds of expressions that come next
}

func (t *pyTokens) next() bool {
	if len(t.pending) > 1 {
		t.start, t.code, t.prev, t.tok = t.pending[0], t.s[t.pending[0]:t.pending[1]], "", ""
		t.pending = t.pending[2:]
		return true
	}
	t.code = ""
	if t.tok != "" {
		t.prev = t.tok
	}
	for t.i < len(t.s) {
		c := t.s[t.i]
		switch {
		case c == '#':
			n := strings.IndexByte(t.s[t.i:], '\n')
			if n < 0 {
				n = len(t.s) - t.i
			}
			t.i += n
		case c == '"' || c == '\'':
			formatted := strings.ContainsAny(t.prefix(), "fFtT")
			from := t.i
			t.skipText(c)
			if formatted {
				t.expressions(from, t.i)
			}
			t.tok, t.prev = "", ""
			if len(t.pending) > 0 {
				return t.next()
			}
		case isNameByte(c):
			t.start = t.i
			for t.i < len(t.s) && isNameByte(t.s[t.i]) {
				t.i++
			}
			t.tok = t.s[t.start:t.i]
			return true
		case c <= ' ' || c == '\\':
			t.i++
		default:
			t.start, t.tok = t.i, string(c)
			t.i++
			return true
		}
	}
	return false
}

// prefix is the word that stands right before a text, up to two letters.
func (t *pyTokens) prefix() string {
	k := t.i
	for k > 0 && t.i-k < 3 && isNameByte(t.s[k-1]) {
		k--
	}
	if t.i-k > 2 {
		return ""
	}
	return t.s[k:t.i]
}

// expressions notes the expressions in the braces of a formatted text.
func (t *pyTokens) expressions(from, to int) {
	for i := from; i < to; i++ {
		if t.s[i] != '{' {
			continue
		}
		if i+1 < to && t.s[i+1] == '{' {
			i++
			continue
		}
		depth, k := 0, i
		for ; k < to; k++ {
			if t.s[k] == '{' {
				depth++
			} else if t.s[k] == '}' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if i+1 < k {
			t.pending = append(t.pending, i+1, k)
		}
		i = k
	}
}

// skipText passes over a string literal.
func (t *pyTokens) skipText(quote byte) {
	triple := strings.Repeat(string(quote), 3)
	if strings.HasPrefix(t.s[t.i:], triple) {
		for k := t.i + 3; k < len(t.s); k++ {
			if t.s[k] == '\\' {
				k++
			} else if strings.HasPrefix(t.s[k:], triple) {
				t.i = k + 3
				return
			}
		}
		t.i = len(t.s)
		return
	}
	for t.i++; t.i < len(t.s); t.i++ {
		switch t.s[t.i] {
		case '\\':
			t.i++
		case quote, '\n':
			t.i++
			return
		}
	}
	t.i = min(t.i, len(t.s))
}

// word moves to the next token, and says whether it is a name.
func (t *pyTokens) word() bool { return t.next() && t.tok != "" && isNameByte(t.tok[0]) }

// is takes the next token if it is the one that is named.
func (t *pyTokens) is(tok string) bool {
	save := *t
	if t.next() && t.tok == tok {
		return true
	}
	*t = save
	return false
}

// after says whether the token is an attribute or an argument by name, not a
// word of the language.
func (t *pyTokens) after() bool { return t.prev == "." || nextByte(t.s, t.i) == '=' }
