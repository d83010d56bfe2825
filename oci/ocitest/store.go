// Package ocitest is the conformance suite of oci.Store: what every
// implementation must do, whatever it stores in.
package ocitest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/oci"
)

// TestStore runs the suite. open opens an empty store, a new one each time it
// is called with another name, and the same one (another handle to it) when
// it is called with the same.
func TestStore(t *testing.T, open func(t *testing.T, name string) oci.Store) {
	for name, test := range map[string]func(t *testing.T, s oci.Store, again func() oci.Store){
		"blobs":           testBlobs,
		"known-digest":    testKnownDigest,
		"bad-source":      testBadSource,
		"missing":         testMissing,
		"early-close":     testEarlyClose,
		"ranges":          testRanges,
		"manifests":       testManifests,
		"bad-manifests":   testBadManifests,
		"referrers":       testReferrers,
		"referrers-race":  testReferrersRace,
		"concurrent-push": testConcurrentPush,
		"cancel":          testCancel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, name), func() oci.Store { return open(t, name) })
		})
	}
}

// Random gives n reproducible bytes.
func Random(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// Digest is the sha256 digest of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func content(b []byte) oci.Content {
	return oci.Content{MediaType: "application/octet-stream", Reader: bytes.NewReader(b), Size: int64(len(b))}
}

// taps counts how often a tap was made, and keeps what the last one saw.
type taps struct {
	mu   sync.Mutex
	made int
	last *bytes.Buffer
}

func (t *taps) tap() io.Writer {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made++
	t.last = &bytes.Buffer{}
	return t.last
}

func fetch(ctx context.Context, s oci.Store, d ocispec.Descriptor) ([]byte, error) {
	r, err := s.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func testBlobs(t *testing.T, s oci.Store, again func() oci.Store) {
	ctx := t.Context()
	for _, size := range []int{0, 1, 4096, 4 << 20, 4<<20 + 1, 9<<20 + 12345} {
		want := Random(size, byte(size))
		c := content(want)
		var seen taps
		c.Tap = seen.tap
		d, err := s.PushBlob(ctx, c)
		if err != nil {
			t.Fatalf("push of %d bytes: %v", size, err)
		}
		if d.Digest.String() != Digest(want) || d.Size != int64(size) || d.MediaType != c.MediaType {
			t.Errorf("push of %d bytes: descriptor %+v", size, d)
		}
		if seen.made != 1 || !bytes.Equal(seen.last.Bytes(), want) {
			t.Errorf("push of %d bytes: tap made %d times, saw %d bytes", size, seen.made, seen.last.Len())
		}
		for _, store := range []oci.Store{s, again()} {
			if there, err := store.Exists(ctx, d); !there || err != nil {
				t.Errorf("exists after push of %d bytes: %v, %v", size, there, err)
			}
			if got, err := fetch(ctx, store, d); err != nil || !bytes.Equal(got, want) {
				t.Errorf("fetch of %d bytes: got %d, %v", size, len(got), err)
			}
		}
	}
}

func testKnownDigest(t *testing.T, s oci.Store, _ func() oci.Store) {
	for _, size := range []int{1000, 5 << 20} {
		want := Random(size, 7)
		c := content(want)
		c.Digest = Digest(want)
		for range 2 { // the second finds it there
			var seen taps
			c.Tap = seen.tap
			d, err := s.PushBlob(t.Context(), c)
			if err != nil || d.Digest.String() != c.Digest {
				t.Fatalf("push: %v, %v", d, err)
			}
			if !bytes.Equal(seen.last.Bytes(), want) {
				t.Errorf("tap saw %d of %d bytes", seen.last.Len(), size)
			}
		}
		c = content(Random(size, 8))
		c.Digest = Digest([]byte("something else"))
		_, err := s.PushBlob(t.Context(), c)
		var de *oci.DigestError
		if !errors.As(err, &de) || errors.As(err, new(*oci.NetworkError)) {
			t.Errorf("push of %d bytes with a wrong digest: %v", size, err)
		}
		if there, _ := s.Exists(t.Context(), ocispec.Descriptor{Digest: digest.Digest(c.Digest), Size: c.Size}); there {
			t.Error("content is under a digest that it does not have")
		}
	}
}

// failingReader fails after some bytes.
type failingReader struct {
	data []byte
	err  error
}

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.data)) {
		return 0, f.err
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, f.err
	}
	return n, nil
}

