package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/internal/realtools"
)

const testPassword = "secret"

func listed(name string, mode, size int64) string { return fmt.Sprintf("%s %o %d", name, mode, size) }

// made is a release that all tests look at: one platform, as compiling for
// more tests the compiler.
type made struct {
	dir, key string // dist, and the private key
	r        *release
}

// scratch is removed when all tests have run.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "weightseal-release-test-") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var makeOnce = sync.OnceValues(func() (*made, error) {
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	private, _, err := attest.GenerateKey([]byte(testPassword))
	if err != nil {
		return nil, err
	}
	m := &made{dir: filepath.Join(dir, "dist"), key: filepath.Join(dir, "cosign.key")}
	if err := os.WriteFile(m.key, private, 0o600); err != nil {
		return nil, err
	}
	signer, err := attest.LoadSigner(m.key, func() ([]byte, error) { return []byte(testPassword), nil })
	if err != nil {
		return nil, err
	}
	if m.r, err = newRelease("../..", m.dir, "v1.2.3"); err != nil {
		return nil, err
	}
	m.r.platforms, m.r.date = []platform{host()}, someDate
	return m, m.r.make(context.Background(), signer)
})

func makeRelease(t *testing.T) *made {
	t.Helper()
	m, err := makeOnce()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *made) path(name string) string { return filepath.Join(m.dir, name) }

func (m *made) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// call runs a program and gives what it wrote and its exit code.
func call(t *testing.T, dir string, env []string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	if env == nil {
		cmd.Env = os.Environ()
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func want(t *testing.T, code int, dir string, env []string, args ...string) string {
	t.Helper()
	out, got := call(t, dir, env, args...)
	if got != code {
		t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// TestReleaseHolds: every file that the documents name is there, and
// checksums.txt covers all but itself and its proof.
func TestReleaseHolds(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	archive := host().archive("1.2.3")
	wanted := []string{
		"checksums.txt", "checksums.txt.sig", "weightseal-1.2.3.tgz", "weightseal.krew.yaml", "weightseal.pub",
		archive, "weightseal_1.2.3_provenance.intoto.json", "weightseal_1.2.3_sbom.cdx.json",
	}
	slices.Sort(wanted)
	if !slices.Equal(names, wanted) {
		t.Errorf("the release holds %q, want %q", names, wanted)
	}
	out := want(t, 0, m.dir, nil, "sha256sum", "--check", "--strict", "checksums.txt")
	if got := strings.Count(out, ": OK"); got != len(wanted)-4 {
		t.Errorf("checksums.txt covers %d files:\n%s", got, out)
	}
	list := listTar(t, m.read(t, archive))
	for _, name := range []string{"weightseal 755", "LICENSE 644", "README.md 644", "completions/weightseal.bash 644", "completions/_weightseal 644", "completions/weightseal.fish 644", "completions/weightseal.ps1 644", "man/man1/weightseal-push.1 644"} {
		if !slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, name) }) {
			t.Errorf("%s holds no %s: %q", archive, name, list)
		}
	}
	for _, l := range listTar(t, m.read(t, "weightseal-1.2.3.tgz")) {
		if !strings.HasPrefix(l, "weightseal/") {
			t.Errorf("the Helm plugin holds %s outside of its folder", l)
		}
	}
}

// TestOthersVerifyTheRelease: cosign and openssl take the signature and the
// provenance, and refuse them for anything else.
func TestOthersVerifyTheRelease(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	archive := host().archive("1.2.3")
	env := append(os.Environ(), "HOME="+t.TempDir())
	for _, name := range []string{"cosign2", "cosign3"} {
		cosign := realtools.Path(t, name)
		blob := []string{cosign, "verify-blob", "--key", "weightseal.pub", "--signature", "checksums.txt.sig", "--insecure-ignore-tlog"}
		statement := []string{
			cosign, "verify-blob-attestation", "--key", "weightseal.pub", "--signature", "weightseal_1.2.3_provenance.intoto.json",
			"--type", "slsaprovenance1", "--insecure-ignore-tlog",
		}
		if name == "cosign3" {
			statement = append(statement, "--new-bundle-format=false")
		}
		want(t, 0, m.dir, env, append(blob, "checksums.txt")...)
		want(t, 1, m.dir, env, append(blob, archive)...)
		for _, file := range []string{archive, "weightseal-1.2.3.tgz", "weightseal_1.2.3_sbom.cdx.json"} {
			want(t, 0, m.dir, env, append(statement, file)...)
		}
		want(t, 1, m.dir, env, append(statement, "weightseal.pub")...)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(m.read(t, "checksums.txt.sig"))))
	if err != nil {
		t.Fatal(err)
	}
	sig := filepath.Join(t.TempDir(), "sig")
	if err := os.WriteFile(sig, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, 0, m.dir, nil, "openssl", "dgst", "-sha256", "-verify", "weightseal.pub", "-signature", sig, "checksums.txt")
}

