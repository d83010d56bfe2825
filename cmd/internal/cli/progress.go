package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/scan"
)

const (
	frameInterval     = 200 * time.Millisecond
	heartbeatInterval = 15 * time.Second
)

type progressFlags struct{ mode string }

func (p *progressFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.mode, "progress", "auto", "auto, plain, json or none (on standard error)")
}

// check refuses a mode that does not exist.
func (p *progressFlags) check() error {
	return oneOf("progress", p.mode, "auto", "plain", "json", "none")
}

// start begins to show progress.
func (p *progressFlags) start(s *streams) *progress {
	mode := p.mode
	if mode == "auto" {
		switch {
		case s.quiet:
			mode = "none"
		case s.errTTY && s.capable():
			mode = "live"
		default:
			mode = "plain"
		}
	}
	b := newProgress(s.err, mode)
	if mode == "live" {
		b.screen = &screen{page: s.errPage, rows: func() int { return rowsOf(s.errSize) }}
		b.restore = b.takeOver(s)
	}
	if mode == "live" || mode == "plain" {
		b.work.Go(b.loop)
	}
	return b
}

func newProgress(w io.Writer, mode string) *progress {
	b := &progress{w: w, mode: mode, now: time.Now, files: map[string]*fileProgress{}, stop: make(chan struct{})}
	b.started = b.now()
	return b
}

// progress shows long work on standard error: live lines on a terminal,
// otherwise a line when a file begins and ends, and a heartbeat. It takes the
// events of the packages that work, and alone knows how they look.
type progress struct {
	mu      sync.Mutex
	w       io.Writer
	mode    string
	now     func() time.Time
	started time.Time
	lastOut time.Time // of plain lines
	work    sync.WaitGroup
	stop    chan struct{}
	once    sync.Once
	screen  *screen // of mode live
	restore func()  // gives standard error back; of mode live
	good    bool    // the work has come to its end

	files          map[string]*fileProgress
	active, ended  []*fileProgress // in the order they began, and ended
	finished       int
	there          int   // of those, files that need not be sent
	known          int   // files that are known to come
	knownBytes     int64 // and their bytes
	total, moved   int64 // of the files that have begun
	carried        int64 // bytes that went through a network or disk, in all rounds
	carriedFiles   int   // files that have come to their end so
	scannedFiles   int   // files that were only looked at
	speed          speedometer
	step, stepWhat string // the latest step that is no file
	settled        bool   // nothing is moving: the step is shown
}

// fileProgress is one file on its way.
type fileProgress struct {
	path, phase  string
	done, total  int64
	began, ended time.Time
	speed        speedometer
	over         bool
	looked       bool // it is scanned: looked at, not moved
	order        int
}

// endedKept is how many files are remembered that could still be shown.
const endedKept = 128

// expect says what is to come, so that the whole has a size from the start.
func (b *progress) expect(files int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known += files
	b.knownBytes += bytes
}

// event takes what the transport reports.
func (b *progress) event(e oci.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	f := b.files[e.Path]
	if f == nil {
		f = &fileProgress{path: e.Path, began: now, order: len(b.files), looked: e.Phase == "scan"}
		b.files[e.Path] = f
		b.active = append(b.active, f)
	}
	b.settled = false
	b.total += e.Total - f.total
	changed := f.phase != e.Phase
	delta := e.Done - f.done
	b.moved += delta
	f.phase, f.done, f.total = e.Phase, e.Done, e.Total
	if e.Phase != "skip" {
		f.speed.add(delta, now)
		b.speed.add(delta, now)
		if !f.looked && e.Phase != "hash" {
			b.carried += max(delta, 0)
		}
	}
	if !f.over && (e.Phase == "done" || e.Phase == "skip") {
		b.end(f, now)
	}
	if changed {
		b.state(f, now)
	}
}

// end takes a file from the active ones.
func (b *progress) end(f *fileProgress, now time.Time) {
	f.over, f.ended = true, now
	b.finished++
	switch {
	case f.looked:
		b.scannedFiles++
	case f.phase == "skip":
		b.there++
	default:
		b.carriedFiles++
	}
	kept := b.active[:0]
	for _, a := range b.active {
		if a != f {
			kept = append(kept, a)
		}
	}
	b.active = kept
	if b.ended = append(b.ended, f); len(b.ended) > 2*endedKept {
		b.ended = append(b.ended[:0], b.ended[endedKept:]...)
	}
}

