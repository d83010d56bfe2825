package attest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature/dsse"

	"github.com/weightseal/weightseal/oci"
)

func verify(m *testModel, trust Trust) (*Verified, error) {
	return Verify(context.Background(), m.store, m.subject, trust)
}

func TestVerifyGood(t *testing.T) {
	t.Parallel()
	for name, forms := range map[string]int{"both": inBundle | inLegacy, "bundle": inBundle, "legacy": inLegacy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, openLayout(t), "v1", name)
			k := key(t, ourKey)
			st := m.statement(t)
			m.plant(t, k, sign(t, k, st), forms)
			v, err := verify(m, trustOurs(t))
			if err != nil {
				t.Fatal(err)
			}
			p := v.Predicate()
			if p.Result != Passed || p.Level != 4 || v.Subject() != m.subject.Digest.String() || v.KeyName() != k.public ||
				!bytes.Equal(v.Payload(), st) || len(v.Ignored()) != 0 || v.Where() == "" {
				t.Errorf("verified: %+v", v)
			}
			told := map[string]bool{}
			for _, c := range v.Checks() {
				told[c.Name] = c.Done
			}
			for check, done := range map[string]bool{"signature": true, "subject": true, "statement": true, "artifact": true, "files": true,
				"result": true, "time": true, "transparency log": false, "file contents": false} {
				if got, ok := told[check]; !ok || got != done {
					t.Errorf("check %q: told %v, done %v", check, ok, got)
				}
			}
			// What is handed out is a copy.
			p.Files[0].Path, p.Files[1].Safetensors.DTypes["F32"], v.Payload()[0] = "x", 99, 'x'
			if q := v.Predicate(); q.Files[0].Path == "x" || q.Files[1].Safetensors.DTypes["F32"] == 99 || v.Payload()[0] == 'x' {
				t.Error("an accessor shares memory")
			}
		})
	}
}

