package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/scan"
)

type convertOptions struct {
	registry   registryFlags
	selection  selection
	progress   progressFlags
	to         string
	selectPath string
	write      outputFlags
	split      splitFlags
	output     string
}

// splitFlags ask for tensors of other layouts in plain parts.
type splitFlags struct{ quantized, sparse bool }

func (s *splitFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&s.quantized, "split-quantized", false, "write quantised tensors as integers, NAME.scale and NAME.zero_point")
	f.BoolVar(&s.sparse, "split-sparse", false, "write sparse tensors as NAME.indices (or the two of a compressed layout), NAME.values and NAME.size")
}

func newConvert(s *streams) *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use:   "convert IN [OUT]",
		Short: "Convert a checkpoint to safetensors, or back",
		Long: `Convert a checkpoint file, or a whole model directory, to safetensors: without Python,
without executing a pickle, bit for bit. Sharded sets keep their shards and get their
index rewritten; files that are no weights are copied. What is no tensor is listed as
left behind. With --to torch safetensors becomes a file that torch.load(weights_only=True)
reads, and with --to npz a checkpoint becomes one that numpy.load reads.

With --max-shard-size a file that is larger becomes model-00001-of-0000N.safetensors and
so on, with model.safetensors.index.json over them; OUT is the name without the number.

Everything is converted that a push needs --weights-only for, such as a module saved
whole; what is left behind is printed, and listed with --output json.

Without OUT a file is written beside IN, under the name that loaders expect:
pytorch_model.bin becomes model.safetensors. An OUT that is a file is replaced, when all
is there. OUT for a directory must be new or empty. IN can be a model in a layout
(oci:DIR:TAG) or a registry, too: OUT is a file when it has one, else a directory. What
is written has been checked against the digests in its manifest.`,
		Example: `  weightseal convert pytorch_model.bin model.safetensors
  weightseal convert checkpoint.ckpt model.safetensors --select state_dict
  weightseal convert ./my-model ./my-model-safetensors
  weightseal convert pytorch_model.bin model.safetensors --max-shard-size 5GB
  weightseal convert checkpoint.pt model.safetensors --rename '^module\.='
  weightseal convert model.safetensors pytorch_model.bin --to torch
  weightseal convert model.safetensors model.npz --to npz`,
		Args: rangeArgs(1, "IN", "OUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := ""
			if len(args) == 2 {
				out = args[1]
			}
			return runConvert(cmd.Context(), s, args[0], out, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "safetensors", "safetensors, torch or npz")
	f.StringVar(&o.selectPath, "select", "", "`path` of the weights in a nested checkpoint, such as state_dict")
	o.write.add(f)
	o.split.add(f)
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.selection.add(f)
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

func runConvert(ctx context.Context, s *streams, in, out string, o *convertOptions) error {
	if err := errors.Join(oneOf("output", o.output, "text", "json"), oneOf("to", o.to, "safetensors", "torch", "npz"), o.progress.check()); err != nil {
		return err
	}
	opt, err := o.options()
	if err != nil {
		return err
	}
	registry, err := o.registry.options(s)
	if err != nil {
		return err
	}
	m, from, err := openModel(ctx, in, registry)
	if err != nil {
		return err
	}
	if err := o.selection.apply(m); err != nil {
		return err
	}
	if len(m.Files) == 0 {
		return usage("see what is there: ls "+policy.ShellQuote(in), "%s: no files to convert", in)
	}
	bar := o.progress.start(s)
	defer bar.close()
	if from == nil && isDir(in) || from != nil && len(m.Files) > 1 {
		return convertDir(ctx, s, m, from, out, opt, o.output, bar)
	}
	return convertFile(ctx, s, m, from, in, out, opt, o.output, bar)
}

// options are what the flags say.
func (o *convertOptions) options() (convert.Options, error) {
	opt := convert.Options{
		To: model.Safetensors, Select: o.selectPath, WeightsOnly: true,
		SplitQuantized: o.split.quantized, SplitSparse: o.split.sparse,
	}
	switch o.to {
	case "torch":
		opt.To = model.TorchZip
	case "npz":
		opt.To = model.NPZ
	}
	return opt, o.write.fill(&opt)
}

func convertFile(ctx context.Context, s *streams, m *model.Model, from *origin, in, out string, opt convert.Options, output string, bar *progress) error {
	if len(m.Files) != 1 {
		return usage("weightseal convert "+policy.ShellQuote(in)+" OUTDIR", "%s holds %d files: convert one file, or a directory", in, len(m.Files))
	}
	f := m.Files[0]
	if out == "" {
		if _, err := os.Stat(in); err != nil {
			return usage("weightseal convert IN OUT", "%s is no file on disk: OUT is missing", in)
		}
		out = filepath.Join(filepath.Dir(in), convert.OutputPath(filepath.Base(in), opt.To))
	}
	if info, err := os.Stat(out); err == nil && info.IsDir() {
		out = filepath.Join(out, convert.OutputPath(f.Path, opt.To))
	}
	if info, err := os.Stat(out); err == nil && !info.Mode().IsRegular() {
		return usage("give OUT the name of a file", "%s is no regular file", out)
	}
	if parent := filepath.Dir(out); !isDir(parent) {
		return usage("make it first: mkdir -p "+policy.ShellQuote(parent), "%s is no directory", parent)
	}
	if sameFile(in, out) {
		return usage("give OUT another name: weightseal convert "+policy.ShellQuote(in)+" OUT", "%s would be written over itself", in)
	}
	input, err := convert.OpenInput(ctx, m, f)
	if err != nil {
		return err
	}
	set, err := convert.Files(ctx, input, opt)
	if err != nil {
		_ = input.Close()
		return cannotConvert(ctx, s, m, in, err)
	}
	defer func() { _ = set.Close() }()
	var done []convertedFile
	if len(set.Plans) == 1 && from == nil {
		if err := writePlan(ctx, set.Plans[0], filepath.Base(out), out, bar); err != nil {
			return fmt.Errorf("%s: %w", in, err)
		}
		done = []convertedFile{describePlan(set.Plans[0], in, out)}
	} else if done, err = writeShards(ctx, m, set, from, in, out, bar); err != nil {
		return err
	}
	bar.finish("wrote")
	noteRename(s, opt, done)
	return printConverted(s, output, done)
}

// noteRename says that --rename has changed nothing: a slip in the expression
// would else go unnoticed.
func noteRename(s *streams, opt convert.Options, done []convertedFile) {
	if len(opt.Rename) > 0 && !slices.ContainsFunc(done, func(f convertedFile) bool { return len(f.Renamed) > 0 }) {
		fmt.Fprintln(s.err, "warning: --rename matches no tensor's name: nothing was renamed")
	}
}

// writeShards writes the files that one file becomes under names that out
// gives. They get them when all are there, the index last.
func writeShards(ctx context.Context, m *model.Model, set *convert.Set, from *origin, in, out string, bar *progress) ([]convertedFile, error) {
	if err := set.Name(filepath.Base(out)); err != nil {
		return nil, err
	}
	staging, err := stagingDir(out)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(staging)
	done, err := writeSet(ctx, m, set, from, staging, bar)
	if err != nil {
		return nil, err
	}
	for i := range done {
		target := filepath.Join(filepath.Dir(out), done[i].Output)
		if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
			return nil, usage("give OUT another name", "%s is no regular file", target)
		}
		if sameFile(in, target) {
			return nil, usage("give OUT another name: weightseal convert "+policy.ShellQuote(in)+" OUT", "%s would be written over itself", in)
		}
		done[i].Input = in
		if err := os.Rename(filepath.Join(staging, done[i].Output), target); err != nil {
			return nil, err
		}
		done[i].Output = target
	}
	return done, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// sameFile says whether two names lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// leftovers gives an error for what training leaves in a model's folder: it is
// no part of the model, and is never dropped silently.
func leftovers(m *model.Model) error {
	var paths, flags []string
	for _, f := range m.Files {
		if f.Training && wantsConversion(f, model.Safetensors) {
			paths, flags = append(paths, f.Path), append(flags, "--exclude "+policy.ShellQuote(f.Path))
		}
	}
	if len(paths) == 0 {
		return nil
	}
	hints := []string{"leave them out: " + strings.Join(flags, " ")}
	if slices.ContainsFunc(paths, policy.IsDeepSpeed) {
		hints = append(hints, "or, for the weights in them, "+policy.GatherDeepSpeed)
	}
	return fail(exitPolicy, fmt.Errorf("training leftovers are not part of a model: %s", strings.Join(paths, ", ")), hints...)
}

// cannotConvert adds to a failed conversion what the scan says of the model:
// a file that would act on whoever loads it is a matter of policy, not of
// formats.
func cannotConvert(ctx context.Context, s *streams, m *model.Model, in string, cause error) error {
	cause = fmt.Errorf("%s: %w", in, cause)
	report, err := thorough().Run(ctx, m)
	if err != nil || report.Verdict != scan.Unsafe {
		return cause
	}
	for _, f := range report.Files {
		for _, x := range f.Findings {
			if x.Verdict == scan.Unsafe {
				fmt.Fprintf(s.err, "unsafe: %s: %s%s\n", printable(f.Path), printable(x.Message), place(x))
			}
		}
	}
	failed := classify(cause)
	if failed.code == exitLossy && executes(report) {
		return fail(exitPolicy, cause, "nothing of it was executed; do not load it with Python")
	}
	return cause
}

// executes says whether an unsafe verdict is about names that a pickle would
// import, and not only about a broken container.
func executes(r *scan.Report) bool {
	for _, f := range r.Files {
		for _, x := range f.Findings {
			if x.Verdict == scan.Unsafe && x.Global != "" {
				return true
			}
		}
	}
	return false
}

// convertDir converts a model directory into a staging directory beside OUT,
// which gets its name when everything is there.
func convertDir(ctx context.Context, s *streams, m *model.Model, from *origin, out string, opt convert.Options, output string, bar *progress) error {
	if out == "" {
		return usage("weightseal convert DIR OUTDIR", "a model of several files is converted into a new directory: OUT is missing")
	}
	if err := checkEmpty(out, "choose another directory"); err != nil {
		return err
	}
	if err := leftovers(m); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := noConverter(f.Format); opt.To == model.Safetensors && wantsConversion(f, opt.To) && err != nil {
			return cannotConvert(ctx, s, m, f.Path, err)
		}
	}
	packed, err := packedArrays(ctx, m, opt)
	if err != nil {
		return err
	}
	again := rewrites(opt)
	set, err := convert.Model(ctx, m, opt, func(f model.File) bool {
		return !wantsConversion(f, opt.To) && !packed[f.Path] && !(again && f.Format == model.Safetensors)
	})
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range set.Plans {
			p.Close()
		}
	}()
	if err := checkKept(ctx, s, m, set.Kept, opt.To); err != nil {
		return err
	}
	staging, err := stagingDir(out)
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	done, err := writeSet(ctx, m, set, from, staging, bar)
	if err != nil {
		return err
	}
	if err := publishDir(staging, out, false); err != nil {
		return err
	}
	bar.finish("wrote")
	noteRename(s, opt, done)
	if len(set.Plans) == 0 {
		fmt.Fprintf(s.err, "warning: no file to convert to %s: all were copied\n", opt.To)
	}
	return printConverted(s, output, done)
}

