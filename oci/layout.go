package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weightseal/weightseal/model"
)

// layout is a repository in an OCI image layout (image-spec, "OCI Image
// Layout"): blobs by digest, tags in index.json. Files appear under their
// names complete or not at all; changes of the index are serialised between
// processes by a lock file.
type layout struct {
	dir     string
	buffers bufferPool
	mu      sync.Mutex // index changes within this process
}

func newLayout(dir string) *layout { return &layout{dir: dir} }

// lockName is the file that is locked while index.json changes.
const lockName = ".index.json.lock"

// Reference gives oci:DIR@DIGEST, or :TAG for what is not a digest.
func (l *layout) Reference(id string) string { return withIdentifier(layoutPrefix+l.dir, id) }

func (l *layout) notFound(what string) error {
	return fmt.Errorf("%s%s: %s: %w", layoutPrefix, l.dir, what, ErrNotFound)
}

func (l *layout) blobPath(id string) string {
	return filepath.Join(l.dir, ocispec.ImageBlobsDir, "sha256", strings.TrimPrefix(id, "sha256:"))
}

// check says whether there is a layout that can be read.
func (l *layout) check() error {
	data, err := readFile(filepath.Join(l.dir, ocispec.ImageLayoutFile), 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return l.notFound("no OCI image layout")
	}
	if err != nil {
		return err
	}
	var v ocispec.ImageLayout
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(l.dir, ocispec.ImageLayoutFile), err)
	}
	if !strings.HasPrefix(v.Version, "1.") {
		return &UnsupportedError{What: layoutPrefix + l.dir, Reason: fmt.Sprintf("image layout version %q", v.Version)}
	}
	return nil
}

