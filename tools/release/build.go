package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/weightseal/weightseal"

// platform is what a binary runs on.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

func (p platform) program() string {
	if p.os == "windows" {
		return "weightseal.exe"
	}
	return "weightseal"
}

// archive is the name of the platform's archive of a version without the v.
func (p platform) archive(version string) string {
	end := "tar.gz"
	if p.os == "windows" {
		end = "zip"
	}
	return fmt.Sprintf("weightseal_%s_%s_%s.%s", version, p.os, p.arch, end)
}

// released are the platforms of a release.
var released = []platform{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"},
}

func parsePlatforms(text string) ([]platform, error) {
	if text == "" {
		return released, nil
	}
	var list []platform
	for word := range strings.SplitSeq(text, ",") {
		p := platform{}
		p.os, p.arch, _ = strings.Cut(word, "/")
		if !slices.Contains(released, p) {
			return nil, fmt.Errorf("platform %q: want some of %v", word, released)
		}
		list = append(list, p)
	}
	return list, nil
}

// build compiles the program. The flags are those of the Makefile's build: the
// bytes depend on the sources, the version and the Go release, and on nothing
// of this machine.
func (r *release) build(ctx context.Context, p platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "weightseal-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, p.program())
	flags := "-s -w -buildid= -X " + module + "/cmd/internal/cli.releaseVersion=" + r.tag
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", out, "./cmd/weightseal")
	cmd.Dir = r.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS="+p.os, "GOARCH="+p.arch,
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build for %s: %w\n%s", p, err, said)
	}
	return os.ReadFile(out)
}

// completions asks a program of this machine for the shells' completions.
func (r *release) completions(ctx context.Context) ([]entry, error) {
	out, err := os.MkdirTemp("", "weightseal-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)
	program := filepath.Join(out, host().program())
	if err := os.WriteFile(program, r.binaries[host()], 0o700); err != nil { //nolint:gosec // it is run
		return nil, err
	}
	var list []entry
	for shell, name := range map[string]string{
		"bash": "weightseal.bash", "zsh": "_weightseal", "fish": "weightseal.fish", "powershell": "weightseal.ps1",
	} {
		cmd := exec.CommandContext(ctx, program, "completion", shell)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + out}
		script, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", shell, err)
		}
		list = append(list, entry{name: "completions/" + name, content: script})
	}
	return list, nil
}
