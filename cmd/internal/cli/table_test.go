package cli

import (
	"bytes"
	"strings"
	"testing"
)

func sampleTable() *table {
	t := newTable(
		column{title: "FILE", cut: cutMiddle, least: 10},
		column{title: "SIZE", number: true, drop: 1},
		column{title: "EMPTY", drop: 9},
		column{title: "WHY", cut: cutEnd, drop: 2},
	)
	t.row(text("weights/model-00001-of-00002.safetensors"), text("4.9 GB"), text(""), styled(good, "strictly valid, kept as it is"))
	t.row(text("模型/配置.json"), text("12 B"), text(""), text("ok"))
	t.row(text("evil\x1b[2J\nFILE"), text("0 B"))
	return t
}

// TestTableFits: in any window no line is wider than it, and no line is cut
// where nothing is a terminal.
func TestTableFits(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{1, 2, 5, 10, 16, 20, 30, 40, 60, 80, 200} {
		var out bytes.Buffer
		if err := sampleTable().print(&page{Writer: &out, columns: columns}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if w := textWidth(strings.TrimSuffix(line, "\n")); w > columns {
				t.Errorf("%d columns: a line takes %d: %q", columns, w, line)
			}
		}
		if n := strings.Count(out.String(), "\n"); n != 4 {
			t.Errorf("%d columns: %d lines, want 4", columns, n)
		}
	}
	for columns, want := range map[int]string{
		0: "FILE                                        SIZE  WHY\n" +
			"weights/model-00001-of-00002.safetensors  4.9 GB  strictly valid, kept as it is\n" +
			"模型/配置.json                              12 B  ok\n" +
			`evil\x1b[2J\nFILE                            0 B` + "\n",
		40: "FILE               SIZE  WHY\n" +
			"weig…afetensors  4.9 GB  strictly valid…\n" +
			"模型/配置.json     12 B  ok\n" +
			`evil…b[2J\nFILE     0 B` + "\n",
		20: "FILE        WHY\n" +
			"wei…ensors  strictl…\n" +
			"模…置.json  ok\n" +
			`evi…\nFILE` + "\n",
	} {
		var out bytes.Buffer
		if err := sampleTable().print(&page{Writer: &out, columns: columns}); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%d columns:\n%s\nwant\n%s", columns, out.String(), want)
		}
	}
}

// TestTableColours: a colour ends where its cell ends, and takes no room.
func TestTableColours(t *testing.T) {
	t.Parallel()
	var plain, painted bytes.Buffer
	for out, colour := range map[*bytes.Buffer]bool{&plain: false, &painted: true} {
		if err := sampleTable().print(&page{Writer: out, columns: 80, colour: colour}); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(painted.String(), "\x1b[32mstrictly valid, kept as it is\x1b[0m\n") {
		t.Errorf("no green cell: %q", painted.String())
	}
	bare := strings.NewReplacer("\x1b[0m", "", "\x1b[32m", "", "\x1b[1m", "").Replace(painted.String())
	if bare != plain.String() {
		t.Errorf("with colours:\n%s\nwithout:\n%s", bare, plain.String())
	}
}

func TestTextWidth(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		"": 0, "abc": 3, "żółć": 4, "e\u0301": 1, "模型": 4, "ﬀ": 1, "Ａ": 2, "한국": 4, "\u1112\u1161\u11ab": 2, "😀": 2, "…": 1, "█": 1, "✓": 1,
	} {
		if got := textWidth(in); got != want {
			t.Errorf("%q takes %d columns, want %d", in, got, want)
		}
	}
}

// TestCuts: what is cut takes no more than its columns, never tears a character
// from its marks, and keeps its end where that says most.
func TestCuts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cut  func(string, int) string
		in   string
		n    int
		want string
	}{
		{cutEnd, "strictly valid", 14, "strictly valid"},
		{cutEnd, "strictly valid", 9, "strictly…"},
		{cutEnd, "模型模型", 4, "模…"},
		{cutEnd, "abc", 1, "…"},
		{cutEnd, "abc", 0, ""},
		{cutMiddle, "a/b/model.safetensors", 12, "a/b…etensors"},
		{cutMiddle, "dir/ééééé", 7, "di…éééé"},
		{cutMiddle, "模型模型模型", 6, "…模型"},
		{cutMiddle, "abc", 1, "…"},
		{cutMiddle, "abc", 0, ""},
		{cutMiddle, "xe\u0301\u0301y", 2, "…y"},
	} {
		got := c.cut(c.in, c.n)
		if textWidth(got) > c.n {
			t.Errorf("%q in %d columns is %q, %d columns", c.in, c.n, got, textWidth(got))
		}
		if got != c.want {
			t.Errorf("%q in %d columns is %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func TestWrapped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n    int
		want string
	}{
		{0, "do not load this file-with-a-long-name"},
		{80, "do not load this file-with-a-long-name"},
		{12, "do not load|this|file-with-a-long-name"},
		{1, "do|not|load|this|file-with-a-long-name"},
	} {
		if got := strings.Join(wrapped("do not load this file-with-a-long-name", c.n), "|"); got != c.want {
			t.Errorf("%d columns: %q, want %q", c.n, got, c.want)
		}
	}
}

func TestColoured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		color string
		env   string
		tty   bool
		want  bool
	}{
		{"auto", "TERM=xterm", true, true},
		{"auto", "TERM=xterm", false, false},
		{"auto", "TERM=dumb", true, false},
		{"auto", "TERM=xterm NO_COLOR=1", true, false},
		{"auto", "TERM=xterm NO_COLOR=", true, true},
		{"auto", "TERM=xterm CLICOLOR=0", true, false},
		{"auto", "CLICOLOR_FORCE=1", false, true},
		{"auto", "CLICOLOR_FORCE=0", false, false},
		{"auto", "CLICOLOR_FORCE=1 NO_COLOR=1", false, false},
		{"always", "NO_COLOR=1", false, true},
		{"never", "CLICOLOR_FORCE=1 TERM=xterm", true, false},
	} {
		s := &streams{color: c.color, env: variables(strings.Fields(c.env))}
		if got := s.coloured(c.tty); got != c.want {
			t.Errorf("--color %s, %s, terminal %v: %v, want %v", c.color, c.env, c.tty, got, c.want)
		}
	}
}
