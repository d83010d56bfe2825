package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sort"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format/numpy"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/scan"
)

// pushJob is a model on its way out: judged, planned, decided about.
type pushJob struct {
	model     *model.Model
	report    *scan.Report
	policy    *policy.Policy
	decision  *policy.Decision
	set       *convert.Set
	renames   []convert.Rename
	items     []*item           // the files of the artifact, sorted by path
	from      *origin           // nil for a model on disk
	predicate *attest.Predicate // as it was attested
}

// item is one file of the artifact.
type item struct {
	path    string     // in the artifact
	file    model.File // the source file
	plan    *convert.Plan
	blob    model.Blob // of a kept file
	content []byte     // of a file that was written anew
	header  *safetensors.Header

	recorder   *convert.Recorder     // of the upload that counted
	digester   *safetensors.Digester // of the upload that counted
	seen       *convert.Witness
	proof      *convert.Proof
	tensors    []safetensors.TensorDigest
	descriptor ocispec.Descriptor
}

// prepare reads directories, headers and pickles of a model, never a tensor,
// and decides what is to happen to each file.
func prepare(ctx context.Context, source string, opt oci.Options, o *pushOptions, bar *progress) (*pushJob, error) {
	p, err := loadPolicy(o.policy)
	if err != nil {
		return nil, err
	}
	m, from, err := openModel(ctx, source, opt)
	if err != nil {
		return nil, err
	}
	if err := o.selection.apply(m); err != nil {
		return nil, err
	}
	if len(m.Files) == 0 {
		return nil, usage("see what is there: ls "+policy.ShellQuote(source), "%s: no files to push", source)
	}
	bar.say("scan", source)
	scanner := thorough()
	scanner.Progress = func(e scan.Event) { bar.scanned(e, 0) }
	report, err := scanner.Run(ctx, m)
	if err != nil {
		return nil, err
	}
	bar.again()
	j := &pushJob{model: m, report: report, policy: p, from: from, renames: o.convert.Rename}
	var planErr error
	copt := o.convert
	copt.To, copt.Select, copt.WeightsOnly = model.Safetensors, o.selectPath, o.weightsOnly || o.selectPath != ""
	copt.SplitQuantized, copt.SplitSparse = o.split.quantized, o.split.sparse
	j.set, planErr = convert.Model(ctx, m, copt, j.unplannable(p))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	failures := j.failures(planErr)
	j.decision = p.Push(j.facts(failures))
	if planErr != nil && j.decision.Allowed {
		j.close()
		return nil, planErr
	}
	if !j.decision.Allowed {
		return j, nil
	}
	if err := j.open(ctx); err != nil {
		j.close()
		return nil, err
	}
	if j.policy.MinLevel() > 0 && !slices.ContainsFunc(j.items, func(it *item) bool { return it.header != nil }) {
		j.close()
		return nil, fail(exitPolicy, fmt.Errorf("%s: no weights in it, and policy %s is about models with safetensors weights; nothing was uploaded", source, p.Name()), "see what it holds: weightseal scan "+policy.ShellQuote(source))
	}
	return j, nil
}

// unplannable says which files are not worth planning: the scan has refused
// them already, or they are not to be converted.
func (j *pushJob) unplannable(p *policy.Policy) func(model.File) bool {
	wanted := make(map[string]bool, len(j.report.Files))
	for _, f := range j.report.Files {
		wanted[f.Path] = p.Converts(formatOf(&f)) && f.Verdict != scan.Unsafe
	}
	return func(f model.File) bool { return !wanted[f.Path] || f.Training }
}

// formatOf is a file's format as a policy has it: a compressed stream in which
// the scan found nothing but a pickle is a file of joblib's.
func formatOf(f *scan.FileReport) string {
	other := slices.ContainsFunc(f.Findings, func(x scan.Finding) bool { return !strings.HasPrefix(x.Rule, "WS-PICKLE-") })
	if compressed(f.Format) && (f.Verdict == scan.Convertible || f.Verdict == scan.Review && len(f.Findings) > 0 && !other) {
		return "joblib"
	}
	return string(f.Format)
}

