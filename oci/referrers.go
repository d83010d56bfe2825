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
	// an error beside the list: one cut off hides what may matter.
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
	if unreadable(err) {
		return nil, nil // anybody who may push can put such a thing there
	}
	if err != nil {
		return nil, err
	}
	list, err = index.descriptors()
	return list, networkError(ctx, "list referrers", r.Reference(id), err)
}

// unreadable says whether what is under a fallback tag is no list of
// referrers. A registry that does not answer is something else.
func unreadable(err error) bool { return isA[*indexError](err) || isA[*LimitError](err) }

// referrersAPI lists by the API; ok is false where there is none.
func (r *registry) referrersAPI(ctx context.Context, id string) (list []ocispec.Descriptor, ok bool, err error) {
	next := r.endpoint("referrers", id)
	ref := r.Reference(id)
	for page := 0; next != nil; page++ {
		if page == maxReferrerPages {
			return list, true, networkError(ctx, "list referrers", ref, &LimitError{What: "pages of referrers", Limit: maxReferrerPages})
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
			next, err = r.nextPage(a, "referrers")
		}
		if err != nil {
			return nil, false, networkError(ctx, "list referrers", ref, err)
		}
		if list, err = part.appendTo(list); err != nil {
			return list, true, networkError(ctx, "list referrers", ref, err)
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

// nextPage follows the Link header (RFC 8288) of a page of what, on the same
// host only.
func (r *registry) nextPage(a answer, what string) (*url.URL, error) {
	for _, link := range a.header.Values("Link") {
		target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
		if !ok || !strings.Contains(strings.ReplaceAll(rest, `"`, ""), "rel=next") {
			continue
		}
		u, err := a.url.Parse(target)
		if err != nil || u.Host != a.url.Host {
			return nil, protocolErrorf("the next page of %s is not on the same host", what)
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

// indexError says that something is no list of referrers.
type indexError struct {
	reason string
	// other is the kind of manifest that it is instead; empty where it is
	// none, so that nothing is lost by writing over it.
	other string
}

func (e *indexError) Error() string {
	return "the list of referrers is not an image index: " + e.reason
}

func parseReferrers(body []byte) (*referrerIndex, error) {
	var kind struct {
		MediaType      string `json:"mediaType"`
		Config, Layers json.RawMessage
	}
	if json.Unmarshal(body, &kind) == nil {
		t := kind.MediaType
		if t == "" && (kind.Config != nil || kind.Layers != nil) {
			t = ocispec.MediaTypeImageManifest
		}
		if t != "" && t != ocispec.MediaTypeImageIndex && t != dockerListType {
			return nil, &indexError{reason: "it is " + clip(t), other: t}
		}
	}
	var ix referrerIndex
	if err := json.Unmarshal(body, &ix); err != nil {
		return nil, &indexError{reason: err.Error()}
	}
	return &ix, nil
}

// encode gives the index with the entries as they were read: json.Marshal
// would compact and escape those of others, and their bytes may be signed.
func (ix *referrerIndex) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"schemaVersion":2,"mediaType":%q,"manifests":[`, ocispec.MediaTypeImageIndex)
	b.Write(bytes.Join(rawBytes(ix.Manifests), []byte(",")))
	b.WriteByte(']')
	if len(ix.Annotations) > 0 {
		b.WriteString(`,"annotations":`)
		b.Write(ix.Annotations)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func rawBytes(raws []json.RawMessage) [][]byte {
	out := make([][]byte, len(raws))
	for i, raw := range raws {
		out[i] = raw
	}
	return out
}

// descriptors gives the entries that are descriptors of manifests. One that is
// not, or that has a digest of another algorithm, is passed over: anybody who
// may push can add such an entry, and it must not hide the others.
func (ix *referrerIndex) descriptors() ([]ocispec.Descriptor, error) { return ix.appendTo(nil) }

// appendTo is descriptors, after those of earlier pages. Where there are more
// than maxReferrers together, the first of them come with a *LimitError.
func (ix *referrerIndex) appendTo(list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	for _, raw := range ix.Manifests {
		var d ocispec.Descriptor
		if json.Unmarshal(raw, &d) != nil || checkManifestDescriptor(d) != nil {
			continue
		}
		if len(list) >= maxReferrers {
			return list, &LimitError{What: "referrers of one manifest", Limit: maxReferrers}
		}
		list = append(list, d)
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
// What is no index is an *indexError.
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
	if ok && isA[*LimitError](err) {
		return d, nil // the registry keeps a list, of which not all was read
	}
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
		var no *indexError
		if errors.As(err, &no) && no.other == "" {
			// Garbage, of which nothing can be kept. A manifest of another
			// kind is somebody's, and the specification has us stop.
			ix, err = &referrerIndex{}, nil
		}
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
	ix.Manifests = append(ix.Manifests, bytes.Clone(entry))
	_, err := r.PushManifest(ctx, ocispec.MediaTypeImageIndex, ix.encode(), fallbackTag(id))
	return err
}
