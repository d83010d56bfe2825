package scan_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

// memory is a model in memory.
type memory map[string]io.ReaderAt

type sized interface{ Size() int64 }

func (m memory) List(context.Context) ([]model.Entry, error) {
	var out []model.Entry
	for p, r := range m {
		out = append(out, model.Entry{Path: p, Size: r.(sized).Size()})
	}
	slices.SortFunc(out, func(a, b model.Entry) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func (m memory) Open(_ context.Context, p string) (model.Blob, error) {
	return blob{m[p], m[p].(sized).Size()}, nil
}

type blob struct {
	io.ReaderAt
	n int64
}

func (b blob) Size() int64      { return b.n }
func (b blob) Close() error     { return nil }
func (b blob) Unchanged() error { return nil }

func run(t testing.TB, m memory) *scan.Report {
	t.Helper()
	ctx := context.Background()
	mod, err := model.Load(ctx, "test", m)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := scan.Run(ctx, mod, scan.Default())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// verdictOf scans one file of the given content.
func verdictOf(t testing.TB, name, content string) *scan.Report {
	t.Helper()
	return run(t, memory{name: strings.NewReader(content)})
}

// sparse is a file of which only some parts are not zero. It counts what is
// read.
type sparse struct {
	size  int64
	parts []part
	mu    sync.Mutex
	read  int64
}

type part struct {
	at int64
	b  []byte
}

func (s *sparse) Size() int64 { return s.size }

// Write appends; long runs are taken for zeros.
func (s *sparse) Write(p []byte) (int, error) {
	if len(p) < 1<<20 {
		s.parts = append(s.parts, part{s.size, bytes.Clone(p)})
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), s.size-off))
	if n < 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	for _, q := range s.parts {
		lo, hi := max(q.at, off), min(q.at+int64(len(q.b)), off+int64(n))
		if lo < hi {
			copy(p[lo-off:hi-off], q.b[lo-q.at:])
		}
	}
	s.mu.Lock()
	s.read += int64(n)
	s.mu.Unlock()
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

const hugeTensor = 2 << 30

func hugeZip(t testing.TB) *sparse {
	t.Helper()
	s := &sparse{}
	w := zip.NewWriter(s)
	raw := func(name string, size int64, data []byte) {
		h := &zip.FileHeader{Name: name, Method: zip.Store, CompressedSize64: uint64(size), UncompressedSize64: uint64(size), CRC32: crc32.ChecksumIEEE(data)}
		f, err := w.CreateRaw(h)
		if err != nil {
			t.Fatal(err)
		}
		if data != nil {
			must(f.Write(data))
			return
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 64<<20)
		for range size / int64(len(zeros)) {
			must(f.Write(zeros))
		}
	}
	p := stateDict("w", hugeTensor/4)
	raw("archive/data.pkl", int64(len(p)), []byte(p))
	raw("archive/data/0", hugeTensor, nil)
	raw("archive/version", 2, []byte("3\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// stateDict is the pickle of one tensor of numel float32.
func stateDict(name string, numel int64) string {
	n := "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(numel)))
	text := func(s string) string {
		return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
	}
	return "\x80\x02ccollections\nOrderedDict\n)R" + text(name) + "ctorch._utils\n_rebuild_tensor_v2\n((" +
		text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + n + "tQK\x00" + n + "\x85K\x01\x85\x89" +
		"ccollections\nOrderedDict\n)RtRs."
}

func hugeSafetensors() *sparse {
	s := &sparse{}
	h := fmt.Sprintf(`{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}`, hugeTensor/4, int64(hugeTensor))
	for len(h)%8 != 0 {
		h += " "
	}
	must(s.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(h)))))
	must(s.Write([]byte(h)))
	s.size += hugeTensor
	return s
}

// No tensor bytes are read, and little memory is used, whatever the size.
func TestTensorsAreNotRead(t *testing.T) {
	for name, s := range map[string]*sparse{"model.pt": hugeZip(t), "model.safetensors": hugeSafetensors()} {
		s.read = 0
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rep := run(t, memory{name: s})
		runtime.ReadMemStats(&after)
		want := scan.Safe
		if name == "model.pt" {
			want = scan.Convertible
		}
		if rep.Verdict != want {
			t.Errorf("%s: %s\n%s", name, rep.Verdict, explain(rep))
		}
		if s.read > 1<<20 {
			t.Errorf("%s: %d bytes of %d are read", name, s.read, s.size)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
			t.Errorf("%s: %d bytes allocated", name, used)
		}
	}
}

func BenchmarkHugeTorch(b *testing.B) {
	m := memory{"model.pt": hugeZip(b)}
	for b.Loop() {
		run(b, m)
	}
}

func BenchmarkPickleOpcodes(b *testing.B) {
	var s strings.Builder
	s.WriteString("\x80\x02]")
	for range 1000 { // picklers write a thousand values at a time
		s.WriteString("(" + strings.Repeat("G\x3f\xf0\x00\x00\x00\x00\x00\x00", 1000) + "e")
	}
	s.WriteString(".")
	m := memory{"floats.pkl": strings.NewReader(s.String())}
	b.SetBytes(int64(s.Len()))
	for b.Loop() {
		if rep := run(b, m); rep.Verdict != scan.Convertible {
			b.Fatal(explain(rep))
		}
	}
}

// failing is a file that breaks off with an error of the disk.
type failing struct {
	*strings.Reader
	from int64
}

var errDisk = errors.New("the disk is broken")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, off)
}

