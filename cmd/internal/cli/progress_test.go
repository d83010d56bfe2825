package cli

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/scan"
)

func TestBytesText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 160640: "160.6 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 2 << 30: "2.1 GB", 1 << 62: "4.6 EB"} {
		if got := bytesText(n); !strings.EqualFold(got, want) {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1500: "1.5K", 124_000_000: "124M", 7_000_000_000: "7B"} {
		if got := parameterText(n); got != want {
			t.Errorf("parameterText(%d) = %q, want %q", n, got, want)
		}
	}
	for _, c := range []struct {
		done, total int64
		want        string
	}{{0, 0, ""}, {1500, 0, "1.5 kB"}, {12, 900, "12/900 B"}, {0, 4_900_000_000, "0.0/4.9 GB"}, {999_940_000, 999_940_000, "999.9/999.9 MB"}} {
		if got := amountText(c.done, c.total); got != c.want || textWidth(got) > amountWidth {
			t.Errorf("%d of %d is %q, want %q", c.done, c.total, got, c.want)
		}
	}
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 12 * time.Millisecond: "10ms", 1234 * time.Millisecond: "1.2s", 45 * time.Second: "45s", 59*time.Second + 600*time.Millisecond: "1m0s",
		105 * time.Second: "1m45s", 3599600 * time.Millisecond: "1h00m", 125 * time.Minute: "2h05m", 1e9 * time.Second: ">99h", -1: ">99h",
	} {
		if got := durationText(d); got != want || len(got) > leftWidth {
			t.Errorf("%d ns is %q, want %q", d, got, want)
		}
	}
}

// TestSpeedIsOfTheLastSeconds: a transfer that stalls is seen to stall.
func TestSpeedIsOfTheLastSeconds(t *testing.T) {
	t.Parallel()
	var s speedometer
	now := time.Unix(0, 0)
	if _, ok := s.perSecond(now); ok {
		t.Error("a speed before anything has moved")
	}
	for range 100 { // ten seconds at 1 MB/s
		s.add(100_000, now)
		now = now.Add(100 * time.Millisecond)
	}
	if got, ok := s.perSecond(now); !ok || got < 0.9e6 || got > 1.1e6 {
		t.Errorf("%.0f bytes a second, want 1000000", got)
	}
	if len(s.samples) > 50 {
		t.Errorf("%d samples are kept", len(s.samples))
	}
	half, _ := s.perSecond(now.Add(2 * time.Second))
	if half > 0.8e6 || half < 0.4e6 {
		t.Errorf("%.0f bytes a second after two seconds of silence", half)
	}
	if got, ok := s.perSecond(now.Add(time.Minute)); got != 0 || !ok {
		t.Errorf("%.0f bytes a second after a minute of silence", got)
	}
}

// clock is a time that the test moves on.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func tracker(w io.Writer, mode string, columns, rows int) (*progress, *clock) {
	c := &clock{now: time.Unix(1e9, 0)}
	b := newProgress(w, mode)
	b.now = func() time.Time { return c.now }
	b.started, b.lastOut = c.now, c.now
	b.screen = &screen{page: func() *page { return &page{Writer: w, columns: columns} }, rows: func() int { return rows }}
	return b, c
}

func events(b *progress) {
	b.say("scan", "2 files")
	b.event(oci.Event{Path: "a", Phase: "upload", Total: 2000})
	b.event(oci.Event{Path: "a", Phase: "upload", Done: 1000, Total: 2000})
	b.event(oci.Event{Path: "a", Phase: "done", Done: 2000, Total: 2000})
	b.event(oci.Event{Path: "evil\x1b[2J", Phase: "skip", Done: 5, Total: 5})
}

