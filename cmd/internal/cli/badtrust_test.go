package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/oci"
)

// forger has a signed model, a victim beside it in the same repository, and
// may write to the registry what it likes.
type forger struct {
	t              *testing.T
	ref            string // without tag
	store          oci.Store
	signed, victim ocispec.Descriptor
}

func newForger(t *testing.T) *forger {
	t.Helper()
	p := watched(t)
	f := &forger{t: t, ref: p.Addr + "/a/b"}
	for tag, sign := range map[string][]string{"signed": {"--key", keyFile(t, "ours.key")}, "victim": {"--no-sign"}} {
		dir := placed(t, map[string][]byte{"pytorch_model.bin": readCorpus(t, "checkpoints/tied.pt"), "README.md": []byte(tag)})
		execute(t, append([]string{"push", dir, f.ref + ":" + tag, "--plain-http"}, sign...)...).succeeded(t)
	}
	var err error
	if f.store, _, err = oci.Open(f.ref+":x", oci.Options{PlainHTTP: true}); err != nil {
		t.Fatal(err)
	}
	f.signed, f.victim = f.resolve("signed"), f.resolve("victim")
	return f
}

func (f *forger) resolve(id string) ocispec.Descriptor {
	f.t.Helper()
	d, err := f.store.Resolve(context.Background(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// envelope gives the DSSE envelope of the signed model, from its .att tag.
func (f *forger) envelope() []byte {
	f.t.Helper()
	m := f.manifest(f.resolve(attTag(f.signed)))
	return f.blob(m.Layers[0])
}

func (f *forger) manifest(d ocispec.Descriptor) ocispec.Manifest {
	f.t.Helper()
	raw, err := f.store.Manifest(context.Background(), d)
	if err != nil {
		f.t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *forger) blob(d ocispec.Descriptor) []byte {
	f.t.Helper()
	r, err := f.store.Fetch(context.Background(), d)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func attTag(d ocispec.Descriptor) string {
	return strings.Replace(d.Digest.String(), ":", "-", 1) + ".att"
}

// resign gives the statement of the signed model with some text exchanged,
// signed with a key.
func (f *forger) resign(key string, exchange ...string) []byte {
	f.t.Helper()
	var e struct{ Payload string }
	if err := json.Unmarshal(f.envelope(), &e); err != nil {
		f.t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		f.t.Fatal(err)
	}
	changed := strings.NewReplacer(exchange...).Replace(string(payload))
	if len(exchange) > 0 && changed == string(payload) {
		f.t.Fatalf("nothing to exchange in %s", payload)
	}
	signer, err := attest.LoadSigner(keyFile(f.t, key), func() ([]byte, error) { return []byte(keyPassword), nil })
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := signer.Sign(context.Background(), []byte(changed))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

// plant stores an envelope for the victim, in both forms: the manifests are
// those of the signed model with other content.
func (f *forger) plant(envelope []byte) {
	f.t.Helper()
	ctx := context.Background()
	legacy := f.manifest(f.resolve(attTag(f.signed)))
	legacy.Layers[0] = f.replace(legacy.Layers[0], envelope)
	f.push(legacy, attTag(f.victim))

	refs, err := f.store.Referrers(ctx, f.signed.Digest.String())
	if err != nil || len(refs) == 0 {
		f.t.Fatalf("%d referrers, %v", len(refs), err)
	}
	m := f.manifest(refs[0])
	var bundle map[string]json.RawMessage
	if err := json.Unmarshal(f.blob(m.Layers[0]), &bundle); err != nil {
		f.t.Fatal(err)
	}
	bundle["dsseEnvelope"] = envelope
	raw, err := json.Marshal(bundle)
	if err != nil {
		f.t.Fatal(err)
	}
	m.Layers[0] = f.replace(m.Layers[0], raw)
	m.Subject = &ocispec.Descriptor{MediaType: f.victim.MediaType, Digest: f.victim.Digest, Size: f.victim.Size}
	if raw, err = json.Marshal(m); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.store.AddReferrer(ctx, f.victim, raw, m.ArtifactType, m.Annotations); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forger) replace(d ocispec.Descriptor, b []byte) ocispec.Descriptor {
	f.t.Helper()
	if _, err := f.store.PushBlob(context.Background(), oci.Content{MediaType: d.MediaType, Reader: bytes.NewReader(b), Size: int64(len(b))}); err != nil {
		f.t.Fatal(err)
	}
	d.Digest, d.Size = digest.FromBytes(b), int64(len(b))
	return d
}

func (f *forger) push(m ocispec.Manifest, tag string) {
	f.t.Helper()
	raw, err := json.Marshal(m)
	if err == nil {
		_, err = f.store.PushManifest(context.Background(), m.MediaType, raw, tag)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestForgedAttestations: a model with no attestation, or with one that is not
// about it, not by a trusted key, or of another kind, is neither verified nor
// pulled, and nothing of it gets to the target.
func TestForgedAttestations(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		envelope func(f *forger) []byte // nil for none
		part     string                 // of the error
	}{
		"none":       {nil, "no safetensors compliance attestation"},
		"transplant": {func(f *forger) []byte { return f.envelope() }, "is about"},
		"wrong key":  {func(f *forger) []byte { return f.about("other.key") }, ""},
		"another predicate type": {func(f *forger) []byte {
			return f.about("ours.key", attest.PredicateType, "https://example.org/other/v1")
		}, ""},
		"two subjects": {func(f *forger) []byte {
			return f.about("ours.key", `"subject":[`, `"subject":[{"name":"other","digest":{"sha256":"`+f.signed.Digest.Encoded()+`"}},`)
		}, "subject"},
		"no subject": {func(f *forger) []byte { return f.about("ours.key", `"subject":[{`, `"subject":[],"x":[{`) }, ""},
		"altered": {func(f *forger) []byte {
			return bytes.Replace(f.about("ours.key"), []byte(`"payload":"`), []byte(`"payload":"IA`), 1)
		}, ""},
		"garbage":     {func(*forger) []byte { return []byte(`{}`) }, ""},
		"says FAILED": {func(f *forger) []byte { return f.about("ours.key", `"PASSED"`, `"FAILED"`) }, ""},
		"other manifest": {func(f *forger) []byte {
			return f.resign("ours.key", `"subject":[{"name":"m","digest":{"sha256":"`+f.signed.Digest.Encoded(), `"subject":[{"name":"m","digest":{"sha256":"`+f.victim.Digest.Encoded())
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForger(t)
			if test.envelope != nil {
				f.plant(test.envelope(f))
			}
			want := exitAttestation
			if name == "says FAILED" {
				want = exitPolicy // trusted, and it refuses
			}
			parent := t.TempDir()
			flags := []string{"--plain-http", "--key", keyFile(t, "ours.pub")}
			execute(t, append([]string{"verify", f.ref + ":signed"}, flags...)...).succeeded(t)
			for _, id := range []string{":victim", "@" + f.victim.Digest.String()} {
				for _, args := range [][]string{{"verify", f.ref + id}, {"verify", "--deep", f.ref + id}, {"pull", f.ref + id, filepath.Join(parent, "out")}} {
					execute(t, append(args, flags...)...).failed(t, codes(want), test.part)
					holds(t, parent)
				}
			}
		})
	}
}

// about gives a statement signed with a key whose subject is the victim, with
// more text exchanged.
func (f *forger) about(key string, exchange ...string) []byte {
	f.t.Helper()
	return f.resign(key, append(exchange, f.signed.Digest.Encoded(), f.victim.Digest.Encoded())...)
}

// TestTruthfulAttestation shows that the forger's hands are not what makes the
// cases above fail: its signed statement about the signed model, stored by it,
// is believed.
func TestTruthfulAttestation(t *testing.T) {
	t.Parallel()
	f := newForger(t)
	f.victim = f.signed
	f.plant(f.resign("ours.key"))
	execute(t, "verify", f.ref+":signed", "--plain-http", "--key", keyFile(t, "ours.pub")).succeeded(t)
	f.plant(f.resign("other.key"))
	execute(t, "verify", f.ref+":signed", "--plain-http", "--key", keyFile(t, "other.pub")).succeeded(t)
}
