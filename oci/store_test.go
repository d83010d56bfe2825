package oci_test

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/weightseal/weightseal/internal/realtools"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// open opens a store by reference, for plain HTTP.
func open(t testing.TB, ref string) oci.Store {
	t.Helper()
	s, _, err := oci.Open(ref, oci.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inProcess starts a registry in this process and gives its HOST:PORT. Its
// blobs are on disk, since many of them run at the same time.
func inProcess(t testing.TB, referrers bool) string {
	t.Helper()
	srv := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(referrers),
		ggcr.WithBlobHandler(ggcr.NewDiskBlobHandler(t.TempDir())), ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestStores(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]func(t *testing.T) string{
		"in-process":               func(t *testing.T) string { return inProcess(t, false) + "/" },
		"in-process-referrers-api": func(t *testing.T) string { return inProcess(t, true) + "/" },
		"distribution":             func(t *testing.T) string { return realtools.Registry(t) + "/" },
		"layout":                   func(t *testing.T) string { return "oci:" + filepath.Join(t.TempDir(), "layouts") + "/" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := base(t)
			ocitest.TestStore(t, func(t *testing.T, name string) oci.Store { return open(t, at+name) })
		})
	}
}
