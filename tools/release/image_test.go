package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/weightseal/weightseal/internal/realtools"
)

// makeImage makes the image for both architectures; the program for the other
// one is a stand-in, as compiling it tests the compiler.
func makeImage(t *testing.T, push string) (dir string) {
	t.Helper()
	m := makeRelease(t)
	dir = filepath.Join(t.TempDir(), "image")
	r, err := newRelease("../..", dir, "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	r.date = someDate
	for _, arch := range []string{"amd64", "arm64"} {
		r.binaries[platform{"linux", arch}] = []byte("for " + arch)
	}
	r.binaries[host()] = m.r.binaries[host()]
	if err := r.image(t.Context(), "", push, true); err != nil {
		t.Fatal(err)
	}
	return dir
}

func indexOf(t *testing.T, dir string) v1.ImageIndex {
	t.Helper()
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("layout holds %+v (%v)", manifest, err)
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestImage: a valid index for both architectures, the same each time, of a
// user that is not root, with annotations, and nothing in it but what is needed.
func TestImage(t *testing.T) {
	t.Parallel()
	index := indexOf(t, makeImage(t, ""))
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 2 || manifest.Annotations["org.opencontainers.image.version"] != "1.2.3" {
		t.Fatalf("index is %+v", manifest)
	}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := config.Config
		if config.OS != "linux" || config.Architecture != d.Platform.Architecture || c.User != "65532:65532" ||
			len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/usr/local/bin/weightseal" || !config.Created.Equal(someDate) {
			t.Errorf("configuration is %+v", config)
		}
		checkImageFiles(t, img)
	}
	again, err := indexOf(t, makeImage(t, "")).Digest()
	if first, _ := index.Digest(); err != nil || again != first {
		t.Errorf("a second image is %s, the first %s (%v)", again, first, err)
	}
}

func checkImageFiles(t *testing.T, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]int64{}
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(rc); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			modes[h.Name] = h.Mode
			if home := h.Name == "home/nonroot/"; home != (h.Uid == nonroot) || !h.ModTime.Equal(someDate) {
				t.Errorf("%s: owned by %d, of %v", h.Name, h.Uid, h.ModTime)
			}
			if h.Mode&0o6000 != 0 {
				t.Errorf("%s: mode %o", h.Name, h.Mode)
			}
		}
	}
	if len(modes) != 13 || modes["usr/local/bin/weightseal"] != 0o755 || modes["tmp/"] != 0o1777 {
		t.Errorf("files are %v", modes)
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	n := 0
	for rest := authorities(); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				t.Errorf("%d bytes after the last certificate", len(rest))
			}
			break
		}
	}
	if n < 50 {
		t.Errorf("%d certificate authorities", n)
	}
}

// TestImageInARegistry: real clients find it valid, and its program runs as
// the image's user with the image's files and nothing else.
func TestImageInARegistry(t *testing.T) {
	t.Parallel()
	ref := realtools.Registry(t) + "/tools/weightseal:v1.2.3"
	makeImage(t, ref)
	crane, oras := realtools.Path(t, "crane"), realtools.Path(t, "oras")
	want(t, 0, "", nil, crane, "validate", "--insecure", "--remote", ref)
	var index struct {
		Manifests []struct{ Platform struct{ Architecture string } }
	}
	if err := json.Unmarshal([]byte(want(t, 0, "", nil, oras, "manifest", "fetch", "--plain-http", ref)), &index); err != nil || len(index.Manifests) != 2 {
		t.Errorf("oras fetches %+v (%v)", index, err)
	}
	root := t.TempDir()
	want(t, 0, root, nil, crane, "export", "--insecure", "--platform", host().String(), ref, "image.tar")
	want(t, 0, root, nil, "tar", "-xf", "image.tar", "--no-same-owner", "--exclude=image.tar")
	program := filepath.Join(root, "usr", "local", "bin", "weightseal")
	env := []string{"HOME=" + filepath.Join(root, "tmp"), "TMPDIR=" + filepath.Join(root, "tmp")}
	if out := want(t, 0, "", env, program, "version"); !strings.Contains(out, "v1.2.3") {
		t.Errorf("the image's program says %q", out)
	}
	if os.Geteuid() == 0 { // where a new root can be had, with nothing in it but the image
		env := []string{"HOME=/tmp", "PATH=/usr/local/bin"}
		want(t, 0, "", append(env, "PATH="+os.Getenv("PATH")), "chroot", "--userspec=65532:65532", root, "/usr/local/bin/weightseal", "demo")
	}
}
