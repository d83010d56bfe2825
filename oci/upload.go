package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallBlob is the size up to which a blob is read into memory, so that its
// digest is known before anything is sent and a blob that is there already
// costs one request.
const smallBlob = 4 << 20

// report is told how an upload or download goes on. done is in bytes.
type report func(phase string, done int64)

// pushed is what became of a blob.
type pushed struct {
	ocispec.Descriptor
	skipped bool
}

// PushBlob sends content while hashing it, by one PATCH; see streamBlob. Small
// content, and content that the registry will not take that way, is hashed
// first and sent by one PUT.
func (r *registry) PushBlob(ctx context.Context, c Content) (ocispec.Descriptor, error) {
	p, err := r.pushBlob(ctx, c, func(string, int64) {})
	return p.Descriptor, err
}

func (r *registry) pushBlob(ctx context.Context, c Content, tell report) (pushed, error) {
	if err := c.check(); err != nil {
		return pushed{}, err
	}
	if c.Size <= smallBlob {
		return r.pushSmall(ctx, c, tell)
	}
	if c.Digest != "" {
		if p, ok, err := r.skipKnown(ctx, c); ok || err != nil {
			return p, err
		}
	}
	return r.pushLarge(ctx, c, tell)
}

// skipKnown leaves out a blob that the registry has. A tap still sees every
// byte: whoever asked for it relies on that.
func (r *registry) skipKnown(ctx context.Context, c Content) (pushed, bool, error) {
	d := c.descriptor(c.Digest)
	there, err := r.exists(ctx, r.push, d)
	if err != nil || !there {
		return pushed{}, false, err
	}
	if c.Tap != nil {
		if _, err := hashContent(ctx, &r.buffers, c); err != nil {
			return pushed{}, false, err
		}
	}
	return pushed{Descriptor: d, skipped: true}, true, nil
}

// check looks for what no store can take.
func (c Content) check() error {
	if c.Size < 0 {
		return fmt.Errorf("content of negative size %d", c.Size)
	}
	if c.Digest != "" {
		return checkDigest(c.Digest)
	}
	return nil
}

func (c Content) descriptor(id string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: c.MediaType, Digest: digest.Digest(id), Size: c.Size}
}

// reader reads the content from its first byte, in whole chunks. A source
// that ends early is an error.
func (c Content) reader() func(p []byte) (int, error) {
	var at int64
	return func(p []byte) (int, error) {
		if at == c.Size {
			return 0, io.EOF
		}
		if left := c.Size - at; int64(len(p)) > left {
			p = p[:left]
		}
		n, err := c.Reader.ReadAt(p, at)
		at += int64(n)
		if n == len(p) {
			return n, nil
		}
		if err == nil || err == io.EOF {
			err = fmt.Errorf("source ended after %d of %d bytes: %w", at, c.Size, io.ErrUnexpectedEOF)
		}
		return n, &localError{err}
	}
}

// hashing is who takes the content to hash it: h, and the tap where there is
// one, which may do both.
func (c Content) hashing(h hash.Hash) []sink {
	if c.Tap == nil {
		return []sink{hashSink(h)}
	}
	w := c.Tap()
	if both, ok := w.(HashingTap); ok {
		return []sink{localSink(func(p []byte) (int, error) { return both.WriteHashing(p, h) })}
	}
	return []sink{hashSink(h), localSink(w.Write)}
}

// localSink tells errors of this machine's own from those of a connection.
func localSink(write func(p []byte) (int, error)) sink {
	return func(p []byte) error {
		if _, err := write(p); err != nil {
			return &localError{err}
		}
		return nil
	}
}

// settle gives the digest of what was hashed, and an error when the content
// promised another.
func (c Content) settle(h hash.Hash) (string, error) {
	got := "sha256:" + hex.EncodeToString(h.Sum(nil))
	if c.Digest != "" && c.Digest != got {
		return "", &localError{&DigestError{What: "source", Want: c.Digest, Got: got, WantSize: c.Size, GotSize: c.Size}}
	}
	return got, nil
}

func hashSink(h hash.Hash) sink {
	return func(p []byte) error { _, _ = h.Write(p); return nil } // a hash never fails
}

// hashContent reads content once, for its digest and its tap.
func hashContent(ctx context.Context, pool *bufferPool, c Content) (string, error) {
	h := sha256.New()
	err := fanOut(ctx, pool, c.reader(), c.hashing(h)...)
	if err == nil {
		var id string
		if id, err = c.settle(h); err == nil {
			return id, nil
		}
	}
	return "", unlocal(err)
}

func unlocal(err error) error {
	var local *localError
	if errors.As(err, &local) {
		return local.err
	}
	return err
}

// readSmall reads content into memory and settles its digest; the tap sees it
// once.
func readSmall(c Content) ([]byte, string, error) {
	data := make([]byte, c.Size)
	read := c.reader()
	for at := 0; at < len(data); {
		n, err := read(data[at:])
		if err != nil {
			return nil, "", unlocal(err)
		}
		at += n
	}
	h := sha256.New()
	for _, s := range c.hashing(h) {
		if err := s(data); err != nil {
			return nil, "", unlocal(err)
		}
	}
	id, err := c.settle(h)
	return data, id, unlocal(err)
}

