package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rawReader is a store of one blob, which goes on for ever after it unless
// the reading is cancelled.
type rawReader struct {
	foreignStore
	head io.Reader
}

func (r rawReader) fetchRaw(ctx context.Context, _ ocispec.Descriptor) (io.ReadCloser, error) {
	tail, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(context.Cause(ctx)) })
	return io.NopCloser(io.MultiReader(r.head, tail)), nil
}

type fullDisk struct{ room int }

func (f *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	if f.room -= n; n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// A disk that fills up while the network waits ends the transfer at once, and
// the error is the disk's.
func TestPullDiskFull(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("x"), 1<<20)
	p := &puller{store: rawReader{head: bytes.NewReader(data)}}
	f := File{Path: "x", Descriptor: ocispec.Descriptor{Digest: digestOf(data), Size: 1 << 40}}
	err := p.content(t.Context(), f, &fullDisk{room: 500_000}, func(string, int64) {})
	if !errors.Is(err, syscall.ENOSPC) || isA[*NetworkError](err) {
		t.Error(err)
	}
}

// Chunks are filled whatever pieces the network gives, and nothing is lost.
func TestFanOutPieces(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	for name, r := range map[string]io.Reader{
		"half": iotest.HalfReader(bytes.NewReader(data)), "data-with-EOF": iotest.DataErrReader(bytes.NewReader(data)),
		"whole": bytes.NewReader(data),
	} {
		var a, b bytes.Buffer
		sinks := []sink{
			func(p []byte) error { a.Write(p); return nil },
			func(p []byte) error { b.Write(p); return nil },
		}
		f := File{Descriptor: ocispec.Descriptor{Digest: digestOf(data), Size: int64(len(data))}}
		if err := fanOut(t.Context(), &bufferPool{}, boundedReader(r, f), sinks...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(a.Bytes(), data) || !bytes.Equal(b.Bytes(), data) {
			t.Errorf("%s: sinks saw %d and %d of %d bytes", name, a.Len(), b.Len(), len(data))
		}
	}
}

// The first error of reader or sinks is the result, and everything stops.
func TestFanOutErrors(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	endless := func(p []byte) (int, error) { return len(p), nil }
	fine := func([]byte) error { return nil }
	broken := func([]byte) error { return bad }
	for name, run := range map[string]func() error{
		"reader": func() error {
			return fanOut(t.Context(), &bufferPool{}, func([]byte) (int, error) { return 0, bad }, fine)
		},
		"first sink":  func() error { return fanOut(t.Context(), &bufferPool{}, endless, broken, fine) },
		"second sink": func() error { return fanOut(t.Context(), &bufferPool{}, endless, fine, broken) },
		"cancelled": func() error {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(bad)
			return fanOut(ctx, &bufferPool{}, endless, fine)
		},
	} {
		if err := run(); !errors.Is(err, bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Text from a registry becomes one clean line.
func TestClip(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain": "plain", " a\nb\x1b[31m\x00 ": "a b [31m", "\xff\xfe": "?", "\u0085x": "x", "": "",
	} {
		if got := clip(in); got != want {
			t.Errorf("clip(%q) = %q, want %q", in, got, want)
		}
	}
	if got := clip(strings.Repeat("é", 1000)); len(got) > 310 {
		t.Errorf("%d bytes", len(got))
	}
}
