//go:build unix

package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/internal/helmplugin"
	"github.com/weightseal/weightseal/internal/realtools"
)

// built is the real program, built once for the tests with real hosts.
var built = sync.OnceValues(func() (string, error) {
	dir, err := keys() // removed with the keys when all tests have run
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "built", program)
	cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", bin, "../../weightseal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return bin, nil
})

func builtProgram(tb testing.TB) string {
	tb.Helper()
	bin, err := built()
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

// docker is the real client; no daemon is needed.
func docker(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("docker")
	if err != nil {
		tb.Fatalf("docker is missing: `make test-deps` installs it (%v)", err)
	}
	return path
}

// dockerMajor is the major version of the real client.
func dockerMajor(tb testing.TB) int {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), docker(tb), "--version").Output()
	if err != nil {
		tb.Fatal(err)
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(string(out), "Docker version "), ".")
	major, err := strconv.Atoi(number)
	if err != nil {
		tb.Fatalf("no version in %q: %v", out, err)
	}
	return major
}

// guest is a home with a host in it.
type guest struct {
	home string
	env  []string
	call []string // how the host is called
}

func newGuest(tb testing.TB, call ...string) *guest {
	tb.Helper()
	home := tb.TempDir()
	return &guest{home: home, call: call, env: []string{
		"HOME=" + home, "DOCKER_CONFIG=" + home + "/.docker", "PATH=" + os.Getenv("PATH"), "COSIGN_PASSWORD=" + keyPassword,
		"HELM_DATA_HOME=" + home + "/data", "HELM_CACHE_HOME=" + home + "/cache", "HELM_CONFIG_HOME=" + home + "/config",
		"TMPDIR=" + home,
	}}
}

// run runs any program in the home, and gives what it wrote and its exit code.
func (g *guest) run(tb testing.TB, args ...string) result {
	tb.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(tb.Context(), args[0], args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = g.env, g.home, &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// host runs the host.
func (g *guest) host(tb testing.TB, args ...string) result {
	tb.Helper()
	return g.run(tb, append(slices.Clone(g.call), args...)...)
}

// ours runs weightseal through the host.
func (g *guest) ours(tb testing.TB, args ...string) result {
	tb.Helper()
	return g.host(tb, append([]string{program}, args...)...)
}

func wantCode(tb testing.TB, what string, r result, code int, parts ...string) {
	tb.Helper()
	if r.code != code {
		tb.Errorf("%s: exit code %d, want %d\n%s%s", what, r.code, code, r.out, r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.out+r.err, part) {
			tb.Errorf("%s: %q is missing in\n%s%s", what, part, r.out, r.err)
		}
	}
}

var realHosts = []struct {
	name, plugin string // plugin is the argument of plugin install
	call         func(testing.TB) string
}{
	{"docker", "docker", docker},
	{"helm3", "helm", func(tb testing.TB) string { tb.Helper(); return realtools.Path(tb, "helm3") }},
	{"helm4", "helm", func(tb testing.TB) string { tb.Helper(); return realtools.Path(tb, "helm4") }},
}

// TestRealHosts installs the plugin with its own command and works through the
// real client: push, verify, pull, exit codes, help, completion.
func TestRealHosts(t *testing.T) {
	t.Parallel()
	bin := builtProgram(t)
	for _, h := range realHosts {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, h.call(t))
			wantCode(t, "dry run", g.run(t, bin, "plugin", "install", h.plugin, "--dry-run"), 0, "would have linked")
			holds(t, g.home)
			wantCode(t, "install", g.run(t, bin, "plugin", "install", h.plugin), 0, "linked "+g.home)
			wantCode(t, "again", g.run(t, bin, "plugin", "install", h.plugin), 0, "kept "+g.home)
			wantCode(t, "version", g.ours(t, "version"), 0, program)
			g.line(t, realtools.Registry(t))
			wantCode(t, "help", g.ours(t, "push", "--help"), 0, h.plugin+" weightseal push")
			if h.name != "docker" || dockerMajor(t) >= 23 { // older clients do not ask plugins
				wantCode(t, "completion", g.host(t, "__complete", program, "pu"), 0, "push", "pull")
			}
			wantCode(t, "uninstall", g.run(t, bin, "plugin", "uninstall", h.plugin), 0, "removed ")
			if r := g.ours(t, "version"); r.code == 0 {
				t.Errorf("the plugin is still there:\n%s", r.out)
			}
		})
	}
}

