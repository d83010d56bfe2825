package format

import (
	"bytes"
	"io"
	"testing"
)

// TestStreams: of many streams the last few stay open, and one that was let go
// gives the same bytes again.
func TestStreams(t *testing.T) {
	t.Parallel()
	var group Streams
	opened := 0
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	all := make([]*Stream, 3*openStreams)
	for i := range all {
		all[i] = group.New(int64(len(content)), func() (io.Reader, error) { opened++; return bytes.NewReader(content), nil })
	}
	for range 2 {
		for i, s := range all {
			got := make([]byte, 1000)
			if n, err := s.ReadAt(got, 500_000); n < len(got) || !bytes.Equal(got, content[500_000:501_000]) {
				t.Fatal(i, n, err)
			}
		}
		open := 0
		for _, s := range all {
			if s.window != nil {
				open++
			}
		}
		if open != openStreams {
			t.Errorf("%d streams are open, not %d", open, openStreams)
		}
	}
	if opened != 2*len(all) {
		t.Errorf("opened %d times", opened)
	}
	last := all[len(all)-1]
	if _, err := last.ReadAt(make([]byte, 10), 600_000); err != nil || opened != 2*len(all) {
		t.Errorf("an open stream was opened again: %v", err)
	}
}