// TestProvenanceSays how the files were made.
func TestProvenanceSays(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	key, err := attest.LoadPublicKey(m.path("weightseal.pub"))
	if err != nil {
		t.Fatal(err)
	}
	archive := host().archive("1.2.3")
	sum := sha256.Sum256(m.read(t, archive))
	v, err := attest.VerifyBlobStatement(m.read(t, "weightseal_1.2.3_provenance.intoto.json"), "sha256:"+hex.EncodeToString(sum[:]),
		provenanceType, attest.Trust{Keys: []attest.PublicKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	var st struct {
		Predicate struct {
			BuildDefinition struct {
				BuildType            string
				ExternalParameters   struct{ Version string }
				ResolvedDependencies []struct{ URI string }
			}
			RunDetails struct{ Builder struct{ ID string } }
		}
	}
	if err := json.Unmarshal(v.Payload, &st); err != nil {
		t.Fatal(err)
	}
	b := st.Predicate.BuildDefinition
	if b.BuildType != buildType || b.ExternalParameters.Version != "v1.2.3" || len(b.ResolvedDependencies) != 2 ||
		b.ResolvedDependencies[0].URI != "git+https://"+module+"@refs/tags/v1.2.3" || st.Predicate.RunDetails.Builder.ID == "" {
		t.Errorf("provenance is %s", v.Payload)
	}
}

// TestKrewManifest: it leads to the archive, by digest.
func TestKrewManifest(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	var k struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			Version, ShortDescription string
			Platforms                 []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, SHA256, Bin string
				Files            []struct{ From, To string }
			}
		}
	}
	if err := yaml.Unmarshal(m.read(t, "weightseal.krew.yaml"), &k); err != nil {
		t.Fatal(err)
	}
	archive := host().archive("1.2.3")
	sum := sha256.Sum256(m.read(t, archive))
	if k.Kind != "Plugin" || k.Metadata.Name != "weightseal" || k.Spec.Version != "v1.2.3" || len(k.Spec.Platforms) != 1 {
		t.Fatalf("manifest is %+v", k)
	}
	p := k.Spec.Platforms[0]
	if p.URI != "https://"+module+"/releases/download/v1.2.3/"+archive || p.SHA256 != hex.EncodeToString(sum[:]) || p.Bin != "weightseal" || len(p.Files) != 2 {
		t.Errorf("platform is %+v", p)
	}
}

