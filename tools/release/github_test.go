package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// githubRunner runs the steps of the action as GitHub's runner does: inputs and
// outputs are put in for expressions, run steps go to bash, and each step has
// its own files for outputs, summary and path
// (https://docs.github.com/actions/reference/workflows-and-actions/metadata-syntax).
type githubRunner struct {
	s       *site
	action  string // a checkout of the action
	path    []string
	context map[string]string // github.*, secrets.*
}

func newGithubRunner(t *testing.T, s *site) *githubRunner {
	t.Helper()
	g := &githubRunner{s: s, action: filepath.Join(t.TempDir(), "action"), context: map[string]string{}}
	for _, name := range []string{"action.yml", "plugin.yaml", "tools/plugin-hook"} {
		b, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(g.action, name), string(b))
	}
	// As on a release's page, with the key in the checkout.
	writeFile(t, filepath.Join(g.action, "weightseal.pub"), string(s.m.read(t, "weightseal.pub")))
	return g
}

var githubExpression = regexp.MustCompile(`\$\{\{\s*([^}]*?)\s*\}\}`)

func (g *githubRunner) expand(t *testing.T, value any, known map[string]string) string {
	t.Helper()
	return githubExpression.ReplaceAllStringFunc(text(value), func(s string) string {
		name := githubExpression.FindStringSubmatch(s)[1]
		for _, context := range []map[string]string{known, g.context} {
			if v, ok := context[name]; ok {
				return v
			}
		}
		if strings.Contains(name, ".outputs.") { // unset outputs are empty
			return ""
		}
		t.Errorf("expression %s has no value", s)
		return ""
	})
}

// stepResult is what came of a step or of the action.
type stepResult struct {
	code          int
	outputs       map[string]string
	summary, said string
}

// shell runs a run step.
func (g *githubRunner) shell(t *testing.T, dir, script string, env []string) *stepResult {
	t.Helper()
	files := t.TempDir()
	for _, name := range []string{"output", "summary", "path"} {
		writeFile(t, filepath.Join(files, name), "")
	}
	writeFile(t, filepath.Join(files, "script.sh"), script)
	path := append(append([]string{}, g.path...), os.Getenv("PATH"))
	env = append(append(append([]string{}, g.s.env...),
		"PATH="+strings.Join(path, ":"), "RUNNER_TEMP="+files, "GITHUB_WORKSPACE="+g.s.dir, "GITHUB_ACTION_PATH="+g.action, "GITHUB_ACTIONS=true", "CI=true",
		"GITHUB_OUTPUT="+filepath.Join(files, "output"), "GITHUB_STEP_SUMMARY="+filepath.Join(files, "summary"), "GITHUB_PATH="+filepath.Join(files, "path")), env...)
	r := &stepResult{}
	r.said, r.code = call(t, dir, env, "bash", "--noprofile", "--norc", "-eo", "pipefail", filepath.Join(files, "script.sh"))
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	r.outputs, r.summary = githubOutputs(t, read("output")), read("summary")
	g.path = append(strings.Fields(read("path")), g.path...)
	if left, _ := filepath.Glob(filepath.Join(files, "weightseal-key*")); len(left) > 0 {
		t.Errorf("a key is left behind: %v", left)
	}
	return r
}

// githubOutputs reads the file of a step's outputs: name=value, or name<<END
// and lines up to END.
func githubOutputs(t *testing.T, file string) map[string]string {
	t.Helper()
	got := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	for i := 0; i < len(lines) && file != ""; i++ {
		if name, end, ok := strings.Cut(lines[i], "<<"); ok {
			var value []string
			for i++; i < len(lines) && lines[i] != end; i++ {
				value = append(value, lines[i])
			}
			got[name] = strings.Join(value, "\n")
			continue
		}
		name, value, ok := strings.Cut(lines[i], "=")
		if !ok {
			t.Fatalf("line %d of the outputs: %q", i+1, lines[i])
		}
		got[name] = value
	}
	return got
}

