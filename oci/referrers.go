package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxReferrers is how many referrers of one manifest are listed. More is
	// an error: a list cut off would hide what matters.
	maxReferrers = 1000
	// maxReferrerPages bounds the pages of one listing.
	maxReferrerPages = 1000
	// fallbackTries is how often an entry into a fallback tag that another
	// writer overwrote is made again.
	fallbackTries = 8
)

// fallbackTag is the tag whose index lists the referrers of a manifest where
// there is no API (distribution-spec, "Referrers Tag Schema").
func fallbackTag(id string) string { return strings.Replace(id, ":", "-", 1) }

// Referrers lists by the API and, where that answers 404, from the fallback
// tag. A subject without referrers, or that does not exist, has none.
func (r *registry) Referrers(ctx context.Context, id string) ([]ocispec.Descriptor, error) {
	if err := checkDigest(id); err != nil {
		return nil, err
	}
	list, ok, err := r.referrersAPI(ctx, id)
	if err != nil || ok {
		return list, err
	}
	index, err := r.fallbackIndex(ctx, id)
	if err != nil {
		return nil, err
	}
	list, err = index.descriptors()
	return list, networkError(ctx, "list referrers", r.Reference(id), err)
}

// referrersAPI lists by the API; ok is false where there is none.
func (r *registry) referrersAPI(ctx context.Context, id string) (list []ocispec.Descriptor, ok bool, err error) {
	next := r.endpoint("referrers", id)
	ref := r.Reference(id)
	for page := 0; next != nil; page++ {
		if page == maxReferrerPages {
			return nil, false, networkError(ctx, "list referrers", ref, &LimitError{What: "pages of referrers", Limit: maxReferrerPages})
		}
		a, err := r.small(ctx, r.reader(), "list referrers", ref, request{
			method: http.MethodGet, url: next, header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}},
			want: []int{http.StatusOK},
		}, MaxManifest)
		if page == 0 && noReferrersAPI(a, err) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		part, err := parseReferrers(a.body)
		if err == nil {
			var more []ocispec.Descriptor
			if more, err = part.descriptors(); err == nil {
				list = append(list, more...)
			}
		}
		if err == nil && len(list) > maxReferrers {
			err = &LimitError{What: "referrers of one manifest", Limit: maxReferrers}
		}
		if err == nil {
			next, err = r.nextPage(a)
		}
		if err != nil {
			return nil, false, networkError(ctx, "list referrers", ref, err)
		}
	}
	return list, true, nil
}

// noReferrersAPI says whether the answer means that there is no API: 404 by
// the specification; some registries say 400 or 405, or answer the unknown
// path with a page of theirs.
func noReferrersAPI(a answer, err error) bool {
	var re *RegistryError
	if errors.As(err, &re) {
		return re.Status == http.StatusNotFound || re.Status == http.StatusBadRequest ||
			re.Status == http.StatusMethodNotAllowed || re.Status == http.StatusNotAcceptable
	}
	if err != nil {
		return false
	}
	contentType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	return strings.TrimSpace(contentType) != ocispec.MediaTypeImageIndex
}

// nextPage follows the Link header (RFC 8288), on the same host only.
func (r *registry) nextPage(a answer) (*url.URL, error) {
	for _, link := range a.header.Values("Link") {
		target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
		if !ok || !strings.Contains(strings.ReplaceAll(rest, `"`, ""), "rel=next") {
			continue
		}
		u, err := a.url.Parse(target)
		if err != nil || u.Host != a.url.Host {
			return nil, protocolErrorf("the next page of referrers is not on the same host")
		}
		return u, nil
	}
	return nil, nil
}

// referrerIndex is an image index whose entries are kept as they are, so that
// writing it back loses nothing of what others wrote.
type referrerIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
	Annotations   json.RawMessage   `json:"annotations,omitempty"`
}

func parseReferrers(body []byte) (*referrerIndex, error) {
	var ix referrerIndex
	if err := json.Unmarshal(body, &ix); err != nil {
		return nil, protocolErrorf("the list of referrers is not an image index: %v", err)
	}
	return &ix, nil
}

// descriptors gives the entries that are descriptors of manifests. One that is
// not, or that has a digest of another algorithm, is passed over: anybody who
// may push can add such an entry, and it must not hide the others.
func (ix *referrerIndex) descriptors() ([]ocispec.Descriptor, error) {
	if len(ix.Manifests) > maxReferrers {
		return nil, &LimitError{What: "referrers of one manifest", Limit: maxReferrers}
	}
	list := make([]ocispec.Descriptor, 0, len(ix.Manifests))
	for _, raw := range ix.Manifests {
		var d ocispec.Descriptor
		if json.Unmarshal(raw, &d) == nil && checkManifestDescriptor(d) == nil {
			list = append(list, d)
		}
	}
	return list, nil
}