// wantsConversion says which files of a directory are converted: every
// pickle-based one and every one of numpy, or, on the way back, every
// safetensors file; for npz both.
func wantsConversion(f model.File, to model.Format) bool {
	switch {
	case to == model.TorchZip:
		return f.Format == model.Safetensors
	case to == model.NPZ && f.Format == model.Safetensors:
		return true
	}
	switch f.Format {
	case model.TorchZip, model.TorchLegacy, model.TorchTar, model.TorchScript, model.Pickle, model.NPY, model.NPZ, model.HDF5, model.Keras, model.Flax, model.DCP, model.DCPShard:
		return true
	}
	return false
}

// packedArrays finds the compressed files that hold arrays, as joblib writes
// them; others are copied.
func packedArrays(ctx context.Context, m *model.Model, opt convert.Options) (map[string]bool, error) {
	packed := map[string]bool{}
	for _, f := range m.Files {
		if opt.To == model.TorchZip || !compressed(f.Format) {
			continue
		}
		w, err := openWeights(ctx, m, f, opt.Select)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if w != nil {
			packed[f.Path] = true
			w.close()
		}
	}
	return packed, nil
}

// rewrites says that safetensors is written anew as other safetensors.
func rewrites(opt convert.Options) bool {
	return opt.To == model.Safetensors && (opt.Output.MaxShardSize > 0 || opt.Output.Align != 0 || len(opt.Rename) > 0)
}

