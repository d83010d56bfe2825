package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

// patchySource is a model of which some files cannot be opened or read.
type patchySource map[string]patchyFile

type patchyFile struct {
	content string
	open    error
	read    error
	listed  int64 // the size that List gives, where it is another
}

func (s patchySource) List(context.Context) ([]model.Entry, error) {
	var entries []model.Entry
	for p, f := range s {
		size := int64(len(f.content))
		if f.listed > 0 {
			size = f.listed
		}
		entries = append(entries, model.Entry{Path: p, Size: size})
	}
	slices.SortFunc(entries, func(a, b model.Entry) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

func (s patchySource) Open(_ context.Context, path string) (model.Blob, error) {
	f := s[path]
	if f.open != nil {
		return nil, f.open
	}
	return patchyBlob{strings.NewReader(f.content), f.read}, nil
}

type patchyBlob struct {
	*strings.Reader
	err error
}

func (b patchyBlob) ReadAt(p []byte, off int64) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	return b.Reader.ReadAt(p, off)
}
func (patchyBlob) Close() error     { return nil }
func (patchyBlob) Unchanged() error { return nil }

// TestScanUnreadable: a file that cannot be read is unknown with its error, the
// others are judged, and the exit code is never 0.
func TestScanUnreadable(t *testing.T) {
	t.Parallel()
	src := patchySource{
		"a.txt":  {content: "hello\n"},
		"b.bin":  {content: "secret", open: fs.ErrPermission},
		"c.bin":  {content: "broken", read: io.ErrClosedPipe},
		"d.txt":  {content: "short\n", listed: 100},
		"left.x": {content: "secret", open: fs.ErrPermission},
	}
	files, err := newScanSource(src, &selection{exclude: []string{"*.x"}})
	if err != nil {
		t.Fatal(err)
	}
	m, r, err := files.run(t.Context(), "m", 0, newProgress(io.Discard, "none"))
	if err != nil {
		t.Fatal(err)
	}
	o := newScanOutput(scan.Convertible)
	job := &scanJob{source: "m", files: files, model: m, report: r}
	if err := o.add(t.Context(), job, func(*scanFile, func() (string, error)) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		verdict scan.Verdict
		err     error
	}{
		"a.txt": {scan.Safe, nil}, "b.bin": {scan.Unknown, fs.ErrPermission}, "c.bin": {scan.Unknown, io.ErrClosedPipe}, "d.txt": {scan.Unknown, model.ErrChanged},
	}
	for _, f := range o.Files {
		w := want[f.Path]
		if f.Verdict != w.verdict || !errors.Is(f.err, w.err) || (f.Error == "") != (w.err == nil) {
			t.Errorf("%s: %s, %v", f.Path, f.Verdict, f.err)
		}
		delete(want, f.Path)
	}
	if len(want) > 0 || len(o.Excluded) != 1 || o.Totals.Unread != 3 || !o.Failed {
		t.Errorf("not judged: %v, excluded: %v, totals: %+v", want, o.Excluded, o.Totals)
	}
	if f := classify(o.err()); f.code != exitError {
		t.Errorf("exit code %d: %v", f.code, f)
	}
	src["e.pkl"] = patchyFile{content: "cos\nsystem\n(S'x'\ntR."}
	if files, err = newScanSource(src, &selection{}); err != nil {
		t.Fatal(err)
	}
	if m, r, err = files.run(t.Context(), "m", 0, newProgress(io.Discard, "none")); err != nil {
		t.Fatal(err)
	}
	o = newScanOutput(scan.Unsafe)
	job = &scanJob{source: "m", files: files, model: m, report: r}
	if err := o.add(t.Context(), job, func(*scanFile, func() (string, error)) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if f := classify(o.err()); f.code != exitPolicy {
		t.Errorf("exit code %d: %v", f.code, f)
	}
	for _, form := range scanOutputs {
		var b bytes.Buffer
		if err := form.print(&page{Writer: &b}, o); err != nil || !strings.Contains(b.String(), "b.bin") || !strings.Contains(b.String(), "permission denied") && form.name != "markdown" {
			t.Errorf("%s: %v\n%s", form.name, err, b.String())
		}
	}
}

// TestSpool: no more than the limit is kept, and nothing stays behind.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	s, err := spool(t.Context(), strings.NewReader("0123456789"), 10)
	if err != nil || s.size != 10 {
		t.Fatalf("%+v, %v", s, err)
	}
	b, err := s.Open(t.Context(), stdinName)
	if err != nil || b.Size() != 10 {
		t.Fatal(b, err)
	}
	if _, err := s.Open(t.Context(), "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	s.close()
	for _, in := range []io.Reader{strings.NewReader("0123456789x"), strings.NewReader(""), io.MultiReader(strings.NewReader("x"), failingReader{})} {
		if _, err := spool(t.Context(), in, 10); err == nil {
			t.Error("no error")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := spool(ctx, strings.NewReader("x"), 10); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestLocation: where SARIF says that files are.
func TestLocation(t *testing.T) {
	t.Parallel()
	file := filepath.Join("testdata", "scan", "model", "config.json")
	for source, want := range map[string]string{
		"-": "", ".": "", "./": "", "testdata/scan": "testdata/scan/", "./testdata/scan/": "testdata/scan/",
		file: "testdata/scan/model/", "host:5000/team/m:1": "./host:5000/team/m:1/", "oci:a b:v1": "./oci:a%20b:v1/",
	} {
		if got := locationOf(source); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := locationOf(abs); !strings.HasPrefix(got, "file:///") || !strings.HasSuffix(got, "/testdata/scan/model/") {
		t.Error(got)
	}
}