func TestProgressPlain(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := (&progressFlags{mode: "auto"}).start(&streams{err: &out})
	events(b)
	b.close()
	b.close()
	want := "scan     2 files\nupload   a  2.0 kB\ndone     a  2.0 kB\nskip     evil\\x1b[2J  5 B\n"
	if out.String() != want {
		t.Errorf("plain progress:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TestProgressPlainLong: the end of a file says how long it took, a silence is
// broken by a heartbeat, and the last line says what was done.
func TestProgressPlainLong(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b, clock := tracker(&out, "plain", 0, 0)
	b.expect(2, 80e6)
	b.event(oci.Event{Path: "a", Phase: "upload", Total: 60e6})
	for i := range int64(40) {
		b.event(oci.Event{Path: "a", Phase: "upload", Done: i * 1e6, Total: 60e6})
		b.frame()
		clock.pass(time.Second)
	}
	b.event(oci.Event{Path: "a", Phase: "done", Done: 60e6, Total: 60e6})
	b.event(oci.Event{Path: "b", Phase: "skip", Done: 20e6, Total: 20e6})
	b.finish("uploaded")
	want := `upload   a  60.0 MB
still    0 of 2 files, 16.0 MB of 80.0 MB, 1.0 MB/s, 1m4s left
still    0 of 2 files, 32.0 MB of 80.0 MB, 1.0 MB/s, 48s left
done     a  60.0 MB in 40s (1.5 MB/s)
skip     b  20.0 MB
uploaded 1 file, 60.0 MB in 40s (1.5 MB/s); 1 file there already
`
	if out.String() != want {
		t.Errorf("plain progress:\n%s\nwant:\n%s", out.String(), want)
	}
}

var withoutSeconds = regexp.MustCompile(`,"seconds":[0-9.]+`)

func TestProgressJSONAndNone(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := (&progressFlags{mode: "json"}).start(&streams{err: &out, errTTY: true})
	events(b)
	b.good = true
	b.close()
	want := `{"event":"step","phase":"scan","path":"2 files"}
{"event":"file","phase":"upload","path":"a","total":2000}
{"event":"file","phase":"done","path":"a","done":2000,"total":2000}
{"event":"file","phase":"skip","path":"evil\u001b[2J","done":5,"total":5}
{"event":"end","done":2005,"result":"ok","files":2}
`
	if got := withoutSeconds.ReplaceAllString(out.String(), ""); got != want {
		t.Errorf("json progress:\n%s\nwant:\n%s", got, want)
	}
	out.Reset()
	b = (&progressFlags{mode: "none"}).start(&streams{err: &out, errTTY: true})
	events(b)
	b.finish("uploaded")
	if out.Len() > 0 {
		t.Errorf("no progress: %q", out.String())
	}
}

// TestProgressLive: the cursor is hidden while there are frames, nothing of them
// is left, and the last line stays.
func TestProgressLive(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &streams{err: &out, errTTY: true, env: map[string]string{"TERM": "xterm"}}
	b := (&progressFlags{mode: "auto"}).start(s)
	events(b)
	for i := range 20 {
		b.event(oci.Event{Path: strings.Repeat("x", i+1), Phase: "upload", Total: 10})
	}
	b.frame()
	fmt.Fprintln(s.err, "warning: over the frame")
	b.frame()
	b.finish("uploaded")
	got := out.String()
	if !strings.HasPrefix(got, hideCursor) || strings.Count(got, hideCursor) != 1 || strings.Count(got, showCursor) != 1 {
		t.Errorf("the cursor is not hidden and shown once: %q", got)
	}
	if !strings.Contains(got, clearBelow+"warning: over the frame\n") {
		t.Errorf("a warning does not take the frame's place: %q", got)
	}
	if !strings.Contains(got, clearBelow+showCursor+"uploaded 1 file, 2.0 kB in ") {
		t.Errorf("the live lines are not removed at the end: %q", got)
	}
	if s.err != io.Writer(&out) {
		t.Error("standard error is not given back")
	}
}

// TestFrames: whatever the window, a frame takes no more than half of its height,
// no line is as wide as it, and the latest files are there.
func TestFrames(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{1, 10, 20, 33, 40, 50, 60, 70, 80, 99, 100, 120, 200} {
		for _, rows := range []int{1, 4, 10, 24, 50} {
			b, clock := tracker(io.Discard, "live", columns, rows)
			b.expect(5000, 5000*999_940_000)
			for i := range 5000 {
				path := fmt.Sprintf("模型/e\u0301/model-%05d-of-05000.safetensors", i+1)
				b.event(oci.Event{Path: path, Phase: "download", Total: 999_940_000})
				clock.pass(10 * time.Millisecond)
				b.event(oci.Event{Path: path, Phase: "download", Done: 500_000_000, Total: 999_940_000})
				if i < 4990 {
					b.event(oci.Event{Path: path, Phase: "done", Done: 999_940_000, Total: 999_940_000})
				}
			}
			lines := b.lines(b.screen.page(), rows)
			if len(lines) > max(rows/2, 2) {
				t.Errorf("%dx%d: %d lines", columns, rows, len(lines))
			}
			for _, l := range lines {
				if w := textWidth(l.plain); w > max(columns-1, 1) || l.plain != l.painted {
					t.Errorf("%dx%d: a line takes %d: %q", columns, rows, w, l.plain)
				}
			}
			if columns >= 33 && rows > 4 && !strings.Contains(strings.ReplaceAll(lines[len(lines)-2].plain, "-of-0", "/"), "000/5000") {
				t.Errorf("%dx%d: the latest file is not there: %q", columns, rows, lines)
			}
		}
	}
}

func TestFrameText(t *testing.T) {
	t.Parallel()
	for columns, want := range map[int]string{
		20: "model 1/2       25%\n" +
			"0 of 3 files    16%\n",
		40: "upload    model 1/2         25%     16s\n" +
			"all       0 of 3 files      16%     26s\n",
		80: "upload    model-00001-of-00002          25%      1.0/4.0 GB  190.0 MB/s     16s\n" +
			"all       0 of 3 files                  16%      1.0/6.0 GB  190.0 MB/s     26s\n",
		120: "upload    model-00001-of-00002.safetensors             █████░░░░░░░░░░░░░░░░░   25%      1.0/4.0 GB  190.0 MB/s     16s\n" +
			"all       0 of 3 files                                 ███░░░░░░░░░░░░░░░░░░░   16%      1.0/6.0 GB  190.0 MB/s     26s\n",
	} {
		b, clock := tracker(io.Discard, "live", columns, 24)
		b.expect(3, 6e9)
		b.event(oci.Event{Path: "model-00001-of-00002.safetensors", Phase: "upload", Total: 4e9})
		for i := range int64(26) {
			b.event(oci.Event{Path: "model-00001-of-00002.safetensors", Phase: "upload", Done: i * 40e6, Total: 4e9})
			clock.pass(200 * time.Millisecond)
		}
		var got strings.Builder
		for _, l := range b.lines(b.screen.page(), 24) {
			got.WriteString(l.plain + "\n")
		}
		if got.String() != want {
			t.Errorf("%d columns:\n%s\nwant\n%s", columns, got.String(), want)
		}
	}
}

// TestFramesAreCalm: what has not changed is not drawn again, and a window that
// was made narrower, where lines now take several rows, is left clean.
func TestFramesAreCalm(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	columns := 80
	sc := &screen{page: func() *page { return &page{columns: columns} }}
	lines := []line{{"a line of sixty columns, which is broken into two at forty...", "painted"}, {"short", "short"}}
	sc.draw(&out, lines)
	first := out.Len()
	sc.draw(&out, lines)
	if out.Len() != first {
		t.Errorf("drawn again: %q", out.String()[first:])
	}
	columns = 40
	sc.draw(&out, lines)
	if !strings.HasPrefix(out.String()[first:], "\r\x1b[3A") {
		t.Errorf("does not go up by three rows: %q", out.String()[first:])
	}
	if sc.draw(&out, lines[1:]); !strings.HasSuffix(out.String(), clearLine+"short\n"+clearBelow) {
		t.Errorf("what is left over is not removed: %q", out.String())
	}
}

// TestProgressOfScan: thousands of files are counted, and only the count is text.
func TestProgressOfScan(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b, clock := tracker(&out, "plain", 80, 24)
	b.say("scan", "dir")
	for i := range 600 {
		e := scan.Event{Path: fmt.Sprint(i), Size: 10, Files: 1000}
		b.scanned(e, 0)
		clock.pass(50 * time.Millisecond)
		e.Done = true
		b.scanned(e, 4096)
		b.frame()
	}
	all := b.lines(b.screen.page(), 24)
	if got := all[len(all)-1].plain; !strings.HasPrefix(got, "all       600 of 1000 files") || !strings.Contains(got, "60%") || !strings.Contains(got, "2.5 MB") {
		t.Errorf("%q", got)
	}
	b.finish("scanned")
	if want := "scan     dir\nstill    301 of 1000 files, 1.2 MB of 1.2 MB, 81.9 kB/s\n"; out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}
