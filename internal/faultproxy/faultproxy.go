// Package faultproxy stands between a client and a registry and does what
// registries and networks do on bad days: cut connections, lie, refuse.
package faultproxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Fault handles a request, or gives false to let the next fault, and at last
// the registry, have it. forward sends it to the registry.
type Fault func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool

// Proxy is a running proxy.
type Proxy struct {
	Addr string // HOST:PORT, plain HTTP

	mu     sync.Mutex
	faults []Fault
	log    []string
}

// Start starts a proxy before the registry at HOST:PORT. It stops when the
// test ends.
func Start(tb testing.TB, registry string, faults ...Fault) *Proxy {
	tb.Helper()
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	forward.ModifyResponse = func(resp *http.Response) error { hide(registry, resp.Header); return nil }
	p := &Proxy{faults: faults}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.log = append(p.log, r.Method+" "+r.URL.Path)
		faults := p.faults
		p.mu.Unlock()
		for _, f := range faults {
			if f(w, r, forward) {
				return
			}
		}
		forward.ServeHTTP(w, r)
	}))
	tb.Cleanup(srv.Close)
	p.Addr = strings.TrimPrefix(srv.URL, "http://")
	return p
}

// hide keeps the registry's own address from getting out.
func hide(registry string, h http.Header) {
	if u, err := url.Parse(h.Get("Location")); err == nil && u.Host == registry {
		u.Scheme, u.Host = "", ""
		h.Set("Location", u.String())
	}
}

// Set replaces the faults.
func (p *Proxy) Set(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.log = faults, nil
}

// Requests gives METHOD and path of the requests since the start or the last
// Set, those that hold part.
func (p *Proxy) Requests(part string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, l := range p.log {
		if strings.Contains(l, part) {
			list = append(list, l)
		}
	}
	return list
}

// On limits a fault to requests with this method and with part in "METHOD
// path". Either may be empty.
func On(method, part string, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, part) && f(w, r, next)
	}
}

// Times lets a fault happen n times.
func Times(n int, f Fault) Fault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		mu.Lock()
		n--
		left := n
		mu.Unlock()
		return left >= 0 && f(w, r, next)
	}
}

// Status answers with an error, in the form of registries.
func Status(code int, id string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"errors":[{"code":"`+id+`","message":"as the test wants it"}]}`)
		return true
	}
}

// CutUpload reads n bytes of the request's body and resets the connection.
func CutUpload(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		reset(w)
		return true
	}
}

// CutDownload sends the first n bytes of the registry's answer and resets the
// connection.
func CutDownload(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		begin(w, r, next, n)
		reset(w)
		return true
	}
}

// begin sends the first n bytes of the registry's answer.
func begin(w http.ResponseWriter, r *http.Request, next http.Handler, n int) {
	resp := record(r, next)
	copyHeader(w, resp)
	body := resp.Body.Bytes()
	_, _ = w.Write(body[:min(n, len(body))])
	_ = http.NewResponseController(w).Flush()
}

// Short sends the answer without its last n bytes, and says that this is all.
func Short(n int) Fault {
	return change(func(b []byte) []byte { return b[:max(0, len(b)-n)] })
}

// Corrupt flips a bit in the middle of the answer.
func Corrupt() Fault {
	return change(func(b []byte) []byte {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		return b
	})
}

// Body answers with another body under the answer's own headers.
func Body(body []byte) Fault { return change(func([]byte) []byte { return body }) }

// change rewrites the body of a good answer to a GET.
func change(f func([]byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		resp := record(r, next)
		body := resp.Body.Bytes()
		if resp.Code < 300 {
			body = f(body)
			resp.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		copyHeader(w, resp)
		_, _ = w.Write(body)
		return true
	}
}

// Endless answers with bytes that never end, without a length.
func Endless() Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		return true
	}
}

// Hang sends the first n bytes of the answer and then nothing, until the
// client goes away.
func Hang(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		begin(w, r, next, n)
		<-r.Context().Done()
		return true
	}
}

// Loop redirects a request to itself.
func Loop() Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
		return true
	}
}

// NoRanges hides a Range header from the registry.
func NoRanges() Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
		return true
	}
}

// Header sets headers of the answer.
func Header(key, value string) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		resp := record(r, next)
		resp.Header().Set(key, value)
		copyHeader(w, resp)
		_, _ = w.Write(resp.Body.Bytes())
		return true
	}
}

func record(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

func copyHeader(w http.ResponseWriter, resp *httptest.ResponseRecorder) {
	for k, v := range resp.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.Code)
}

// reset ends the connection as a crash does: no FIN, but RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no connection to take
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
