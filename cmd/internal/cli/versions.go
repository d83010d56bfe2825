package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
)

// version is one manifest of a repository, as its manifest, its config and its
// statement describe it.
type version struct {
	Tags         []string       `json:"tags"`
	Digest       string         `json:"digest"`
	MediaType    string         `json:"mediaType"`
	ArtifactType string         `json:"artifactType,omitempty"`
	Files        int            `json:"files"`
	Size         int64          `json:"size"` // of the files, in bytes
	Format       string         `json:"format,omitempty"`
	Created      string         `json:"created,omitempty"`
	CreatedFrom  string         `json:"createdFrom,omitempty"` // manifest or statement
	Statement    *statementView `json:"statement"`             // null without one
	Problem      string         `json:"problem,omitempty"`

	created time.Time
	base    string            // digest of what it was made from
	digests map[string]string // by path; nil where the layers are no files
	weights map[string]bool   // paths of the files that its media types call weights
}

// statementView is what a statement says, and how far it can be believed.
type statementView struct {
	Trust         string `json:"trust"`
	Reason        string `json:"reason,omitempty"` // why it is untrusted
	Result        string `json:"result"`
	Level         int    `json:"level"`
	WeightsDigest string `json:"weightsDigest,omitempty"`
	TimeEvaluated string `json:"timeEvaluated"`
}

// lister looks at the versions of a store. No layer is read.
type lister struct {
	store   oci.Store
	trusted *attest.Trust // nil when nobody is named
	workers int

	mu    sync.Mutex
	known map[string]func() (*version, error) // by digest
}

func newLister(store oci.Store, trusted *attest.Trust, workers int) *lister {
	return &lister{store: store, trusted: trusted, workers: workers, known: map[string]func() (*version, error){}}
}

// tags looks at the version behind each tag; several tags may lead to one. The
// order is that of the tags. A tag that leads to nothing that can be read gives
// a version with a problem.
func (l *lister) tags(ctx context.Context, tags []string) ([]*version, error) {
	out := make([]*version, len(tags))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.workers)
	for i, tag := range tags {
		g.Go(func() (err error) { out[i], err = l.version(ctx, tag); return err })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, v := range out {
		if !slices.Contains(v.Tags, tags[i]) {
			v.Tags = append(v.Tags, tags[i])
		}
	}
	return out, nil
}

// version looks at what is behind a tag or digest, once for each digest.
func (l *lister) version(ctx context.Context, id string) (*version, error) {
	d, err := l.store.Resolve(ctx, id)
	if err != nil {
		if isProblem(err) {
			return &version{Tags: []string{}, Problem: err.Error()}, nil
		}
		return nil, err
	}
	l.mu.Lock()
	look, ok := l.known[d.Digest.String()]
	if !ok {
		look = sync.OnceValues(func() (*version, error) { return l.look(ctx, d) })
		l.known[d.Digest.String()] = look
	}
	l.mu.Unlock()
	return look()
}

// isProblem says whether an error is about one version, as against one that
// ends the work: the network, the registry, our own files.
func isProblem(err error) bool {
	return errors.Is(err, oci.ErrNotFound) || errors.As(err, new(*oci.ManifestError)) || errors.As(err, new(*oci.DigestError)) ||
		errors.As(err, new(*oci.UnsupportedError)) || errors.As(err, new(*oci.LimitError))
}

func (l *lister) look(ctx context.Context, d ocispec.Descriptor) (*version, error) {
	v := &version{Tags: []string{}, Digest: d.Digest.String(), MediaType: d.MediaType, ArtifactType: d.ArtifactType}
	err := l.describe(ctx, d, v)
	if err == nil {
		v.Statement, err = l.statement(ctx, d)
	}
	if err != nil {
		if !isProblem(err) {
			return nil, err
		}
		v.Problem = err.Error()
	}
	if st := v.Statement; st != nil && v.created.IsZero() {
		if v.created, err = time.Parse(time.RFC3339, st.TimeEvaluated); err == nil {
			v.CreatedFrom = "statement"
		}
	}
	if !v.created.IsZero() {
		v.Created = v.created.UTC().Format(time.RFC3339)
	}
	return v, nil
}

