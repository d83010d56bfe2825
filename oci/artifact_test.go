package oci_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// modelFiles is a model as pushed by the tests: small and large, nested, empty.
func modelFiles() map[string][]byte {
	return map[string][]byte{
		"config.json":                 []byte(`{"architectures":["X"]}`),
		"model.safetensors":           ocitest.Random(5<<20, 1),
		"sub/dir/more.safetensors":    ocitest.Random(1<<20, 2),
		"README.md":                   []byte("# A model & <more>\n"),
		"tokenizer/vocab.txt":         []byte("a\nb\n"),
		"tokenizer/empty.txt":         {},
		"copy-of-another.safetensors": ocitest.Random(1<<20, 2),
	}
}

func artifactOf(files map[string][]byte) oci.Artifact {
	a := oci.Artifact{Config: oci.ModelConfig{Name: "test", Architecture: "X", Format: "safetensors", ParamSize: "1M", Precision: "F16"}}
	for path, b := range files {
		c := blobOf(b)
		switch {
		case strings.HasSuffix(path, ".safetensors"):
			c.MediaType = oci.WeightMediaType
		case strings.HasSuffix(path, ".md"):
			c.MediaType = oci.DocMediaType
		default:
			c.MediaType = oci.WeightConfigMediaType
		}
		a.Layers = append(a.Layers, oci.Layer{Path: path, Content: c})
	}
	return a
}

