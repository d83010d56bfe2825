package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const testType = "https://slsa.dev/provenance/v1"

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func sha256Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// TestBlobSignatures: what each kind of key signs, that key verifies, and no
// other key, file or signature does.
func TestBlobSignatures(t *testing.T) {
	t.Parallel()
	file := []byte("some\x00bytes\n")
	for name, k := range someKeys(t) {
		private, public := keyPair(t, k)
		signer, err := LoadSigner(private, nil)
		if err != nil {
			t.Fatal(err)
		}
		own, err := LoadPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := SignBlob(t.Context(), signer, bytes.NewReader(file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		trust := Trust{Keys: []PublicKey{key(t, otherKey).trusted, own}}
		if by, err := VerifyBlob(t.Context(), opener(file), sig+"\n", trust); err != nil || by != own.Name {
			t.Errorf("%s: by %q, %v", name, by, err)
		}
		for what, c := range map[string]struct {
			file  []byte
			sig   string
			trust Trust
		}{
			"another file":       {append(file, 'x'), sig, trust},
			"another key":        {file, sig, trustOurs(t)},
			"no key":             {file, sig, Trust{}},
			"no signature":       {file, "", trust},
			"no base64":          {file, "!" + sig, trust},
			"another signature":  {file, base64.StdEncoding.EncodeToString([]byte("sig")), trust},
			"a signature longer": {file, sig + "AAAA", trust},
		} {
			if _, err := VerifyBlob(t.Context(), opener(c.file), c.sig, c.trust); !errors.Is(err, ErrBlobSignature) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// TestBlobUnread: a file that cannot be read is no bad signature.
func TestBlobUnread(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	sig, err := SignBlob(t.Context(), k.signer, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return os.Open(filepath.Join(t.TempDir(), "none")) }
	if _, err := VerifyBlob(t.Context(), open, sig, trustOurs(t)); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrBlobSignature) {
		t.Error(err)
	}
}

func TestBlobStatements(t *testing.T) {
	t.Parallel()
	k := key(t, ourKey)
	a, b := sha256Digest([]byte("a")), sha256Digest([]byte("b"))
	build := func(predicateType string) []byte {
		st, err := NewBlobStatement([]BlobSubject{{"z.tar", b}, {"a.tar", a}}, predicateType, json.RawMessage(`{"n": 1}`))
		if err != nil {
			t.Fatal(err)
		}
		env, err := k.signer.Sign(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	env := build(testType)
	got, err := VerifyBlobStatement(env, b, testType, trustOurs(t))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[` +
		`{"name":"a.tar","digest":{"sha256":"` + a[7:] + `"}},{"name":"z.tar","digest":{"sha256":"` + b[7:] + `"}}],"predicate":{"n":1}}`
	if got.Subject != "z.tar" || got.Key != k.trusted.Name || string(got.Payload) != want {
		t.Errorf("verified as %+v with payload %s, want %s", got, got.Payload, want)
	}
	for name, c := range map[string]struct {
		env          []byte
		digest, kind string
		trust        Trust
		text         string
	}{
		"another file":  {env, sha256Digest([]byte("c")), testType, trustOurs(t), "none of them"},
		"another type":  {build("https://example.org/x"), a, testType, trustOurs(t), "predicate type"},
		"another key":   {env, a, testType, Trust{Keys: []PublicKey{key(t, otherKey).trusted}}, "no trusted key"},
		"changed":       {bytes.Replace(env, []byte(`"payload":"ey`), []byte(`"payload":"eX`), 1), a, testType, trustOurs(t), ""},
		"no envelope":   {[]byte("{}"), a, testType, trustOurs(t), "0 signatures"},
		"no digest":     {env, "md5:00", testType, trustOurs(t), "not a sha256 digest"},
		"trailing text": {append(bytes.Clone(env), "{}"...), a, testType, trustOurs(t), ""},
	} {
		if _, err := VerifyBlobStatement(c.env, c.digest, c.kind, c.trust); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.text)
		}
	}
	for name, c := range map[string]struct {
		subjects  []BlobSubject
		kind, raw string
	}{
		"no files":        {nil, testType, "{}"},
		"bad digest":      {[]BlobSubject{{"a", "sha256:12"}}, testType, "{}"},
		"no type":         {[]BlobSubject{{"a", a}}, "", "{}"},
		"a list":          {[]BlobSubject{{"a", a}}, testType, "[]"},
		"no JSON":         {[]BlobSubject{{"a", a}}, testType, "{"},
		"a key twice":     {[]BlobSubject{{"a", a}}, testType, `{"a":1,"a":2}`},
		"empty predicate": {[]BlobSubject{{"a", a}}, testType, ""},
	} {
		if _, err := NewBlobStatement(c.subjects, c.kind, json.RawMessage(c.raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestCosignTakesOurBlobs: both command lines and openssl verify what we sign
// about a file, and refuse it for another file.
func TestCosignTakesOurBlobs(t *testing.T) {
	t.Parallel()
	c := newCosigns(t)
	k := key(t, ourKey)
	content := []byte("checksums\n")
	file, changed := write(t, "file", content), write(t, "changed", []byte("other\n"))
	sig, err := SignBlob(t.Context(), k.signer, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	st, err := NewBlobStatement([]BlobSubject{{"file", sha256Digest(content)}}, testType, json.RawMessage(`{"buildDefinition":{"buildType":"x","externalParameters":{}},"runDetails":{"builder":{"id":"x"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	env, err := k.signer.Sign(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	sigFile, envFile := write(t, "sig", []byte(sig+"\n")), write(t, "env", env)
	for _, name := range []string{"cosign2", "cosign3"} {
		blob := []string{"verify-blob", "--key", k.public, "--signature", sigFile, "--insecure-ignore-tlog"}
		statement := []string{"verify-blob-attestation", "--key", k.public, "--signature", envFile, "--type", "slsaprovenance1", "--insecure-ignore-tlog"}
		if name == "cosign3" {
			statement = append(statement, "--new-bundle-format=false")
		}
		for _, args := range [][]string{blob, statement} {
			if _, err := c.run(t, name, append(args, file)...); err != nil {
				t.Error(err)
			}
			if _, err := c.run(t, name, append(args, changed)...); err == nil {
				t.Errorf("%s %s accepts another file", name, args[0])
			}
		}
	}
	raw, err := base64.StdEncoding.DecodeString(sig)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-verify", k.public, "-signature", write(t, "raw", raw), file).CombinedOutput()
	if err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
}