func testBadSource(t *testing.T, s oci.Store, _ func() oci.Store) {
	broken := errors.New("the disk is broken")
	for _, size := range []int64{1000, 6 << 20} {
		for _, err := range []error{broken, io.EOF} {
			want := err
			if err == io.EOF {
				want = io.ErrUnexpectedEOF // shorter than promised
			}
			c := oci.Content{Reader: failingReader{Random(int(size-500), 1), err}, Size: size}
			_, got := s.PushBlob(t.Context(), c)
			if !errors.Is(got, want) || errors.As(got, new(*oci.NetworkError)) {
				t.Errorf("source of %d bytes that fails with %v: %v", size, err, got)
			}
		}
		c := content(Random(int(size), 2))
		c.Tap = func() io.Writer { return failingWriter{broken} }
		if _, got := s.PushBlob(t.Context(), c); !errors.Is(got, broken) || errors.As(got, new(*oci.NetworkError)) {
			t.Errorf("tap that fails: %v", got)
		}
	}
	if _, err := s.PushBlob(t.Context(), oci.Content{Reader: bytes.NewReader(nil), Size: -1}); err == nil {
		t.Error("negative size accepted")
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func testMissing(t *testing.T, s oci.Store, _ func() oci.Store) {
	ctx := t.Context()
	d := ocispec.Descriptor{Digest: digest.Digest(Digest([]byte("nothing"))), Size: 7}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
	for range 2 { // in a store that is empty, and in one that is not
		_, err := s.Resolve(ctx, "latest")
		check("resolve by tag", err)
		_, err = s.Resolve(ctx, d.Digest.String())
		check("resolve by digest", err)
		_, err = s.Manifest(ctx, d)
		check("manifest", err)
		_, err = fetch(ctx, s, d)
		check("fetch", err)
		if b, err := s.Blob(ctx, d); err == nil {
			_, err = b.ReadAt(make([]byte, 3), 0)
			check("blob", err)
			_ = b.Close()
		} else {
			check("blob", err)
		}
		if there, err := s.Exists(ctx, d); there || err != nil {
			t.Errorf("exists: %v, %v", there, err)
		}
		if _, err := s.PushBlob(ctx, content([]byte("something"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "sha256:xyz", "sha512:" + Digest(nil)[7:] + Digest(nil)[7:], "sha256:../../../../etc/passwd", "a/b", "../x"} {
		if _, err := s.Resolve(ctx, bad); err == nil {
			t.Errorf("resolve of %q succeeds", bad)
		}
		if _, err := s.Fetch(ctx, ocispec.Descriptor{Digest: digest.Digest(bad)}); err == nil {
			t.Errorf("fetch of %q succeeds", bad)
		}
	}
}

func testEarlyClose(t *testing.T, s oci.Store, _ func() oci.Store) {
	want := Random(2<<20, 3)
	d, err := s.PushBlob(t.Context(), content(want))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{0, 1, int64(len(want)) - 1} {
		r, err := s.Fetch(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); !errors.Is(err, oci.ErrUnverified) {
			t.Errorf("closed after %d of %d bytes: %v", n, len(want), err)
		}
	}
	// All bytes, but not the end: Close looks for itself.
	r, err := s.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed after all bytes: %v", err)
	}
}

func testRanges(t *testing.T, s oci.Store, _ func() oci.Store) {
	want := Random(3<<20+777, 4)
	d, err := s.PushBlob(t.Context(), content(want))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Blob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	if b.Size() != d.Size || b.Unchanged() != nil {
		t.Errorf("size %d, unchanged %v", b.Size(), b.Unchanged())
	}
	check := func(off int64, n int) {
		p := make([]byte, n)
		got, err := b.ReadAt(p, off)
		end := min(off+int64(n), d.Size)
		if got != int(max(0, end-off)) || (err == io.EOF) != (off+int64(n) > d.Size) || (err != nil && err != io.EOF) {
			t.Errorf("%d bytes at %d: %d, %v", n, off, got, err)
			return
		}
		if got > 0 && !bytes.Equal(p[:got], want[off:end]) {
			t.Errorf("%d bytes at %d are wrong", n, off)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for off := int64(0); off < d.Size; off += 300 << 10 { // one after the other
				check(off, 300<<10)
			}
			check(0, 8)
			check(d.Size-22, 22)
			check(d.Size-1, 10)
			check(d.Size, 1)
			check(256<<10-5, 10)
			check(100, 1<<20)
			check(0, len(want))
		})
	}
	wg.Wait()
	if _, err := b.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset accepted")
	}
	if r, ok := b.(io.Reader); ok {
		_ = r // a blob may be read otherwise too
	}
}

// Manifest makes a small image manifest, with a subject if there is one.
func Manifest(t *testing.T, s oci.Store, note string, subject *ocispec.Descriptor, artifactType string, annotations map[string]string) []byte {
	t.Helper()
	config, err := s.PushBlob(t.Context(), oci.Content{MediaType: ocispec.MediaTypeEmptyJSON, Reader: bytes.NewReader([]byte("{}")), Size: 2})
	if err != nil {
		t.Fatal(err)
	}
	layer, err := s.PushBlob(t.Context(), content([]byte(note)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: config, Layers: []ocispec.Descriptor{layer}, Subject: subject, Annotations: annotations,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testManifests(t *testing.T, s oci.Store, again func() oci.Store) {
	ctx := t.Context()
	one, two := Manifest(t, s, "one", nil, "application/vnd.test", nil), Manifest(t, s, "two", nil, "application/vnd.test", nil)
	push := func(m []byte, tag string) {
		t.Helper()
		d, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, m, tag)
		if err != nil || d.Digest.String() != Digest(m) || d.Size != int64(len(m)) || d.MediaType != ocispec.MediaTypeImageManifest {
			t.Fatalf("push: %+v, %v", d, err)
		}
	}
	check := func(id string, want []byte) {
		t.Helper()
		for _, store := range []oci.Store{s, again()} {
			d, err := store.Resolve(ctx, id)
			if err != nil || d.Digest.String() != Digest(want) || d.Size != int64(len(want)) || d.MediaType != ocispec.MediaTypeImageManifest || d.ArtifactType != "application/vnd.test" {
				t.Fatalf("resolve %s: %+v, %v", id, d, err)
			}
			got, err := store.Manifest(ctx, d)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("manifest %s: %q, %v", id, got, err)
			}
		}
	}
	push(one, "")
	check(Digest(one), one)
	push(one, "v1")
	push(one, "latest")
	check("v1", one)
	push(two, "latest")
	check("latest", two)
	check("v1", one)
	check(Digest(one), one)
	push(two, "v1")
	check("v1", two)
	check(Digest(one), one) // still there without a tag
	if got := s.Reference(Digest(one)); !bytes.HasSuffix([]byte(got), []byte("@"+Digest(one))) {
		t.Errorf("reference %q", got)
	}
}

func testBadManifests(t *testing.T, s oci.Store, _ func() oci.Store) {
	ctx := t.Context()
	m := Manifest(t, s, "x", nil, "", nil)
	d, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, m, "v1")
	if err != nil {
		t.Fatal(err)
	}
	wrong := d
	wrong.Size++
	var de *oci.DigestError
	if _, err := s.Manifest(ctx, wrong); !errors.As(err, &de) {
		t.Errorf("manifest of another size: %v", err)
	}
	wrong.Size = 5 << 20
	var le *oci.LimitError
	if _, err := s.Manifest(ctx, wrong); !errors.As(err, &le) {
		t.Errorf("manifest of 5 MiB: %v", err)
	}
	if _, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, bytes.Repeat([]byte(" "), 5<<20), "v1"); !errors.As(err, &le) {
		t.Errorf("push of a manifest of 5 MiB: %v", err)
	}
	if _, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, []byte("no json"), "v1"); err == nil {
		t.Error("a manifest that is not JSON was pushed")
	}
	for _, tag := range []string{"../up", "a b", ".x", "a/b"} {
		if _, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, m, tag); err == nil {
			t.Errorf("tag %q accepted", tag)
		}
	}
	if got, err := s.Resolve(ctx, "v1"); err != nil || got.Digest != d.Digest {
		t.Errorf("afterwards v1 is %v, %v", got, err)
	}
}

