package main

import (
	"encoding/xml"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const gitlabComponent = "templates/weightseal.yml"

var gitlabInput = regexp.MustCompile(`\$\[\[\s*inputs\.([\w-]+)\s*\]\]`)

// gitlabInputs checks inputs against the component's header as GitLab does, and
// fills in the defaults (https://docs.gitlab.com/ci/inputs/).
func gitlabInputs(t *testing.T, header map[string]any, with map[string]string) map[string]string {
	t.Helper()
	declared := mapping(t, mapping(t, header["spec"])["inputs"])
	all := map[string]string{}
	for name, v := range declared {
		input := mapping(t, v)
		value, ok := with[name]
		fallback, optional := input["default"]
		if !ok && !optional {
			t.Errorf("the input %s is required", name)
		}
		if !ok {
			value = text(fallback)
		}
		if options := sequence(t, input["options"]); options != nil && !slices.Contains(options, any(value)) {
			t.Errorf("the input %s cannot be %q", name, value)
		}
		all[name] = value
	}
	for name := range with {
		if declared[name] == nil {
			t.Errorf("the component has no input %s", name)
		}
	}
	return all
}

// gitlabFill puts inputs into every text of a configuration.
func gitlabFill(t *testing.T, v any, inputs map[string]string) any {
	t.Helper()
	fill := func(s string) string {
		return gitlabInput.ReplaceAllStringFunc(s, func(found string) string {
			name := gitlabInput.FindStringSubmatch(found)[1]
			value, ok := inputs[name]
			if !ok {
				t.Errorf("%s is no input", name)
			}
			return value
		})
	}
	switch v := v.(type) {
	case string:
		return fill(v)
	case []any:
		var list []any
		for _, e := range v {
			list = append(list, gitlabFill(t, e, inputs))
		}
		return list
	case map[string]any:
		m := map[string]any{}
		for key, e := range v {
			m[fill(key)] = gitlabFill(t, e, inputs)
		}
		return m
	}
	return v
}

// component gives the jobs of the component for some inputs.
func component(t *testing.T, with map[string]string) map[string]any {
	t.Helper()
	docs := documents(t, gitlabComponent)
	if len(docs) != 2 {
		t.Fatalf("%s has %d documents, want a header and a configuration", gitlabComponent, len(docs))
	}
	return mapping(t, gitlabFill(t, docs[1], gitlabInputs(t, docs[0], with)))
}

// gitlabJob runs a job as the runner's shell does: the variables, with those of
// the project in them, then before_script and script in one shell.
func (s *site) gitlabJob(t *testing.T, job map[string]any, project map[string]string) (int, map[string]string, string) {
	t.Helper()
	env := slices.Clone(s.env)
	for name, value := range mapping(t, job["variables"]) {
		env = append(env, name+"="+os.Expand(text(value), func(v string) string { return project[v] }))
	}
	for name, value := range project {
		env = append(env, name+"="+value)
	}
	var script strings.Builder
	script.WriteString("set -eo pipefail\n")
	for _, part := range []string{"before_script", "script"} {
		for _, line := range sequence(t, job[part]) {
			script.WriteString(text(line) + "\n")
		}
	}
	writeFile(t, s.path("job.sh"), script.String())
	said, code := call(t, s.dir, env, "bash", s.path("job.sh"))
	results := map[string]string{}
	b, err := os.ReadFile(s.path("weightseal.env"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) { // as the dotenv report is read
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok || !regexp.MustCompile(`^[A-Za-z0-9_]+$`).MatchString(name) {
			t.Errorf("GitLab takes no line %q", line)
		}
		results[name] = value
	}
	return code, results, said
}

func (s *site) gitlabRelease(with map[string]string) map[string]string {
	for name, value := range map[string]string{"version": "v1.2.3", "release": s.m.dir, "release-key": s.m.path("weightseal.pub")} {
		if with[name] == "" {
			with[name] = value
		}
	}
	return with
}

// TestGitlabSchema holds the component to what GitLab takes.
func TestGitlabSchema(t *testing.T) {
	t.Parallel()
	docs := documents(t, gitlabComponent)
	header := onlyKeys(t, "header", docs[0], "spec", "spec")
	spec := onlyKeys(t, "spec", header["spec"], "inputs component include", "inputs")
	for name, v := range mapping(t, spec["inputs"]) {
		input := onlyKeys(t, name, v, "description type default options regex rules", "description")
		if options := sequence(t, input["options"]); options != nil && input["default"] != nil && !slices.Contains(options, input["default"]) {
			t.Errorf("%s: the default is none of the options", name)
		}
	}
	for name, v := range docs[1] {
		job := onlyKeys(t, name, v, "stage image variables before_script script after_script artifacts rules needs allow_failure tags retry timeout", "stage", "script")
		artifacts := onlyKeys(t, "artifacts", job["artifacts"], "when paths reports expire_in name exclude expose_as access untracked", "reports")
		onlyKeys(t, "reports", artifacts["reports"], "dotenv junit", "dotenv", "junit")
		script := ""
		for _, part := range []string{"before_script", "script"} {
			for _, line := range sequence(t, job[part]) {
				script += text(line) + "\n"
			}
		}
		if gitlabInput.MatchString(script) {
			t.Error("an input in a script is code of whoever chose the value")
		}
		shellcheck(t, name, "dash", script)
	}
	component(t, map[string]string{"command": "scan"})
}

// TestGitlabComponent runs the component's job against a registry.
func TestGitlabComponent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, e := range s.expectations() {
		for _, name := range []string{"weightseal.env", "weightseal.xml", "weightseal.sarif"} {
			_ = os.Remove(s.path(name))
		}
		with := map[string]string{"command": e.command, "reference": e.reference, "key": e.key, "args": "\n--progress=none\n"}
		if e.source != "" {
			with["source"] = e.source
		}
		job := mapping(t, component(t, s.gitlabRelease(with))["weightseal"])
		code, results, said := s.gitlabJob(t, job, nil)
		if got := results["WEIGHTSEAL_EXIT_CODE"]; got != text(e.code) {
			t.Errorf("%s: WEIGHTSEAL_EXIT_CODE is %q", e.name, got)
		}
		e.checkResults(t, code, map[string]string{
			"verdict": results["WEIGHTSEAL_VERDICT"], "digest": results["WEIGHTSEAL_DIGEST"],
			"reference": results["WEIGHTSEAL_REFERENCE"], "level": results["WEIGHTSEAL_LEVEL"],
		}, said)
		if e.command == "scan" {
			checkSARIF(t, s.path("weightseal.sarif"))
			checkJUnit(t, s.path("weightseal.xml"), e.code != 0)
		}
		if left, _ := filepath.Glob(s.path("tmp.*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", e.name, left)
		}
	}
}

func checkJUnit(t *testing.T, path string, failed bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	var report struct {
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Failures int `xml:"failures,attr"`
		} `xml:"testsuite"`
	}
	if err == nil {
		err = xml.Unmarshal(b, &report)
	}
	n := report.Failures
	for _, suite := range report.Suites {
		n += suite.Failures
	}
	if err != nil || n > 0 != failed {
		t.Errorf("%s has %d failures: %s (%v)", path, n, b, err)
	}
}

