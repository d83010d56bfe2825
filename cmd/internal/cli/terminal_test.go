//go:build unix

package cli

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
)

// terminal is a real one: a window of tmux with a shell in it, in a folder of its
// own. tmux has a server for it alone.
type terminal struct {
	t    *testing.T
	dir  string // the shell's
	env  []string
	name string
	sent int
}

func newTerminal(t *testing.T, columns, rows int) *terminal {
	t.Helper()
	bin, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "ws") //nolint:usetesting // a socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, dir: t.TempDir(), name: "weightseal-test"}
	term.env = []string{
		"PATH=" + filepath.Dir(bin) + ":" + os.Getenv("PATH"), "HOME=" + term.dir, "TMUX_TMPDIR=" + sockets, "LANG=C.UTF-8", "TERM=xterm-256color",
		"SHELL=/bin/sh", "PS1=$ ", "COSIGN_PASSWORD=" + keyPassword,
	}
	t.Cleanup(func() {
		term.tmux("kill-server")
		os.RemoveAll(sockets)
	})
	term.tmux("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows), "-c", term.dir, "/bin/sh")
	term.wait("a prompt", func(text string) bool { return strings.HasPrefix(text, "$") })
	return term
}

// tmux gives a command to the server, and its output.
func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-L", term.name}, args...)...)
	cmd.Env, cmd.Dir = term.env, term.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// look gives what the window shows, lines that were wrapped in one.
func (term *terminal) look(flags ...string) string {
	text := term.tmux(append([]string{"capture-pane", "-p", "-J"}, flags...)...)
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

func (term *terminal) wait(what string, reached func(text string) bool) string {
	term.t.Helper()
	var text string
	for range 2400 { // a minute
		if text = term.look(); reached(text) {
			return text
		}
		time.Sleep(25 * time.Millisecond)
	}
	term.t.Fatalf("the terminal never shows %s:\n%s", what, text)
	return ""
}

// begin types a command into a window that is empty but for it.
func (term *terminal) begin(command string) {
	term.sent++
	term.tmux("send-keys", "-l", fmt.Sprintf("clear; echo begin %d; %s; echo end %d: $?", term.sent, command, term.sent))
	term.tmux("send-keys", "Enter")
}

// end waits for the command's end, and gives what the window shows of it.
func (term *terminal) end(code int) string {
	term.t.Helper()
	mark := fmt.Sprintf("\nend %d: ", term.sent)
	term.wait("the end", func(text string) bool {
		_, rest, ended := strings.Cut("\n"+text, mark)
		return ended && strings.Contains(rest, "\n$")
	})
	_, text, _ := strings.Cut("\n"+term.look("-S", "-"), fmt.Sprintf("\nbegin %d\n", term.sent))
	shown, rest, _ := strings.Cut("\n"+text, mark)
	if want := fmt.Sprintf("%d\n$", code); !strings.HasPrefix(rest, want) {
		term.t.Errorf("it ends with %q, want %q:\n%s", rest, want, text)
	}
	if visible := strings.TrimSpace(term.tmux("display-message", "-p", "#{cursor_flag}")); visible != "1" {
		term.t.Error("the cursor is not there any more")
	}
	return strings.TrimPrefix(shown, "\n") + "\n"
}

// What differs from run to run, and what the golden files have instead. Columns of
// numbers stay as wide as they are.
var unsteady = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`sha256:[0-9a-f]+…[0-9a-f]+`), "sha256:DIG…EST"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:DIGEST"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(` in [0-9.ms]+ \([0-9.]+ [kMG]?B/s\)`), " in TIME (SPEED)"},
	{regexp.MustCompile(`v0\.0\.0-\S+|\(devel\)`), "VERSION"},
}

var (
	movingBar    = regexp.MustCompile(`[█░]{6,}`)
	movingNumber = regexp.MustCompile(` *[0-9.]+(%|/[0-9.]+ [kMG]?B| [kMG]?B/s)| +[0-9.ms]+s$`)
)