func (r *registry) pushSmall(ctx context.Context, c Content, tell report) (pushed, error) {
	data, id, err := readSmall(c)
	if err != nil {
		return pushed{}, err
	}
	d := c.descriptor(id)
	there, err := r.exists(ctx, r.push, d)
	if err != nil {
		return pushed{}, err
	}
	if there {
		return pushed{Descriptor: d, skipped: true}, nil
	}
	c.Reader = bytes.NewReader(data)
	err = r.retry(ctx, "upload blob", r.Reference(id), func(error) { tell("retry", 0) }, func(int) error {
		return r.putBlob(ctx, c, id)
	})
	if err != nil {
		return pushed{}, err
	}
	tell("upload", c.Size)
	return pushed{Descriptor: d}, nil
}

// streamRefusedError says that the registry does not take a streamed upload.
type streamRefusedError struct{ err error }

func (e *streamRefusedError) Error() string { return e.err.Error() }
func (e *streamRefusedError) Unwrap() error { return e.err }

// pushLarge streams, and falls back to hashing first and one PUT: at once
// where the registry refuses the stream, and on the last try where the
// connection broke each time, which is how some gateways refuse.
func (r *registry) pushLarge(ctx context.Context, c Content, tell report) (pushed, error) {
	var id string
	ref := r.repo.Name()
	err := r.retry(ctx, "upload blob", ref, func(error) { tell("retry", 0) }, func(n int) error {
		if id != "" { // sent whole before: perhaps only the answer was lost
			if there, err := r.existsOnce(ctx, r.push, c.descriptor(id)); err == nil && there {
				return nil
			}
		}
		if n < tries-1 && !r.putOnly.Load() {
			got, err := r.streamBlob(ctx, c, tell)
			if got != "" {
				id = got
			}
			var refused *streamRefusedError
			if !errors.As(err, &refused) {
				return err
			}
			r.putOnly.Store(true)
			tell("retry", 0)
		}
		return r.hashAndPut(ctx, c, &id, tell)
	})
	if err != nil {
		return pushed{}, err
	}
	return pushed{Descriptor: c.descriptor(id)}, nil
}

// hashAndPut reads the content twice: for its digest, and to send it.
func (r *registry) hashAndPut(ctx context.Context, c Content, id *string, tell report) error {
	got, err := hashContent(ctx, &r.buffers, c)
	if err != nil {
		return &localError{err}
	}
	*id = got
	there, err := r.existsOnce(ctx, r.push, c.descriptor(got))
	if err != nil || there {
		return err
	}
	c.Reader = &toldReader{ReaderAt: c.Reader, tell: tell}
	return r.putBlob(ctx, c, got)
}

// toldReader reports how far a sequential reading has come.
type toldReader struct {
	io.ReaderAt
	tell report
}

func (t *toldReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.ReaderAt.ReadAt(p, off)
	t.tell("upload", off+int64(n))
	return n, err
}

// startUpload opens an upload session and gives its URL (distribution-spec,
// "Pushing a blob in chunks", step 1).
func (r *registry) startUpload(ctx context.Context) (*url.URL, error) {
	a, err := r.smallOnce(ctx, r.push, request{
		method: http.MethodPost, url: r.endpoint("blobs", "uploads", ""), want: []int{http.StatusAccepted},
	}, maxErrorBody, stallTimeout)
	if err != nil {
		return nil, err
	}
	return uploadLocation(a.url, a.header)
}

// uploadLocation resolves the Location header, which may be relative, and
// keeps its query: it often carries the session's state.
func uploadLocation(base *url.URL, h http.Header) (*url.URL, error) {
	loc := h.Get("Location")
	if loc == "" {
		return nil, protocolErrorf("the registry's answer names no upload location")
	}
	u, err := base.Parse(loc)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, protocolErrorf("the registry's upload location is not an HTTP URL")
	}
	return u, nil
}

// withDigest adds the digest to an upload location without reordering its
// query.
func withDigest(u *url.URL, id string) *url.URL {
	v := *u
	if v.RawQuery != "" {
		v.RawQuery += "&"
	}
	v.RawQuery += "digest=" + url.QueryEscape(id)
	return &v
}

// putBlob sends content of known digest by POST and one PUT.
func (r *registry) putBlob(ctx context.Context, c Content, id string) error {
	loc, err := r.startUpload(ctx)
	if err != nil {
		return err
	}
	ctx, watch := watchStall(ctx, r.stall)
	defer watch.stop()
	resp, err := r.send(ctx, r.push, request{
		method: http.MethodPut, url: withDigest(loc, id), length: c.Size,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		get: func() (io.ReadCloser, error) {
			return &sourceBody{Reader: io.NewSectionReader(c.Reader, 0, c.Size), size: c.Size, watch: watch}, nil
		},
	})
	if err != nil {
		if werr := watch.sourceError(); werr != nil {
			return werr
		}
		return err
	}
	_ = resp.Body.Close()
	return checkStored(resp.Header, id)
}