// pickled is a model whose weights are a pickle.
func pickled(tb testing.TB) string {
	tb.Helper()
	return placed(tb, map[string][]byte{"pytorch_model.bin": demoCheckpoint, "config.json": []byte(demoConfig)})
}

// line pushes, verifies and pulls through the host, and wants the exit codes
// 2, 3 and 4 to come through.
func (g *guest) line(t *testing.T, registry string) {
	t.Helper()
	model, key, pub, ref := pickled(t), keyFile(t, "ours.key"), keyFile(t, "ours.pub"), registry+"/team/model:v1"
	wantCode(t, "push", g.ours(t, "push", model, ref, "--key", key, "--plain-http"), 0, "@sha256:")
	wantCode(t, "verify", g.ours(t, "verify", ref, "--key", pub, "--plain-http"), 0, "allowed")
	wantCode(t, "pull", g.ours(t, "pull", ref, "pulled", "--key", pub, "--plain-http"), 0)
	if _, err := os.Stat(filepath.Join(g.home, "pulled", "model.safetensors")); err != nil {
		t.Error(err)
	}
	evil := filepath.Join(g.home, "evil.bin")
	if err := os.WriteFile(evil, []byte(demoPickle), 0o600); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "usage", g.ours(t, "verify"), exitUsage, "missing argument")
	wantCode(t, "policy", g.ours(t, "scan", evil), exitPolicy)
	wantCode(t, "attestation", g.ours(t, "verify", ref, "--key", keyFile(t, "other.pub"), "--plain-http"), exitAttestation)
}

// TestRealHostsSignals stops the host while a push waits for the registry: the
// plugin ends too, says so, and leaves nothing running.
func TestRealHostsSignals(t *testing.T) {
	t.Parallel()
	bin, model, key := builtProgram(t), largeModel(t), keyFile(t, "ours.key")
	for _, h := range realHosts {
		for name, sig := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM} {
			t.Run(h.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				g := newGuest(t, h.call(t))
				wantCode(t, "install", g.run(t, bin, "plugin", "install", h.plugin), 0)
				reached := make(chan struct{})
				p := fp.Start(t, watched(t).Addr, fp.On("PATCH", "/blobs/uploads/", stall(reached)))
				ref := p.Addr + "/a/b:v1"
				var errs bytes.Buffer
				cmd := exec.CommandContext(t.Context(), g.call[0], program, "push", model, ref, "--key", key, "--plain-http")
				cmd.Env, cmd.Dir, cmd.Stderr = g.env, g.home, &errs
				cmd.WaitDelay = 20 * time.Second // Wait also waits for whoever still writes there
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				select {
				case <-reached:
				case <-time.After(30 * time.Second):
					t.Error("the upload does not begin")
				}
				// docker before 25 has no way to tell its plugin, and ends at the third.
				old := h.name == "docker" && dockerMajor(t) < 25
				for left := 3; left > 0; left-- {
					if err := cmd.Process.Signal(sig); err != nil {
						t.Error(err)
					}
					if !old {
						break
					}
					time.Sleep(200 * time.Millisecond)
				}
				err := cmd.Wait()
				if errors.Is(err, exec.ErrWaitDelay) {
					t.Errorf("the plugin still runs: %v", err)
				}
				code := cmd.ProcessState.ExitCode()
				if code == 0 || h.name == "docker" && !old && code != exitInterrupted {
					t.Errorf("the host ends with %d", code)
				}
				if !strings.Contains(errs.String(), "error: interrupted") {
					t.Errorf("it said %q", errs.String())
				}
				if left := processesWith(t, ref); len(left) > 0 {
					t.Errorf("still running: %v", left)
				}
				untagged(t, p, "a/b:v1")
			})
		}
	}
}

