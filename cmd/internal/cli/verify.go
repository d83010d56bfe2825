package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
)

type verifyOptions struct {
	registry registryFlags
	progress progressFlags
	trust    trustFlags
	policy   string
	deep     bool
	output   string
	results  resultFlags
}

func newVerify(s *streams) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify REF",
		Short: "Verify a model's attestation, without its weights",
		Long: `Verify that a model carries a safetensors compliance statement that a trusted key, or
the holder of a trusted identity, signed over exactly this manifest, and that the policy
allows what it says. No weights are fetched; with --deep the headers and all tensors are
read again from the registry and compared with the statement.`,
		Example: `  weightseal verify registry.example/team/model:v1 --key cosign.pub
  weightseal verify registry.example/team/model:v1 --key cosign.pub --deep
  weightseal verify registry.example/team/model:v1 --trusted-root trusted_root.json \
    --certificate-identity me@example.com --certificate-oidc-issuer https://accounts.example`,
		Args: exactArgs("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), s, args[0], &o)
		},
	}
	f := cmd.Flags()
	o.trust.add(f)
	f.BoolVar(&o.deep, "deep", false, "read headers and tensors from the registry and compare them with the statement")
	f.StringVarP(&o.output, "output", "o", "text", "text, json, or statement (the signed payload)")
	o.results.add(f, verifyResults())
	addPolicy(f, &o.policy)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

