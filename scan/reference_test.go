package scan_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/weightseal/weightseal/internal/picklegen"
	"github.com/weightseal/weightseal/scan"
)

// referenceBits are the dtypes of the reference implementation
// (safetensors/src/tensor.rs) and the bits of an element.
var referenceBits = map[string]uint64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
	"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
	"C64": 64, "F64": 64, "I64": 64, "U64": 64,
}

type referenceTensor struct {
	name       string
	begin, end uint64
}

// reference checks the rules of the safetensors format as the reference
// implementation has them, and that no key is there twice. It shares nothing
// with format/safetensors.
func reference(b []byte) error {
	if len(b) < 8 {
		return errors.New("HeaderTooSmall")
	}
	n := binary.LittleEndian.Uint64(b)
	if n > 100_000_000 {
		return errors.New("HeaderTooLarge")
	}
	if n > uint64(len(b)-8) {
		return errors.New("InvalidHeaderLength")
	}
	header, data := b[8:8+n], b[8+n:]
	if !utf8.Valid(header) || !json.Valid(header) {
		return errors.New("InvalidHeader")
	}
	if err := referenceKeys(header); err != nil {
		return err
	}
	tensors, err := referenceTensors(header)
	if err != nil {
		return err
	}
	slices.SortFunc(tensors, func(a, b referenceTensor) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	at := uint64(0)
	for _, t := range tensors {
		if t.begin != at || t.end < t.begin {
			return fmt.Errorf("InvalidOffset: %q", t.name)
		}
		at = t.end
	}
	if at != uint64(len(data)) {
		return errors.New("MetadataIncompleteBuffer")
	}
	return nil
}

func referenceTensors(header []byte) ([]referenceTensor, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(header, &raw); err != nil || raw == nil {
		return nil, errors.New("InvalidHeaderDeserialization")
	}
	var tensors []referenceTensor
	for name, r := range raw {
		if name == "__metadata__" {
			var texts map[string]*string
			if err := json.Unmarshal(r, &texts); err != nil {
				return nil, err
			}
			for _, s := range texts {
				if s == nil {
					return nil, errors.New("metadata that is no text")
				}
			}
			continue
		}
		t, err := referenceEntry(name, r)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		tensors = append(tensors, t)
	}
	return tensors, nil
}

func referenceEntry(name string, raw json.RawMessage) (referenceTensor, error) {
	var fields map[string]json.RawMessage
	var dtype *string
	var shape, offsets []uint64
	if err := json.Unmarshal(raw, &fields); err != nil {
		return referenceTensor{}, err
	}
	err := errors.Join(json.Unmarshal(fields["dtype"], &dtype), json.Unmarshal(fields["shape"], &shape),
		json.Unmarshal(fields["data_offsets"], &offsets))
	if err != nil || dtype == nil || shape == nil || len(offsets) != 2 {
		return referenceTensor{}, errors.New("InvalidHeaderDeserialization")
	}
	size, ok := referenceBits[*dtype]
	if !ok {
		return referenceTensor{}, errors.New("unknown dtype")
	}
	numel := uint64(1)
	for _, d := range shape {
		hi, lo := bits.Mul64(numel, d)
		if hi != 0 {
			return referenceTensor{}, errors.New("ValidationOverflow")
		}
		numel = lo
	}
	hi, total := bits.Mul64(numel, size)
	switch {
	case hi != 0:
		return referenceTensor{}, errors.New("ValidationOverflow")
	case total%8 != 0:
		return referenceTensor{}, errors.New("MisalignedSlice")
	case offsets[1] < offsets[0] || total/8 != offsets[1]-offsets[0]:
		return referenceTensor{}, errors.New("TensorInvalidInfo")
	}
	return referenceTensor{name, offsets[0], offsets[1]}, nil
}

// referenceKeys finds keys that an object has twice.
func referenceKeys(header []byte) error {
	dec := json.NewDecoder(bytes.NewReader(header))
	type object struct {
		keys  map[string]bool // nil for an array
		value bool            // a value comes next
	}
	var open []object
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n := len(open) - 1
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '}', ']':
				open = open[:n]
				continue
			}
			if n >= 0 {
				open[n].value = false
			}
			o := object{}
			if tok == '{' {
				o.keys = map[string]bool{}
			}
			open = append(open, o)
		default:
			if n < 0 || open[n].keys == nil {
				continue
			}
			if key, isText := tok.(string); isText && !open[n].value {
				if open[n].keys[key] {
					return fmt.Errorf("the key %q twice", key)
				}
				open[n].keys[key], open[n].value = true, true
				continue
			}
			open[n].value = false
		}
	}
}

// safeIsValid checks that what is called safe under the name of a safetensors
// file is one by the rules of the reference.
func safeIsValid(tb testing.TB, b []byte) scan.Verdict {
	tb.Helper()
	rep := verdictOf(tb, "model.safetensors", string(b))
	if rep.Verdict == scan.Safe {
		if err := reference(b); err != nil {
			tb.Errorf("a safetensors file is called safe: %v\n%q", err, b)
		}
	}
	return rep.Verdict
}

func TestSafeSafetensors(t *testing.T) {
	t.Parallel()
	count := map[scan.Verdict]int{}
	for seed := range uint64(20_000) {
		c := picklegen.FromSeed(seed)
		good := picklegen.Safetensors(c, false)
		if err := reference(good); err != nil {
			t.Fatalf("seed %d: the generator or the reference is wrong: %v\n%q", seed, err, good)
		}
		if v := safeIsValid(t, good); v != scan.Safe {
			t.Errorf("seed %d: a valid file is called %s\n%q", seed, v, good)
		}
		count[safeIsValid(t, picklegen.Safetensors(c, true))]++
		if t.Failed() {
			return
		}
	}
	t.Logf("changed: %v", count)
	if count[scan.Unsafe]+count[scan.Unknown] < 15_000 || count[scan.Safe] < 500 {
		t.Errorf("changed: %v: the changes prove little", count)
	}
}

func FuzzSafeSafetensors(f *testing.F) {
	for i := range byte(8) {
		f.Add([]byte{i, i * 7, i * 31}, i%2 == 1, false)
		f.Add(picklegen.Safetensors(picklegen.FromSeed(uint64(i)), false), false, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, broken, raw bool) {
		if !raw {
			in = picklegen.Safetensors(picklegen.FromBytes(in), broken)
		}
		safeIsValid(t, in)
	})
}
