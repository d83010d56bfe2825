package scan

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/model"
)

// torchDetector judges what torch.save and torch.jit.save wrote: every stream,
// the container, and whatever else lies in it. It reads no tensor bytes.
type torchDetector struct{}

func (torchDetector) Name() string { return "torch" }

func (torchDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.TorchZip, model.TorchLegacy, model.TorchTar, model.TorchScript:
		return true
	}
	return false
}

func (torchDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Convertible}
	c, err := torch.Open(b, b.Size(), torch.Limits{Pickle: pickleLimits(b)})
	if c != nil {
		if jerr := judgeCheckpoint(ctx, r, b, c); jerr != nil {
			return r.verdict, r.findings, jerr
		}
	}
	if err == nil {
		selectTensors(r, c)
		return r.result()
	}
	if cerr := ctx.Err(); cerr != nil {
		return r.verdict, r.findings, cerr
	}
	r.broken(err)
	if f.Format == model.TorchZip || f.Format == model.TorchScript {
		// Say what hides between the records.
		if d := readZip(&report{}, b, b.Size()); d != nil {
			d.r = r
			if gerr := d.scanGaps(ctx, b); gerr != nil {
				return r.verdict, r.findings, gerr
			}
		}
	}
	if c == nil || len(c.Streams) == 0 {
		// Nothing was understood: look at the pieces one by one.
		if perr := scanPieces(ctx, r, f, b); perr != nil {
			return r.verdict, r.findings, perr
		}
		return r.result()
	}
	var fe *torch.FormatError
	if errors.As(err, &fe) && fe.Offset > 0 && c.Container == torch.Legacy {
		// Bytes that belong to nothing: a loader of plain pickles goes on there.
		if perr := scanBehind(ctx, r, b, fe.Offset); perr != nil {
			return r.verdict, r.findings, perr
		}
	}
	return r.result()
}

// broken records why a container could not be opened.
func (r *report) broken(err error) {
	var pe *pickle.Error
	switch {
	case errors.Is(err, pickle.ErrLimit), errors.Is(err, torch.ErrLimit):
		r.add("WS-LIMIT-001", offsetOf(err), "%v", err)
	case errors.As(err, &pe):
		r.add("WS-TORCH-003", pe.Offset, "%v", err).withOpcode(pe.Opcode)
	default:
		r.add("WS-TORCH-003", -1, "%v", err)
	}
}

func judgeCheckpoint(ctx context.Context, r *report, b model.Blob, c *torch.Checkpoint) error {
	for _, s := range c.Streams {
		if s.Stream == nil {
			continue
		}
		r.inner = s.Inner
		j := streamJudge{ctx: ctx, r: r, s: s.Stream, blob: b, source: s.Source, persistent: true}
		err := j.judge(nil)
		r.inner = ""
		if err != nil {
			return err
		}
	}
	for _, f := range c.Findings {
		rule := "WS-TORCH-002"
		if f.Refuse || f.Rule == "crc" { // torch does not look at sums, every other reader refuses the record
			rule = "WS-TORCH-001"
		}
		fd := r.add(rule, f.Offset, "%s: %s", f.Rule, f.Detail)
		fd.Inner, fd.Global = f.Inner, f.Global
		if f.Opcode != 0 {
			fd.withOpcode(f.Opcode)
		}
		if f.Rule == "archive-comment" {
			if err := (nested{}).scan(ctx, r, b, "comment", io.NewSectionReader(b, f.Offset+22, b.Size()-f.Offset-22), b.Size()-f.Offset-22); err != nil {
				return err
			}
		}
	}
	if c.Container == torch.TorchScript {
		r.add("WS-TORCH-005", -1, "the archive holds a TorchScript program")
	}
	return judgeRecords(ctx, r, b, c)
}

// judgeRecords looks at the records that are not a checkpoint's own.
func judgeRecords(ctx context.Context, r *report, b model.Blob, c *torch.Checkpoint) error {
	if c.Container != torch.Zip && c.Container != torch.TorchScript {
		return nil
	}
	for _, rec := range c.Records {
		script := c.Container == torch.TorchScript
		extra := script && rec.Known && isScriptExtra(rec.Name)
		if script && isScriptSource(rec.Name) || rec.Known && !extra && !(script && isScriptTable(rec.Name)) {
			continue
		}
		ra, size, err := openRecord(b, rec)
		if err != nil {
			r.add("WS-TORCH-003", rec.Offset, "record %s: %v", rec.Name, err).Inner = rec.Name
			continue
		}
		if script && isScriptTable(rec.Name) {
			at := nest(b)
			one := &report{verdict: Review}
			err := scanStreams(ctx, one, &member{ra, size, place{at.depth + 1, at.budget, at.held + held(ra)}}, 0)
			r.merge(rec.Name, one.verdict, one.findings)
			if err != nil {
				return err
			}
			continue
		}
		if extra {
			if err := judgeExtra(ctx, r, b, rec.Name, ra, size); err != nil {
				return err
			}
			continue
		}
		r.add("WS-TORCH-006", rec.Offset, "record %s", clip(rec.Name)).Inner = rec.Name
		if err := (nested{}).scan(ctx, r, b, rec.Name, ra, size); err != nil {
			return err
		}
	}
	return nil
}

