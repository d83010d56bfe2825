package scan

import (
	"bytes"
	"context"
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
	case bytes.HasPrefix(start, []byte("version https://git-lfs.github.com/spec/")):
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
		checkTemplate(r, string(peek(b, b.Size(), 0, maxTemplate)), 0, path.Base(f.Path))
	case strings.HasPrefix(path.Base(strings.ToLower(f.Path)), "requirements") && e == ".txt":
		checkRequirements(r, b)
	case f.Format != model.Markdown && bytes.HasPrefix(bytes.TrimLeft(start, "\ufeff \t\r\n"), []byte("<")):
		checkXML(r, b)
	case f.Format == model.YAML || e == ".yaml" || e == ".yml" || path.Base(f.Path) == "MLmodel":
		checkYAML(r, b)
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
	for line := range bytes.Lines(peek(b, b.Size(), 0, maxProtoText)) {
		if bytes.HasPrefix(line, []byte("import ")) || bytes.HasPrefix(line, []byte("import\t")) {
			r.add("WS-TORCH-010", off, "the line %q is executed", clip(strings.TrimSpace(string(line))))
			return
		}
		off += int64(len(line))
	}
}

// maxTemplate bounds a template in a file of its own.
const maxTemplate = 8 << 20

// checkRequirements looks for packages that pip would take from elsewhere than
// its own index.
func checkRequirements(r *report, b model.Blob) {
	off := int64(0)
	for line := range bytes.Lines(peek(b, b.Size(), 0, maxProtoText)) {
		s, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(string(line))), " #")
		switch {
		case strings.HasPrefix(s, "#"):
		case strings.HasPrefix(s, "-i "), strings.HasPrefix(s, "--index-url"), strings.HasPrefix(s, "--extra-index-url"),
			strings.HasPrefix(s, "--find-links"), strings.HasPrefix(s, "-f "), strings.HasPrefix(s, "--trusted-host"), strings.Contains(s, "://"):
			r.add("WS-CONFIG-005", off, "installing the requirements takes packages from %s", clip(s))
		}
		off += int64(len(line))
	}
}

// checkXML judges markup: a parser reads or fetches what entities and document
// types name.
func checkXML(r *report, b model.Blob) {
	if at, ok := find(b, "<!ENTITY"); ok {
		r.add("WS-TEXT-001", at, "the document declares entities")
	} else if at, ok := find(b, "<!DOCTYPE"); ok {
		decl, _, _ := strings.Cut(string(peek(b, b.Size(), at, 64<<10)), ">")
		if strings.Contains(decl, "SYSTEM") || strings.Contains(decl, "[") {
			r.add("WS-TEXT-001", at, "the document has a document type of its own")
		}
	}
	switch {
	case contains(b, "<PMML"):
		r.add("WS-TEXT-002", 0, "a PMML model")
	case contains(b, "<net ") && contains(b, "<layers"):
		r.add("WS-TEXT-002", 0, "an OpenVINO model")
	case contains(b, "<script"), contains(b, "<SCRIPT"), contains(b, "javascript:"):
		r.add("WS-CODE-004", 0, "the document has scripts")
	}
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
	lim := pickleLimits()
	lim.Bytes, lim.Ops = 1<<20, 1<<18
	s, _ := pickle.Load(b, 0, b.Size(), lim)
	if s == nil {
		return false
	}
	if len(s.Globals) == 0 {
		return false
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
