package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/oci"
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

func TestProgressJSONAndNone(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := (&progressFlags{mode: "json"}).start(&streams{err: &out, errTTY: true})
	events(b)
	b.close()
	if got := strings.Count(out.String(), "\n"); got != 4 || !strings.Contains(out.String(), `{"phase":"done","path":"a","total":2000}`) {
		t.Errorf("json progress: %s", out.String())
	}
	out.Reset()
	b = (&progressFlags{mode: "none"}).start(&streams{err: &out, errTTY: true})
	events(b)
	b.close()
	if out.Len() > 0 {
		t.Errorf("no progress: %q", out.String())
	}
}

func TestProgressLive(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := (&progressFlags{mode: "auto"}).start(&streams{err: &out, errTTY: true, env: map[string]string{"TERM": "xterm"}})
	events(b)
	for i := range 20 {
		b.event(oci.Event{Path: strings.Repeat("x", i+1), Phase: "upload", Total: 10})
	}
	b.frame()
	b.close()
	if n := strings.Count(out.String(), "upload"); n == 0 || n%maxLines != 0 {
		t.Errorf("%d upload lines in a frame, want %d:\n%q", n, maxLines, out.String())
	}
	if !strings.HasSuffix(out.String(), "\x1b[J") {
		t.Errorf("the live lines are not removed at the end: %q", out.String())
	}
}
