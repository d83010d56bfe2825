package safetensors

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseIndex(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(checkpoints, "sharded/pytorch_model.bin.index.json"))
	if err != nil {
		t.Fatal(err)
	}
	ix, err := ParseIndex(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pytorch_model-00001-of-00003.bin", "pytorch_model-00002-of-00003.bin", "pytorch_model-00003-of-00003.bin"}
	if got := ix.Shards(); !reflect.DeepEqual(got, want) {
		t.Errorf("shards %v", got)
	}
	if len(ix.WeightMap) == 0 || ix.Metadata["total_size"] == nil {
		t.Errorf("%+v", ix)
	}
	again, err := ix.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseIndex(again); err != nil || !reflect.DeepEqual(back, ix) {
		t.Errorf("%v\ngot  %v\nwant %v", err, back, ix)
	}
}

// TestEncodeIndex: as json.dumps(index, indent=2, sort_keys=True) + "\n".
func TestEncodeIndex(t *testing.T) {
	t.Parallel()
	ix := &Index{
		Metadata:  map[string]any{"total_size": 12, "none": map[string]any{}, "list": []any{}, "f": 1.5},
		WeightMap: map[string]string{"z": "m-2.bin", "é<😀\x7f\n\u2028": "m-1.bin"},
		Extra:     map[string]any{"a": []any{true, nil}},
	}
	const want = `{
  "a": [
    true,
    null
  ],
  "metadata": {
    "f": 1.5,
    "list": [],
    "none": {},
    "total_size": 12
  },
  "weight_map": {
    "z": "m-2.bin",
    "\u00e9<\ud83d\ude00\u007f\n\u2028": "m-1.bin"
  }
}
`
	got, err := ix.Encode()
	if err != nil || string(got) != want {
		t.Fatalf("%v\n%s", err, got)
	}
	back, err := ParseIndex(got)
	if err != nil || !reflect.DeepEqual(back.WeightMap, ix.WeightMap) {
		t.Errorf("%v: %v", err, back)
	}
	for _, bad := range []*Index{{WeightMap: map[string]string{"a": "../b"}}, {WeightMap: map[string]string{"\xff": "b"}}} {
		if _, err := bad.Encode(); !errors.Is(err, ErrIndex) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if got, err := (&Index{}).Encode(); err != nil || string(got) != "{\n  \"weight_map\": {}\n}\n" {
		t.Errorf("empty: %v, %q", err, got)
	}
}

func TestParseIndexRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"empty":               {``, "byte 0"},
		"not UTF-8":           {"{\"\xff\":1}", "byte 2: not UTF-8"},
		"list":                {`[]`, "byte 0"},
		"no map":              {`{"metadata":{}}`, "weight_map is missing"},
		"map null":            {`{"weight_map":null}`, "byte 14"},
		"map of numbers":      {`{"weight_map":{"a":1}}`, "byte 19"},
		"metadata list":       {`{"metadata":[],"weight_map":{}}`, "byte 12"},
		"two values":          {`{"weight_map":{}} {}`, "byte 18"},
		"map twice":           {`{"weight_map":{},"weight_map":{}}`, "twice"},
		"metadata twice":      {`{"metadata":{},"weight_map":{},"metadata":{}}`, "twice"},
		"other twice":         {`{"x":1,"weight_map":{},"x":1}`, "twice"},
		"tensor twice":        {`{"weight_map":{"a":"b","a":"c"}}`, "twice"},
		"by escape":           {`{"weight_map":{"a":"b","\u0061":"b"}}`, "byte 23"},
		"metadata key twice":  {`{"metadata":{"a":{"b":1,"b":2}},"weight_map":{}}`, "twice"},
		"empty shard":         {`{"weight_map":{"a":""}}`, "empty"},
		"absolute":            {`{"weight_map":{"a":"/etc/passwd"}}`, "separator"},
		"climbs":              {`{"weight_map":{"a":"../b"}}`, "separator"},
		"dots":                {`{"weight_map":{"a":".."}}`, `".."`},
		"folder":              {`{"weight_map":{"a":"b/c"}}`, "byte 19"},
		"backslash":           {`{"weight_map":{"a":"b\\c"}}`, "separator"},
		"drive":               {`{"weight_map":{"a":"c:b"}}`, "separator"},
		"NUL":                 {`{"weight_map":{"a":"b\u0000"}}`, "control"},
		"deep":                {`{"x":` + strings.Repeat("[", 200), "nested"},
		"unfinished":          {`{"weight_map":{"a":"b"}`, "byte 23"},
		"second value for it": {`{"weight_map":{"a":"b" "c"}}`, "byte 23"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ix, err := ParseIndex([]byte(tt.text))
			if !errors.Is(err, ErrIndex) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want %q", ix, err, tt.want)
			}
		})
	}
}

