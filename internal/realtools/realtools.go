// Package realtools finds and starts the real programs that tests run
// against: a registry, other clients. A program that is missing fails the
// test, with the command that builds it: nothing is skipped.
package realtools

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Env names the directory with the programs; without it they are in
// weightseal/tools under the user's cache directory.
const Env = "WEIGHTSEAL_TOOLS"

// Dir is the directory with the programs.
func Dir() (string, error) {
	if dir := os.Getenv(Env); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no directory for tools: set %s: %w", Env, err)
	}
	return filepath.Join(cache, "weightseal", "tools"), nil
}

// Path finds a program: registry, oras, crane, cosign2, cosign3.
func Path(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := Dir()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%s is missing: build it with `tools/build %s` at the top of the checkout (%v)", name, name, err)
	}
	return path
}

// Registry starts a distribution registry on a free port of 127.0.0.1 and
// stops it when the test ends. It gives HOST:PORT, to be reached by plain
// HTTP. Its blobs are in the test's temporary directory.
func Registry(tb testing.TB) string {
	tb.Helper()
	addr, _ := RegistryProcess(tb)
	return addr
}

// RegistryProcess is Registry, for who wants to measure or stop the process.
func RegistryProcess(tb testing.TB) (addr string, process *os.Process) {
	tb.Helper()
	return registryWith(tb, Security{})
}

// registryWith starts a registry, with a few attempts.
func registryWith(tb testing.TB, sec Security) (addr string, process *os.Process) {
	tb.Helper()
	bin := Path(tb, "registry")
	for range 5 {
		if addr, process = start(tb, bin, sec); process != nil {
			return addr, process
		}
	}
	tb.Fatal("the registry does not start")
	return "", nil
}

// start makes one attempt: between finding a free port and using it, somebody
// else may take it.
func start(tb testing.TB, bin string, sec Security) (string, *os.Process) {
	tb.Helper()
	dir := tb.TempDir()
	addr := freeAddr(tb)
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"+
		"storage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n  secret: test\n%s", filepath.Join(dir, "data"), addr, sec.config(tb))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	process, exited := startGuarded(tb, log, bin, "serve", config)
	answered := answers(tb.Context(), sec, addr, exited)
	said, _ := os.ReadFile(log)
	if !answered || bytes.Contains(said, []byte("address already in use")) {
		tb.Logf("registry: %s", said)
		return "", nil
	}
	return addr, process
}

// guard starts a program in the background, prints its process id, and kills
// it when its own input ends: at the test's end, and also when the test is
// killed or times out and cleans nothing up.
const guard = `log=$1; shift; "$@" </dev/null >"$log" 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null; wait $!`

// startGuarded starts a program. exited is closed when it has ended, if the
// guard has too.
func startGuarded(tb testing.TB, log string, args ...string) (process *os.Process, exited <-chan struct{}) {
	tb.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), "/bin/sh", append([]string{"-c", guard, "guard", log}, args...)...)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscanln(out, &pid)
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	tb.Cleanup(func() {
		_ = in.Close()
		<-done
	})
	if scanErr != nil {
		tb.Fatalf("start %s: %v", args[0], scanErr)
	}
	process, err = os.FindProcess(pid)
	if err != nil {
		tb.Fatal(err)
	}
	return process, done
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func answers(ctx context.Context, sec Security, addr string, exited <-chan struct{}) bool {
	client, scheme := http.DefaultClient, "http://"
	if sec.CA != "" {
		client, scheme = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}, "https://"
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		select {
		case <-exited:
			return false
		case <-time.After(20 * time.Millisecond):
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+addr+"/v2/", nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK || sec.User != "" && resp.StatusCode == http.StatusUnauthorized
		}
	}
	return false
}
