package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fetch opens a blob behind a verifying reader. A connection that breaks is
// taken up again where it broke.
func (r *registry) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	raw, err := r.fetchRaw(ctx, d)
	if err != nil {
		return nil, err
	}
	return newVerifier(raw, d, func(err error) error {
		return networkError(ctx, "download blob", r.Reference(d.Digest.String()), err)
	}), nil
}

// fetchRaw opens a blob without verification; the first request is made, so
// that what is missing fails here.
func (r *registry) fetchRaw(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkBlobDescriptor(d); err != nil {
		return nil, err
	}
	b := &resumingReader{r: r, ctx: ctx, d: d, ref: r.Reference(d.Digest.String()), pause: r.pause}
	err := r.retry(ctx, "download blob", b.ref, nil, func(int) error { return b.connect() })
	if err != nil {
		return nil, err
	}
	return b, nil
}

func checkBlobDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest.String()); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("blob %s: negative size %d", d.Digest, d.Size)
	}
	return nil
}

// enoughProgress is the number of bytes after which a connection that breaks
// does not count against the limit of tries.
const enoughProgress = 4 << 20

// resumingReader reads a blob from its first byte and asks for the rest when
// the connection breaks.
type resumingReader struct {
	r     *registry
	ctx   context.Context
	d     ocispec.Descriptor
	ref   string
	at    int64 // next byte to give
	body  io.ReadCloser
	watch *stallWatch
	pause time.Duration

	failures int
	since    int64 // at, when failures last was zero
}

// connect asks for the blob from at on. It makes one attempt.
func (b *resumingReader) connect() error {
	ctx, watch := watchStall(b.ctx, b.r.stall)
	q := request{
		method: http.MethodGet, url: b.r.endpoint("blobs", b.d.Digest.String()),
		// No transparent decompression: the bytes are what is hashed.
		header: http.Header{"Accept-Encoding": {"identity"}},
		want:   []int{http.StatusOK},
	}
	if b.at > 0 {
		q.header.Set("Range", byteRange(b.at, b.d.Size-b.at))
		q.want = append(q.want, http.StatusPartialContent)
	}
	resp, err := b.r.send(ctx, b.r.reader(), q)
	if err != nil {
		watch.stop()
		return err
	}
	if err := b.position(resp, watch); err != nil {
		_ = resp.Body.Close()
		watch.stop()
		return err
	}
	b.body, b.watch = resp.Body, watch
	return nil
}

// position makes the response's body start at b.at.
func (b *resumingReader) position(resp *http.Response, watch *stallWatch) error {
	if resp.StatusCode == http.StatusPartialContent {
		return checkContentRange(resp.Header, b.at, b.d.Size-b.at, b.d.Size)
	}
	if n := resp.ContentLength; n >= 0 && n != b.d.Size {
		return &DigestError{What: "blob", Want: b.d.Digest.String(), WantSize: b.d.Size, GotSize: n}
	}
	// The registry ignores ranges. Whatever comes before b.at this time, what
	// was given before is what is hashed.
	return discard(resp.Body, b.at, watch)
}

// discard reads n bytes away.
func discard(body io.Reader, n int64, watch *stallWatch) error {
	for n > 0 {
		m, err := io.CopyN(io.Discard, body, min(n, 1<<20))
		n -= m
		if err != nil {
			return err
		}
		watch.progress()
	}
	return nil
}

