package cli

import (
	"encoding/json"
	"fmt"
	"time"
)

// progressEvent is a line of --progress json. Readers skip kinds and fields that
// they do not know.
type progressEvent struct {
	Event   string  `json:"event"` // file, step, end
	Phase   string  `json:"phase,omitempty"`
	Path    string  `json:"path,omitempty"`
	Done    int64   `json:"done,omitempty"`  // bytes
	Total   int64   `json:"total,omitempty"` // bytes
	Result  string  `json:"result,omitempty"`
	Files   int     `json:"files,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

func (b *progress) printEvent(e progressEvent) {
	line, err := json.Marshal(e)
	if err == nil {
		fmt.Fprintf(b.w, "%s\n", hashCommand.ReplaceAll(line, []byte(`#\u0023$1`)))
	}
}

// state prints that a file's state has changed, where states are lines; b.mu is
// held.
func (b *progress) state(f *fileProgress, now time.Time) {
	switch b.mode {
	case "plain":
		if f.looked {
			return // thousands of lines that the report repeats
		}
		line := fmt.Sprintf("%-8s %s", f.phase, oneLine(f.path))
		if f.total > 0 {
			line += "  " + bytesText(f.total)
		}
		if in := f.ended.Sub(f.began); f.phase == "done" && in >= time.Second {
			line += fmt.Sprintf(" in %s (%s)", durationText(in), speedText(float64(f.speed.bytes)/in.Seconds()))
		}
		fmt.Fprintln(b.w, printable(line))
		b.lastOut = now
	case "json":
		e := progressEvent{Event: "file", Phase: f.phase, Path: f.path, Done: f.done, Total: f.total}
		if f.over {
			e.Seconds = seconds(f.ended.Sub(f.began))
		}
		b.printEvent(e)
	}
}

// stepState is state for a step that is no file.
func (b *progress) stepState(phase, what string) {
	switch b.mode {
	case "plain":
		fmt.Fprintf(b.w, "%-8s %s\n", phase, oneLine(what))
		b.lastOut = b.now()
	case "json":
		b.printEvent(progressEvent{Event: "step", Phase: phase, Path: what})
	}
}

// heartbeat prints, after a silence, how far it is: who reads a log must see
// that something happens, and not every per cent of it.
func (b *progress) heartbeat() {
	now := b.now()
	files, bytes := b.whole()
	if len(b.files) == 0 && b.step == "" || now.Sub(b.lastOut) <= heartbeatInterval {
		return
	}
	b.lastOut = now
	line := fmt.Sprintf("%-8s %s", "still", b.step+" "+b.stepWhat)
	if files > 0 {
		line = fmt.Sprintf("%-8s %d of %s", "still", b.finished, plural(files, "file"))
	}
	if bytes > 0 && len(b.files) > 0 {
		line += fmt.Sprintf(", %s of %s", bytesText(b.moved), bytesText(bytes))
		if speed, ok := b.speed.perSecond(now); ok {
			line += ", " + speedText(speed)
			if left := timeLeft(bytes-b.moved, speed); left != "" {
				line += ", " + left + " left"
			}
		}
	}
	fmt.Fprintln(b.w, printable(line))
}

// lastEvent says how it ended.
func (b *progress) lastEvent() {
	result := "failed"
	if b.good {
		result = "ok"
	}
	b.printEvent(progressEvent{Event: "end", Result: result, Files: b.finished, Done: b.moved, Seconds: seconds(b.now().Sub(b.started))})
}

// seconds are exact to the millisecond.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
