package cli

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Escape sequences of ECMA-48 and DEC's terminals.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearLine  = "\x1b[2K" // which also forgets that the terminal had broken it
	clearBelow = "\x1b[J"
)

// screen is the part of a terminal that frames are drawn on: the lines below
// what was printed before.
type screen struct {
	page    func() *page
	rows    func() int
	drawn   []string // the frame that is there, without colours
	shown   string   // the same, as it was written
	columns int      // of the terminal when it was drawn
	hidden  bool     // the cursor is
}

// line is one line of a frame: as it is measured, and as it is written.
type line struct{ plain, painted string }

// draw replaces the frame. Nothing is written when nothing has changed.
func (sc *screen) draw(w io.Writer, lines []line) {
	columns := sc.page().columns
	var body strings.Builder
	plain := make([]string, len(lines))
	for i, l := range lines {
		plain[i] = l.plain
		body.WriteString(clearLine + l.painted + "\n")
	}
	if body.String() == sc.shown && columns == sc.columns {
		return
	}
	var out strings.Builder
	if !sc.hidden {
		out.WriteString(hideCursor)
		sc.hidden = true
	}
	sc.rewind(&out, columns)
	out.WriteString(body.String() + clearBelow)
	_, _ = io.WriteString(w, out.String())
	sc.drawn, sc.shown, sc.columns = plain, body.String(), columns
}

// rewind moves to the first line of the frame. A terminal that has become
// narrower has broken its lines into several.
func (sc *screen) rewind(out *strings.Builder, columns int) {
	rows := 0
	for _, l := range sc.drawn {
		rows += max((textWidth(l)+columns-1)/max(columns, 1), 1)
	}
	if rows > 0 {
		fmt.Fprintf(out, "\r\x1b[%dA", rows)
	}
}

// wipe removes the frame, for text that is to stay.
func (sc *screen) wipe(w io.Writer) {
	var out strings.Builder
	sc.rewind(&out, sc.page().columns)
	if out.Len() > 0 {
		_, _ = io.WriteString(w, out.String()+clearBelow)
	}
	sc.drawn, sc.shown = nil, ""
}

// leave removes everything and gives the cursor back.
func (sc *screen) leave(w io.Writer) {
	sc.wipe(w)
	if sc.hidden {
		_, _ = io.WriteString(w, showCursor)
		sc.hidden = false
	}
}

func rowsOf(size termSize) int {
	if size != nil {
		if _, rows := size(); rows > 0 {
			return rows
		}
	}
	return 24
}

// takeOver puts the frames under whatever else is written to standard error
// meanwhile, and gives a function that ends that.
func (b *progress) takeOver(s *streams) func() {
	own := s.err
	s.err = &above{b: b, w: own}
	stop := b.watchSuspend()
	return func() {
		stop()
		s.err = own
	}
}

// above writes text over the frame.
type above struct {
	b *progress
	w io.Writer
}

// Write wipes the frame first; the next one comes below the text.
func (a *above) Write(p []byte) (int, error) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	if a.b.mode == "live" {
		a.b.screen.wipe(a.w)
	}
	return a.w.Write(p)
}

// whileSuspended removes the frame, and draws none while the shell has the
// terminal.
func (b *progress) whileSuspended(suspend func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mode == "live" {
		b.screen.leave(b.w)
	}
	suspend()
}

// lines is one frame: the latest files, at most half of the terminal's height,
// and the whole. b.mu is held.
func (b *progress) lines(p *page, rows int) []line {
	now := b.now()
	if len(b.files) == 0 || b.settled {
		if b.step == "" {
			return nil
		}
		return []line{b.stepLine(p)}
	}
	var out []line
	files, bytes := b.whole()
	for _, f := range b.latest(max(rows/2-1, 1)) {
		out = append(out, layout(p, f.view(now)))
	}
	if files < 2 {
		return out
	}
	all := lineView{phase: "all", name: fmt.Sprintf("%d of %d files", b.finished, files), done: b.moved, total: bytes, share: -1, style: strong}
	switch speed, ok := b.speed.perSecond(now); {
	case b.knownBytes > 0:
		all.share = float64(b.moved) / float64(bytes)
		if ok {
			all.speed, all.left = speedText(speed), timeLeft(bytes-b.moved, speed)
		}
	default: // a scan reads no more than it needs
		all.total, all.share = 0, float64(b.finished)/float64(files)
	}
	return append(out, layout(p, all))
}

func (b *progress) stepLine(p *page) line {
	room := max(p.columns-1, 1)
	phase := cutEnd(b.step, room)
	what := cutMiddle(oneLine(b.stepWhat), max(room-10, 0))
	if room < 20 {
		return line{phase, p.paint(accent, phase)}
	}
	return line{padded(phase, 8, false) + "  " + what, p.paint(accent, padded(phase, 8, false)) + "  " + what}
}

// latest gives the files to show, in the order they began: the active ones that
// began last, and where there is room, those that ended last.
func (b *progress) latest(most int) []*fileProgress {
	active := b.active[max(len(b.active)-most, 0):]
	room := most - len(active)
	shown := append(slices.Clone(b.ended[max(len(b.ended)-room, 0):]), active...)
	slices.SortFunc(shown, func(x, y *fileProgress) int { return x.order - y.order })
	return shown
}

