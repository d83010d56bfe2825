package attest

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/oci"
)

// clockSkew is how far ahead of ours a signer's clock may be.
const clockSkew = 10 * time.Minute

// Trust says whose statements count.
type Trust struct {
	Keys []PublicKey
	// Certificates, where it is set, lets statements count that are signed
	// with a short-lived certificate and stored as a Sigstore bundle.
	Certificates *Certificates
	// MaxAge, when positive, refuses statements that are older.
	MaxAge time.Duration
	// Now gives the time to judge by; nil for the present.
	Now func() time.Time
}

// Verified is a statement whose signature, types and subject have been
// checked. Only Verify makes one.
type Verified struct {
	subject   string
	predicate Predicate
	payload   []byte
	checks    []Check
	keyName   string
	where     string
	time      time.Time
	ignored   []Attempt
}

// Check is one thing that was checked, or that was skipped on request.
type Check struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Done   bool   `json:"done"`
}

// ContentsCheck names the check that Verify leaves to those who read the
// files.
const ContentsCheck = "file contents"

// Subject is the digest of the manifest that the statement is about.
func (v *Verified) Subject() string { return v.subject }

// Predicate gives a copy of the predicate.
func (v *Verified) Predicate() Predicate { return *v.predicate.clone() }

// Payload gives a copy of the statement's bytes, as they were signed.
func (v *Verified) Payload() []byte { return slices.Clone(v.payload) }

// Checks lists what was checked, and what was not.
func (v *Verified) Checks() []Check { return slices.Clone(v.checks) }

// KeyName is the PublicKey.Name of the key that signed, or the subject of the
// certificate.
func (v *Verified) KeyName() string { return v.keyName }

// Where names the referrer or layer that the statement was found in.
func (v *Verified) Where() string { return v.where }

// Ignored lists the attestations that did not count.
func (v *Verified) Ignored() []Attempt { return slices.Clone(v.ignored) }