// Read gives io.EOF where the body ends, at whatever size, and never more
// than one byte over the descriptor's: the verifier judges.
func (b *resumingReader) Read(p []byte) (int, error) {
	for {
		if left := b.d.Size + 1 - b.at; int64(len(p)) > left {
			p = p[:left]
		}
		if len(p) == 0 {
			return 0, io.EOF
		}
		n, err := b.body.Read(p)
		b.at += int64(n)
		if n > 0 {
			b.watch.progress()
		}
		if b.at-b.since >= enoughProgress {
			b.failures, b.since = 0, b.at
		}
		switch {
		case err == nil || err == io.EOF && b.at >= b.d.Size:
			return n, err
		case n > 0:
			return n, nil // the next Read meets the error again
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

// resume connects again after err. An end before the size is a broken
// connection too: some proxies close properly what they cut.
func (b *resumingReader) resume(err error) error {
	for {
		b.drop()
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		b.failures++
		if b.failures >= tries || (err != io.EOF && !temporary(err)) {
			return b.final(err)
		}
		if werr := wait(b.ctx, max(jitter(b.pause), retryAfter(err))); werr != nil {
			return werr
		}
		if err = b.connect(); err == nil {
			return nil
		}
	}
}

// final is the error after the last try.
func (b *resumingReader) final(err error) error {
	if err == io.EOF {
		err = &DigestError{What: "blob", Want: b.d.Digest.String(), WantSize: b.d.Size, GotSize: b.at}
	}
	return networkError(b.ctx, "download blob", b.ref, err)
}

func (b *resumingReader) drop() {
	if b.body != nil {
		_ = b.body.Close()
		b.watch.stop()
		b.body = closedBody{}
	}
}

// Close ends the transfer.
func (b *resumingReader) Close() error {
	b.drop()
	return nil
}

type closedBody struct{}

func (closedBody) Read([]byte) (int, error) { return 0, errors.New("read after close") }
func (closedBody) Close() error             { return nil }

// byteRange is a Range header for n bytes from at (RFC 9110, 14.1.2).
func byteRange(at, n int64) string {
	return "bytes=" + strconv.FormatInt(at, 10) + "-" + strconv.FormatInt(at+n-1, 10)
}

// checkContentRange checks that a 206 answer holds the range that was asked
// for (RFC 9110, 14.4).
func checkContentRange(h http.Header, at, n, size int64) error {
	got := h.Get("Content-Range")
	span, total, ok := strings.Cut(strings.TrimPrefix(got, "bytes "), "/")
	want := fmt.Sprintf("%d-%d", at, at+n-1)
	if !ok || span != want || (total != "*" && total != strconv.FormatInt(size, 10)) {
		return protocolErrorf("asked for bytes %s of %d, the registry answered with Content-Range %q", want, size, clip(got))
	}
	return nil
}

// verifier is a reader that cannot be read to its end, nor closed, without
// the check of size and digest.
type verifier struct {
	src  io.ReadCloser
	d    ocispec.Descriptor
	h    hash.Hash
	n    int64
	err  error // sticky; io.EOF once verified
	wrap func(error) error
}

func newVerifier(src io.ReadCloser, d ocispec.Descriptor, wrap func(error) error) *verifier {
	return &verifier{src: src, d: d, h: sha256.New(), wrap: wrap}
}

// Read gives io.EOF only after size and digest were found right. The last
// bytes are given before they are judged.
func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.src.Read(p)
	_, _ = v.h.Write(p[:n])
	v.n += int64(n)
	switch {
	case v.n > v.d.Size:
		v.err = v.wrap(v.mismatch(""))
	case err == io.EOF:
		v.err = v.finish()
	case err != nil:
		v.err = err
	default:
		return n, nil
	}
	if n > 0 && v.err == io.EOF {
		return n, nil
	}
	return n, v.err
}

func (v *verifier) finish() error {
	got := "sha256:" + hex.EncodeToString(v.h.Sum(nil))
	if v.n != v.d.Size || got != v.d.Digest.String() {
		return v.wrap(v.mismatch(got))
	}
	return io.EOF
}

func (v *verifier) mismatch(got string) error {
	return &DigestError{What: "blob", Want: v.d.Digest.String(), Got: got, WantSize: v.d.Size, GotSize: v.n}
}

// Close fails when the content was not verified: found wrong, or not read to
// its end. Where only the end itself has not been seen, it looks.
func (v *verifier) Close() error {
	if v.err == nil && v.n == v.d.Size {
		var one [1]byte
		if _, err := v.Read(one[:]); err == nil {
			_, _ = v.Read(one[:]) // settles v.err
		}
	}
	cerr := v.src.Close()
	switch {
	case v.err == nil:
		return fmt.Errorf("blob %s: %w", v.d.Digest, ErrUnverified)
	case v.err != io.EOF:
		return v.err
	}
	return cerr
}
