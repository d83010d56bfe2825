package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/weightseal/weightseal/model"
)

// Default is the list of detectors, the first that wants a file judges it.
func Default() []Detector {
	return []Detector{
		safetensorsDetector{},
		torchDetector{},
		dcpDetector{},
		dcpShardDetector{},
		pickleDetector{},
		numpyDetector{},
		ggufDetector{},
		flaxDetector{},
		kerasDetector{},
		hdf5Detector{},
		protobufDetector{},
		archiveDetector{},
		executableDetector{},
		pythonDetector{},
		jsonDetector{},
		textDetector{},
		imageDetector{},
		unknownDetector{},
	}
}

// maxWorkers bounds the files judged at a time: each may hold buffers of a few
// mebibytes.
const maxWorkers = 8

// Run judges every file of a model, several at a time, in a deterministic
// order of results. Name against content is checked here, for all formats.
// A file that cannot be read is Unknown and carries its error; the error
// returned is only that of the context.
func Run(ctx context.Context, m *model.Model, detectors []Detector) (*Report, error) {
	return Scanner{Detectors: detectors}.Run(ctx, m)
}

// DefaultMemory keeps the scan of any file below 64 MiB of resident memory.
const DefaultMemory = 16 << 20

// Scanner judges models, with bounds of one's own.
type Scanner struct {
	Detectors []Detector
	// Memory is how many bytes the values of one pickle may take, by
	// estimate; 0 is DefaultMemory. A pickle that needs more is Unknown.
	Memory int64
	// Progress, unless nil, is told when the scan of a file begins and ends. It is
	// never called twice at the same time.
	Progress func(Event)
}

// Event reports that the scan of a file begins, or is done.
type Event struct {
	Path  string
	Size  int64 // of the file, in bytes; a scan reads part of it
	Files int   // of the model
	Done  bool
}

// Run is as the function Run.
func (s Scanner) Run(ctx context.Context, m *model.Model) (*Report, error) {
	files := make([]FileReport, len(m.Files))
	next := make(chan int)
	tell := s.teller(len(m.Files))
	var wg sync.WaitGroup
	for range max(1, min(runtime.GOMAXPROCS(0), maxWorkers, len(m.Files))) {
		wg.Go(func() {
			for i := range next {
				tell(m.Files[i], false)
				files[i] = s.scanFile(ctx, m, m.Files[i])
				tell(m.Files[i], true)
			}
		})
	}
feed:
	for i := range m.Files {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return summarise(files), nil
}

// teller gives Progress one event after the other.
func (s Scanner) teller(files int) func(f model.File, done bool) {
	if s.Progress == nil {
		return func(model.File, bool) {}
	}
	var mu sync.Mutex
	return func(f model.File, done bool) {
		mu.Lock()
		defer mu.Unlock()
		s.Progress(Event{Path: f.Path, Size: f.Size, Files: files, Done: done})
	}
}

func summarise(files []FileReport) *Report {
	rep := &Report{Verdict: Safe, Files: files, Counts: map[string]int{}}
	slices.SortStableFunc(files, func(a, b FileReport) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		rep.Verdict = max(rep.Verdict, f.Verdict)
		rep.Counts[f.Verdict.String()]++
	}
	return rep
}

// scanFile judges one file of the model.
func (s Scanner) scanFile(ctx context.Context, m *model.Model, f model.File) FileReport {
	fr := FileReport{Path: f.Path, Size: f.Size, Format: f.Format, Declared: f.Declared, Role: f.Role, Findings: []Finding{}}
	if fr.Declared == model.Unknown {
		fr.Declared = ""
	}
	v, fs, err := s.openAndJudge(ctx, m, f)
	fr.Verdict = max(v, Safe)
	fr.Findings = append(fr.Findings, fs...)
	if err != nil {
		ru := ruleByID("WS-READ-001")
		if errors.Is(err, model.ErrNotFollowed) {
			ru = ruleByID("WS-LINK-001")
		}
		if errors.Is(err, model.ErrPath) {
			ru.Fix = "rename the file: no model can have this path, so it was not read"
		}
		fr.Err = fmt.Errorf("%s: %w", f.Path, err)
		fr.Verdict = max(fr.Verdict, Unknown)
		fr.Findings = append(fr.Findings, Finding{Rule: ru.ID, Severity: ru.Severity, Verdict: ru.Verdict,
			Fix: ru.Fix, Message: err.Error()})
	}
	return fr
}

func (s Scanner) openAndJudge(ctx context.Context, m *model.Model, f model.File) (v Verdict, fs []Finding, err error) {
	b, err := m.Open(ctx, f.Path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	v, fs, err = judge(ctx, s.Detectors, f, &guardedBlob{Blob: b, top: &budget{memory: s.Memory}})
	if err == nil {
		err = b.Unchanged()
	}
	return v, fs, err
}

// judge asks the first detector that wants the file, and then looks at what
// concerns every format.
func judge(ctx context.Context, detectors []Detector, f model.File, guard *guardedBlob) (Verdict, []Finding, error) {
	r := &report{}
	for _, d := range detectors {
		if !d.Wants(f) {
			continue
		}
		v, fs, err := d.Scan(ctx, f, guard)
		r.merge("", v, fs)
		if err != nil {
			r.atLeast(Unknown)
			return r.verdict, r.findings, err
		}
		break
	}
	if r.verdict == 0 {
		r.add("WS-FORMAT-002", -1, "no detector judges this file")
	}
	checkName(r, f)
	checkPolyglot(r, f, guard)
	checkUnpickled(r, f, guard)
	if err := guard.failed(); err != nil {
		// A parser may have taken the failed read for the end of its
		// structure: whatever it said is not known to be true.
		r.atLeast(Unknown)
		return r.verdict, r.findings, err
	}
	return r.result()
}

// guardedBlob remembers the first read that failed for another reason than
// the end of the file, so that "could not be read" is never taken for "is
// broken".
type guardedBlob struct {
	model.Blob
	// top is the budget of a file of the model; nil for what lies in one.
	top *budget
	mu  sync.Mutex
	err error
}

func (g *guardedBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := g.Blob.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && off >= 0 && off <= g.Size() {
		g.mu.Lock()
		if g.err == nil {
			g.err = err
		}
		g.mu.Unlock()
	}
	return n, err
}

func (g *guardedBlob) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
