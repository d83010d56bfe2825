//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The pages of the pipelines, with every block run: the files as their hosts
// run them, as far as there is no host here.

// onlyBlocks wants a page to have blocks of some languages and no others, and
// gives them.
func onlyBlocks(t *testing.T, page string, least int, languages ...string) [][2]string {
	t.Helper()
	list := fences(t, page)
	if len(list) < least {
		t.Errorf("%s has %d blocks: are they still found?", page, len(list))
	}
	for _, block := range list {
		if !slices.Contains(languages, block[0]) {
			t.Errorf("%s: nothing runs a block of %s", page, block[0])
		}
	}
	return list
}

// TestGithubHowto runs the workflows of the page.
func TestGithubHowto(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write(t, pickledModel+"/.keep", "")
	for i, block := range onlyBlocks(t, "github.md", 2, "yaml") {
		workflow := onlyKeys(t, "workflow", parseYAML(t, "github.md", []byte(block[1]))[0], "name on permissions jobs env", "jobs")
		for name, v := range mapping(t, workflow["jobs"]) {
			job := onlyKeys(t, name, v, "runs-on permissions steps", "runs-on", "steps")
			said := s.githubJob(t, sequence(t, job["steps"]))
			wanted := "deploy " + s.registry + "/team/llm/model@sha256:"
			if i == 1 {
				wanted = "::warning::the scan says convertible"
			}
			if !strings.Contains(said, wanted) {
				t.Errorf("%s: %q is missing in\n%s", name, wanted, said)
			}
		}
	}
}

// githubJob runs the steps of a job, and gives what the run steps said.
func (s *site) githubJob(t *testing.T, steps []any) string {
	t.Helper()
	g := newGithubRunner(t, s)
	g.context = map[string]string{
		"github.repository": "team/llm", "github.sha": "0123abc", "github.actor": "someone", "secrets.GITHUB_TOKEN": "token",
		"secrets.COSIGN_KEY": string(s.read(t, ourKey)), "secrets.COSIGN_PASSWORD": testPassword,
	}
	known, said := map[string]string{}, ""
	for i, v := range steps {
		step := onlyKeys(t, fmt.Sprintf("steps[%d]", i), v, "name id if uses with run env continue-on-error shell")
		with := map[string]string{}
		for name, value := range mapping(t, step["with"]) {
			with[name] = strings.Replace(g.expand(t, value, known), "ghcr.io", s.registry, 1)
		}
		var env []string
		for name, value := range mapping(t, step["env"]) {
			env = append(env, name+"="+g.expand(t, value, known))
		}
		action, _, _ := strings.Cut(text(step["uses"]), "@")
		r := &stepResult{}
		switch action {
		case "weightseal/weightseal":
			r = g.use(t, s.release(with), env)
		case "github/codeql-action/upload-sarif":
			checkSARIF(t, s.path(with["sarif_file"]))
		case "actions/checkout":
		case "":
			r = g.shell(t, s.dir, text(step["run"]), env)
			said += r.said
		default:
			t.Errorf("nothing runs %s", action)
		}
		if r.code != 0 && step["continue-on-error"] != true {
			t.Fatalf("step %d ends with %d\n%s", i, r.code, r.said)
		}
		for name, value := range r.outputs {
			known["steps."+text(step["id"])+".outputs."+name] = value
		}
	}
	return said
}

// TestGitlabHowto runs the pipelines of the page.
func TestGitlabHowto(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	project := map[string]string{"CI_REGISTRY_IMAGE": s.registry + "/team/llm", "CI_COMMIT_SHORT_SHA": "0123abc", "COSIGN_KEY": s.path(ourKey)}
	codes := map[string]int{}
	for _, block := range onlyBlocks(t, "gitlab.md", 3, "yaml") {
		config := parseYAML(t, "gitlab.md", []byte(block[1]))[0]
		for _, v := range sequence(t, config["include"]) {
			include := onlyKeys(t, "include", v, "component inputs", "component", "inputs")
			if !regexp.MustCompile(`^\$CI_SERVER_FQDN/[\w/-]+/weightseal@v[\d.]+$`).MatchString(text(include["component"])) {
				t.Errorf("the component is %v", include["component"])
			}
			with := map[string]string{}
			for name, value := range mapping(t, include["inputs"]) {
				with[name] = text(value)
			}
			for name, job := range component(t, s.gitlabRelease(with)) {
				code, results, said := s.gitlabJob(t, mapping(t, job), project)
				codes[name] = code
				for variable, value := range results {
					project[variable] = value
				}
				own := mapping(t, config[name]) // what the page's own part adds to the job
				allowed := sequence(t, mapping(t, own["allow_failure"])["exit_codes"])
				if code != 0 && !slices.Contains(allowed, any(code)) {
					t.Errorf("%s ends with %d\n%s", name, code, said)
				}
			}
		}
		if job := mapping(t, config["deploy"]); job != nil {
			code, _, said := s.gitlabJob(t, job, project)
			if code != 0 || !regexp.MustCompile(`(?m)^deploy `+regexp.QuoteMeta(s.registry)+`/team/llm/model@sha256:[0-9a-f]{64}, PASSED at level \d$`).MatchString(said) {
				t.Errorf("deploy ends with %d\n%s", code, said)
			}
		}
	}
	if codes["scan-model"] != 3 || len(codes) != 3 {
		t.Errorf("the jobs end with %v", codes)
	}
}