// checkStored compares what the registry says it stored.
func checkStored(h http.Header, id string) error {
	if got := h.Get("Docker-Content-Digest"); isDigest(got) && got != id {
		return &DigestError{What: "blob as stored", Want: id, Got: got}
	}
	return nil
}

// streamBlob sends content in one pass: POST, one PATCH whose body is hashed
// on its way, PUT with the digest. It gives the digest as soon as all bytes
// were read, even where the upload then fails.
func (r *registry) streamBlob(ctx context.Context, c Content, tell report) (string, error) {
	loc, err := r.startUpload(ctx)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	next, err := r.patch(ctx, loc, c, h, tell)
	if err != nil {
		return "", err
	}
	id, err := c.settle(h)
	if err != nil {
		return "", err
	}
	a, err := r.smallOnce(ctx, r.push, request{method: http.MethodPut, url: withDigest(next, id)}, maxErrorBody, commitTimeout)
	if err != nil {
		return id, err
	}
	return id, checkStored(a.header, id)
}

// patch is the streaming part: the content is read once; hash, tap and
// connection each take every chunk, beside each other.
func (r *registry) patch(ctx context.Context, loc *url.URL, c Content, h hash.Hash, tell report) (*url.URL, error) {
	ctx, watch := watchStall(ctx, r.stall)
	defer watch.stop()
	body, release := newChunkBody(ctx, c.Size)
	defer release()
	sinks := append(c.hashing(h), bodySink(body, watch, tell))

	var next *url.URL
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		next, err = r.sendPatch(ctx, loc, body)
		if err != nil {
			body.end(err)
		}
	}()
	read := fanOut(ctx, &r.buffers, c.reader(), sinks...)
	if read != nil && !errors.Is(read, errBodyEnded) {
		// Not the connection's doing: it need not be waited for.
		watch.cancel(read)
	}
	<-answered
	if isA[*localError](read) || err == nil {
		return next, read
	}
	return nil, err
}

// bodySink feeds a request body and keeps its watch.
func bodySink(body *chunkBody, watch *stallWatch, tell report) sink {
	sent := int64(0)
	return func(p []byte) error {
		if err := body.deliver(p); err != nil {
			return err
		}
		sent += int64(len(p))
		if sent == body.size {
			watch.complete()
		} else {
			watch.progress()
		}
		tell("upload", sent)
		return nil
	}
}

func (r *registry) sendPatch(ctx context.Context, loc *url.URL, body *chunkBody) (*url.URL, error) {
	resp, err := r.send(ctx, r.push, request{
		method: http.MethodPatch, url: loc, body: body, length: body.size,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	})
	if err != nil {
		return nil, refusedStream(err)
	}
	_ = resp.Body.Close()
	if !body.finished() {
		return nil, protocolErrorf("the registry answered %d before it had the whole blob", resp.StatusCode)
	}
	if resp.Header.Get("Location") == "" {
		return loc, nil
	}
	return uploadLocation(resp.Request.URL, resp.Header)
}

// refusedStream tells a refusal of the way of sending from other errors.
func refusedStream(err error) error {
	var re *RegistryError
	if !errors.As(err, &re) || isA[*temporaryError](err) {
		return err
	}
	switch re.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return err
	}
	return &streamRefusedError{err}
}

// stallWatch ends a transfer in which nothing moves.
type stallWatch struct {
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	timeout time.Duration
	source  chan error
}

func watchStall(ctx context.Context, timeout time.Duration) (context.Context, *stallWatch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &stallWatch{cancel: cancel, timeout: timeout, source: make(chan error, 1)}
	w.timer = time.AfterFunc(timeout, func() { cancel(errStalled) })
	return ctx, w
}

// progress puts the end off; complete gives the other side time to answer.
func (w *stallWatch) progress() { w.timer.Reset(w.timeout) }
func (w *stallWatch) complete() { w.timer.Reset(commitTimeout) }

func (w *stallWatch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

func (w *stallWatch) sourceError() error {
	select {
	case err := <-w.source:
		return err
	default:
		return nil
	}
}

// sourceBody is a request body that tells errors of the source from those of
// the connection.
type sourceBody struct {
	io.Reader
	size, at int64
	watch    *stallWatch
}

func (b *sourceBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.at += int64(n)
	if b.at == b.size {
		b.watch.complete()
	} else {
		b.watch.progress()
	}
	if err == io.EOF && b.at < b.size {
		err = fmt.Errorf("source ended after %d of %d bytes: %w", b.at, b.size, io.ErrUnexpectedEOF)
	}
	if err != nil && err != io.EOF {
		err = &localError{err}
		select {
		case b.watch.source <- err:
		default:
		}
	}
	return n, err
}

func (b *sourceBody) Close() error { return nil }