// late lets the inventory be made and fails from then on.
type late struct {
	memory
	broken bool
}

func (l *late) Open(ctx context.Context, p string) (model.Blob, error) {
	if l.broken && strings.HasPrefix(p, "gone") {
		return nil, errDisk
	}
	b, err := l.memory.Open(ctx, p)
	if l.broken && strings.HasPrefix(p, "bad") {
		r := l.memory[p].(*strings.Reader)
		return blob{failing{r, 16}, r.Size()}, nil
	}
	return b, err
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	src := &late{memory: memory{
		"bad.pkl":         strings.NewReader("\x80\x02X\x40\x00\x00\x00" + strings.Repeat("a", 64) + "."),
		"bad.safetensors": strings.NewReader("\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":" + strings.Repeat(" ", 100)),
		"bad.txt":         strings.NewReader(strings.Repeat("text ", 100)),
		"bad.json":        strings.NewReader(`{"a": "` + strings.Repeat("b", 100) + `"}`),
		"gone.txt":        strings.NewReader("text"),
		"good.txt":        strings.NewReader("text"),
	}}
	m, err := model.Load(ctx, "test", src)
	if err != nil {
		t.Fatal(err)
	}
	src.broken = true
	rep, err := scan.Run(ctx, m, scan.Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rep.Files {
		if f.Path == "good.txt" {
			if f.Err != nil || f.Verdict != scan.Safe {
				t.Errorf("%s: %v %v", f.Path, f.Verdict, f.Err)
			}
			continue
		}
		if !errors.Is(f.Err, errDisk) || f.Verdict < scan.Unknown || !strings.Contains(f.Err.Error(), f.Path) {
			t.Errorf("%s: %v %v", f.Path, f.Verdict, f.Err)
		}
	}
	if rep.Verdict < scan.Unknown {
		t.Error(rep.Verdict)
	}
}

// reportText is everything that a report says, the errors included.
func reportText(t *testing.T, rep *scan.Report) string {
	t.Helper()
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rep.Files {
		b = fmt.Appendf(b, "\n%s: %v", f.Path, f.Err)
	}
	return string(b)
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	first := scanPath(t, "../testdata/threats/malicious")
	for range 3 {
		again := scanPath(t, "../testdata/threats/malicious")
		if got, want := reportText(t, again), reportText(t, first); got != want {
			t.Fatalf("two runs differ:\n%s\n%s", got, want)
		}
	}
	n := 0
	for _, c := range first.Counts {
		n += c
	}
	if n != len(first.Files) || first.Verdict != scan.Unsafe {
		t.Errorf("counts %v of %d files, %s", first.Counts, len(first.Files), first.Verdict)
	}
	if !slices.IsSortedFunc(first.Files, func(a, b scan.FileReport) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("files are not in order")
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	m, err := model.Load(context.Background(), "test", model.Dir("../testdata/threats/benign"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := scan.Run(ctx, m, scan.Default()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// The shape that scripts rely on.
func TestJSON(t *testing.T) {
	t.Parallel()
	rep := verdictOf(t, "evil.pkl", "\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Verdict string
		Files   []struct {
			Path, Format, Verdict string
			Findings              []struct {
				Rule, Severity, Message, Global, Opcode, Fix, Verdict string
				Offset                                                *int64
			}
		}
		Counts map[string]int
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	f := got.Files[0]
	if got.Verdict != "unsafe" || f.Path != "evil.pkl" || f.Format != "pickle" || f.Verdict != "unsafe" || got.Counts["unsafe"] != 1 {
		t.Fatalf("%s", b)
	}
	fd := f.Findings[0]
	if fd.Rule != "WS-PICKLE-002" || fd.Global != "os.system" || fd.Opcode != "GLOBAL" || fd.Offset == nil || *fd.Offset != 2 ||
		!strings.Contains(fd.Message, "imported and called") || fd.Fix == "" {
		t.Fatalf("%s", b)
	}
	safe, err := json.Marshal(verdictOf(t, "a.txt", "text\n"))
	if err != nil || !strings.Contains(string(safe), `"findings":[]`) {
		t.Fatalf("%s %v", safe, err)
	}
}

// must is for writers in memory.
func must(_ int, err error) {
	if err != nil {
		panic(err)
	}
}

// TestProgress: each file begins and is done once, in that order.
func TestProgress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 40 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.txt", i)), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := model.Load(t.Context(), "m", model.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	begun, done := map[string]int{}, map[string]int{}
	s := scan.Scanner{Detectors: scan.Default(), Progress: func(e scan.Event) {
		if e.Files != 40 || e.Size != 4 {
			t.Errorf("%+v", e)
		}
		if !e.Done {
			begun[e.Path]++
		} else if done[e.Path]++; begun[e.Path] != done[e.Path] {
			t.Errorf("%s is done before it begins", e.Path)
		}
	}}
	if _, err := s.Run(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if len(begun) != 40 || len(done) != 40 {
		t.Errorf("%d begin, %d are done", len(begun), len(done))
	}
}
