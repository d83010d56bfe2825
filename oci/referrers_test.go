package oci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

func subjectOf(t *testing.T, s oci.Store) ocispec.Descriptor {
	t.Helper()
	d, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, ocitest.Manifest(t, s, "subject", nil, "", nil), "v1")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// lost answers a write with success and forgets it, as another writer's write
// right after it does.
func lost() fp.Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.WriteHeader(http.StatusCreated)
		return true
	}
}

func TestFallbackLostUpdate(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	subject := subjectOf(t, s)
	m := ocitest.Manifest(t, s, "r", &subject, "application/vnd.test", nil)

	p.Set(fp.On("PUT", "/manifests/sha256-", lost()))
	_, err := s.AddReferrer(t.Context(), subject, m, "application/vnd.test", nil)
	checkError(t, err)

	p.Set(fp.Times(3, fp.On("PUT", "/manifests/sha256-", lost())))
	if _, err := s.AddReferrer(t.Context(), subject, m, "application/vnd.test", nil); err != nil {
		t.Fatal(err)
	}
	list, err := s.Referrers(t.Context(), subject.Digest.String())
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// What others wrote into the fallback index stays, fields unknown to us
// included.
func TestFallbackKeepsForeignEntries(t *testing.T) {
	t.Parallel()
	_, s := behind(t)
	subject := subjectOf(t, s)
	foreign, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, ocitest.Manifest(t, s, "foreign", &subject, "", nil), "")
	if err != nil {
		t.Fatal(err)
	}
	tag := "sha256-" + subject.Digest.Encoded()
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"x-unknown":{"a":1}}],"annotations":{"k":"v"}}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, foreign.Digest, foreign.Size)
	if _, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageIndex, []byte(index), tag); err != nil {
		t.Fatal(err)
	}
	notes := map[string]string{"note": "n"}
	m := ocitest.Manifest(t, s, "ours", &subject, "application/vnd.ours", notes)
	if _, err := s.AddReferrer(t.Context(), subject, m, "application/vnd.ours", notes); err != nil {
		t.Fatal(err)
	}
	d, err := s.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Manifest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var ix struct {
		Manifests []struct {
			Digest       string
			ArtifactType string
			Annotations  map[string]string
			Unknown      map[string]int `json:"x-unknown"`
		}
		Annotations map[string]string
	}
	if err := json.Unmarshal(b, &ix); err != nil {
		t.Fatal(err)
	}
	if len(ix.Manifests) != 2 || ix.Manifests[0].Unknown["a"] != 1 || ix.Annotations["k"] != "v" ||
		ix.Manifests[1].ArtifactType != "application/vnd.ours" || ix.Manifests[1].Annotations["note"] != "n" {
		t.Errorf("index is now %s", b)
	}
}

// pages serves referrers by the API, so many on a page.
func pages(total, each int, link string) fp.Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		start := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("start"), &start)
		ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
		ix.SchemaVersion = 2
		for i := start; i < min(start+each, total); i++ {
			ix.Manifests = append(ix.Manifests, ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(ocitest.Digest([]byte(fmt.Sprint(i)))), Size: 10,
			})
		}
		if start+each < total {
			w.Header().Set("Link", fmt.Sprintf(link, start+each))
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(ix)
		return true
	}
}

func TestReferrerPages(t *testing.T) {
	t.Parallel()
	id := ocitest.Digest([]byte("subject"))
	next := `</v2/team/model/referrers/` + id + `?start=%d>; rel="next"`
	for name, test := range map[string]struct {
		fault fp.Fault
		want  int
		err   wantError
	}{
		"one":           {fault: pages(7, 10, next), want: 7},
		"many":          {fault: pages(25, 10, next), want: 25},
		"relative":      {fault: pages(25, 10, `<?start=%d>; rel=next`), want: 25},
		"1000":          {fault: pages(1000, 300, next), want: 1000},
		"1001":          {fault: pages(1001, 300, next), err: as[*oci.LimitError](), want: 1000},
		"1001-at-once":  {fault: pages(1001, 2000, next), err: as[*oci.LimitError](), want: 1000},
		"empty-forever": {fault: pages(1<<30, 0, next), err: as[*oci.LimitError]()},
		"other-host":    {fault: pages(25, 10, `<http://other.example/?start=%d>; rel="next"`), err: as[*oci.NetworkError]()},
		"no-index":      {fault: fp.On("GET", "", asIndex(`[]`)), err: as[*oci.NetworkError]()},
		"odd-entry":     {fault: fp.On("GET", "", asIndex(`{"manifests":[{"digest":"sha256:../..","size":-1}]}`)), want: 0},
		"500":           {fault: fp.Status(500, "UNKNOWN"), err: status(500)},
		"403":           {fault: fp.Status(403, "DENIED"), err: is(oci.ErrDenied)},
		"404":           {fault: fp.Status(404, "UNKNOWN"), want: 0},
		"a-web-page":    {fault: fp.Body([]byte("<html>")), want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			p.Set(fp.On("GET", "/referrers/", test.fault))
			list, err := s.Referrers(t.Context(), id)
			if test.err != nil {
				checkError(t, err, test.err)
			} else if err != nil || len(list) != test.want {
				t.Errorf("%d referrers, %v", len(list), err)
			}
			if len(list) != test.want {
				t.Errorf("%d referrers listed", len(list))
			}
		})
	}
}