// describe reads manifest and config.
func (l *lister) describe(ctx context.Context, d ocispec.Descriptor, v *version) error {
	manifest, err := l.store.Manifest(ctx, d)
	if err != nil {
		return err
	}
	desc, err := oci.Describe(ctx, l.store, manifest)
	if err != nil {
		return err
	}
	v.ArtifactType, v.Format, v.Files, v.Size = desc.ArtifactType, desc.Format, len(desc.Layers), desc.Bytes
	v.base, v.created = desc.Base, desc.Created
	if !v.created.IsZero() {
		v.CreatedFrom = "manifest"
	}
	files, err := oci.Files(manifest)
	if err != nil {
		return nil //nolint:nilerr // an image or another artifact, whose layers are no files
	}
	v.digests, v.weights = map[string]string{}, map[string]bool{}
	for _, f := range files {
		v.digests[f.Path] = f.Digest.String()
		if oci.IsWeight(f.MediaType) {
			v.weights[f.Path] = true
		}
	}
	return nil
}

// statement reads what the newest statement says, and verifies it when
// somebody is named to trust.
func (l *lister) statement(ctx context.Context, d ocispec.Descriptor) (*statementView, error) {
	view, failed := &statementView{Trust: trustUnverified}, false
	if l.trusted != nil {
		verified, err := attest.Verify(ctx, l.store, d, *l.trusted)
		switch {
		case err == nil:
			p := verified.Predicate()
			result, level, _ := p.Evaluate()
			return &statementView{
				Trust: trustVerified, Result: result, Level: level,
				WeightsDigest: p.WeightsDigest, TimeEvaluated: p.TimeEvaluated,
			}, nil
		case errors.Is(err, attest.ErrNoAttestation):
			return nil, nil
		case !errors.As(err, new(*attest.VerifyError)):
			return nil, err
		}
		view.Trust, view.Reason = trustUntrusted, err.Error()
		failed = errors.Is(err, attest.ErrFailed)
	}
	claim, err := attest.ClaimOf(ctx, l.store, d)
	if errors.Is(err, attest.ErrNoAttestation) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	view.Result, view.Level, view.WeightsDigest = claim.Result, claim.Level, claim.WeightsDigest
	view.TimeEvaluated = claim.Time.Format(time.RFC3339)
	if failed { // somebody who is trusted says so, whatever else is attached
		view.Trust, view.Result = trustVerified, attest.Failed
	}
	return view, nil
}

// verdict is the short form of what a statement says.
func (v *version) verdict() string {
	switch {
	case v.Problem != "":
		return "unreadable"
	case v.Statement == nil:
		return "no statement"
	}
	st := v.Statement
	return fmt.Sprintf("%s ST%d, %s", st.Result, st.Level, st.Trust)
}

// style is the style of the verdict.
func (v *version) style() style {
	switch {
	case v.Problem != "":
		return bad
	case v.Statement == nil:
		return faint
	case v.Statement.Result == attest.Failed, v.Statement.Trust == trustUntrusted:
		return bad
	case v.Statement.Trust == trustVerified:
		return good
	}
	return doubtful
}

// format is what the config calls the weights; where it says nothing, what
// kind of artifact it is.
func (v *version) format() string {
	switch {
	case v.Format != "":
		return v.Format
	case v.MediaType == ocispec.MediaTypeImageIndex:
		return "index"
	case v.digests == nil && v.Problem == "":
		return "not files"
	}
	return string(model.Unknown)
}

// shortDigest is enough of a digest to tell versions apart.
func shortDigest(digest string) string {
	const n = len("sha256:") + 12
	if len(digest) <= n {
		return digest
	}
	return digest[:n]
}

// shortTime is a time to the minute, in UTC.
func (v *version) shortTime() string {
	if v.created.IsZero() {
		return "-"
	}
	return v.created.UTC().Format("2006-01-02 15:04")
}