// TestBillOfMaterials: what the binary was linked from, each with what
// identifies it.
func TestBillOfMaterials(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	raw := m.read(t, "weightseal_1.2.3_sbom.cdx.json")
	var b bom
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		t.Fatal(err)
	}
	refs, licensed := map[string]bool{b.Metadata.Component.Ref: true}, 0
	for _, c := range append(slices.Clone(b.Components), b.Metadata.Component.Components...) {
		if refs[c.Ref] {
			t.Errorf("%s is there twice", c.Ref)
		}
		refs[c.Ref] = true
		if c.Type == "library" && (c.Version == "" || !strings.HasPrefix(c.PURL, "pkg:golang/")) || c.Type == "file" && len(c.Hashes) == 0 {
			t.Errorf("component %+v", c)
		}
		if len(c.Licenses) > 0 {
			licensed++
		}
	}
	for _, d := range b.Dependencies {
		for _, r := range append(d.DependsOn, d.Ref) {
			if !refs[r] {
				t.Errorf("%s is depended on, and not there", r)
			}
		}
	}
	if !refs["pkg:golang/github.com/spf13/cobra@"+cobraVersion(t)] || len(b.Components) < 50 || licensed < len(b.Components)*9/10 {
		t.Errorf("%d components, %d with a licence, cobra among them: %v", len(b.Components), licensed, refs)
	}
	if b.SpecVersion != "1.6" || !strings.HasPrefix(b.SerialNumber, "urn:uuid:") || len(b.SerialNumber) != len("urn:uuid:")+36 {
		t.Errorf("version %s, serial number %s", b.SpecVersion, b.SerialNumber)
	}
}

func cobraVersion(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(want(t, 0, "../..", nil, "go", "list", "-m", "-f", "{{.Version}}", "github.com/spf13/cobra"))
}

// TestReleaseIsReproducible: another folder with the same sources gives the
// same bytes, all but what is signed.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	m := makeRelease(t)
	copied := filepath.Join(t.TempDir(), "deeper", "copy")
	copySources(t, "../..", copied)
	r, err := newRelease(copied, t.TempDir(), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	r.platforms, r.date = []platform{host()}, someDate
	if err := r.make(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{host().archive("1.2.3"), "weightseal.krew.yaml", "weightseal_1.2.3_sbom.cdx.json"} {
		if r.digests[name] == "" || r.digests[name] != m.r.digests[name] {
			t.Errorf("%s: %s here, %s in the copy", name, m.r.digests[name], r.digests[name])
		}
	}
	if _, err := os.Stat(filepath.Join(r.out, "checksums.txt.sig")); err == nil {
		t.Error("a release without a key has a signature")
	}
}

// copySources copies what a build reads.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	want(t, 0, from, nil, "sh", "-c", `tar -cf - --exclude=testdata --exclude='*_test.go' --exclude=./bin --exclude=./dist --exclude=./.git --exclude=./bench . | tar -xf - -C "$1"`, "sh", to)
}

// TestReleaseRefuses what it must not make.
func TestReleaseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		text string
	}{
		"no version":       {nil, "want one such as v1.2.3"},
		"no v":             {[]string{"-version", "1.2.3"}, "want one such as v1.2.3"},
		"a path":           {[]string{"-version", "v1.2.3-../../x"}, "want one such as v1.2.3"},
		"no key":           {[]string{"-version", "v1.2.3"}, "a release is signed"},
		"a platform":       {[]string{"-version", "v1.2.3", "-platforms", "plan9/amd64"}, "want some of"},
		"image on windows": {[]string{"image", "-version", "v1.2.3", "-platforms", "windows/amd64"}, "the image is for Linux"},
		"an argument":      {[]string{"-version", "v1.2.3", "more"}, "unexpected argument"},
	} {
		t.Setenv("ALLOW_UNSIGNED", "")
		t.Chdir(t.TempDir())
		if err := run(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
		if _, err := os.Stat("dist"); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
}

// TestRecognise: sentences decide, not names of files.
func TestRecognise(t *testing.T) {
	t.Parallel()
	for text, id := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                         "Apache-2.0",
		"Permission is hereby granted, free of\ncharge, to any person":         "MIT",
		"Redistributions in binary form must ... Neither the name of the":      "BSD-3-Clause",
		"Redistributions in binary form must reproduce":                        "BSD-2-Clause",
		"Mozilla Public License, version 2.0":                                  "MPL-2.0",
		"Permission to use, copy, modify, and/or distribute this software for": "ISC",
		"All rights reserved. Ask us, and mention Apache.":                     "",
	} {
		if got := recognise(text); got != id {
			t.Errorf("%q is %q, want %q", text, got, id)
		}
	}
}
