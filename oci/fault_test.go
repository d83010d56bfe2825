package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// behind starts a registry with a fault proxy before it, and opens a store
// through the proxy.
func behind(t *testing.T) (*fp.Proxy, oci.Store) {
	t.Helper()
	p := fp.Start(t, inProcess(t, false))
	return p, oci.Hurry(open(t, p.Addr+"/team/model"), 0)
}

func blobOf(b []byte) oci.Content {
	return oci.Content{MediaType: "application/octet-stream", Reader: bytes.NewReader(b), Size: int64(len(b))}
}

func mustPush(t *testing.T, s oci.Store, b []byte) ocispec.Descriptor {
	t.Helper()
	d, err := s.PushBlob(t.Context(), blobOf(b))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantError is what an error must be.
type wantError func(error) string

func is(target error) wantError {
	return func(err error) string {
		if !errors.Is(err, target) {
			return fmt.Sprintf("is not %v", target)
		}
		return ""
	}
}

func as[T error]() wantError {
	return func(err error) string {
		var target T
		if !errors.As(err, &target) {
			return fmt.Sprintf("holds no %T", target)
		}
		return ""
	}
}

func status(code int) wantError {
	return func(err error) string {
		var re *oci.RegistryError
		if !errors.As(err, &re) || re.Status != code {
			return fmt.Sprintf("holds no registry error with status %d", code)
		}
		return ""
	}
}

func checkError(t *testing.T, err error, wants ...wantError) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, want := range append(wants, as[*oci.NetworkError]()) {
		if complaint := want(err); complaint != "" {
			t.Errorf("%v\n\t%s", err, complaint)
		}
	}
	if strings.Contains(err.Error(), "_state") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error shows what it should not: %v", err)
	}
}

const uploads = "/blobs/uploads/"

func TestUploadFaultsHealed(t *testing.T) {
	t.Parallel()
	for name, registry := range map[string]func(*testing.T) string{
		"in-process":   func(t *testing.T) string { return inProcess(t, false) },
		"distribution": func(t *testing.T) string { return realtools.Registry(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testUploadFaultsHealed(t, registry(t))
		})
	}
}

func testUploadFaultsHealed(t *testing.T, registry string) {
	large, small := ocitest.Random(9<<20, 1), ocitest.Random(5000, 2)
	for name, fault := range map[string]fp.Fault{
		"reset-in-patch":       fp.Times(1, fp.On("PATCH", uploads, fp.CutUpload(3<<20))),
		"reset-in-patch-twice": fp.Times(2, fp.On("PATCH", uploads, fp.CutUpload(1<<20))),
		"patch-always-reset":   fp.On("PATCH", uploads, fp.CutUpload(100)),
		"patch-413":            fp.On("PATCH", uploads, fp.Status(413, "SIZE_INVALID")),
		"patch-416":            fp.On("PATCH", uploads, fp.Status(416, "BLOB_UPLOAD_INVALID")),
		"patch-400":            fp.On("PATCH", uploads, fp.Status(400, "BLOB_UPLOAD_INVALID")),
		"patch-405":            fp.On("PATCH", uploads, fp.Status(405, "UNSUPPORTED")),
		"patch-500":            fp.Times(1, fp.On("PATCH", uploads, fp.Status(500, "UNKNOWN"))),
		"post-429":             fp.Times(2, fp.On("POST", uploads, fp.Status(429, "TOOMANYREQUESTS"))),
		"put-503":              fp.Times(1, fp.On("PUT", uploads, fp.Status(503, "UNAVAILABLE"))),
		"put-reset":            fp.Times(1, fp.On("PUT", uploads, fp.CutUpload(10))),
		"head-502":             fp.Times(2, fp.On("HEAD", "/blobs/", fp.Status(502, ""))),
		"ping-reset":           fp.Times(1, fp.CutDownload(0)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fp.Start(t, registry, fault)
			s := oci.Hurry(open(t, p.Addr+"/team/"+name), 0)
			for _, want := range [][]byte{large, small} {
				c := blobOf(want)
				var seen *bytes.Buffer
				c.Tap = func() io.Writer { seen = &bytes.Buffer{}; return seen }
				d, err := s.PushBlob(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(seen.Bytes(), want) {
					t.Errorf("the last tap saw %d of %d bytes", seen.Len(), len(want))
				}
				p.Set()
				r, err := s.Fetch(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("stored %d bytes: %v", len(got), err)
				}
			}
		})
	}
}

