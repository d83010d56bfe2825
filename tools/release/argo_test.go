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

const argoFile = "deploy/argo/weightseal.yaml"

var argoVariable = regexp.MustCompile(`\{\{([\w.-]+)\}\}`)

// TestArgoSchema holds the WorkflowTemplate to argoproj.io/v1alpha1, and wants
// every variable to be declared and every declaration to be used.
func TestArgoSchema(t *testing.T) {
	t.Parallel()
	doc := onlyKeys(t, argoFile, documents(t, argoFile)[0], "apiVersion kind metadata spec", "apiVersion", "kind", "metadata", "spec")
	if doc["apiVersion"] != "argoproj.io/v1alpha1" || doc["kind"] != "WorkflowTemplate" || mapping(t, doc["metadata"])["name"] != "weightseal" {
		t.Errorf("it is a %v of %v", doc["kind"], doc["apiVersion"])
	}
	spec := onlyKeys(t, "spec", doc["spec"], "entrypoint arguments volumes templates serviceAccountName workflowMetadata podMetadata securityContext", "templates")
	shared := map[string]bool{}
	for _, v := range sequence(t, mapping(t, spec["arguments"])["parameters"]) {
		shared["workflow.parameters."+text(onlyKeys(t, "argument", v, "name value valueFrom enum description", "name", "value")["name"])] = false
	}
	var volumes []string
	for _, v := range sequence(t, spec["volumes"]) {
		volume := onlyKeys(t, "volume", v, "name secret configMap emptyDir", "name")
		volumes = append(volumes, text(volume["name"]))
		argoUse(t, "volumes", text(mapping(t, volume["secret"])["secretName"]), shared)
	}
	for _, v := range sequence(t, spec["templates"]) {
		checkArgoTemplate(t, v, shared, volumes)
	}
	for name, used := range shared {
		if !used {
			t.Errorf("%s is declared and not used", name)
		}
	}
}

func argoUse(t *testing.T, where, value string, declared map[string]bool) {
	t.Helper()
	for _, m := range argoVariable.FindAllStringSubmatch(value, -1) {
		if _, ok := declared[m[1]]; !ok {
			t.Errorf("%s: %s is not declared", where, m[1])
		}
		declared[m[1]] = true
	}
}

func checkArgoTemplate(t *testing.T, v any, shared map[string]bool, volumes []string) {
	t.Helper()
	tmpl := onlyKeys(t, "template", v, "name inputs outputs container metadata", "name", "container")
	name := text(tmpl["name"])
	inputs := onlyKeys(t, name, tmpl["inputs"], "parameters artifacts")
	own := map[string]bool{}
	for _, p := range sequence(t, inputs["parameters"]) {
		own["inputs.parameters."+text(onlyKeys(t, name, p, "name value default description enum", "name")["name"])] = false
	}
	c := checkContainer(t, name, tmpl["container"], "image command args env volumeMounts securityContext resources workingDir")
	var args []string
	for _, a := range sequence(t, c["args"]) {
		args = append(args, text(a))
		for _, m := range argoVariable.FindAllStringSubmatch(text(a), -1) {
			if strings.HasPrefix(m[1], "inputs.") {
				argoUse(t, name, m[0], own)
			} else {
				argoUse(t, name, m[0], shared)
			}
		}
	}
	argoUse(t, name, text(c["image"]), shared)
	for _, m := range sequence(t, c["volumeMounts"]) {
		if mount := onlyKeys(t, name, m, "name mountPath readOnly subPath", "name", "mountPath"); !slices.Contains(volumes, text(mount["name"])) {
			t.Errorf("%s mounts %v, which is no volume", name, mount["name"])
		}
	}
	for _, a := range sequence(t, inputs["artifacts"]) {
		if path := onlyKeys(t, name, a, "name path optional mode", "name", "path")["path"]; !slices.Contains(args, text(path)) {
			t.Errorf("%s does not read its artifact %v", name, path)
		}
	}
	outputs := onlyKeys(t, name, tmpl["outputs"], "parameters artifacts")
	written := func(path any) {
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "="+text(path)) }) {
			t.Errorf("%s does not write %v", name, path)
		}
	}
	for _, p := range sequence(t, outputs["parameters"]) {
		from := onlyKeys(t, name, onlyKeys(t, name, p, "name valueFrom", "name", "valueFrom")["valueFrom"], "path default", "path")
		written(from["path"])
	}
	for _, a := range sequence(t, outputs["artifacts"]) {
		written(onlyKeys(t, name, a, "name path archive optional", "name", "path")["path"])
	}
	for variable, used := range own {
		if !used {
			t.Errorf("%s: %s is declared and not used", name, variable)
		}
	}
}

