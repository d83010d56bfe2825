package attest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
)

const testPassword = "correct horse"

// testKey is a cosign key pair on disk, with its signer.
type testKey struct {
	private, public string // files
	signer          Signer
	trusted         PublicKey
}

func makeKey(dir string) (*testKey, error) {
	private, public, err := GenerateKey([]byte(testPassword))
	if err != nil {
		return nil, err
	}
	k := &testKey{private: filepath.Join(dir, "cosign.key"), public: filepath.Join(dir, "cosign.pub")}
	if err := os.WriteFile(k.private, private, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(k.public, public, 0o600); err != nil {
		return nil, err
	}
	if k.signer, err = LoadSigner(k.private, func() ([]byte, error) { return []byte(testPassword), nil }); err != nil {
		return nil, err
	}
	k.trusted, err = LoadPublicKey(k.public)
	return k, err
}

// Keys take a tenth of a second each to make: the tests share two.
var (
	keyDir   string // made by TestMain
	ourKey   = sync.OnceValues(func() (*testKey, error) { return makeKey(filepath.Join(keyDir, "ours")) })
	otherKey = sync.OnceValues(func() (*testKey, error) { return makeKey(filepath.Join(keyDir, "other")) })
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "attest")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		keyDir = dir
		for _, d := range []string{"ours", "other"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
				panic(err)
			}
		}
		return m.Run()
	}())
}

