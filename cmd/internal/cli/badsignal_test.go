//go:build unix

package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
)

// stall holds a request until the client goes away, and says that it came.
func stall(reached chan<- struct{}) fp.Fault {
	var once sync.Once
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		once.Do(func() { close(reached) })
		_, _ = io.Copy(io.Discard, r.Body) // a server sees that the client is gone only behind the body
		<-r.Context().Done()
		return true
	}
}

// interrupt runs the program, sends it a signal when it has reached the phase,
// and wants exit code 130 with nothing on standard output.
func interrupt(t *testing.T, sig os.Signal, reached <-chan struct{}, args ...string) {
	t.Helper()
	bin, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD="+keyPassword)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reached:
	case <-time.After(30 * time.Second):
		t.Error("the phase is not reached")
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("it ends with %v\n%s", err, &errs)
	}
	result{exit.ExitCode(), out.String(), errs.String()}.failed(t, codes(exitInterrupted), "error: interrupted")
}

// TestInterruptedAtRegistry sends SIGINT and SIGTERM while a registry keeps
// the program waiting, in each phase.
func TestInterruptedAtRegistry(t *testing.T) {
	t.Parallel()
	dir, key, pub := largeModel(t), keyFile(t, "ours.key"), keyFile(t, "ours.pub")
	origin := watched(t)
	execute(t, "push", dir, origin.Addr+"/a/b:there", "--plain-http", "--key", key).succeeded(t)
	for name, test := range map[string]struct {
		on   func(f fp.Fault) fp.Fault
		args func(addr, out string) []string // pushes to /c/d, which each has for itself
	}{
		"scan": {func(f fp.Fault) fp.Fault { return fp.On("GET", "/blobs/", f) }, func(addr, _ string) []string { return []string{"scan", addr + "/a/b:there"} }},
		"plan": {func(f fp.Fault) fp.Fault { return fp.On("GET", "/blobs/", f) }, func(addr, out string) []string {
			return []string{"push", addr + "/a/b:there", "oci:" + out + ":v1", "--no-sign"}
		}},
		"upload":   {func(f fp.Fault) fp.Fault { return fp.On("POST", "/blobs/uploads/", f) }, func(addr, _ string) []string { return []string{"push", dir, addr + "/c/d:v1", "--key", key} }},
		"mid":      {func(f fp.Fault) fp.Fault { return fp.On("PATCH", "/blobs/uploads/", f) }, func(addr, _ string) []string { return []string{"push", dir, addr + "/c/d:v1", "--key", key} }},
		"manifest": {func(f fp.Fault) fp.Fault { return fp.On("PUT", "/manifests/sha256:", f) }, func(addr, _ string) []string { return []string{"push", dir, addr + "/c/d:v1", "--key", key} }},
		"attest":   {func(f fp.Fault) fp.Fault { return fp.On("PUT", "/manifests/sha256-", f) }, func(addr, _ string) []string { return []string{"push", dir, addr + "/c/d:v1", "--key", key} }},
		"tag":      {func(f fp.Fault) fp.Fault { return fp.On("PUT", "/manifests/v1", f) }, func(addr, _ string) []string { return []string{"push", dir, addr + "/c/d:v1", "--key", key} }},
		"resolve":  {func(f fp.Fault) fp.Fault { return fp.On("", "/manifests/there", f) }, func(addr, out string) []string { return []string{"pull", addr + "/a/b:there", out, "--key", pub} }},
		"verify":   {func(f fp.Fault) fp.Fault { return fp.On("GET", "/referrers/", f) }, func(addr, _ string) []string { return []string{"verify", addr + "/a/b:there", "--key", pub} }},
		"download": {func(f fp.Fault) fp.Fault { return fp.On("GET", "/blobs/", largeOnly(f)) }, func(addr, out string) []string { return []string{"pull", addr + "/a/b:there", out, "--key", pub} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sig := os.Signal(syscall.SIGINT)
			if len(name)%2 == 0 {
				sig = syscall.SIGTERM
			}
			reached := make(chan struct{})
			p := fp.Start(t, origin.Addr, test.on(stall(reached)))
			parent := t.TempDir()
			args := append(test.args(p.Addr, filepath.Join(parent, "out")), "--plain-http")
			for i := range args {
				args[i] = strings.Replace(args[i], "/c/d:", "/c/"+name+":", 1)
			}
			interrupt(t, sig, reached, args...)
			holds(t, parent)
			untagged(t, p, "c/"+name+":v1")
		})
	}
}