// create makes the layout's skeleton, where it is not there.
func (l *layout) create() error {
	if err := os.MkdirAll(filepath.Join(l.dir, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return err
	}
	err := l.check()
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return writeAtomic(filepath.Join(l.dir, ocispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`))
}

// readFile reads a whole file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %w", path, &LimitError{What: "bytes", Limit: limit})
	}
	return data, err
}

// writeAtomic writes a file beside its place and renames it.
func writeAtomic(path string, data []byte) error {
	return writeAtomicMode(path, data, 0o644)
}

// writeAtomicMode is writeAtomic with the file's permissions.
func writeAtomicMode(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Resolve looks a tag up in the index, a digest among the blobs.
func (l *layout) Resolve(_ context.Context, id string) (ocispec.Descriptor, error) {
	if !isDigest(id) && !tagPattern.MatchString(id) {
		return ocispec.Descriptor{}, &ReferenceError{Ref: id, Reason: "neither a tag nor a sha256 digest"}
	}
	index, err := l.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, raw := range index.Manifests {
		d, err := parseEntry(raw)
		if err != nil {
			continue // an odd entry is not what is asked for
		}
		if d.Digest.String() == id || (!isDigest(id) && d.Annotations[ocispec.AnnotationRefName] == id) {
			return l.describe(d.Digest.String(), d.MediaType)
		}
	}
	if isDigest(id) {
		return l.describe(id, "")
	}
	return ocispec.Descriptor{}, l.notFound("tag " + id)
}

// describe hashes a manifest and makes its descriptor.
func (l *layout) describe(id, mediaType string) (ocispec.Descriptor, error) {
	data, err := l.manifest(ocispec.Descriptor{Digest: digestFrom(id)})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return describeManifest(data, mediaType)
}

// Manifest reads and checks a manifest.
func (l *layout) Manifest(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	if err := checkManifestDescriptor(d); err != nil {
		return nil, err
	}
	return l.manifest(d)
}

func (l *layout) manifest(d ocispec.Descriptor) ([]byte, error) {
	data, err := readFile(l.blobPath(d.Digest.String()), MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.notFound("manifest " + d.Digest.String())
	}
	if err != nil {
		return nil, err
	}
	return data, matchManifest(data, d)
}

// Blob opens a blob's file.
func (l *layout) Blob(_ context.Context, d ocispec.Descriptor) (model.Blob, error) {
	f, err := l.open(d)
	if err != nil {
		return nil, err
	}
	return &fileBlob{File: f, size: d.Size}, nil
}

// open opens a blob's file, whose size must be the descriptor's.
func (l *layout) open(d ocispec.Descriptor) (*os.File, error) {
	if err := checkBlobDescriptor(d); err != nil {
		return nil, err
	}
	f, err := os.Open(l.blobPath(d.Digest.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.notFound("blob " + d.Digest.String())
	}
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() != d.Size {
		err = &DigestError{What: "blob", Want: d.Digest.String(), WantSize: d.Size, GotSize: st.Size()}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// fileBlob is a blob's file. Files under their digest do not change.
type fileBlob struct {
	*os.File
	size int64
}

func (b *fileBlob) Size() int64      { return b.size }
func (b *fileBlob) Unchanged() error { return nil }

// Fetch opens a blob behind a verifying reader.
func (l *layout) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := l.fetchRaw(ctx, d)
	if err != nil {
		return nil, err
	}
	return newVerifier(f, d, func(err error) error { return err }), nil
}

func (l *layout) fetchRaw(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := l.open(d)
	if err != nil {
		return nil, err // not a typed nil in the interface
	}
	return f, nil
}

// Exists looks for a blob's file of the right size.
func (l *layout) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	if err := checkDigest(d.Digest.String()); err != nil {
		return false, err
	}
	st, err := os.Stat(l.blobPath(d.Digest.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.Mode().IsRegular() && (d.Size <= 0 || st.Size() == d.Size), nil
}

// PushBlob writes content to a temporary file while hashing it, then renames
// it to its digest.
func (l *layout) PushBlob(ctx context.Context, c Content) (ocispec.Descriptor, error) {
	p, err := l.pushBlob(ctx, c, func(string, int64) {})
	return p.Descriptor, err
}

func (l *layout) pushBlob(ctx context.Context, c Content, tell report) (pushed, error) {
	if err := c.check(); err != nil {
		return pushed{}, err
	}
	if c.Digest != "" {
		d := c.descriptor(c.Digest)
		if there, err := l.Exists(ctx, d); err != nil {
			return pushed{}, err
		} else if there {
			if c.Tap != nil {
				_, err = hashContent(ctx, &l.buffers, c)
			}
			return pushed{Descriptor: d, skipped: true}, err
		}
	}
	if err := l.create(); err != nil {
		return pushed{}, err
	}
	return l.writeBlob(ctx, c, tell)
}

func (l *layout) writeBlob(ctx context.Context, c Content, tell report) (p pushed, err error) {
	f, err := os.CreateTemp(filepath.Join(l.dir, ocispec.ImageBlobsDir, "sha256"), ".tmp-*")
	if err != nil {
		return pushed{}, err
	}
	defer func() {
		_ = f.Close()
		if err != nil || p.skipped {
			_ = os.Remove(f.Name())
		}
	}()
	h, sent := sha256.New(), int64(0)
	sinks := append(c.hashing(h), func(b []byte) error {
		n, err := f.Write(b)
		sent += int64(n)
		tell("upload", sent)
		return err
	})
	if err := fanOut(ctx, &l.buffers, c.reader(), sinks...); err != nil {
		return pushed{}, unlocal(err)
	}
	id, err := c.settle(h)
	if err != nil {
		return pushed{}, unlocal(err)
	}
	p.Descriptor = c.descriptor(id)
	if p.skipped, err = l.Exists(ctx, p.Descriptor); err != nil || p.skipped {
		return p, err
	}
	if err := f.Chmod(0o644); err != nil {
		return pushed{}, err
	}
	return p, os.Rename(f.Name(), l.blobPath(id))
}

// PushManifest stores a manifest and enters it into the index, with the tag
// if there is one.
func (l *layout) PushManifest(_ context.Context, mediaType string, manifest []byte, tag string) (ocispec.Descriptor, error) {
	d, err := newManifestDescriptor(mediaType, manifest, tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return d, l.storeManifest(d, manifest, tag)
}

func (l *layout) storeManifest(d ocispec.Descriptor, manifest []byte, tag string) error {
	if err := l.create(); err != nil {
		return err
	}
	if err := writeAtomic(l.blobPath(d.Digest.String()), manifest); err != nil {
		return err
	}
	return l.changeIndex(func(ix *referrerIndex) error { return ix.enter(d, tag) })
}

// readIndex reads index.json.
func (l *layout) readIndex() (*referrerIndex, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	data, err := readFile(filepath.Join(l.dir, ocispec.ImageIndexFile), 16*MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return &referrerIndex{}, nil
	}
	if err != nil {
		return nil, err
	}
	var ix referrerIndex
	if err := json.Unmarshal(data, &ix); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(l.dir, ocispec.ImageIndexFile), err)
	}
	return &ix, nil
}

// changeIndex reads, changes and writes index.json under the lock.
func (l *layout) changeIndex(change func(*referrerIndex) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	unlock, err := lockFile(filepath.Join(l.dir, lockName))
	if err != nil {
		return err
	}
	defer unlock()
	ix, err := l.readIndex()
	if err != nil {
		return err
	}
	if err := change(ix); err != nil {
		return err
	}
	ix.SchemaVersion, ix.MediaType = 2, ocispec.MediaTypeImageIndex
	data, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	return writeAtomic(filepath.Join(l.dir, ocispec.ImageIndexFile), data)
}

// parseEntry reads one entry of an index.
func parseEntry(raw json.RawMessage) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("%s: entry is not a descriptor: %w", ocispec.ImageIndexFile, err)
	}
	return d, nil
}

// enter adds a manifest under a tag, or untagged. A tag moves away from the
// entry that had it; that manifest stays in the index, since attestations and
// other references by digest may point to it.
func (ix *referrerIndex) enter(d ocispec.Descriptor, tag string) error {
	kept := ix.Manifests[:0:0]
	for _, raw := range ix.Manifests {
		have, err := parseEntry(raw)
		if err != nil {
			return err
		}
		name := have.Annotations[ocispec.AnnotationRefName]
		switch {
		case have.Digest == d.Digest && name == tag && len(d.Annotations) == 0:
			return nil // there already
		case have.Digest == d.Digest && (name == tag || name == ""):
			continue // replaced below
		case tag != "" && name == tag:
			if ix.hasOther(have.Digest.String(), tag) {
				continue
			}
			delete(have.Annotations, ocispec.AnnotationRefName)
			if raw, err = json.Marshal(have); err != nil {
				return err
			}
		}
		kept = append(kept, raw)
	}
	if tag == "" && ix.has(d.Digest.String()) && len(kept) == len(ix.Manifests) {
		return nil // it has a tag
	}
	if tag != "" {
		notes := map[string]string{ocispec.AnnotationRefName: tag}
		for k, v := range d.Annotations {
			notes[k] = v
		}
		d.Annotations = notes
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	kept = append(kept, raw)
	ix.Manifests = kept
	return nil
}

// hasOther says whether a digest has an entry under another name than tag.
func (ix *referrerIndex) hasOther(id, tag string) bool {
	for _, raw := range ix.Manifests {
		d, err := parseEntry(raw)
		if err == nil && d.Digest.String() == id && d.Annotations[ocispec.AnnotationRefName] != tag {
			return true
		}
	}
	return false
}

// Referrers reads the manifests of the index and keeps those whose subject
// is digest; an index under the fallback tag, as copies of registries have
// it, counts too.
func (l *layout) Referrers(ctx context.Context, id string) ([]ocispec.Descriptor, error) {
	if err := checkDigest(id); err != nil {
		return nil, err
	}
	index, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	var list []ocispec.Descriptor
	seen := map[string]bool{}
	add := func(d ocispec.Descriptor) error {
		if seen[d.Digest.String()] {
			return nil
		}
		if seen[d.Digest.String()] = true; len(list) == maxReferrers {
			return &LimitError{What: "referrers of one manifest", Limit: maxReferrers}
		}
		list = append(list, d)
		return nil
	}
	for _, raw := range index.Manifests {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		found, err := l.referrersIn(raw, id)
		for _, d := range found {
			if err := add(d); err != nil {
				return list, err
			}
		}
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// referrersIn gives what one entry of the index contributes.
func (l *layout) referrersIn(raw json.RawMessage, id string) ([]ocispec.Descriptor, error) {
	d, err := parseEntry(raw)
	if err != nil || checkManifestDescriptor(d) != nil {
		return nil, nil // something foreign, of no concern here
	}
	data, err := l.manifest(d)
	if errors.Is(err, ErrNotFound) || isA[*DigestError](err) || isA[*LimitError](err) {
		return nil, nil // layouts may be sparse, and one damaged manifest must not hide the others
	}
	if err != nil {
		return nil, err
	}
	if d.Annotations[ocispec.AnnotationRefName] == fallbackTag(id) {
		ix, err := parseReferrers(data)
		if err != nil {
			return nil, nil //nolint:nilerr // no list of referrers: it names none
		}
		return ix.descriptors()
	}
	var m manifestFields
	if json.Unmarshal(data, &m) != nil || m.Subject == nil || m.Subject.Digest.String() != id {
		return nil, nil
	}
	return []ocispec.Descriptor{m.describeReferrer(d)}, nil
}

// describeReferrer fills a descriptor as the referrers API does
// (distribution-spec, "Listing Referrers").
func (m *manifestFields) describeReferrer(d ocispec.Descriptor) ocispec.Descriptor {
	if m.MediaType != "" {
		d.MediaType = m.MediaType
	}
	d.ArtifactType = m.ArtifactType
	if d.ArtifactType == "" && m.Config != nil {
		d.ArtifactType = m.Config.MediaType
	}
	d.Annotations = m.Annotations
	return d
}

// AddReferrer stores a manifest and enters it, untagged, into the index.
func (l *layout) AddReferrer(_ context.Context, subject ocispec.Descriptor, manifest []byte, artifactType string, annotations map[string]string) (ocispec.Descriptor, error) {
	d, err := referrerDescriptor(subject, manifest, artifactType, annotations)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return d, l.storeManifest(d, bytes.Clone(manifest), "")
}

// lockTimeout is how long another process may hold the index.
const lockTimeout = 30 * time.Second