func (ix *referrerIndex) has(id string) bool {
	for _, raw := range ix.Manifests {
		var d ocispec.Descriptor
		if json.Unmarshal(raw, &d) == nil && d.Digest.String() == id {
			return true
		}
	}
	return false
}

// fallbackIndex reads the fallback tag; an empty index where there is none.
func (r *registry) fallbackIndex(ctx context.Context, id string) (*referrerIndex, error) {
	body, _, err := r.getManifest(ctx, "list referrers", fallbackTag(id))
	if errors.Is(err, ErrNotFound) {
		return &referrerIndex{}, nil
	}
	if err != nil {
		return nil, err
	}
	ix, err := parseReferrers(body)
	return ix, networkError(ctx, "list referrers", r.Reference(id), err)
}

// AddReferrer pushes the manifest. A registry that answers with OCI-Subject,
// or whose API lists the manifest afterwards, keeps the list itself
// (distribution-spec, "Pushing Manifests with Subject"); elsewhere the
// manifest is entered into the fallback tag's index.
func (r *registry) AddReferrer(ctx context.Context, subject ocispec.Descriptor, manifest []byte, artifactType string, annotations map[string]string) (ocispec.Descriptor, error) {
	d, err := referrerDescriptor(subject, manifest, artifactType, annotations)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	a, err := r.putManifest(ctx, "push referrer", d, manifest, d.Digest.String())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if a.header.Get("OCI-Subject") != "" {
		return d, nil
	}
	id := subject.Digest.String()
	list, ok, err := r.referrersAPI(ctx, id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if ok {
		for _, have := range list {
			if have.Digest == d.Digest {
				return d, nil
			}
		}
	}
	return d, r.enterFallback(ctx, id, d)
}

// referrerDescriptor checks that a manifest has the subject, and describes it
// for a list of referrers.
func referrerDescriptor(subject ocispec.Descriptor, manifest []byte, artifactType string, annotations map[string]string) (ocispec.Descriptor, error) {
	var m manifestFields
	if err := json.Unmarshal(manifest, &m); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("referrer is not JSON: %w", err)
	}
	if m.Subject == nil || m.Subject.Digest != subject.Digest {
		return ocispec.Descriptor{}, fmt.Errorf("referrer does not have %s as its subject", subject.Digest)
	}
	if err := checkDigest(subject.Digest.String()); err != nil {
		return ocispec.Descriptor{}, err
	}
	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
	}
	d, err := newManifestDescriptor(mediaType, manifest, "")
	d.ArtifactType, d.Annotations = artifactType, annotations
	return d, err
}

// enterFallback is read, change, write of one tag, which another writer may
// do at the same time. What was written is read back, and entered again when
// it was lost.
func (r *registry) enterFallback(ctx context.Context, id string, d ocispec.Descriptor) error {
	r.fallback.Lock()
	defer r.fallback.Unlock()
	entry, err := json.Marshal(d)
	if err != nil {
		return err
	}
	for n := range fallbackTries {
		if n > 0 {
			if err := wait(ctx, jitter(r.pause*time.Duration(n))); err != nil {
				return err
			}
		}
		ix, err := r.fallbackIndex(ctx, id)
		if err != nil {
			return err
		}
		// Found in what was read after the last write: entered.
		if ix.has(d.Digest.String()) {
			return nil
		}
		if err := r.writeFallback(ctx, id, ix, entry); err != nil {
			return err
		}
		after, err := r.fallbackIndex(ctx, id)
		if err != nil {
			return err
		}
		// Somebody else's entry beside ours means that writers meet here, and
		// one who read before us may yet write after us: look again.
		if after.has(d.Digest.String()) && len(after.Manifests) == len(ix.Manifests) {
			return nil
		}
	}
	return networkError(ctx, "add referrer", r.Reference(id), protocolErrorf("the fallback tag does not keep the entry: other writers overwrite it"))
}

func (r *registry) writeFallback(ctx context.Context, id string, ix *referrerIndex, entry []byte) error {
	if len(ix.Manifests) >= maxReferrers {
		return networkError(ctx, "add referrer", r.Reference(id), &LimitError{What: "referrers of one manifest", Limit: maxReferrers})
	}
	ix.SchemaVersion, ix.MediaType = 2, ocispec.MediaTypeImageIndex
	ix.Manifests = append(ix.Manifests, bytes.Clone(entry))
	body, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	_, err = r.PushManifest(ctx, ocispec.MediaTypeImageIndex, body, fallbackTag(id))
	return err
}
