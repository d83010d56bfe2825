package scan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/model"
)

// pickleDetector judges bare pickles: every stream up to the end of the file.
type pickleDetector struct{}

func (pickleDetector) Name() string { return "pickle" }

func (pickleDetector) Wants(f model.File) bool { return f.Format == model.Pickle }

// maxStreams bounds the pickles of one file.
const maxStreams = 10_000

func (pickleDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Convertible}
	skip := leading(head(b, b.Size(), 4096))
	if skip > 0 {
		r.add("WS-PICKLE-014", 0, "%d bytes before the first opcode", skip)
	}
	made := false
	err := eachStream(ctx, r, b, skip, func(s *pickle.Stream) { made = made || len(s.Calls) > 0 })
	if err != nil {
		return r.verdict, r.findings, err
	}
	if r.verdict == Convertible && !made {
		r.add("WS-TORCH-008", -1, "a pickle of plain data, with no array in it: there is nothing to convert")
	} else if r.verdict == Convertible && !arraysConvert(r, b) {
		r.add("WS-PICKLE-016", -1, "the arrays in it cannot be read")
	}
	return r.result()
}

// scanStreams judges the pickles from offset start to the end of the blob.
func scanStreams(ctx context.Context, r *report, b model.Blob, start int64) error {
	return eachStream(ctx, r, b, start, func(*pickle.Stream) {})
}

func eachStream(ctx context.Context, r *report, b model.Blob, start int64, see func(*pickle.Stream)) error {
	size := b.Size()
	for n := 0; start < size || n == 0; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n == maxStreams {
			r.add("WS-LIMIT-001", start, "more than %d pickles in one file", maxStreams)
			return nil
		}
		run := &joblibRun{ra: b, end: size, limits: pickleLimits(b)}
		s, err := run.load(start)
		if n > 0 && err != nil && s != nil && len(s.Globals) == 0 && s.Ops < 3 {
			r.add("WS-PICKLE-014", start, "%d bytes after the last pickle", size-start)
			// A payload may hide behind the filling.
			return scanBehind(ctx, r, b, start)
		}
		if n == 1 {
			r.add("WS-PICKLE-015", start, "another pickle begins at byte %d", start)
		}
		if s == nil {
			r.add("WS-PICKLE-013", start, "%v", err)
			return nil
		}
		see(s)
		j := streamJudge{ctx: ctx, r: r, s: s, blob: b, source: b}
		jerr := j.judge(err)
		for _, in := range run.inner {
			if in.s != nil && jerr == nil {
				k := streamJudge{ctx: ctx, r: r, s: in.s, blob: b, source: b}
				jerr = k.judge(in.err)
			}
		}
		if jerr != nil {
			return jerr
		}
		for _, at := range run.unclear {
			r.add("WS-PICKLE-017", at, "joblib reads an array here, of a length that its description does not plainly give")
		}
		plainRun(r, b, run, start)
		if err != nil {
			return nil
		}
		start = s.End
	}
	return nil
}

// plainRun looks at a stream with joblib's arrays as an unpickler does that
// knows nothing of them: it takes the numbers for opcodes. With ordinary
// numbers it fails at once; a file in which it finds something to import is
// two files.
func plainRun(r *report, b model.Blob, run *joblibRun, start int64) {
	if run.first == 0 {
		return
	}
	s, _ := pickle.Load(b, start, b.Size(), pickleLimits(b))
	if s == nil {
		return
	}
	judged := map[int64]bool{} // the pickle of an array of objects is read by both
	for _, in := range run.inner {
		if in.s == nil {
			continue
		}
		for _, g := range in.s.Globals {
			judged[g.Offset] = true
		}
	}
	for _, g := range s.Globals {
		if g.Offset >= run.first && !judged[g.Offset] && classify(g) != malformed {
			r.add("WS-PICKLE-017", g.Offset, "the numbers of an array import %s where the reader is not joblib", globalName(g)).withGlobal(g)
			return
		}
	}
}

// scanBehind looks for pickles after bytes that are none, so that the report
// names what they hold. The verdict is unsafe already.
func scanBehind(ctx context.Context, r *report, b model.Blob, from int64) error {
	const reach = 16 << 10
	probe := pickleLimits(b)
	probe.Ops, probe.Bytes = 1024, 64<<10
	for i, c := range peek(b, b.Size(), from, reach) {
		if c != 0x80 && c != 'c' && c != '(' {
			continue
		}
		at := from + int64(i)
		s, err := pickle.Load(b, at, b.Size(), probe)
		if s == nil || len(s.Globals) == 0 || classify(s.Globals[0]) == malformed {
			continue
		}
		if errors.Is(err, pickle.ErrLimit) {
			s, err = pickle.Load(b, at, b.Size(), pickleLimits(b))
		}
		j := streamJudge{ctx: ctx, r: r, s: s, blob: b, source: b}
		return j.judge(err)
	}
	return nil
}

// memoryOf is how many bytes the values of one file may take.
func memoryOf(b model.Blob) int64 {
	if shared := nest(b).budget; shared != nil && shared.memory > 0 {
		return shared.memory
	}
	return DefaultMemory
}

// pickleLimits bounds one pickle in the blob.
func pickleLimits(b model.Blob) pickle.Limits {
	return pickle.Limits{Memory: memoryOf(b), Inline: 1 << 10, Stack: 250_000, Numbers: 1000, Lenient: true}
}