// steady takes out what differs from run to run. In a frame of moving lines the
// numbers and bars become as wide stand-ins.
func steady(text string, frame bool) string {
	for _, u := range unsteady {
		text = u.find.ReplaceAllString(text, u.replace)
	}
	if !frame {
		return text
	}
	wide := func(stand string) func(string) string {
		return func(s string) string { return strings.Repeat(stand, textWidth(s)) }
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "$") {
			continue
		}
		l = movingBar.ReplaceAllStringFunc(l, wide("="))
		lines[i] = movingNumber.ReplaceAllStringFunc(l, func(s string) string {
			stand := "TIME"
			switch _, whole, amount := strings.Cut(s, "/"); {
			case strings.HasSuffix(s, "%"):
				stand = "N%"
			case strings.HasSuffix(s, "B/s"):
				stand = "SPEED"
			case amount:
				stand = "N/" + whole
			}
			return padded(stand, len(s), true)
		})
		lines[i] = strings.TrimRight(strings.TrimSuffix(lines[i], "TIME"), " ") // there is none at the end
	}
	return strings.Join(lines, "\n")
}

// golden compares with testdata/terminal/NAME.txt, which -update rewrites.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "terminal", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s shows\n%s\nwant\n%s", name, got, want)
	}
}

// zeroTensor makes a safetensors file with one tensor of n bytes.
func zeroTensor(t *testing.T, n int) []byte {
	t.Helper()
	header := fmt.Sprintf(`{"model.layers.0.weight":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, n, n)
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), make([]byte, n)...)
}

// slowly takes the bodies of uploads in small steps, so that a frame shows them.
func slowly(perSecond int) fp.Fault {
	return func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool {
		r.Body = &slowBody{r.Body, perSecond}
		forward.ServeHTTP(w, r)
		return true
	}
}

type slowBody struct {
	io.ReadCloser
	perSecond int
}

func (s *slowBody) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p[:min(len(p), s.perSecond/20)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(s.perSecond))
	return n, err
}

// moving is a folder whose upload takes some seconds.
func moving(t *testing.T, term *terminal) {
	t.Helper()
	put(t, term, map[string][]byte{
		"model/model-00001-of-00002.safetensors": zeroTensor(t, 7_000_000),
		"model/model-00002-of-00002.safetensors": zeroTensor(t, 6_500_000),
		"model/config.json":                      []byte("{}\n"),
	})
}

func put(t *testing.T, term *terminal, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		path := filepath.Join(term.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// secondMoves says that a frame shows the second shard on its way.
func secondMoves(text string) bool {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "00002-of-00002") || strings.Contains(line, "model 2/2") {
			return strings.HasPrefix(line, "upload") && strings.Contains(line, "B/s")
		}
	}
	return false
}

// uploads says that the window shows a frame of the command that runs.
func (term *terminal) uploads(text string) bool {
	return strings.Contains(text, fmt.Sprintf("begin %d\n", term.sent)) && strings.Contains(text, "\nupload ") && strings.Contains(text, "B/s")
}

// TestTerminal runs the program in a real terminal, small and large, and compares
// what is seen.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, size := range []struct{ columns, rows int }{{80, 24}, {200, 50}} {
		name := fmt.Sprintf("%dx%d", size.columns, size.rows)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t, size.columns, size.rows)
			moving(t, term)
			put(t, term, map[string][]byte{
				"gpt2/pytorch_model.bin": readCorpus(t, "checkpoints/gpt2_tiny.bin"), "gpt2/config.json": []byte("{}\n"), "gpt2/README.md": []byte("# GPT-2\n"),
				"bert/pytorch_model.bin":         readCorpus(t, "checkpoints/bert_tiny.bin"),
				"evil/weights/pytorch_model.bin": []byte(demoPickle),
				"evil/模型/a-long-name-for-a-file-of-a-model-which-is-also-in-a-folder-" + strings.Repeat("x", 60) + ".safetensors": zeroTensor(t, 16),
			})
			origin := watched(t)
			slow := fp.Start(t, origin.Addr, fp.On("PATCH", "/blobs/uploads/", slowly(3_000_000)))
			ref := slow.Addr + "/team/model:v1"

			term.begin("weightseal keygen")
			term.end(exitOK)
			term.begin("weightseal push model " + ref + " --key cosign.key --concurrency 1 --plain-http")
			frame := term.wait("the second shard on its way", secondMoves)
			if hidden := strings.TrimSpace(term.tmux("display-message", "-p", "#{cursor_flag}")); hidden != "0" {
				t.Error("the cursor is there in a frame")
			}
			_, frame, _ = strings.Cut(frame, "\n")
			golden(t, name+"/push-frame", steady(frame, true))
			golden(t, name+"/push", steady(term.end(exitOK), false))
			for _, c := range []struct {
				name, command string
				code          int
			}{
				{"dry-run", "weightseal push gpt2 " + ref + " --dry-run --plain-http", exitOK},
				{"inspect", "weightseal inspect gpt2", exitOK},
				{"inspect-signed", "weightseal inspect " + ref + " --key cosign.pub --plain-http", exitOK},
				{"tree", "weightseal inspect bert --tree | head -n 20", exitOK},
				{"scan", "weightseal scan evil", exitPolicy},
				{"verify", "weightseal verify " + ref + " --key cosign.pub --plain-http", exitOK},
				{"error", "weightseal verfy " + ref, exitUsage},
				{"missing", "weightseal scan gpt2/pytorch_modle.bin", exitError},
			} {
				term.begin(c.command)
				golden(t, name+"/"+c.name, steady(term.end(c.code), false))
			}
			if size.columns == 80 {
				term.begin("weightseal scan evil")
				term.end(exitPolicy)
				_, text, _ := strings.Cut(strings.ReplaceAll(term.look("-e"), "\x1b", "^["), "\n")
				golden(t, name+"/colour", steady(text[:strings.Index(text, "\nend ")+1], false))
			}
		})
	}
}

// TestTerminalIsLeftClean: a window that is made narrower and wider, Ctrl-Z and
// Ctrl-C leave no part of a frame, and the cursor comes back each time.
func TestTerminalIsLeftClean(t *testing.T) {
	t.Parallel()
	term := newTerminal(t, 100, 24)
	moving(t, term)
	origin := watched(t)
	slow := fp.Start(t, origin.Addr, fp.On("PATCH", "/blobs/uploads/", slowly(2_000_000)))
	push := "weightseal push model " + slow.Addr + "/team/%s:v1 --no-sign --concurrency 1 --plain-http"

	term.begin(fmt.Sprintf(push, "resized"))
	term.wait("a frame", term.uploads)
	for _, columns := range []string{"40", "20", "120", "80"} {
		term.tmux("resize-window", "-x", columns, "-y", "24")
		time.Sleep(3 * frameInterval)
	}
	term.end(exitOK)
	// What a narrower window pushes out at its top is history that nobody can clear.
	text := term.look()
	if strings.Contains(text, "%") || strings.Contains(text, "upload ") || !strings.Contains(text, "uploaded 3 files, 13.5 MB in") {
		t.Errorf("parts of frames are left:\n%s", text)
	}

	term.begin(fmt.Sprintf(push, "stopped"))
	term.wait("a frame", term.uploads)
	term.tmux("send-keys", "C-z")
	text = term.wait("the shell", func(text string) bool {
		return strings.Contains(text, "end ") || strings.HasSuffix(strings.TrimSpace(text), "$")
	})
	if strings.Contains(text, "%") {
		t.Errorf("parts of frames are left to the shell:\n%s", text)
	}
	if visible := strings.TrimSpace(term.tmux("display-message", "-p", "#{cursor_flag}")); visible != "1" {
		t.Error("the shell has no cursor")
	}
	term.begin("fg")
	text = term.end(exitOK)
	if strings.Contains(text, "%") || !strings.Contains(text, "uploaded ") {
		t.Errorf("after going on:\n%s", text)
	}

	term.begin(fmt.Sprintf(push, "interrupted"))
	term.wait("a frame", term.uploads)
	term.tmux("send-keys", "C-c")
	text = term.wait("the end", func(text string) bool { return strings.Contains(text, "error: interrupted") })
	if strings.Contains(text, "%") {
		t.Errorf("parts of frames are left:\n%s", text)
	}
	if visible := strings.TrimSpace(term.tmux("display-message", "-p", "#{cursor_flag}")); visible != "1" {
		t.Error("the cursor is not there any more")
	}
}
