package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"unicode/utf16"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/oci"
)

type pushOptions struct {
	registry    registryFlags
	selection   selection
	progress    progressFlags
	key         string
	noSign      bool
	policy      string
	selectPath  string
	weightsOnly bool
	split       splitFlags
	write       outputFlags
	convert     convert.Options // as the flags say
	dryRun      bool
	output      string
	digestFile  string
	results     resultFlags
}

func newPush(s *streams) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push SOURCE REF",
		Short: "Scan, convert, upload and attest a model",
		Long: `Push a model to a registry (REGISTRY/REPOSITORY:TAG) or an OCI layout (oci:DIR:TAG).

Every file is judged by its content. Safetensors is kept; pickle-based weights that
hold only tensors and plain data are converted to safetensors while they are uploaded,
and the pickle stays behind; what cannot be converted without loss, or names anything
unexpected, is refused before a byte is uploaded, all files at once. Then a signed
statement over the manifest's digest is stored beside the model, and the tag is set.

The last line on standard output is REF@sha256:...`,
		Example: `  weightseal push ./my-model registry.example/team/model:v1 --key cosign.key
  weightseal push ./my-model oci:layout:v1 --no-sign
  weightseal push ./my-model registry.example/team/model:v1 --dry-run --no-sign`,
		Args: exactArgs("SOURCE", "REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPush(cmd.Context(), s, args[0], args[1], &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "private key `file` to sign with (cosign.key), or env://VARIABLE")
	f.BoolVar(&o.noSign, "no-sign", false, "push without an attestation")
	f.StringVar(&o.selectPath, "select", "", "`path` of the weights in a nested checkpoint, such as state_dict")
	o.split.add(f)
	f.BoolVar(&o.weightsOnly, "weights-only", false, "take the tensors beside known inert objects; the statement lists what is lost")
	o.write.add(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would happen to each file, and upload nothing")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	f.StringVar(&o.digestFile, "digest-file", "", "write the digest of what was pushed to this `file`")
	o.results.add(f, pushResults())
	addPolicy(f, &o.policy)
	o.selection.add(f)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

func runPush(ctx context.Context, s *streams, source, ref string, o *pushOptions) error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	if o.key == "" && !o.noSign && !o.dryRun {
		return usage("make a key pair: weightseal keygen, then push with --key cosign.key (or --no-sign, without an attestation)",
			"a push is signed: --key is missing")
	}
	if o.key != "" && o.noSign {
		return usage("leave one of them out: --key cosign.key signs, --no-sign does not", "--key and --no-sign exclude each other")
	}
	if err := o.results.check(pushResults()); err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	store, tag, err := oci.Open(ref, opt)
	if err != nil {
		return err
	}
	if strings.Contains(tag, ":") {
		return usage("give a tag: REGISTRY/REPOSITORY:TAG", "cannot push to a digest: %s", ref)
	}
	var signer attest.Signer
	if o.key != "" {
		if signer, err = signingKey(s, o.key); err != nil {
			return err
		}
		debug.FreeOSMemory() // decrypting a key takes 64 MiB, and nothing else here does
	}
	if err := o.write.fill(&o.convert); err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	job, err := prepare(ctx, source, opt, o, bar)
	if err != nil {
		return err
	}
	defer job.close()
	if o.dryRun {
		bar.close()
		return printDryRun(s, o.output, job)
	}
	if !job.decision.Allowed {
		bar.close()
		return refusal(s, o.output, job.decision)
	}
	return job.ship(ctx, s, store, tag, opt, signer, o, bar)
}

// signedBefore is said of a model that had the same statement already.
const signedBefore = "attested before, with the same statement"

func signerError(keyFile string, err error) error {
	var own *failure
	if errors.As(err, &own) {
		return own
	}
	hints := []string{"weightseal keygen makes a key pair"}
	if errors.Is(err, attest.ErrPassword) {
		hints = []string{"the password is taken from COSIGN_PASSWORD, or asked for on a terminal"}
	}
	return fail(exitUsage, fmt.Errorf("--key %s: %w", keyFile, err), hints...)
}

// ship uploads a prepared model. Nothing is visible under the tag until the
// attestation is in place.
func (j *pushJob) ship(ctx context.Context, s *streams, store oci.Store, tag string, opt oci.Options, signer attest.Signer, o *pushOptions, bar *progress) error {
	previous, err := previousFiles(ctx, store, tag)
	if err != nil {
		return err
	}
	staged, err := j.upload(ctx, store, opt, previous, bar)
	if err != nil {
		return err
	}
	if err := j.prove(); err != nil {
		return err
	}
	if err := staged.Publish(ctx, store, ""); err != nil {
		return err
	}
	bar.say("attest", staged.Manifest.Digest.String())
	earlier, err := j.earlier(ctx, store, staged, signer)
	if err != nil {
		return err
	}
	statement, err := j.statement(staged, earlier)
	if err != nil {
		return err
	}
	if d := j.policy.Artifact(artifactFacts(j.predicate)); !d.Allowed {
		bar.close()
		return denied(s, d) // nothing has the tag
	}
	var stored *attest.Stored
	if signer != nil && !sameButTime(earlier, j.predicate) {
		envelope, err := signer.Sign(ctx, statement)
		if err != nil {
			return err
		}
		if stored, err = attest.Attach(ctx, store, staged.Manifest, envelope, signer); err != nil {
			return err
		}
	}
	if err := staged.Publish(ctx, store, tag); err != nil {
		return err
	}
	bar.finish("uploaded")
	signed := "not signed"
	switch {
	case stored != nil:
		signed = "attested and signed"
	case signer != nil:
		signed = signedBefore
	}
	return j.printPushed(s, o, store.Reference(staged.Manifest.Digest.String()), staged, stored, signed)
}

// statementBefore is a statement that our own key has signed over the same
// artifact before.
type statementBefore struct {
	predicate attest.Predicate
	here      bool // it lies where the artifact goes, not only where it came from
}

// earlier gives the statement that our own key has signed over the same
// artifact before, where it goes or where it came from; nil when there is
// none. What it says about conversions would be lost otherwise: the sources
// are not here any more.
func (j *pushJob) earlier(ctx context.Context, store oci.Store, staged *oci.Staged, signer attest.Signer) (*statementBefore, error) {
	if signer == nil {
		return nil, nil
	}
	der, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	ours := attest.Trust{Keys: []attest.PublicKey{{Name: "our own key", DER: der}}}
	stores := []oci.Store{store}
	if j.from != nil {
		stores = append(stores, j.from.store)
	}
	for i, s := range stores {
		v, err := attest.Verify(ctx, s, staged.Manifest, ours)
		if err == nil {
			return &statementBefore{predicate: v.Predicate(), here: i == 0}, nil
		}
		var verify *attest.VerifyError
		if !errors.Is(err, attest.ErrNoAttestation) && !errors.As(err, &verify) && !errors.Is(err, oci.ErrNotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// sameButTime says whether a statement made before says all that the new one
// does, whenever and by whichever version of the tool.
func sameButTime(earlier *statementBefore, now *attest.Predicate) bool {
	if earlier == nil || !earlier.here {
		return false
	}
	old := earlier.predicate
	old.TimeEvaluated, old.Tool = now.TimeEvaluated, now.Tool
	a, errA := json.Marshal(old)
	b, errB := json.Marshal(now)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// previousFiles gives the files of what the tag holds now: a file of the same
// path and size is probably the same, and worth hashing before it is sent.
func previousFiles(ctx context.Context, store oci.Store, tag string) (map[string]oci.File, error) {
	_, manifest, err := resolve(ctx, store, tag)
	if errors.Is(err, oci.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files, err := oci.Files(manifest)
	if err != nil {
		return nil, nil // something else lies under the tag; it is replaced
	}
	byPath := make(map[string]oci.File, len(files))
	for _, f := range files {
		byPath[f.Path] = f
	}
	return byPath, nil
}

// upload sends all files, and meanwhile reads the sources of converted ones a
// second time, as witnesses.
func (j *pushJob) upload(ctx context.Context, store oci.Store, opt oci.Options, previous map[string]oci.File, bar *progress) (*oci.Staged, error) {
	bar.expect(len(j.items), j.size())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return j.witness(ctx, opt.Concurrency) })
	var staged *oci.Staged
	g.Go(func() error {
		artifact, err := j.artifact(ctx, opt.Concurrency, previous, bar)
		if err == nil {
			staged, err = oci.PushLayers(ctx, store, artifact, opt, bar.event)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, it := range j.items {
		if err := it.unchanged(); err != nil {
			return nil, fmt.Errorf("%s: %w", it.file.Path, err)
		}
	}
	for i, d := range staged.Layers {
		j.items[i].descriptor = d
	}
	return staged, nil
}

// size is how many bytes the files of the artifact have.
func (j *pushJob) size() (n int64) {
	for _, it := range j.items {
		n += it.size()
	}
	return n
}

func (j *pushJob) witness(ctx context.Context, concurrency int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	bySource := map[string][]*item{} // a source is read once, whatever comes out of it
	for _, it := range j.items {
		if it.plan != nil {
			bySource[it.file.Path] = append(bySource[it.file.Path], it)
		}
	}
	for _, path := range sortedKeys(bySource) {
		items := bySource[path]
		g.Go(func() error {
			plans := make([]*convert.Plan, len(items))
			for i, it := range items {
				plans[i] = it.plan
			}
			seen, err := convert.WitnessAll(ctx, plans)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, it := range items {
				it.seen = seen
			}
			return nil
		})
	}
	return g.Wait()
}

// prove compares what went out with what the witnesses saw.
func (j *pushJob) prove() error {
	for _, it := range j.items {
		switch {
		case it.plan != nil:
			proof, err := it.plan.Prove(it.recorder, it.seen)
			if err != nil {
				return fmt.Errorf("%s: %w", it.file.Path, err)
			}
			it.proof, it.tensors = proof, proof.Tensors
		case it.digester != nil:
			tensors, err := it.digester.Sum()
			if err != nil {
				return fmt.Errorf("%s: %w", it.file.Path, err)
			}
			it.tensors = tensors
		}
	}
	return nil
}

// pushed is what push prints as JSON.
type pushed struct {
	SchemaVersion int           `json:"schemaVersion"`
	Reference     string        `json:"reference"`
	Digest        string        `json:"digest"`
	MediaType     string        `json:"mediaType"`
	Size          int64         `json:"size"`
	Policy        string        `json:"policy"`
	Result        string        `json:"result"`
	Level         int           `json:"level"`
	WeightsDigest string        `json:"weightsDigest,omitempty"`
	Files         []pushedFile  `json:"files"`
	Attestations  []attestation `json:"attestations"`
	Skipped       int           `json:"skippedBlobs"`
}

type pushedFile struct {
	Path          string   `json:"path"`
	Digest        string   `json:"digest"`
	Size          int64    `json:"size"`
	Format        string   `json:"format"`
	ConvertedFrom string   `json:"convertedFrom,omitempty"`
	SourceDigest  string   `json:"sourceDigest,omitempty"`
	Ties          []string `json:"ties,omitempty"` // names recorded as another name's tensor
	Dropped       []string `json:"dropped,omitempty"`
}

type attestation struct {
	Form   string `json:"form"`
	Digest string `json:"digest"`
}

func (j *pushJob) printPushed(s *streams, o *pushOptions, ref string, staged *oci.Staged, stored *attest.Stored, signed string) error {
	p := j.pushed(ref, staged, stored)
	if err := errors.Join(writeDigestFile(o.digestFile, p.Digest), announcePushed(s, p, signed, &o.results)); err != nil {
		return fmt.Errorf("pushed %s, but: %w", ref, err)
	}
	if o.output == "json" {
		return printJSON(s.out, p)
	}
	return j.printPushedText(s, p, signed)
}

// pushed says what was pushed.
func (j *pushJob) pushed(ref string, staged *oci.Staged, stored *attest.Stored) *pushed {
	p := &pushed{
		SchemaVersion: 1, Reference: ref, Digest: staged.Manifest.Digest.String(), MediaType: staged.Manifest.MediaType,
		Size: staged.Manifest.Size, Policy: j.policy.Name(), Result: j.predicate.Result, Level: j.predicate.Level,
		WeightsDigest: j.predicate.WeightsDigest, Attestations: storedForms(stored), Skipped: staged.Skipped,
	}
	for _, it := range j.items {
		f := pushedFile{Path: it.path, Digest: it.descriptor.Digest.String(), Size: it.descriptor.Size, Format: it.format()}
		if it.plan != nil {
			f.ConvertedFrom, f.SourceDigest = it.file.Path, "sha256:"+it.proof.SourceDigest
			for _, a := range it.plan.Aliases {
				f.Ties = append(f.Ties, a.Removed)
			}
			for _, d := range it.plan.Dropped {
				f.Dropped = append(f.Dropped, fmt.Sprintf("%s (%s)", d.Path, d.Kind))
			}
		}
		p.Files = append(p.Files, f)
	}
	return p
}

func (j *pushJob) printPushedText(s *streams, p *pushed, signed string) error {
	for _, it := range j.items {
		if it.plan != nil {
			warn(s, it.path, it.plan.Warnings)
		}
	}
	for _, f := range p.Files {
		line := fmt.Sprintf("%s  %s", f.Path, bytesText(f.Size))
		if f.ConvertedFrom != "" {
			line += "  converted from " + f.ConvertedFrom
			if n := len(f.Ties); n > 0 {
				line += fmt.Sprintf(", %s", plural(n, "tied name"))
			}
			if n := len(f.Dropped); n > 0 {
				line += fmt.Sprintf(", %s beside the weights left behind", plural(n, "entry"))
			}
		}
		fmt.Fprintln(s.err, printable(line))
	}
	fmt.Fprintf(s.err, "%s, ST%d, %s, %s\n", p.Result, p.Level, plural(j.predicate.Summary.Tensors, "tensor"), signed)
	_, _, reasons := j.predicate.Evaluate()
	for _, r := range reasons {
		fmt.Fprintf(s.err, "  %s\n", printable(r))
	}
	_, err := fmt.Fprintln(s.out, p.Reference)
	return err
}

func storedForms(stored *attest.Stored) []attestation {
	if stored == nil {
		return []attestation{}
	}
	form := func(name string, d ocispec.Descriptor) attestation {
		return attestation{Form: name, Digest: d.Digest.String()}
	}
	return []attestation{form("sigstore-bundle", stored.Bundle), form("cosign-legacy", stored.Legacy)}
}

func printJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(hashCommand.ReplaceAll(escapeJSON(b.Bytes()), []byte(`#\u0023$1`)))
	return err
}

// escapeJSON writes what a terminal would obey or not show as JSON's escapes,
// which mean the same: such characters stand in strings only.
func escapeJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, func(r rune) bool { return isControl(r) || isInvisible(r) }) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if !isControl(r) && !isInvisible(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.Bytes()
}
