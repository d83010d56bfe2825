package workload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The limits of what is read.
const (
	maxYAML    = 8 << 20  // bytes of a YAML document: its nodes take up to 70 times as much memory
	maxValues  = 2e6      // values in one object, or in one YAML document with its aliases followed
	maxObject  = 16 << 20 // bytes of a JSON object; an API server stores at most a tenth of that
	maxObjects = 500_000  // objects in one input
)

// Read reads manifests: YAML documents, JSON objects, or lists of either, and
// calls each for every Kubernetes object. What is no Kubernetes object is
// counted in others. file is the name for errors, which are *ReadError. A
// broken document does not keep those after it from being read: the errors of
// all come joined, at most 20. An error of each ends the reading.
func Read(ctx context.Context, file string, r io.Reader, each func(*Object) error) (others int, err error) {
	src := &pushback{r: r}
	in := &input{ctx: ctx, file: file, src: src, r: bufio.NewReaderSize(src, 16<<10), each: each, line: 1}
	err = in.all()
	if err != nil {
		in.failed(err)
	}
	return in.others, errors.Join(in.errs...)
}

// maxErrors bounds the errors of one input.
const maxErrors = 20

// errStop ends the reading: the error is among errs already.
var errStop = errors.New("stop")

// input is what is read, and how far.
type input struct {
	ctx     context.Context // of the one call that it serves
	file    string
	src     *pushback
	r       *bufio.Reader // over src
	each    func(*Object) error
	line    int // of the next byte
	doc     int // of the current document, from 1
	objects int
	others  int
	errs    []error
}

func (in *input) failed(err error) {
	if errors.Is(err, errStop) {
		return
	}
	in.errs = append(in.errs, err)
}

// broken notes what is wrong with one document or object; reading goes on
// until there are too many.
func (in *input) broken(line int, err error) error {
	in.failed(&ReadError{Origin: Origin{File: in.file, Document: in.doc, Line: line}, Err: err})
	if len(in.errs) >= maxErrors {
		in.failed(&ReadError{Origin: Origin{File: in.file}, Err: errors.New("too many errors, the rest is not read")})
		return errStop
	}
	return nil
}

// all reads document after document: JSON where one begins with a brace, as
// Kubernetes decides it, else YAML.
func (in *input) all() error {
	for {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		b, err := in.blank()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &ReadError{Origin: Origin{File: in.file, Line: in.line}, Err: err}
		}
		if in.doc++; in.doc > maxObjects {
			return &ReadError{Origin: Origin{File: in.file, Line: in.line}, Err: &LimitError{What: "documents", Max: maxObjects}}
		}
		if b == '{' {
			err = in.json()
		} else {
			err = in.yaml()
		}
		if err != nil {
			return err
		}
	}
}

// pushback is a reader that takes back what was read too far.
type pushback struct {
	r    io.Reader
	back []byte
}

func (p *pushback) Read(b []byte) (int, error) {
	if len(p.back) > 0 {
		n := copy(b, p.back)
		p.back = p.back[n:]
		return n, nil
	}
	return p.r.Read(b)
}

// unread gives bytes back that come before all that is left.
func (in *input) unread(b []byte) {
	buffered, _ := in.r.Peek(in.r.Buffered())
	in.src.back = slices.Concat(b, buffered, in.src.back)
	in.r.Reset(in.src)
}

// blank passes blank lines and document marks over, and gives the first byte
// of what follows, without taking it.
func (in *input) blank() (byte, error) {
	for {
		head, err := in.r.Peek(3)
		switch {
		case len(head) == 0:
			return 0, err
		case bytes.Equal(head, []byte("\xef\xbb\xbf")):
			_, _ = in.r.Discard(3)
		case head[0] == '\n':
			in.line++
			_, _ = in.r.Discard(1)
		case strings.IndexByte(blanks, head[0]) >= 0:
			n := in.blanks()
			if n == 0 {
				return head[0], nil
			}
			_, _ = in.r.Discard(n)
		case bytes.Equal(head, []byte("---")) && in.mark():
			_, _ = in.r.Discard(3)
		default:
			return head[0], nil
		}
	}
}