// asIndex answers with any bytes as an index.
func asIndex(body string) fp.Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = w.Write([]byte(body))
		return true
	}
}

// oddEntries are what anybody who may push can put into a list of referrers.
var oddEntries = []string{
	`null`, `"text"`, `7`, `[]`, `{}`, `{"mediaType":"m","digest":"","size":3}`,
	`{"mediaType":"m","digest":"sha512:` + strings.Repeat("0", 128) + `","size":3}`,
	`{"mediaType":"m","digest":"sha256:` + strings.Repeat("0", 64) + `","size":-1}`,
	`{"mediaType":"m","digest":"sha256:` + strings.Repeat("0", 64) + `","size":4194305}`,
	`{"mediaType":"m","digest":"sha256:` + strings.Repeat("0", 64) + `","size":"3"}`,
}

// An odd entry is passed over, in an answer of the API and under the fallback
// tag; the good ones around it are listed.
func TestOddReferrers(t *testing.T) {
	t.Parallel()
	for _, odd := range append(oddEntries, strings.Join(oddEntries, ",")) {
		p, s := behind(t)
		subject := subjectOf(t, s)
		good := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":10}`, ocispec.MediaTypeImageManifest, ocitest.Digest([]byte("r")))
		index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s,%s,%s]}`, ocispec.MediaTypeImageIndex, good, odd, good)
		for where, fault := range map[string]fp.Fault{
			"API":      fp.On("GET", "/referrers/", asIndex(index)),
			"fallback": fp.On("GET", "/manifests/sha256-", asIndex(index)),
		} {
			p.Set(fault)
			list, err := s.Referrers(t.Context(), subject.Digest.String())
			if err != nil || len(list) != 2 {
				t.Errorf("%s in the %s: %v, %v", odd, where, list, err)
			}
		}
	}
}

// What is under the fallback tag without being an index lists nothing. An
// entry is written over it where it is no manifest either; somebody's manifest
// is left alone.
func TestFallbackGarbage(t *testing.T) {
	t.Parallel()
	for body, kept := range map[string]bool{
		`hello`: false, ``: false, `[]`: false, `null`: false, `{}`: false, `{"manifests":"x"}`: false, `{"manifests":{}}`: false,
		`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","layers":[]}`: true,
		`{"schemaVersion":2,"config":{},"layers":[]}`:                                          true,
		`{"mediaType":"application/vnd.other+json","manifests":[]}`:                            true,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			subject := subjectOf(t, s)
			var written atomic.Bool
			p.Set(
				fp.On("PUT", "/manifests/sha256-", func(http.ResponseWriter, *http.Request, http.Handler) bool {
					written.Store(true)
					return false
				}),
				fp.On("GET", "/manifests/sha256-", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
					return !written.Load() && asIndex(body)(w, r, next)
				}))
			if list, err := s.Referrers(t.Context(), subject.Digest.String()); err != nil || len(list) != 0 {
				t.Errorf("read: %v, %v", list, err)
			}
			_, err := s.AddReferrer(t.Context(), subject, ocitest.Manifest(t, s, "r", &subject, "", nil), "", nil)
			if (err != nil) != kept || written.Load() == kept {
				t.Errorf("entered: %v, written %v", err, written.Load())
			}
			if list, err := s.Referrers(t.Context(), subject.Digest.String()); !kept && (err != nil || len(list) != 1) {
				t.Errorf("read after: %v, %v", list, err)
			}
		})
	}
	// A registry that does not answer is not an empty list.
	p, s := behind(t)
	for _, code := range []int{401, 403, 500} {
		p.Set(fp.On("GET", "/manifests/sha256-", fp.Status(code, "UNKNOWN")))
		_, err := s.Referrers(t.Context(), ocitest.Digest(nil))
		checkError(t, err, as[*oci.NetworkError]())
	}
}

// Entries of others are written back to the byte.
func TestFallbackKeepsBytes(t *testing.T) {
	t.Parallel()
	_, s := behind(t)
	subject := subjectOf(t, s)
	tag := "sha256-" + subject.Digest.Encoded()
	entry := fmt.Sprintf("{ \"size\" :10,\n\t\"digest\":%q, \"annotations\":{\"k\":\"<a>&\\u0041\"}, \"x\":1.0e1}", ocitest.Digest([]byte("r")))
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, entry)
	if _, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageIndex, []byte(index), tag); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddReferrer(t.Context(), subject, ocitest.Manifest(t, s, "r", &subject, "", nil), "", nil); err != nil {
		t.Fatal(err)
	}
	d, err := s.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Manifest(t.Context(), d)
	if err != nil || !strings.Contains(string(b), "["+entry+",{") || !json.Valid(b) {
		t.Errorf("%s, %v", b, err)
	}
}

// An answer of OCI-Subject means that the registry keeps the list.
func TestOCISubject(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	subject := subjectOf(t, s)
	m := ocitest.Manifest(t, s, "r", &subject, "", nil)
	p.Set(fp.On("PUT", "/manifests/", fp.Header("OCI-Subject", subject.Digest.String())))
	if _, err := s.AddReferrer(t.Context(), subject, m, "", nil); err != nil {
		t.Fatal(err)
	}
	if n := len(p.Requests("sha256-")); n != 0 {
		t.Errorf("%d requests for a fallback tag", n)
	}
	if _, err := s.Resolve(t.Context(), "sha256-"+subject.Digest.Encoded()); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("fallback tag: %v", err)
	}
}
