package attest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	ita1 "github.com/in-toto/attestation/go/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/encoding/protojson"
)

var update = flag.Bool("update", false, "write the golden files")

// fullPredicate has a value in every field.
func fullPredicate() *Predicate {
	h := func(s string) string { return sha(s) }
	st := func(name, index string) *SafetensorsInfo {
		return &SafetensorsInfo{HeaderSize: 256, HeaderDigest: h(name + " header"), Tensors: 3,
			DTypes: map[string]int{"F16": 2, "I64": 1}, TensorSetDigest: h(name + " set"), Index: index}
	}
	conversion := func(source, out, name string) Conversion {
		return Conversion{
			Source:  SourceInfo{Path: source, Format: "torch-zip", Size: 4096, Digest: h(source)},
			Outputs: []OutputInfo{{Path: out, Digest: h(out)}},
			Engine:  Engine{Name: "weightseal", Version: "v1.0.0"},
			Equality: Equality{Kind: "bitwise", TensorSetDigestSource: h(name + " set"), TensorSetDigestOutput: h(name + " set"), Tensors: 3,
				Aliases: []AliasEntry{{Removed: "lm_head.weight", Kept: "wte.weight"}, {Removed: "decoder.weight", Kept: "wte.weight"}},
				Dropped: []DroppedEntry{{Path: "epoch", Kind: "int", Reason: "safetensors holds tensors only"}}},
		}
	}
	return &Predicate{
		TimeEvaluated: "2026-05-04T03:02:01Z",
		Tool:          Tool{URI: "https://weightseal.dev", Version: "v1.0.0", Digest: map[string]string{"sha256": h("tool")[7:]}},
		Policy:        PolicyRef{Name: "safetensors-only", URI: "https://example.org/policy", Digest: map[string]string{"sha256": h("policy")[7:]}},
		Artifact:      ArtifactInfo{MediaType: "application/vnd.oci.image.manifest.v1+json", ArtifactType: "application/vnd.cncf.model.manifest.v1+json", ConfigDigest: h("config"), ManifestSize: 1234},
		Origin: &Origin{URI: "hf://org/name@0123456789abcdef0123456789abcdef01234567", Files: []OriginFile{
			{Path: "b.bin", Digest: h("b.bin")}, {Path: "a.bin", Digest: h("a.bin")}}},
		Summary:       Summary{Parameters: 1 << 40},
		WeightsDigest: h("weights"),
		Files: []FileEntry{
			{Path: "tokenizer_config.json", LayerDigest: h("tokenizer_config.json"), Size: 30, Role: "tokenizer", Format: FormatInfo{Detected: "json", Declared: "json"},
				Findings: []FindingEntry{{Rule: "WS-TEMPLATE", Severity: "low", Where: "chat_template"}}},
			{Path: "model.safetensors.index.json", LayerDigest: h("index"), Size: 99, Role: "config", Format: FormatInfo{Detected: "json", Declared: "json"}},
			{Path: "model-00002-of-00002.safetensors", LayerDigest: h("model-00002-of-00002.safetensors"), ContentDigest: h("model-00002-of-00002.safetensors"), Size: 1000, Role: "weight",
				Format: FormatInfo{Detected: "safetensors", Declared: "safetensors"}, Safetensors: st("two", "model.safetensors.index.json")},
			{Path: "model-00001-of-00002.safetensors", LayerDigest: h("model-00001-of-00002.safetensors"), Size: 2000, Role: "weight",
				Format: FormatInfo{Detected: "safetensors", Declared: "safetensors"}, Safetensors: st("one", "model.safetensors.index.json")},
		},
		Conversions:    []Conversion{conversion("b.bin", "model-00002-of-00002.safetensors", "two"), conversion("a.bin", "model-00001-of-00002.safetensors", "one")},
		Exceptions:     []Exception{{Rule: "WS-TEMPLATE", Path: "tokenizer_config.json", Reason: "read by hand", ApprovedBy: "sec@example.org", Expires: "2027-01-01"}},
		TensorManifest: &BlobRef{MediaType: "application/vnd.weightseal.tensors.v1", Digest: h("listing"), Size: 700},
	}
}

