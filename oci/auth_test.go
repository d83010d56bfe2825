package oci_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	fp "github.com/weightseal/weightseal/internal/faultproxy"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/oci/ocitest"
)

// basicAuth is a registry that wants a name and a password.
func basicAuth(user, pass string) fp.Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		u, p, ok := r.BasicAuth()
		if ok && u == user && p == pass {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		return fp.Status(http.StatusUnauthorized, "UNAUTHORIZED")(w, r, nil)
	}
}

// tokenAuth is a registry that wants tokens, each good for so many requests.
type tokenAuth struct {
	mu     sync.Mutex
	uses   int
	left   int
	issued int
	scopes []string
}

func (a *tokenAuth) fault(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Path == "/token" {
		if u, p, ok := r.BasicAuth(); !ok || u != "user" || p != "secret" {
			return fp.Status(http.StatusUnauthorized, "UNAUTHORIZED")(w, r, nil)
		}
		a.issued++
		a.left = a.uses
		a.scopes = append(a.scopes, r.URL.Query()["scope"]...)
		_ = json.NewEncoder(w).Encode(map[string]string{"token": fmt.Sprint("token", a.issued)})
		return true
	}
	if r.Header.Get("Authorization") == fmt.Sprint("Bearer token", a.issued) && a.left > 0 {
		a.left--
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:team/model:pull,push"`, r.Host))
	return fp.Status(http.StatusUnauthorized, "UNAUTHORIZED")(w, r, nil)
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	p := fp.Start(t, inProcess(t, false), basicAuth("user", "secret"))
	good, _, err := oci.Open(p.Addr+"/team/model", oci.Options{PlainHTTP: true, Username: "user", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	mustPush(t, good, ocitest.Random(5<<20, 1))
	for _, opt := range []oci.Options{{PlainHTTP: true, Username: "user", Password: "wrong"}, {PlainHTTP: true, Username: "other"}} {
		bad, _, err := oci.Open(p.Addr+"/team/model", opt)
		if err != nil {
			t.Fatal(err)
		}
		_, err = bad.PushBlob(t.Context(), blobOf(ocitest.Random(5<<20, 2)))
		checkError(t, err, is(oci.ErrUnauthorized), status(401))
		_, err = bad.Resolve(t.Context(), "v1")
		checkError(t, err, is(oci.ErrUnauthorized), status(401))
		if strings.Contains(err.Error(), "wrong") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

// A token that ends between any two requests is replaced.
func TestTokenRefresh(t *testing.T) {
	t.Parallel()
	for uses := 2; uses <= 5; uses++ {
		auth := &tokenAuth{uses: uses}
		p := fp.Start(t, inProcess(t, false), auth.fault)
		s, _, err := oci.Open(p.Addr+"/team/model", oci.Options{PlainHTTP: true, Username: "user", Password: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		oci.Hurry(s, 0)
		want := ocitest.Random(6<<20, byte(uses))
		for range 2 {
			if d, err := s.PushBlob(t.Context(), blobOf(want)); err != nil || d.Digest.String() != ocitest.Digest(want) {
				t.Fatalf("token good for %d requests: %v", uses, err)
			}
		}
		if auth.issued < 2 {
			t.Errorf("token good for %d requests: only %d were issued", uses, auth.issued)
		}
	}
}

// Reading asks for no more than reading.
func TestTokenScope(t *testing.T) {
	t.Parallel()
	auth := &tokenAuth{uses: 1000}
	p := fp.Start(t, inProcess(t, false), auth.fault)
	s, _, err := oci.Open(p.Addr+"/team/model", oci.Options{PlainHTTP: true, Username: "user", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), "v1"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("resolve: %v", err)
	}
	if got := strings.Join(auth.scopes, " "); got != "repository:team/model:pull" {
		t.Errorf("scopes %q", got)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	t.Run("HTTP/1.1", func(t *testing.T) { t.Parallel(); testTLS(t, false) })
	t.Run("HTTP/2", func(t *testing.T) { t.Parallel(); testTLS(t, true) })
}

func testTLS(t *testing.T, http2 bool) {
	quiet := log.New(io.Discard, "", 0)
	srv := httptest.NewUnstartedServer(ggcr.New(ggcr.Logger(quiet)))
	srv.Config.ErrorLog, srv.EnableHTTP2 = quiet, http2
	srv.StartTLS()
	t.Cleanup(srv.Close)
	addr := strings.TrimPrefix(srv.URL, "https://")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		opt oci.Options
		ok  bool
	}{
		"ca":       {oci.Options{CAFile: ca}, true},
		"insecure": {oci.Options{Insecure: true}, true},
		"unknown":  {oci.Options{}, false},
		"plain":    {oci.Options{PlainHTTP: true, CAFile: ca}, false},
	} {
		s, _, err := oci.Open(addr+"/team/model", test.opt)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.PushBlob(t.Context(), blobOf(ocitest.Random(9<<20, 1)))
		if test.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !test.ok {
			checkError(t, err)
		}
	}
	if _, _, err := oci.Open(addr+"/x", oci.Options{CAFile: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a CA file that is not there is accepted")
	}
}

// A certificate that is not trusted is the reason that is told, also where the
// handshake is slow: HTTP must not be tried in the meantime.
func TestSlowUntrusted(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	slow, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close() })
	go func() {
		for {
			here, err := slow.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				here.Close()
				return
			}
			go func() {
				first := make([]byte, 1)
				if _, err := io.ReadFull(here, first); err == nil && first[0] == 0x16 { // a TLS handshake
					time.Sleep(700 * time.Millisecond)
				}
				_, _ = there.Write(first)
				go func() { _, _ = io.Copy(here, there); here.Close() }()
				_, _ = io.Copy(there, here)
				there.Close()
			}()
		}
	}()
	s, _, err := oci.Open(slow.Addr().String()+"/team/model", oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Resolve(t.Context(), "v1")
	checkError(t, err, says("certificate"))
}