// failures assigns what went wrong while planning to the files: a clash of
// names to all that take part in it.
func (j *pushJob) failures(err error) map[string]error {
	byPath := map[string]error{}
	for _, e := range flatten(err) {
		var file *convert.FileError
		var clash *convert.ClashError
		switch {
		case errors.As(e, &file):
			byPath[file.Path] = file.Err
		case errors.As(e, &clash):
			for _, path := range clash.Inputs {
				byPath[path] = e
			}
		}
	}
	return byPath
}

// flatten lists the errors that errors.Join put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

func (j *pushJob) facts(failures map[string]error) []policy.FileFacts {
	training, head := map[string]bool{}, map[string]string{}
	for _, f := range j.model.Files {
		training[f.Path] = f.Training
		head[f.Path] = cmp.Or(f.Set, f.Path) // the file that stands for its checkpoint
	}
	facts := make([]policy.FileFacts, 0, len(j.report.Files))
	for _, r := range j.report.Files {
		f := policy.FileFacts{Path: r.Path, Format: formatOf(&r), Role: string(r.Role), Verdict: r.Verdict.String(), Training: training[r.Path]}
		if r.Err != nil {
			f.ReadError = r.Err.Error()
		}
		for _, x := range r.Findings {
			f.Findings = append(f.Findings, policy.FindingFact{Rule: x.Rule, Message: x.Message + place(x), Verdict: x.Verdict.String(), Fix: x.Fix})
		}
		if j.policy.Converts(f.Format) && r.Verdict != scan.Unsafe && !f.Training {
			f.Conversion = j.conversionFact(head[r.Path], cmp.Or(failures[head[r.Path]], noConverter(r.Format)))
		}
		facts = append(facts, f)
	}
	return facts
}

// noConverter is the error for a format that nothing converts; nil when
// something does.
func noConverter(f model.Format) error {
	for _, c := range convert.Default() {
		if c.To() == model.Safetensors && slices.Contains(c.From(), f) {
			return nil
		}
	}
	return &convert.NoConverterError{From: f, To: model.Safetensors}
}

func (j *pushJob) conversionFact(path string, err error) *policy.ConversionFact {
	if err != nil {
		f := classify(err)
		c := &policy.ConversionFact{Error: err.Error(), Next: strings.Join(f.hints, "; or ")}
		var forbidden *torch.ForbiddenError
		c.Forbidden = errors.As(err, &forbidden) && !forbidden.Inert || errors.As(err, new(*numpy.ForbiddenError))
		return c
	}
	c := &policy.ConversionFact{Output: convert.OutputPath(path, model.Safetensors)}
	if j.set != nil {
		if out := j.set.Outputs(path); out != "" {
			c.Output = out
		}
	}
	return c
}

// open makes the list of files that go up.
func (j *pushJob) open(ctx context.Context) error {
	for _, p := range j.set.Plans {
		j.items = append(j.items, &item{path: p.Path, file: j.fileOf(p.Source.Path), plan: p, header: p.Header})
	}
	for _, m := range j.set.Made {
		it := &item{path: m.Path, content: m.Content, file: model.File{Entry: model.Entry{Path: m.Path}, Role: model.Config}}
		if m.From != "" {
			it.file = j.fileOf(m.From)
		}
		j.items = append(j.items, it)
	}
	for _, f := range j.set.Kept {
		it := &item{path: f.Path, file: f}
		j.items = append(j.items, it)
		var err error
		if it.blob, err = j.model.Open(ctx, f.Path); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if f.Format == model.Safetensors {
			if it.header, err = safetensors.ReadHeader(it.blob, it.blob.Size()); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		}
	}
	sort.Slice(j.items, func(a, b int) bool { return j.items[a].path < j.items[b].path })
	paths := make([]string, len(j.items))
	for i, it := range j.items {
		paths[i] = it.path
	}
	return model.CheckPaths(paths)
}