// scanned takes what a scan reports; read is how many bytes of the file it took.
func (b *progress) scanned(e scan.Event, read int64) {
	b.mu.Lock()
	b.known = max(b.known, e.Files)
	b.mu.Unlock()
	phase := "scan"
	if e.Done {
		phase = "done"
	}
	b.event(oci.Event{Path: e.Path, Phase: phase, Done: read, Total: read})
}

// again forgets the files: another round over the same ones begins.
func (b *progress) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files, b.active, b.ended = map[string]*fileProgress{}, nil, nil
	b.finished, b.known, b.knownBytes, b.total, b.moved, b.speed = 0, 0, 0, 0, 0, speedometer{}
}

// track shows work on a file that we do ourselves. What is written to it counts.
func (b *progress) track(phase, path string, total int64) *tracked {
	t := &tracked{b: b, e: oci.Event{Path: path, Phase: phase, Total: total}}
	b.event(t.e)
	return t
}

type tracked struct {
	b *progress
	e oci.Event
}

// Write counts bytes.
func (t *tracked) Write(p []byte) (int, error) {
	t.at(t.e.Done + int64(len(p)))
	return len(p), nil
}

// at says how far it is.
func (t *tracked) at(done int64) {
	t.e.Done = done
	t.b.event(t.e)
}

// done says that it is complete.
func (t *tracked) done() {
	t.e.Phase, t.e.Done = "done", t.e.Total
	t.b.event(t.e)
}

// say reports a step that is not a transfer.
func (b *progress) say(phase, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.step, b.stepWhat, b.settled = phase, what, true
	b.stepState(phase, what)
}

func (b *progress) loop() {
	tick := time.NewTicker(frameInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
			b.frame()
		}
	}
}

// frame draws on a terminal, or tells after a silence that the work goes on.
func (b *progress) frame() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.mode {
	case "plain":
		b.heartbeat()
	case "live":
		b.screen.draw(b.w, b.lines(b.screen.page(), b.screen.rows()))
	}
}

// whole is how many files and bytes there are, as far as is known.
func (b *progress) whole() (files int, bytes int64) {
	return max(b.known, len(b.files)), max(b.knownBytes, b.total)
}

// finish ends the display of work that has succeeded. What was done stays as one
// line: uploaded 3 files, 1.2 GB in 34s (35.3 MB/s).
func (b *progress) finish(verb string) {
	b.mu.Lock()
	b.good = true
	line, mode := b.summary(verb), b.mode
	b.mu.Unlock()
	b.close()
	if line != "" && (mode == "live" || mode == "plain" && b.carried > 0) {
		fmt.Fprintln(b.w, line)
	}
}

func (b *progress) summary(verb string) string {
	in := b.now().Sub(b.started)
	if b.carried == 0 && b.scannedFiles > 0 && in >= time.Second {
		return fmt.Sprintf("%s %s in %s", verb, plural(b.scannedFiles, "file"), durationText(in))
	}
	if b.carried == 0 {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s, %s in %s", verb, plural(b.carriedFiles, "file"), bytesText(b.carried), durationText(in))
	if in >= time.Second {
		fmt.Fprintf(&out, " (%s)", speedText(float64(b.carried)/in.Seconds()))
	}
	if b.there > 0 {
		fmt.Fprintf(&out, "; %s there already", plural(b.there, "file"))
	}
	return out.String()
}

// close ends the display; on a terminal its lines are removed. It may be
// called more than once.
func (b *progress) close() {
	b.once.Do(func() {
		close(b.stop)
		b.work.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		switch b.mode {
		case "live":
			b.screen.leave(b.w)
		case "json":
			b.lastEvent()
		}
		b.mode = "none"
		if b.restore != nil {
			b.restore()
		}
	})
}

func speedText(perSecond float64) string { return bytesText(int64(perSecond)) + "/s" }

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	number, unit := bytesParts(n)
	return number + " " + unit
}

func bytesParts(n int64) (number, unit string) {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprint(n), "B"
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f", v), units[i:i+1] + "B"
}

// parameterText writes a number of parameters as model names do: 124M, 7B.
func parameterText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}} {
		if n >= u.size {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(u.size)), ".0") + u.name
		}
	}
	return fmt.Sprint(n)
}
