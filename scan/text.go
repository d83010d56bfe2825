package scan

import (
	"bytes"
	"context"
	"errors"
	"html"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/model"
)

// textDetector judges text that no loader executes, and the kinds of text that
// one does: YAML with tags, XML with entities, templates, path configuration
// files. A pickle of protocol 0 is text too.
type textDetector struct{}

func (textDetector) Name() string { return "text" }

func (textDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.Text, model.Markdown, model.YAML, model.Empty:
		return true
	case model.JSON:
		return isTemplateExt(ext(f.Path))
	}
	return false
}

// isTemplateExt knows the endings of Jinja templates.
var isTemplateExt = words(`.jinja .jinja2 .j2`)

// maxText bounds the text that is looked through; what is longer is unknown.
const maxText = 64 << 20

func (textDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	if b.Size() == 0 {
		return r.result()
	}
	if b.Size() > maxText {
		r.add("WS-LIMIT-001", -1, "a text of more than %d bytes", maxText)
		return r.result()
	}
	if isPickle(b) {
		r.verdict = Convertible
		r.add("WS-NAME-001", 0, "the text is a pickle of protocol 0")
		if err := scanStreams(ctx, r, b, 0); err != nil {
			return r.verdict, r.findings, err
		}
		return r.result()
	}
	start := head(b, b.Size(), 64<<10)
	checkText(r, b)
	switch {
	case isPointer(start):
		r.add("WS-TEXT-003", 0, "the content was not downloaded")
		return r.result()
	case isRData(start):
		r.add("WS-RDS-001", 0, "an R serialisation as text")
		return r.result()
	case unpickledByName(f) && ext(f.Path) != ".pth":
		// A loader that goes by the name unpickles it, whatever it is.
		if err := scanStreams(ctx, r, b, leading(start)); err != nil {
			return r.verdict, r.findings, err
		}
	}
	scanTextKinds(r, f, b, start)
	return r.result()
}

// isPointer says whether a text stands for a file that Git LFS keeps elsewhere.
func isPointer(start []byte) bool {
	return bytes.HasPrefix(start, []byte("version https://git-lfs.github.com/spec/"))
}

// leading is the number of bytes at the beginning that a loader which looks
// for the first opcode passes over.
func leading(b []byte) int64 {
	return int64(len(b) - len(bytes.TrimLeft(b, "\x00\t\n\r ")))
}

func isPickleName(f model.Format) bool { return familyOf(f) == pickleFamily }

func scanTextKinds(r *report, f model.File, b model.Blob, start []byte) {
	switch e := ext(f.Path); {
	case e == ".pth":
		checkSiteFile(r, b)
	case isTemplateExt(e):
		if b.Size() > maxTemplate {
			r.add("WS-LIMIT-001", -1, "a template of more than %d bytes", maxTemplate)
		}
		checkTemplate(r, peekText(b, b.Size(), maxTemplate), 0, path.Base(f.Path))
	case isRequirements(path.Base(strings.ToLower(f.Path))):
		checkRequirements(r, b)
		if e == ".yaml" || e == ".yml" {
			checkYAML(r, b)
		}
	case bytes.HasPrefix(start, []byte("%PDF-")):
		r.add("WS-FORMAT-002", 0, "a PDF document, which is not judged")
	case isProgramName(strings.ToLower(path.Base(f.Path))):
		r.add("WS-CODE-004", 0, "a program, going by its name")
	case isGraphText(e):
		checkGraphText(r, b)
	case f.Format == model.YAML || e == ".yaml" || e == ".yml" || path.Base(f.Path) == "MLmodel":
		checkYAML(r, b)
	case f.Format != model.Markdown && begins(b, start, '<'):
		checkXML(r, b)
	}
}

// isProgramName knows files that a tool runs by their name.
var isProgramName = words(`makefile gnumakefile dockerfile containerfile jenkinsfile justfile rakefile cmakelists.txt vagrantfile
pyproject.toml setup.cfg pipfile procfile brewfile gemfile .bashrc .bash_profile .profile .zshrc .envrc .pythonrc .pdbrc .gdbinit`)

