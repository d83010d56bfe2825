package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/oci"
)

const (
	frameInterval     = 200 * time.Millisecond
	heartbeatInterval = 15 * time.Second
	maxLines          = 8 // files shown at a time on a terminal
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
	b := &progress{w: s.err, mode: mode, width: func() int { return s.columns(s.errSize) }, files: map[string]*fileProgress{}, started: time.Now(), stop: make(chan struct{})}
	if mode == "live" || mode == "plain" {
		b.done.Add(1)
		go b.loop()
	}
	return b
}

// progress shows long work on standard error: live lines on a terminal,
// otherwise a line when a file begins and ends, and a heartbeat.
type progress struct {
	mu      sync.Mutex
	w       io.Writer
	mode    string
	files   map[string]*fileProgress
	total   int64
	moved   int64
	drawn   int // lines on the terminal that the next frame replaces
	width   func() int
	step    string // the latest step that is no transfer
	settled bool   // nothing is moving: the step is shown
	started time.Time
	lastOut time.Time
	stop    chan struct{}
	done    sync.WaitGroup
	once    sync.Once
}

type fileProgress struct {
	phase       string
	done, total int64
	started     time.Time
	order       int
}

// event takes what the transport reports.
func (b *progress) event(e oci.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.files[e.Path]
	if f == nil {
		f = &fileProgress{started: time.Now(), order: len(b.files)}
		b.files[e.Path] = f
		b.total += e.Total
	}
	b.settled = false
	changed := f.phase != e.Phase
	b.moved += e.Done - f.done
	f.phase, f.done, f.total = e.Phase, e.Done, e.Total
	if changed {
		b.state(e.Phase, e.Path, e.Total)
	}
}

// say reports a step that is not a transfer.
func (b *progress) say(phase, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state(phase, what, 0)
	b.step, b.settled = fmt.Sprintf("%-8s %s", phase, printable(what)), true
}

// state prints a change of state where states are lines; b.mu is held.
func (b *progress) state(phase, what string, size int64) {
	switch b.mode {
	case "plain":
		line := fmt.Sprintf("%-8s %s", phase, printable(what))
		if size > 0 {
			line += "  " + bytesText(size)
		}
		fmt.Fprintln(b.w, line)
		b.lastOut = time.Now()
	case "json":
		line, err := json.Marshal(struct {
			Phase string `json:"phase"`
			Path  string `json:"path"`
			Total int64  `json:"total,omitempty"`
		}{phase, what, size})
		if err == nil {
			fmt.Fprintf(b.w, "%s\n", line)
		}
	}
}

func (b *progress) loop() {
	defer b.done.Done()
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

func (b *progress) frame() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mode == "plain" {
		if b.total > 0 && time.Since(b.lastOut) > heartbeatInterval {
			fmt.Fprintf(b.w, "%-8s %s of %s\n", "moving", bytesText(b.moved), bytesText(b.total))
			b.lastOut = time.Now()
		}
		return
	}
	lines := b.lines()
	var out strings.Builder
	b.rewind(&out)
	for _, l := range lines {
		out.WriteString(b.fit(l) + "\x1b[K\n")
	}
	b.drawn = len(lines)
	io.WriteString(b.w, out.String())
}

// fit cuts a line to the terminal, since a wrapped one could not be replaced.
func (b *progress) fit(line string) string {
	width := 80
	if b.width != nil {
		width = b.width()
	}
	runes := []rune(line)
	return string(runes[:min(len(runes), max(width-1, 1))])
}

// lines is one frame: the latest active files, then the whole.
func (b *progress) lines() []string {
	if len(b.files) == 0 || b.settled {
		return []string{b.step}
	}
	var active []string
	finished := 0
	for path, f := range b.files {
		if f.phase == "done" || f.phase == "skip" {
			finished++
		} else {
			active = append(active, path)
		}
	}
	sort.Slice(active, func(i, j int) bool { return b.files[active[i]].order < b.files[active[j]].order })
	if len(active) > maxLines {
		active = active[len(active)-maxLines:]
	}
	var out []string
	for _, path := range active {
		f := b.files[path]
		out = append(out, fmt.Sprintf("%-8s %-28.28s %s", f.phase, printable(path), rate(f.done, f.total, time.Since(f.started))))
	}
	return append(out, fmt.Sprintf("%-8s %-28s %s", "all", fmt.Sprintf("%d of %d files", finished, len(b.files)), rate(b.moved, b.total, time.Since(b.started))))
}

func rate(done, total int64, in time.Duration) string {
	out := fmt.Sprintf("%9s of %9s", bytesText(done), bytesText(total))
	seconds := in.Seconds()
	if seconds < 0.5 || done == 0 {
		return out
	}
	speed := float64(done) / seconds
	left := time.Duration(float64(total-done) / speed * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s %9s/s %s", out, bytesText(int64(speed)), left)
}

// rewind moves to the first line of the last frame and clears from there on.
func (b *progress) rewind(out *strings.Builder) {
	if b.drawn > 0 {
		fmt.Fprintf(out, "\x1b[%dA\x1b[J", b.drawn)
	}
}

// close ends the display; on a terminal its lines are removed. It may be
// called more than once.
func (b *progress) close() {
	b.once.Do(func() {
		close(b.stop)
		b.done.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.mode == "live" {
			var out strings.Builder
			b.rewind(&out)
			io.WriteString(b.w, out.String())
		}
		b.mode = "none"
	})
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
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
