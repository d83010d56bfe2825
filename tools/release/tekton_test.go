//go:build unix

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var tektonVariable = regexp.MustCompile(`\$\(([\w.-]+?)(\[\*\])?\)`)

func tektonTask(t *testing.T, command string) map[string]any {
	t.Helper()
	return documents(t, "deploy/tekton/weightseal-"+command+".yaml")[0]
}

// tektonNames gives the names of a list of declarations.
func tektonNames(t *testing.T, v any) []string {
	t.Helper()
	var names []string
	for _, e := range sequence(t, v) {
		names = append(names, text(mapping(t, e)["name"]))
	}
	return names
}

// TestTektonSchema holds each Task to tekton.dev/v1, and wants every variable
// to be declared and every declaration to be used.
func TestTektonSchema(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../deploy/tekton/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("there are %v (%v)", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		docs := documents(t, "deploy/tekton/"+name)
		if len(docs) != 1 {
			t.Errorf("%s has %d documents", name, len(docs))
		}
		task := onlyKeys(t, name, docs[0], "apiVersion kind metadata spec", "apiVersion", "kind", "metadata", "spec")
		if task["apiVersion"] != "tekton.dev/v1" || task["kind"] != "Task" || text(mapping(t, task["metadata"])["name"])+".yaml" != name {
			t.Errorf("%s: it is a %v of %v named %v", name, task["kind"], task["apiVersion"], mapping(t, task["metadata"])["name"])
		}
		checkTektonSpec(t, name, task["spec"])
	}
}

func checkTektonSpec(t *testing.T, name string, v any) {
	t.Helper()
	spec := onlyKeys(t, name, v, "description displayName params workspaces results steps stepTemplate volumes sidecars", "description", "steps")
	declared := map[string]bool{}
	for _, v := range sequence(t, spec["params"]) {
		p := onlyKeys(t, name+" param", v, "name description type default enum properties", "name", "description", "type")
		if _, isList := p["default"].([]any); p["default"] != nil && isList != (p["type"] == "array") {
			t.Errorf("%s: the default of %v is no %v", name, p["name"], p["type"])
		}
		declared["params."+text(p["name"])] = p["type"] == "array"
	}
	for _, v := range sequence(t, spec["workspaces"]) {
		declared["workspaces."+text(onlyKeys(t, name+" workspace", v, "name description mountPath readOnly optional", "name", "description")["name"])+".path"] = false
	}
	for _, v := range sequence(t, spec["results"]) {
		declared["results."+text(onlyKeys(t, name+" result", v, "name description type properties value", "name", "description")["name"])+".path"] = false
	}
	used := map[string]bool{}
	for _, v := range sequence(t, spec["steps"]) {
		step := checkContainer(t, name, v, "name image imagePullPolicy command args workingDir env computeResources volumeMounts securityContext onError timeout")
		texts := []any{step["image"], step["workingDir"]}
		texts = append(texts, sequence(t, step["args"])...)
		for _, e := range sequence(t, step["env"]) {
			texts = append(texts, mapping(t, e)["value"])
			texts = append(texts, mapping(t, mapping(t, mapping(t, e)["valueFrom"])["secretKeyRef"])["name"])
		}
		for _, v := range texts {
			for _, m := range tektonVariable.FindAllStringSubmatch(text(v), -1) {
				list, ok := declared[m[1]]
				if !ok || list != (m[2] != "") || list && text(v) != m[0] {
					t.Errorf("%s: %s is not declared, or not of this type", name, v)
				}
				used[m[1]] = true
			}
		}
	}
	for variable := range declared {
		if !used[variable] {
			t.Errorf("%s: %s is declared and not used", name, variable)
		}
	}
}

// tektonRun is a TaskRun.
type tektonRun struct {
	params     map[string][]string
	workspaces map[string]string // where each is mounted; one that is not bound is missing
	secrets    map[string]string // NAME/KEY
}