// processesWith gives the processes that have an argument.
func processesWith(t *testing.T, arg string) []int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "pid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(fields[1:], arg) {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestHelmDownloader lets both Helms fetch a verified model as a chart, as
// values and as a file, and wants them to fail for one that is not trusted.
func TestHelmDownloader(t *testing.T) {
	t.Parallel()
	bin, registry := builtProgram(t), realtools.Registry(t)
	model := pickled(t)
	config, err := os.ReadFile(filepath.Join(model, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	pushed := execute(t, "push", model, registry+"/team/my_model:v1", "--key", keyFile(t, "ours.key"), "--plain-http")
	pushed.succeeded(t)
	_, digest, _ := strings.Cut(strings.TrimSpace(pushed.out), "@")
	for _, name := range []string{"helm3", "helm4"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, realtools.Path(t, name))
			wantCode(t, "install", g.run(t, bin, "plugin", "install", "helm"), 0)
			model := helmplugin.Scheme + "://" + registry + "/team/my_model:v1"
			trusting := g.env
			g.env = append(slices.Clone(trusting), envPlainHTTP+"=true")
			wantFailure(t, g.host(t, "template", "rel", model), "nobody to trust", envKey)
			g.env = append(slices.Clone(trusting), envPlainHTTP+"=true", envKey+"="+keyFile(t, "other.pub"))
			wantFailure(t, g.host(t, "template", "rel", model), "error: ")
			wantFailure(t, g.host(t, "pull", model+"?file=config.json"), "error: ")
			g.env = append(slices.Clone(trusting), envPlainHTTP+"=true", envKey+"="+keyFile(t, "ours.pub"))

			wantCode(t, "template", g.host(t, "template", "rel", model), 0, "digest: \""+digest+"\"", "name: rel-model", "helm.sh/chart: my-model")
			wantCode(t, "pull", g.host(t, "pull", model, "--untar", "--untardir", "charts"), 0)
			wantCode(t, "lint", g.host(t, "lint", filepath.Join("charts", "my-model")), 0)
			chart := g.chart(t)
			wantCode(t, "values", g.host(t, "template", "rel", chart, "-f", model+"?values"), 0, "digest="+digest)
			wantCode(t, "values under a key", g.host(t, "template", "rel", chart, "-f", model+"?values=other", "--set", "model.digest="), 0, "other="+digest)
			r := g.host(t, "template", "rel", chart, "--set-file", "model.digest="+model+"?file=config.json")
			wantCode(t, "file", r, 0, strings.TrimSpace(string(config)))
			wantFailure(t, g.host(t, "template", "rel", chart, "-f", model+"?file=nothing"), "the model has no file nothing")
			wantFailure(t, g.host(t, "template", "rel", chart, "-f", model+"?key=other.pub"), "unknown part: key")
		})
	}
}

func wantFailure(tb testing.TB, r result, parts ...string) {
	tb.Helper()
	if r.code == 0 {
		tb.Errorf("it did not fail:\n%s%s", r.out, r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.err, part) {
			tb.Errorf("%q is missing in\n%s", part, r.err)
		}
	}
}

