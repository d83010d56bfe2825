package oci_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	id := ocitest.Digest([]byte("x"))
	for ref, want := range map[string][2]string{ // the reference of tag "t", and tagOrDigest
		"registry.example/team/model":             {"registry.example/team/model:t", "latest"},
		"registry.example/team/model:v1":          {"registry.example/team/model:t", "v1"},
		"registry.example:5000/m":                 {"registry.example:5000/m:t", "latest"},
		"registry.example/m@" + id:                {"registry.example/m:t", id},
		"registry.example/m:v1@" + id:             {"registry.example/m:t", id},
		"localhost:5000/m:v1":                     {"localhost:5000/m:t", "v1"},
		"model":                                   {"index.docker.io/library/model:t", "latest"},
		"team/model:v1":                           {"index.docker.io/team/model:t", "v1"},
		"docker.io/team/model":                    {"index.docker.io/team/model:t", "latest"},
		"oci:dir":                                 {"oci:dir:t", "latest"},
		"oci:dir:v1":                              {"oci:dir:t", "v1"},
		"oci:/some/dir/":                          {"oci:/some/dir:t", "latest"},
		"oci:/some/dir:v1":                        {"oci:/some/dir:t", "v1"},
		"oci:/a:b/dir":                            {"oci:/a:b/dir:t", "latest"},
		"oci:/a:b/dir:v1":                         {"oci:/a:b/dir:t", "v1"},
		"oci:dir@" + id:                           {"oci:dir:t", id},
		"oci:a@b:v1":                              {"oci:a@b:t", "v1"},
		"oci:./x":                                 {"oci:x:t", "latest"},
		"oci:" + strings.Repeat("d", 20) + ":v-1": {"oci:" + strings.Repeat("d", 20) + ":t", "v-1"},
	} {
		s, got, err := oci.Open(ref, oci.Options{})
		if err != nil || got != want[1] || s.Reference("t") != filepath.FromSlash(want[0]) {
			t.Errorf("%s: %q, %v", ref, got, err)
			continue
		}
		if r := s.Reference(id); !strings.HasSuffix(r, "@"+id) {
			t.Errorf("%s: reference %s", ref, r)
		}
		// What Reference prints can be opened.
		again, got, err := oci.Open(s.Reference(id), oci.Options{})
		if err != nil || got != id || again.Reference(id) != s.Reference(id) {
			t.Errorf("%s: %s cannot be opened: %q, %v", ref, s.Reference(id), got, err)
		}
	}
	for _, ref := range []string{"", "UPPER/case", "a b", "registry.example/m@sha256:1234", "registry.example/m@sha512:" + id[7:], "registry.example/m:", "http://x/y", "oci:", "oci::v1", "oci:dir@sha256:12", "oci:a\x00b"} {
		_, _, err := oci.Open(ref, oci.Options{})
		var re *oci.ReferenceError
		if !errors.As(err, &re) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// schemes notes by which scheme a registry is asked, and answers nothing.
type schemes struct{ seen map[string]bool }

func (s *schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	s.seen[r.URL.Scheme] = true
	return nil, errors.New("nobody there")
}

// Plain HTTP is only spoken where Open says so.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host        string
		plain       bool
		http, https bool
	}{
		{"registry.example", false, false, true},
		{"registry.example", true, true, false},
		{"10.1.2.3:5000", false, false, true}, // a private address is no reason
		{"192.168.0.1:5000", false, false, true},
		{"10.1.2.3:5000", true, true, false},
		{"localhost:5000", false, true, true},
		{"127.0.0.1:5000", false, true, true},
		{"127.0.0.1:5000", true, true, false},
		{"[::1]:5000", false, true, true},
		{"x.localhost:5000", false, true, true},
		{"localhost.example:5000", false, false, true},
	} {
		rt := &schemes{seen: map[string]bool{}}
		s, _, err := oci.Open(test.host+"/m", oci.Options{PlainHTTP: test.plain, Transport: rt, Username: "u", Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		oci.Hurry(s, 0)
		_, err = s.Resolve(t.Context(), "v1")
		checkError(t, err)
		if rt.seen["http"] != test.http || rt.seen["https"] != test.https {
			t.Errorf("%s, plain %v: asked by %v", test.host, test.plain, rt.seen)
		}
	}
}

// What is told of a registry that is not there is why the connection failed,
// not which schemes were tried.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, plain := range []bool{false, true} {
		s, tag, err := oci.Open(addr+"/a:b", oci.Options{PlainHTTP: plain})
		if err != nil {
			t.Fatal(err)
		}
		_, err = oci.Hurry(s, 0).Resolve(t.Context(), tag)
		var ne *oci.NetworkError
		if !errors.As(err, &ne) || !errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "HTTPS") {
			t.Errorf("plain %v: %v", plain, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, ref := range []string{"a/b:c", "oci:dir:tag", "oci:a:b:c", "x@" + ocitest.Digest(nil), "oci:x@" + ocitest.Digest(nil), "[::1]:5/x"} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		s, id, err := oci.Open(ref, oci.Options{})
		if err != nil {
			return
		}
		again, got, err := oci.Open(s.Reference(id), oci.Options{})
		if err != nil || got != id || again.Reference(id) != s.Reference(id) {
			t.Errorf("%q: %q, %v", ref, s.Reference(id), err)
		}
	})
}

// A reference with user and password is refused, and the password not told.
func TestCredentialsInReference(t *testing.T) {
	t.Parallel()
	for ref, shown := range map[string]string{
		"user:s3cret@registry.example/m":                        "***@registry.example/m",
		"user:s3cret@registry.example:5000/m:v1":                "***@registry.example:5000/m:v1",
		"https://user:s3cret@registry.example/m":                "https://***@registry.example/m",
		"user:s3cret/x@y@registry.example/m":                    "***@registry.example/m",
		"user:s3cret@registry.example/m@sha256:12":              "***@registry.example/m@sha256:12",
		"user:s3cret@registry.example/m@" + ocitest.Digest(nil): "***@registry.example/m@" + ocitest.Digest(nil),
		"s3cret@registry.example/m":                             "***@registry.example/m",
	} {
		for _, plain := range []bool{false, true} {
			_, _, err := oci.Open(ref, oci.Options{PlainHTTP: plain})
			var re *oci.ReferenceError
			if !errors.As(err, &re) || strings.Contains(fmt.Sprintf("%v %+v", err, *re), "s3cret") || !strings.Contains(err.Error(), strconv.Quote(shown)) {
				t.Errorf("%s: %v", ref, err)
			}
		}
		if err := (&oci.ReferenceError{Ref: ref, Reason: "r"}); strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
	}
	for _, ref := range []string{"registry.example/m@sha256:1234", "oci:a@b@sha256:12"} {
		if _, _, err := oci.Open(ref, oci.Options{}); err == nil || !strings.Contains(err.Error(), strconv.Quote(ref)) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