// isScriptSource says whether a TorchScript archive has the record by right:
// code that torch's own interpreter runs.
func isScriptSource(name string) bool {
	return strings.HasPrefix(name, "code/") && strings.HasSuffix(name, ".py")
}

// isScriptExtra says whether a record is a file that whoever saved a program
// put into the archive, or lies beside its code: torch only hands it out.
func isScriptExtra(name string) bool {
	return strings.HasPrefix(name, "extra/") || strings.HasPrefix(name, "code/") && !isScriptSource(name) && !isScriptTable(name)
}

// judgeExtra judges such a file. The program needs review anyway: only what is
// unsafe makes a difference.
func judgeExtra(ctx context.Context, r *report, b model.Blob, name string, ra io.ReaderAt, size int64) error {
	one := &report{}
	err := nested{}.scan(ctx, one, b, name, ra, size)
	if one.verdict == Unsafe {
		r.merge("", one.verdict, one.findings)
	}
	return err
}

// isScriptTable says whether a record is one of its debug tables, which are
// pickles of plain data.
func isScriptTable(name string) bool {
	return strings.HasPrefix(name, "code/") && strings.HasSuffix(name, ".debug_pkl")
}

func openRecord(b model.Blob, rec torch.Record) (io.ReaderAt, int64, error) {
	if !rec.Deflated {
		return io.NewSectionReader(b, rec.Offset, rec.Stored), rec.Stored, nil
	}
	return inflated(nest(b), flateOpener(b, rec.Offset, rec.Stored), rec.Size)
}

// selectTensors asks whether what the checkpoint holds converts.
func selectTensors(r *report, c *torch.Checkpoint) {
	if r.verdict >= Unknown || c.Container == torch.TorchScript {
		return
	}
	sd, err := c.Select("")
	var (
		unsupported *torch.UnsupportedError
		ambiguous   *torch.AmbiguousError
		forbidden   *torch.ForbiddenError
	)
	switch {
	case err == nil:
		for _, f := range sd.Findings {
			if f.Refuse {
				fd := r.add("WS-TORCH-004", f.Offset, "%s: %s", f.Rule, f.Detail)
				fd.Inner = f.Inner
			}
		}
	case errors.As(err, &unsupported):
		r.choice("WS-TORCH-008", err, c)
		if unsupported.Forbidden != nil {
			r.forbidden(unsupported.Forbidden)
		}
	case errors.As(err, &ambiguous):
		r.choice("WS-TORCH-009", err, c)
	case errors.As(err, &forbidden):
		r.forbidden(forbidden)
	case errors.Is(err, torch.ErrLimit):
		r.add("WS-LIMIT-001", -1, "%v", err)
	case errors.Is(err, torch.ErrName), errors.Is(err, torch.ErrNoSubtree):
		r.add("WS-TORCH-011", -1, "%v", err)
	default:
		r.add("WS-TORCH-004", -1, "%v", err)
	}
}

// choice records that the conversion needs a word from the user, and that it
// fails even then if it does: for all parts of the checkpoint, with quantised
// and sparse tensors in pieces.
//
// A checkpoint of plain data has nothing to convert, as a pickle of plain data
// has not.
func (r *report) choice(rule string, err error, c *torch.Checkpoint) {
	r.add(rule, -1, "%v", err)
	if holdsPlainData(c) {
		return
	}
	_, err = c.SelectWith(torch.SelectOptions{Path: torch.WholeRoot, SplitQuantized: true, SplitSparse: true})
	if err != nil {
		r.add("WS-TORCH-011", -1, "%v", err)
	}
}

// holdsPlainData says whether a checkpoint is made of Python's own values only:
// nothing in it is called, or stands for a storage.
func holdsPlainData(c *torch.Checkpoint) bool {
	for _, s := range c.Streams {
		if s.Stream == nil {
			continue
		}
		if len(s.Persistents) > 0 {
			return false
		}
		for _, call := range s.Calls {
			if g, ok := call.Callee.(*pickle.Global); !ok || !isPlainMaker(g) {
				return false
			}
		}
	}
	return true
}

// isPlainMaker knows what makes Python's own values.
func isPlainMaker(g *pickle.Global) bool {
	m, n := g.Mapped()
	switch m + "." + n {
	case "collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex", "builtins.bytearray", "_codecs.encode", "torch.Size", "torch.device":
		return true
	}
	return false
}

// forbidden makes sure that what the converter refuses is never called
// convertible here.
func (r *report) forbidden(e *torch.ForbiddenError) {
	if r.verdict > Convertible {
		return // each global has a finding of its own
	}
	for _, g := range e.Globals {
		r.add("WS-PICKLE-003", g.Offset, "%s is nothing that the converter knows", globalName(g)).withGlobal(g)
	}
}

// scanPieces judges the members of a container that torch.Open could make
// nothing of.
func scanPieces(ctx context.Context, r *report, f model.File, b model.Blob) error {
	switch f.Format {
	case model.TorchZip, model.TorchScript:
		return scanZip(ctx, r, b)
	case model.TorchTar:
		return scanTar(ctx, r, b)
	}
	return scanStreams(ctx, r, b, 0)
}
