package oci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// Every handle has its own lock, as every process has.
func TestLayoutManyWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			s := open(t, "oci:"+dir)
			m := ocitest.Manifest(t, s, fmt.Sprint(i), nil, "", nil)
			if _, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, m, fmt.Sprint("tag", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 12 {
		if _, err := open(t, "oci:"+dir).Resolve(t.Context(), fmt.Sprint("tag", i)); err != nil {
			t.Error(err)
		}
	}
	checkNoTemporaries(t, dir)
}

func checkNoTemporaries(t *testing.T, dir string) {
	t.Helper()
	for path := range readTree(t, dir) {
		if strings.Contains(path, ".tmp-") {
			t.Errorf("left behind: %s", path)
		}
	}
}

// The layout is one that others read.
func TestLayoutFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "layout")
	s := open(t, "oci:"+dir)
	st := pushArtifact(t, s, artifactOf(modelFiles()), "v1")
	tree := readTree(t, dir)
	if string(tree["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s", tree["oci-layout"])
	}
	var ix ocispec.Index
	if err := json.Unmarshal(tree["index.json"], &ix); err != nil {
		t.Fatal(err)
	}
	if ix.SchemaVersion != 2 || len(ix.Manifests) != 1 || ix.Manifests[0].Digest != st.Manifest.Digest ||
		ix.Manifests[0].Annotations[ocispec.AnnotationRefName] != "v1" || ix.Manifests[0].ArtifactType != oci.ArtifactType {
		t.Errorf("index.json: %s", tree["index.json"])
	}
	for path, b := range tree {
		if name, ok := strings.CutPrefix(path, "blobs/sha256/"); ok && ocitest.Digest(b) != "sha256:"+name {
			t.Errorf("%s holds %s", path, ocitest.Digest(b))
		}
	}
	checkNoTemporaries(t, dir)
	if st, err := os.Stat(filepath.Join(dir, "index.json")); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestLayoutFaults(t *testing.T) {
	t.Parallel()
	want := ocitest.Random(1<<20, 1)
	set := func(t *testing.T) (string, oci.Store, ocispec.Descriptor) {
		dir := t.TempDir()
		s := open(t, "oci:"+dir)
		d := mustPush(t, s, want)
		return dir, s, d
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"wrong": func(b []byte) []byte { b[100] ^= 1; return b },
		"short": func(b []byte) []byte { return b[:100] },
		"long":  func(b []byte) []byte { return append(b, 0) },
	} {
		dir, s, d := set(t)
		path := filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded())
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, spoil(b), 0o600); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		err = oci.Pull(t.Context(), s, []oci.File{{Path: "x", Descriptor: d}}, out, oci.Options{}, nil)
		var de *oci.DigestError
		if !errors.As(err, &de) || errors.As(err, new(*oci.NetworkError)) {
			t.Errorf("%s: %v", name, err)
		}
		if left := readTree(t, out); len(left) != 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
	for name, content := range map[string]string{"version": `{"imageLayoutVersion":"2.0.0"}`, "no-json": "x"} {
		dir, s, _ := set(t)
		if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resolve(t.Context(), "v1"); err == nil || errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir, s, _ := set(t)
	for name, index := range map[string]string{"no-json": "x", "escape": `{"manifests":[{"digest":"sha256:../../../etc/passwd","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`} {
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resolve(t.Context(), "v1"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A push that fails leaves nothing in the layout.
func TestLayoutCleansUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "oci:"+dir)
	broken := errors.New("bad sector")
	_, err := s.PushBlob(t.Context(), oci.Content{Size: 5 << 20, Reader: readerFunc(func(p []byte, off int64) (int, error) {
		if off > 2<<20 {
			return 0, broken
		}
		return len(p), nil
	})})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if tree := readTree(t, dir); len(tree) != 1 {
		t.Errorf("left behind: %d files", len(tree))
	}
}
