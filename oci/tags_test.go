package oci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// tagged pushes one manifest under each of the tags.
func tagged(t *testing.T, s oci.Store, tags ...string) {
	t.Helper()
	manifest := ocitest.Manifest(t, s, "tagged", nil, oci.ArtifactType, nil)
	for _, tag := range tags {
		if _, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, manifest, tag); err != nil {
			t.Fatal(err)
		}
	}
}

// says wants part of the error's text.
func says(part string) wantError {
	return func(err error) string {
		if !strings.Contains(err.Error(), part) {
			return fmt.Sprintf("does not say %q", part)
		}
		return ""
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]func(t *testing.T) string{
		"in-process":   func(t *testing.T) string { return inProcess(t, false) + "/" },
		"distribution": func(t *testing.T) string { return realtools.Registry(t) + "/" },
		"layout":       func(t *testing.T) string { return "oci:" + filepath.Join(t.TempDir(), "layouts") + "/" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, base(t)+"team/model")
			if _, err := oci.Tags(t.Context(), s); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("before the first push: %v", err)
			}
			tagged(t, s, "v2", "v10", "latest", "v2")
			got, err := oci.Tags(t.Context(), s)
			if want := []string{"latest", "v10", "v2"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("%q, %v: want %q", got, err, want)
			}
		})
	}
}

// A real registry gives more tags than fit a page by the page.
func TestTagsOfManyPages(t *testing.T) {
	t.Parallel()
	p := fp.Start(t, realtools.Registry(t))
	s := open(t, p.Addr+"/team/model")
	var want []string
	for i := range 1205 {
		want = append(want, fmt.Sprintf("v%04d", i))
	}
	tagged(t, s, want...)
	p.Set()
	got, err := oci.Tags(t.Context(), s)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d tags, %v: want %d", len(got), err, len(want))
	}
	if pages := p.Requests("tags/list"); len(pages) != 2 {
		t.Errorf("requests %q: want two pages", pages)
	}
}

// tagPages serves a list of tags page by page, the links as given.
func tagPages(pages [][]string, links ...string) fp.Fault {
	n := 0
	return fp.On("", "tags/list", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		i := min(n, len(pages)-1)
		n++
		if i < len(links) {
			w.Header().Set("Link", links[i])
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"name": "team/model", "tags": pages[i]})
		return true
	})
}

// What registries may do with a list of tags.
func TestTagAnswers(t *testing.T) {
	t.Parallel()
	small := func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		return r.URL.Query().Get("n") != "" && fp.Status(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")(w, r, nil)
	}
	page := func(rest string) string { return "</v2/team/model/tags/list?n=2&last=" + rest + `>; rel="next"` }
	for name, test := range map[string]struct {
		faults []fp.Fault
		want   []string
		errors []wantError
	}{
		"pages":          {[]fp.Fault{tagPages([][]string{{"a", "b"}, {"c"}}, page("b"))}, []string{"a", "b", "c"}, nil},
		"page size":      {[]fp.Fault{small, tagPages([][]string{{"a"}})}, []string{"a"}, nil},
		"none":           {[]fp.Fault{tagPages([][]string{nil})}, nil, nil},
		"twice, and odd": {[]fp.Fault{tagPages([][]string{{"a", "b", "a", "-x", "", "x y", strings.Repeat("z", 129)}})}, []string{"a", "b"}, nil},
		"the same page":  {[]fp.Fault{tagPages([][]string{{"a"}}, page("a"), page("a"), page("a"))}, nil, []wantError{says("the page itself")}},
		"another host":   {[]fp.Fault{tagPages([][]string{{"a"}}, `<http://192.0.2.1/v2/x/tags/list>; rel="next"`)}, nil, []wantError{says("not on the same host")}},
		"no such":        {[]fp.Fault{fp.On("", "tags", fp.Status(http.StatusNotFound, "NAME_UNKNOWN"))}, nil, []wantError{is(oci.ErrNotFound), status(404)}},
		"not allowed":    {[]fp.Fault{fp.On("", "tags", fp.Status(http.StatusForbidden, "DENIED"))}, nil, []wantError{is(oci.ErrDenied), status(403)}},
		"a page of theirs": {[]fp.Fault{fp.On("", "tags", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			_, _ = w.Write([]byte("<html>hello</html>"))
			return true
		})}, nil, []wantError{says("list of tags is not JSON")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fp.Start(t, inProcess(t, false), test.faults...)
			got, err := oci.Tags(t.Context(), oci.Hurry(open(t, p.Addr+"/team/model"), 0))
			if test.errors != nil {
				checkError(t, err, test.errors...)
				return
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%q, %v: want %q", got, err, test.want)
			}
		})
	}
}

func TestIsAttachmentTag(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0a", 32)
	for tag, want := range map[string]bool{
		"sha256-" + hex: true, "sha256-" + hex + ".att": true, "sha256-" + hex + ".sig": true, "sha256-" + hex + ".sbom": true,
		"v1": false, "sha256-" + hex[1:]: false, "sha256-" + hex + "-v1": false, "x-sha256-" + hex: false, "sha256-" + strings.ToUpper(hex): false,
	} {
		if got := oci.IsAttachmentTag(tag); got != want {
			t.Errorf("%s: %v", tag, got)
		}
	}
}

func TestNamesVersion(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]bool{
		"registry.example/team/model": false, "registry.example:5000/team/model": false, "registry.example/team/model:v1": true,
		"registry.example:5000/model" + digest: true, "oci:dir": false, "oci:dir:v1": true, "oci:dir" + digest: true, "oci:./dir/": false,
	} {
		if got := oci.NamesVersion(ref); got != want {
			t.Errorf("%s: %v", ref, got)
		}
	}
}