// A registry that refuses streams is not asked again for every blob.
func TestStreamRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	p.Set(fp.On("PATCH", uploads, fp.Status(405, "UNSUPPORTED")))
	for i := range 3 {
		mustPush(t, s, ocitest.Random(5<<20, byte(i)))
	}
	if n := len(p.Requests("PATCH")); n != 1 {
		t.Errorf("%d PATCH requests", n)
	}
}

// When only the answer to the last request was lost, nothing is sent again.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	p.Set(fp.Times(1, fp.On("PUT", uploads, fp.CutDownload(0))))
	mustPush(t, s, ocitest.Random(5<<20, 1))
	if n := len(p.Requests("PATCH")); n != 1 {
		t.Errorf("%d PATCH requests", n)
	}
}

func TestUploadFaultsFinal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault fp.Fault
		want  []wantError
		calls int // requests with the fault's method, 0 for any number
		call  string
	}{
		"401":            {fp.On("POST", uploads, fp.Status(401, "UNAUTHORIZED")), []wantError{is(oci.ErrUnauthorized), status(401)}, 1, "POST"},
		"403":            {fp.On("POST", uploads, fp.Status(403, "DENIED")), []wantError{is(oci.ErrDenied), status(403)}, 1, "POST"},
		"404":            {fp.On("POST", uploads, fp.Status(404, "NAME_UNKNOWN")), []wantError{is(oci.ErrNotFound), status(404)}, 1, "POST"},
		"400":            {fp.On("POST", uploads, fp.Status(400, "NAME_INVALID")), []wantError{status(400)}, 1, "POST"},
		"429":            {fp.On("POST", uploads, fp.Status(429, "TOOMANYREQUESTS")), []wantError{status(429)}, 3, "POST"},
		"500":            {fp.On("POST", uploads, fp.Status(500, "UNKNOWN")), []wantError{status(500)}, 3, "POST"},
		"patch-403":      {fp.On("PATCH", uploads, fp.Status(403, "DENIED")), []wantError{is(oci.ErrDenied)}, 1, "PATCH"},
		"put-400":        {fp.On("PUT", uploads, fp.Status(400, "DIGEST_INVALID")), []wantError{status(400)}, 1, "PUT"},
		"always-reset":   {fp.On("", uploads, fp.CutUpload(10)), nil, 3, "POST"},
		"no-location":    {fp.On("POST", uploads, fp.Header("Location", "")), nil, 1, "POST"},
		"odd-location":   {fp.On("POST", uploads, fp.Header("Location", "file:///etc/passwd")), nil, 1, "POST"},
		"redirect-loop":  {fp.On("POST", uploads, fp.Loop()), nil, 0, ""},
		"stores-another": {fp.On("PUT", uploads, fp.Header("Docker-Content-Digest", ocitest.Digest([]byte("x")))), []wantError{as[*oci.DigestError]()}, 1, "PUT"},
		"ping-500":       {fp.On("GET", "/v2/", fp.Status(500, "UNKNOWN")), []wantError{status(500)}, 3, "GET /v2/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			p.Set(test.fault)
			_, err := s.PushBlob(t.Context(), blobOf(ocitest.Random(6<<20, 3)))
			checkError(t, err, test.want...)
			if n := len(p.Requests(test.call)); test.calls > 0 && n != test.calls {
				t.Errorf("%d %s requests, want %d: %q", n, test.call, test.calls, p.Requests(""))
			}
		})
	}
}

