package oci

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// tries is how often anything is attempted before it fails.
	tries = 3
	// firstPause is the wait before the second try; it grows fourfold.
	firstPause = 200 * time.Millisecond
	// longestPause bounds what a Retry-After header may ask for.
	longestPause = 20 * time.Second
	// stallTimeout ends a transfer in which no byte moves, and a small
	// request that is not answered.
	stallTimeout = 60 * time.Second
	// commitTimeout bounds the closing request of an upload: registries on
	// object stores move the whole blob before they answer.
	commitTimeout = 30 * time.Minute
	// maxErrorBody bounds what is read of an error's body.
	maxErrorBody = 64 << 10
)

// errStalled is the cause of a transfer ended for lack of progress.
var errStalled = errors.New("no progress: the other side neither sends nor accepts data")

// errRedirects ends a chain of redirects.
var errRedirects = errors.New("stopped after 10 redirects")

// request is one HTTP request to the registry, repeatable when its body is.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   io.ReadCloser // one-shot; nil for none or when get is set
	get    func() (io.ReadCloser, error)
	length int64
	want   []int // accepted status codes; empty for any 2xx
}

// endpoint is the URL of one of the repository's endpoints. The session's
// transport puts the right scheme in.
func (r *registry) endpoint(parts ...string) *url.URL {
	return &url.URL{Scheme: "https", Host: r.repo.RegistryStr(), Path: "/v2/" + r.repo.RepositoryStr() + "/" + strings.Join(parts, "/")}
}

// send makes one attempt. A status that is not wanted is a *RegistryError.
// The response's body is the caller's to close.
func (r *registry) send(ctx context.Context, s *session, q request) (*http.Response, error) {
	client, err := s.http(ctx)
	if err != nil {
		if q.body != nil {
			_ = q.body.Close()
		}
		return nil, err
	}
	req, err := q.build(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	if !q.accepts(resp.StatusCode) {
		defer func() { _ = resp.Body.Close() }()
		return nil, readError(resp)
	}
	return resp, nil
}

func (q *request) build(ctx context.Context) (*http.Request, error) {
	body := q.body
	if q.get != nil {
		var err error
		if body, err = q.get(); err != nil {
			return nil, err
		}
	}
	u := *q.url
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if body != nil && q.length == 0 {
		_ = body.Close()
		body = nil
	}
	if body != nil {
		req.Body, req.GetBody, req.ContentLength = body, q.get, q.length
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	return req, nil
}

func (q *request) accepts(status int) bool {
	if len(q.want) == 0 {
		return status >= 200 && status < 300
	}
	for _, w := range q.want {
		if status == w {
			return true
		}
	}
	return false
}

// limitRedirects follows up to ten redirects that keep the method. A write
// that came back as a read would look like a success.
func limitRedirects(req *http.Request, via []*http.Request) error {
	if req.Method != via[0].Method {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errRedirects
	}
	return nil
}

// small makes a request with a small answer, with retries, and gives status,
// header and body (at most limit bytes).
func (r *registry) small(ctx context.Context, s *session, op, ref string, q request, limit int64) (a answer, err error) {
	err = r.retry(ctx, op, ref, nil, func(int) error {
		a, err = r.smallOnce(ctx, s, q, limit, stallTimeout)
		return err
	})
	return a, err
}

// answer is a small response, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	url    *url.URL // after redirects
}

func (r *registry) smallOnce(ctx context.Context, s *session, q request, limit int64, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errStalled)
	defer cancel()
	resp, err := r.send(ctx, s, q)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return answer{}, err
	}
	if int64(len(body)) > limit {
		return answer{}, &LimitError{What: "bytes in the answer", Limit: limit}
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body, url: resp.Request.URL}, nil
}

// retry runs try until it succeeds, fails for good, or has failed often
// enough. Before each repetition again is called, if there is one.
func (r *registry) retry(ctx context.Context, op, ref string, again func(error), try func(n int) error) error {
	pause := r.pause
	for n := 0; ; n++ {
		err := try(n)
		if err == nil {
			return nil
		}
		if n == tries-1 || ctx.Err() != nil || !temporary(err) {
			return networkError(ctx, op, ref, err)
		}
		if again != nil {
			again(err)
		}
		if werr := wait(ctx, max(jitter(pause), retryAfter(err))); werr != nil {
			return werr
		}
		pause *= 4
	}
}

// jitter spreads a pause over its upper half, so that layers that failed
// together do not come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// retryAfter is the pause that the registry asked for, bounded.
func retryAfter(err error) time.Duration {
	var te *temporaryError
	if errors.As(err, &te) {
		return min(te.after, longestPause)
	}
	return 0
}

// temporaryError is an error status worth another try.
type temporaryError struct {
	*RegistryError
	after time.Duration
}

func (e *temporaryError) Unwrap() error { return e.RegistryError }

// temporary says whether another try may help: a broken connection or a
// status that means overload. Errors of the source, of the content, of
// certificates and names are final.
func temporary(err error) bool {
	var te *temporaryError
	if errors.As(err, &te) {
		return true
	}
	for _, final := range []error{errPlainHTTP, errRedirects, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, final) {
			return false
		}
	}
	return !isA[*localError](err) && !isA[*RegistryError](err) && !isA[*DigestError](err) &&
		!isA[*LimitError](err) && !isA[*UnsupportedError](err) && !isA[*ManifestError](err) && !isA[*protocolError](err) &&
		!isA[*tls.CertificateVerificationError](err) && !isA[x509.HostnameError](err) &&
		!isA[x509.UnknownAuthorityError](err) && !isA[tls.RecordHeaderError](err) && !nameUnknown(err)
}

func isA[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

func nameUnknown(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// protocolError is an answer with a good status that does not say what the
// protocol asks for.
type protocolError struct{ reason string }

func (e *protocolError) Error() string { return e.reason }

func protocolErrorf(format string, args ...any) error {
	return &protocolError{reason: fmt.Sprintf(format, args...)}
}

// readError reads an error answer (distribution-spec, "Error codes").
func readError(resp *http.Response) error {
	re := &RegistryError{Status: resp.StatusCode}
	if resp.Request != nil {
		re.Method, re.URL = resp.Request.Method, redact(resp.Request.URL)
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // the status says enough
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		re.Code, re.Message = clip(doc.Errors[0].Code), clip(doc.Errors[0].Message)
	} else if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		re.Message = clip(string(body))
	}
	return withRetry(re, resp.Header.Get("Retry-After"))
}

// withRetry marks the statuses that another try may not meet.
func withRetry(re *RegistryError, after string) error {
	switch re.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &temporaryError{RegistryError: re, after: parseRetryAfter(after)}
	}
	return re
}

// parseRetryAfter reads the header in its two forms (RFC 9110, 10.2.3).
func parseRetryAfter(h string) time.Duration {
	if n, err := strconv.Atoi(h); err == nil && n >= 0 && n < 1<<20 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// redact leaves of a URL what may be shown: no user, no query (upload
// sessions and signed links are credentials).
func redact(u *url.URL) string {
	if u == nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// clip makes foreign text fit for one line of an error.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}
