package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weightseal/weightseal/internal/realtools"
)

// installation is one way to install from a release into an empty home. After
// install, call is how a user calls the program.
type installation struct {
	install   func(*testing.T, *made, *home)
	call      func(*testing.T, *home) []string
	uninstall func(*testing.T, *home) []string
	more      func(*testing.T, *home) // what only this host has
}

// home is an empty home, and what the environment of a user in it is.
type home struct {
	dir string
	env []string
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	h := &home{dir: dir}
	for _, d := range []string{"bin", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := []string{filepath.Join(dir, "bin"), filepath.Join(dir, ".local", "bin"), filepath.Join(dir, ".krew", "bin"), os.Getenv("PATH")}
	h.env = []string{
		"HOME=" + dir, "PATH=" + strings.Join(path, ":"), "TMPDIR=" + t.TempDir(), "COSIGN_PASSWORD=x",
		"HELM_DATA_HOME=" + dir + "/helm", "HELM_CACHE_HOME=" + dir + "/helm/cache", "HELM_CONFIG_HOME=" + dir + "/helm/config",
	}
	return h
}

func (h *home) path(elem ...string) string { return filepath.Join(append([]string{h.dir}, elem...)...) }

// unpack is what each document says: check the signature and the checksum,
// then unpack.
func unpack(t *testing.T, m *made, h *home, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := host().archive("1.2.3")
	want(t, 0, m.dir, h.env, "sh", "-eu", "-c", `
		base64 -d checksums.txt.sig >"$HOME/sig"
		openssl dgst -sha256 -verify weightseal.pub -signature "$HOME/sig" checksums.txt
		grep " $2\$" checksums.txt | sha256sum -c -
		tar -xzf "$2" -C "$1"`, "sh", to, archive)
}

// program finds a host's client, among the tools built for tests or on the
// PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	if dir, err := realtools.Dir(); err == nil {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: `make test-deps` installs what the tests need (%v)", name, err)
	}
	return path
}

func words(args ...string) func(*testing.T, *home) []string {
	return func(t *testing.T, _ *home) []string {
		t.Helper()
		return append([]string{program(t, args[0])}, args[1:]...)
	}
}

// installHelm unpacks the plugin archive and installs it from there, as both
// Helms do; its hook fetches the program from the release.
func installHelm(name string) func(*testing.T, *made, *home) {
	return func(t *testing.T, m *made, h *home) {
		t.Helper()
		want(t, 0, h.dir, h.env, "tar", "-xzf", m.path("weightseal-1.2.3.tgz"), "-C", h.path("work"))
		h.env = append(h.env, "WEIGHTSEAL_RELEASE_URL="+m.dir)
		want(t, 0, h.dir, h.env, program(t, name), "plugin", "install", h.path("work", "weightseal"))
	}
}

// installPlugin unpacks the archive, and makes the program a plugin with its
// own command.
func installPlugin(name string) func(*testing.T, *made, *home) {
	return func(t *testing.T, m *made, h *home) {
		t.Helper()
		unpack(t, m, h, h.path("bin"))
		want(t, 0, h.dir, h.env, h.path("bin", "weightseal"), "plugin", "install", name)
	}
}

func uninstallPlugin(name string) func(*testing.T, *home) []string {
	return func(_ *testing.T, h *home) []string {
		return []string{h.path("bin", "weightseal"), "plugin", "uninstall", name}
	}
}

// says runs a program of the host and wants words in what it prints.
func (h *home) says(t *testing.T, parts []string, args ...string) {
	t.Helper()
	out := want(t, 0, h.path("work"), h.env, append([]string{program(t, args[0])}, args[1:]...)...)
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("%s: %q is missing in\n%s", strings.Join(args, " "), part, out)
		}
	}
}