const blanks = " \t\r"

// blanks gives the number of blanks here, when only a newline, a brace or the
// end follows; 0 when they are the indentation of YAML.
func (in *input) blanks() int {
	run, _ := in.r.Peek(in.r.Buffered())
	rest := bytes.TrimLeft(run, blanks)
	if len(rest) == 0 { // it may go on
		_, _ = in.r.Peek(in.r.Size())
		run, _ = in.r.Peek(in.r.Buffered())
		rest = bytes.TrimLeft(run, blanks)
	}
	if len(rest) > 0 && rest[0] != '\n' && rest[0] != '{' {
		return 0
	}
	return len(run) - len(rest)
}

// mark says whether the three dashes here are a document's mark.
func (in *input) mark() bool {
	head, _ := in.r.Peek(4)
	return len(head) < 4 || strings.ContainsRune(" \t\r\n", rune(head[3]))
}

// yaml reads lines up to the next mark, and hands the document over.
func (in *input) yaml() error {
	start := in.line
	var doc bytes.Buffer
	tooLong := false
	for first := true; ; first = false {
		if head, _ := in.r.Peek(3); !first && bytes.Equal(head, []byte("---")) && in.mark() {
			break
		}
		line, err := in.r.ReadSlice('\n')
		if doc.Len()+len(line) > maxYAML {
			tooLong = true
			doc.Reset()
		}
		if !tooLong {
			doc.Write(line)
		}
		if err == nil {
			in.line++
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // a long line goes on; a mark cannot be in the middle of one
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &ReadError{Origin: Origin{File: in.file, Line: in.line}, Err: err}
		}
	}
	if tooLong {
		return in.broken(start, fmt.Errorf("%w in a YAML document; a large list is read as JSON: kubectl get --output json", &LimitError{What: "bytes", Max: maxYAML}))
	}
	v, line, err := parseYAML(doc.Bytes(), start)
	if err != nil {
		return in.broken(line, err)
	}
	return in.value(v, line)
}

// value takes what a document holds: an object or a list of them.
func (in *input) value(v any, line int) error {
	m, ok := v.(map[string]any)
	if !ok {
		if v != nil {
			in.others++
		}
		return nil
	}
	items, isList := m["items"].([]any)
	if !isList || !strings.HasSuffix(text(m["kind"]), "List") {
		return in.object(m, line, "", "")
	}
	for _, item := range items {
		o, ok := item.(map[string]any)
		if !ok {
			if err := in.broken(line, fmt.Errorf("an item of %s is %s, want a map", text(m["kind"]), typeName(item))); err != nil {
				return err
			}
			continue
		}
		if err := in.object(o, line, text(m["apiVersion"]), strings.TrimSuffix(text(m["kind"]), "List")); err != nil {
			return err
		}
	}
	return nil
}

// object reduces one object and hands it on. Items of a typed list have the
// list's version and kind where they have none.
func (in *input) object(m map[string]any, line int, version, kind string) error {
	if text(m["kind"]) == "" && text(m["apiVersion"]) == "" && kind != "" {
		m["apiVersion"], m["kind"] = version, kind
	}
	if text(m["kind"]) == "" || text(m["apiVersion"]) == "" {
		in.others++
		return nil
	}
	if in.objects++; in.objects > maxObjects {
		in.failed(&ReadError{Origin: Origin{File: in.file, Line: line}, Err: &LimitError{What: "objects", Max: maxObjects}})
		return errStop
	}
	o, err := reduce(m, Origin{File: in.file, Document: in.doc, Line: line})
	if err != nil {
		return in.broken(line, err)
	}
	if err := in.each(o); err != nil {
		in.failed(err)
		return errStop
	}
	return nil
}
