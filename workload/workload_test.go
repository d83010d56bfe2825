package workload_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weightseal/weightseal/workload"
)

// uses reads manifests and tells, a line each, what they name.
func uses(tb testing.TB, text string) ([]string, error) {
	tb.Helper()
	var lines []string
	_, err := workload.Read(tb.Context(), "m.yaml", strings.NewReader(text), func(o *workload.Object) error {
		for _, u := range o.Uses {
			ref := u.Reference.Key()
			if u.Reference.Problem != "" {
				ref += " (" + u.Reference.Problem + ")"
			}
			lines = append(lines, fmt.Sprintf("%s %s %s", u.Certainty, u.Place, ref))
		}
		return nil
	})
	return lines, err
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestUses(t *testing.T) {
	t.Parallel()
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: "
	for name, tt := range map[string]struct {
		manifest string
		want     []string
	}{
		"image volume": {pod + `{volumes: [{name: m, image: {reference: "r.example/m:v1"}}]}`, []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"pinned":       {pod + `{volumes: [{name: m, image: {reference: "r.example/m:v1@` + digest + `"}}]}`, []string{"declared spec.volumes[0].image.reference oci://r.example/m@" + digest}},
		"no tag":       {pod + `{volumes: [{name: m, image: {reference: r.example/m}}]}`, []string{"declared spec.volumes[0].image.reference oci://r.example/m:latest"}},
		"docker hub":   {pod + `{volumes: [{name: m, image: {reference: ai/llama}}, {name: n, image: {reference: "llama:1"}}]}`, []string{"declared spec.volumes[0].image.reference oci://docker.io/ai/llama:latest", "declared spec.volumes[1].image.reference oci://docker.io/library/llama:1"}},
		// What looks like a layout on this machine's disk must not be opened.
		"a path in disguise": {pod + `{volumes: [{name: m, image: {reference: "oci:/etc:v1"}}, {name: n, image: {reference: "oci:dir:v1"}}]}`, []string{
			"declared spec.volumes[0].image.reference oci:/etc:v1 (no image reference: want REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:...)",
			"declared spec.volumes[1].image.reference oci:dir:v1 (no image reference: want REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:...)",
		}},
		"controls":              {pod + `{volumes: [{name: m, image: {reference: "r.example/m:\u001b[31m"}}]}`, []string{"declared spec.volumes[0].image.reference r.example/m:\x1b[31m (a reference has no blanks or control characters)"}},
		"CSI driver":            {pod + `{volumes: [{name: m, csi: {driver: model.csi.modelpack.org, volumeAttributes: {model.csi.modelpack.org/reference: "r.example/m:v1"}}}]}`, []string{`declared spec.volumes[0].csi.volumeAttributes["model.csi.modelpack.org/reference"] oci://r.example/m:v1`}},
		"another CSI driver":    {pod + `{volumes: [{name: m, csi: {driver: secrets-store.csi.k8s.io, volumeAttributes: {secretProviderClass: x}}}]}`, nil},
		"other images":          {pod + `{containers: [{name: a, image: "r.example/app:v1"}], initContainers: [{name: b, image: nginx}]}`, nil},
		"modelcar":              {pod + `{containers: [{name: kserve-container, image: s}, {name: modelcar, image: "r.example/m:v1"}, {name: modelcar-1, image: "r.example/n:v1"}], initContainers: [{name: modelcar-init, image: "r.example/m:v1"}]}`, []string{"declared spec.containers[1].image oci://r.example/m:v1", "declared spec.containers[2].image oci://r.example/n:v1"}},
		"storage initializer":   {pod + `{initContainers: [{name: storage-initializer, image: kserve/storage-initializer, args: ["s3://b/m", /mnt/models, "hf://o/n", /mnt/n]}]}`, []string{"declared spec.initContainers[0].args[0] s3://b/m", "declared spec.initContainers[0].args[2] hf://o/n"}},
		"weightseal":            {pod + `{initContainers: [{name: f, image: x, command: [/usr/bin/weightseal, pull, --key, k8s/cosign.pub, --plain-http, "r.example/m:v1", /models]}]}`, []string{"declared spec.initContainers[0].command[5] oci://r.example/m:v1"}},
		"the image's program":   {pod + `{initContainers: [{name: f, image: "ghcr.io/oras-project/oras:v1.3", args: [pull, "r.example/m:v1", -o, /models]}]}`, []string{"declared spec.initContainers[0].args[1] oci://r.example/m:v1"}},
		"skopeo":                {pod + `{initContainers: [{name: f, image: x, command: [skopeo, copy], args: ["docker://r.example/m:v1", "dir:/m"]}]}`, []string{"declared spec.initContainers[0].args[0] oci://r.example/m:v1"}},
		"docker model":          {pod + `{containers: [{name: f, image: x, command: [docker, model, pull, llama3.2]}]}`, []string{"declared spec.containers[0].command[3] oci://docker.io/ai/llama3.2:latest"}},
		"ramalama":              {pod + `{containers: [{name: f, image: x, command: [ramalama, serve, "oci://r.example/m:v1"]}]}`, []string{"declared spec.containers[0].command[2] oci://r.example/m:v1"}},
		"ollama":                {pod + `{containers: [{name: f, image: x, command: [ollama, pull, "llama3:8b"]}]}`, []string{"declared spec.containers[0].command[2] ollama://llama3:8b"}},
		"hf":                    {pod + `{initContainers: [{name: f, image: x, command: [hf, download, org/name, --local-dir, /m]}]}`, []string{"declared spec.initContainers[0].command[2] hf://org/name"}},
		"vllm serve":            {pod + `{containers: [{name: f, image: x, command: [vllm, serve, org/name, --port, "80"]}]}`, []string{"mentioned spec.containers[0].command[2] hf://org/name"}},
		"--model":               {pod + `{containers: [{name: f, image: x, args: [--model=org/name]}]}`, []string{"mentioned spec.containers[0].args[0] hf://org/name"}},
		"--model, a path":       {pod + `{containers: [{name: f, image: x, args: [--model, /models/m]}]}`, nil},
		"--model, a name":       {pod + `{containers: [{name: f, image: x, args: [--model, gpt-4]}]}`, nil},
		"variable":              {pod + `{containers: [{name: f, image: x, env: [{name: HF_MODEL_ID, value: org/name}, {name: OTHER, value: org/other}]}]}`, []string{"mentioned spec.containers[0].env[0].value hf://org/name"}},
		"variable in a flag":    {pod + `{containers: [{name: f, image: x, env: [{name: A, value: org/name}], args: [--model, $(A)]}]}`, []string{"mentioned spec.containers[0].args[1] hf://org/name"}},
		"weightseal+oci":        {pod + `{containers: [{name: f, image: x, args: [get, "weightseal+oci://r.example/m:v1"]}]}`, []string{"mentioned spec.containers[0].args[1] oci://r.example/m:v1"}},
		"a chart":               {pod + `{containers: [{name: f, image: x, args: [install, "oci://r.example/chart:v1"]}]}`, nil},
		"shell":                 {pod + `{initContainers: [{name: f, image: x, command: [/bin/sh, -ec], args: ["set -x\nFOO=1 exec oras pull \\\n  --plain-http 'r.example/m:v1'"]}]}`, []string{"mentioned spec.initContainers[0].args[0] oci://r.example/m:v1"}},
		"shell in shell":        {pod + `{initContainers: [{name: f, image: x, command: [sh, -c, "sh -c 'sh -c x'"]}]}`, nil},
		"datasets":              {pod + `{containers: [{name: f, image: x, args: ["hf://datasets/o/n"]}]}`, nil},
		"InferenceService":      {"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: i}\nspec: {predictor: {model: {storageUri: 'oci+native://r.example/m:v1'}}}", []string{"declared spec.predictor.model.storageUri oci://r.example/m:v1"}},
		"storageUris":           {"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: i}\nspec: {predictor: {storageUris: [{uri: 'pvc://c/m', mountPath: /a}]}}", []string{"declared spec.predictor.storageUris[0].uri pvc://c/m"}},
		"storage":               {"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: i}\nspec: {predictor: {model: {storage: {key: minio, path: a/b}}}}", []string{"declared spec.predictor.model.storage storage://minio/a/b"}},
		"predictor's pod":       {"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: i}\nspec: {predictor: {volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}}", []string{"declared spec.predictor.volumes[0].image.reference oci://r.example/m:v1"}},
		"LLMInferenceService":   {"apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nmetadata: {name: i}\nspec: {model: {uri: 'hf://o/n', lora: {adapters: [{uri: 'oci://r.example/l:1'}]}}}", []string{"declared spec.model.lora.adapters[0].uri oci://r.example/l:1", "declared spec.model.uri hf://o/n"}},
		"LocalModelCache":       {"apiVersion: serving.kserve.io/v1alpha1\nkind: LocalModelCache\nmetadata: {name: i}\nspec: {sourceModelUri: 'hf://o/n'}", []string{"declared spec.sourceModelUri hf://o/n"}},
		"CronJob":               {"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: i}\nspec: {jobTemplate: {spec: {template: {spec: {volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}}}}}", []string{"declared spec.jobTemplate.spec.template.spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"a kind nobody knows":   {"apiVersion: x.example/v1\nkind: Thing\nmetadata: {name: i}\nspec: {groups: [{template: {spec: {volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}}}], containers: none}", []string{"declared spec.groups[0].template.spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"a definition":          {"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: i}\nspec: {volumes: [{image: {reference: 'r.example/m:v1'}}]}", nil},
		"PodList":               {`{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"p"},"spec":{"volumes":[{"name":"m","image":{"reference":"r.example/m:v1"}}]}}]}`, []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"items before the kind": {`{"apiVersion":"v1","items":[{"metadata":{"name":"p"},"spec":{"volumes":[{"name":"m","image":{"reference":"r.example/m:v1"}}]}}],"kind":"PodList"}`, []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"anchors and merges":    {"a: &v {name: m, image: {reference: 'r.example/m:v1'}}\napiVersion: v1\nkind: Pod\nspec: {volumes: [*v, {<<: *v, name: n}]}", []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1", "declared spec.volumes[1].image.reference oci://r.example/m:v1"}},
		"several documents":     {"---\n# none\n---\n" + pod + "{}\n---\n" + pod + "{volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}\n...\n", []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"JSON, then YAML":       {`{"kind":"Pod","apiVersion":"v1","spec":{"volumes":[{"name":"m","image":{"reference":"r.example/m:v1"}}]}}` + "\n---\n" + pod + "{volumes: [{name: m, image: {reference: 'r.example/n:v1'}}]}\n", []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1", "declared spec.volumes[0].image.reference oci://r.example/n:v1"}},
		"dashes in a text":      {"apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    x: |\n      ---\n      y\nspec: {volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}", []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"byte order mark":       {"\ufeff" + pod + "{volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}\r\n", []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
		"indented whole":        {"  apiVersion: v1\n  kind: Pod\n  spec: {volumes: [{name: m, image: {reference: 'r.example/m:v1'}}]}\n", []string{"declared spec.volumes[0].image.reference oci://r.example/m:v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := uses(t, tt.manifest)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 9), ", "))
	}
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
	for name, tt := range map[string]struct{ manifest, want string }{
		"not YAML":                {"# one\n---\na: b\n---\nx: [\n", "m.yaml:5: document 3: not YAML"},
		"a key twice":             {pod + "spec: {}\nspec: {}\n", `m.yaml:5: document 1: the key "spec" is there twice`},
		"a key twice, JSON":       {"{\"kind\":\"Pod\",\n\"kind\":\"Pod\"}", `m.yaml:2: document 1: not JSON: the key "kind" is there twice`},
		"an item's key twice":     {"{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[\n{\"kind\":\"Pod\",\n\"kind\":\"Pod\"}]}", `m.yaml:3: document 1: not JSON: the key "kind" is there twice`},
		"cut off":                 {`{"kind":"List","apiVersion":"v1","items":[`, "it ends in the middle"},
		"not JSON":                {`{{ template }}`, "not JSON"},
		"volumes as text":         {pod + "spec: {volumes: x}\n", "Pod p: spec.volumes is a string, want a list"},
		"a volume as number":      {pod + "spec: {volumes: [1]}\n", "Pod p: spec.volumes[0] is a number, want a map"},
		"a reference as list":     {pod + "spec: {volumes: [{image: {reference: [a]}}]}\n", "spec.volumes[0].image.reference is a list, want a string"},
		"spec as list":            {pod + "spec: []\n", "Pod p: spec is a list, want a map"},
		"containers as map":       {pod + "spec: {containers: {a: b}}\n", "spec.containers is a map, want a list"},
		"args as text":            {pod + "spec: {containers: [{args: a b}]}\n", "spec.containers[0].args is a string, want a list"},
		"storageUri as list":      {"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec: {predictor: {model: {storageUri: [a]}}}", "spec.predictor.model.storageUri is a list, want a string"},
		"an item as text":         {"kind: List\napiVersion: v1\nitems: [x]", "an item of List is a string, want a map"},
		"aliases that grow":       {bomb, "document 1: "},
		"an alias of itself":      {"a: &a [*a]\n", "document 1: "},
		"nested deep, YAML":       {"a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "more than 100 levels of nesting"},
		"nested deep, JSON":       {`{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", "more than 100 levels of nesting"},
		"a tag":                   {pod + "spec: !!python/object:os.system {}\nx: !foo bar\n", "the tag"},
		"a document too large":    {pod + "x: " + strings.Repeat("y", 9<<20), "more than 8388608 bytes in a YAML document"},
		"a JSON object too large": {`{"a":"` + strings.Repeat("y", 40<<20) + `"}`, "more than 16777216 bytes in one object"},
		"too many places":         {pod + "spec: {volumes: [" + strings.Repeat("{image: {reference: a/b}}, ", 1001) + "]}", "more than 1000 places that name models in one object"},
		"a map as a key":          {"? {a: b}\n: c\n", "a key is no scalar"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := uses(t, tt.manifest)
			var read *workload.ReadError
			if !errors.As(err, &read) {
				t.Fatalf("%v, want a *ReadError", err)
			}
			if !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 500 {
				t.Errorf("%.600q, want %q", err, tt.want)
			}
		})
	}
}

// TestRest shows that one broken document does not hide the others.
func TestRest(t *testing.T) {
	t.Parallel()
	got, err := uses(t, "a: [\n---\napiVersion: v1\nkind: Pod\nspec: {volumes: [{image: {reference: r.example/m:1}}]}\n---\nb: 1\nb: 1\n")
	if len(got) != 1 || err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%q, %v", got, err)
	}
	var many strings.Builder
	for range 100 {
		many.WriteString("a: [\n---\n")
	}
	if _, err := uses(t, many.String()); err == nil || strings.Count(err.Error(), "\n") != 20 {
		t.Errorf("%v", err)
	}
}

// TestCancelled shows that reading ends with its context.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := workload.Read(ctx, "x", strings.NewReader("a: b"), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestRows runs the owners of testdata/owners.yaml.
func TestRows(t *testing.T) {
	t.Parallel()
	f, err := os.Open(filepath.Join("testdata", "owners.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set := workload.NewSet(true)
	if _, err := workload.Read(t.Context(), "owners.yaml", f, func(o *workload.Object) error {
		set.Add(o)
		set.Add(o) // what is listed twice counts once
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range set.Rows() {
		got = append(got, fmt.Sprintf("%s/%s %s %s pods=%d %s running=%t", r.Workload.Kind, r.Workload.Name, r.Reference.Registry, r.Place, r.Pods, r.Pod, r.Running))
	}
	want := []string{
		"CronJob/nightly r.example/batch:v1 spec.jobTemplate.spec.template.spec.volumes[0].image.reference pods=0  running=false",
		"Deployment/llm r.example/llm:v2 spec.template.spec.volumes[0].image.reference pods=0  running=false",
		"Deployment/llm r.example/llm:v1 spec.volumes[0].image.reference pods=1 llm-old-1 running=false",
		"Deployment/llm r.example/llm@" + digest + " spec.volumes[0].image.reference pods=2 llm-new-1 running=true",
		"InferenceService/chat r.example/chat:v1 spec.predictor.model.storageUri pods=0  running=false",
		"Pod/mirror r.example/m:v1 spec.volumes[0].image.reference pods=0  running=false",
		"Rollout/canary r.example/canary:v1 spec.volumes[0].image.reference pods=2 canary-1 running=false",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"testdata/owners.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(`{"kind":"PodList","apiVersion":"v1","items":[{"spec":{"containers":[{"command":["sh","-c","oras pull a.b/c"]}]}}]}`)
	f.Add("a: &a [*a, <<: *a]\n---\n{\"a\":1}{\"b\":2}\n--- x\n")
	f.Fuzz(func(t *testing.T, text string) {
		set := workload.NewSet(false)
		_, _ = workload.Read(t.Context(), "f", strings.NewReader(text), func(o *workload.Object) error {
			set.Add(o)
			return nil
		})
		for _, r := range set.Rows() {
			if (r.Reference.Scheme == workload.OCI) != (r.Reference.Registry != "") || strings.HasPrefix(r.Reference.Registry, "oci:") {
				t.Errorf("%+v", r.Reference)
			}
		}
	})
}

// TestClaims: what a file says of owners and of status hides nothing.
func TestClaims(t *testing.T) {
	t.Parallel()
	owner := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, uid: u1}\n---\n"
	owned := "metadata: {name: x, uid: u2, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: c, uid: u1, controller: true}]}\n"
	volume := "{volumes: [{name: m, image: {reference: r.example/m:v1}}]}"
	for name, tt := range map[string]struct {
		manifest string
		live     bool
		want     int
	}{
		"a Deployment with an owner":          {owner + "apiVersion: apps/v1\nkind: Deployment\n" + owned + "spec: {template: {spec: " + volume + "}}", true, 1},
		"a pod that has ended, in a file":     {owner + "apiVersion: v1\nkind: Pod\n" + owned + "spec: " + volume + "\nstatus: {phase: Failed}", false, 1},
		"a pod that has ended":                {owner + "apiVersion: v1\nkind: Pod\n" + owned + "spec: " + volume + "\nstatus: {phase: Failed}", true, 0},
		"an idle replica set, in a file":      {owner + "apiVersion: apps/v1\nkind: ReplicaSet\n" + owned + "spec: {replicas: 0, template: {spec: " + volume + "}}", false, 1},
		"an idle replica set":                 {owner + "apiVersion: apps/v1\nkind: ReplicaSet\n" + owned + "spec: {replicas: 0, template: {spec: " + volume + "}}", true, 0},
		"two that own each other":             {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: u1, ownerReferences: [{kind: Pod, name: b, uid: u2}]}\nspec: " + volume + "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, uid: u2, ownerReferences: [{kind: Pod, name: a, uid: u1}]}\nspec: " + strings.ReplaceAll(volume, "m:v1", "n:v1"), true, 2},
		"an object that owns itself":          {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: u1, ownerReferences: [{kind: Pod, name: a, uid: u1}]}\nspec: " + volume, true, 1},
		"one UID twice, in a file":            {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: u1}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, uid: u1}\nspec: " + volume, false, 1},
		"a definition with a kind of its own": {"apiVersion: x.example/v1\nkind: CustomResourceDefinition\nmetadata: {name: a}\nspec: " + volume, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := workload.NewSet(tt.live)
			if _, err := workload.Read(t.Context(), "m.yaml", strings.NewReader(tt.manifest), func(o *workload.Object) error {
				set.Add(o)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if rows := set.Rows(); len(rows) != tt.want {
				t.Errorf("%+v", rows)
			}
		})
	}
}
