package attest

import (
	"strings"
	"testing"
)

func TestDecodeStrict(t *testing.T) {
	t.Parallel()
	type inner struct {
		N int `json:"n"`
	}
	type doc struct {
		A    string            `json:"a"`
		In   *inner            `json:"in"`
		List []inner           `json:"list"`
		Map  map[string]inner  `json:"map"`
		Text map[string]string `json:"text"`
	}
	for name, test := range map[string]struct {
		in   string
		want string // part of the error; "" for none
	}{
		"plain":                    {`{"a":"x","in":{"n":1},"list":[{"n":2}],"map":{"k":{"n":3}}}`, ""},
		"white space around":       {" \n{\"a\":\"x\"}\t\n", ""},
		"unknown key":              {`{"b":[{"c":1}],"a":"x"}`, ""},
		"key twice":                {`{"a":"x","a":"y"}`, `key "a" twice`},
		"key twice, escaped":       {`{"a":"x","\u0061":"y"}`, `key "a" twice`},
		"key twice, nested":        {`{"list":[{"n":1,"n":2}]}`, `key "n" twice`},
		"key twice in unknown":     {`{"zzz":{"q":1,"q":2}}`, `key "q" twice`},
		"key twice in map":         {`{"text":{"q":"1","q":"2"}}`, `key "q" twice`},
		"other case":               {`{"A":"x"}`, `"a" in another case`},
		"both cases":               {`{"a":"x","A":"y"}`, `"a" in another case`},
		"other case, nested":       {`{"in":{"N":1}}`, `"n" in another case`},
		"other case, in list":      {`{"list":[{"N":1}]}`, `"n" in another case`},
		"other case, in map":       {`{"map":{"K":{"N":1}}}`, `"n" in another case`},
		"other case is free there": {`{"text":{"q":"1","Q":"2"}}`, ""},
		"trailing document":        {`{"a":"x"}{"a":"y"}`, "9 bytes after the end"},
		"trailing text":            {`{"a":"x"} x`, "1 bytes after the end"},
		"trailing NUL":             {"{\"a\":\"x\"}\x00", "1 bytes after the end"},
		"cut off":                  {`{"a":"x"`, "unexpected EOF"},
		"empty":                    {``, "unexpected EOF"},
		"trailing comma":           {`{"list":[{"n":1},]}`, ""},
		"not UTF-8":                {"{\"a\":\"\xff\"}", "not valid UTF-8"},
		"wrong type":               {`{"a":1}`, "cannot unmarshal"},
		"fraction":                 {`{"in":{"n":1.5}}`, "cannot unmarshal"},
		"deep":                     {`{"zzz":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "nested deeper than 64"},
		"not so deep":              {`{"zzz":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`, ""},
		"many items":               {`{"zzz":[` + strings.Repeat("0,", maxJSONItems) + `0]}`, "more than 100000 items"},
		"bare list":                {`[]`, "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := decodeStrict([]byte(test.in), &doc{})
			switch {
			case name == "trailing comma":
				if err == nil {
					t.Error("accepted")
				}
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