// checkKept looks at the files that would be copied as they are: what calls
// itself weights and is none, or is damaged, would make a broken model of a
// conversion that says it succeeded.
func checkKept(ctx context.Context, s *streams, m *model.Model, kept []model.File, to model.Format) error {
	if to != model.Safetensors {
		return nil
	}
	for _, f := range kept {
		err := checkWeights(ctx, m, f)
		var broken *safetensors.Error
		switch {
		case err == nil:
		case errors.As(err, &broken), errors.Is(err, convert.ErrNoConverter):
			return fail(classify(cannotConvert(ctx, s, m, f.Path, err)).code, fmt.Errorf("%s: %w", f.Path, err),
				"restore the file, or move it out of the directory if it holds no weights")
		default:
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}

// checkWeights gives an error for safetensors that is not valid, and for a
// file that is named like pickled weights but is of no format that has a name.
func checkWeights(ctx context.Context, m *model.Model, f model.File) error {
	switch declared := model.DeclaredFormat(f.Path); {
	case f.Format == model.Safetensors || declared == model.Safetensors:
		blob, err := m.Open(ctx, f.Path)
		if err != nil {
			return err
		}
		defer blob.Close()
		_, err = safetensors.ReadHeader(blob, blob.Size())
		return err
	case wantsConversion(model.File{Format: declared}, model.Safetensors):
		switch f.Format {
		case model.ZIP, model.TAR, model.Text, model.Empty, model.Unknown:
			return fmt.Errorf("named like %s, but the content is %s: truncated, or not downloaded: %w", declared, f.Format, convert.ErrNoConverter)
		}
	}
	return nil
}

func writeSet(ctx context.Context, m *model.Model, set *convert.Set, from *origin, dir string, bar *progress) ([]convertedFile, error) {
	var done []convertedFile
	expectSet(set, bar)
	for _, p := range set.Plans {
		target, err := makeParent(dir, p.Path)
		if err != nil {
			return nil, err
		}
		if err := writePlan(ctx, p, p.Path, target, bar); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Source.Path, err)
		}
		done = append(done, describePlan(p, p.Source.Path, p.Path))
	}
	for _, f := range set.Made {
		target, err := makeParent(dir, f.Path)
		if err != nil {
			return nil, err
		}
		if err := writeNew(target, f.Content, 0o644); err != nil {
			return nil, err
		}
		done = append(done, convertedFile{Input: f.From, Output: f.Path, Size: int64(len(f.Content))})
	}
	for _, f := range set.Kept {
		target, err := makeParent(dir, f.Path)
		if err != nil {
			return nil, err
		}
		if err := copyFile(ctx, m, f, target, bar); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		done = append(done, convertedFile{Input: f.Path, Output: f.Path, Size: f.Size})
	}
	return done, checkOrigin(ctx, set, from, dir, bar)
}