// use runs the action with inputs, as `uses:` does.
func (g *githubRunner) use(t *testing.T, with map[string]string, env []string) *stepResult {
	t.Helper()
	action := documents(t, "action.yml")[0]
	known := map[string]string{}
	for name, v := range mapping(t, action["inputs"]) {
		given, ok := with[name]
		if input := mapping(t, v); !ok && input["required"] == true {
			t.Errorf("input %s is required", name)
		} else if !ok {
			given = g.expand(t, input["default"], nil)
		}
		known["inputs."+name] = given
	}
	for name := range with {
		if _, ok := known["inputs."+name]; !ok {
			t.Errorf("the action has no input %s", name)
		}
	}
	total := &stepResult{outputs: map[string]string{}}
	for _, v := range sequence(t, mapping(t, action["runs"])["steps"]) {
		step := mapping(t, v)
		stepEnv := append([]string{}, env...)
		for name, value := range mapping(t, step["env"]) {
			stepEnv = append(stepEnv, name+"="+g.expand(t, value, known))
		}
		dir := g.s.path(g.expand(t, step["working-directory"], known))
		r := g.shell(t, dir, text(step["run"]), stepEnv)
		for name, value := range r.outputs {
			known["steps."+text(step["id"])+".outputs."+name] = value
		}
		total.said, total.summary, total.code = total.said+r.said, total.summary+r.summary, r.code
		if r.code != 0 {
			break // the steps after one that fails do not run
		}
	}
	for name, v := range mapping(t, action["outputs"]) {
		total.outputs[name] = g.expand(t, mapping(t, v)["value"], known)
	}
	return total
}

// TestGithubActionSchema holds the file to what GitHub takes for a composite
// action, and to the rule that no expression stands in a script.
func TestGithubActionSchema(t *testing.T) {
	t.Parallel()
	action := onlyKeys(t, "action.yml", documents(t, "action.yml")[0], "name author description inputs outputs runs branding", "name", "description", "runs")
	for name, v := range mapping(t, action["inputs"]) {
		onlyKeys(t, "inputs."+name, v, "description required default deprecationMessage", "description")
	}
	for name, v := range mapping(t, action["outputs"]) {
		onlyKeys(t, "outputs."+name, v, "description value", "description", "value")
	}
	onlyKeys(t, "branding", action["branding"], "icon color", "icon", "color")
	runs := onlyKeys(t, "runs", action["runs"], "using steps", "using", "steps")
	if runs["using"] != "composite" {
		t.Errorf("it runs using %v", runs["using"])
	}
	used := map[string]bool{}
	for i, v := range sequence(t, runs["steps"]) {
		where := fmt.Sprintf("steps[%d]", i)
		step := onlyKeys(t, where, v, "name id if shell env run uses with working-directory continue-on-error", "name", "shell", "run")
		if script := text(step["run"]); strings.Contains(script, "${{") {
			t.Errorf("%s: an expression in a script is code of whoever chose the value", where)
		} else {
			shellcheck(t, where, "bash", script)
		}
		for _, value := range mapping(t, step["env"]) {
			for _, m := range githubExpression.FindAllStringSubmatch(text(value), -1) {
				used[strings.TrimPrefix(m[1], "inputs.")] = true
			}
		}
	}
	for name := range mapping(t, action["inputs"]) {
		if !used[name] && name != "working-directory" {
			t.Errorf("no step takes the input %s", name)
		}
	}
}

// release is the part of the inputs that names a local release.
func (s *site) release(with map[string]string) map[string]string {
	with = maps.Clone(with)
	if with["release"] == "" {
		with["release"], with["version"] = s.m.dir, "v1.2.3"
	}
	return with
}

