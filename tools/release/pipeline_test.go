package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weightseal/weightseal/internal/realtools"
)

// site is what the pipelines of the tests work on: a registry, keys and models,
// all below one folder.
type site struct {
	m        *made
	dir      string
	registry string
	env      []string // without anything of the machine's user
}

// Folders and files of a site.
const (
	pickledModel  = "my-model" // converts without loss
	cleanModel    = "clean"    // safetensors
	maliciousFile = "evil"     // a folder with a pickle that calls os.system
	ourKey        = "cosign.key"
	ourPub        = "cosign.pub"
	strangerPub   = "stranger.pub"
)

func newSite(t *testing.T) *site {
	t.Helper()
	return siteIn(t, t.TempDir())
}

func siteIn(t *testing.T, dir string) *site {
	t.Helper()
	s := &site{m: makeRelease(t), dir: dir, registry: realtools.Registry(t)}
	s.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "COSIGN_PASSWORD=" + testPassword}
	checkpoint, err := os.ReadFile("../../testdata/checkpoints/tied.pt")
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, pickledModel+"/pytorch_model.bin", string(checkpoint))
	s.write(t, pickledModel+"/config.json", `{"architectures": ["Tiny"]}`)
	s.write(t, maliciousFile+"/pytorch_model.bin", "cos\nsystem\n(S'true'\ntR.")
	tool := filepath.Join(t.TempDir(), "weightseal")
	if err := os.WriteFile(tool, s.m.r.binaries[host()], 0o700); err != nil {
		t.Fatal(err)
	}
	want(t, 0, dir, s.env, tool, "keygen")
	want(t, 0, dir, s.env, tool, "keygen", "--output-key-prefix", "stranger")
	want(t, 0, dir, s.env, tool, "convert", pickledModel+"/pytorch_model.bin", cleanModel+".safetensors")
	s.write(t, cleanModel+"/model.safetensors", string(s.read(t, cleanModel+".safetensors")))
	return s
}

func (s *site) path(elem ...string) string { return filepath.Join(append([]string{s.dir}, elem...)...) }

func (s *site) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	writeFile(t, s.path(filepath.FromSlash(name)), content)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// documents reads the YAML documents of a file of the checkout.
func documents(t *testing.T, name string) []map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return parseYAML(t, name, b)
}

func parseYAML(t *testing.T, name string, b []byte) []map[string]any {
	t.Helper()
	var list []map[string]any
	for dec := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var doc map[string]any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list = append(list, doc)
	}
}

// onlyKeys wants no other keys in a mapping than its host knows, and gives the
// mapping.
func onlyKeys(t *testing.T, where string, v any, known string, required ...string) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s: want a mapping, it is %T", where, v)
	}
	for key := range m {
		if !slices.Contains(strings.Fields(known), key) {
			t.Errorf("%s: the host knows no %q", where, key)
		}
	}
	for _, key := range required {
		if m[key] == nil {
			t.Errorf("%s: %s is missing", where, key)
		}
	}
	return m
}

func mapping(t *testing.T, v any) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		t.Fatalf("want a mapping, it is %T: %v", v, v)
	}
	return m
}

func sequence(t *testing.T, v any) []any {
	t.Helper()
	list, ok := v.([]any)
	if !ok && v != nil {
		t.Fatalf("want a list, it is %T: %v", v, v)
	}
	return list
}

// text is a scalar as a pipeline's host would write it.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// shellcheck lints a piece of shell as it stands in a pipeline's file.
func shellcheck(t *testing.T, where, shell, script string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(t.TempDir(), "step"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, script)
	// SC2086: words that are left to be split on purpose. SC2154: set by the host.
	if out, code := call(t, "", nil, program(t, "shellcheck"), "--shell", shell, "--exclude", "SC2086,SC2154,SC2206", path); code != 0 {
		t.Errorf("%s: shellcheck says\n%s", where, out)
	}
}

