package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const checkpoints = "../../testdata/checkpoints"

// file puts a length before a header and zeros behind it.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func read(b []byte) (*Header, error) {
	return ReadHeader(bytes.NewReader(b), int64(len(b)))
}

// rules lists a header's findings, with a ! where refused.
func rules(h *Header) string {
	var list []string
	for _, f := range h.Findings {
		if f.Refuse {
			f.Rule += "!"
		}
		list = append(list, f.Rule)
	}
	return strings.Join(list, " ")
}

func kindOf(t *testing.T, err error) Kind {
	t.Helper()
	var bad *Error
	if !errors.As(err, &bad) {
		t.Fatalf("error is %T (%v), want *Error", err, err)
	}
	return bad.Kind
}

// TestManifest holds the reader against every header of the corpus.
func TestManifest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(checkpoints, "handmade/manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest map[string]struct{ Outcome, Why string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	cases := 0
	for name, want := range manifest {
		if !strings.HasPrefix(name, "st/") {
			continue
		}
		cases++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(filepath.Join(checkpoints, "handmade", name))
			if err != nil {
				t.Fatal(err)
			}
			h, err := read(b)
			switch want.Outcome {
			case "ok":
				if err != nil || h.Strict() != nil {
					t.Fatalf("want a clean header, got %v, %v", err, h)
				}
			case "finding":
				if err != nil || len(h.Findings) == 0 {
					t.Fatalf("want a finding, got %v, %+v", err, h)
				}
				for _, f := range h.Findings {
					t.Logf("%+v", f)
				}
			case "reject":
				// Where the reason is in words, the kind is in brackets.
				kind := want.Why
				if _, rest, ok := strings.Cut(kind, "("); ok {
					kind = strings.TrimSuffix(rest, ")")
				}
				if got := kindOf(t, err); string(got) != kind {
					t.Fatalf("kind %s (%v), want %s", got, err, kind)
				}
				t.Log(err)
			default:
				t.Fatalf("unknown outcome %q", want.Outcome)
			}
		})
	}
	if cases != 57 {
		t.Errorf("%d cases, want 57", cases)
	}
}

// TestFindings says what the reference accepts and we report, and what of it
// is refused.
func TestFindings(t *testing.T) {
	t.Parallel()
	const a = `"dtype":"U8","shape":[1],"data_offsets":[0,1]`
	tests := map[string]struct {
		header string
		data   int
		want   string
	}{
		"clean":                   {`{"a":{` + a + `}}`, 1, ""},
		"inner white space":       {"{ \"a\" :\n{" + a + "}\t}", 1, ""},
		"leading space":           {` {"a":{` + a + `}}`, 1, "leading-space"},
		"newline behind":          {`{"a":{` + a + "}}\n", 1, "odd-padding"},
		"name twice":              {`{"a":{` + a + `},"a":{` + a + `}}`, 1, "duplicate-name!"},
		"name twice by escape":    {`{"a":{` + a + `},"\u0061":{` + a + `}}`, 1, "duplicate-name!"},
		"unknown field":           {`{"a":{` + a + `,"x":{"y":[1,null,true,-1.5e3,"z"]}}}`, 1, "unknown-field!"},
		"field of other case":     {`{"a":{` + a + `,"DType":"F64"}}`, 1, "unknown-field!"},
		"array form":              {`{"a":["U8",[1],[0,1]]}`, 1, "array-form!"},
		"null metadata":           {`{"__metadata__":null}`, 0, "null-metadata"},
		"empty metadata":          {`{"__metadata__":{}}`, 0, ""},
		"metadata twice":          {`{"__metadata__":{"a":"1","a":"1"}}`, 0, "duplicate-metadata!"},
		"newline in a name":       {`{"a\nb":{` + a + `}}`, 1, "control-name"},
		"C1 control in a name":    {"{\"a\u0085b\":{" + a + "}}", 1, "control-name"},
		"NUL in a name":           {`{"a\u0000b":{` + a + `}}`, 1, "control-name!"},
		"empty name":              {`{"":{` + a + `}}`, 1, "empty-name"},
		"huge and empty":          {`{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}`, 0, "huge-empty"},
		"empty":                   {`{"a":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}}`, 0, ""},
		"unaligned":               {`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   `, 4, "unaligned"},
		"pair of surrogates":      {`{"\ud83d\ude00":{` + a + `}}`, 1, ""},
		"fields in another order": {`{"a":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}}`, 1, ""},
		"nesting at the cap":      {`{"a":{` + a + `,"x":` + strings.Repeat("[", 125) + strings.Repeat("]", 125) + `}}`, 1, "unknown-field!"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := read(file(tt.header, tt.data))
			if err != nil {
				t.Fatal(err)
			}
			if got := rules(h); got != tt.want {
				t.Errorf("findings %q, want %q", got, tt.want)
			}
			if refused := h.Strict() != nil; refused != strings.Contains(tt.want, "!") {
				t.Errorf("Strict gives %v", h.Strict())
			}
		})
	}
}

