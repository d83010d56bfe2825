package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
)

// legacyOf reads what is under the legacy tag.
func (m *testModel) legacyOf(tb testing.TB) (raw []byte, layers []json.RawMessage, manifest ocispec.Manifest) {
	tb.Helper()
	ctx := context.Background()
	d, err := m.store.Resolve(ctx, legacyTag(m.subject.Digest))
	if err != nil {
		tb.Fatal(err)
	}
	if raw, err = m.store.Manifest(ctx, d); err != nil {
		tb.Fatal(err)
	}
	var form struct {
		Layers []json.RawMessage `json:"layers"`
	}
	if err := errors.Join(json.Unmarshal(raw, &form), json.Unmarshal(raw, &manifest)); err != nil {
		tb.Fatal(err)
	}
	return raw, form.Layers, manifest
}

func (m *testModel) referrers(tb testing.TB) []ocispec.Descriptor {
	tb.Helper()
	refs, err := m.store.Referrers(context.Background(), m.subject.Digest.String())
	if err != nil {
		tb.Fatal(err)
	}
	return refs
}

func TestAttachForms(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	k := key(t, ourKey)
	env := sign(t, k, m.statement(t))
	stored, err := Attach(context.Background(), m.store, m.subject, env, k.signer)
	if err != nil {
		t.Fatal(err)
	}
	_, layers, manifest := m.legacyOf(t)
	if len(layers) != 1 || manifest.Layers[0].Digest != digest.FromBytes(env) || manifest.Layers[0].MediaType != "application/vnd.dsse.envelope.v1+json" ||
		manifest.Layers[0].Annotations["predicateType"] != PredicateType || manifest.Config.MediaType != "application/vnd.oci.image.config.v1+json" ||
		manifest.Subject != nil || manifest.ArtifactType != "" {
		t.Errorf("legacy manifest: %+v", manifest)
	}
	if v, ok := manifest.Layers[0].Annotations["dev.cosignproject.cosign/signature"]; !ok || v != "" {
		t.Errorf("annotations: %v", manifest.Layers[0].Annotations)
	}
	raw, err := m.store.Manifest(context.Background(), stored.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	var b ocispec.Manifest
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	if b.ArtifactType != bundleType || b.Subject == nil || b.Subject.Digest != m.subject.Digest || len(b.Layers) != 1 || b.Layers[0].MediaType != bundleType ||
		b.Config.MediaType != "application/vnd.oci.empty.v1+json" || b.Config.Size != 2 || b.Config.ArtifactType != bundleType ||
		b.Annotations["dev.sigstore.bundle.content"] != "dsse-envelope" || b.Annotations["dev.sigstore.bundle.predicateType"] != PredicateType || len(b.Annotations) != 2 {
		t.Errorf("bundle manifest: %s", raw)
	}
	bundle, err := fetchBlob(context.Background(), m.store, b.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	der, err := k.signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	hint := digest.FromBytes(der)
	if !bytes.Contains(bundle, []byte(`"hint":"`+base64Of(hint)+`"`)) || bytes.Contains(bundle, []byte(`: `)) {
		t.Errorf("bundle: %s", bundle)
	}
}

// The same envelope again changes nothing; another one is added.
func TestAttachTwice(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	k := key(t, ourKey)
	env := sign(t, k, m.statement(t))
	var first *Stored
	for range 3 {
		st, err := Attach(context.Background(), m.store, m.subject, env, k.signer)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = st
		} else if st.Bundle.Digest != first.Bundle.Digest || st.Legacy.Digest != first.Legacy.Digest {
			t.Errorf("stored as %v, then as %v", first, st)
		}
	}
	if _, layers, _ := m.legacyOf(t); len(layers) != 1 || len(m.referrers(t)) != 1 {
		t.Errorf("%d layers, %d referrers", len(layers), len(m.referrers(t)))
	}
	m.attach(t, k, m.statement(t, func(p *Predicate) { p.Tool.Version = "v2" }))
	if _, layers, _ := m.legacyOf(t); len(layers) != 2 || len(m.referrers(t)) != 2 {
		t.Errorf("then %d layers, %d referrers", len(layers), len(m.referrers(t)))
	}
}

// What others have under the tag stays, byte for byte.
func TestAttachKeepsForeign(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	blob := pushBlob(t, m.store, envelopeMediaType, `{"payload":"e30=","payloadType":"x","signatures":[{"sig":"AA=="}]}`)
	foreign := `{ "mediaType":"application/vnd.dsse.envelope.v1+json", "size":` + jsonOf(t, blob.Size) + `, "digest":"` + blob.Digest.String() +
		`","annotations":{"z":"<&>","predicateType":"https://spdx.dev/Document","a":"\u00e9"}}`
	config := pushBlob(t, m.store, ocispec.MediaTypeImageConfig, `{}`)
	raw := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + jsonOf(t, config) +
		`,"layers":[` + foreign + `],"annotations":{"who":"<us>"}}`
	if _, err := m.store.PushManifest(context.Background(), ocispec.MediaTypeImageManifest, []byte(raw), legacyTag(m.subject.Digest)); err != nil {
		t.Fatal(err)
	}
	m.attach(t, key(t, ourKey), m.statement(t))
	got, layers, _ := m.legacyOf(t)
	if len(layers) != 2 || string(layers[0]) != foreign || !bytes.Contains(got, []byte(`"annotations":{"who":"<us>"}`)) {
		t.Errorf("manifest is now %s", got)
	}
	if _, err := verify(m, trustOurs(t)); err != nil {
		t.Error(err)
	}
}

func TestAttachLeavesAlone(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	if _, err := m.store.PushManifest(context.Background(), ocispec.MediaTypeImageIndex, index, legacyTag(m.subject.Digest)); err != nil {
		t.Fatal(err)
	}
	k := key(t, ourKey)
	_, err := Attach(context.Background(), m.store, m.subject, sign(t, k, m.statement(t)), k.signer)
	if err == nil || !strings.Contains(err.Error(), "is left alone") {
		t.Errorf("got %v", err)
	}
}

func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	other := pushModel(t, m.store, "v2", "other")
	ours, theirs := key(t, ourKey), key(t, otherKey)
	for name, test := range map[string]struct {
		envelope []byte
		want     string
	}{
		"another key":       {sign(t, theirs, m.statement(t)), "not signed by the signer's key"},
		"another subject":   {sign(t, ours, other.statement(t)), "statement is about"},
		"another predicate": {sign(t, ours, bytes.Replace(m.statement(t), []byte(PredicateType), []byte(otherType), 1)), "predicate type"},
		"no envelope":       {[]byte("{}"), "0 signatures"},
		"two signatures":    {manySignatures(t, m, 2), "a bundle holds one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Attach(context.Background(), m.store, m.subject, test.envelope, ours.signer); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if len(m.referrers(t)) != 0 {
				t.Error("stored it nevertheless")
			}
		})
	}
}