// streamJudge judges one pickle stream.
type streamJudge struct {
	ctx    context.Context
	r      *report
	s      *pickle.Stream
	blob   model.Blob  // the file that the stream lies in
	source io.ReaderAt // what its offsets refer to
	// persistent says that the loader resolves persistent ids, and that
	// they have been judged.
	persistent bool
	called     map[*pickle.Global]bool
	// members are the imports of getattr that do no more than findMembers says.
	members map[*pickle.Global]bool
	// checked are the containers whose values have been judged as
	// arguments, by what the callee does with them.
	checked [2]map[pickle.Value]struct{}
	uses    map[importKey]use
	dtypes  dtypeReader
	// stated are the dictionaries whose keys have been judged as attributes.
	stated map[*pickle.Dict]bool
}

// judge adds what is found in the stream; loadErr is what Load gave.
func (j *streamJudge) judge(loadErr error) error {
	j.called = map[*pickle.Global]bool{}
	for _, c := range j.s.Calls {
		if g, ok := j.callee(c); ok {
			j.called[g] = true
		}
	}
	j.findMembers()
	j.r.imports = j.r.imports || len(j.s.Globals) > 0
	for _, g := range j.s.Globals {
		j.global(g)
	}
	for _, c := range j.s.Calls {
		if err := j.call(c); err != nil {
			return err
		}
	}
	for _, b := range j.s.Builds {
		j.build(b)
	}
	j.opcodes()
	j.remarks()
	j.walk()
	return j.failure(loadErr)
}

type importKey struct {
	module, name string
	py2          bool
}

// use is classify, asked once for each name.
func (j *streamJudge) use(g *pickle.Global) use {
	k := importKey{g.Module, g.Name, g.Py2}
	u, ok := j.uses[k]
	if !ok {
		if j.uses == nil {
			j.uses = map[importKey]use{}
		}
		u = classify(g)
		j.uses[k] = u
	}
	return u
}

// global judges an import: the import alone is an act.
func (j *streamJudge) global(g *pickle.Global) {
	verb := "imported"
	if j.called[g] {
		verb = "imported and called"
	}
	name := globalName(g)
	if isLoadFromBytes(g) && j.called[g] {
		return
	}
	if j.members[g] {
		j.r.add("WS-PICKLE-003", g.Offset, "%s reads an attribute of a class that needs review", name).withGlobal(g)
		return
	}
	switch j.use(g) {
	case dangerous:
		j.r.add("WS-PICKLE-002", g.Offset, "%s is %s", name, verb).withGlobal(g)
	case forbidden:
		j.r.add("WS-PICKLE-001", g.Offset, "%s is %s", name, verb).withGlobal(g)
	case dotted:
		j.r.add("WS-PICKLE-005", g.Offset, "%s walks attributes", name).withGlobal(g)
	case malformed:
		j.r.add("WS-PICKLE-022", g.Offset, "import of %q from %q", clip(g.Name), clip(g.Module)).withGlobal(g)
	case foreign:
		j.r.add("WS-PICKLE-004", g.Offset, "%s is %s", name, verb).withGlobal(g)
	case holder, builder, constant:
		j.r.add("WS-PICKLE-003", g.Offset, "%s is %s", name, verb).withGlobal(g)
	}
}

// opcodes judges those that no value may remain of.
func (j *streamJudge) opcodes() {
	ops := &j.s.Opcodes
	for _, op := range []byte{opExt1, opExt2, opExt4} {
		if ops[op] {
			j.r.add("WS-PICKLE-008", j.findingAt(pickle.RuleExtension), "an object of the extension registry").withOpcode(op)
		}
	}
	if j.persistent {
		return
	}
	for _, p := range j.s.Persistents {
		j.r.add("WS-PICKLE-012", p.Offset, "a persistent id outside a container of torch.save").withOpcode(p.Opcode)
	}
}

func (j *streamJudge) findingAt(rule string) int64 {
	for _, f := range j.s.Findings {
		if f.Rule == rule {
			return f.Offset
		}
	}
	return -1
}

// remarks passes on what the machine found.
func (j *streamJudge) remarks() {
	for _, f := range j.s.Findings {
		switch f.Rule {
		case pickle.RuleExtension, pickle.RuleOddName, pickle.RuleComputedName, pickle.RuleBuildOnGlobal:
			// judged at the global, call or build
		case pickle.RuleOnOpaque, pickle.RuleArgs:
			j.r.add("WS-PICKLE-024", f.Offset, "%s", f.Detail).withOpcode(f.Opcode)
		case pickle.RuleTextNumber, pickle.RuleFrame, pickle.RuleMutated:
			j.r.add("WS-PICKLE-017", f.Offset, "%s", f.Detail).withOpcode(f.Opcode)
		case pickle.RuleBuffer:
			j.r.add("WS-PICKLE-023", f.Offset, "%s", f.Detail).withOpcode(f.Opcode)
		case pickle.RuleDuplicateKey, pickle.RuleSurrogate:
			// Python takes these as everybody does; what is lost in a
			// conversion, the converter says.
		default:
			j.r.add("WS-PICKLE-016", f.Offset, "%s: %s", f.Rule, f.Detail).withOpcode(f.Opcode)
		}
	}
}

// failure judges a stream that did not reach STOP.
func (j *streamJudge) failure(err error) error {
	var pe *pickle.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pickle.ErrLimit):
		j.r.add("WS-LIMIT-001", offsetOf(err), "%v", err)
	case errors.Is(err, errLimit):
		j.r.add("WS-LIMIT-001", offsetOf(err), "%v", err)
	case errors.As(err, &pe):
		j.r.add("WS-PICKLE-013", pe.Offset, "%v", err).withOpcode(pe.Opcode)
	default:
		j.r.add("WS-PICKLE-013", -1, "%v", err)
	}
	return nil
}

func offsetOf(err error) int64 {
	var pe *pickle.Error
	if errors.As(err, &pe) {
		return pe.Offset
	}
	return -1
}

// clip shortens a text of the input for a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:most], len(s))
}