// expectSet says what writing the set will take.
func expectSet(set *convert.Set, bar *progress) {
	var bytes int64
	for _, p := range set.Plans {
		bytes += p.Size()
	}
	for _, f := range set.Kept {
		bytes += f.Size
	}
	bar.expect(len(set.Plans)+len(set.Kept), bytes)
}

// writePlan writes a converted file. It is shown under its own name: one source
// may become several files.
func writePlan(ctx context.Context, p *convert.Plan, name, target string, bar *progress) error {
	seen := bar.track("convert", name, p.Size())
	if err := p.WriteFileProgress(ctx, target, seen.at); err != nil {
		return err
	}
	seen.done()
	return nil
}

func makeParent(dir, path string) (string, error) {
	target := filepath.Join(dir, filepath.FromSlash(path))
	return target, os.MkdirAll(filepath.Dir(target), 0o755)
}

func copyFile(ctx context.Context, m *model.Model, f model.File, target string, bar *progress) error {
	seen := bar.track("copy", f.Path, f.Size)
	blob, err := m.Open(ctx, f.Path)
	if err != nil {
		return err
	}
	defer blob.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(out, seen), &contextReader{ctx: ctx, r: io.NewSectionReader(blob, 0, blob.Size())})
	if err = errors.Join(err, blob.Unchanged(), out.Close()); err == nil {
		seen.done()
	}
	return err
}