func testReferrers(t *testing.T, s oci.Store, again func() oci.Store) {
	ctx := t.Context()
	subject, err := s.PushManifest(ctx, ocispec.MediaTypeImageManifest, Manifest(t, s, "subject", nil, "", nil), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Referrers(ctx, subject.Digest.String()); err != nil || len(list) != 0 {
		t.Fatalf("referrers of what has none: %v, %v", list, err)
	}
	want := map[string]bool{}
	for i := range 3 {
		notes := map[string]string{"number": fmt.Sprint(i)}
		m := Manifest(t, s, fmt.Sprint("referrer ", i), &subject, "application/vnd.test.statement", notes)
		for range 2 { // adding again changes nothing
			d, err := s.AddReferrer(ctx, subject, m, "application/vnd.test.statement", notes)
			if err != nil || d.Digest.String() != Digest(m) {
				t.Fatalf("add: %v, %v", d, err)
			}
		}
		want[Digest(m)] = true
	}
	for _, store := range []oci.Store{s, again()} {
		list, err := store.Referrers(ctx, subject.Digest.String())
		if err != nil || len(list) != len(want) {
			t.Fatalf("%d referrers, want %d: %v", len(list), len(want), err)
		}
		for _, d := range list {
			if !want[d.Digest.String()] || d.MediaType != ocispec.MediaTypeImageManifest || d.ArtifactType == "" || d.Annotations["number"] == "" {
				t.Errorf("referrer %+v", d)
			}
			if _, err := store.Manifest(ctx, d); err != nil {
				t.Errorf("referrer cannot be read: %v", err)
			}
		}
	}
	other := subject
	other.Digest = digest.Digest(Digest([]byte("other")))
	if list, err := s.Referrers(ctx, other.Digest.String()); err != nil || len(list) != 0 {
		t.Errorf("referrers of another: %v, %v", list, err)
	}
	if _, err := s.AddReferrer(ctx, other, Manifest(t, s, "x", &subject, "", nil), "", nil); err == nil {
		t.Error("a referrer of another subject was added")
	}
	if got, err := s.Resolve(ctx, "v1"); err != nil || got.Digest != subject.Digest {
		t.Errorf("afterwards v1 is %v, %v", got, err)
	}
}

func testReferrersRace(t *testing.T, s oci.Store, again func() oci.Store) {
	subject, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, Manifest(t, s, "subject", nil, "", nil), "")
	if err != nil {
		t.Fatal(err)
	}
	const writers = 6
	var manifests [writers][]byte
	for i := range writers {
		manifests[i] = Manifest(t, s, fmt.Sprint("r", i), &subject, "application/vnd.test", nil)
	}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if _, err := s.AddReferrer(t.Context(), subject, manifests[i], "application/vnd.test", nil); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	list, err := again().Referrers(t.Context(), subject.Digest.String())
	if err != nil || len(list) != writers {
		t.Errorf("%d of %d referrers are there: %v", len(list), writers, err)
	}
}

