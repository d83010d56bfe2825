package attest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/oci"
)

// openRegistry gives an empty repository in a registry, and its faults.
func openRegistry(t *testing.T) (*fp.Proxy, oci.Store) {
	t.Helper()
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	p := fp.Start(t, strings.TrimPrefix(srv.URL, "http://"))
	s, _, err := oci.Open(p.Addr+"/team/model:v1", oci.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	return p, s
}

// answer serves any bytes as a manifest.
func answer(contentType, body string) fp.Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// What anybody may push under the legacy tag or the fallback tag locks nobody
// out: it is told, and a good statement in the other form counts.
func TestVerifyOddTags(t *testing.T) {
	t.Parallel()
	layers := func(l string) string {
		return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","layers":[` + l + `]}`
	}
	bad := func(digest, size string) string {
		return layers(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%s}`, envelopeMediaType, digest, size))
	}
	for name, body := range map[string]string{
		"not JSON": "hello", "empty": "", "list": "[]", "null": "null", "string": `"x"`,
		"index":             `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`,
		"too large":         strings.Repeat(" ", oci.MaxManifest+1),
		"other type":        `{"schemaVersion":2,"mediaType":"application/vnd.other+json"}`,
		"layers are text":   `{"schemaVersion":2,"layers":"x"}`,
		"no digest":         bad("", "3"),
		"digest is no hash": bad("sha256:../../x", "3"),
		"sha512":            bad("sha512:"+strings.Repeat("0", 128), "3"),
		"negative size":     bad(sha("x"), "-1"),
		"size is text":      bad(sha("x"), `"3"`),
		"not there":         bad(sha("x"), "3"),
		"null layer":        layers("null"),
	} {
		for tag, good := range map[string]int{".att": inBundle, "": inLegacy} {
			t.Run(name+" under "+tag, func(t *testing.T) {
				t.Parallel()
				p, s := openRegistry(t)
				m := pushModel(t, s, "v1", "m")
				odd := fp.On("GET", "/manifests/sha256-", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
					return strings.HasSuffix(r.URL.Path, legacyTagSuffix) == (tag != "") && answer(ocispec.MediaTypeImageManifest, body)(w, r, next)
				})
				p.Set(odd)
				_, err := verify(m, trustOurs(t))
				var ve *VerifyError
				if !errors.Is(err, ErrNoAttestation) && !errors.As(err, &ve) {
					t.Errorf("alone: %v", err)
				}
				k := key(t, ourKey)
				p.Set()
				m.plant(t, k, sign(t, k, m.statement(t)), good)
				p.Set(odd)
				v, err := verify(m, trustOurs(t))
				if err != nil {
					t.Fatalf("locks out a good statement: %v", err)
				}
				if told := len(v.Ignored()); tag != "" && told != 1 && !strings.HasPrefix(name, "null") {
					t.Errorf("%d told as ignored", told)
				}
			})
		}
	}
}

// A registry that fails is not a registry without attestations.
func TestVerifyRegistryFaults(t *testing.T) {
	t.Parallel()
	for _, part := range []string{legacyTagSuffix, "/referrers/", "/blobs/"} {
		for _, code := range []int{401, 403, 500} {
			t.Run(fmt.Sprint(part[1:], code), func(t *testing.T) {
				t.Parallel()
				p, s := openRegistry(t)
				m := pushModel(t, s, "v1", "m")
				m.attach(t, key(t, ourKey), m.statement(t))
				p.Set(fp.On("GET", part, fp.Status(code, "UNKNOWN")))
				_, err := verify(m, trustOurs(t))
				var ne *oci.NetworkError
				var ve *VerifyError
				if !errors.As(err, &ne) || errors.As(err, &ve) || errors.Is(err, ErrNoAttestation) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// Of more referrers than are listed the first are read, and it is told that
// they are not all.
func TestVerifyManyReferrers(t *testing.T) {
	t.Parallel()
	p, s := openRegistry(t)
	m := pushModel(t, s, "v1", "m")
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	for i := range 1500 {
		ix.Manifests = append(ix.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/spdx+json",
			Digest: digest.Digest(sha(fmt.Sprint(i))), Size: 10,
		})
	}
	list := func() fp.Fault {
		raw, err := json.Marshal(ix)
		if err != nil {
			t.Fatal(err)
		}
		return fp.On("GET", "/referrers/", answer(ocispec.MediaTypeImageIndex, string(raw)))
	}
	p.Set(list())
	var ve *VerifyError
	if _, err := verify(m, trustOurs(t)); !errors.As(err, &ve) || !strings.Contains(err.Error(), "more than 1000") {
		t.Errorf("without a good one: %v", err)
	}
	stored := m.attach(t, key(t, ourKey), m.statement(t))
	ix.Manifests[999] = stored.Bundle
	p.Set(list(), fp.On("GET", legacyTagSuffix, fp.Status(404, "MANIFEST_UNKNOWN")))
	v, err := verify(m, trustOurs(t))
	if err != nil {
		t.Fatal(err)
	}
	last := v.Checks()[len(v.Checks())-1]
	if last.Name != "all attestations" || last.Done || !strings.Contains(last.Detail, "more than 1000") {
		t.Errorf("does not say that some were not read: %+v", last)
	}
}