func pushArtifact(t testing.TB, s oci.Store, a oci.Artifact, tag string) *oci.Staged {
	t.Helper()
	st, err := oci.PushLayers(t.Context(), s, a, oci.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Publish(t.Context(), s, tag); err != nil {
		t.Fatal(err)
	}
	return st
}

// pullAll resolves a tag and pulls it into a new directory.
func pullAll(t *testing.T, s oci.Store, tag string) map[string][]byte {
	t.Helper()
	d, err := s.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Manifest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	files, err := oci.Files(m)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := oci.Pull(t.Context(), s, files, dir, oci.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	return readTree(t, dir)
}

func readTree(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	got := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		got[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func compareTrees(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	for path, b := range want {
		if g, ok := got[path]; !ok || !bytes.Equal(g, b) {
			t.Errorf("%s: there %v, %d bytes, want %d", path, ok, len(g), len(b))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// Same input, same bytes, in whatever order the layers come and wherever they
// go: the golden file is the format's definition.
func TestManifestIsDeterministic(t *testing.T) {
	t.Parallel()
	const golden = "testdata/manifest.json"
	var first []byte
	for name, s := range map[string]oci.Store{
		"registry": open(t, inProcess(t, false)+"/a"),
		"layout":   open(t, "oci:"+t.TempDir()),
	} {
		for range 3 { // map order differs each time
			st := pushArtifact(t, s, artifactOf(modelFiles()), "v1")
			if first == nil {
				first = st.ManifestBytes
			}
			if !bytes.Equal(st.ManifestBytes, first) {
				t.Errorf("%s: another manifest:\n%s\n%s", name, st.ManifestBytes, first)
			}
			if st.Manifest.Digest.String() != ocitest.Digest(first) {
				t.Errorf("%s: descriptor %v", name, st.Manifest)
			}
		}
	}
	if *update {
		if err := os.WriteFile(golden, first, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(first, want) {
		t.Errorf("manifest is not the golden one (%v):\n%s", err, first)
	}
}

func TestPushAndPull(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]oci.Store{
		"registry": open(t, inProcess(t, false)+"/a"),
		"layout":   open(t, "oci:"+t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := modelFiles()
			a := artifactOf(files)
			done := map[string]string{}
			for i := range a.Layers {
				a.Layers[i].Done = func(d ocispec.Descriptor) { done[a.Layers[i].Path] = d.Digest.String() }
			}
			phases := map[string][]string{}
			st, err := oci.PushLayers(t.Context(), s, a, oci.Options{Concurrency: 3}, func(e oci.Event) {
				if p := phases[e.Path]; len(p) == 0 || p[len(p)-1] != e.Phase {
					phases[e.Path] = append(p, e.Phase)
				}
				if e.Total != int64(len(files[e.Path])) || e.Done > e.Total {
					t.Errorf("event %+v", e)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Resolve(t.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("visible before it was published: %v", err)
			}
			if err := st.Publish(t.Context(), s, "v1"); err != nil {
				t.Fatal(err)
			}
			for path, b := range files {
				if done[path] != ocitest.Digest(b) {
					t.Errorf("%s: Done got %q", path, done[path])
				}
				p := phases[path]
				if len(p) < 2 || p[0] != "upload" || (p[len(p)-1] != "done" && p[len(p)-1] != "skip") {
					t.Errorf("%s: phases %q", path, p)
				}
			}
			compareTrees(t, pullAll(t, s, "v1"), files)

			src, err := oci.Source(s, st.ManifestBytes)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := src.List(t.Context())
			if err != nil || len(entries) != len(files) || !slices.IsSortedFunc(entries, func(a, b model.Entry) int { return strings.Compare(a.Path, b.Path) }) {
				t.Errorf("entries %v, %v", entries, err)
			}
			for _, e := range entries {
				b, err := src.Open(t.Context(), e.Path)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
				if err != nil || !bytes.Equal(got, files[e.Path]) || e.Digest != ocitest.Digest(got) {
					t.Errorf("%s: %d bytes, %v", e.Path, len(got), err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := src.Open(t.Context(), "none"); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("open of what is not there: %v", err)
			}
		})
	}
}

// A second push of small or known content uploads nothing.
func TestPushSkips(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	files := modelFiles()
	pushArtifact(t, s, artifactOf(files), "v1")
	a := artifactOf(files)
	for i := range a.Layers {
		a.Layers[i].Content.Digest = ocitest.Digest(files[a.Layers[i].Path])
	}
	p.Set()
	st := pushArtifact(t, s, a, "v2")
	if st.Skipped != len(files) || len(p.Requests("POST")) != 0 {
		t.Errorf("%d of %d skipped, uploads %q", st.Skipped, len(files), p.Requests("POST"))
	}
}

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	one := blobOf([]byte("x"))
	for name, layers := range map[string][]oci.Layer{
		"nothing":   nil,
		"escape":    {{Path: "../x", Content: one}},
		"absolute":  {{Path: "/x", Content: one}},
		"twice":     {{Path: "x", Content: one}, {Path: "x", Content: one}},
		"case":      {{Path: "x", Content: one}, {Path: "X", Content: one}},
		"directory": {{Path: "x", Content: one}, {Path: "x/y", Content: one}},
		"negative":  {{Path: "x", Content: oci.Content{Size: -1}}},
		"too-many":  manyLayers(20000, one),
	} {
		if _, err := oci.PushLayers(t.Context(), s, oci.Artifact{Layers: layers}, oci.Options{}, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := len(p.Requests("")); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func manyLayers(n int, c oci.Content) []oci.Layer {
	layers := make([]oci.Layer, n)
	for i := range layers {
		layers[i] = oci.Layer{Path: fmt.Sprintf("file-%06d", i), Content: c}
	}
	return layers
}

// One layer's failure stops the others and names the layer.
func TestPushStopsQuickly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "oci:"+dir) // the registry in this process would keep all of it in memory
	broken := errors.New("bad sector")
	a := artifactOf(modelFiles())
	a.Layers = append(a.Layers,
		oci.Layer{Path: "broken.bin", Content: oci.Content{Size: 100, Reader: readerFunc(func([]byte, int64) (int, error) { return 0, broken })}},
		oci.Layer{Path: "endless.bin", Content: oci.Content{Size: 1 << 40, Reader: readerFunc(func(p []byte, _ int64) (int, error) {
			time.Sleep(time.Millisecond)
			return len(p), nil
		})}})
	_, err := oci.PushLayers(t.Context(), s, a, oci.Options{}, nil)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "broken.bin") {
		t.Errorf("%v", err)
	}
	checkNoTemporaries(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := oci.PushLayers(ctx, s, artifactOf(modelFiles()), oci.Options{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// A manifest that could not be pushed leaves no tag.
func TestPublishFails(t *testing.T) {
	t.Parallel()
	p, s := behind(t)
	st, err := oci.PushLayers(t.Context(), s, artifactOf(modelFiles()), oci.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]wantError{401: is(oci.ErrUnauthorized), 403: is(oci.ErrDenied), 500: status(500), 400: status(400)} {
		p.Set(fp.On("PUT", "/manifests/", fp.Status(code, "X")))
		checkError(t, st.Publish(t.Context(), s, "v1"), want)
	}
	p.Set(fp.On("PUT", "/manifests/", fp.CutUpload(10)))
	checkError(t, st.Publish(t.Context(), s, "v1"))
	p.Set()
	if _, err := s.Resolve(t.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("visible: %v", err)
	}
}

func descriptorJSON(mediaType string, annotations string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":3,"annotations":{%s}}`, mediaType, ocitest.Digest([]byte("abc")), annotations)
}

func manifestWith(layers ...string) []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[` + strings.Join(layers, ",") + `]}`)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	const (
		cncf  = `"org.cncf.model.filepath":`
		cnai  = `"org.cnai.model.filepath":`
		title = `"org.opencontainers.image.title":`
		tar   = "application/vnd.oci.image.layer.v1.tar"
	)
	for name, test := range map[string]struct {
		layers []string
		want   []string
	}{
		"modelpack":     {[]string{descriptorJSON(oci.WeightMediaType, cncf+`"b/c.bin"`), descriptorJSON(oci.DocMediaType, cncf+`"a.md"`)}, []string{"a.md", "b/c.bin"}},
		"both":          {[]string{descriptorJSON(oci.WeightMediaType, cncf+`"a",`+title+`"a"`)}, []string{"a"}},
		"legacy":        {[]string{descriptorJSON("application/vnd.cnai.model.weight.v1.raw", cnai+`"a"`)}, []string{"a"}},
		"docker":        {[]string{descriptorJSON("application/vnd.docker.ai.safetensors", cncf+`"a"`), descriptorJSON("application/vnd.docker.ai.model.file", cncf+`"b"`)}, []string{"a", "b"}},
		"dmr-modelpack": {[]string{descriptorJSON("application/vnd.cncf.model.weight.v1.safetensors", cncf+`"a"`)}, []string{"a"}},
		"oras":          {[]string{descriptorJSON(tar, title+`"a"`)}, []string{"a"}},
		"oras-gzip":     {[]string{descriptorJSON(tar+"+gzip", title+`"a.gz"`)}, []string{"a.gz"}},
		"oras-own-type": {[]string{descriptorJSON("text/x", title+`"a"`)}, []string{"a"}},
	} {
		files, err := oci.Files(manifestWith(test.layers...))
		var got []string
		for _, f := range files {
			got = append(got, f.Path)
			if f.Size != 3 || f.Digest.String() != ocitest.Digest([]byte("abc")) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, layer := range map[string]string{
		"modelpack-tar":      descriptorJSON("application/vnd.cncf.model.weight.v1.tar", cncf+`"a"`),
		"modelpack-tar+gzip": descriptorJSON("application/vnd.cncf.model.weight.v1.tar+gzip", cncf+`"a"`),
		"modelpack-raw+zstd": descriptorJSON("application/vnd.cncf.model.weight.v1.raw+zstd", cncf+`"a"`),
		"modelpack-no-path":  descriptorJSON(oci.WeightMediaType, ""),
		"docker-dir":         descriptorJSON("application/vnd.docker.ai.dir.tar", cncf+`"a"`),
		"docker-vllm":        descriptorJSON("application/vnd.docker.ai.vllm.config.tar", ""),
		"docker-no-path":     descriptorJSON("application/vnd.docker.ai.gguf.v3", ""),
		"oras-directory":     descriptorJSON(tar+"+gzip", title+`"a","io.deis.oras.content.unpack":"true"`),
		"image":              descriptorJSON(tar+"+gzip", ""),
		"modelkit":           descriptorJSON("application/vnd.kitops.modelkit.model.v1.tar", title+`"a"`),
		"ollama":             descriptorJSON("application/vnd.ollama.image.model", ""),
	} {
		_, err := oci.Files(manifestWith(layer))
		var ue *oci.UnsupportedError
		if !errors.As(err, &ue) || ue.Type == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw := func(path string) string { return descriptorJSON(oci.WeightMediaType, cncf+path) }
	good := raw(`"a"`)
	for name, m := range map[string][]byte{
		"escape":          manifestWith(raw(`"../a"`)),
		"absolute":        manifestWith(raw(`"/a"`)),
		"inner-escape":    manifestWith(raw(`"a/../../b"`)),
		"backslash":       manifestWith(raw(`"..\\a"`)),
		"drive":           manifestWith(raw(`"C:a"`)),
		"nul":             manifestWith(raw(`"a\u0000b"`)),
		"title-escapes":   manifestWith(descriptorJSON(tar, title+`"../../a"`)),
		"two-paths":       manifestWith(descriptorJSON(oci.WeightMediaType, cncf+`"a",`+title+`"b"`)),
		"same-path":       manifestWith(good, good),
		"case-clash":      manifestWith(good, raw(`"A"`)),
		"file-and-dir":    manifestWith(good, raw(`"a/b"`)),
		"negative-size":   bytes.Replace(manifestWith(good), []byte(`"size":3`), []byte(`"size":-3`), 1),
		"bad-digest":      bytes.Replace(manifestWith(good), []byte("sha256:"), []byte("sha256:../"), 1),
		"sha512":          bytes.Replace(manifestWith(good), []byte("sha256:"), []byte("sha512:"), 1),
		"no-layers":       manifestWith(),
		"index":           []byte(`{"schemaVersion":2,"manifests":[]}`),
		"both-kinds":      bytes.Replace(manifestWith(good), []byte(`"layers"`), []byte(`"manifests":[],"layers"`), 1),
		"schema-1":        []byte(`{"schemaVersion":1,"fsLayers":[]}`),
		"layers-twice":    bytes.Replace(manifestWith(good), []byte(`"layers"`), []byte(`"layers":[],"layers"`), 1),
		"layers-in-case":  bytes.Replace(manifestWith(good), []byte(`"layers"`), []byte(`"Layers":[],"layers"`), 1),
		"two-annotations": manifestWith(descriptorJSON(oci.WeightMediaType, cncf+`"a",`+cncf+`"b"`)),
		"trailing":        append(manifestWith(good), "{}"...),
		"deep":            []byte(strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)),
		"not-json":        []byte("<html>"),
		"empty":           nil,
		"huge":            bytes.Repeat([]byte(" "), 5<<20),
	} {
		if files, err := oci.Files(m); err == nil {
			t.Errorf("%s: accepted as %v", name, files)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add(manifestWith(descriptorJSON(oci.WeightMediaType, `"org.cncf.model.filepath":"a/b"`)))
	f.Add(manifestWith(descriptorJSON("x", `"org.opencontainers.image.title":"../a"`)))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`))
	if golden, err := os.ReadFile("testdata/manifest.json"); err == nil {
		f.Add(golden)
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		files, err := oci.Files(manifest)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, file := range files {
			if !filepath.IsLocal(file.Path) || file.Size < 0 || seen[file.Path] || len(file.Digest) != 71 {
				t.Errorf("accepted %+v", file)
			}
			seen[file.Path] = true
		}
	})
}
