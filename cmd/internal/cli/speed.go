package cli

import (
	"fmt"
	"time"
)

const (
	speedWindow   = 4 * time.Second        // what a speed is measured over
	speedInterval = 100 * time.Millisecond // between two samples
)

// speedometer measures the speed of the last seconds: an average since the start
// would say for minutes that a stalled transfer goes on.
type speedometer struct {
	bytes   int64 // so far
	samples []speedSample
}

type speedSample struct {
	at    time.Time
	bytes int64
}

// add counts bytes that have moved.
func (s *speedometer) add(n int64, now time.Time) {
	if len(s.samples) == 0 {
		s.samples = append(s.samples, speedSample{now, s.bytes})
	}
	s.bytes += max(n, 0)
	if now.Sub(s.samples[len(s.samples)-1].at) < speedInterval {
		return
	}
	s.samples = append(s.samples, speedSample{now, s.bytes})
	old := 0
	for old < len(s.samples)-1 && now.Sub(s.samples[old].at) > speedWindow {
		old++
	}
	s.samples = append(s.samples[:0], s.samples[old:]...)
}

// perSecond is the speed in bytes a second; false while it is too early to say.
func (s *speedometer) perSecond(now time.Time) (float64, bool) {
	for _, first := range s.samples {
		in := now.Sub(first.at)
		if in > speedWindow {
			continue
		}
		if in < time.Second/2 {
			return 0, false
		}
		return float64(s.bytes-first.bytes) / in.Seconds(), true
	}
	return 0, len(s.samples) > 0 // nothing has moved for as long as the window
}

// timeLeft says how long the rest will take, as people read it; "" when nobody
// can say.
func timeLeft(rest int64, speed float64) string {
	if rest <= 0 || speed < 1 {
		return ""
	}
	return durationText(time.Duration(float64(rest) / speed * float64(time.Second)))
}

// durationText writes a time in at most six characters: 450ms, 45s, 1m45s, 2h05m.
func durationText(d time.Duration) string {
	switch {
	case d < 0 || d > 99*time.Hour:
		return ">99h"
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d.Round(time.Second) < time.Hour:
		return d.Round(time.Second).String()
	}
	minutes := int(d.Round(time.Minute) / time.Minute)
	return fmt.Sprintf("%dh%02dm", minutes/60, minutes%60)
}
