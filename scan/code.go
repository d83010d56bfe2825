package scan

import (
	"context"
	"path"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// executableDetector judges machine code and scripts.
type executableDetector struct{}

func (executableDetector) Name() string { return "executable" }

func (executableDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.ELF, model.PE, model.MachO:
		return true
	}
	return false
}

func (executableDetector) Scan(_ context.Context, f model.File, _ model.Blob) (Verdict, []Finding, error) {
	r := &report{}
	r.add("WS-CODE-001", 0, "the content is %s machine code", f.Format)
	return r.result()
}

// pythonDetector judges Python sources, scripts and notebooks. Any of them is
// a program; what it plainly does with processes or the network makes it worse.
type pythonDetector struct{}

func (pythonDetector) Name() string { return "python" }

func (pythonDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.Python, model.Script, model.Notebook:
		return true
	case model.Text:
		return ext(f.Path) == ".py" || ext(f.Path) == ".pyw" || isSourceExt(ext(f.Path))
	}
	return false
}

// isSourceExt knows the endings of programs in other languages, which nothing
// but the name tells from text.
var isSourceExt = words(`.sh .bash .zsh .bat .cmd .ps1 .psm1 .vbs .js .mjs .cjs .ts .lua .rb .pl .php .r .jl .c .cc .cpp .cu .cuh .h .hpp
.java .go .rs .cmake .mk .service .desktop .reg .pyx .pxd .pyi`)

// maxSource bounds the source that is looked through.
const maxSource = 16 << 20

func (pythonDetector) Scan(_ context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{}
	start := head(b, b.Size(), 256)
	first, _, _ := strings.Cut(string(start), "\n")
	switch {
	case f.Format == model.Notebook:
		r.add("WS-CODE-005", 0, "a notebook")
		return r.result()
	case f.Format == model.Text && isSourceExt(ext(f.Path)):
		r.add("WS-CODE-004", 0, "a program, going by its name")
		return r.result()
	case f.Format == model.Script && !strings.Contains(first, "python"):
		r.add("WS-CODE-004", 0, "a script for %s", clip(strings.TrimPrefix(first, "#!")))
		return r.result()
	}
	r.add("WS-CODE-002", 0, "Python source: %s", clip(path.Base(f.Path)))
	if b.Size() > maxSource {
		r.add("WS-LIMIT-001", -1, "a source of more than %d bytes", maxSource)
		return r.result()
	}
	scanPython(r, peekText(b, b.Size(), maxSource))
	return r.result()
}

// scanPython looks for names that reach processes, code or the network, outside
// comments and texts. It is no proof of anything: source is for review.
func scanPython(r *report, src string) {
	t := &pyTokens{s: src}
	for t.next() {
		if t.prev == "." || t.prev == "def" || t.prev == "class" {
			continue
		}
		name := t.tok
		if isReachingModule(t.tok) && t.following(".") {
			name = t.tok + "." + t.after()
		}
		if isReachingCall(name) && t.called() || isReachingModule(t.tok) && (t.prev == "import" || t.prev == "from") && t.tok != "os" {
			r.add("WS-CODE-003", int64(t.start), "%s", name)
		}
	}
}

// isReachingModule knows modules whose import alone says what a source is up
// to, and os, of which only some functions do.
var isReachingModule = words(`os subprocess pty socket ctypes cffi marshal runpy telnetlib ftplib smtplib paramiko posix nt winreg`)

var isReachingCall = words(`eval exec execfile compile __import__ os.system os.popen os.execv os.execve os.execl os.execlp os.execvp
os.spawnl os.spawnv os.spawnvp os.posix_spawn os.fork os.kill os.startfile os.remove os.unlink os.rmdir subprocess.run subprocess.Popen
subprocess.call subprocess.check_output subprocess.check_call subprocess.getoutput pty.spawn socket.socket
socket.create_connection ctypes.CDLL marshal.loads runpy.run_path runpy.run_module`)

// pyTokens gives the names of a Python source.
type pyTokens struct {
	s         string
	i         int
	tok, prev string
	start     int
}

func (t *pyTokens) next() bool {
	t.prev = t.tok
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
			t.skipText(c)
			t.prev = ""
		case isNameByte(c):
			t.start = t.i
			for t.i < len(t.s) && isNameByte(t.s[t.i]) {
				t.i++
			}
			t.tok = t.s[t.start:t.i]
			return true
		default:
			if c == '.' || c > ' ' {
				t.prev = string(c)
			}
			t.i++
		}
	}
	return false
}

// skipText passes over a string literal.
func (t *pyTokens) skipText(quote byte) {
	triple := strings.Repeat(string(quote), 3)
	if strings.HasPrefix(t.s[t.i:], triple) {
		n := strings.Index(t.s[t.i+3:], triple)
		if n < 0 {
			t.i = len(t.s)
			return
		}
		t.i += n + 6
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
}

// following says whether the text goes on with a separator.
func (t *pyTokens) following(sep string) bool {
	return strings.HasPrefix(t.s[min(t.i, len(t.s)):], sep)
}

// after is the name that follows a dot.
func (t *pyTokens) after() string {
	k := min(t.i+1, len(t.s))
	e := k
	for e < len(t.s) && isNameByte(t.s[e]) {
		e++
	}
	return t.s[k:e]
}

// called says whether the name, with its attribute, is called.
func (t *pyTokens) called() bool {
	k := t.i
	if t.following(".") {
		k += 1 + len(t.after())
	}
	return nextByte(t.s, k) == '('
}