func (j *pushJob) fileOf(path string) model.File {
	for _, f := range j.model.Files {
		if f.Path == path {
			return f
		}
	}
	return model.File{Entry: model.Entry{Path: path}}
}

func (j *pushJob) close() {
	if j.set != nil {
		for _, p := range j.set.Plans {
			p.Close()
		}
	}
	for _, it := range j.items {
		if it.blob != nil {
			it.blob.Close()
		}
	}
}

func (it *item) format() string {
	switch {
	case it.plan != nil:
		return string(model.Safetensors)
	case it.content != nil:
		return string(model.JSON)
	}
	return string(it.file.Format)
}

func (it *item) reader() io.ReaderAt {
	switch {
	case it.plan != nil:
		return it.plan
	case it.content != nil:
		return strings.NewReader(string(it.content))
	}
	return it.blob
}

func (it *item) size() int64 {
	switch {
	case it.plan != nil:
		return it.plan.Size()
	case it.content != nil:
		return int64(len(it.content))
	}
	return it.blob.Size()
}

func (it *item) unchanged() error {
	switch {
	case it.plan != nil:
		return it.plan.Unchanged()
	case it.blob != nil:
		return it.blob.Unchanged()
	}
	return nil
}

// tap makes the writer that sees the file's bytes on their way: it digests the
// tensors. nil for files without tensors.
func (it *item) tap() oci.HashingTap {
	switch {
	case it.plan != nil:
		it.recorder = it.plan.NewRecorder()
		return it.recorder
	case it.header != nil:
		it.digester = safetensors.NewDigester(it.header)
		return it.digester
	}
	return nil
}

// artifact describes the upload. Files that the registry probably has are
// hashed first, so that they need not be sent.
func (j *pushJob) artifact(ctx context.Context, concurrency int, previous map[string]oci.File, bar *progress) (oci.Artifact, error) {
	layers := make([]oci.Layer, len(j.items))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, it := range j.items {
		layers[i] = oci.Layer{Path: it.path, Content: oci.Content{MediaType: it.mediaType(), Reader: it.reader(), Size: it.size()}}
		if it.header != nil {
			layers[i].Content.Tap = func() io.Writer { return it.tap() }
		}
		if prev, ok := previous[it.path]; ok && prev.Size == it.size() || it.plan == nil && it.file.Digest != "" {
			g.Go(func() (err error) {
				layers[i].Content.Digest, err = it.hash(ctx, bar)
				layers[i].Content.Tap = nil
				return err
			})
		}
	}
	err := g.Wait()
	return oci.Artifact{Layers: layers, Config: j.config()}, err
}

// hash reads the file once, for its digest and those of its tensors.
func (it *item) hash(ctx context.Context, bar *progress) (string, error) {
	sum := sha256.New()
	w := io.Writer(sum)
	if it.header != nil {
		w = hashingWriter{it.tap(), sum}
	}
	if err := it.copyTo(ctx, io.MultiWriter(w, bar.track("hash", it.path, it.size()))); err != nil {
		return "", fmt.Errorf("%s: %w", it.path, err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// hashingWriter hashes whatever the tap takes.
type hashingWriter struct {
	oci.HashingTap
	whole hash.Hash
}

func (w hashingWriter) Write(p []byte) (int, error) { return w.WriteHashing(p, w.whole) }

// copyTo reads the whole file into w.
func (it *item) copyTo(ctx context.Context, w io.Writer) error {
	r := &contextReader{ctx: ctx, r: io.NewSectionReader(it.reader(), 0, it.size())}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 1<<20))
	if err == nil && n != it.size() {
		err = fmt.Errorf("read %d of %d bytes: %w", n, it.size(), io.ErrUnexpectedEOF)
	}
	return err
}

// contextReader ends reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (it *item) role() model.Role {
	if it.plan != nil {
		return model.Weight
	}
	return it.file.Role
}