// tekton runs a Task's steps.
func (c *container) tekton(t *testing.T, task map[string]any, run tektonRun) (int, map[string]string, string) {
	t.Helper()
	spec := mapping(t, task["spec"])
	params := map[string][]string{}
	for _, v := range sequence(t, spec["params"]) {
		p := mapping(t, v)
		name := text(p["name"])
		switch given, ok := run.params[name]; {
		case ok:
			params[name] = given
		case p["default"] == nil:
			t.Errorf("the param %s is required", name)
		case p["type"] == "array":
			params[name] = nil
		default:
			params[name] = []string{text(p["default"])}
		}
	}
	for name := range run.params {
		if _, ok := params[name]; !ok {
			t.Errorf("the Task has no param %s", name)
		}
	}
	for _, v := range sequence(t, spec["workspaces"]) {
		w := mapping(t, v)
		if run.workspaces[text(w["name"])] == "" && w["optional"] != true {
			t.Errorf("the workspace %s is required", w["name"])
		}
	}
	fill := func(v any) string {
		return tektonVariable.ReplaceAllStringFunc(text(v), func(s string) string {
			parts := strings.Split(tektonVariable.FindStringSubmatch(s)[1], ".")
			switch parts[0] {
			case "params":
				return strings.Join(params[parts[1]], " ")
			case "workspaces":
				return run.workspaces[parts[1]]
			}
			return c.inside(containerResults + "/" + parts[1])
		})
	}
	code, said := 0, ""
	for _, v := range sequence(t, spec["steps"]) {
		step := mapping(t, v)
		args := []string{text(sequence(t, step["command"])[0])}
		for _, a := range sequence(t, step["args"]) {
			if m := tektonVariable.FindStringSubmatch(text(a)); m != nil && m[2] != "" {
				args = append(args, params[strings.TrimPrefix(m[1], "params.")]...)
				continue
			}
			args = append(args, fill(a))
		}
		var env []string
		for _, e := range sequence(t, step["env"]) {
			value := fill(mapping(t, e)["value"])
			if ref := mapping(t, mapping(t, mapping(t, e)["valueFrom"])["secretKeyRef"]); ref != nil {
				value = run.secrets[fill(ref["name"])+"/"+text(ref["key"])]
			}
			env = append(env, text(mapping(t, e)["name"])+"="+value)
		}
		said, code = c.run(t, fill(step["workingDir"]), env, args)
	}
	results := map[string]string{}
	for _, name := range tektonNames(t, spec["results"]) {
		results[name] = c.result(t, containerResults+"/"+name)
	}
	return code, results, said
}

// bound are the workspaces of a run; each Task takes those that it has.
func (c *container) bound(t *testing.T, task map[string]any) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range tektonNames(t, mapping(t, task["spec"])["workspaces"]) {
		if name != "dockerconfig" {
			all[name] = c.inside(containerWorkspace)
		}
	}
	return all
}

// TestTektonTasks runs the Tasks in the image against a registry.
func TestTektonTasks(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	for _, e := range c.expectations() {
		task := tektonTask(t, e.command)
		run := tektonRun{params: map[string][]string{"args": {"--progress=none"}}, workspaces: c.bound(t, task), secrets: map[string]string{"weightseal-key/password": testPassword}}
		for name, value := range map[string]string{"reference": e.reference, "path": e.source, "key": e.key} {
			if value != "" && slices.Contains(tektonNames(t, mapping(t, task["spec"])["params"]), name) {
				run.params[name] = []string{value}
			}
		}
		if e.command == "scan" {
			run.params["args"] = []string{"--report", "sarif=weightseal.sarif"}
		}
		code, results, said := c.tekton(t, task, run)
		e.checkResults(t, code, results, said)
		for name, value := range results {
			if e.code == 0 && value == "" || strings.ContainsAny(value, "\r\n") || len(value) > 4096 {
				t.Errorf("%s: the result %s is %q", e.name, name, value)
			}
		}
		if e.command == "scan" {
			checkSARIF(t, c.path("weightseal.sarif"))
			_ = os.Remove(c.path("weightseal.sarif"))
		}
	}
}