// major is a number of the version that a host prints.
func major(t *testing.T, pattern string, args ...string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t, args[0]), args[1:]...).Output() // without a server some fail
	m := regexp.MustCompile(pattern).FindSubmatch(out)
	if m == nil {
		t.Fatalf("%s prints no version: %s (%v)", args[0], out, err)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func dockerMajor(t *testing.T) int {
	t.Helper()
	return major(t, `version (\d+)\.`, "docker", "--version")
}

func moreOfDocker(t *testing.T, h *home) {
	t.Helper()
	h.says(t, []string{"weightseal"}, "docker", "help")
	h.says(t, []string{"docker weightseal"}, "docker", "help", "weightseal")
	h.says(t, []string{"docker weightseal push"}, "docker", "weightseal", "push", "--help")
	h.says(t, []string{"v1.2.3"}, "docker", "--log-level", "error", "--host", "tcp://127.0.0.1:1", "weightseal", "version")
	h.says(t, []string{"v1.2.3"}, "docker", "--config", h.path(".docker"), "weightseal", "version")
	h.says(t, []string{"v1.2.3"}, "docker", "--config", h.path(".docker"), "--context=default", "weightseal", "version")
	if dockerMajor(t) >= 23 { // older clients do not ask plugins
		h.says(t, []string{"push", "pull"}, "docker", "__complete", "weightseal", "pu")
		h.says(t, []string{"--policy"}, "docker", "__complete", "weightseal", "push", "--pol")
	}
}

func moreOfKubectl(t *testing.T, h *home) {
	t.Helper()
	h.says(t, []string{"kubectl-weightseal"}, "kubectl", "plugin", "list")
	h.says(t, []string{"kubectl weightseal push"}, "kubectl", "weightseal", "push", "--help")
}

// kubectlCompletes: since 1.26 kubectl asks a program beside the plugin.
func kubectlCompletes(t *testing.T, h *home) {
	t.Helper()
	moreOfKubectl(t, h)
	out := want(t, 0, h.path("work"), h.env, h.path(".local", "bin", "kubectl_complete-weightseal"), "pu")
	if !strings.Contains(out, "push") || !strings.Contains(out, "pull") {
		t.Errorf("kubectl_complete-weightseal says %s", out)
	}
	if major(t, `v1\.(\d+)`, "kubectl", "version", "--client") >= 26 {
		h.says(t, []string{"push", "pull"}, "kubectl", "__complete", "weightseal", "pu")
	}
}

func moreOfHelm(name string) func(*testing.T, *home) {
	return func(t *testing.T, h *home) {
		t.Helper()
		h.says(t, []string{"weightseal", "1.2.3"}, name, "plugin", "list")
		h.says(t, []string{"helm weightseal push"}, name, "weightseal", "push", "--help")
		h.says(t, []string{"push", "pull"}, name, "__complete", "weightseal", "pu")
		h.says(t, []string{"v1.2.3"}, name, "--debug", "-n", "ns", "weightseal", "version")
	}
}

var installations = map[string]installation{
	"stand-alone": {
		install:   func(t *testing.T, m *made, h *home) { t.Helper(); unpack(t, m, h, h.path("bin")) },
		call:      func(_ *testing.T, h *home) []string { return []string{h.path("bin", "weightseal")} },
		uninstall: func(_ *testing.T, h *home) []string { return []string{"rm", h.path("bin", "weightseal")} },
	},
	"docker":  {installPlugin("docker"), words("docker", "weightseal"), uninstallPlugin("docker"), moreOfDocker},
	"kubectl": {installPlugin("kubectl"), words("kubectl", "weightseal"), uninstallPlugin("kubectl"), kubectlCompletes},
	"krew": {
		install: func(t *testing.T, m *made, h *home) {
			t.Helper()
			want(t, 0, h.dir, h.env, "git", "init", "-q", h.path(".krew", "index", "default")) // an index without plugins; krew wants one for uninstall
			want(t, 0, h.dir, h.env, program(t, "krew"), "install", "--manifest", m.path("weightseal.krew.yaml"), "--archive", m.path(host().archive("1.2.3")))
		},
		call:      words("kubectl", "weightseal"),
		uninstall: words("krew", "uninstall", "weightseal"),
		more:      moreOfKubectl,
	},
	"helm3": {installHelm("helm3"), words("helm3", "weightseal"), words("helm3", "plugin", "uninstall", "weightseal"), moreOfHelm("helm3")},
	"helm4": {installHelm("helm4"), words("helm4", "weightseal"), words("helm4", "plugin", "uninstall", "weightseal"), moreOfHelm("helm4")},
}

// TestInstall installs from the release into an empty home and works with what
// is there: the demo, then push, verify and pull, exit codes and signals that
// pass through the host, and uninstalls.
func TestInstall(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	corpus, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, way := range installations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			way.install(t, m, h)
			ours := way.call(t, h)
			do := func(code int, args ...string) string {
				t.Helper()
				return want(t, code, h.path("work"), h.env, append(ours[:len(ours):len(ours)], args...)...)
			}
			if out := do(0, "version"); !strings.Contains(out, "v1.2.3") {
				t.Errorf("version says %q", out)
			}
			do(0, "demo")
			do(0, "keygen")
			do(0, "keygen", "--output-key-prefix", "stranger")
			model, repository := corpus+"/checkpoints/tied.pt", realtools.Registry(t)+"/team/model"
			do(0, "push", model, repository+":v1", "--key", "cosign.key", "--plain-http")
			do(0, "verify", repository+":v1", "--key", "cosign.pub", "--plain-http")
			do(0, "pull", repository+":v1", "model", "--key", "cosign.pub", "--plain-http")
			if _, err := os.Stat(h.path("work", "model", "tied.safetensors")); err != nil {
				t.Error(err)
			}
			do(0, "push", model, repository+":v2", "--no-sign", "--rename", "^=x.", "--plain-http")
			do(2, "verify")
			do(3, "scan", model)
			do(4, "verify", repository+":v1", "--key", "stranger.pub", "--plain-http")
			do(4, "verify", repository+":v2", "--key", "cosign.pub", "--plain-http")
			do(4, "pull", repository+":v2", "other", "--key", "cosign.pub", "--plain-http")
			if way.more != nil {
				way.more(t, h)
			}
			for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
				h.signalled(t, name, ours, model, sig)
			}
			want(t, 0, h.dir, h.env, way.uninstall(t, h)...)
			if out, err := h.command(t, append(ours[:len(ours):len(ours)], "version")...).CombinedOutput(); err == nil {
				t.Errorf("it is still there:\n%s", out)
			}
		})
	}
}