// mediaType is the ModelPack class of the file.
func (it *item) mediaType() string {
	switch it.role() {
	case model.Weight:
		return oci.WeightMediaType
	case model.Config, model.Tokenizer:
		return oci.WeightConfigMediaType
	case model.Code:
		return oci.CodeMediaType
	}
	return oci.DocMediaType
}

// refusal prints every file that is refused, and gives the error that ends the
// command.
func refusal(s *streams, output string, d *policy.Decision) error {
	refused := d.Refusals()
	if output == "json" {
		if err := printDecision(s, d); err != nil {
			return err
		}
	}
	p := s.errPage()
	together := leftOut(refused)
	for _, f := range refused {
		fmt.Fprintf(p, "%s %s: %s\n", p.paint(bad, "refused:"), printable(f.Path), printable(f.Reason))
		if f.Hint != "" && !slices.Contains(together, f.Path) {
			fmt.Fprintf(p, "%s %s\n", p.paint(doubtful, "hint:"), printable(f.Hint))
		}
	}
	if len(together) > 0 {
		fmt.Fprintf(p, "%s leave them out: --exclude %s\n", p.paint(doubtful, "hint:"), printable(quoted(together, " --exclude ")))
	}
	code := exitError
	switch d.Worst() {
	case policy.Violation:
		code = exitPolicy
	case policy.Inconvertible:
		code = exitLossy
	}
	return &failure{
		code: code, err: fmt.Errorf("policy %s refuses %s of %d; nothing was uploaded", d.Policy, plural(len(refused), "file"), len(d.Files)),
		aided: slices.ContainsFunc(refused, func(f policy.FileDecision) bool { return f.Hint != "" }),
	}
}

// leftOut are the files that a push can do without, where there are several: one
// hint for all of them can be pasted.
func leftOut(refused []policy.FileDecision) []string {
	var paths []string
	for _, f := range refused {
		if f.Hint == "leave it out: --exclude "+policy.ShellQuote(f.Path) {
			paths = append(paths, f.Path)
		}
	}
	if len(paths) < 2 {
		return nil
	}
	return paths
}

// plural counts things: 1 file, 2 files, 2 entries.
func plural(n int, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "y"):
		thing = strings.TrimSuffix(thing, "y") + "ies"
	default:
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// printDecision prints what is decided about every file, as JSON.
func printDecision(s *streams, d *policy.Decision) error {
	return printJSON(s.out, struct {
		SchemaVersion int `json:"schemaVersion"`
		*policy.Decision
	}{1, d})
}

// printDryRun shows the decision about every file.
func printDryRun(s *streams, output string, j *pushJob) error {
	if output == "json" && j.decision.Allowed {
		return printDecision(s, j.decision)
	}
	if output == "json" {
		return refusal(s, output, j.decision)
	}
	t := newTable(
		column{title: "FILE", cut: cutMiddle, least: 16}, column{title: "ACTION"},
		column{title: "RESULT", cut: cutMiddle, least: 12, drop: 2}, column{title: "WHY", cut: cutEnd, least: 12, drop: 1},
	)
	for _, f := range j.decision.Files {
		result := f.Output
		if f.Action == policy.Keep {
			result = f.Path
		}
		action := string(f.Action)
		t.row(text(f.Path), styled(verdictStyle(action), action), text(cmp.Or(result, "-")), text(f.Reason))
	}
	if err := t.print(s.page()); err != nil {
		return err
	}
	if j.decision.Allowed {
		_, err := fmt.Fprintln(s.err, "nothing was uploaded (--dry-run)")
		return err
	}
	return refusal(s, output, j.decision)
}

// convertMemory is what the values of one pickle may take where it is going to
// be converted, which keeps them anyway.
const convertMemory = 256 << 20

// thorough is the scanner of who converts what it finds.
func thorough() scan.Scanner {
	return scan.Scanner{Detectors: scan.Default(), Memory: convertMemory}
}