// chart writes a chart that prints a digest of its values.
func (g *guest) chart(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(g.home, "mine")
	for name, content := range map[string]string{
		"Chart.yaml":          "apiVersion: v2\nname: mine\nversion: 0.1.0\n",
		"values.yaml":         "model: {}\nother: {}\n",
		"templates/text.yaml": "text: |-\n  digest={{ .Values.model.digest | nindent 2 | trim }}\n  other={{ .Values.other.digest }}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// release writes what a release has for this platform, signed with a fresh
// key, and gives its folder. The public key is in weightseal.pub.
func release(tb testing.TB, version string) string {
	tb.Helper()
	dir := tb.TempDir()
	name := fmt.Sprintf("weightseal_%s_%s_%s.tar.gz", version, runtime.GOOS, runtime.GOARCH)
	content, err := os.ReadFile(builtProgram(tb))
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	err = errors.Join(tw.WriteHeader(&tar.Header{Name: program, Mode: 0o755, Size: int64(len(content))}), func() error { _, err := tw.Write(content); return err }(), tw.Close(), zw.Close())
	if err != nil {
		tb.Fatal(err)
	}
	sums := fmt.Sprintf("%x  %s\n", sha256.Sum256(b.Bytes()), name)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	digest := sha256.Sum256([]byte(sums))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	for file, data := range map[string][]byte{
		name: b.Bytes(), "checksums.txt": []byte(sums), "checksums.txt.sig": []byte(base64.StdEncoding.EncodeToString(sig)),
		"weightseal.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// pluginArchive writes the archive of the plugin with the key of a release.
func pluginArchive(tb testing.TB, release, version, to string) {
	tb.Helper()
	pub, err := os.ReadFile(filepath.Join(release, "weightseal.pub"))
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	files := append(helmplugin.Files(version), helmplugin.File{Path: "weightseal.pub", Content: pub})
	if err := helmplugin.Archive(&b, helmplugin.Name, time.Unix(1e9, 0), files...); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// TestHelmInstallsRelease: Helm installs the plugin from its archive, the hook
// takes the program from a release in a folder; Helm removes all of it again.
// Helm 4 also installs it from a registry.
func TestHelmInstallsRelease(t *testing.T) {
	t.Parallel()
	const version = "1.2.3"
	dist := release(t, version)
	archive := filepath.Join(dist, "weightseal-"+version+".tgz")
	pluginArchive(t, dist, version, archive)
	for _, name := range []string{"helm3", "helm4", "helm4-oci"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, realtools.Path(t, strings.TrimSuffix(name, "-oci")))
			g.env = append(g.env, "WEIGHTSEAL_RELEASE_URL="+dist)
			registry := realtools.Registry(t)
			if name == "helm4-oci" {
				oras := g.run(t, "sh", "-c", `cd "$1" && exec "$2" push --plain-http --artifact-type `+helmplugin.ArtifactType+
					` "$3" weightseal-1.2.3.tgz:application/vnd.oci.image.layer.v1.tar+gzip`, "sh", dist, realtools.Path(t, "oras"), registry+"/plugins/weightseal:1.2.3")
				wantCode(t, "oras push", oras, 0)
				wantCode(t, "install", g.host(t, "plugin", "install", "oci://"+registry+"/plugins/weightseal:1.2.3", "--verify=false", "--plain-http"), 0)
			} else {
				wantCode(t, "unpack", g.run(t, "tar", "-xzf", archive, "-C", g.home), 0)
				wantCode(t, "install", g.host(t, "plugin", "install", filepath.Join(g.home, program)), 0)
			}
			wantCode(t, "list", g.host(t, "plugin", "list"), 0, "weightseal", "1.2.3", "weightseal-getter")
			g.line(t, registry)
			g.env = append(g.env, envPlainHTTP+"=1", envKey+"="+keyFile(t, "ours.pub"))
			wantCode(t, "downloader", g.host(t, "template", "rel", helmplugin.Scheme+"://"+registry+"/team/model:v1"), 0, "weightsDigest")
			wantCode(t, "uninstall", g.host(t, "plugin", "uninstall", program), 0)
			if r := g.host(t, "plugin", "list"); strings.Contains(r.out, "weightseal") {
				t.Errorf("left behind:\n%s", r.out)
			}
		})
	}
}

// TestPluginHookRefuses: a release whose signature, checksum or key is wrong is
// not installed.
func TestPluginHookRefuses(t *testing.T) {
	t.Parallel()
	const version = "1.2.3"
	archive := fmt.Sprintf("weightseal_%s_%s_%s.tar.gz", version, runtime.GOOS, runtime.GOARCH)
	changed := func(name string) func(*testing.T, string, string) {
		return func(t *testing.T, dist, _ string) {
			t.Helper()
			f, err := os.OpenFile(filepath.Join(dist, name), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString("x")
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, string, string) {
		return func(t *testing.T, dist, _ string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dist, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, dist, plugin string)
		url   string // instead of the folder
		want  string
	}{
		"good":         {func(*testing.T, string, string) {}, "", ""},
		"file url":     {func(*testing.T, string, string) {}, "file://", ""},
		"archive":      {changed(archive), "", "is not the file of the signed checksums"},
		"checksums":    {changed("checksums.txt"), "", "is not signed by"},
		"no signature": {remove("checksums.txt.sig"), "", "cannot get checksums.txt.sig"},
		"no archive":   {remove(archive), "", "cannot get " + archive},
		"no key":       {func(t *testing.T, _, plugin string) { t.Helper(); remove("weightseal.pub")(t, plugin, "") }, "", "no public key"},
		"other key": {func(t *testing.T, _, plugin string) {
			t.Helper()
			other, err := os.ReadFile(keyFile(t, "ours.pub"))
			if err == nil {
				err = os.WriteFile(filepath.Join(plugin, "weightseal.pub"), other, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "", "is not signed by"},
		"plain http": {func(*testing.T, string, string) {}, "http://127.0.0.1/x", "want https://"},
		"another version": {func(t *testing.T, _, plugin string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(plugin, "plugin.yaml"), []byte("name: weightseal\nversion: 1.2.4\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "", "cannot get weightseal_1.2.4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, dist := newGuest(t), release(t, version)
			pluginArchive(t, dist, version, filepath.Join(g.home, "p.tgz"))
			wantCode(t, "unpack", g.run(t, "tar", "-xzf", "p.tgz", "-C", g.home), 0)
			plugin := filepath.Join(g.home, program)
			tt.spoil(t, dist, plugin)
			url := dist
			if tt.url != "" {
				url = tt.url
				if tt.url == "file://" {
					url += dist
				}
			}
			g.env = append(g.env, "WEIGHTSEAL_RELEASE_URL="+url)
			r := g.run(t, "sh", filepath.Join(plugin, "tools", "plugin-hook"), "install")
			_, err := os.Stat(filepath.Join(plugin, "bin", program))
			if tt.want == "" {
				wantCode(t, "hook", r, 0)
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFailure(t, r, "error: weightseal plugin: ", tt.want)
			if err == nil {
				t.Error("the program was installed")
			}
			if left, _ := filepath.Glob(filepath.Join(g.home, "tmp*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestPluginCommand: what is not ours is never replaced or removed, what is
// there is kept, and a copy is a copy.
func TestPluginCommand(t *testing.T) {
	t.Parallel()
	bin := builtProgram(t)
	t.Run("foreign program", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		foreign := filepath.Join(g.home, "dir", "docker-weightseal")
		wantCode(t, "mkdir", g.run(t, "mkdir", "dir"), 0)
		if err := os.WriteFile(foreign, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"install", "uninstall"} {
			wantCode(t, verb, g.run(t, bin, "plugin", verb, "docker", "--dir", "dir"), exitError, "is not weightseal's")
		}
		if b, err := os.ReadFile(foreign); err != nil || string(b) != "#!/bin/sh\n" {
			t.Errorf("it is %q now (%v)", b, err)
		}
	})
	t.Run("foreign plugin of helm", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		wantCode(t, "prepare", g.run(t, "sh", "-c", "mkdir -p p/weightseal && echo 'name: other' > p/weightseal/plugin.yaml"), 0)
		for _, verb := range []string{"install", "uninstall"} {
			wantCode(t, verb, g.run(t, bin, "plugin", verb, "helm", "--dir", "p"), exitError, "plugin.yaml is there and is not weightseal's")
		}
		holds(t, filepath.Join(g.home, "p"), program)
	})
	t.Run("a link of helm's", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		wantCode(t, "prepare", g.run(t, "sh", "-c", "mkdir -p p src && ln -s ../src p/weightseal"), 0)
		wantCode(t, "install", g.run(t, bin, "plugin", "install", "helm", "--dir", "p"), exitError, "helm plugin uninstall weightseal")
		holds(t, filepath.Join(g.home, "src"))
	})
	t.Run("kubectl", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		wantCode(t, "install", g.run(t, bin, "plugin", "install", "kubectl"), 0, "is not on the PATH", "hint: export PATH=")
		dir := filepath.Join(g.home, ".local", "bin")
		holds(t, dir, "kubectl-weightseal", "kubectl_complete-weightseal")
		wantCode(t, "run", g.run(t, filepath.Join(dir, "kubectl-weightseal"), "pull", "--help"), 0, "kubectl weightseal pull")
		wantCode(t, "complete", g.run(t, filepath.Join(dir, "kubectl_complete-weightseal"), "pu"), 0, "push", ":")
		g.env = append(g.env, "PATH="+dir+":"+os.Getenv("PATH"))
		if r := g.run(t, bin, "plugin", "install", "kubectl"); strings.Contains(r.err, "warning") {
			t.Errorf("it warns although it is on the PATH:\n%s", r.err)
		}
		wantCode(t, "uninstall", g.run(t, bin, "plugin", "uninstall", "kubectl"), 0)
		holds(t, dir)
		wantCode(t, "again", g.run(t, bin, "plugin", "uninstall", "kubectl"), 0, "no plugin of ours")
	})
	t.Run("copy", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		path := filepath.Join(g.home, ".docker", "cli-plugins", "docker-weightseal")
		wantCode(t, "link", g.run(t, bin, "plugin", "install", "docker"), 0, "linked")
		wantCode(t, "copy over it", g.run(t, bin, "plugin", "install", "docker", "--copy"), 0, "copied to")
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("it is %v (%v)", info, err)
		}
		holds(t, filepath.Dir(path), "docker-weightseal")
		wantCode(t, "by itself", g.run(t, path, program, "plugin", "install", "docker", "--copy"), 0, "kept")
		wantCode(t, "uninstall", g.run(t, bin, "plugin", "uninstall", "docker"), 0)
		holds(t, filepath.Dir(path))
	})
	t.Run("usage", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		wantCode(t, "host", g.run(t, bin, "plugin", "install", "podman"), exitUsage, "want one of docker, helm, kubectl")
		wantCode(t, "none", g.run(t, bin, "plugin", "install"), exitUsage, "missing argument HOST")
	})
}