// statementPredicate gives the predicate of a statement, undecoded.
func statementPredicate(tb testing.TB, st []byte) json.RawMessage {
	tb.Helper()
	s, err := decodeStatement(st)
	if err != nil {
		tb.Fatal(err)
	}
	return s.Predicate
}

func TestStatementGolden(t *testing.T) {
	t.Parallel()
	got, err := NewStatement("registry.example/team/model", sha("manifest"), fullPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	file := filepath.Join("testdata", "statement.golden.json")
	if *update {
		if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("statement differs from %s; run with -update and look at the diff:\n%s", file, &pretty)
	}
}

// The order of what the caller gives is not the caller's to choose.
func TestStatementDeterministic(t *testing.T) {
	t.Parallel()
	p := fullPredicate()
	before, err := json.Marshal(p.Files)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewStatement("m", sha("manifest"), p)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(p.Files); !bytes.Equal(before, after) {
		t.Error("NewStatement changed the caller's arrays")
	}
	if p.Result != Passed || p.Level != 4 || p.Summary.Files != 4 {
		t.Errorf("the caller is not told: %s %d %+v", p.Result, p.Level, p.Summary)
	}
	slices.Reverse(p.Files)
	slices.Reverse(p.Conversions)
	slices.Reverse(p.Origin.Files)
	slices.Reverse(p.Conversions[0].Equality.Aliases)
	p.Result, p.Level, p.Summary.Files = Failed, 1, 77
	b, err := NewStatement("m", sha("manifest"), p)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("two statements of the same facts:\n%s\n%s", a, b)
	}
}

