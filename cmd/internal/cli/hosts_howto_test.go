//go:build unix

package cli

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weightseal/weightseal/internal/embedded"
	"github.com/weightseal/weightseal/internal/realtools"
)

// TestHostHowtos runs the pages of the hosts with the real ones.
func TestHostHowtos(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ page, command, path string }{
		"docker": {"docker", "docker", docker(t)},
		"helm3":  {"helm", "helm", realtools.Path(t, "helm3")},
		"helm4":  {"helm", "helm", realtools.Path(t, "helm4")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := os.ReadFile(filepath.Join("../../../docs/howto", tt.page+".md"))
			if err != nil {
				t.Fatal(err)
			}
			script, commands := howtoScript(t, string(page))
			if commands < 9 {
				t.Fatalf("%s.md has %d commands: are its blocks still found?", tt.page, commands)
			}
			script = regexp.MustCompile(`(?m)^exits 0 export `).ReplaceAllString(script, "env ")
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			testscript.Run(t, testscript.Params{
				Dir:   dir,
				Setup: func(env *testscript.Env) error { return hostHome(t, env, tt.command, tt.path) },
				Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits},
			})
		})
	}
}

// hostHome makes the home that a host's page speaks of: the host and the
// program on the PATH, a registry, a model and a chart.
func hostHome(t *testing.T, env *testscript.Env, command, path string) error {
	t.Helper()
	bin := filepath.Join(env.WorkDir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	for name, target := range map[string]string{command: path, program: builtProgram(t)} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	r, err := embedded.Start(context.Background(), true)
	if err != nil {
		return err
	}
	env.Defer(func() { _ = r.Close() })
	home := env.WorkDir
	for name, value := range map[string]string{
		"HOME": home, "DOCKER_CONFIG": home + "/.docker", "REG": r.Addr, "COSIGN_PASSWORD": "secret",
		"HELM_DATA_HOME": home + "/data", "HELM_CACHE_HOME": home + "/cache", "HELM_CONFIG_HOME": home + "/config",
		"PATH": bin + string(os.PathListSeparator) + env.Getenv("PATH"),
	} {
		env.Setenv(name, value)
	}
	for name, content := range map[string]string{
		"my-model/pytorch_model.bin":  string(demoCheckpoint),
		"my-model/config.json":        strings.TrimSpace(demoConfig),
		"my-chart/Chart.yaml":         "apiVersion: v2\nname: mine\nversion: 0.1.0\n",
		"my-chart/templates/uri.yaml": "  uri: oci://{{ .Values.model.reference }}\n",
	} {
		target, err := makeParent(env.WorkDir, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
