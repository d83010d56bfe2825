package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/oci"
)

// TestChangesWhileRead changes a source between planning and the end of its
// upload: the push fails, says to try again, and sets no tag.
func TestChangesWhileRead(t *testing.T) {
	t.Parallel()
	changes := map[string]func(path string, content []byte) error{
		"appended": func(path string, _ []byte) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("more")
			return err
		},
		"truncated": func(path string, content []byte) error { return os.Truncate(path, int64(len(content)/2)) },
		"rewritten": func(path string, content []byte) error { return os.WriteFile(path, content, 0o600) },
		"replaced": func(path string, content []byte) error {
			if err := os.WriteFile(path+".new", content, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"removed": func(path string, _ []byte) error { return os.Remove(path) },
	}
	for name, file := range map[string]string{
		"pytorch_model.bin": "checkpoints/tied.pt",
		"legacy.bin":        "checkpoints/views_legacy.pt",
		"model.safetensors": "checkpoints/handmade/st/ok.safetensors",
		"config.json":       "",
	} {
		for how, change := range changes {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				content := []byte("{}")
				if file != "" {
					content = readCorpus(t, file)
				}
				files := map[string][]byte{name: content}
				if name == "config.json" { // a model has weights
					files["model.safetensors"] = readCorpus(t, "checkpoints/handmade/st/ok.safetensors")
				}
				dir := placed(t, files)
				path := filepath.Join(dir, name)
				past := time.Now().Add(-time.Hour)
				if err := os.Chtimes(path, past, past); err != nil {
					t.Fatal(err)
				}
				p := watched(t)
				var once sync.Once
				p.Set(fp.On("POST", "/blobs/uploads/", func(http.ResponseWriter, *http.Request, http.Handler) bool {
					once.Do(func() {
						if err := change(path, content); err != nil {
							t.Error(err)
						}
					})
					return false
				}))
				r := execute(t, "push", dir, p.Addr+"/a/b:v1", "--plain-http", "--key", keyFile(t, "ours.key"))
				r.failed(t, codes(exitError), name, "hint: try again")
				untagged(t, p, "a/b:v1")
			})
		}
	}
}

// largeModel is more than a registry takes in one request.
func largeModel(tb testing.TB) string {
	tb.Helper()
	const size = 6 << 20
	header := fmt.Sprintf(`{"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, size, size)
	for len(header)%8 != 0 {
		header += " "
	}
	b := make([]byte, 8+len(header)+size)
	b[0] = byte(len(header))
	copy(b[8:], header)
	for i := 8 + len(header); i < len(b); i++ {
		b[i] = byte(i * 7 >> 3)
	}
	return placed(tb, map[string][]byte{"model.safetensors": b, "config.json": []byte("{}")})
}

// statusOf are the answers that a registry gives on bad days.
var statusOf = map[string]fp.Fault{
	"401": fp.Status(401, "UNAUTHORIZED"), "403": fp.Status(403, "DENIED"), "404": fp.Status(404, "NAME_UNKNOWN"),
	"429": fp.Status(429, "TOOMANYREQUESTS"), "500": fp.Status(500, "UNKNOWN"), "closed": fp.CutUpload(0),
}

// TestPushToBadRegistry: every request of a push can be the one that fails.
func TestPushToBadRegistry(t *testing.T) {
	t.Parallel()
	dir := largeModel(t)
	faults := map[string]fp.Fault{"upload cut": fp.On("", "/blobs/uploads/", fp.CutUpload(1<<20))}
	for name, f := range statusOf {
		faults["GET v2 "+name] = fp.On("GET", "/v2/", onlyPath("/v2/", f))
		faults["POST upload "+name] = fp.On("POST", "/blobs/uploads/", f)
		faults["PUT upload "+name] = fp.On("PUT", "/blobs/uploads/", f)
		faults["PUT manifest "+name] = fp.On("PUT", "/manifests/sha256:", f)
		faults["PUT tag "+name] = fp.On("PUT", "/manifests/v1", f)
		faults["PUT legacy attestation "+name] = fp.On("PUT", "/manifests/sha256-", f)
		if name != "404" { // which says that nothing is there yet
			faults["GET tag "+name] = fp.On("GET", "/manifests/v1", f)
		}
	}
	delete(faults, "GET v2 404") // old registries answer so,
	delete(faults, "GET v2 401") // and one that asks for no credentials is taken as it is
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := watched(t)
			p.Set(fault)
			r := execute(t, "push", dir, p.Addr+"/a/b:v1", "--plain-http", "--key", keyFile(t, "ours.key"))
			want := []string{}
			if strings.HasSuffix(name, "401") {
				want = append(want, "hint: log in first")
			}
			r.failed(t, codes(exitNetwork), want...)
			untagged(t, p, "a/b:v1")
		})
	}
}

// onlyPath limits a fault to one path.
func onlyPath(path string, f fp.Fault) fp.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		return r.URL.Path == path && f(w, r, next)
	}
}

// TestPullFromBadRegistry: every answer of a pull can be the bad one. Nothing
// is left of it, at the target or beside.
func TestPullFromBadRegistry(t *testing.T) {
	t.Parallel()
	dir := largeModel(t)
	origin := watched(t)
	pushed := execute(t, "push", dir, origin.Addr+"/a/b:v1", "--plain-http", "--key", keyFile(t, "ours.key"))
	pushed.succeeded(t)
	byDigest := strings.TrimSpace(pushed.out)
	_, byDigest, _ = strings.Cut(byDigest, "@")
	type bad struct {
		fault fp.Fault
		ref   string
		codes []int
	}
	faults := map[string]bad{}
	network, distrust := codes(exitNetwork), codes(exitNetwork, exitAttestation)
	for name, f := range map[string]fp.Fault{
		"another":    fp.Body([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}`)),
		"login page": fp.Body([]byte("<html>log in</html>")), "endless": fp.Endless(), "damaged": fp.Corrupt(), "truncated": fp.Short(10),
		"cut": fp.CutDownload(100),
	} {
		faults["manifest by digest "+name] = bad{fp.On("GET", "/manifests/", f), "@" + byDigest, network}
		// Under a tag a registry may hold what it wants: it has no attestation.
		faults["manifest by tag "+name] = bad{fp.On("GET", "/manifests/", f), ":v1", codes(exitNetwork, exitAttestation, exitError)}
		faults["weights "+name] = bad{fp.On("GET", "/blobs/", largeOnly(f)), ":v1", network}
		// An attestation that is damaged is none.
		faults["every blob "+name] = bad{fp.On("GET", "/blobs/", f), ":v1", distrust}
	}
	for name, f := range statusOf {
		faults["ping "+name] = bad{fp.On("GET", "", onlyPath("/v2/", f)), ":v1", network}
		faults["manifest "+name] = bad{fp.On("", "/manifests/v1", f), ":v1", network}
		faults["every manifest "+name] = bad{fp.On("", "/manifests/", f), "@" + byDigest, network}
		faults["every blob "+name] = bad{fp.On("GET", "/blobs/", f), ":v1", distrust}
		faults["weights "+name] = bad{fp.On("GET", "/blobs/", largeOnly(f)), ":v1", network}
	}
	delete(faults, "ping 401") // asks for no credentials
	delete(faults, "ping 404")
	for name, m := range faults {
		for mode, flags := range map[string][]string{"verified": {"--key", keyFile(t, "ours.pub")}, "unverified": {"--no-verify"}} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				p := fp.Start(t, origin.Addr, m.fault)
				parent := t.TempDir()
				r := execute(t, append([]string{"pull", p.Addr + "/a/b" + m.ref, filepath.Join(parent, "out"), "--plain-http"}, flags...)...)
				r.failed(t, m.codes)
				holds(t, parent)
			})
		}
	}
}