// TestReject has what the corpus has not, with the offset in the file.
func TestReject(t *testing.T) {
	t.Parallel()
	const a = `"dtype":"U8","shape":[1],"data_offsets":[0,1]`
	tests := map[string]struct {
		header string
		data   int
		kind   Kind
		offset int64
	}{
		"empty object then more":       {`{}{}`, 0, InvalidHeaderDeserialization, 10},
		"trailing comma":               {`{"a":{` + a + `},}`, 1, InvalidHeaderDeserialization, 61},
		"leading comma":                {`{,"a":{` + a + `}}`, 1, InvalidHeaderDeserialization, 9},
		"array form, two items":        {`{"a":["U8",[1]]}`, 1, InvalidHeaderDeserialization, 13},
		"array form, four items":       {`{"a":["U8",[1],[0,1],0]}`, 1, InvalidHeaderDeserialization, 29},
		"tensor null":                  {`{"a":null}`, 0, InvalidHeaderDeserialization, 13},
		"tensor string":                {`{"a":"U8"}`, 0, InvalidHeaderDeserialization, 13},
		"raw control character":        {"{\"a\nb\":{" + a + "}}", 1, InvalidHeaderDeserialization, 11},
		"unknown escape":               {`{"\x61":{` + a + `}}`, 1, InvalidHeaderDeserialization, 10},
		"short escape":                 {`{"\u61":{` + a + `}}`, 1, InvalidHeaderDeserialization, 10},
		"escape at the end":            {`{"\`, 0, InvalidHeaderDeserialization, 10},
		"low half first":               {`{"\udc00\ud800":{` + a + `}}`, 1, InvalidHeaderDeserialization, 10},
		"minus zero":                   {`{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}`, 0, InvalidHeaderDeserialization, 36},
		"plus":                         {`{"a":{"dtype":"U8","shape":[+1],"data_offsets":[0,1]}}`, 1, InvalidHeaderDeserialization, 36},
		"2^64":                         {`{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0]}}`, 0, InvalidHeaderDeserialization, 36},
		"number out of range":          {`{"a":{` + a + `,"x":1e999}}`, 1, InvalidHeaderDeserialization, 64},
		"bad word":                     {`{"a":{` + a + `,"x":nul}}`, 1, InvalidHeaderDeserialization, 64},
		"one offset":                   {`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}`, 1, InvalidHeaderDeserialization, 54},
		"nesting over the cap":         {`{"a":{` + a + `,"x":` + strings.Repeat("[", 126) + strings.Repeat("]", 126) + `}}`, 1, InvalidHeaderDeserialization, 64 + 125},
		"missing shape":                {`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1, InvalidHeaderDeserialization, 13},
		"metadata is a string":         {`{"__metadata__":"x"}`, 0, InvalidHeaderDeserialization, 24},
		"metadata value null":          {`{"__metadata__":{"a":null}}`, 0, InvalidHeaderDeserialization, 29},
		"earlier of two names invalid": {`{"a":{"dtype":"X"},"a":{` + a + `}}`, 1, InvalidHeaderDeserialization, 22},
		"end beyond the file":          {`{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}`, 1, ValidationOverflow, 9},
		"end beyond int64":             {`{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}`, 1, MetadataIncompleteBuffer, 8 + 89},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(file(tt.header, tt.data))
			if got := kindOf(t, err); got != tt.kind {
				t.Fatalf("kind %s (%v), want %s", got, err, tt.kind)
			}
			var bad *Error
			if errors.As(err, &bad); bad.Offset != tt.offset {
				t.Errorf("offset %d, want %d: %v", bad.Offset, tt.offset, err)
			}
			if !strings.Contains(err.Error(), string(tt.kind)) || !strings.Contains(err.Error(), fmt.Sprint(tt.offset)) {
				t.Errorf("the message lacks kind or offset: %v", err)
			}
		})
	}
}

