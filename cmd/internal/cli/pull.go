package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/scan"
)

type pullOptions struct {
	registry  registryFlags
	progress  progressFlags
	trust     trustFlags
	noVerify  bool
	policy    string
	overwrite bool
	scan      bool
	failOn    string
	output    string
}

func newPull(s *streams) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull REF DIR",
		Short: "Verify a model, then download it",
		Long: `Pull a model into a directory. The reference is resolved once; then the attestation
and the policy are checked, the files are downloaded beside DIR, every digest and every
safetensors header is checked, and only when all of it has passed does DIR appear.`,
		Example: `  weightseal pull registry.example/team/model:v1 ./model --key cosign.pub
  weightseal pull oci:layout:v1 ./model --key cosign.pub
  weightseal pull registry.example/team/model:v1 ./model --no-verify --scan`,
		Args: exactArgs("REF", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPull(cmd.Context(), s, args[0], args[1], &o)
		},
	}
	f := cmd.Flags()
	o.trust.add(f)
	f.BoolVar(&o.noVerify, "no-verify", false, "take a model without an attestation; its content is still scanned against the policy")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace DIR, and all that is in it, when it is there and not empty")
	f.BoolVar(&o.scan, "scan", false, "scan what was downloaded, before DIR appears")
	f.StringVar(&o.failOn, "fail-on", "", "lowest `verdict` that --scan refuses: convertible (the default), review, unknown, unsafe")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	addPolicy(f, &o.policy)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