// TestJenkinsHowto runs the page's scripts as Jenkins does, with `sh -xe`.
func TestJenkinsHowto(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write(t, "weightseal.pub", string(s.m.read(t, "weightseal.pub")))
	// curl serves the release's page from its folder.
	page := "https://" + module + "/releases/download/v0.1.0"
	s.write(t, "bin/curl", "#!/bin/sh\nfor last; do :; done\n[ \"$4\" = -o ] || exit 9\ncp \""+s.m.dir+"/${last#"+page+"/}\" \"$5\"\n")
	if err := os.Chmod(s.path("bin", "curl"), 0o755); err != nil {
		t.Fatal(err)
	}
	blocks := onlyBlocks(t, "jenkins.md", 1, "groovy")
	env := append(slices.Clone(s.env), "PATH="+s.path("bin")+":"+os.Getenv("PATH"), "COSIGN_KEY="+s.path(ourKey))
	for _, m := range regexp.MustCompile(`(?m)^    (\w+) *= '(.*)'$`).FindAllStringSubmatch(blocks[0][1], -1) {
		value := strings.Replace(m[2], "registry.example", s.registry, 1)
		if m[1] == "WEIGHTSEAL_VERSION" {
			value = "1.2.3"
		}
		env = append(env, m[1]+"="+value)
	}
	scripts := regexp.MustCompile(`(?s)sh(\(returnStatus: true, script:)? '''\n(.*?)'''`).FindAllStringSubmatch(blocks[0][1], -1)
	if len(scripts) != 4 || strings.Contains(blocks[0][1], `"""`) {
		t.Fatalf("the page has %d scripts", len(scripts))
	}
	for i, m := range scripts {
		shellcheck(t, "jenkins.md", "dash", m[2])
		writeFile(t, s.path("script.sh"), m[2])
		code := 0
		if m[1] != "" { // the scan of a pickle
			code = 3
		}
		want(t, code, s.dir, env, "sh", "-xe", s.path("script.sh"))
		if i == 1 {
			checkJUnit(t, s.path("weightseal.xml"), true)
			checkSARIF(t, s.path("weightseal.sarif"))
		}
	}
	if host() != (platform{"linux", "amd64"}) {
		t.Log("the page names the archive of linux/amd64")
	}
}

// secretsOf runs a page's commands, which make keys and print Secrets, and
// wants the Secrets that they print to hold the keys that the page's files use.
func (c *container) secretsOf(t *testing.T, block string, wanted ...string) {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	tool := filepath.Join(bin, "weightseal")
	if err := os.WriteFile(tool, c.m.r.binaries[host()], 0o700); err != nil {
		t.Fatal(err)
	}
	env := append(slices.Clone(c.env), "HOME="+dir, "PATH="+bin+":"+os.Getenv("PATH"))
	commands(t, dir, env, block)
	said := want(t, 0, dir, env, "bash", "-ec", "rm cosign.*\n"+block)
	for _, part := range wanted {
		if !strings.Contains(said, part) {
			t.Errorf("%q is missing in\n%s", part, said)
		}
	}
	for _, name := range []string{ourKey, ourPub} { // the keys of the page from here on
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		c.write(t, name, string(b))
	}
}