// in-toto's own types read it.
func TestStatementInToto(t *testing.T) {
	t.Parallel()
	raw, err := NewStatement("m", sha("manifest"), fullPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var st ita1.Statement
	if err := protojson.Unmarshal(raw, &st); err != nil {
		t.Fatal(err)
	}
	if err := st.Validate(); err != nil {
		t.Error(err)
	}
	if st.GetType() != "https://in-toto.io/Statement/v1" || st.GetPredicateType() != PredicateType || len(st.GetSubject()) != 1 ||
		st.GetSubject()[0].GetDigest()["sha256"] != sha("manifest")[7:] || st.GetSubject()[0].GetName() != "m" {
		t.Errorf("header: %v", st.String())
	}
	if got := st.GetPredicate().GetFields()["result"].GetStringValue(); got != Passed {
		t.Errorf("result %q", got)
	}
}

func TestStatementRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		digest string
		change func(*Predicate)
		want   string
	}{
		"subject is not sha256":     {digest: "sha512:00", want: "is not a sha256 digest"},
		"subject in upper case":     {digest: "sha256:" + strings.ToUpper(sha("x")[7:]), want: "is not a sha256 digest"},
		"no time":                   {change: func(p *Predicate) { p.TimeEvaluated = "" }, want: "timeEvaluated"},
		"size beyond 2^53":          {change: func(p *Predicate) { p.Files[0].Size = 1 << 53 }, want: "files["},
		"negative count":            {change: func(p *Predicate) { p.Files[3].Safetensors.DTypes["F16"] = -1 }, want: ".dtypes.F16: -1 is not between 0 and 2^53-1"},
		"path twice":                {change: func(p *Predicate) { p.Files[1].Path = p.Files[0].Path }, want: "there twice"},
		"layer digest":              {change: func(p *Predicate) { p.Files[1].LayerDigest = "sha256:1" }, want: "files: \"model.safetensors.index.json\""},
		"no config digest":          {change: func(p *Predicate) { p.Artifact.ConfigDigest = "" }, want: "artifact.configDigest"},
		"header digest":             {change: func(p *Predicate) { p.Files[2].Safetensors.HeaderDigest = "" }, want: "files: \"model-00002"},
		"source digest":             {change: func(p *Predicate) { p.Conversions[0].Source.Digest = "x" }, want: "conversions: \"b.bin\""},
		"exception without rule":    {change: func(p *Predicate) { p.Exceptions[0].Rule = "" }, want: "exceptions"},
		"exception with odd expiry": {change: func(p *Predicate) { p.Exceptions[0].Expires = "soon" }, want: "expires \"soon\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, d := fullPredicate(), sha("manifest")
			if test.change != nil {
				test.change(p)
			}
			if test.digest != "" {
				d = test.digest
			}
			if _, err := NewStatement("m", d, p); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func compileSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("..", "docs", "safetensors-compliance-v1.schema.json"))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func validateSchema(s *jsonschema.Schema, raw []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

func TestSchemaAcceptsStatements(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	empty := &Predicate{TimeEvaluated: "2026-01-01T00:00:00Z", Tool: Tool{URI: "u"},
		Artifact: ArtifactInfo{MediaType: "m", ConfigDigest: sha("config")}}
	for name, p := range map[string]*Predicate{"full": fullPredicate(), "least": empty} {
		st, err := NewStatement("m", sha("manifest"), p)
		if err != nil {
			t.Fatal(err)
		}
		if err := validateSchema(schema, statementPredicate(t, st)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	st, err := NewStatement("m", sha("manifest"), fullPredicate())
	if err != nil {
		t.Fatal(err)
	}
	good := string(statementPredicate(t, st))
	for _, r := range [][2]string{
		{`"result":"PASSED"`, `"result":"GREAT"`},
		{`"result":"PASSED",`, ``},
		{`"level":4`, `"level":5`},
		{`"manifestSize":1234`, `"manifestSize":9007199254740992`},
		{`"manifestSize":1234`, `"manifestSize":-1`},
		{`"timeEvaluated":"2026-05-04T03:02:01Z"`, `"timeEvaluated":"yesterday"`},
		{sha("config"), "sha512:00"},
		{`"role":"weight"`, `"role":"heavy"`},
		{`"severity":"low"`, `"severity":"shrug"`},
		{`"executedPickle":false`, `"executedPickle":"no"`},
		{`"outputs":[{"path":"model-00001-of-00002.safetensors","digest":"` + sha("model-00001-of-00002.safetensors") + `"}]`, `"outputs":[]`},
		{`"F16":2`, `"F16":1.5`},
	} {
		bad := strings.Replace(good, r[0], r[1], 1)
		if bad == good {
			t.Errorf("%s is not in the predicate", r[0])
			continue
		}
		if validateSchema(schema, []byte(bad)) == nil {
			t.Errorf("schema accepts %s", r[1])
		}
	}
}

// The schema knows every field of the Go types, and requires those that are
// always written.
func TestSchemaCoversTypes(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "docs", "safetensors-compliance-v1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(raw, &root); err != nil {
		t.Fatal(err)
	}
	coverType(t, root, root, reflect.TypeFor[Predicate](), "predicate")
}

func coverType(t *testing.T, root, node map[string]any, typ reflect.Type, where string) {
	t.Helper()
	if ref, ok := node["$ref"].(string); ok {
		node = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	switch typ = deref(typ); typ.Kind() {
	case reflect.Slice:
		coverType(t, root, node["items"].(map[string]any), typ.Elem(), where+"[]")
	case reflect.Struct:
		props, _ := node["properties"].(map[string]any)
		var required []string
		for i := range typ.NumField() {
			name, opts, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if opts != "omitempty" {
				required = append(required, name)
			}
			p, ok := props[name].(map[string]any)
			if !ok {
				t.Errorf("%s.%s is not in the schema", where, name)
				continue
			}
			coverType(t, root, p, typ.Field(i).Type, where+"."+name)
		}
		if len(props) != typ.NumField() {
			t.Errorf("%s: the schema has %d properties, the type %d fields", where, len(props), typ.NumField())
		}
		var got []string
		for _, r := range node["required"].([]any) {
			got = append(got, r.(string))
		}
		slices.Sort(got)
		slices.Sort(required)
		if !slices.Equal(got, required) {
			t.Errorf("%s: schema requires %v, always written are %v", where, got, required)
		}
	}
}