func testConcurrentPush(t *testing.T, s oci.Store, again func() oci.Store) {
	var wg sync.WaitGroup
	same := Random(5<<20, 50)
	for i := range 4 {
		wg.Go(func() {
			own := Random(4<<20+i*1000+1, byte(60+i))
			for _, b := range [][]byte{own, same} {
				if _, err := s.PushBlob(t.Context(), content(b)); err != nil {
					t.Error(err)
				}
			}
			m := Manifest(t, s, fmt.Sprint("m", i), nil, "", nil)
			if _, err := s.PushManifest(t.Context(), ocispec.MediaTypeImageManifest, m, fmt.Sprint("tag", i)); err != nil {
				t.Error(err)
			}
			d, err := again().Resolve(t.Context(), fmt.Sprint("tag", i))
			if err != nil || d.Digest.String() != Digest(m) {
				t.Errorf("tag%d: %v, %v", i, d, err)
			}
			got, err := fetch(t.Context(), again(), ocispec.Descriptor{Digest: digest.Digest(Digest(own)), Size: int64(len(own))})
			if err != nil || !bytes.Equal(got, own) {
				t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

// cancelReader cancels while it is read. From then on it is slow: a registry in
// this process keeps in memory what arrives before the push has stopped.
type cancelReader struct {
	cancel context.CancelFunc
	after  int64
}

func (c cancelReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.after {
		c.cancel()
		time.Sleep(20 * time.Millisecond)
	}
	clear(p)
	return len(p), nil
}

func testCancel(t *testing.T, s oci.Store, _ func() oci.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := s.PushBlob(ctx, oci.Content{Reader: cancelReader{cancel, 3 << 20}, Size: 1 << 40})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled push: %v", err)
	}
	d, err := s.PushBlob(t.Context(), content(Random(3<<20, 9)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	r, err := s.Fetch(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := r.Close(); err == nil {
		t.Error("a reader closed early reports success")
	}
}
