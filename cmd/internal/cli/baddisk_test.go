//go:build linux

package cli

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
)

// smallDisk mounts a file system of its own that holds 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small file system (the tests run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves so many bytes of a disk.
func fill(t *testing.T, dir string, left int64) string {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 4096)
	var n int64
	for {
		m, err := f.Write(chunk)
		n += int64(m)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(n-left), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFullDisk: a disk that is too small, or fills up meanwhile. Nothing gets
// the final name, nothing stays beside it, and the error says why.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	large := largeModel(t)
	p := watched(t)
	execute(t, "push", large, p.Addr+"/a/b:v1", "--plain-http", "--key", keyFile(t, "ours.key")).succeeded(t)
	verified := []string{"pull", p.Addr + "/a/b:v1", "", "--plain-http", "--key", keyFile(t, "ours.pub")}
	pickled := filepath.Join(corpus, "checkpoints", "resnet50_narrow.pth")
	folder := placed(t, map[string][]byte{"pytorch_model.bin": readCorpus(t, "checkpoints/resnet50_narrow.pth"), "config.json": []byte("{}")})
	for name, test := range map[string]struct {
		args []string // "" is the target
		left int64
	}{
		"pull":              {verified, 1 << 20},
		"pull unverified":   {[]string{"pull", p.Addr + "/a/b:v1", "", "--plain-http", "--no-verify"}, 1 << 20},
		"convert file":      {[]string{"convert", pickled, ""}, 8 << 10},
		"convert directory": {[]string{"convert", folder, ""}, 16 << 10},
		"copy in directory": {[]string{"convert", large, ""}, 16 << 10},
		"push to layout":    {[]string{"push", large, "oci:", "--no-sign"}, 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t)
			filler := fill(t, disk, test.left)
			target := filepath.Join(disk, "out")
			args := append([]string{}, test.args...)
			for i, a := range args {
				if a == "" || a == "oci:" {
					args[i] = a + target
				}
			}
			if args[0] == "push" {
				args[2] += ":v1"
			}
			r := execute(t, args...)
			r.failed(t, codes(exitError), "no space")
			if args[0] == "push" {
				if left, err := filepath.Glob(filepath.Join(target, "blobs", "sha256", ".*")); err != nil || len(left) > 0 {
					t.Errorf("left behind: %q, %v", left, err)
				}
				execute(t, "inspect", args[2]).failed(t, codes(exitNetwork))
				return
			}
			holds(t, disk, filepath.Base(filler))
		})
	}
}

// TestDiskFillsUp: there was room when the download began.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	dir := placed(t, map[string][]byte{"pytorch_model.bin": readCorpus(t, "checkpoints/resnet50_narrow.pth")})
	p := watched(t)
	execute(t, "push", dir, p.Addr+"/a/b:v1", "--plain-http", "--key", keyFile(t, "ours.key")).succeeded(t)
	disk := smallDisk(t)
	var once sync.Once
	p.Set(fp.On("GET", "/blobs/", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		staging, err := filepath.Glob(filepath.Join(disk, ".weightseal-*"))
		if err == nil && len(staging) > 0 {
			once.Do(func() { fill(t, disk, 64<<10) })
		}
		return false
	}))
	r := execute(t, "pull", p.Addr+"/a/b:v1", filepath.Join(disk, "out"), "--plain-http", "--key", keyFile(t, "ours.pub"))
	r.failed(t, codes(exitError), "no space", "model.safetensors")
	holds(t, disk, "filler")
}
