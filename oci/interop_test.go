package oci_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(realtools.Path(t, name), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func writeTree(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for path, b := range files {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What we push, others pull and find valid; what they push, we pull.
func TestInterop(t *testing.T) {
	t.Parallel()
	addr := realtools.Registry(t)
	files := modelFiles()

	t.Run("oras-pulls", func(t *testing.T) {
		t.Parallel()
		ref := addr + "/ours/model:v1"
		pushArtifact(t, open(t, ref), artifactOf(files), "v1")
		dir := t.TempDir()
		run(t, dir, "oras", "pull", "--plain-http", ref)
		compareTrees(t, readTree(t, dir), files)
	})
	t.Run("oras-pulls-layout", func(t *testing.T) {
		t.Parallel()
		layout := filepath.Join(t.TempDir(), "layout")
		pushArtifact(t, open(t, "oci:"+layout), artifactOf(files), "v1")
		dir := t.TempDir()
		run(t, dir, "oras", "pull", "--oci-layout", layout+":v1")
		compareTrees(t, readTree(t, dir), files)
	})
	t.Run("crane-validates", func(t *testing.T) {
		t.Parallel()
		ref := addr + "/ours/valid:v1"
		st := pushArtifact(t, open(t, ref), artifactOf(files), "v1")
		run(t, t.TempDir(), "crane", "validate", "--remote", ref, "--insecure")
		got := run(t, t.TempDir(), "crane", "manifest", "--insecure", ref)
		if !bytes.Equal([]byte(got), append(st.ManifestBytes, '\n')) && got != string(st.ManifestBytes) {
			t.Errorf("crane sees another manifest: %s", got)
		}
	})
	t.Run("pull-from-oras", func(t *testing.T) {
		t.Parallel()
		ref := addr + "/theirs/model:v1"
		dir := t.TempDir()
		writeTree(t, dir, files)
		args := []string{"push", "--plain-http", ref}
		for path := range files {
			args = append(args, path)
		}
		run(t, dir, "oras", args...)
		compareTrees(t, pullAll(t, open(t, ref), "v1"), files)
	})
	t.Run("pull-from-oras-layout", func(t *testing.T) {
		t.Parallel()
		dir, layout := t.TempDir(), filepath.Join(t.TempDir(), "layout")
		writeTree(t, dir, files)
		args := []string{"push", "--oci-layout", layout + ":v1"}
		for path := range files {
			args = append(args, path)
		}
		run(t, dir, "oras", args...)
		compareTrees(t, pullAll(t, open(t, "oci:"+layout), "v1"), files)
	})
	t.Run("referrers", func(t *testing.T) {
		t.Parallel()
		ref := addr + "/ours/attached:v1"
		s := open(t, ref)
		st := pushArtifact(t, s, artifactOf(files), "v1")
		dir := t.TempDir()
		writeTree(t, dir, map[string][]byte{"note.txt": []byte("theirs")})
		run(t, dir, "oras", "attach", "--plain-http", "--artifact-type", "application/vnd.theirs", ref, "note.txt")
		list, err := s.Referrers(t.Context(), st.Manifest.Digest.String())
		if err != nil || len(list) != 1 || list[0].ArtifactType != "application/vnd.theirs" {
			t.Fatalf("referrers %v, %v", list, err)
		}
		addReferrer(t, s, st)
		list, err = s.Referrers(t.Context(), st.Manifest.Digest.String())
		if err != nil || len(list) != 2 {
			t.Errorf("referrers %v, %v", list, err)
		}
		out := run(t, dir, "oras", "discover", "--plain-http", ref)
		for _, want := range []string{"application/vnd.theirs", "application/vnd.ours"} {
			if !bytes.Contains([]byte(out), []byte(want)) {
				t.Errorf("oras does not see %s:\n%s", want, out)
			}
		}
	})
}

// addReferrer attaches a manifest of ours.
func addReferrer(t *testing.T, s oci.Store, st *oci.Staged) {
	t.Helper()
	notes := map[string]string{"kind": "test"}
	m := ocitest.Manifest(t, s, "ours", &st.Manifest, "application/vnd.ours", notes)
	if _, err := s.AddReferrer(t.Context(), st.Manifest, m, "application/vnd.ours", notes); err != nil {
		t.Fatal(err)
	}
}