func runPull(ctx context.Context, s *streams, ref, dir string, o *pullOptions) error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	if o.noVerify && o.trust.given() {
		return usage("leave one of them out: --key cosign.pub verifies, --no-verify does not", "--key and --no-verify exclude each other")
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	failOn, err := o.verdict()
	if err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	if dir, err = resolvedPath(dir); err != nil {
		return fail(exitUsage, err)
	}
	if err := checkTarget(dir, o.overwrite); err != nil {
		return err
	}
	if err := errors.Join(checkNotHere(dir), checkApart(ref, dir)); err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	c, err := o.open(ctx, s, ref, opt)
	if err != nil {
		return err
	}
	files, err := oci.Files(c.manifest)
	if err != nil {
		return err
	}
	staging, err := stagingDir(dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	bar.expect(len(files), sizeOfFiles(files))
	if err := oci.Pull(ctx, c.store, files, staging, opt, bar.event); err != nil {
		return err
	}
	bar.say("check", fmt.Sprintf("%d files", len(files)))
	if err := c.recheck(ctx, s, staging, o.policy); err != nil {
		return err
	}
	verdict := scan.Verdict(0)
	if o.scan {
		bar.again()
		bar.say("scan", fmt.Sprintf("%d files", len(files)))
		if verdict, err = scanPulled(ctx, s, ref, staging, failOn, bar); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := publishDir(staging, dir, o.overwrite); err != nil {
		return err
	}
	bar.finish("downloaded")
	return printPulled(s, o.output, c, files, dir, verdict)
}

func sizeOfFiles(files []oci.File) (n int64) {
	for _, f := range files {
		n += f.Size
	}
	return n
}

// verdict is the one that --scan refuses, and all above it.
func (o *pullOptions) verdict() (scan.Verdict, error) {
	switch {
	case o.failOn != "" && !o.scan:
		return 0, usage("add --scan", "--fail-on says what --scan refuses, and --scan is missing")
	case o.failOn == "":
		return scan.Convertible, nil
	}
	v, err := scan.ParseVerdict(o.failOn)
	if err != nil {
		return 0, usage("--fail-on review", "--fail-on: %w", err)
	}
	return v, nil
}

// scanPulled scans what was downloaded. When that is refused, the report says
// why.
func scanPulled(ctx context.Context, s *streams, ref, dir string, failOn scan.Verdict, bar *progress) (scan.Verdict, error) {
	src, err := newScanSource(model.Dir(dir), &selection{})
	if err != nil {
		return 0, err
	}
	job := &scanJob{source: ref, files: src}
	if job.model, job.report, err = src.run(ctx, ref, convertMemory, bar); err != nil {
		return 0, err
	}
	out := newScanOutput(failOn)
	accept := func(*scanFile, func() (string, error)) error { return nil }
	if err := out.add(ctx, job, accept); err != nil {
		return 0, err
	}
	if err := out.err(); err != nil {
		bar.close()
		return 0, errors.Join(err, printScan(s.errPage(), out))
	}
	return out.Verdict, nil
}

// open verifies the reference, or only resolves it with --no-verify.
func (o *pullOptions) open(ctx context.Context, s *streams, ref string, opt oci.Options) (*checkedModel, error) {
	if !o.noVerify {
		if !o.trust.given() {
			return nil, usage("name the key that signed it: --key cosign.pub (or --no-verify, and only the content is checked)",
				"a pull is verified: --key is missing")
		}
		trusted, err := o.trust.load(s)
		if err != nil {
			return nil, err
		}
		c, err := verifyReference(ctx, ref, trusted, o.policy, opt)
		if err != nil {
			return nil, err
		}
		return c, denied(s, c.decision)
	}
	store, tag, err := oci.Open(ref, opt)
	if err != nil {
		return nil, err
	}
	subject, manifest, err := resolve(ctx, store, tag)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(s.err, "warning: no attestation is verified (--no-verify)")
	return &checkedModel{store: store, manifest: manifest, subject: subject}, nil
}

// recheck looks at what was downloaded, not at what was promised: every file
// is what the statement says, every safetensors file is strictly valid with
// the signed header, and the scan finds nothing that the policy refuses.
func (c *checkedModel) recheck(ctx context.Context, s *streams, dir, policyName string) error {
	m, err := model.Load(ctx, dir, model.Dir(dir))
	if err != nil {
		return err
	}
	if c.verified != nil {
		return c.recheckAttested(ctx, m)
	}
	report, err := thorough().Run(ctx, m)
	if err != nil {
		return err
	}
	p, err := loadPolicy(policyName)
	if err != nil {
		return err
	}
	j := &pushJob{model: m, report: report, policy: p}
	d := p.Push(j.facts(nil))
	for i, f := range d.Files {
		if p.Converts(formatOf(&report.Files[i])) {
			d.Files[i].Reason = string(report.Files[i].Format) + " is pickle-based: " + f.Reason
			d.Files[i].Action, d.Files[i].Class, d.Allowed = policy.Refuse, policy.Violation, false
		}
	}
	return denied(s, d)
}

func (c *checkedModel) recheckAttested(ctx context.Context, m *model.Model) error {
	entries := map[string]attest.FileEntry{}
	for _, e := range c.predicate.Files {
		entries[e.Path] = e
	}
	for _, f := range m.Files {
		e, ok := entries[f.Path]
		if !ok || e.Size != f.Size {
			return fail(exitAttestation, fmt.Errorf("%s: not in the statement", f.Path))
		}
		if e.Format.Detected != string(f.Format) {
			return mismatch(f.Path+": format", string(f.Format), e.Format.Detected)
		}
		if f.Format != model.Safetensors {
			continue
		}
		if e.Safetensors == nil {
			return mismatch(f.Path+": safetensors header", "there", "")
		}
		if err := recheckFile(ctx, m, f, e.Safetensors); err != nil {
			return err
		}
	}
	if len(m.Files) != len(c.predicate.Files) {
		return fail(exitAttestation, fmt.Errorf("%d files arrived, the statement lists %d", len(m.Files), len(c.predicate.Files)))
	}
	return nil
}

func recheckFile(ctx context.Context, m *model.Model, f model.File, want *attest.SafetensorsInfo) error {
	blob, err := m.Open(ctx, f.Path)
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = checkHeader(f.Path, blob, want)
	return err
}

// checkNotHere refuses the working directory and those above it: a directory
// appears in one step, by a rename, and whoever stands in it would be left in
// one that is gone.
func checkNotHere(dir string) error {
	here, err := resolvedPath(".")
	if err == nil && within(here, dir) {
		return usage("give the model a directory of its own: ./NAME", "%s is the working directory, or holds it", dir)
	}
	return err
}

// resolvedPath gives the absolute path without links. What is not there yet
// keeps its name; a link that leads nowhere is an error.
func resolvedPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(abs); errors.Is(err, fs.ErrNotExist) {
		return abs, nil
	}
	return filepath.EvalSymlinks(abs)
}

// checkApart refuses to replace the layout that is pulled from, or a directory
// that holds it, or to write into it.
func checkApart(ref, dir string) error {
	rest, ok := strings.CutPrefix(ref, "oci:")
	if !ok {
		return nil
	}
	// The reference may end in a tag or digest; every shorter form that
	// exists is compared.
	for {
		if layout, err := resolvedPath(rest); err == nil && (within(layout, dir) || within(dir, layout)) {
			if _, err := os.Stat(layout); err == nil {
				return usage("choose a directory apart from the layout", "%s and the layout %s lie in each other", dir, rest)
			}
		}
		i := strings.LastIndexAny(rest, ":@")
		if i <= 0 {
			return nil
		}
		rest = rest[:i]
	}
}

// within says whether path is dir or lies in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

const overwriteHint = "choose another directory, or replace this one, and all that is in it, with --overwrite"

// checkTarget says whether DIR may be written.
func checkTarget(dir string, overwrite bool) error {
	if overwrite {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			return usage("choose another name", "%s is not a directory", dir)
		}
		return nil
	}
	return checkEmpty(dir, overwriteHint)
}

