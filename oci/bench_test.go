package oci_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
)

// benchSize is the size of the blobs that the benchmarks move.
const benchSize = 256 << 20

// zeros is content that costs nothing to make.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }

// sinkRegistry takes any upload and keeps nothing; it serves zeros.
func sinkRegistry(b *testing.B) string {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 1<<20))
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Location", r.URL.Path+"1")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPatch:
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		case strings.Contains(r.URL.Path, "/blobs/"):
			w.Header().Set("Content-Length", strconv.Itoa(benchSize))
			chunk := make([]byte, 1<<20)
			for range benchSize / len(chunk) {
				_, _ = w.Write(chunk)
			}
		}
	}))
	b.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// BenchmarkPush is the client's share of a push: read, hash, send.
func BenchmarkPush(b *testing.B) {
	s := open(b, sinkRegistry(b)+"/m")
	for _, tap := range []bool{false, true} {
		b.Run(fmt.Sprintf("tap=%v", tap), func(b *testing.B) {
			c := oci.Content{Reader: zeros{}, Size: benchSize}
			if tap {
				c.Tap = func() io.Writer { return io.Discard }
			}
			b.SetBytes(benchSize)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.PushBlob(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// zerosDigest is the digest of benchSize zeros.
const zerosDigest = "sha256:a6d72ac7690f53be6ae46ba88506bd97302a093f7108472bd9efc3cefda06484"

// BenchmarkFetch reads through the verifying reader, in one goroutine.
func BenchmarkFetch(b *testing.B) {
	s := open(b, sinkRegistry(b)+"/m")
	d := ocispec.Descriptor{Digest: digest.Digest(zerosDigest), Size: benchSize}
	buf := make([]byte, 1<<20)
	b.SetBytes(benchSize)
	for b.Loop() {
		r, err := s.Fetch(b.Context(), d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPull is the client's share of a pull: receive, hash, write.
func BenchmarkPull(b *testing.B) {
	s := open(b, sinkRegistry(b)+"/m")
	files := []oci.File{{Path: "model.bin", Descriptor: ocispec.Descriptor{Digest: digest.Digest(zerosDigest), Size: benchSize}}}
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if err := oci.Pull(b.Context(), s, files, b.TempDir(), oci.Options{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