func runVerify(ctx context.Context, s *streams, ref string, o *verifyOptions) error {
	if err := oneOf("output", o.output, "text", "json", "statement"); err != nil {
		return err
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	if err := o.results.check(verifyResults()); err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	if !o.trust.given() {
		return usage("name the key that signed it: --key cosign.pub, or an identity: --certificate-identity", "nobody to trust: --key is missing")
	}
	trusted, err := o.trust.load(s)
	if err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	checked, err := verifyReference(ctx, ref, trusted, o.policy, opt)
	if err != nil {
		return err
	}
	var deep []attest.Check
	if o.deep && checked.decision.Allowed {
		if deep, err = checked.deep(ctx, bar); err != nil {
			return err
		}
	}
	bar.finish("read")
	return printVerified(s, o, checked, deep)
}

// checkedModel is an artifact whose attestation has been verified.
type checkedModel struct {
	store     oci.Store
	manifest  []byte
	subject   ocispec.Descriptor
	verified  *attest.Verified
	predicate attest.Predicate
	decision  *policy.Decision
}

// verifyReference resolves a reference once and verifies what it leads to. The
// digest found here is used for everything that follows. Where the reference
// leads somewhere and cannot be verified, what it leads to comes with the error.
func verifyReference(ctx context.Context, ref string, trusted attest.Trust, policyName string, opt oci.Options) (*checkedModel, error) {
	p, err := loadPolicy(policyName)
	if err != nil {
		return nil, err
	}
	store, tag, err := oci.Open(ref, opt)
	if err != nil {
		return nil, err
	}
	subject, manifest, err := resolve(ctx, store, tag)
	if err != nil {
		return nil, err
	}
	c := &checkedModel{store: store, manifest: manifest, subject: subject}
	if c.verified, err = attest.Verify(ctx, store, subject, trusted); err != nil {
		return c, err
	}
	c.predicate = c.verified.Predicate()
	c.decision = p.Artifact(artifactFacts(&c.predicate))
	return c, nil
}

// resolve finds a tag or digest, once, and fetches the manifest behind it.
func resolve(ctx context.Context, store oci.Store, tag string) (ocispec.Descriptor, []byte, error) {
	d, err := store.Resolve(ctx, tag)
	if err != nil {
		return d, nil, err
	}
	manifest, err := store.Manifest(ctx, d)
	return d, manifest, err
}

func artifactFacts(p *attest.Predicate) policy.ArtifactFacts {
	result, level, _ := p.Evaluate()
	facts := policy.ArtifactFacts{Result: result, Level: level}
	for _, f := range p.Files {
		facts.Files = append(facts.Files, policy.ArtifactFile{Path: f.Path, Format: f.Format.Detected, Role: f.Role})
	}
	return facts
}

// deep reads every safetensors file from the registry: first its header, by
// range, then all of it, through the verifying reader.
func (c *checkedModel) deep(ctx context.Context, bar *progress) ([]attest.Check, error) {
	files, err := oci.Files(c.manifest)
	if err != nil {
		return nil, err
	}
	entries := map[string]attest.FileEntry{}
	for _, e := range c.predicate.Files {
		entries[e.Path] = e
	}
	byFile := map[string][]safetensors.TensorDigest{}
	files = slices.DeleteFunc(files, func(f oci.File) bool { return entries[f.Path].Safetensors == nil })
	bar.expect(len(files), sizeOfFiles(files))
	for _, f := range files {
		e := entries[f.Path]
		if byFile[f.Path], err = c.deepFile(ctx, f, e.Safetensors, bar); err != nil {
			return nil, err
		}
	}
	if got := weightsDigest(byFile); got != c.predicate.WeightsDigest {
		return nil, mismatch("weights digest", got, c.predicate.WeightsDigest)
	}
	return []attest.Check{{Name: attest.ContentsCheck, Done: true,
		Detail: fmt.Sprintf("headers and tensors of %s read from the registry; weights digest %s", plural(len(byFile), "file"), c.predicate.WeightsDigest)}}, nil
}

func (c *checkedModel) deepFile(ctx context.Context, f oci.File, want *attest.SafetensorsInfo, bar *progress) ([]safetensors.TensorDigest, error) {
	blob, err := c.store.Blob(ctx, f.Descriptor)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	header, err := checkHeader(f.Path, blob, want)
	if err != nil {
		return nil, err
	}
	body, err := c.store.Fetch(ctx, f.Descriptor)
	if err != nil {
		return nil, err
	}
	digester := safetensors.NewDigester(header)
	seen := bar.track("read", f.Path, f.Size)
	_, err = io.CopyBuffer(io.MultiWriter(digester, seen), body, make([]byte, 1<<20))
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	seen.done()
	tensors, err := digester.Sum()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	set, err := safetensors.SetDigest(tensors)
	if err == nil && "sha256:"+set != want.TensorSetDigest {
		err = mismatch(f.Path+": tensor-set digest", "sha256:"+set, want.TensorSetDigest)
	}
	return tensors, err
}

// checkHeader reads a safetensors header strictly and compares it with the
// signed statement.
func checkHeader(path string, blob model.Blob, want *attest.SafetensorsInfo) (*safetensors.Header, error) {
	header, err := safetensors.ReadHeader(blob, blob.Size())
	if err == nil {
		err = header.Strict()
	}
	if err != nil {
		return nil, fail(exitAttestation, fmt.Errorf("%s: attested as safetensors, but: %w", path, err))
	}
	digest, err := headerDigest(blob, header)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if digest != want.HeaderDigest || header.DataStart() != want.HeaderSize {
		return nil, mismatch(path+": header digest", digest, want.HeaderDigest)
	}
	return header, nil
}

func mismatch(what, got, want string) error {
	return fail(exitAttestation, fmt.Errorf("%s is %s, the statement says %s", what, orNone(got), orNone(want)))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// verifiedOutput is what verify prints as JSON.
type verifiedOutput struct {
	SchemaVersion int              `json:"schemaVersion"`
	Reference     string           `json:"reference"`
	Digest        string           `json:"digest"`
	Allowed       bool             `json:"allowed"`
	Result        string           `json:"result"`
	Level         int              `json:"level"`
	WeightsDigest string           `json:"weightsDigest,omitempty"`
	Policy        *policy.Decision `json:"policy"`
	Checks        []attest.Check   `json:"checks"`
}

func printVerified(s *streams, o *verifyOptions, c *checkedModel, deep []attest.Check) error {
	result, level, reasons := c.predicate.Evaluate()
	digest := c.subject.Digest.String()
	checks := c.verified.Checks()
	if deep != nil {
		checks = slices.DeleteFunc(checks, func(ch attest.Check) bool { return ch.Name == attest.ContentsCheck })
		checks = append(checks, deep...)
	}
	v := &verifiedOutput{
		SchemaVersion: 1, Reference: c.store.Reference(digest), Digest: digest, Allowed: c.decision.Allowed,
		Result: result, Level: level, WeightsDigest: c.predicate.WeightsDigest, Policy: c.decision, Checks: checks,
	}
	if err := announceVerified(s, v, &o.results); err != nil {
		return err
	}
	switch o.output {
	case "statement":
		fmt.Fprintf(s.out, "%s\n", c.verified.Payload())
	case "json":
		if err := printJSON(s.out, v); err != nil {
			return err
		}
	default:
		c.printChecks(s.page(), checks, result, level, reasons)
	}
	return denied(s, c.decision)
}

// printChecks says to people what was checked, and what came of it.
func (c *checkedModel) printChecks(p *page, checks []attest.Check, result string, level int, reasons []string) {
	fmt.Fprintln(p, p.paint(strong, c.store.Reference(c.subject.Digest.String())))
	for _, ch := range checks {
		mark, st := "checked", good
		if !ch.Done {
			mark, st = "not checked", doubtful
		}
		room := 0
		if p.columns > 0 {
			room = max(p.columns-15, 20)
		}
		head := p.paint(st, padded(mark, 11, false))
		for _, l := range wrapped(ch.Name+": "+printable(ch.Detail), room) {
			fmt.Fprintf(p, "  %s  %s\n", head, l)
			head = padded("", 11, false)
		}
	}
	allowed := allowedText(c.decision)
	fmt.Fprintf(p, "  %s, ST%d, policy %s: %s\n", p.paint(verdictStyle(result), result), level, c.decision.Policy, p.paint(verdictStyle(allowed), allowed))
	for _, r := range reasons {
		p.paragraph("    ", printable(r))
	}
}

func allowedText(d *policy.Decision) string {
	if d.Allowed {
		return "allowed"
	}
	return "denied"
}

// denied is the error for an artifact that the policy does not allow; nil when
// it does.
func denied(s *streams, d *policy.Decision) error {
	if d.Allowed {
		return nil
	}
	for _, r := range d.Refusals() {
		at := ""
		if r.Path != "" {
			at = path.Clean(r.Path) + ": "
		}
		fmt.Fprintf(s.err, "denied: %s%s\n", printable(at), printable(r.Reason))
	}
	return fail(exitPolicy, fmt.Errorf("policy %s does not allow this model", d.Policy))
}