// isRequirements knows the files that name what to install.
func isRequirements(base string) bool {
	switch base {
	case "conda.yaml", "conda.yml", "environment.yaml", "environment.yml", "python_env.yaml":
		return true
	}
	e := path.Ext(base)
	return (strings.HasPrefix(base, "requirements") || strings.HasPrefix(base, "constraints")) && (e == ".txt" || e == ".in")
}

// isGraphText knows the endings of graphs and models written as text.
var isGraphText = words(`.pbtxt .pbtext .prototxt .textproto .textpb .onnxtxt .onnxtext`)

// checkGraphText judges a graph in the text form of protobuf, which TensorFlow,
// ONNX and Caffe read as they read the other one.
func checkGraphText(r *report, b model.Blob) {
	r.add("WS-TEXT-002", 0, "a model or its configuration as text")
	// A window at a time: such a file may hold weights as well.
	const window, overlap = 1 << 20, 512
	for at := int64(0); at < b.Size(); at += window - overlap {
		if off, op := reachingOp(string(peek(b, b.Size(), at, window))); op != "" {
			r.add("WS-TF-001", at+int64(off), "the operator %s", op)
			return
		}
	}
}

// reachingOp finds the first operator in the text of a graph that reaches
// files, processes or Python.
func reachingOp(s string) (int, string) {
	for at := 0; ; {
		i := strings.Index(s[at:], "op")
		if i < 0 {
			return 0, ""
		}
		at += i + 2
		rest := strings.TrimLeft(s[at:min(at+256, len(s))], " \t\r\n:\"'")
		end := 0
		for end < len(rest) && isNameByte(rest[end]) {
			end++
		}
		if isReachingOp(rest[:end]) {
			return at, rest[:end]
		}
	}
}

// begins says whether the first character that is no white space is c.
func begins(b model.Blob, start []byte, c byte) bool {
	start = bytes.TrimPrefix(start, []byte("\ufeff"))
	for at := int64(len(start)); ; {
		if t := bytes.TrimLeft(start, " \t\r\n"); len(t) > 0 {
			return t[0] == c
		}
		if start = peek(b, b.Size(), at, 64<<10); len(start) == 0 {
			return false
		}
		at += int64(len(start))
	}
}

// checkText looks at every byte: what is text at the beginning may hold
// something else further on.
func checkText(r *report, b model.Blob) {
	c := newCursor(b, 0, b.Size())
	c.windowLen = 64 << 10
	var rest []byte
	for c.left() > 0 {
		at := c.pos
		chunk, err := c.bytes(int(min(c.left(), 64<<10)))
		if err != nil {
			return
		}
		for i, v := range chunk {
			if v < 0x20 && v != '\n' && v != '\r' && v != '\t' && v != '\f' && v != 0x1b && v != '\v' && v != '\b' {
				r.add("WS-CONFIG-004", at+int64(i), "the byte %#02x inside a text", v)
				return
			}
		}
		buf := slices.Concat(rest, chunk)
		for len(buf) > 0 {
			_, n := utf8.DecodeRune(buf)
			if n == 1 && buf[0] >= 0x80 {
				if !utf8.FullRune(buf) && c.left() > 0 {
					break
				}
				r.add("WS-CONFIG-004", c.pos-int64(len(buf)), "the text is not UTF-8")
				return
			}
			buf = buf[n:]
		}
		rest = buf
	}
}

// checkSiteFile judges a .pth file of text (CPython Lib/site.py, addpackage):
// lines that begin with import are executed.
func checkSiteFile(r *report, b model.Blob) {
	off := int64(0)
	checkLines(r, b)
	for line := range pythonLines(string(peek(b, b.Size(), 0, maxLines))) {
		code := strings.TrimPrefix(line, "\ufeff")
		if strings.HasPrefix(code, "import ") || strings.HasPrefix(code, "import\t") {
			r.add("WS-TORCH-010", off, "the line %q is executed", clip(strings.TrimSpace(code)))
			return
		}
		off += int64(len(line))
	}
}