// largeOnly limits a fault to blobs of more than 1 MB: the weights.
func largeOnly(f fp.Fault) fp.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		head := r.Clone(r.Context())
		head.Method = http.MethodHead
		seen := &lengthOnly{header: http.Header{}}
		next.ServeHTTP(seen, head)
		return len(seen.header.Get("Content-Length")) >= 7 && f(w, r, next)
	}
}

// lengthOnly takes the header of an answer.
type lengthOnly struct{ header http.Header }

func (l *lengthOnly) Header() http.Header         { return l.header }
func (l *lengthOnly) Write(b []byte) (int, error) { return len(b), nil }
func (l *lengthOnly) WriteHeader(int)             {}

// TestEscapingLayers: layers whose paths lead out of the target, or meet.
func TestEscapingLayers(t *testing.T) {
	t.Parallel()
	for name, paths := range map[string][]string{
		"climbs": {"../evil"}, "climbs inside": {"a/../../evil"}, "absolute": {"/etc/evil"}, "backslash": {`..\evil`}, "drive": {"C:evil"},
		"twice": {"a", "a"}, "differ in case": {"a", "A"}, "file and folder": {"a", "a/b"}, "dot": {"."}, "zero byte": {"a\x00b"},
		"control": {"a\x1b[2Jb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := watched(t)
			store, tag, err := oci.Open(p.Addr+"/a/b:v1", oci.Options{PlainHTTP: true})
			if err != nil {
				t.Fatal(err)
			}
			pushRaw(t, store, tag, paths)
			parent := t.TempDir()
			r := execute(t, "pull", p.Addr+"/a/b:v1", filepath.Join(parent, "in", "out"), "--plain-http", "--no-verify")
			r.failed(t, codes(exitNetwork), "manifest", "hint: ")
			holds(t, parent)
			if strings.Contains(r.err, "\x1b") {
				t.Errorf("an escape sequence got through: %q", r.err)
			}
			for _, args := range [][]string{{"scan"}, {"convert"}, {"push", "--no-sign"}} {
				args = append(args, p.Addr+"/a/b:v1")
				if args[0] == "push" {
					args = append(args, "oci:"+filepath.Join(parent, "layout")+":v1")
				}
				if args[0] == "convert" {
					continue // takes no registry that needs --plain-http
				}
				execute(t, append(args, "--plain-http")...).failed(t, codes(exitNetwork))
				holds(t, parent)
			}
		})
	}
}

// pushRaw stores a manifest whose layers have these paths.
func pushRaw(tb testing.TB, store oci.Store, tag string, paths []string) {
	tb.Helper()
	ctx := context.Background()
	blob := func(mediaType, text string) ocispec.Descriptor {
		d, err := store.PushBlob(ctx, oci.Content{MediaType: mediaType, Reader: strings.NewReader(text), Size: int64(len(text))})
		if err != nil {
			tb.Fatal(err)
		}
		d.MediaType = mediaType
		return d
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: oci.ArtifactType, Config: blob(oci.ConfigMediaType, "{}")}
	for i, path := range paths {
		l := blob(oci.DocMediaType, fmt.Sprint("text ", i))
		l.Annotations = map[string]string{oci.FilepathAnnotation: path, ocispec.AnnotationTitle: path}
		m.Layers = append(m.Layers, l)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := store.PushManifest(ctx, m.MediaType, raw, tag); err != nil {
		tb.Fatal(err)
	}
}
