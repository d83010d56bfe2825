package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/attest/attesttest"
	"github.com/weightseal/weightseal/oci"
)

// The whole way with a certificate: what a workflow's identity has signed is
// verified, pulled, and listed as verified; by nobody else's identity.
func TestCertificateIdentity(t *testing.T) {
	t.Parallel()
	const identity, issuer = "https://ci.example/build.yml@refs/heads/main", "https://issuer.example"
	dir := t.TempDir()
	model, ref := filepath.Join(dir, "model"), "oci:"+filepath.Join(dir, "layout")
	if err := os.Mkdir(model, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(model, "model.safetensors"), readCorpus(t, "checkpoints/handmade/st/ok.safetensors"), 0o600); err != nil {
		t.Fatal(err)
	}
	private, public, err := attest.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	writeKeys(t, dir, private, public)
	mustRun := func(args ...string) string {
		t.Helper()
		code, out, stderr := commandLineWith(t, map[string]string{"COSIGN_PASSWORD": ""}, args...)
		if code != exitOK {
			t.Fatalf("%q: exit code %d\n%s%s", args, code, out, stderr)
		}
		return out
	}
	mustRun("push", model, ref+":v1", "--key", filepath.Join(dir, "cosign.key"))
	statement := mustRun("verify", ref+":v1", "--key", filepath.Join(dir, "cosign.pub"), "--output", "statement")

	authority := attesttest.New(t)
	rootFile := filepath.Join(dir, "trusted_root.json")
	if err := os.WriteFile(rootFile, authority.Root(t, false), 0o600); err != nil {
		t.Fatal(err)
	}
	attachBundle(t, ref+":v1", authority.Bundle(t, identity, issuer, []byte(strings.TrimSuffix(statement, "\n"))))
	trusted := []string{"--trusted-root", rootFile, "--certificate-oidc-issuer", issuer, "--certificate-identity"}
	exact := append(trusted, identity)
	out := mustRun(append([]string{"verify", ref + ":v1"}, exact...)...)
	for _, want := range []string{"DSSE signature by \"" + identity, "transparency log: an entry for it is in a trusted log", "signing time: 20"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify does not say %q:\n%s", want, out)
		}
	}
	mustRun(append([]string{"pull", ref + ":v1", filepath.Join(dir, "out")}, exact...)...)
	if out := mustRun(append([]string{"ls", ref}, exact...)...); !strings.Contains(out, ", verified") {
		t.Errorf("ls: %s", out)
	}
	if out := mustRun("history", ref, "--trusted-root", rootFile, "--certificate-oidc-issuer-regexp", "^https://issuer", "--certificate-identity-regexp", "^https://ci"); !strings.Contains(out, ", verified") {
		t.Errorf("history: %s", out)
	}

	wrong := append(trusted, "https://ci.example/other")
	code, _, stderr := commandLine(t, append([]string{"verify", ref + ":v1"}, wrong...)...)
	if code != exitAttestation || !strings.Contains(stderr, "not signed by a trusted identity") {
		t.Errorf("another identity: exit code %d\n%s", code, stderr)
	}
	if out := mustRun(append([]string{"ls", ref}, wrong...)...); !strings.Contains(out, ", untrusted") {
		t.Errorf("ls: %s", out)
	}
}

func writeKeys(t *testing.T, dir string, private, public []byte) {
	t.Helper()
	for name, content := range map[string][]byte{"cosign.key": private, "cosign.pub": public} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// attachBundle stores a bundle as cosign does.
func attachBundle(t *testing.T, ref string, bundle []byte) {
	t.Helper()
	const mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	store, tag, err := oci.Open(ref, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	subject, err := store.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	push := func(mediaType string, content []byte) any {
		d, err := store.PushBlob(t.Context(), oci.Content{MediaType: mediaType, Reader: strings.NewReader(string(content)), Size: int64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": mediaType, "subject": subject,
		"config": push("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []any{push(mediaType, bundle)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddReferrer(t.Context(), subject, manifest, mediaType, nil); err != nil {
		t.Fatal(err)
	}
}