func (h *home) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = h.path("work"), h.env
	return cmd
}

// signalled sends a signal to the host while a push waits for a registry that
// does not answer: the plugin ends, says so, and nothing is left running.
func (h *home) signalled(t *testing.T, name string, ours []string, model string, sig syscall.Signal) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			reached <- c
		}
	}()
	ref := l.Addr().String() + "/team/model:v1"
	cmd := h.command(t, append(ours[:len(ours):len(ours)], "push", model, ref, "--key", "cosign.key", "--plain-http")...)
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, 20*time.Second // Wait also waits for whoever still writes there
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-reached:
		defer c.Close()
	case <-time.After(30 * time.Second):
		t.Errorf("%s: the push does not begin", name)
	}
	// docker before 25 has no way to tell its plugin, and ends at the third.
	old := name == "docker" && dockerMajor(t) < 25
	for left := 3; left > 0; left-- {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
		if !old {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("%s, %v: the plugin still runs: %v", name, sig, err)
	}
	if code := cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(said.String(), "error: interrupted") ||
		!old && !strings.HasPrefix(name, "helm") && code != 130 {
		t.Errorf("%s, %v: exit code %d\n%s", name, sig, code, &said)
	}
	if out, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "args=").Output(); err != nil || strings.Contains(string(out), ref) {
		t.Errorf("%s, %v: still running (%v)\n%s", name, sig, err, out)
	}
}