// convertedFile is what convert prints about a file as JSON.
type convertedFile struct {
	Input   string         `json:"input"`
	Output  string         `json:"output"`
	Size    int64          `json:"size"`
	Format  string         `json:"format,omitempty"` // of the output, when it was converted
	From    string         `json:"from,omitempty"`   // format of the input
	Tensors int            `json:"tensors,omitempty"`
	Subtree string         `json:"subtree,omitempty"`
	Aliases []aliasOutput  `json:"aliases,omitempty"`
	Dropped []droppedEntry `json:"dropped,omitempty"`
	Notes   []string       `json:"notes,omitempty"`
	Renamed []renamedName  `json:"renamed,omitempty"`
	// Warnings say what a reader of the output may stumble over.
	Warnings []string `json:"warnings,omitempty"`
}

type renamedName struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type aliasOutput struct {
	Removed string `json:"removed"`
	Kept    string `json:"kept"`
}

type droppedEntry struct {
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	Reason string `json:"reason,omitempty"`
}

func describePlan(p *convert.Plan, in, out string) convertedFile {
	f := convertedFile{Input: in, Output: out, Size: p.Size(), Format: string(p.Format), From: string(p.Source.Format), Tensors: len(p.Header.Tensors), Subtree: p.Subtree}
	for _, a := range p.Aliases {
		f.Aliases = append(f.Aliases, aliasOutput{a.Removed, a.Kept})
	}
	for _, d := range p.Dropped {
		f.Dropped = append(f.Dropped, droppedEntry{d.Path, d.Kind, d.Reason})
	}
	for _, n := range p.Notes {
		f.Notes = append(f.Notes, n.Detail)
	}
	for _, r := range p.Renamed {
		f.Renamed = append(f.Renamed, renamedName{r.From, r.To})
	}
	f.Warnings = p.Warnings
	return f
}

func printConverted(s *streams, output string, files []convertedFile) error {
	for _, f := range files {
		warn(s, f.Output, f.Warnings)
	}
	if output == "json" {
		return printJSON(s.out, struct {
			SchemaVersion int             `json:"schemaVersion"`
			Files         []convertedFile `json:"files"`
		}{1, files})
	}
	for _, f := range files {
		if f.Format == "" {
			if f.Input != f.Output { // not copied: an index, made anew
				fmt.Fprintf(s.out, "%s -> %s  %s\n", printable(f.Input), printable(f.Output), bytesText(f.Size))
			}
			continue
		}
		fmt.Fprintf(s.out, "%s -> %s  %s, %s\n", printable(f.Input), printable(f.Output), plural(f.Tensors, "tensor"), bytesText(f.Size))
		for _, a := range f.Aliases {
			fmt.Fprintf(s.out, "  tied: %s is %s\n", printable(a.Removed), printable(a.Kept))
		}
		for _, r := range f.Renamed {
			fmt.Fprintf(s.out, "  renamed: %s to %s\n", printable(r.From), printable(r.To))
		}
		for _, d := range f.Dropped {
			fmt.Fprintf(s.out, "  left behind: %s (%s)\n", printable(d.Path), printable(d.Kind))
		}
		for _, n := range f.Notes {
			fmt.Fprintf(s.out, "  note: %s\n", printable(n))
		}
	}
	return nil
}

// warn prints what a reader of a file may stumble over.
func warn(s *streams, file string, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(s.err, "warning: %s: %s\n", printable(file), printable(w))
	}
}