// lineView is what a line shows.
type lineView struct {
	phase, name string
	done, total int64
	share       float64 // of 1; below 0 when it is not known
	speed, left string
	style       style // of the phase
}

func (f *fileProgress) view(now time.Time) lineView {
	v := lineView{phase: f.phase, name: oneLine(f.path), done: f.done, total: f.total, share: -1, style: accent}
	switch {
	case f.looked || f.over && f.total == 0:
		v.total = 0
	case f.total > 0:
		v.share = float64(f.done) / float64(f.total)
	}
	if f.over {
		v.style, v.share = good, 1
		if in := f.ended.Sub(f.began); f.phase == "done" && in >= time.Second/10 {
			v.speed, v.left = speedText(float64(f.speed.bytes)/in.Seconds()), durationText(in)
		}
		return v
	}
	if f.phase == "retry" {
		v.style = doubtful
	}
	if speed, ok := f.speed.perSecond(now); ok && v.total > 0 {
		v.speed, v.left = speedText(speed), timeLeft(f.total-f.done, speed)
	}
	return v
}

// The widths of a line's parts, in columns. leastName is what a path keeps.
const (
	phaseWidth   = 8
	percentWidth = 4
	amountWidth  = 14
	speedWidth   = 10
	leftWidth    = 6
	leastName    = 12
	barFrom      = 100 // columns from which there is a bar
)

// linePart is a part of a line beside the name.
type linePart struct {
	text   string
	width  int // 0: it is left out
	number bool
	drop   int // 1 goes first
	style  style
}

// layout makes a line that fits. What there is no room for is left out: first
// the bytes, then the speed, the phase, the time left, and last the percentage.
func layout(p *page, v lineView) line {
	room := max(p.columns-1, 1) // a full line would wrap on some terminals
	phase := linePart{text: v.phase, width: phaseWidth, drop: 3, style: v.style}
	numbers := []linePart{
		{text: percentText(v.share), width: percentWidth, number: true, drop: 5},
		{text: amountText(v.done, v.total), width: amountWidth, number: true, drop: 1},
		{text: v.speed, width: speedWidth, number: true, drop: 2},
		{text: v.left, width: leftWidth, number: true, drop: 4, style: faint},
	}
	parts := append([]linePart{phase}, numbers...)
	name := func() int {
		n := room
		for _, x := range parts {
			if x.width > 0 {
				n -= x.width + columnGap
			}
		}
		return n
	}
	for drop := 1; name() < leastName && drop <= len(parts); drop++ {
		for i := range parts {
			if parts[i].drop == drop {
				parts[i].width = 0
			}
		}
	}
	n := max(name(), 1)
	middle := []linePart{{text: cutName(v.name, n), width: n}}
	if p.columns >= barFrom {
		bar := min(max(n/3, 10), 40)
		n -= bar + columnGap
		middle = []linePart{{text: cutName(v.name, n), width: n}, {text: barText(v.share, bar), width: bar, style: v.style}}
	}
	return joinParts(p, slices.Insert(parts, 1, middle...))
}

func joinParts(p *page, parts []linePart) line {
	var plain, painted []string
	for _, x := range parts {
		if x.width > 0 {
			content := padded(x.text, x.width, x.number)
			plain, painted = append(plain, content), append(painted, p.paint(x.style, content))
		}
	}
	gap := strings.Repeat(" ", columnGap)
	return line{strings.Join(plain, gap), strings.Join(painted, gap)}
}

// shardName is the end of the names of shards, which differ in its number only.
var shardName = regexp.MustCompile(`-0*(\d+)-of-0*(\d+)\.\w+$`)

// cutName shortens a path so that its end stays, and of a shard its number.
func cutName(path string, n int) string {
	if textWidth(path) <= n {
		return path
	}
	if m := shardName.FindStringSubmatchIndex(path); m != nil {
		if bare := path[:m[5]]; textWidth(bare) <= n { // without .safetensors
			return bare
		}
		path = path[:m[0]] + " " + path[m[2]:m[3]] + "/" + path[m[4]:m[5]]
	}
	return cutMiddle(path, n)
}

func percentText(share float64) string {
	if share < 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", int(min(share, 1)*100))
}

// amountText writes 1.2/4.9 GB, in the unit of the whole.
func amountText(done, total int64) string {
	if total <= 0 {
		if done <= 0 {
			return ""
		}
		return bytesText(done)
	}
	number, unit := bytesParts(total)
	scale := int64(1)
	for u := range strings.SplitSeq("B kB MB GB TB PB EB", " ") {
		if u == unit {
			break
		}
		scale *= 1000
	}
	if scale == 1 {
		return fmt.Sprintf("%d/%s %s", done, number, unit)
	}
	return fmt.Sprintf("%.1f/%s %s", float64(done)/float64(scale), number, unit)
}

// barText draws a share; nothing for what is not known.
func barText(share float64, columns int) string {
	if share < 0 {
		return ""
	}
	full := int(min(share, 1) * float64(columns))
	return strings.Repeat("█", full) + strings.Repeat("░", columns-full)
}