// envelopeOf signs any payload as any type.
func envelopeOf(tb testing.TB, k *testKey, payloadType string, payload []byte) []byte {
	tb.Helper()
	raw, err := dsse.WrapSigner(k.signer.(*keySigner).sv, payloadType).SignMessage(bytes.NewReader(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// altered exchanges text in a payload and keeps the signature.
func altered(tb testing.TB, raw []byte, from, to string) []byte {
	tb.Helper()
	var form map[string]any
	if err := json.Unmarshal(raw, &form); err != nil {
		tb.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(form["payload"].(string))
	if err != nil {
		tb.Fatal(err)
	}
	changed := bytes.Replace(payload, []byte(from), []byte(to), 1)
	if bytes.Equal(changed, payload) {
		tb.Fatalf("%s is not in the payload", from)
	}
	form["payload"] = base64.StdEncoding.EncodeToString(changed)
	out, err := json.Marshal(form)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// bad is an envelope that must not be accepted for the model.
type bad struct {
	make func(tb testing.TB, m *testModel) []byte
	want string // part of the reason; "" when the artifact counts as having none
}

func edited(from, to, want string) bad {
	return bad{func(tb testing.TB, m *testModel) []byte {
		st := string(m.statement(tb))
		if !strings.Contains(st, from) {
			tb.Fatalf("%s is not in %s", from, st)
		}
		return sign(tb, key(tb, ourKey), []byte(strings.Replace(st, from, to, 1)))
	}, want}
}

func changed(change func(*Predicate), want string) bad {
	return bad{func(tb testing.TB, m *testModel) []byte {
		return sign(tb, key(tb, ourKey), m.statement(tb, change))
	}, want}
}

const otherType = "https://example.org/other/v1"

func badEnvelopes() map[string]bad {
	return map[string]bad{
		"of another digest": {func(tb testing.TB, m *testModel) []byte {
			other := pushModel(tb, m.store, "other", "transplanted")
			return sign(tb, key(tb, ourKey), other.statement(tb))
		}, "statement is about \"sha256:"},
		"altered payload": {func(tb testing.TB, m *testModel) []byte {
			return altered(tb, sign(tb, key(tb, ourKey), m.statement(tb)), `"level":4`, `"level":3`)
		}, "not signed by the trusted key"},
		"wrong key": {func(tb testing.TB, m *testModel) []byte {
			return sign(tb, key(tb, otherKey), m.statement(tb))
		}, "not signed by the trusted key"},
		"no signature bytes": {func(tb testing.TB, m *testModel) []byte {
			return []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"` + base64.StdEncoding.EncodeToString(m.statement(tb)) + `","signatures":[{"sig":""}]}`)
		}, "not signed by the trusted key"},
		"no signatures": {func(tb testing.TB, m *testModel) []byte {
			return []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"` + base64.StdEncoding.EncodeToString(m.statement(tb)) + `","signatures":[]}`)
		}, "0 signatures"},
		"signature over the bare payload": {func(tb testing.TB, m *testModel) []byte {
			st := m.statement(tb)
			sig, err := key(tb, ourKey).signer.(*keySigner).sv.SignMessage(bytes.NewReader(st))
			if err != nil {
				tb.Fatal(err)
			}
			return fmt.Appendf(nil, `{"payloadType":"application/vnd.in-toto+json","payload":%q,"signatures":[{"sig":%q}]}`,
				base64.StdEncoding.EncodeToString(st), base64.StdEncoding.EncodeToString(sig))
		}, "not signed by the trusted key"},
		"other payload type": {func(tb testing.TB, m *testModel) []byte {
			return envelopeOf(tb, key(tb, ourKey), "application/json", m.statement(tb))
		}, `payload type is "application/json"`},
		"payload type exchanged": {func(tb testing.TB, m *testModel) []byte {
			raw := envelopeOf(tb, key(tb, ourKey), "application/json", m.statement(tb))
			return bytes.Replace(raw, []byte("application/json"), []byte("application/vnd.in-toto+json"), 1)
		}, "not signed by the trusted key"},
		"two subjects": {func(tb testing.TB, m *testModel) []byte {
			hex := m.subject.Digest.Encoded()
			st := bytes.Replace(m.statement(tb), []byte(`"subject":[`), []byte(`"subject":[{"name":"a","digest":{"sha256":"`+hex+`"}},`), 1)
			return sign(tb, key(tb, ourKey), st)
		}, "2 subjects"},
		"no subject": {func(tb testing.TB, m *testModel) []byte {
			return sign(tb, key(tb, ourKey), fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":%q,"subject":[],"predicate":{}}`, PredicateType))
		}, "0 subjects"},
		"second digest in the subject": edited(`"digest":{"sha256"`, `"digest":{"sha1":"00","sha256"`, "2 digests"),
		"sha512 subject":               edited(`"digest":{"sha256"`, `"digest":{"sha512"`, "want sha256 alone"),
		"subject twice":                edited(`"subject":[`, `"subject":[],"subject":[`, `key "subject" twice`),
		"subject in two cases":         edited(`"subject":[`, `"Subject":[],"subject":[`, `in another case`),
		"other predicate type":         edited(PredicateType, otherType, ""),
		"predicate type with a slash":  edited(PredicateType, PredicateType+"/", ""),
		"other statement type":         edited("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v2", "statement type is"),
		"trailing data":                edited(`{"_type"`, `{} {"_type"`, "after the end"),
		"predicate is a string":        edited(`"predicate":{`, `"predicate":"x","p":{`, "not a JSON object"),
		"number too large":             edited(`"tensors":2,"dtypes"`, `"tensors":9007199254740993,"dtypes"`, "2^53"),
		"claims a level":               edited(`"level":4`, `"level":2`, "claims PASSED at level 2, but its facts give PASSED at level 4"),
		"claims a result":              edited(`"executedPickle":false`, `"executedPickle":true`, "facts give FAILED"),
		"blocked file":                 edited(`"role":"config"`, `"blocked":true,"role":"config"`, "facts give FAILED"),
		"lying summary":                edited(`"safetensors":1,"converted":1`, `"safetensors":2,"converted":1`, "summary"),
		"time of day missing":          edited(`"timeEvaluated":"`, `"timeEvaluated":"x`, "timeEvaluated"),
		"of the future":                changed(func(p *Predicate) { p.TimeEvaluated = time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }, "has not come yet"),
		"other config":                 changed(func(p *Predicate) { p.Artifact.ConfigDigest = sha("x") }, "another artifact"),
		"other manifest size":          changed(func(p *Predicate) { p.Artifact.ManifestSize++ }, "another artifact"),
		"other artifact type":          changed(func(p *Predicate) { p.Artifact.ArtifactType = "x/y" }, "another artifact"),
		"other media type":             changed(func(p *Predicate) { p.Artifact.MediaType = ocispec.MediaTypeImageIndex }, "another artifact"),
		"file missing":                 changed(func(p *Predicate) { p.Files = p.Files[:1] }, "config.json\" is not in the statement"),
		"file too many": changed(func(p *Predicate) {
			p.Files = append(p.Files, FileEntry{Path: "more", LayerDigest: sha("x"), Role: "other", Format: FormatInfo{Detected: "text"}})
		}, "lists \"more\""),
		"other layer":          changed(func(p *Predicate) { p.Files[1].LayerDigest = sha("x") }, "\"config.json\" is sha256:"),
		"other size":           changed(func(p *Predicate) { p.Files[1].Size++ }, "\"config.json\" is sha256:"),
		"other content digest": changed(func(p *Predicate) { p.Files[1].ContentDigest = sha("x") }, "stored as it is"),
		"exception has ended": changed(func(p *Predicate) {
			p.TimeEvaluated = "2026-01-01T00:00:00Z"
			p.Exceptions = []Exception{{Rule: "WS-X", Path: "config.json", Expires: "2026-02-01"}}
		}, "exception of WS-X for config.json expired on 2026-02-01"),
		"failed":       changed(func(p *Predicate) { p.Files[1].Blocked = true }, "a trusted statement says FAILED at 20"),
		"not a JSON":   {func(testing.TB, *testModel) []byte { return []byte(`{"payload":"!","payloadType":"","signatures":[]}`) }, "payload"},
		"many signers": {func(tb testing.TB, m *testModel) []byte { return manySignatures(tb, m, maxSignatures+1) }, "signatures"},
	}
}

func manySignatures(tb testing.TB, m *testModel, n int) []byte {
	tb.Helper()
	var form map[string]any
	if err := json.Unmarshal(sign(tb, key(tb, ourKey), m.statement(tb)), &form); err != nil {
		tb.Fatal(err)
	}
	one := form["signatures"].([]any)[0]
	var all []any
	for range n {
		all = append(all, one)
	}
	form["signatures"] = all
	raw, err := json.Marshal(form)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// Each attack alone is refused with its reason; beside a good statement it is
// ignored.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range badEnvelopes() {
		for form, where := range map[string]int{"bundle": inBundle, "legacy": inLegacy} {
			t.Run(name+" in "+form, func(t *testing.T) {
				t.Parallel()
				m := pushModel(t, openLayout(t), "v1", "m")
				k := key(t, ourKey)
				m.plant(t, k, b.make(t, m), where)
				trust := trustOurs(t)
				_, err := verify(m, trust)
				checkRefused(t, err, b.want)
				if errors.Is(err, ErrFailed) != (name == "failed") {
					t.Errorf("ErrFailed: %v", err)
				}
				if name == "failed" {
					return // TestVerifyNewest
				}
				m.attach(t, k, m.statement(t))
				if _, err := verify(m, trust); err != nil {
					t.Errorf("locks out a good statement: %v", err)
				}
			})
		}
	}
}

func checkRefused(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if !errors.Is(err, ErrNoAttestation) || !strings.Contains(err.Error(), "1 of other types") {
			t.Errorf("got %v, want ErrNoAttestation", err)
		}
		return
	}
	var ve *VerifyError
	if !errors.As(err, &ve) || len(ve.Tried) != 1 || !strings.Contains(ve.Tried[0].Reason, want) || errors.Is(err, ErrNoAttestation) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// Referrers that are no bundle of ours.
func TestVerifyGarbageReferrers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		bundle string
		want   string // "" when it counts as none
	}{
		"empty object":   {`{}`, "media type is"},
		"not JSON":       {`hello`, "bundle:"},
		"other version":  {`{"mediaType":"application/vnd.dev.sigstore.bundle.v9+json"}`, "media type is"},
		"message":        {`{"mediaType":"` + bundleMediaType + `","messageSignature":{}}`, ""},
		"envelope twice": {`{"mediaType":"` + bundleMediaType + `","dsseEnvelope":{},"dsseEnvelope":{}}`, "twice"},
		"both spellings": {`{"mediaType":"` + bundleMediaType + `","dsseEnvelope":{},"dsse_envelope":{}}`, "bundle:"},
		"empty envelope": {`{"mediaType":"` + bundleMediaType + `","dsseEnvelope":{}}`, "0 signatures"},
		"deep":           {`{"mediaType":"` + bundleMediaType + `","x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, openLayout(t), "v1", "m")
			m.plantBundle(t, []byte(test.bundle))
			_, err := verify(m, trustOurs(t))
			checkRefused(t, err, test.want)
			m.attach(t, key(t, ourKey), m.statement(t))
			if _, err := verify(m, trustOurs(t)); err != nil {
				t.Errorf("locks out a good statement: %v", err)
			}
		})
	}
}

func TestVerifyNone(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	if _, err := verify(m, trustOurs(t)); !errors.Is(err, ErrNoAttestation) {
		t.Errorf("got %v", err)
	}
	if _, err := verify(m, Trust{}); err == nil || errors.Is(err, ErrNoAttestation) {
		t.Errorf("without a key: %v", err)
	}
	var ke *KeyError
	if _, err := verify(m, Trust{Keys: []PublicKey{{Name: "k", DER: []byte{1}}}}); !errors.As(err, &ke) {
		t.Errorf("with half a key: %v", err)
	}
}

// The newest statement of a trusted signer counts, by its signed time.
func TestVerifyNewest(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	type said struct {
		hours  int // before now
		failed bool
		other  bool // signed by a key that is not trusted
	}
	for name, test := range map[string]struct {
		said   []said
		maxAge time.Duration
		want   string // hours of the one chosen, or the error
	}{
		"one":                        {[]said{{hours: 2}}, 0, "2"},
		"newest of two":              {[]said{{hours: 5}, {hours: 2}}, 0, "2"},
		"newest first":               {[]said{{hours: 2}, {hours: 5}}, 0, "2"},
		"failed after passed":        {[]said{{hours: 5}, {hours: 2, failed: true}}, 0, "FAILED"},
		"failed after passed, first": {[]said{{hours: 2, failed: true}, {hours: 5}}, 0, "FAILED"},
		"passed after failed":        {[]said{{hours: 5, failed: true}, {hours: 2}}, 0, "2"},
		"at the same time":           {[]said{{hours: 2}, {hours: 2, failed: true}}, 0, "FAILED"},
		"failed of the future":       {[]said{{hours: 2}, {hours: -48, failed: true}}, 0, "FAILED"},
		"failed by a stranger":       {[]said{{hours: 5}, {hours: 2, failed: true, other: true}}, 0, "5"},
		"too old":                    {[]said{{hours: 5}}, 4 * time.Hour, "older than 4h0m0s"},
		"young enough":               {[]said{{hours: 5}}, 6 * time.Hour, "5"},
		"one too old":                {[]said{{hours: 5}, {hours: 2}}, 4 * time.Hour, "2"},
		"failed does not age":        {[]said{{hours: 5, failed: true}}, 4 * time.Hour, "FAILED"},
		"clock a little ahead":       {[]said{{hours: 0}}, time.Hour, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, openLayout(t), "v1", "m")
			for _, s := range test.said {
				k := key(t, ourKey)
				if s.other {
					k = key(t, otherKey)
				}
				m.attach(t, k, m.statement(t, func(p *Predicate) {
					p.TimeEvaluated = now.Add(-time.Duration(s.hours) * time.Hour).Format(time.RFC3339)
					p.Files[1].Blocked = s.failed
				}))
			}
			trust := trustOurs(t)
			trust.MaxAge, trust.Now = test.maxAge, func() time.Time { return now }
			v, err := verify(m, trust)
			if err != nil {
				var ve *VerifyError
				if !errors.As(err, &ve) || !strings.Contains(ve.Tried[0].Reason, test.want) || errors.Is(err, ErrFailed) != (test.want == "FAILED") {
					t.Errorf("got %v, want %q", err, test.want)
				}
				return
			}
			at, err := time.Parse(time.RFC3339, v.Predicate().TimeEvaluated)
			if err != nil || fmt.Sprint(now.Sub(at).Hours()) != test.want {
				t.Errorf("chose %s, want %q", at, test.want)
			}
			if want := len(test.said) - 1; len(v.Ignored()) > want {
				t.Errorf("ignored %v", v.Ignored())
			}
		})
	}
}

// hooked is a store whose methods a test replaces.
type hooked struct {
	oci.Store
	manifest  func(ocispec.Descriptor) ([]byte, error)
	referrers func() ([]ocispec.Descriptor, error)
	resolve   func(string) error
	fetch     func(ocispec.Descriptor) (io.ReadCloser, error)
	pushed    func(tag string)
	fetches   atomic.Int64
}

func (h *hooked) Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if h.manifest != nil {
		if b, err := h.manifest(d); b != nil || err != nil {
			return b, err
		}
	}
	return h.Store.Manifest(ctx, d)
}

func (h *hooked) Referrers(ctx context.Context, digest string) ([]ocispec.Descriptor, error) {
	if h.referrers != nil {
		return h.referrers()
	}
	return h.Store.Referrers(ctx, digest)
}

func (h *hooked) Resolve(ctx context.Context, id string) (ocispec.Descriptor, error) {
	if h.resolve != nil {
		if err := h.resolve(id); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return h.Store.Resolve(ctx, id)
}

func (h *hooked) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	h.fetches.Add(1)
	if h.fetch != nil {
		if rc, err := h.fetch(d); rc != nil || err != nil {
			return rc, err
		}
	}
	return h.Store.Fetch(ctx, d)
}

func (h *hooked) PushManifest(ctx context.Context, mediaType string, manifest []byte, tag string) (ocispec.Descriptor, error) {
	d, err := h.Store.PushManifest(ctx, mediaType, manifest, tag)
	if err == nil && h.pushed != nil {
		h.pushed(tag)
	}
	return d, err
}

// A registry that does not answer is not one that has nothing to say.
func TestVerifyStoreErrors(t *testing.T) {
	t.Parallel()
	down := &oci.NetworkError{Op: "test", Ref: "r", Err: errors.New("connection reset")}
	for name, hook := range map[string]func(*hooked, *testModel){
		"manifest": func(h *hooked, m *testModel) {
			h.manifest = func(ocispec.Descriptor) ([]byte, error) { return nil, down }
		},
		"referrers": func(h *hooked, m *testModel) { h.referrers = func() ([]ocispec.Descriptor, error) { return nil, down } },
		"tag":       func(h *hooked, m *testModel) { h.resolve = func(string) error { return down } },
		"blob": func(h *hooked, m *testModel) {
			h.fetch = func(ocispec.Descriptor) (io.ReadCloser, error) { return nil, down }
		},
		"referrer": func(h *hooked, m *testModel) {
			h.manifest = func(d ocispec.Descriptor) ([]byte, error) {
				if d.Digest != m.subject.Digest {
					return nil, down
				}
				return nil, nil
			}
		},
		"half a blob": func(h *hooked, m *testModel) {
			h.fetch = func(ocispec.Descriptor) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("{"), failing{down})), nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := pushModel(t, openLayout(t), "v1", "m")
			m.attach(t, key(t, ourKey), m.statement(t))
			h := &hooked{Store: m.store}
			hook(h, m)
			m.store = h
			if _, err := verify(m, trustOurs(t)); !errors.Is(err, down) || errors.Is(err, ErrNoAttestation) {
				t.Errorf("got %v", err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A store that hands out something else than it was asked for.
func TestVerifyLyingStore(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	other := pushModel(t, m.store, "v2", "other")
	m.attach(t, key(t, ourKey), m.statement(t))
	real := m.store
	m.store = &hooked{Store: real, manifest: func(d ocispec.Descriptor) ([]byte, error) {
		if d.Digest == m.subject.Digest {
			return other.manifest, nil
		}
		return nil, nil
	}}
	if _, err := verify(m, trustOurs(t)); err == nil || !strings.Contains(err.Error(), "manifest: is sha256:") {
		t.Errorf("another manifest: %v", err)
	}
	m.store = &hooked{Store: real, fetch: func(ocispec.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("something else")), nil
	}}
	var ve *VerifyError
	if _, err := verify(m, trustOurs(t)); !errors.As(err, &ve) || !strings.Contains(err.Error(), "is sha256:") {
		t.Errorf("another blob: %v", err)
	}
}

// What is fetched is bounded, and what claims to be larger is not fetched.
func TestVerifyBounds(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	m.attach(t, key(t, ourKey), m.statement(t))
	huge := &hooked{Store: m.store}
	big := sha("big")
	legacy := legacyTag(m.subject.Digest)
	manifest, err := json.Marshal(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: bundleMediaType, Subject: &m.subject,
		Layers: []ocispec.Descriptor{{MediaType: bundleMediaType, Digest: "sha256:" + "00", Size: maxEnvelope + 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest = bytes.Replace(manifest, []byte("sha256:00"), []byte(big), 1)
	huge.referrers = func() ([]ocispec.Descriptor, error) {
		return []ocispec.Descriptor{
			{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: bundleMediaType, Digest: "sha256:11", Size: 5},
			{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/spdx+json", Digest: "sha256:22", Size: 5},
			{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: bundleMediaType, Digest: "sha256:33", Size: 5},
		}, nil
	}
	huge.manifest = func(d ocispec.Descriptor) ([]byte, error) {
		switch d.Digest {
		case "sha256:11":
			return manifest, nil
		case "sha256:22", "sha256:33":
			t.Errorf("fetched %s, which is no bundle", d.Digest)
		}
		return nil, nil
	}
	huge.resolve = func(id string) error {
		if id == legacy {
			return oci.ErrNotFound
		}
		return nil
	}
	m.store = huge
	_, err = verify(m, trustOurs(t))
	var ve *VerifyError
	if !errors.As(err, &ve) || len(ve.Tried) != 1 || !strings.Contains(ve.Tried[0].Reason, "at most 16777216") {
		t.Errorf("got %v", err)
	}
	if n := huge.fetches.Load(); n != 0 {
		t.Errorf("%d blobs fetched", n)
	}
}

// A flood of other attestations is not read to its end, ours are read first.
func TestVerifyFlood(t *testing.T) {
	t.Parallel()
	m := pushModel(t, openLayout(t), "v1", "m")
	stored := m.attach(t, key(t, ourKey), m.statement(t))
	flood := &hooked{Store: m.store}
	const n = 900
	junk := bytes.Repeat([]byte("x"), 1<<20)
	junkDigest := sha(string(junk))
	flood.referrers = func() ([]ocispec.Descriptor, error) {
		var ds []ocispec.Descriptor
		for i := range n {
			ds = append(ds, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: bundleMediaType, Digest: "sha256:" + "ff", Size: int64(i + 1)})
		}
		ours := stored.Bundle
		ours.Annotations = map[string]string{bundlePredicateKey: PredicateType}
		return append(ds, ours), nil
	}
	flood.manifest = func(d ocispec.Descriptor) ([]byte, error) {
		if d.Digest != "sha256:ff" {
			return nil, nil
		}
		return []byte(`{"schemaVersion":2,"subject":{"mediaType":"m","digest":"` + m.subject.Digest.String() + `","size":1},"layers":[{"mediaType":"` +
			bundleMediaType + `","digest":"` + junkDigest + `","size":1048576}]}`), nil
	}
	flood.fetch = func(d ocispec.Descriptor) (io.ReadCloser, error) {
		if d.Digest.String() == junkDigest {
			return io.NopCloser(bytes.NewReader(junk)), nil
		}
		return nil, nil
	}
	m.store = flood
	v, err := verify(m, trustOurs(t))
	if err != nil {
		t.Fatal(err)
	}
	if f := flood.fetches.Load(); f > maxAttestationBytes>>20+2 {
		t.Errorf("%d blobs fetched", f)
	}
	last := v.Checks()[len(v.Checks())-1]
	if last.Name != "all attestations" || last.Done {
		t.Errorf("does not say that some were not read: %+v", last)
	}
}

func TestVerifyError(t *testing.T) {
	t.Parallel()
	for reasons, want := range map[string]string{
		"a":         "(1 looked at): w0: a",
		"aaa":       "(3 looked at): 3 attestations: a",
		"aba":       "(3 looked at): 2 attestations: a; w1: b",
		"abcdefg":   "(7 looked at): w0: a; w1: b; w2: c; w3: d; w4: e; and 2 more",
		"abcdeeffg": "(9 looked at): w0: a; w1: b; w2: c; w3: d; 2 attestations: e; and 3 more",
	} {
		e := &VerifyError{Subject: "sha256:x"}
		for i, r := range reasons {
			e.Tried = append(e.Tried, Attempt{Where: fmt.Sprint("w", i), Reason: string(r)})
		}
		e.Tried[len(e.Tried)-1].Err = ErrFailed
		if e.Error() != "no attestation of sha256:x can be trusted "+want || !errors.Is(e, ErrFailed) {
			t.Errorf("%s: got %s", reasons, e)
		}
	}
	if one, two := notSigned(1), notSigned(2); one != "not signed by the trusted key" || two != "not signed by any of the trusted keys" {
		t.Errorf("%s, %s", one, two)
	}
}

func FuzzBundle(f *testing.F) {
	k := key(f, ourKey)
	m := pushModel(f, openLayout(f), "v1", "m")
	good := m.statement(f) // once: it carries the time
	env := sign(f, k, good)
	f.Add(rawBundle(f, k, env))
	f.Add(env)
	f.Add([]byte(`{"mediaType":"` + bundleMediaType + `","dsseEnvelope":{"payload":"","payloadType":"","signatures":[{}]}}`))
	keys, err := loadTrusted([]PublicKey{k.trusted})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, decode := range []func([]byte) (*envelope, error){decodeBundle, decodeEnvelope} {
			e, err := decode(raw)
			if err != nil {
				continue
			}
			if len(e.signatures) == 0 || e.payloadType != "application/vnd.in-toto+json" {
				t.Errorf("accepted %q", raw)
			}
			if _, ok := e.signedBy(keys); ok && !bytes.Equal(e.payload, good) {
				t.Errorf("a payload that was not signed: %q", e.payload)
			}
		}
	})
}

func FuzzStatement(f *testing.F) {
	full, err := NewStatement("m", sha("manifest"), fullPredicate())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"` + PredicateType + `","subject":[{"name":"","digest":{"sha256":"` + sha("manifest")[7:] + `"}}],"predicate":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := decodeStatement(raw)
		if err != nil {
			return
		}
		if st.checkSubject(sha("manifest")) == nil && (len(st.Subject) != 1 || len(st.Subject[0].Digest) != 1) {
			t.Errorf("subject of %q", raw)
		}
		p, err := st.decodePredicate()
		if err != nil {
			return
		}
		result, level, _ := p.Evaluate()
		if level < 0 || level > 4 {
			t.Errorf("level %d", level)
		}
		// What is read can be written, and says the same then.
		again, err := NewStatement("m", sha("manifest"), p)
		if err != nil {
			if strings.Contains(err.Error(), "2^53") {
				return // sums in the summary
			}
			t.Fatalf("cannot be written: %v", err)
		}
		st2, err := decodeStatement(again)
		if err != nil {
			t.Fatal(err)
		}
		q, err := st2.decodePredicate()
		if err != nil {
			t.Fatal(err)
		}
		if q.Result != result || q.Level != level {
			t.Errorf("%s %d became %s %d", result, level, q.Result, q.Level)
		}
	})
}