// TestGitlabRefusals: a release that is not what its key has signed is not run,
// and no value is run as code.
func TestGitlabRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	spoiled := t.TempDir()
	if err := os.CopyFS(spoiled, os.DirFS(s.m.dir)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(spoiled, host().archive("1.2.3")), "no archive")
	marker := s.path("marker")
	attack := `x"; touch ` + marker + `; $(touch ` + marker + `) ` + "`touch " + marker + "`\nEND\ntouch " + marker
	for name, with := range map[string]map[string]string{
		"another key":     {"release-key": ourPub},
		"another archive": {"release": spoiled},
		"another version": {"version": "v1.2.4"},
		"code as source":  {"source": attack},
		"code as args":    {"args": attack},
		"code as version": {"version": attack},
		"code as key":     {"release-key": attack},
	} {
		with["command"] = "scan"
		if with["source"] == "" {
			with["source"] = cleanModel
		}
		_ = os.Remove(s.path("weightseal.env"))
		job := mapping(t, component(t, s.gitlabRelease(with))["weightseal"])
		code, results, said := s.gitlabJob(t, job, nil)
		if ran := strings.HasPrefix(name, "code as source") || name == "code as args"; code == 0 || results["WEIGHTSEAL_EXIT_CODE"] != "" != ran {
			t.Errorf("%s: exit code %d, %v\n%s", name, code, results, said)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("an input was run")
	}
}
