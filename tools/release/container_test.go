//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// container is the image's files with a site in them. Steps run in it as a
// cluster runs them: with the image's files and nothing else, as its user.
type container struct {
	*site
	root string
}

// Where things are in a container.
const (
	containerWorkspace = "/workspace"
	containerResults   = "/tekton/results"
)

func newContainer(t *testing.T) *container {
	t.Helper()
	root := t.TempDir()
	ref := realtools.Registry(t) + "/tools/weightseal:v1.2.3"
	makeImage(t, ref)
	tarball := filepath.Join(t.TempDir(), "image.tar")
	want(t, 0, root, nil, realtools.Path(t, "crane"), "export", "--insecure", "--platform", host().String(), ref, tarball)
	want(t, 0, root, nil, "tar", "-xf", tarball, "--no-same-owner")
	c := &container{root: root, site: siteIn(t, filepath.Join(root, containerWorkspace))}
	if err := os.MkdirAll(filepath.Join(root, containerResults), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{containerResults, containerWorkspace, "/tmp"} {
		if err := os.Chmod(filepath.Join(root, dir), 0o777); err != nil { // a volume is the pod's user's
			t.Fatal(err)
		}
	}
	if err := os.Chmod(c.path(ourKey), 0o644); err != nil { // as in a mounted Secret
		t.Fatal(err)
	}
	// Folders of test directories on the way.
	for dir := root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// inside is a path as a step sees it: the root is the image's where the test
// may change the root, which takes root.
func (c *container) inside(path string) string {
	if os.Geteuid() == 0 {
		return path
	}
	return filepath.Join(c.root, path)
}

// run runs a step's command.
func (c *container) run(t *testing.T, dir string, env, args []string) (string, int) {
	t.Helper()
	env = append([]string{"HOME=" + c.inside("/home/nonroot"), "SSL_CERT_FILE=" + c.inside("/etc/ssl/certs/ca-certificates.crt")}, env...)
	if os.Geteuid() != 0 {
		args = append([]string{filepath.Join(c.root, args[0])}, args[1:]...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env, cmd.Dir = append(env, "PATH=/usr/local/bin"), dir
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: nonroot, Gid: nonroot}}
	}
	said, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(said), cmd.ProcessState.ExitCode()
}

// result reads a file that a step wrote, and removes it.
func (c *container) result(t *testing.T, path string) string {
	t.Helper()
	path = filepath.Join(c.root, path)
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	return string(b)
}

// checkContainer holds a container of a pod to what its host knows, and to
// what a namespace with the restricted policy demands.
func checkContainer(t *testing.T, where string, v any, known string) map[string]any {
	t.Helper()
	m := onlyKeys(t, where, v, known, "image", "command", "args", "securityContext")
	if command := sequence(t, m["command"]); len(command) != 1 || command[0] != "/usr/local/bin/weightseal" {
		t.Errorf("%s: command is %v, the image has another program", where, command)
	}
	if m["script"] != nil {
		t.Errorf("%s: a script needs a shell, and the image has none", where)
	}
	if args := sequence(t, m["args"]); !slices.Contains(args, any("--")) {
		t.Errorf("%s: a value that begins with a dash would be an option: -- is missing", where)
	}
	sc := onlyKeys(t, where, m["securityContext"], "runAsNonRoot runAsUser allowPrivilegeEscalation capabilities seccompProfile")
	drop := sequence(t, mapping(t, sc["capabilities"])["drop"])
	if sc["runAsNonRoot"] != true || sc["runAsUser"] != nonroot || sc["allowPrivilegeEscalation"] != false ||
		len(drop) != 1 || drop[0] != "ALL" || mapping(t, sc["seccompProfile"])["type"] != "RuntimeDefault" {
		t.Errorf("%s: a namespace with the restricted policy refuses %v", where, sc)
	}
	for _, v := range sequence(t, m["env"]) {
		onlyKeys(t, where+" env", v, "name value valueFrom", "name")
	}
	return m
}
