package weightseal_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

func run(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// copyFile keeps the mode.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, info.Mode()); err != nil {
		t.Fatal(err)
	}
}

// TestHelmInstallsThePlugin: both Helms take plugin.yaml without complaint,
// run its hook, and hand our arguments to the binary.
func TestHelmInstallsThePlugin(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Fatal("the plugin's hook needs a POSIX shell")
	}
	plugin := t.TempDir()
	for _, name := range []string{"plugin.yaml", "tools/plugin-hook"} {
		copyFile(t, name, filepath.Join(plugin, name))
	}
	run(t, nil, "go", "build", "-o", filepath.Join(plugin, "bin", "weightseal"), "./cmd/weightseal")
	want := run(t, nil, filepath.Join(plugin, "bin", "weightseal"), "version")

	for _, name := range []string{"helm3", "helm4"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			helm := realtools.Path(t, name)
			home := t.TempDir()
			env := []string{
				"HOME=" + home, "HELM_DATA_HOME=" + home + "/data", "HELM_CACHE_HOME=" + home + "/cache",
				"HELM_CONFIG_HOME=" + home + "/config", "HELM_PLUGINS=" + home + "/data/plugins",
			}
			if out := run(t, env, helm, "plugin", "install", plugin); !strings.Contains(out, "weightseal") {
				t.Errorf("plugin install said %q", out)
			}
			if out := run(t, env, helm, "plugin", "list"); !strings.Contains(out, "weightseal") {
				t.Errorf("plugin list said %q", out)
			}
			if got := run(t, env, helm, "weightseal", "version"); got != want {
				t.Errorf("helm weightseal version = %q, the binary itself says %q", got, want)
			}
		})
	}
}

// TestPluginVersionIsTheChangelogs: the manifest names the version that the
// changelog's first entry describes.
func TestPluginVersionIsTheChangelogs(t *testing.T) {
	t.Parallel()
	find := func(file, pattern string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(b)
		if m == nil {
			t.Fatalf("%s holds no version (%s)", file, pattern)
		}
		return string(m[1])
	}
	manifest := find("plugin.yaml", `(?m)^version: (\S+)$`)
	changelog := find("CHANGELOG.md", `(?m)^## (\d+\.\d+\.\d+)`)
	if manifest != changelog {
		t.Errorf("plugin.yaml says version %s, CHANGELOG.md begins with %s", manifest, changelog)
	}
}
