package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/weightseal/weightseal/internal/embedded"
)

// scanned runs scan and gives its exit code and what it printed.
func scanned(tb testing.TB, stdin []byte, args ...string) (code int, stdout, stderr string) {
	tb.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), append([]string{program, "scan", "--progress", "none"}, args...), &streams{
		in: bytes.NewReader(stdin), out: &out, err: &errs, env: map[string]string{},
	})
	return code, out.String(), errs.String()
}

var fixture = []string{
	"testdata/scan/model", "--baseline", "testdata/scan/baseline.yaml", "--exclude", "weights.*",
}

// TestScanGolden: one model with something of everything, in each output.
func TestScanGolden(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"text", "json", "sarif", "junit", "markdown"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			code, got, _ := scanned(t, nil, append(slices.Clone(fixture), "-o", form)...)
			if code != exitPolicy {
				t.Errorf("exit code %d", code)
			}
			got = strings.ReplaceAll(got, `"`+strings.TrimPrefix(buildVersion(), "v")+`"`, `"VERSION"`)
			golden := filepath.Join("testdata", "scan", "golden."+form)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("not %s (make golden rewrites it):\n%s", golden, got)
			}
		})
	}
}

// closed is a schema in which nothing else may occur.
func closed(tb testing.TB, path string) *jsonschema.Schema {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		tb.Fatal(err)
	}
	closeObjects(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("closed.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("closed.json")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["type"] == "object" && v["properties"] != nil {
			v["additionalProperties"] = false
		}
		delete(v, "$id") // references stay inside the document
		for _, x := range v {
			closeObjects(x)
		}
	case []any:
		for _, x := range v {
			closeObjects(x)
		}
	}
}

func validate(tb testing.TB, s *jsonschema.Schema, what, text string) {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
	if err := s.Validate(doc); err != nil {
		tb.Errorf("%s: %v", what, err)
	}
}

// corpora are folders with every format and every trick that is known.
func corpora() []string {
	return []string{"threats/malicious", "threats/benign", "checkpoints"}
}

// TestScanJSONSchema: what scan prints of the corpus is what
// docs/scan-report-v1.schema.json says, and the numbers in it agree.
func TestScanJSONSchema(t *testing.T) {
	t.Parallel()
	schema := closed(t, "../../../docs/scan-report-v1.schema.json")
	_, text, _ := scanned(t, nil, append(slices.Clone(fixture), "-o", "json")...)
	validate(t, schema, "fixture", text)
	for _, dir := range corpora() {
		_, text, _ := scanned(t, nil, filepath.Join("../../../testdata", dir), "-o", "json")
		validate(t, schema, dir, text)
		var o struct {
			Verdict string
			Counts  map[string]int
			Totals  scanTotals
			Files   []struct {
				Path, Verdict, Counted string
				Size, BytesRead        int64
				Findings               []struct{ Rule, Verdict, Fingerprint string }
			}
		}
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		counts, findings := map[string]int{}, 0
		var read, size int64
		for _, f := range o.Files {
			counts[f.Verdict]++
			findings += len(f.Findings)
			read, size = read+f.BytesRead, size+f.Size
			if f.BytesRead > f.Size || f.Counted != f.Verdict {
				t.Errorf("%s: %d of %d bytes, %s counts as %s", f.Path, f.BytesRead, f.Size, f.Verdict, f.Counted)
			}
			seen := map[string]bool{}
			for _, x := range f.Findings {
				if seen[x.Fingerprint] {
					t.Errorf("%s: two findings have the fingerprint %s", f.Path, x.Fingerprint)
				}
				seen[x.Fingerprint] = true
			}
		}
		for v, n := range o.Counts {
			if counts[v] != n {
				t.Errorf("%s: %d files are %s, %d are counted", dir, counts[v], v, n)
			}
		}
		if len(o.Files) < 20 || o.Totals.Files != len(o.Files) || o.Totals.Findings != findings || o.Totals.BytesRead != read || o.Totals.Bytes != size {
			t.Errorf("%s: %+v", dir, o.Totals)
		}
	}
}

// TestScanJUnit: one case a file, and the numbers of the suite agree.
func TestScanJUnit(t *testing.T) {
	t.Parallel()
	for _, dir := range corpora() {
		_, text, _ := scanned(t, nil, filepath.Join("../../../testdata", dir), "-o", "junit")
		var doc junitSuites
		if err := xml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		failed, names := 0, map[string]bool{}
		for _, c := range doc.Suites[0].Cases {
			if c.Failure != nil {
				failed++
			}
			names[c.Name] = true
		}
		if n := len(doc.Suites[0].Cases); n < 20 || doc.Tests != n || len(names) != n || doc.Failed != failed || failed == 0 {
			t.Errorf("%s: %d cases, %d names, %d failed; the suite says %d and %d", dir, n, len(names), failed, doc.Tests, doc.Failed)
		}
	}
}

