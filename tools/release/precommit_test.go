package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const hooksFile = ".pre-commit-hooks.yaml"

// TestPreCommitSchema holds the hooks to what pre-commit takes.
func TestPreCommitSchema(t *testing.T) {
	t.Parallel()
	want(t, 0, "../..", nil, program(t, "pre-commit"), "validate-manifest", hooksFile)
}

// hookRepository is a repository with the sources of the program and its
// hooks, as pre-commit clones them, with a tag.
func hookRepository(t *testing.T, env []string, tag string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "weightseal")
	list := want(t, 0, "../..", nil, "go", "list", "-deps", "-f",
		`{{if not .Standard}}{{if .Module.Main}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}
{{end}}{{range .SFiles}}{{$d}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}{{end}}`, "./...")
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(strings.Fields(list), filepath.Join(top, "go.mod"), filepath.Join(top, "go.sum"), filepath.Join(top, hooksFile)) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, rel), string(b))
	}
	gitCommit(t, env, dir)
	want(t, 0, dir, env, "git", "tag", tag)
	return dir
}

func gitCommit(t *testing.T, env []string, dir string) {
	t.Helper()
	want(t, 0, dir, env, "git", "init", "-q")
	want(t, 0, dir, env, "git", "add", "-A")
	want(t, 0, dir, env, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "all")
}

// goCaches lets a home of a test build with what is downloaded and compiled.
func goCaches(t *testing.T) []string {
	t.Helper()
	var env []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB"} {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	// Without the clone's path in it, what was compiled before is found again.
	return append(env, "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
}

// TestPreCommit runs the page with the real pre-commit: it clones and builds
// the hook, which then judges what is about to be committed.
func TestPreCommit(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	env := append(s.env, goCaches(t)...)
	version := strings.TrimSpace(want(t, 0, "../..", nil, "sed", "-n", "s/^version: */v/p", "plugin.yaml"))
	repository := hookRepository(t, env, version)
	want(t, 0, s.dir, env, "git", "config", "--global", "user.name", "a")
	want(t, 0, s.dir, env, "git", "config", "--global", "user.email", "a@example.com")
	want(t, 0, s.dir, env, "git", "config", "--global", "url."+repository+".insteadOf", "https://"+module)

	project := s.path("project")
	writeFile(t, filepath.Join(project, "model.safetensors"), string(s.read(t, cleanModel+"/model.safetensors")))
	writeFile(t, filepath.Join(project, "train.py"), "print('not a model')\n")
	var sh int
	for _, block := range fences(t, "pre-commit.md") {
		switch block[0] {
		case "yaml":
			writeFile(t, filepath.Join(project, ".pre-commit-config.yaml"), block[1])
			want(t, 0, project, env, program(t, "pre-commit"), "validate-config")
		case "sh":
			if sh++; sh == 1 {
				gitCommit(t, env, project)
			}
			commands(t, project, env, block[1])
			if sh == 1 { // the second block finds what is new
				writeFile(t, filepath.Join(project, "model.bin"), string(s.read(t, maliciousFile+"/pytorch_model.bin")))
				writeFile(t, filepath.Join(project, "logo.png"), "\x80\x04cos\nsystem\n(S'\x00'\ntR.")
				want(t, 0, project, env, "git", "add", "-A")
			}
		default:
			t.Errorf("a block of %s is not run", block[0])
		}
	}
	if sh != 2 {
		t.Fatalf("%d blocks of commands", sh)
	}
	out, code := call(t, project, env, program(t, "pre-commit"), "run")
	if code != 1 || strings.Count(out, "- exit code: 3\n") != 2 || !strings.Contains(out, "model.bin") || !strings.Contains(out, "logo.png") {
		t.Errorf("pre-commit ends with %d\n%s", code, out)
	}
	if strings.Contains(out, "train.py") {
		t.Errorf("a text is scanned\n%s", out)
	}
}