// Another writer replaces the tag with a state that lacks what was written.
func TestAttachLostUpdate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		times int // how often the other writer does so
		want  error
	}{"once": {1, nil}, "three times": {3, nil}, "always": {1 << 30, ErrLostUpdate}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, openLayout(t), "v1", "m")
			k := key(t, ourKey)
			tag := legacyTag(m.subject.Digest)
			blob := pushBlob(t, m.store, envelopeMediaType, `{"payload":"e30=","payloadType":"x","signatures":[{"sig":"AA=="}]}`)
			config := pushBlob(t, m.store, ocispec.MediaTypeImageConfig, `{}`)
			theirs := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + jsonOf(t, config) + `,"layers":[` + jsonOf(t, blob) + `]}`)
			real := m.store
			h := &hooked{Store: real}
			h.pushed = func(got string) {
				if got == tag && test.times > 0 {
					test.times--
					if _, err := real.PushManifest(context.Background(), ocispec.MediaTypeImageManifest, theirs, tag); err != nil {
						t.Error(err)
					}
				}
			}
			m.store = h
			_, err := Attach(context.Background(), m.store, m.subject, sign(t, k, m.statement(t)), k.signer)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			if _, layers, manifest := m.legacyOf(t); len(layers) != 2 || manifest.Layers[0].Digest != blob.Digest {
				t.Errorf("layers: %s", layers)
			}
		})
	}
}

// Several writers at once, as CI jobs do.
func TestAttachConcurrent(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	k := key(t, ourKey)
	var wg sync.WaitGroup
	const n = 4
	for i := range n {
		env := sign(t, k, m.statement(t, func(p *Predicate) { p.Tool.Version = string(rune('a' + i)) }))
		wg.Go(func() {
			if _, err := Attach(context.Background(), m.store, m.subject, env, k.signer); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(m.referrers(t)); got != n {
		t.Errorf("%d bundles, not %d", got, n)
	}
	if _, err := verify(m, trustOurs(t)); err != nil {
		t.Error(err)
	}
}

func TestLegacyLimit(t *testing.T) {
	t.Parallel()
	m := newLegacyManifest()
	m.layers = make([]json.RawMessage, maxLayers)
	if _, err := m.add(ocispec.Descriptor{Digest: "sha256:x"}); err == nil {
		t.Error("one layer more than readers read")
	}
}

func TestAttachStoreErrors(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	k := key(t, ourKey)
	down := &oci.NetworkError{Op: "test", Ref: "r", Err: errors.New("connection reset")}
	m.store = &hooked{Store: m.store, resolve: func(string) error { return down }}
	if _, err := Attach(context.Background(), m.store, m.subject, sign(t, k, m.statement(t)), k.signer); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.signer.Sign(ctx, []byte("{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("signing after the end: %v", err)
	}
}

func jsonOf(tb testing.TB, v any) string {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}