// argo runs a template: parameters are put in, artifacts and volumes are
// mounted where it says, outputs are read where it says.
func (c *container) argo(t *testing.T, name string, params map[string]string, model string) (int, map[string]string, string) {
	t.Helper()
	spec := mapping(t, documents(t, argoFile)[0]["spec"])
	known := map[string]string{}
	for _, v := range sequence(t, mapping(t, spec["arguments"])["parameters"]) {
		p := mapping(t, v)
		known["workflow.parameters."+text(p["name"])] = text(p["value"])
	}
	known["workflow.parameters.plain-http"] = "true"
	var tmpl map[string]any
	for _, v := range sequence(t, spec["templates"]) {
		if mapping(t, v)["name"] == name {
			tmpl = mapping(t, v)
		}
	}
	inputs := mapping(t, tmpl["inputs"])
	for _, v := range sequence(t, inputs["parameters"]) {
		p := mapping(t, v)
		value, ok := params[text(p["name"])]
		if !ok && p["value"] == nil {
			t.Errorf("%s: the parameter %v is required", name, p["name"])
		}
		if !ok {
			value = text(p["value"])
		}
		known["inputs.parameters."+text(p["name"])] = value
	}
	for _, v := range sequence(t, inputs["artifacts"]) {
		place := filepath.Join(c.root, text(mapping(t, v)["path"]))
		if err := os.RemoveAll(place); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(place, os.DirFS(c.path(model))); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(v any) string {
		filled := argoVariable.ReplaceAllStringFunc(text(v), func(s string) string { return known[argoVariable.FindStringSubmatch(s)[1]] })
		for _, dir := range []string{"/tmp/", "/keys/"} { // where the root is not the image's
			if i := strings.Index(filled, dir); i == 0 || i > 0 && filled[i-1] == '=' {
				filled = filled[:i] + c.inside(filled[i:])
			}
		}
		return filled
	}
	pod := mapping(t, tmpl["container"])
	args := []string{text(sequence(t, pod["command"])[0])}
	for _, a := range sequence(t, pod["args"]) {
		args = append(args, fill(a))
	}
	var env []string
	for _, v := range sequence(t, pod["env"]) {
		e := mapping(t, v)
		value := text(e["value"])
		if e["valueFrom"] != nil {
			value = testPassword
		}
		env = append(env, text(e["name"])+"="+value)
	}
	said, code := c.run(t, "/", env, args)
	results := map[string]string{}
	outputs := mapping(t, tmpl["outputs"])
	for _, v := range sequence(t, outputs["parameters"]) {
		p := mapping(t, v)
		results[text(p["name"])] = c.result(t, text(mapping(t, p["valueFrom"])["path"]))
	}
	for _, v := range sequence(t, outputs["artifacts"]) {
		path := text(mapping(t, v)["path"])
		checkSARIF(t, filepath.Join(c.root, path))
		c.result(t, path)
	}
	return code, results, said
}

// keys mounts a Secret of keys.
func (c *container) keys(t *testing.T, private, public string) {
	t.Helper()
	writeFile(t, filepath.Join(c.root, "keys", "cosign.key"), string(c.read(t, private)))
	writeFile(t, filepath.Join(c.root, "keys", "cosign.pub"), string(c.read(t, public)))
}

// TestArgoTemplates runs the templates in the image against a registry.
func TestArgoTemplates(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	for _, e := range c.expectations() {
		public := ourPub
		if e.key == strangerPub {
			public = strangerPub
		}
		c.keys(t, ourKey, public)
		params := map[string]string{}
		if e.reference != "" {
			params["reference"] = e.reference
		}
		code, results, said := c.argo(t, e.command, params, e.source)
		e.checkResults(t, code, results, said)
	}
}