// expectation is one run of a pipeline's step, and what must come of it.
type expectation struct {
	name, command, source, reference, key string
	code                                  int
	verdict                               string
}

// expectations are run by every pipeline, in this order: the first puts there
// what the others look at.
func (s *site) expectations() []expectation {
	ref := s.registry + "/team/model:v1"
	return []expectation{
		{"push", "push", pickledModel, ref, ourKey, 0, "PASSED"},
		{"a push that policy refuses", "push", maliciousFile, s.registry + "/team/evil:v1", ourKey, 3, ""},
		{"verify", "verify", "", ref, ourPub, 0, "PASSED"},
		{"verify for a stranger", "verify", "", ref, strangerPub, 4, ""},
		{"scan of a clean model", "scan", cleanModel, "", "", 0, "safe"},
		{"scan of a pickle", "scan", pickledModel, "", "", 3, "convertible"},
		{"scan of a malicious pickle", "scan", maliciousFile, "", "", 3, "unsafe"},
	}
}

var digests = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// checkResults compares what a step told the pipeline with what is expected.
func (e *expectation) checkResults(t *testing.T, code int, results map[string]string, said string) {
	t.Helper()
	if code != e.code {
		t.Errorf("%s: exit code %d, want %d\n%s", e.name, code, e.code, said)
	}
	if results["verdict"] != e.verdict {
		t.Errorf("%s: verdict is %q, want %q\n%s", e.name, results["verdict"], e.verdict, said)
	}
	if e.command == "scan" || e.code != 0 {
		return
	}
	repository, _, _ := strings.Cut(e.reference, ":v1")
	if !digests.MatchString(results["digest"]) || results["reference"] != repository+"@"+results["digest"] || results["level"] == "" {
		t.Errorf("%s: results are %q", e.name, results)
	}
}

// fences are the blocks of a page: their language and text.
func fences(t *testing.T, page string) [][2]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs/howto", page))
	if err != nil {
		t.Fatal(err)
	}
	var list [][2]string
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		list = append(list, [2]string{m[1], m[2]})
	}
	if strings.Count(string(b), "\n```") != 2*len(list) {
		t.Errorf("%s has a block that is not found: each needs a language", page)
	}
	return list
}

// commands runs the lines of a page's sh block, with the exit codes beside
// them.
func commands(t *testing.T, dir string, env []string, block string) {
	t.Helper()
	exit := regexp.MustCompile(`^(.*?)\s+# exit code (\d+)$`)
	block = strings.ReplaceAll(block, "\\\n", " ")
	for line := range strings.Lines(block) {
		line, code := strings.TrimSpace(line), 0
		if m := exit.FindStringSubmatch(line); m != nil {
			line = m[1]
			if _, err := fmt.Sscan(m[2], &code); err != nil {
				t.Fatal(err)
			}
		}
		want(t, code, dir, env, "bash", "-c", line)
	}
}

// TestPipelinesNameThisVersion: what the pages and files tell people to use is
// the version of plugin.yaml.
func TestPipelinesNameThisVersion(t *testing.T) {
	t.Parallel()
	manifest, err := os.ReadFile("../../plugin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	version := string(regexp.MustCompile(`(?m)^version: (\S+)$`).FindSubmatch(manifest)[1])
	pages, err := filepath.Glob("../../docs/howto/*.md")
	if err != nil {
		t.Fatal(err)
	}
	deployed, err := filepath.Glob("../../deploy/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?:weightseal[@:]v|rev: v|download/v|app.kubernetes.io/version: |default: v|WEIGHTSEAL_VERSION = ')(\d+\.\d+\.\d+)`)
	found := 0
	for _, name := range append(append(pages, deployed...), "../../"+gitlabComponent) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(b, -1) {
			found++
			if string(m[1]) != version {
				t.Errorf("%s names version %s, plugin.yaml %s", name, m[1], version)
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d versions found", found)
	}
}