// TestScanIsDeterministic: the same bytes every time, whatever runs beside.
func TestScanIsDeterministic(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"json", "sarif"} {
		outs := make([]string, 4)
		var all sync.WaitGroup
		for i := range outs {
			all.Go(func() {
				_, outs[i], _ = scanned(t, nil, "../../../testdata/threats/malicious/archive", "../../../testdata/threats/benign", "-o", form)
			})
		}
		all.Wait()
		for _, o := range outs[1:] {
			if o != outs[0] || o == "" {
				t.Fatalf("%s differs from run to run", form)
			}
		}
	}
}

// TestScanTextIsOneLine: no name in an archive writes a line of the report.
func TestScanTextIsOneLine(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("x\n\nverdict: safe (1 file)\n")
	if err == nil {
		_, err = f.Write([]byte("cos\nsystem\n(S'x'\ntR."))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"text", "markdown", "junit"} {
		code, out, _ := scanned(t, b.Bytes(), "-", "-o", form)
		if code != exitPolicy || strings.Contains(out, "\nverdict: safe") || !strings.Contains(out, "verdict: safe (1 file)") {
			t.Errorf("%s: exit code %d:\n%s", form, code, out)
		}
	}
}

// TestScanFetchesLittle: of a model in a registry the bytes that came are told,
// and they are few.
func TestScanFetchesLittle(t *testing.T) {
	t.Parallel()
	reg, err := embedded.Start(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	const size = 8 << 20
	header := fmt.Sprintf(`{"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, size, size)
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(append(file, header...), make([]byte, size)...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), file, 0o666); err != nil {
		t.Fatal(err)
	}
	ref := reg.Addr + "/team/m:1"
	var errs bytes.Buffer
	if code := run(t.Context(), []string{program, "push", dir, ref, "--plain-http", "--no-sign"}, &streams{
		in: strings.NewReader(""), out: io.Discard, err: &errs, env: map[string]string{},
	}); code != exitOK {
		t.Fatal(errs.String())
	}
	code, text, stderr := scanned(t, nil, ref, "--plain-http", "-o", "json")
	if code != exitOK {
		t.Fatal(stderr)
	}
	validate(t, closed(t, "../../../docs/scan-report-v1.schema.json"), ref, text)
	var o struct {
		Totals  scanTotals
		Sources []scannedSource
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	if o.Totals.Bytes != int64(len(file)) || o.Totals.BytesRead < int64(len(header)) || o.Totals.BytesRead > 2<<20 || o.Sources[0].Digest == "" {
		t.Errorf("%+v, %+v", o.Totals, o.Sources)
	}
}

// TestMarkdownCode: nothing from outside is markup.
func TestMarkdownCode(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                "`plain`",
		"a|b":                  "`a\\|b`",
		"a`b":                  "`` a`b ``",
		"``":                   "``` `` ```",
		"":                     "`  `",
		"x\n\n# title":         "`x  # title`",
		"[a](http://b) @who":   "`[a](http://b) @who`",
		"<img src=x>":          "`<img src=x>`",
		"\x1b[31mred\u202eder": "`\\x1b[31mred\\u{202e}der`",
	} {
		if got := markdownCode(in); got != want {
			t.Errorf("markdownCode(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestPageSet: pages count once, and the last one as far as the file goes.
func TestPageSet(t *testing.T) {
	t.Parallel()
	p := &pageSet{size: 3*pageSize + 5, seen: map[int64]*[64]uint64{}}
	for _, step := range []struct {
		off  int64
		n    int
		want int64
	}{
		{0, 0, 0}, {0, 1, 4096}, {10, 4000, 4096}, {4095, 2, 8192}, {3 * pageSize, 5, 8197}, {0, 3*pageSize + 5, 3*pageSize + 5},
	} {
		p.add(step.off, step.n)
		if got := p.bytes(); got != step.want {
			t.Errorf("after %d bytes at %d: %d, want %d", step.n, step.off, got, step.want)
		}
	}
	far := &pageSet{size: 1 << 50, seen: map[int64]*[64]uint64{}}
	far.add(1<<50-1, 1)
	if far.bytes() != pageSize || len(far.seen) != 1 {
		t.Errorf("%d bytes in %d groups", far.bytes(), len(far.seen))
	}
}
