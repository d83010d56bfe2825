package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// defaultUserAgent is sent where Options names none. No host data goes with it.
const defaultUserAgent = "weightseal"

// defaultConcurrency is the number of layers in flight.
const defaultConcurrency = 4

func (o Options) concurrency() int {
	if o.Concurrency > 0 {
		return o.Concurrency
	}
	return defaultConcurrency
}

// baseTransport is the transport below authentication: TLS, proxies, timeouts.
func baseTransport(opt Options, reg name.Registry) (http.RoundTripper, error) {
	inner := opt.Transport
	if inner == nil {
		t, err := standardTransport(opt)
		if err != nil {
			return nil, err
		}
		inner = t
	}
	return &schemeGuard{inner: inner, registry: reg.RegistryStr(), plain: opt.PlainHTTP, ended: make(chan struct{})}, nil
}

func standardTransport(opt Options) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialContext(),
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   2 * opt.concurrency(),
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: opt.Insecure} //nolint:gosec // the caller asked for it by name
	if opt.CAFile != "" {
		pem, err := os.ReadFile(opt.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s: no PEM certificate in it", opt.CAFile)
		}
		cfg.RootCAs = pool
	}
	t.TLSClientConfig = cfg
	return t, nil
}

// errPlainHTTP is the guard's refusal.
var errPlainHTTP = errors.New("plain HTTP refused: the registry is to be reached by HTTPS")

// errNoTLS keeps the ping from trying HTTPS where only HTTP is wanted.
var errNoTLS = errors.New("HTTPS not tried: plain HTTP was asked for")

// schemeGuard enforces the rule of Open about plain HTTP below everything
// else, so that no heuristic of a library, no redirect and no token realm can
// get round it: private addresses, for one, count as insecure elsewhere.
type schemeGuard struct {
	inner    http.RoundTripper
	registry string
	plain    bool
	// untrusted is why a certificate was refused: then the registry does
	// answer by HTTPS, and HTTP must not take its place.
	untrusted atomic.Pointer[tls.CertificateVerificationError]
	// begun and ended are about the first request by HTTPS, which the library
	// lets one by HTTP overtake when it is slow.
	begun atomic.Bool
	ended chan struct{}
}

// awaitHTTPS waits until it is known what comes of HTTPS, if that is tried.
func (g *schemeGuard) awaitHTTPS(ctx context.Context) error {
	if !g.begun.Load() {
		return nil
	}
	select {
	case <-g.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if g.untrusted.Load() == nil {
		return nil
	}
	return g.untrusted.Load()
}

func (g *schemeGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req.URL.Scheme == "http" && !g.plain && !(isLoopback(g.registry) && isLoopback(req.URL.Host)):
		closeBody(req)
		return nil, errPlainHTTP
	case req.URL.Scheme == "https" && g.plain && req.URL.Host == g.registry:
		closeBody(req)
		return nil, errNoTLS
	case req.URL.Scheme == "https" && req.URL.Host == g.registry && g.begun.CompareAndSwap(false, true):
		defer close(g.ended)
	case req.URL.Scheme == "http" && !g.plain:
		if err := g.awaitHTTPS(req.Context()); err != nil {
			closeBody(req)
			return nil, err
		}
	}
	resp, err := g.inner.RoundTrip(req)
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) && req.URL.Host == g.registry {
		g.untrusted.Store(untrusted)
	}
	if err != nil && g.plain && req.URL.Scheme == "http" {
		err = &plainError{err}
	}
	return resp, err
}

// plainError marks why plain HTTP failed where it was asked for: the ping
// tries HTTPS as well, and its errors come joined, the guard's refusal first.
type plainError struct{ err error }

func (e *plainError) Error() string { return e.err.Error() }
func (e *plainError) Unwrap() error { return e.err }

// closeBody keeps the promise that RoundTrip closes the body, also on errors.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// session is an authenticated transport for one repository and one scope ("" for
// none). The
// handshake (ping, token) happens on first use; a failed one is tried again
// by the next request.
type session struct {
	repo  name.Repository
	scope string
	base  http.RoundTripper
	auth  func(ctx context.Context) (authn.Authenticator, error)
	agent string

	mu     sync.Mutex
	client *http.Client
}

// http gives the client, after the handshake.
func (s *session) http(ctx context.Context) (*http.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	auth, err := s.auth(ctx)
	if err != nil {
		return nil, &localError{fmt.Errorf("credentials for %s: %w", s.repo.RegistryStr(), err)}
	}
	t, err := transport.NewWithContext(ctx, s.repo.Registry, auth,
		transport.NewUserAgent(s.base, s.agent), s.scopes())
	if err != nil {
		return nil, handshakeError(err)
	}
	s.client = &http.Client{Transport: t, CheckRedirect: limitRedirects}
	return s.client, nil
}

// scopes is what a token is asked for; nothing for the registry as such.
func (s *session) scopes() []string {
	if s.scope == "" {
		return nil
	}
	return []string{s.repo.Scope(s.scope)}
}

// ready says whether the handshake has been made.
func (s *session) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client != nil
}

// handshakeError turns the library's error for ping and token into ours.
func handshakeError(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		var pe *plainError
		if errors.As(err, &pe) {
			return pe.err
		}
		return err
	}
	re := &RegistryError{Status: te.StatusCode}
	if te.Request != nil {
		re.Method, re.URL = te.Request.Method, redact(te.Request.URL)
	}
	if len(te.Errors) > 0 {
		re.Code, re.Message = string(te.Errors[0].Code), clip(te.Errors[0].Message)
	}
	return withRetry(re, "")
}

// authenticator resolves credentials as Options says.
func authenticator(opt Options, repo name.Repository) func(context.Context) (authn.Authenticator, error) {
	if opt.Username != "" || opt.Password != "" {
		fixed := authn.FromConfig(authn.AuthConfig{Username: opt.Username, Password: opt.Password})
		return func(context.Context) (authn.Authenticator, error) { return fixed, nil }
	}
	chain := opt.keychain()
	return func(ctx context.Context) (authn.Authenticator, error) {
		return authn.Resolve(ctx, chain, repo)
	}
}