// TestTektonHowto runs the page's Pipeline in the image.
func TestTektonHowto(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	ran := map[string]string{}
	for _, block := range onlyBlocks(t, "tekton.md", 2, "sh", "yaml") {
		if block[0] == "sh" {
			c.secretsOf(t, block[1], "name: weightseal-keys", "cosign.key: ", "cosign.pub: ", "name: weightseal-key\n", "password: ")
			continue
		}
		pipeline := onlyKeys(t, "pipeline", parseYAML(t, "tekton.md", []byte(block[1]))[0], "apiVersion kind metadata spec", "spec")
		spec := onlyKeys(t, "pipeline", pipeline["spec"], "params workspaces tasks results", "tasks")
		known := map[string]string{"params.reference": c.registry + "/team/model:v1"}
		fill := func(v any) string {
			return tektonVariable.ReplaceAllStringFunc(text(v), func(s string) string {
				value, ok := known[tektonVariable.FindStringSubmatch(s)[1]]
				if !ok {
					t.Errorf("%s has no value", s)
				}
				return value
			})
		}
		for _, v := range sequence(t, spec["tasks"]) {
			entry := onlyKeys(t, "task", v, "name taskRef params workspaces runAfter", "name", "taskRef")
			task := tektonTask(t, strings.TrimPrefix(text(mapping(t, entry["taskRef"])["name"]), "weightseal-"))
			run := tektonRun{params: map[string][]string{}, workspaces: map[string]string{}, secrets: map[string]string{"weightseal-key/password": testPassword}}
			for _, v := range sequence(t, entry["params"]) {
				p := mapping(t, v)
				if list, ok := p["value"].([]any); ok {
					for _, e := range list {
						run.params[text(p["name"])] = append(run.params[text(p["name"])], fill(e))
					}
					continue
				}
				run.params[text(p["name"])] = []string{fill(p["value"])}
			}
			for _, v := range sequence(t, entry["workspaces"]) {
				if w := mapping(t, v); slices.Contains(tektonNames(t, spec["workspaces"]), text(w["workspace"])) {
					run.workspaces[text(w["name"])] = c.inside(containerWorkspace)
				}
			}
			code, results, said := c.tekton(t, task, run)
			if code != 0 {
				t.Errorf("%v ends with %d\n%s", entry["name"], code, said)
			}
			for name, value := range results {
				known["tasks."+text(entry["name"])+".results."+name] = value
			}
		}
		for _, v := range sequence(t, spec["results"]) {
			ran[text(mapping(t, v)["name"])] = fill(mapping(t, v)["value"])
		}
	}
	if !strings.HasPrefix(ran["reference"], c.registry+"/team/model@sha256:") {
		t.Errorf("the pipeline gives %q", ran)
	}
	checkSARIF(t, c.path("weightseal.sarif"))
}

// TestArgoHowto runs the page's Workflow in the image.
func TestArgoHowto(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	steps := 0
	for _, block := range onlyBlocks(t, "argo.md", 2, "sh", "yaml") {
		if block[0] == "sh" {
			c.secretsOf(t, block[1], "name: weightseal-keys", "cosign.key: ", "cosign.pub: ", "password: ")
			c.keys(t, ourKey, ourPub)
			continue
		}
		spec := mapping(t, parseYAML(t, "argo.md", []byte(block[1]))[0]["spec"])
		template := mapping(t, documents(t, argoFile)[0]["spec"])
		for _, list := range []struct{ given, needed any }{
			{mapping(t, spec["arguments"])["parameters"], mapping(t, template["arguments"])["parameters"]},
			{spec["volumes"], template["volumes"]},
		} {
			for _, name := range tektonNames(t, list.needed) {
				if !slices.Contains(tektonNames(t, list.given), name) {
					t.Errorf("the Workflow gives no %s", name)
				}
			}
		}
		known := map[string]string{"workflow.parameters.reference": c.registry + "/team/model:v1"}
		for _, group := range sequence(t, mapping(t, sequence(t, spec["templates"])[0])["steps"]) {
			for _, v := range sequence(t, group) {
				step := onlyKeys(t, "step", v, "name templateRef arguments", "name", "templateRef")
				params := map[string]string{}
				for _, v := range sequence(t, mapping(t, step["arguments"])["parameters"]) {
					p := mapping(t, v)
					params[text(p["name"])] = argoVariable.ReplaceAllStringFunc(text(p["value"]), func(s string) string {
						return known[argoVariable.FindStringSubmatch(s)[1]]
					})
				}
				code, results, said := c.argo(t, text(mapping(t, step["templateRef"])["template"]), params, pickledModel)
				if code != 0 {
					t.Errorf("%v ends with %d\n%s", step["name"], code, said)
				}
				for name, value := range results {
					known["steps."+text(step["name"])+".outputs.parameters."+name] = value
				}
				steps++
			}
		}
	}
	if steps != 3 {
		t.Errorf("%d steps ran", steps)
	}
}