// checkEmpty wants a directory that is new or empty.
func checkEmpty(dir, hint string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fail(exitUsage, err)
	case len(entries) > 0:
		return usage(hint, "%s is not empty", dir)
	}
	return nil
}

// stagingDir makes a directory beside dir, on the same file system, so that a
// rename can publish it.
func stagingDir(dir string) (string, error) {
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return "", err
	}
	staging, err := os.MkdirTemp(parent, ".weightseal-*")
	if err != nil {
		return "", err
	}
	// MkdirTemp is for secrets; a model is as readable as its parent's other
	// folders.
	return staging, os.Chmod(staging, 0o755)
}

// publishDir gives the staging directory its final name. With overwrite what
// was there is moved aside first and comes back if the rename fails.
func publishDir(staging, dir string, overwrite bool) error {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		// An empty directory is replaced in one step on Unix; elsewhere it
		// has to go first.
		if err == nil {
			if err := os.Remove(dir); err != nil {
				return err
			}
		}
		return os.Rename(staging, dir)
	}
	if err != nil {
		return err
	}
	if !overwrite {
		return usage(overwriteHint, "%s is not empty", dir)
	}
	old := staging + ".old"
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	if err := os.Rename(staging, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

func printPulled(s *streams, output string, c *checkedModel, files []oci.File, dir string, scanned scan.Verdict) error {
	digest := c.subject.Digest.String()
	if output == "json" {
		type file struct {
			Path   string `json:"path"`
			Digest string `json:"digest"`
			Size   int64  `json:"size"`
		}
		out := struct {
			SchemaVersion int    `json:"schemaVersion"`
			Reference     string `json:"reference"`
			Digest        string `json:"digest"`
			Directory     string `json:"directory"`
			Verified      bool   `json:"verified"`
			Verdict       string `json:"verdict,omitempty"` // of --scan
			Files         []file `json:"files"`
		}{1, c.store.Reference(digest), digest, dir, c.verified != nil, "", []file{}}
		if scanned != 0 {
			out.Verdict = scanned.String()
		}
		for _, f := range files {
			out.Files = append(out.Files, file{f.Path, f.Digest.String(), f.Size})
		}
		return printJSON(s.out, out)
	}
	verified := "verified"
	if c.verified == nil {
		verified = "not verified"
	}
	if scanned != 0 {
		verified += ", " + scanned.String()
	}
	fmt.Fprintf(s.err, "%d files, %s, in %s\n", len(files), verified, printable(dir))
	_, err := fmt.Fprintln(s.out, c.store.Reference(digest))
	return err
}