// pythonLines gives the lines of a text as Python's str.splitlines does, each
// with its end.
func pythonLines(s string) func(func(string) bool) {
	return linesOf(s, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
}

// linesOf gives the lines of a text, each with its end, which is one of the
// characters of ends.
func linesOf(s, ends string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for s != "" {
			n := len(s)
			if i := strings.IndexAny(s, ends); i >= 0 {
				_, k := utf8.DecodeRuneInString(s[i:])
				n = i + k
			}
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}

// maxLines bounds the files that are looked through line by line.
const maxLines = 8 << 20

func checkLines(r *report, b model.Blob) {
	if b.Size() > maxLines {
		r.add("WS-LIMIT-001", -1, "a text of more than %d bytes", maxLines)
	}
}

// maxTemplate bounds a template in a file of its own.
const maxTemplate = 8 << 20

// checkRequirements looks for packages that pip would take from elsewhere than
// its own index (pip/_internal/req/req_file.py: lines end as in Python, and go
// on behind a backslash).
func checkRequirements(r *report, b model.Blob) {
	off, begin, whole := int64(0), int64(0), ""
	checkLines(r, b)
	for line := range pythonLines(string(peek(b, b.Size(), 0, maxLines))) {
		if whole == "" {
			begin = off
		}
		off += int64(len(line))
		text := strings.TrimRight(line, "\r\n\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
		if more, ok := strings.CutSuffix(text, "\\"); ok && len(whole) < 4<<10 && !strings.HasPrefix(strings.TrimSpace(text), "#") && off < b.Size() {
			whole += strings.TrimSpace(more)
			continue
		}
		checkRequirement(r, begin, whole+text)
		whole = ""
	}
}

func checkRequirement(r *report, off int64, line string) {
	s, _, _ := strings.Cut(strings.ToLower(strings.TrimLeft(strings.TrimSpace(line), "- \"'")), " #")
	switch dash := strings.HasPrefix(strings.TrimSpace(line), "-"); {
	case strings.HasPrefix(s, "#"):
	case strings.Contains(s, "://"),
		dash && hasAnyPrefix(s, "i ", "index-url", "extra-index-url", "find-links", "f ", "trusted-host", "e ", "editable"):
		r.add("WS-CONFIG-005", off, "installing the requirements takes packages from %s", clip(s))
	case dash && hasAnyPrefix(s, "r ", "requirement", "c ", "constraint"),
		hasAnyPrefix(s, ".", "/", "\\", "file:"), isWheel(s):
		r.add("WS-CONFIG-005", off, "installing the requirements takes packages of the file %s", clip(s))
	}
}

// isWheel says whether a requirement is a package in a file.
func isWheel(s string) bool {
	s, _, _ = strings.Cut(s, ";")
	s = strings.TrimSpace(s)
	return strings.HasSuffix(s, ".whl") || strings.HasSuffix(s, ".tar.gz") || strings.HasSuffix(s, ".zip")
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// checkXML judges markup: a parser reads or fetches what entities and document
// types name.
func checkXML(r *report, b model.Blob) {
	if at, ok := find(b, "http://www.w3.org/2001/XInclude"); ok {
		r.add("WS-TEXT-001", at, "the document includes others (XInclude)")
	}
	if at, ok := find(b, "<!ENTITY"); ok {
		r.add("WS-TEXT-001", at, "the document declares entities")
	} else if at, ok := find(b, "<!DOCTYPE"); ok {
		if decl := string(peek(b, b.Size(), at, 4<<10)); !isPlainDoctype(decl) {
			r.add("WS-TEXT-001", at, "the document has a document type of its own")
		}
	}
	if name := xmlEncoding(string(head(b, b.Size(), 1<<10))); name != "" {
		r.add("WS-CONFIG-004", 0, "the document says that its encoding is %s", clip(name))
	}
	switch {
	case contains(b, "<PMML"), contains(b, ":PMML"):
		r.add("WS-TEXT-002", 0, "a PMML model")
	case contains(b, "<net ") && contains(b, "<layers"):
		r.add("WS-TEXT-002", 0, "an OpenVINO model")
	default:
		if at, ok := findScript(b); ok {
			r.add("WS-CODE-004", at, "the document has scripts")
		}
	}
}

// isPlainDoctype knows the document types that name nothing, or one of the
// W3C's, which parsers have a copy of.
func isPlainDoctype(s string) bool {
	s = strings.ToLower(strings.Join(strings.Fields(s), " "))
	if strings.HasPrefix(s, "<!doctype html>") {
		return true
	}
	decl, _, ok := strings.Cut(s, ">")
	return ok && !strings.Contains(decl, "[") && strings.Contains(decl, ` public "-//w3c//dtd `) && strings.Count(decl, `"`) == 4 &&
		strings.Contains(decl, `" "http://www.w3.org/`)
}

// xmlEncoding gives the encoding of an XML declaration, unless it is one of
// those in which ASCII stands for itself.
func xmlEncoding(s string) string {
	s = strings.TrimLeft(strings.TrimPrefix(s, "\ufeff"), " \t\r\n")
	decl, _, ok := strings.Cut(s, "?>")
	if !ok || !strings.HasPrefix(decl, "<?xml") {
		return ""
	}
	_, name, ok := strings.Cut(decl, "encoding")
	if !ok {
		return ""
	}
	name = strings.ToLower(strings.Trim(strings.TrimLeft(name, " \t\r\n="), "\"' \t\r\n"))
	name, _, _ = strings.Cut(strings.ReplaceAll(name, "'", `"`), `"`)
	switch name {
	case "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin1", "latin-1", "windows-1252":
		return ""
	}
	return name
}

// browserText is a text as a browser takes an address: references resolved,
// tabs and line ends left out.
func browserText(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, html.UnescapeString(string(b)))
}

// eventHandler is an attribute that holds a script: onload, onerror, ...
var eventHandler = pattern(`[\s"'/]on[a-z]{2,24}\s*=|http-equiv\s*=\s*["']?refresh`)

// findScript looks for what a browser would run.
func findScript(b model.Blob) (int64, bool) {
	const step, most = 256 << 10, 64
	for at := int64(0); at < b.Size(); at += step {
		part := bytes.ToLower(peek(b, b.Size(), at, step+most))
		for _, what := range []string{"<script", ":script", "javascript:", "<foreignobject", "<iframe", "<object", "<embed"} {
			if i := bytes.Index(part, []byte(what)); i >= 0 {
				return at + int64(i), true
			}
		}
		if strings.Contains(browserText(part), "javascript:") {
			return at, true
		}
		if i := eventHandler().FindIndex(part); i != nil {
			return at + int64(i[0]), true
		}
	}
	return 0, false
}

func contains(b model.Blob, what string) bool {
	_, ok := find(b, what)
	return ok
}

// find looks for a short text in a file.
func find(b model.Blob, what string) (int64, bool) {
	const step = 256 << 10
	for at := int64(0); at < b.Size(); at += step {
		if i := bytes.Index(peek(b, b.Size(), at, step+len(what)), []byte(what)); i >= 0 {
			return at + int64(i), true
		}
	}
	return 0, false
}

// isPickle says whether an unpickler that is given the file would do something:
// call, reach the end of a stream, or import what a real process has.
func isPickle(b model.Blob) bool {
	if yes, err := model.Pickled(b, b.Size()); yes || err != nil {
		return yes
	}
	lim := pickleLimits(b)
	lim.Bytes, lim.Ops = 1<<20, 1<<18
	s, err := pickle.Load(b, 0, b.Size(), lim)
	if s == nil || len(s.Globals) == 0 {
		return false
	}
	var pe *pickle.Error
	if errors.As(err, &pe) && pe.Offset == s.Globals[0].Offset {
		return false // an INST without a mark: a word that begins with i
	}
	// The first import decides: where it fails, nothing else happens.
	switch classify(s.Globals[0]) {
	case malformed, foreign:
		return false
	}
	return true
}

// imageDetector lets pictures pass.
type imageDetector struct{}

func (imageDetector) Name() string            { return "image" }
func (imageDetector) Wants(f model.File) bool { return f.Format == model.Image }

func (imageDetector) Scan(context.Context, model.File, model.Blob) (Verdict, []Finding, error) {
	return Safe, nil, nil
}