func key(tb testing.TB, get func() (*testKey, error)) *testKey {
	tb.Helper()
	k, err := get()
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func trustOurs(tb testing.TB) Trust {
	tb.Helper()
	return Trust{Keys: []PublicKey{key(tb, ourKey).trusted}}
}

// openLayout gives an empty store on disk.
func openLayout(tb testing.TB) oci.Store {
	tb.Helper()
	s, _, err := oci.Open("oci:"+tb.TempDir()+":v1", oci.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// testModel is an artifact in a store.
type testModel struct {
	store    oci.Store
	subject  ocispec.Descriptor
	manifest []byte
	files    map[string]string // digest by path
}

func pushBlob(tb testing.TB, s oci.Store, mediaType, text string) ocispec.Descriptor {
	tb.Helper()
	d, err := s.PushBlob(context.Background(), oci.Content{MediaType: mediaType, Reader: bytes.NewReader([]byte(text)), Size: int64(len(text))})
	if err != nil {
		tb.Fatal(err)
	}
	d.MediaType = mediaType
	return d
}

// pushModel stores a model of two files. seed makes it another one.
func pushModel(tb testing.TB, s oci.Store, tag, seed string) *testModel {
	tb.Helper()
	m := &testModel{store: s, files: map[string]string{}}
	config := pushBlob(tb, s, oci.ConfigMediaType, `{"seed":"`+seed+`"}`)
	var layers []ocispec.Descriptor
	for path, mediaType := range map[string]string{"config.json": oci.WeightConfigMediaType, "model.safetensors": oci.WeightMediaType} {
		l := pushBlob(tb, s, mediaType, path+" of "+seed)
		l.Annotations = map[string]string{oci.FilepathAnnotation: path, ocispec.AnnotationTitle: path}
		if path == "config.json" {
			layers = append([]ocispec.Descriptor{l}, layers...)
		} else {
			layers = append(layers, l)
		}
		m.files[path] = l.Digest.String()
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: oci.ArtifactType, Config: config, Layers: layers,
	})
	if err != nil {
		tb.Fatal(err)
	}
	m.manifest = raw
	if m.subject, err = s.PushManifest(context.Background(), ocispec.MediaTypeImageManifest, raw, tag); err != nil {
		tb.Fatal(err)
	}
	return m
}

func sha(text string) string { return digest.FromString(text).String() }

// predicate describes the model truthfully, as the result of a conversion.
func (m *testModel) predicate() *Predicate {
	artifact, err := DescribeArtifact(m.subject, m.manifest)
	if err != nil {
		panic(err)
	}
	size := func(path string) int64 {
		var mf ocispec.Manifest
		_ = json.Unmarshal(m.manifest, &mf)
		for _, l := range mf.Layers {
			if l.Annotations[oci.FilepathAnnotation] == path {
				return l.Size
			}
		}
		panic(path)
	}
	return &Predicate{
		TimeEvaluated: time.Now().UTC().Format(time.RFC3339),
		Tool:          Tool{URI: "https://weightseal.dev", Version: "v0.0.0-test"},
		Policy:        PolicyRef{Name: "safetensors-only", Digest: map[string]string{"sha256": sha("policy")[7:]}},
		Artifact:      artifact,
		Origin:        &Origin{URI: "file", Files: []OriginFile{{Path: "pytorch_model.bin", Digest: sha("source")}}},
		Summary:       Summary{Parameters: 12},
		WeightsDigest: sha("weights"),
		Files: []FileEntry{
			{Path: "model.safetensors", LayerDigest: m.files["model.safetensors"], Size: size("model.safetensors"), Role: "weight",
				Format:      FormatInfo{Detected: "safetensors", Declared: "safetensors"},
				Safetensors: &SafetensorsInfo{HeaderSize: 128, HeaderDigest: sha("header"), Tensors: 2, DTypes: map[string]int{"F32": 2}, TensorSetDigest: sha("set")}},
			{Path: "config.json", LayerDigest: m.files["config.json"], Size: size("config.json"), Role: "config",
				Format: FormatInfo{Detected: "json", Declared: "json"}},
		},
		Conversions: []Conversion{{
			Source:  SourceInfo{Path: "pytorch_model.bin", Format: "torch-zip", Size: 1000, Digest: sha("source")},
			Outputs: []OutputInfo{{Path: "model.safetensors", Digest: m.files["model.safetensors"]}},
			Engine:  Engine{Name: "weightseal", Version: "v0.0.0-test"},
			Equality: Equality{Kind: "bitwise", TensorSetDigestSource: sha("set"), TensorSetDigestOutput: sha("set"), Tensors: 2,
				Aliases: []AliasEntry{{Removed: "lm_head.weight", Kept: "wte.weight"}}},
		}},
	}
}

// statement gives a good statement about the model.
func (m *testModel) statement(tb testing.TB, change ...func(*Predicate)) []byte {
	tb.Helper()
	p := m.predicate()
	for _, c := range change {
		c(p)
	}
	st, err := NewStatement("model", m.subject.Digest.String(), p)
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

func sign(tb testing.TB, k *testKey, payload []byte) []byte {
	tb.Helper()
	env, err := k.signer.Sign(context.Background(), payload)
	if err != nil {
		tb.Fatal(err)
	}
	return env
}

// attach stores what is signed with Attach.
func (m *testModel) attach(tb testing.TB, k *testKey, payload []byte) *Stored {
	tb.Helper()
	st, err := Attach(context.Background(), m.store, m.subject, sign(tb, k, payload), k.signer)
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

// The two storage forms.
const (
	inBundle = 1 << iota
	inLegacy
)

// plant stores an envelope without any of the checks of Attach.
func (m *testModel) plant(tb testing.TB, k *testKey, raw []byte, forms int) {
	tb.Helper()
	ctx := context.Background()
	a := &attachment{store: m.store, subject: m.subject, envelope: raw, tag: legacyTag(m.subject.Digest)}
	if forms&inLegacy != 0 {
		if _, err := a.writeLegacy(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	if forms&inBundle != 0 {
		a.bundle = rawBundle(tb, k, raw)
		if _, err := a.writeBundle(ctx); err != nil {
			tb.Fatal(err)
		}
	}
}

// plantBundle stores any bytes as a bundle referrer.
func (m *testModel) plantBundle(tb testing.TB, bundle []byte) ocispec.Descriptor {
	tb.Helper()
	a := &attachment{store: m.store, subject: m.subject, bundle: bundle}
	d, err := a.writeBundle(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// rawBundle wraps an envelope that decodeEnvelope may refuse.
func rawBundle(tb testing.TB, k *testKey, raw []byte) []byte {
	tb.Helper()
	var form struct {
		Payload     json.RawMessage `json:"payload"`
		PayloadType json.RawMessage `json:"payloadType"`
		Signatures  []struct {
			Sig string `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(raw, &form); err != nil {
		tb.Fatal(err)
	}
	out, err := json.Marshal(map[string]any{
		"mediaType":            bundleMediaType,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "x"}},
		"dsseEnvelope":         form,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// base64Of gives the bytes of a digest in base64.
func base64Of(d digest.Digest) string {
	b, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}