// TestInterruptedConversion sends SIGINT while a large file is written.
func TestInterruptedConversion(t *testing.T) {
	t.Parallel()
	source := filepath.Join(placed(t, nil), "model.safetensors")
	header := `{"w":{"dtype":"U8","shape":[1073741824],"data_offsets":[0,1073741824]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	if err := os.WriteFile(source, append([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}, header...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(source, int64(8+len(header)+1<<30)); err != nil { // the tensor is a hole
		t.Fatal(err)
	}
	for name, in := range map[string]string{"file": source, "directory": filepath.Dir(source)} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			reached := make(chan struct{})
			go func() {
				defer close(reached)
				for range 20000 {
					if entries, err := os.ReadDir(parent); err == nil && len(entries) > 0 {
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			interrupt(t, syscall.SIGINT, reached, "convert", in, filepath.Join(parent, "out"), "--to", "torch")
			holds(t, parent)
		})
	}
}

// canceller cancels when a line of the progress says that a phase begins.
type canceller struct {
	bytes.Buffer
	line   string
	cancel context.CancelFunc
}

func (c *canceller) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Contains(c.String(), "\n"+c.line) || strings.HasPrefix(c.String(), c.line) {
		c.cancel()
	}
	return n, err
}

// TestInterruptedInPhase interrupts as each phase begins, those included that
// are too short for a signal to be aimed at.
func TestInterruptedInPhase(t *testing.T) {
	t.Parallel()
	origin := watched(t)
	large := largeModel(t)
	pickled := placed(t, map[string][]byte{"pytorch_model.bin": readCorpus(t, "checkpoints/tied.pt"), "config.json": []byte("{}")})
	execute(t, "push", large, origin.Addr+"/a/b:there", "--plain-http", "--key", keyFile(t, "ours.key")).succeeded(t)
	push := []string{"push", pickled, "REG/c/d:v1", "--plain-http", "--key", keyFile(t, "ours.key")}
	pull := []string{"pull", "REG/a/b:there", "OUT", "--plain-http", "--key", keyFile(t, "ours.pub")}
	for name, test := range map[string]struct {
		line string
		args []string
	}{
		"push scan": {"scan ", push}, "push upload": {"upload ", push}, "push attest": {"attest ", push},
		"pull download": {"download ", pull}, "pull check": {"check ", pull},
		"convert file":      {"convert ", []string{"convert", filepath.Join(pickled, "pytorch_model.bin"), "OUT"}},
		"convert directory": {"convert ", []string{"convert", pickled, "OUT"}},
		"convert copy":      {"copy ", []string{"convert", pickled, "OUT"}},
		"scan":              {"scan ", []string{"scan", pickled}},
		"push to layout":    {"upload ", []string{"push", pickled, "oci:OUT:v1", "--no-sign"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fp.Start(t, origin.Addr)
			parent := t.TempDir()
			args := []string{program}
			for _, a := range test.args {
				args = append(args, strings.NewReplacer("REG", p.Addr, "OUT", filepath.Join(parent, "out")).Replace(a))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out bytes.Buffer
			errs := &canceller{line: test.line, cancel: cancel}
			code := run(ctx, args, &streams{in: strings.NewReader(""), out: &out, err: errs, env: map[string]string{"COSIGN_PASSWORD": keyPassword}})
			result{code, out.String(), errs.String()}.failed(t, codes(exitInterrupted), "error: interrupted")
			if name == "push to layout" {
				execute(t, "inspect", "oci:"+filepath.Join(parent, "out")+":v1").failed(t, codes(exitNetwork))
				return
			}
			holds(t, parent)
			untagged(t, p, "c/d:v1")
		})
	}
}
