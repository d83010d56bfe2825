package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// pgp makes a key of OpenPGP in a home, and the keyring that Helm reads.
func pgp(t *testing.T, user string) (env []string, keyring string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gpg") //nolint:usetesting // its sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	env = append(os.Environ(), "GNUPGHOME="+dir)
	t.Cleanup(func() {
		stop := exec.CommandContext(context.WithoutCancel(t.Context()), "gpgconf", "--kill", "all")
		stop.Env = env
		if err := stop.Run(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	keyring = filepath.Join(dir, "keyring.gpg")
	want(t, 0, "", env, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", user, "rsa2048", "sign", "never")
	want(t, 0, "", env, "gpg", "--batch", "--quiet", "--output", keyring, "--export", user)
	return env, keyring
}

// TestHelmPluginInARegistry: Helm 4 installs the plugin of a release from a
// registry, and verifies the signature on its archive.
func TestHelmPluginInARegistry(t *testing.T) {
	t.Parallel()
	m, helm := makeRelease(t), realtools.Path(t, "helm4")
	registry := realtools.Registry(t)
	env, keyring := pgp(t, "release@example.com")
	_, stranger := pgp(t, "stranger@example.com")
	dist := t.TempDir()
	if err := os.CopyFS(dist, os.DirFS(m.dir)); err != nil {
		t.Fatal(err)
	}
	ship := func(ref string, more ...string) {
		t.Helper()
		args := append([]string{"go", "run", "./tools/release", "plugin", "-version", "v1.2.3", "-out", dist, "-push", registry + ref, "-plain-http"}, more...)
		want(t, 0, "../..", append(env, "SOURCE_DATE_EPOCH=1000000000"), args...)
	}
	ship("/unsigned/weightseal:1.2.3")
	ship("/plugins/weightseal:1.2.3", "-gpg-key", "release@example.com")

	var manifest struct {
		Config struct{ MediaType string }
		Layers []struct{ Annotations map[string]string }
	}
	out := want(t, 0, "", nil, realtools.Path(t, "oras"), "manifest", "fetch", "--plain-http", registry+"/plugins/weightseal:1.2.3")
	if err := json.Unmarshal([]byte(out), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Config.MediaType != helmPluginType || len(manifest.Layers) != 2 || manifest.Layers[1].Annotations[titleAnnotation] != "weightseal-1.2.3.tgz.prov" {
		t.Errorf("the artifact is %s", out)
	}
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"verified":            {[]string{"oci://" + registry + "/plugins/weightseal:1.2.3", "--plain-http", "--keyring", keyring}, 0},
		"a stranger's key":    {[]string{"oci://" + registry + "/plugins/weightseal:1.2.3", "--plain-http", "--keyring", stranger}, 1},
		"without a signature": {[]string{"oci://" + registry + "/unsigned/weightseal:1.2.3", "--plain-http", "--keyring", keyring}, 1},
		"not verified":        {[]string{"oci://" + registry + "/unsigned/weightseal:1.2.3", "--plain-http", "--verify=false"}, 0},
		"from the archive":    {[]string{filepath.Join(dist, "weightseal-1.2.3.tgz"), "--keyring", keyring}, 0},
		"archive, stranger":   {[]string{filepath.Join(dist, "weightseal-1.2.3.tgz"), "--keyring", stranger}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			h.env = append(h.env, "WEIGHTSEAL_RELEASE_URL="+m.dir)
			want(t, c.code, h.dir, h.env, append([]string{helm, "plugin", "install"}, c.args...)...)
			list := want(t, 0, h.dir, h.env, helm, "plugin", "list")
			if installed := strings.Contains(list, "weightseal"); installed != (c.code == 0) {
				t.Errorf("helm lists\n%s", list)
			}
			if c.code == 0 {
				if out := want(t, 0, h.dir, h.env, helm, "weightseal", "version"); !strings.Contains(out, "v1.2.3") {
					t.Errorf("version says %q", out)
				}
			}
		})
	}
}

// TestShipPluginWantsARelease: what is not there is said, with the way to it.
func TestShipPluginWantsARelease(t *testing.T) {
	t.Parallel()
	r, err := newRelease("../..", t.TempDir(), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.shipPlugin(t.Context(), "", "", false); err == nil || !strings.Contains(err.Error(), "make release VERSION=v1.2.3") {
		t.Errorf("it says %v", err)
	}
}