// TestReadHeaderResult looks at everything a plain header gives.
func TestReadHeaderResult(t *testing.T) {
	t.Parallel()
	b := file(`{"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]},"z":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},`+
		`"\"a\u00e4":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"__metadata__":{"format":"pt","x\n":"\\"}}`, 7)
	h, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%+v %q", h.Tensors, h.Metadata)
	want := `[{Name:"aä DType:F32 Shape:[] Begin:0 End:4} {Name:z DType:F32 Shape:[0] Begin:4 End:4} ` +
		`{Name:b DType:U8 Shape:[3] Begin:4 End:7}] map["format":"pt" "x\n":"\\"]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if h.DataStart() != int64(len(b)-7) {
		t.Errorf("data start %d", h.DataStart())
	}
}

// TestFindingsAreCapped: a header full of unknown fields takes little memory.
func TestFindingsAreCapped(t *testing.T) {
	t.Parallel()
	h, err := read(file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]`+strings.Repeat(`,"":0`, 100_000)+`}}`, 0))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Findings) != maxFindingsPerRule {
		t.Fatalf("%d findings", len(h.Findings))
	}
	if d := h.Findings[len(h.Findings)-1].Detail; !strings.HasSuffix(d, "and 99900 more of this rule") {
		t.Error(d)
	}
}

// TestReadFailure: trouble with the reader is not a verdict about the file.
func TestReadFailure(t *testing.T) {
	t.Parallel()
	b := file(`{}      `, 0)
	if _, err := ReadHeader(bytes.NewReader(b[:10]), int64(len(b))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("shrunken file: %v", err)
	}
	broken := errors.New("broken")
	if _, err := ReadHeader(brokenReader{broken}, 100); !errors.Is(err, broken) {
		t.Errorf("broken reader: %v", err)
	}
	if _, err := ReadHeader(bytes.NewReader(nil), -1); kindOf(t, err) != HeaderTooSmall {
		t.Errorf("negative size: %v", err)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

// TestLengthBeforeMemory: a length that the file does not have is refused
// before the bytes are allocated.
func TestLengthBeforeMemory(t *testing.T) {
	b := binary.LittleEndian.AppendUint64(nil, MaxHeaderLength)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := read(b)
	runtime.ReadMemStats(&after)
	if kindOf(t, err) != InvalidHeaderLength {
		t.Error(err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes for a lie about the length", used)
	}
}

func TestByteSize(t *testing.T) {
	t.Parallel()
	const huge = 1<<64 - 1
	tests := []struct {
		d     DType
		shape []uint64
		want  uint64
		kind  Kind
	}{
		{F32, nil, 4, ""},
		{F4, []uint64{2, 3}, 3, ""},
		{F6E2M3, []uint64{4}, 3, ""},
		{F6E3M2, []uint64{3}, 0, MisalignedSlice},
		{U64, []uint64{0, huge}, 0, ""},
		{U64, []uint64{2, huge, 0}, 0, ValidationOverflow},
		{U8, []uint64{1 << 61}, 0, ValidationOverflow},
		{BOOL, []uint64{1<<61 - 1}, 1<<61 - 1, ""},
	}
	for _, tt := range tests {
		got, err := ByteSize(tt.d, tt.shape)
		if tt.kind == "" {
			if err != nil || got != tt.want {
				t.Errorf("%s%v: %d, %v", tt.d, tt.shape, got, err)
			}
		} else if k := kindOf(t, err); k != tt.kind {
			t.Errorf("%s%v: %s, want %s", tt.d, tt.shape, k, tt.kind)
		}
	}
}

func TestDTypeNames(t *testing.T) {
	t.Parallel()
	for d := BOOL; d <= U64; d++ {
		if got, ok := ParseDType(d.String()); !ok || got != d || d.Bits() == 0 {
			t.Errorf("%s: %v, %v, %d bits", d, got, ok, d.Bits())
		}
	}
	for _, name := range []string{"", "f32", "F32 ", "C128"} {
		if d, ok := ParseDType(name); ok {
			t.Errorf("%q is %s", name, d)
		}
	}
	if DType(0).Bits() != 0 || DType(200).Bits() != 0 || DType(200).String() != "DType(200)" {
		t.Error("unknown types have a size or a name")
	}
}
