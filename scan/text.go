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
	}
	return false
}

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
	case e == ".jinja" || e == ".jinja2" || e == ".j2":
		checkTemplate(r, string(peek(b, b.Size(), 0, maxProtoText)), 0, path.Base(f.Path))
	case bytes.HasPrefix(bytes.TrimLeft(start, "\ufeff \t\r\n"), []byte("<")):
		checkXML(r, start)
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

// checkXML judges markup by its beginning: entities are declared there.
func checkXML(r *report, start []byte) {
	s := string(start)
	if i := strings.Index(s, "<!ENTITY"); i >= 0 {
		r.add("WS-TEXT-001", int64(i), "the document declares entities")
	} else if i := strings.Index(s, "<!DOCTYPE"); i >= 0 {
		decl, _, _ := strings.Cut(s[i:], ">")
		if strings.Contains(decl, "SYSTEM") || strings.Contains(decl, "[") {
			r.add("WS-TEXT-001", int64(i), "the document has a document type of its own")
		}
	}
	switch {
	case strings.Contains(s, "<PMML"):
		r.add("WS-TEXT-002", 0, "a PMML model")
	case strings.Contains(s, "<net ") && strings.Contains(s, "<layers"):
		r.add("WS-TEXT-002", 0, "an OpenVINO model")
	case strings.Contains(s, "<svg"), strings.Contains(strings.ToLower(s), "<html"):
		if strings.Contains(strings.ToLower(s), "<script") {
			r.add("WS-CODE-004", 0, "the document has scripts")
		}
	}
}

// checkYAML judges YAML by its lines: tags that make a full loader construct
// objects, and the keys that make programs import what they name.
func checkYAML(r *report, b model.Blob) {
	off := int64(0)
	for line := range bytes.Lines(peek(b, b.Size(), 0, 16<<20)) {
		s := string(line)
		code, _, _ := strings.Cut(s, " #")
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
		checkYAMLKey(r, off, code)
		off += int64(len(line))
	}
}

// yamlTag gives the tag of a line's value: a word with an exclamation mark in
// front, at the beginning or after an indicator.
func yamlTag(line string) string {
	for i, c := range []byte(line) {
		if c != '!' {
			continue
		}
		before := strings.TrimRight(line[:i], " \t")
		if before == "" || i > 0 && (line[i-1] == ' ' || line[i-1] == '\t' || line[i-1] == '[' || line[i-1] == '{') &&
			strings.IndexByte(":-?[{,", before[len(before)-1]) >= 0 {
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

func checkYAMLKey(r *report, off int64, line string) {
	key, value, ok := strings.Cut(line, ":")
	key = strings.Trim(strings.TrimLeft(key, " \t-{"), `"' `)
	value = strings.TrimSpace(value)
	switch {
	case !ok || !isLoaderKey(key):
	case key == "trust_remote_code" && !strings.HasPrefix(strings.ToLower(value), "true"):
	case key == "python_function" || key == "auto_map" || value != "":
		r.add("WS-CONFIG-001", off, "%s: %s", key, clip(value))
	}
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
