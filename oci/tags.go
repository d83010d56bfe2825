package oci

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// tagsPerPage is what is asked for at a time: the most that the common
	// registries give.
	tagsPerPage = 1000
	// maxTags bounds what is listed of one repository.
	maxTags = 1_000_000
	// maxTagPages bounds the pages of one listing.
	maxTagPages = 10_000
)

// attachmentTag matches the tags that carry what belongs to a manifest: the
// fallback for referrers (distribution-spec, "Referrers Tag Schema"), and the
// signatures, attestations and SBOMs of cosign, which has the digest with the
// same dash and a suffix.
var attachmentTag = regexp.MustCompile(`^sha256-[a-f0-9]{64}(\.[a-z]+)?$`)

// IsAttachmentTag says whether a tag carries the referrers, signatures or
// attestations of a manifest, rather than a version of something.
func IsAttachmentTag(tag string) bool { return attachmentTag.MatchString(tag) }

// Tags lists the tags of a store, in no particular order and each once. A
// repository that does not exist is ErrNotFound. Names that no reference can
// hold are left out. More than a million is a *LimitError.
func Tags(ctx context.Context, s Store) ([]string, error) {
	lister, ok := s.(interface {
		tags(ctx context.Context) ([]string, error)
	})
	if !ok {
		return nil, &UnsupportedError{What: "tags", Reason: "this store cannot list them"}
	}
	tags, err := lister.tags(ctx)
	if err != nil {
		return nil, err
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return !tagPattern.MatchString(t) })
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// tags lists page by page (distribution-spec, "Listing Tags").
func (r *registry) tags(ctx context.Context) ([]string, error) {
	const op = "list tags"
	ref := r.repo.Name()
	first := r.endpoint("tags", "list")
	paged := *first
	paged.RawQuery = "n=" + strconv.Itoa(tagsPerPage)
	var all []string
	for page, next := 0, &paged; next != nil; page++ {
		if page == maxTagPages {
			return nil, networkError(ctx, op, ref, &LimitError{What: "pages of tags", Limit: maxTagPages})
		}
		a, err := r.tagPage(ctx, next)
		if page == 0 && refusesPageSize(err) {
			a, err = r.tagPage(ctx, first)
		}
		if err != nil {
			return nil, err
		}
		var part struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(a.body, &part); err != nil {
			return nil, networkError(ctx, op, ref, protocolErrorf("the list of tags is not JSON as the specification has it: %v", err))
		}
		if all = append(all, part.Tags...); len(all) > maxTags {
			return nil, networkError(ctx, op, ref, &LimitError{What: "tags in one repository", Limit: maxTags})
		}
		asked := next
		if next, err = r.nextPage(a, "tags"); err == nil && next != nil && *next == *asked {
			err = protocolErrorf("the next page of tags is the page itself")
		}
		if err != nil {
			return nil, networkError(ctx, op, ref, err)
		}
	}
	return all, nil
}

func (r *registry) tagPage(ctx context.Context, page *url.URL) (answer, error) {
	return r.small(ctx, r.reader(), "list tags", r.repo.Name(), request{
		method: http.MethodGet, url: page, want: []int{http.StatusOK},
	}, 16*MaxManifest)
}

// refusesPageSize says whether a registry finds the page too large: it then
// has its own size for those who ask for none.
func refusesPageSize(err error) bool {
	var re *RegistryError
	return errors.As(err, &re) && re.Status == http.StatusBadRequest
}

// tags lists the names in the index.
func (l *layout) tags(context.Context) ([]string, error) {
	index, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, raw := range index.Manifests {
		if d, err := parseEntry(raw); err == nil {
			all = append(all, d.Annotations[ocispec.AnnotationRefName])
		}
	}
	return all, nil
}