func TestDownloadFaultsHealed(t *testing.T) {
	t.Parallel()
	want := ocitest.Random(9<<20, 1)
	for name, faults := range map[string][]fp.Fault{
		"reset-once":          {fp.Times(1, fp.On("GET", "/blobs/", fp.CutDownload(3<<20)))},
		"reset-twice":         {fp.Times(2, fp.On("GET", "/blobs/", fp.CutDownload(100)))},
		"reset-after-each-5M": {fp.Times(2, fp.On("GET", "/blobs/", fp.CutDownload(5<<20)))},
		"reset-no-ranges":     {fp.Times(1, fp.On("GET", "/blobs/", fp.CutDownload(3<<20))), fp.NoRanges()},
		"hang":                {fp.Times(1, fp.On("GET", "/blobs/", fp.Hang(3<<20)))},
		"503":                 {fp.Times(2, fp.On("GET", "/blobs/", fp.Status(503, "UNAVAILABLE")))},
		"redirect":            {fp.Times(3, fp.On("GET", "/blobs/", fp.Loop()))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			oci.Hurry(s, 500*time.Millisecond)
			d := mustPush(t, s, want)
			p.Set(faults...)
			r, err := s.Fetch(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestDownloadFaultsFinal(t *testing.T) {
	t.Parallel()
	want := ocitest.Random(2<<20, 1)
	for name, test := range map[string]struct {
		fault fp.Fault
		want  []wantError
	}{
		"wrong-bytes":   {fp.Corrupt(), []wantError{as[*oci.DigestError]()}},
		"short":         {fp.Short(100), []wantError{as[*oci.DigestError]()}},
		"other-blob":    {fp.Body(ocitest.Random(2<<20, 9)), []wantError{as[*oci.DigestError]()}},
		"endless":       {fp.Endless(), []wantError{as[*oci.DigestError]()}},
		"always-reset":  {fp.CutDownload(100), nil},
		"hang":          {fp.Hang(10), nil},
		"401":           {fp.Status(401, "UNAUTHORIZED"), []wantError{is(oci.ErrUnauthorized)}},
		"403":           {fp.Status(403, "DENIED"), []wantError{is(oci.ErrDenied)}},
		"404":           {fp.Status(404, "BLOB_UNKNOWN"), []wantError{is(oci.ErrNotFound)}},
		"429":           {fp.Status(429, "TOOMANYREQUESTS"), []wantError{status(429)}},
		"500":           {fp.Status(500, "UNKNOWN"), []wantError{status(500)}},
		"redirect-loop": {fp.Loop(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			oci.Hurry(s, 300*time.Millisecond)
			d := mustPush(t, s, want)
			p.Set(fp.On("GET", "/blobs/", test.fault))
			// Both ways a caller can go about it.
			r, err := s.Fetch(t.Context(), d)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				if cerr := r.Close(); cerr == nil {
					t.Error("close succeeds")
				}
			}
			checkError(t, err, test.want...)

			dir := t.TempDir()
			err = oci.Pull(t.Context(), s, []oci.File{{Path: "sub/model.bin", Descriptor: d}}, dir, oci.Options{}, nil)
			checkError(t, err, test.want...)
			if err != nil && !strings.Contains(err.Error(), "sub/model.bin") {
				t.Errorf("the error does not name the file: %v", err)
			}
			if left, _ := os.ReadDir(dir + "/sub"); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestManifestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault fp.Fault
		want  []wantError
		byTag bool // only where the digest is not known beforehand
	}{
		"other-manifest": {fault: fp.Body([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}`)), want: []wantError{as[*oci.DigestError]()}},
		"wrong-bytes":    {fault: fp.Corrupt()},
		"not-json":       {fault: fp.Body([]byte("<html>log in</html>")), byTag: true},
		"wrong-type":     {fault: fp.Header("Content-Type", ocispec.MediaTypeImageIndex), byTag: true},
		"endless":        {fault: fp.Endless(), want: []wantError{as[*oci.LimitError]()}, byTag: true},
		"5MiB":           {fault: fp.Body(bytes.Repeat([]byte(" "), 5<<20)), want: []wantError{as[*oci.LimitError]()}, byTag: true},
		"reset":          {fault: fp.CutDownload(10), byTag: true},
		"401":            {fault: fp.Status(401, "UNAUTHORIZED"), want: []wantError{is(oci.ErrUnauthorized)}, byTag: true},
		"403":            {fault: fp.Status(403, "DENIED"), want: []wantError{is(oci.ErrDenied)}, byTag: true},
		"404":            {fault: fp.Status(404, "MANIFEST_UNKNOWN"), want: []wantError{is(oci.ErrNotFound)}, byTag: true},
		"500":            {fault: fp.Status(500, "UNKNOWN"), want: []wantError{status(500)}, byTag: true},
		"redirect-loop":  {fault: fp.Loop(), byTag: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			d, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, ocitest.Manifest(t, s, "m", nil, "", nil), "v1")
			if err != nil {
				t.Fatal(err)
			}
			p.Set(fp.On("GET", "/manifests/", test.fault))
			fresh := func() oci.Store { return oci.Hurry(open(t, p.Addr+"/team/model"), 300*time.Millisecond) }
			_, err = fresh().Resolve(t.Context(), d.Digest.String())
			checkError(t, err, test.want...)
			_, err = fresh().Manifest(t.Context(), d)
			if name != "wrong-type" || err != nil { // the digest stands for the type too
				checkError(t, err, test.want...)
			}
			if test.byTag {
				_, err = fresh().Resolve(t.Context(), "v1")
				checkError(t, err, test.want...)
			}
		})
	}
}

// Anybody who may push can enter something odd into a list of referrers. It
// must not hide the rest of the list.
func TestOddReferrersAreSkipped(t *testing.T) {
	t.Parallel()
	subject, good := ocitest.Digest([]byte("subject")), ocitest.Digest([]byte("good"))
	entry := func(id string, size int) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d}`, id, size)
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, strings.Join([]string{
		`7`, `"text"`, `[]`, `null`, `{}`, `{"digest":7}`, `{"annotations":[]}`,
		entry("sha512:"+strings.Repeat("0", 128), 2), entry("sha256:../../x", 2), entry(ocitest.Digest(nil), -1),
		entry(good, 2), entry(ocitest.Digest([]byte("large")), 1<<30),
	}, ","))
	serve := func(path string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/v2/":
			case path:
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = io.WriteString(w, index)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		t.Cleanup(srv.Close)
		return strings.TrimPrefix(srv.URL, "http://") + "/m"
	}
	fallback := strings.Replace(subject, ":", "-", 1)
	layout := "oci:" + t.TempDir()
	if _, err := open(t, layout).PushManifest(t.Context(), ocispec.MediaTypeImageIndex, []byte(index), fallback); err != nil {
		t.Fatal(err)
	}
	for name, ref := range map[string]string{
		"api": serve("/v2/m/referrers/" + subject), "fallback": serve("/v2/m/manifests/" + fallback), "layout": layout,
	} {
		list, err := oci.Hurry(open(t, ref), 0).Referrers(t.Context(), subject)
		if err != nil || len(list) != 1 || list[0].Digest.String() != good {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

// An entry of index.json that is no descriptor, or a manifest that is no JSON,
// is nobody's referrer.
func TestOddEntriesOfALayout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "oci:"+dir)
	subject, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, ocitest.Manifest(t, s, "subject", nil, "", nil), "v1")
	if err != nil {
		t.Fatal(err)
	}
	added, err := s.AddReferrer(t.Context(), subject, ocitest.Manifest(t, s, "r", &subject, "application/vnd.test", nil), "application/vnd.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	text := mustPush(t, s, []byte("no JSON"))
	path := filepath.Join(dir, "index.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	odd := fmt.Sprintf(`"manifests":[7,{"digest":%q,"size":%d},`, text.Digest, text.Size)
	spoilt := strings.Replace(string(b), `"manifests":[`, odd, 1)
	if err := os.WriteFile(path, []byte(spoilt), 0o600); err != nil || spoilt == string(b) {
		t.Fatalf("%v, %s", err, spoilt)
	}
	list, err := s.Referrers(t.Context(), subject.Digest.String())
	if err != nil || len(list) != 1 || list[0].Digest != added.Digest {
		t.Errorf("%v, %v", list, err)
	}
}

func TestRangeFaults(t *testing.T) {
	t.Parallel()
	want := ocitest.Random(3<<20, 5)
	for name, test := range map[string]struct {
		fault  fp.Fault
		healed bool
		want   []wantError
	}{
		"no-ranges":     {fault: fp.NoRanges(), healed: true},
		"reset":         {fault: fp.Times(2, fp.CutDownload(100)), healed: true},
		"always-reset":  {fault: fp.CutDownload(100)},
		"other-range":   {fault: fp.Header("Content-Range", "bytes 0-262143/3145728")},
		"other-size":    {fault: fp.Header("Content-Range", "bytes 1048576-1310719/99999999")},
		"no-range-head": {fault: fp.Header("Content-Range", "")},
		"hang":          {fault: fp.Hang(10)},
		"403":           {fault: fp.Status(403, "DENIED"), want: []wantError{is(oci.ErrDenied)}},
		"404":           {fault: fp.Status(404, "BLOB_UNKNOWN"), want: []wantError{is(oci.ErrNotFound)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := behind(t)
			oci.Hurry(s, 300*time.Millisecond)
			d := mustPush(t, s, want)
			p.Set(fp.On("GET", "/blobs/", test.fault))
			b, err := s.Blob(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			for _, n := range []int{100, 512 << 10} {
				got := make([]byte, n)
				_, err = b.ReadAt(got, 1<<20+5)
				if !test.healed {
					checkError(t, err, test.want...)
				} else if err != nil || !bytes.Equal(got, want[1<<20+5:][:n]) {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
		})
	}
}

func TestRedirectLeavesCredentialsBehind(t *testing.T) {
	t.Parallel()
	backend := inProcess(t, false)
	blob := ocitest.Random(1<<20, 6)
	var leaked string
	elsewhere := fp.Start(t, backend, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		leaked += r.Header.Get("Authorization")
		return false
	})
	p := fp.Start(t, backend, basicAuth("user", "secret"),
		fp.On("GET", "/blobs/", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			http.Redirect(w, r, "http://"+elsewhere.Addr+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}))
	s, _, err := oci.Open(p.Addr+"/team/model", oci.Options{PlainHTTP: true, Username: "user", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	d := mustPush(t, s, blob)
	r, err := s.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, blob) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
	if len(elsewhere.Requests("")) == 0 || leaked != "" {
		t.Errorf("%d requests elsewhere, credentials there: %q", len(elsewhere.Requests("")), leaked)
	}
}

func TestCancelIsNoNetworkError(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	d := mustPush(t, s, ocitest.Random(1<<20, 7))
	p.Set(fp.Hang(10))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, context.Canceled)
	defer cancel()
	err := oci.Pull(ctx, s, []oci.File{{Path: "x", Descriptor: d}}, t.TempDir(), oci.Options{}, nil)
	if !errors.Is(err, context.Canceled) || errors.As(err, new(*oci.NetworkError)) {
		t.Errorf("cancelled pull: %v", err)
	}
}

func TestPullChecksPathsFirst(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	d := mustPush(t, s, []byte("x"))
	for _, bad := range []string{"../x", "/etc/x", "a/../../x", "a\\b", "C:x", "a\x00b", "", "."} {
		p.Set()
		dir := t.TempDir()
		err := oci.Pull(t.Context(), s, []oci.File{{Path: "good", Descriptor: d}, {Path: bad, Descriptor: d}}, dir, oci.Options{}, nil)
		if err == nil {
			t.Errorf("path %q accepted", bad)
		}
		if n := len(p.Requests("")); n != 0 {
			t.Errorf("path %q: %d requests were made", bad, n)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("path %q: left behind %v", bad, left)
		}
	}
	huge := []oci.File{
		{Path: "a", Descriptor: ocispec.Descriptor{Digest: digest.Digest(ocitest.Digest(nil)), Size: 1 << 62}},
		{Path: "b", Descriptor: ocispec.Descriptor{Digest: digest.Digest(ocitest.Digest(nil)), Size: 1 << 62}},
	}
	if err := oci.Pull(t.Context(), s, huge, t.TempDir(), oci.Options{}, nil); err == nil {
		t.Error("sizes that overflow accepted")
	}
	if err := oci.Pull(t.Context(), s, huge[:1], t.TempDir(), oci.Options{}, nil); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("more than any disk holds: %v", err)
	}
}