// Verify finds the attestations of subject in both forms and verifies them.
// subject must be resolved: its digest is what everything is compared with.
// One good statement is needed; what does not verify is ignored, but told in
// the error when nothing is good. The newest statement of a trusted signer
// counts, and when it says FAILED, that blocks. Newest goes by the signed
// timeEvaluated.
//
// Errors: one that wraps ErrNoAttestation, *VerifyError (with ErrFailed
// inside where that is why), *KeyError for a key that cannot be used, *RootError
// and *IdentityError for certificates, and those of the store, unchanged.
func Verify(ctx context.Context, s oci.Store, subject ocispec.Descriptor, trust Trust) (*Verified, error) {
	keys, err := loadTrusted(trust.Keys)
	if err != nil {
		return nil, err
	}
	var certificates *certificateVerifier
	switch {
	case trust.Certificates != nil:
		if certificates, err = trust.Certificates.load(); err != nil {
			return nil, err
		}
	case len(keys) == 0:
		return nil, errors.New("no trusted key to verify with")
	}
	if _, err := digestHex(subject.Digest.String()); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	var manifest []byte
	var found []located
	find := &search{store: s, subject: subject.Digest}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { manifest, err = s.Manifest(gctx, bare(subject)); return err })
	g.Go(func() (err error) { found, err = find.run(gctx); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	a, err := newAssessor(subject, manifest, keys, trust)
	if err != nil {
		return nil, err
	}
	a.certificates = certificates
	a.notRead, a.cut = int(find.skipped.Load()), find.cut
	return a.choose(found)
}

// assessor judges attestations about one manifest.
type assessor struct {
	subject  digest.Digest
	artifact ArtifactInfo
	files    []oci.File
	filesErr error
	keys     []trustedKey
	// certificates is nil where only keys count.
	certificates *certificateVerifier
	maxAge       time.Duration
	now          time.Time
	notRead      int
	cut          error // why not all were listed
}

func newAssessor(subject ocispec.Descriptor, manifest []byte, keys []trustedKey, trust Trust) (*assessor, error) {
	subject.Size = int64(len(manifest))
	if err := checkBytes(manifest, subject); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	a := &assessor{subject: subject.Digest, keys: keys, maxAge: trust.MaxAge, now: time.Now()}
	if trust.Now != nil {
		a.now = trust.Now()
	}
	var err error
	if a.artifact, err = DescribeArtifact(subject, manifest); err != nil {
		return nil, err
	}
	a.files, a.filesErr = oci.Files(manifest)
	return a, nil
}

// choose judges all that was found and picks the newest.
func (a *assessor) choose(found []located) (*Verified, error) {
	var (
		good, failed []*Verified
		tried        []Attempt
		foreign      int
		seen         = map[[32]byte]bool{}
	)
	for _, l := range found {
		if l.err == nil {
			id := l.envelope.id()
			if seen[id] {
				continue // the same envelope in the other form
			}
			seen[id] = true
		}
		v, err := a.assess(l)
		switch {
		case err == nil:
			good = append(good, v)
		case errors.Is(err, errForeign):
			foreign++
		default:
			if v != nil {
				failed = append(failed, v)
			}
			tried = append(tried, Attempt{Where: l.where, Reason: err.Error(), Err: err})
		}
	}
	if a.cut != nil {
		tried = append(tried, Attempt{Where: "referrers", Reason: "the rest not read: " + a.cut.Error(), Err: a.cut})
	}
	best := newest(good)
	if block := newest(failed); block != nil && (best == nil || !best.time.After(block.time)) {
		// First, because it is the reason.
		i := slices.IndexFunc(tried, func(t Attempt) bool { return t.Where == block.where })
		tried[0], tried[i] = tried[i], tried[0]
		return nil, &VerifyError{Subject: a.subject.String(), Tried: tried}
	}
	switch {
	case best != nil:
		best.ignored = tried
		if a.notRead > 0 {
			best.checks = append(best.checks, Check{Name: "all attestations", Detail: fmt.Sprintf("%d not read: too large together", a.notRead)})
		}
		if a.cut != nil {
			best.checks = append(best.checks, Check{Name: "all attestations", Detail: "the rest not read: " + a.cut.Error()})
		}
		return best, nil
	case len(tried) > 0:
		return nil, &VerifyError{Subject: a.subject.String(), Tried: tried}
	case foreign > 0:
		return nil, fmt.Errorf("%w of %s (%d of other types passed over)", ErrNoAttestation, a.subject, foreign)
	}
	return nil, fmt.Errorf("%w of %s", ErrNoAttestation, a.subject)
}

// newest gives the statement with the latest time; of equals the first.
func newest(vs []*Verified) *Verified {
	if len(vs) == 0 {
		return nil
	}
	return slices.MaxFunc(vs, func(a, b *Verified) int { return a.time.Compare(b.time) })
}

// assess judges one attestation. A trusted statement about the subject that
// says FAILED comes back with its error.
func (a *assessor) assess(l located) (*Verified, error) {
	if l.err != nil {
		return nil, l.err
	}
	e := l.envelope
	sig, err := a.signer(e)
	if err != nil {
		return nil, err
	}
	st, err := decodeStatement(e.payload)
	if err != nil {
		return nil, err
	}
	if st.PredicateType != PredicateType {
		return nil, errForeign
	}
	if err := cmp.Or(st.checkTypes(), st.checkSubject(a.subject.String())); err != nil {
		return nil, err
	}
	p, err := st.decodePredicate()
	if err != nil {
		return nil, err
	}
	v := &Verified{subject: a.subject.String(), predicate: *p, payload: e.payload, keyName: sig.name, where: l.where}
	v.time, _ = time.Parse(time.RFC3339, p.TimeEvaluated) // validated
	if p.Result == Failed {
		return v, a.failure(p)
	}
	if err := a.judge(v); err != nil {
		return nil, err
	}
	if !sig.before.IsZero() && v.time.After(sig.before.Add(clockSkew)) {
		return nil, fmt.Errorf("evaluated at %s, but signed before, at %s", p.TimeEvaluated, sig.before.UTC().Format(time.RFC3339))
	}
	v.checks = a.checks(v, sig, st.Type)
	return v, nil
}

// signer says who signed an envelope, of those who are trusted.
func (a *assessor) signer(e *envelope) (*signing, error) {
	if name, ok := e.signedBy(a.keys); ok {
		return &signing{name: name, how: name, log: Check{"transparency log", "a key was used", false}}, nil
	}
	if e.foreign() {
		return nil, errForeign
	}
	switch {
	case a.certificates == nil:
		return nil, errors.New(notSigned(len(a.keys)))
	case e.bundle == nil:
		return nil, errors.New("not signed with a trusted certificate: only a Sigstore bundle carries one")
	}
	digest, err := hex.DecodeString(a.subject.Encoded())
	if err != nil {
		return nil, err
	}
	sig, err := a.certificates.verify(e.bundle, digest)
	if err != nil {
		return nil, fmt.Errorf("not signed by a trusted identity: %w", err)
	}
	return sig, nil
}

// failure is the error for a statement that says FAILED. It blocks whatever
// else it says: a signer may withdraw an artifact without giving reasons.
func (a *assessor) failure(p *Predicate) error {
	if result, _, reasons := p.Evaluate(); result == Failed {
		return fmt.Errorf("%w at %s: %s", ErrFailed, p.TimeEvaluated, reasons[0])
	}
	return fmt.Errorf("%w at %s", ErrFailed, p.TimeEvaluated)
}

// judge compares what the statement says with the artifact, the clock and
// itself.
func (a *assessor) judge(v *Verified) error {
	p := &v.predicate
	if err := a.checkTime(v.time, p.Exceptions); err != nil {
		return err
	}
	if p.Artifact != a.artifact {
		return fmt.Errorf("statement describes another artifact: %+v, not %+v", p.Artifact, a.artifact)
	}
	if err := a.checkFiles(p); err != nil {
		return err
	}
	if result, level, _ := p.Evaluate(); result != p.Result || level != p.Level {
		return fmt.Errorf("statement claims %s at level %d, but its facts give %s at level %d", p.Result, p.Level, result, level)
	}
	again := *p
	again.summarise()
	if again.Summary != p.Summary {
		return fmt.Errorf("statement's summary is %+v, but its files give %+v", p.Summary, again.Summary)
	}
	return nil
}

func (a *assessor) checkTime(t time.Time, exceptions []Exception) error {
	if t.After(a.now.Add(clockSkew)) {
		return fmt.Errorf("evaluated at %s, which has not come yet", t.Format(time.RFC3339))
	}
	if age := a.now.Sub(t); a.maxAge > 0 && age > a.maxAge {
		return fmt.Errorf("evaluated at %s: older than %s", t.Format(time.RFC3339), a.maxAge)
	}
	for _, e := range exceptions {
		if until, never, _ := e.expiry(); !never && !a.now.Before(until) {
			return fmt.Errorf("its exception of %s for %s expired on %s", e.Rule, e.Path, e.Expires)
		}
	}
	return nil
}

// checkFiles compares the listed files with the manifest's layers, both ways.
func (a *assessor) checkFiles(p *Predicate) error {
	if a.filesErr != nil {
		return fmt.Errorf("the artifact's layers cannot be compared: %w", a.filesErr)
	}
	layers := make(map[string]oci.File, len(a.files))
	for _, f := range a.files {
		layers[f.Path] = f
	}
	for _, f := range p.Files {
		l, ok := layers[f.Path]
		switch {
		case !ok:
			return fmt.Errorf("statement lists %s, which is not in the artifact", quote(f.Path))
		case l.Digest.String() != f.LayerDigest || l.Size != f.Size:
			return fmt.Errorf("%s is %s of %d bytes in the artifact, %s of %d bytes in the statement",
				quote(f.Path), l.Digest, l.Size, f.LayerDigest, f.Size)
		case f.ContentDigest != "" && f.ContentDigest != f.LayerDigest:
			return fmt.Errorf("%s is stored as it is, but the statement gives its content another digest", quote(f.Path))
		}
		delete(layers, f.Path)
	}
	for path := range layers {
		return fmt.Errorf("the artifact's file %s is not in the statement", quote(path))
	}
	return nil
}

// checks is the list of what was done, in the order it was done.
func (a *assessor) checks(v *Verified, sig *signing, statementType string) []Check {
	p := &v.predicate
	checks := []Check{
		{"signature", "DSSE signature by " + sig.how, true},
		{"statement", statementType + " with predicate " + PredicateType, true},
		{"subject", "exactly one, " + v.subject, true},
		{"artifact", "manifest, config and media types are those in the statement", true},
		{"files", fmt.Sprintf("%d files, each with path, digest and size as in the manifest, and no other", len(p.Files)), true},
		{"result", fmt.Sprintf("%s, ST%d, recomputed from the statement's facts", p.Result, p.Level), true},
		{"time", "evaluated " + p.TimeEvaluated + ", by the signer's clock", true},
	}
	if a.maxAge > 0 {
		checks = append(checks, Check{"age", "not older than " + a.maxAge.String(), true})
	}
	checks = append(checks, sig.rest...)
	return append(checks, sig.log,
		Check{ContentsCheck, "not read: a pull or a deep verification checks them", false})
}

// notSigned is the reason most often told.
func notSigned(keys int) string {
	if keys == 1 {
		return "not signed by the trusted key"
	}
	return "not signed by any of the trusted keys"
}

// DescribeArtifact gives what a statement says about the artifact itself.
// subject is the manifest's descriptor.
func DescribeArtifact(subject ocispec.Descriptor, manifest []byte) (ArtifactInfo, error) {
	m := &ocispec.Manifest{}
	if err := decodeStrict(manifest, m); err != nil {
		return ArtifactInfo{}, fmt.Errorf("manifest: %w", err)
	}
	return ArtifactInfo{
		MediaType:    cmp.Or(m.MediaType, subject.MediaType),
		ArtifactType: m.ArtifactType,
		ConfigDigest: m.Config.Digest.String(),
		ManifestSize: int64(len(manifest)),
	}, nil
}
