package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Index is a sharded checkpoint's index file (model.safetensors.index.json or
// pytorch_model.bin.index.json: they share a shape).
type Index struct {
	Metadata  map[string]any    // total_size and whatever else was there; numbers are json.Number after ParseIndex
	WeightMap map[string]string // tensor name -> shard file name
	Extra     map[string]any    // further top-level keys, kept so that Encode loses nothing
}

// ErrIndex is in every error of ParseIndex and Check.
var ErrIndex = errors.New("shard index")

// ParseIndex reads an index. Duplicate keys, a shard name that is empty,
// absolute, climbs out or has a separator or NUL, and a missing weight_map are
// errors.
func ParseIndex(b []byte) (*Index, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: byte %d: not UTF-8", ErrIndex, firstInvalid(b))
	}
	ix := &Index{}
	s := &scanner{b: b}
	err := ix.read(s)
	if err == nil {
		err = s.end()
	}
	if err != nil {
		at := s.i
		var bad *syntaxError
		if errors.As(err, &bad) {
			at = bad.at
		}
		return nil, fmt.Errorf("%w: byte %d: %w", ErrIndex, at, err)
	}
	if ix.WeightMap == nil {
		return nil, fmt.Errorf("%w: weight_map is missing", ErrIndex)
	}
	return ix, nil
}

// read takes the top-level object.
func (ix *Index) read(s *scanner) error {
	return s.object("the index object", func(key []byte, at int) (err error) {
		name := string(key)
		_, twice := ix.Extra[name]
		switch {
		case name == "weight_map" && ix.WeightMap == nil:
			return ix.readWeightMap(s)
		case name == "metadata" && ix.Metadata == nil:
			ix.Metadata, err = s.anyMap("an object")
			return err
		case twice || name == "weight_map" || name == "metadata":
			return s.fail(at, "the key %s is there twice", quote(name))
		}
		if ix.Extra == nil {
			ix.Extra = map[string]any{}
		}
		ix.Extra[name], err = s.value()
		return err
	})
}

func (ix *Index) readWeightMap(s *scanner) error {
	ix.WeightMap = map[string]string{}
	shards := map[string]string{} // one string for many equal ones
	return s.object("an object of strings", func(key []byte, at int) error {
		name := string(key)
		if _, twice := ix.WeightMap[name]; twice {
			return s.fail(at, "the tensor %s is there twice", quote(name))
		}
		s.space()
		at = s.i
		text, err := s.str("a file name")
		if err != nil {
			return err
		}
		shard, known := shards[string(text)]
		if !known {
			shard = string(text)
			if err := checkShard(shard); err != nil {
				return s.fail(at, "tensor %s: %v", quote(name), err)
			}
			shards[shard] = shard
		}
		ix.WeightMap[name] = shard
		return nil
	})
}

// checkShard allows plain file names only: an index lies beside its shards.
func checkShard(name string) error {
	switch {
	case name == "":
		return errors.New("the shard name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("the shard name is %q", name)
	case strings.ContainsAny(name, `/\:`):
		return fmt.Errorf("the shard name %s has a separator; shards must lie beside their index", quote(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the shard name %s has control characters or is not UTF-8", quote(name))
	}
	return nil
}

// Encode writes the index as the Hugging Face tools do: two spaces of
// indentation, keys sorted, everything beyond ASCII escaped, a newline at the
// end.
func (ix *Index) Encode() ([]byte, error) {
	top := maps.Clone(ix.Extra)
	if top == nil {
		top = map[string]any{}
	}
	if ix.Metadata != nil {
		top["metadata"] = ix.Metadata
	}
	for name, shard := range ix.WeightMap {
		if err := checkShard(shard); err != nil {
			return nil, fmt.Errorf("%w: tensor %s: %w", ErrIndex, quote(name), err)
		}
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("%w: the tensor name %s is not UTF-8", ErrIndex, quote(name))
		}
	}
	top["weight_map"] = ix.WeightMap
	if ix.WeightMap == nil {
		top["weight_map"] = map[string]string{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(top); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	return asciiJSON(b.Bytes()), nil
}

// asciiJSON escapes what Python's json module escapes by default: DEL and all
// beyond ASCII, which in JSON text stand in strings only.
func asciiJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r < 0x7f:
			out = append(out, b[0])
		case r <= 0xffff:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
		b = b[n:]
	}
	return out
}

// Shards lists the shard files that the index names, sorted.
func (ix *Index) Shards() []string {
	set := map[string]struct{}{}
	for _, shard := range ix.WeightMap {
		set[shard] = struct{}{}
	}
	return slices.Sorted(maps.Keys(set))
}

// Check compares the index with the shards' headers, by file name: it must name
// exactly the union of their tensors, each in the shard that holds it. Names
// that a shard's metadata lists as removed ties may be named, in that shard, or
// missing. A tensor in two shards is an error, and so is a shard without header
// or a header without entry in the index.
func (ix *Index) Check(headers map[string]*Header) error {
	var wrong faults
	for _, shard := range ix.Shards() {
		if headers[shard] == nil {
			wrong.add("it names the shard %s, which is not there", quote(shard))
		}
	}
	holder := map[string]string{}
	ties := map[string][]string{}
	for _, shard := range slices.Sorted(maps.Keys(headers)) {
		ix.checkShardTensors(shard, headers[shard], holder, ties, &wrong)
	}
	for _, name := range slices.Sorted(maps.Keys(ix.WeightMap)) {
		shard := ix.WeightMap[name]
		_, held := holder[name]
		if headers[shard] == nil || held || slices.Contains(ties[name], shard) {
			continue
		}
		wrong.add("it names the tensor %s in %s, which does not hold it", quote(name), quote(shard))
	}
	return wrong.err()
}

// checkShardTensors checks one shard's tensors against the index, and notes who
// holds what.
func (ix *Index) checkShardTensors(shard string, h *Header, holder map[string]string, ties map[string][]string, wrong *faults) {
	if h == nil {
		return
	}
	for i := range h.Tensors {
		name := h.Tensors[i].Name
		if first, twice := holder[name]; twice {
			wrong.add("the tensor %s lies in two shards, %s and %s", quote(name), quote(first), quote(shard))
			continue
		}
		holder[name] = shard
		switch said, ok := ix.WeightMap[name]; {
		case !ok:
			wrong.add("it does not name the tensor %s of %s", quote(name), quote(shard))
		case said != shard:
			wrong.add("it says that the tensor %s lies in %s, but it lies in %s", quote(name), quote(said), quote(shard))
		}
	}
	for removed := range h.Aliases() {
		ties[removed] = append(ties[removed], shard)
	}
	if len(h.Tensors) == 0 && !slices.Contains(ix.Shards(), shard) {
		wrong.add("it does not name the shard %s", quote(shard))
	}
}

// faults collects what is wrong with an index, the first few in words.
type faults struct {
	list []string
	n    int
}

func (f *faults) add(format string, args ...any) {
	const most = 10
	if f.n++; f.n <= most {
		f.list = append(f.list, fmt.Sprintf(format, args...))
	}
}

func (f *faults) err() error {
	if f.n == 0 {
		return nil
	}
	text := strings.Join(f.list, "; ")
	if more := f.n - len(f.list); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return fmt.Errorf("%w: %s", ErrIndex, text)
}
