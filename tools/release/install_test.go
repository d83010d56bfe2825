package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// installation is one way to install from a release into an empty home. After
// install, call is how a user calls the program.
type installation struct {
	install func(*testing.T, *made, *home)
	call    func(*testing.T, *home) []string
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
	h.env = []string{
		"HOME=" + dir, "PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(), "COSIGN_PASSWORD=x",
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

func symlink(t *testing.T, to, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
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
		plugin := h.path("work", "weightseal")
		hook, err := os.ReadFile(filepath.Join(plugin, "tools", "plugin-hook"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(hook), "WEIGHTSEAL_RELEASE_URL") {
			h.env = append(h.env, "WEIGHTSEAL_RELEASE_URL="+m.dir)
		} else { // a hook that takes the program that lies in the plugin
			unpack(t, m, h, filepath.Join(plugin, "bin"))
		}
		want(t, 0, h.dir, h.env, program(t, name), "plugin", "install", plugin)
	}
}

var installations = map[string]installation{
	"stand-alone": {
		install: func(t *testing.T, m *made, h *home) { t.Helper(); unpack(t, m, h, h.path("bin")) },
		call:    func(_ *testing.T, h *home) []string { return []string{h.path("bin", "weightseal")} },
	},
	"docker": {
		install: func(t *testing.T, m *made, h *home) {
			t.Helper()
			unpack(t, m, h, h.path("bin"))
			symlink(t, h.path("bin", "weightseal"), h.path(".docker", "cli-plugins", "docker-weightseal"))
		},
		call: words("docker", "weightseal"),
	},
	"kubectl": {
		install: func(t *testing.T, m *made, h *home) {
			t.Helper()
			unpack(t, m, h, h.path("bin"))
			symlink(t, "weightseal", h.path("bin", "kubectl-weightseal"))
		},
		call: words("kubectl", "weightseal"),
	},
	"helm3": {install: installHelm("helm3"), call: words("helm3", "weightseal")},
	"helm4": {install: installHelm("helm4"), call: words("helm4", "weightseal")},
}

// TestInstall installs from the release into an empty home and works with what
// is there: the demo, then push, verify and pull, and exit codes that pass
// through the host.
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
			do(0, "push", corpus+"/checkpoints/tied.pt", "oci:layout:v1", "--key", "cosign.key")
			do(0, "verify", "oci:layout:v1", "--key", "cosign.pub")
			do(0, "pull", "oci:layout:v1", "model", "--key", "cosign.pub")
			do(0, "push", corpus+"/checkpoints/tied.pt", "oci:layout:v2", "--no-sign", "--rename", "^=x.")
			do(3, "scan", corpus+"/checkpoints/tied.pt")
			do(4, "verify", "oci:layout:v2", "--key", "cosign.pub")
		})
	}
}
