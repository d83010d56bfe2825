package pickle

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/weightseal/weightseal/internal/picklegen"
	"github.com/weightseal/weightseal/internal/realtools"
)

// offsets runs a stream, and gives where the opcodes began that ran.
func offsets(b []byte) (*Stream, []int64, error) {
	m := newMachine(bytes.NewReader(b), 0, int64(len(b)), Limits{})
	var at []int64
	for !m.stop {
		if err := m.step(); err != nil {
			m.out.End = m.at // of what ran
			return m.out, at, m.located(err)
		}
		at = append(at, m.at)
	}
	m.out.End = m.w.offset()
	return m.out, at, nil
}

// What our machine takes and pickletools does not. The unpicklers take these
// too: pickletools is the one that is stricter. Each has a finding, so that no
// such stream is ever called convertible, or is one that every loader of
// checkpoints reads.
var takenByUnpicklers = []struct {
	why  string
	here func(op byte, line []byte, s *Stream) bool
}{
	{"a number in another notation than a pickler's: the C unpickler reads it with base 0", func(op byte, _ []byte, s *Stream) bool {
		return (op == 'I' || op == 'L') && hasFinding(s, RuleTextNumber)
	}},
	{"a Python 2 string outside ASCII: torch.load and encoding='latin1' read it", func(op byte, _ []byte, _ *Stream) bool {
		return op == 'S'
	}},
	{"a name or persistent id with a backslash or outside ASCII: pickletools takes it for an escaped string", func(op byte, line []byte, _ *Stream) bool {
		return (op == 'c' || op == 'i' || op == 'P') && bytes.ContainsFunc(line, func(r rune) bool { return r == '\\' || r >= 0x80 })
	}},
}

func hasFinding(s *Stream, rule string) bool {
	return slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Rule == rule })
}

// agrees compares our opcodes with those of CPython's pickletools. Where our
// machine refuses a stream, for the stack or the memo perhaps, which
// pickletools does not follow, what it ran must be what pickletools read.
func agrees(tb testing.TB, g *realtools.Genops, b []byte) error {
	tb.Helper()
	s, ours, err := offsets(b)
	theirs, failed := g.Offsets(tb, b)
	switch n := len(ours); {
	case err == nil && failed == "" && !slices.Equal(ours, theirs):
		return fmt.Errorf("opcodes at %v, pickletools has %v", ours, theirs)
	case n <= len(theirs):
		if !slices.Equal(ours, theirs[:n]) {
			return fmt.Errorf("opcodes at %v, pickletools has %v", ours, theirs)
		}
		return nil
	case !slices.Equal(ours[:len(theirs)], theirs):
		return fmt.Errorf("opcodes at %v, pickletools has %v", ours, theirs)
	default:
		at := ours[len(theirs)]
		end := s.End
		if len(theirs)+1 < n {
			end = ours[len(theirs)+1]
		}
		end = min(max(end, at+1), int64(len(b)))
		for _, k := range takenByUnpicklers {
			if k.here(b[at], b[at+1:end], s) {
				return nil
			}
		}
		return fmt.Errorf("we take the %s at %d, pickletools says %s", OpcodeName(b[at]), at, failed)
	}
}

// Valid pickles of every protocol run to their end, each opcode where
// pickletools has it; all opcodes occur. Changed ones are read alike up to
// where they are refused.
func TestGenops(t *testing.T) {
	t.Parallel()
	g := realtools.StartGenops(t)
	var occurred [256]bool
	refused, changed := 0, 0
	for seed := range uint64(3000) {
		c := picklegen.FromSeed(seed)
		b := picklegen.Opcodes(c, int(seed%6), 5+int(seed%120))
		s, _, err := offsets(b)
		if err != nil {
			t.Fatalf("seed %d: a valid stream is refused: %v\n%q", seed, err, b)
		}
		for op, yes := range s.Opcodes {
			occurred[op] = occurred[op] || yes
		}
		if err := agrees(t, g, b); err != nil {
			t.Errorf("seed %d: %v\n%q", seed, err, b)
		}
		for range 5 {
			broken := picklegen.Mutate(c, b)
			if err := agrees(t, g, broken); err != nil {
				t.Errorf("seed %d, changed: %v\n%q", seed, err, broken)
			}
			changed++
			if _, _, err := offsets(broken); err != nil {
				refused++
			}
		}
	}
	for op := range opcodes {
		if opcodes[op].run != nil && !occurred[op] {
			t.Errorf("no generated pickle has %s", OpcodeName(byte(op)))
		}
	}
	t.Logf("%d of %d changed pickles are refused", refused, changed)
	if refused < changed/10 || refused > changed*95/100 {
		t.Errorf("%d of %d changed pickles are refused: the changes prove little", refused, changed)
	}
}

// FuzzGenops lets a fuzzer make the choices, and give streams of its own.
func FuzzGenops(f *testing.F) {
	for seed := range byte(12) {
		f.Add([]byte{seed, seed * 7, seed * 31, seed * 101}, seed%6, seed%2 == 1, false)
	}
	for _, s := range []string{"I010\n.", "L0x1L\n.", "S'\\xff'\n.", "c\xc3\xa9\nx\n.", "F1_0.5\n.", "Pa\\\n.", "\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00N."} {
		f.Add([]byte(s), byte(0), false, true)
	}
	g := realtools.StartGenops(f)
	f.Fuzz(func(t *testing.T, in []byte, protocol byte, mutate, raw bool) {
		b := in
		if !raw {
			c := picklegen.FromBytes(in)
			b = picklegen.Opcodes(c, int(protocol)%6, 5+len(in)%200)
			if _, _, err := offsets(b); err != nil {
				t.Fatalf("a valid stream is refused: %v\n%q", err, b)
			}
			if mutate {
				b = picklegen.Mutate(c, b)
			}
		}
		if len(b) > 1<<20 {
			return
		}
		if err := agrees(t, g, b); err != nil {
			t.Fatalf("%v\n%q", err, b)
		}
	})
}