// TestGithubAction runs the action against a registry.
func TestGithubAction(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	g := newGithubRunner(t, s)
	for _, e := range s.expectations() {
		with := map[string]string{"command": e.command, "source": e.source, "reference": e.reference, "key": e.key}
		if e.command == "scan" {
			with["sarif"] = "out.sarif"
		}
		r := g.use(t, s.release(with), nil)
		e.checkResults(t, r.code, r.outputs, r.said)
		if r.outputs["exit-code"] != fmt.Sprint(e.code) {
			t.Errorf("%s: the output exit-code is %q", e.name, r.outputs["exit-code"])
		}
		if (e.code == 0 || e.command == "scan") && !strings.Contains(r.summary, "## weightseal "+e.command) {
			t.Errorf("%s: the summary is %q", e.name, r.summary)
		}
		if e.command == "scan" {
			checkSARIF(t, s.path("out.sarif"))
		}
	}
}

func checkSARIF(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	var report struct {
		Version string
		Runs    []any
	}
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil || report.Version != "2.1.0" || len(report.Runs) != 1 {
		t.Errorf("%s is no report: %s (%v)", path, b, err)
	}
}

// TestGithubActionInputs: forms of the inputs, and values that a careless
// script would run.
func TestGithubActionInputs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	g := newGithubRunner(t, s)
	ref := s.registry + "/team/model:v1"
	key, pub := string(s.read(t, ourKey)), string(s.read(t, ourPub))
	marker := s.path("marker")
	attack := `x"; touch ` + marker + `; $(touch ` + marker + `) ` + "`touch " + marker + "`"
	for _, c := range []struct {
		name string
		with map[string]string
		code int
	}{
		{"the key's text", map[string]string{"command": "push", "source": pickledModel, "reference": ref, "key": key, "username": "u", "password": "p"}, 0},
		{"the public key's text", map[string]string{"command": "verify", "reference": ref, "key": pub}, 0},
		{"several keys", map[string]string{"command": "verify", "reference": ref, "key": strangerPub + "\n" + ourPub + "\n"}, 0},
		{"several sources", map[string]string{"command": "scan", "source": cleanModel + "\n" + pickledModel + "/config.json"}, 0},
		{"more arguments", map[string]string{"command": "scan", "args": "--exclude\n" + "**/*.bin\n--exclude\n*.key\n--exclude=*.pub\n--exclude=oci/**", "source": cleanModel}, 0},
		{"another folder", map[string]string{"command": "scan", "working-directory": cleanModel}, 0},
		{"policy", map[string]string{"command": "verify", "reference": ref, "key": ourPub, "policy": "safetensors-first"}, 0},
		{"fail-on", map[string]string{"command": "scan", "source": pickledModel, "fail-on": "unsafe"}, 0},
		{"the release's key as text", map[string]string{"command": "scan", "source": cleanModel, "release-key": string(s.m.read(t, "weightseal.pub"))}, 0},
		{"the release's key as file", map[string]string{"command": "scan", "source": cleanModel, "release-key": s.m.path("weightseal.pub")}, 0},
		{"another release's key", map[string]string{"command": "scan", "source": cleanModel, "release-key": ourPub}, 1},
		{"another command", map[string]string{"command": "keygen"}, 2},
		{"an option as a source", map[string]string{"command": "scan", "source": "--help"}, 1},
		{"code as a source", map[string]string{"command": "scan", "source": attack}, 1},
		{"code as a reference", map[string]string{"command": "verify", "reference": attack, "key": ourPub}, 2},
		{"code as a key", map[string]string{"command": "verify", "reference": ref, "key": attack}, 2},
		{"code as arguments", map[string]string{"command": "scan", "source": cleanModel, "args": attack}, 1},
		{"code as a command", map[string]string{"command": attack}, 2},
		{"code as a version", map[string]string{"command": "scan", "source": cleanModel, "release": s.m.dir, "version": attack}, 1},
	} {
		if r := g.use(t, s.release(c.with), nil); r.code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, r.code, c.code, r.said)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("an input was run")
	}
}