func TestIndexCheck(t *testing.T) {
	t.Parallel()
	header := func(meta map[string]string, names ...string) *Header {
		var specs []Spec
		for _, name := range names {
			specs = append(specs, Spec{name, U8, nil})
		}
		h, _, err := NewHeader(specs, meta)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	headers := map[string]*Header{
		"1": header(map[string]string{"tie": "a"}, "a", "b"),
		"2": header(nil, "c"),
	}
	plain := map[string]string{"a": "1", "b": "1", "c": "2"}
	with := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for k, v := range plain {
			m[k] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			if m[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
				delete(m, pairs[i])
			}
		}
		return m
	}
	tests := map[string]struct {
		weights map[string]string
		headers map[string]*Header
		want    string
	}{
		"exact":           {plain, headers, ""},
		"tie named":       {with("tie", "1"), headers, ""},
		"tie elsewhere":   {with("tie", "2"), headers, `the tensor "tie" in "2", which does not hold it`},
		"missing":         {with("b", ""), headers, `does not name the tensor "b" of "1"`},
		"stale":           {with("x", "2"), headers, `the tensor "x" in "2", which does not hold it`},
		"wrong shard":     {with("c", "1"), headers, `lies in "1", but it lies in "2"`},
		"no such shard":   {with("x", "3"), headers, `the shard "3", which is not there`},
		"in two shards":   {plain, map[string]*Header{"1": headers["1"], "2": header(nil, "c", "a")}, "lies in two shards"},
		"shard too many":  {plain, map[string]*Header{"1": headers["1"], "2": headers["2"], "3": header(nil)}, `does not name the shard "3"`},
		"many":            {map[string]string{}, map[string]*Header{"1": header(nil, strings.Split("abcdefghijklmn", "")...)}, "and 4 more"},
		"nothing at all":  {nil, nil, ""},
		"header is nil":   {plain, map[string]*Header{"1": headers["1"], "2": nil}, `the shard "2", which is not there`},
		"empty shard key": {with("x", "1"), map[string]*Header{"1": headers["1"], "2": headers["2"], "": header(nil, "x")}, `says that the tensor "x" lies in "1"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := (&Index{WeightMap: tt.weights}).Check(tt.headers)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.Is(err, ErrIndex) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseIndex(f *testing.F) {
	text, err := os.ReadFile(filepath.Join(checkpoints, "sharded/pytorch_model.bin.index.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"metadata":{"total_size":1e3,"x":[{"y":null}]},"weight_map":{"\ud83d\ude00":"a","b\n":"a"},"z":-0.5}`))
	f.Add([]byte(`{"weight_map":{"a":"../b"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ix, err := ParseIndex(b)
		if err != nil {
			return
		}
		out, err := ix.Encode()
		if err != nil {
			t.Fatalf("parsed but not written: %v", err)
		}
		back, err := ParseIndex(out)
		if err != nil || !reflect.DeepEqual(back, ix) {
			t.Fatalf("%v\n%s", err, out)
		}
		if bytes.ContainsFunc(out, func(r rune) bool { return r >= 0x7f }) {
			t.Fatalf("not ASCII: %q", out)
		}
	})
}
