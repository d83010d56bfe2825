//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/internal/realtools"
)

// inferenceServices defines KServe's kind as far as this program reads it.
const inferenceServices = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: inferenceservices.serving.kserve.io}
spec:
  group: serving.kserve.io
  scope: Namespaced
  names: {kind: InferenceService, plural: inferenceservices, singular: inferenceservice}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// TestCluster reads a real API server through kubectl and the plugin.
func TestCluster(t *testing.T) {
	t.Parallel()
	registry := realtools.Registry(t)
	cluster := realtools.StartCluster(t)
	for ref, key := range map[string]string{"good:v1": "ours.key", "good:v2": "ours.key", "strange:v1": "other.key"} {
		execute(t, "push", pickled(t), registry+"/team/"+ref, "--key", keyFile(t, key), "--plain-http").succeeded(t)
	}
	t.Run("howto", func(t *testing.T) { t.Parallel(); kubectlHowto(t, cluster, registry) })
	t.Run("rollout", func(t *testing.T) { t.Parallel(); clusterRollout(t, cluster, registry) })
	t.Run("kserve", func(t *testing.T) { t.Parallel(); clusterKServe(t, cluster, registry) })
	t.Run("limited", func(t *testing.T) { t.Parallel(); clusterLimited(t, cluster, registry) })
	t.Run("chunks", func(t *testing.T) { t.Parallel(); clusterChunks(t, cluster) })
	t.Run("unreachable", func(t *testing.T) { t.Parallel(); clusterUnreachable(t, cluster) })
	t.Run("interrupted", func(t *testing.T) { t.Parallel(); clusterInterrupted(t, cluster) })
}

// clusterGuest is a home with the plugin installed in it.
func clusterGuest(tb testing.TB, c *realtools.Cluster) *guest {
	tb.Helper()
	g := newGuest(tb, c.Kubectl)
	bin := filepath.Join(g.home, ".local", "bin")
	g.env = append(g.env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "KUBECONFIG="+c.Kubeconfig)
	wantCode(tb, "install", g.run(tb, builtProgram(tb), "plugin", "install", "kubectl"), 0, "linked ")
	return g
}

// scanned runs scan-cluster through kubectl and reads its report, which has to
// be what the schema says.
func (g *guest) scanned(t *testing.T, code int, args ...string) *clusterReport {
	t.Helper()
	r := g.ours(t, append([]string{"scan-cluster", "--plain-http", "--output", "json"}, args...)...)
	wantCode(t, "scan-cluster "+strings.Join(args, " "), r, code)
	validate(t, closed(t, "../../../docs/cluster-report-v1.schema.json"), "report", r.out)
	var report clusterReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatal(err)
	}
	if report.ExitCode != code {
		t.Errorf("the report says %d", report.ExitCode)
	}
	return &report
}

// models tells, a line each, what a report has of a namespace.
func (r *clusterReport) models() []string {
	lines := []string{}
	for _, m := range r.Models {
		text := fmt.Sprintf("%s %s/%s %s", m.State, m.Workload.Kind, m.Workload.Name, m.Reference[strings.LastIndexByte(m.Reference, '/')+1:])
		if m.Pods > 0 {
			text += fmt.Sprintf(" pods=%d", m.Pods)
		}
		if m.Running {
			text += " running"
		}
		lines = append(lines, text)
	}
	return lines
}

func wantModels(t *testing.T, r *clusterReport, want ...string) {
	t.Helper()
	if got := r.models(); !slices.Equal(got, want) {
		t.Errorf("models\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func namespace(tb testing.TB, c *realtools.Cluster, name string) {
	tb.Helper()
	c.Do(tb, "", "create", "namespace", name)
}

// imageVolume is the specification of a pod that mounts a model.
func imageVolume(ref string) string {
	return fmt.Sprintf(`{containers: [{name: serve, image: registry.example/serve, volumeMounts: [{name: models, mountPath: /models}]}], volumes: [{name: models, image: {reference: %q}}]}`, ref)
}

// ownedPod is a pod of a replica set that belongs to a Deployment.
func ownedPod(name, owner, uid, ref string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: llm}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: %s, uid: %s, controller: true}]}
spec: %s
---`, name, owner, uid, imageVolume(ref))
}

// clusterRollout has a Deployment whose old pods still run another model, and a
// new one that runs an older digest than its tag leads to.
func clusterRollout(t *testing.T, c *realtools.Cluster, registry string) {
	g := clusterGuest(t, c)
	namespace(t, c, "rollout")
	in := []string{"--namespace", "rollout"}
	ours := []string{"--namespace", "rollout", "--key", keyFile(t, "ours.pub")}
	if r := g.scanned(t, 0, ours...); len(r.Models) != 0 || len(r.Unread) != 0 {
		t.Errorf("an empty namespace has %v, %v", r.models(), r.Unread)
	}
	deployment := "apiVersion: apps/v1\nkind: %s\nmetadata: {name: %s%s}\nspec: {selector: {matchLabels: {app: llm}}, template: {metadata: {labels: {app: llm}}, spec: %s}}\n"
	c.Do(t, fmt.Sprintf(deployment, "Deployment", "llm", "", imageVolume(registry+"/team/good:v2")), append(in, "apply", "-f", "-")...)
	uid := c.Do(t, "", append(in, "get", "deployment", "llm", "-o", "jsonpath={.metadata.uid}")...)
	owner := fmt.Sprintf(", ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: llm, uid: %s, controller: true}]", uid)
	c.Do(t, fmt.Sprintf(deployment, "ReplicaSet", "llm-1", owner, imageVolume(registry+"/team/strange:v1")), append(in, "apply", "-f", "-")...)
	// A replica set of another model counts as long as it wants pods.
	wantModels(t, g.scanned(t, exitAttestation, ours...), "verified Deployment/llm good:v2", "untrusted Deployment/llm strange:v1")
	c.Do(t, "", append(in, "scale", "replicaset", "llm-1", "--replicas=0")...)
	wantModels(t, g.scanned(t, 0, ours...), "verified Deployment/llm good:v2")

	set := c.Do(t, "", append(in, "get", "replicaset", "llm-1", "-o", "jsonpath={.metadata.uid}")...)
	c.Do(t, ownedPod("llm-1-a", "llm-1", set, registry+"/team/strange:v1")+ownedPod("llm-1-b", "llm-1", set, registry+"/team/strange:v1")+
		ownedPod("llm-2-a", "llm-1", set, registry+"/team/good:v2"), append(in, "apply", "-f", "-")...)
	report := g.scanned(t, exitAttestation, ours...)
	wantModels(t, report, "verified Deployment/llm good:v2", "untrusted Deployment/llm strange:v1 pods=2")
	if m := report.Models[1]; m.Pod != "llm-1-a" || m.Place != "spec.volumes[0].image.reference" || m.Workload.Namespace != "rollout" || m.Origin.File != "pods" {
		t.Errorf("%+v", m)
	}
	wantModels(t, g.scanned(t, 0, "--namespace", "rollout", "--selector", "app=none", "--key", keyFile(t, "ours.pub")))
	wantModels(t, g.scanned(t, 0, "--namespace", "rollout", "--list"), "not-checked Deployment/llm good:v2", "not-checked Deployment/llm strange:v1 pods=2")
	// Helm keeps --namespace and --kube-context for itself, and says so in the
	// environment.
	for _, name := range []string{"helm3", "helm4"} {
		h := newGuest(t, realtools.Path(t, name))
		h.env = append(h.env, "KUBECONFIG="+c.Kubeconfig)
		wantCode(t, "install", h.run(t, builtProgram(t), "plugin", "install", "helm"), 0)
		wantModels(t, h.scanned(t, 0, "--namespace", "rollout", "--list"), "not-checked Deployment/llm good:v2", "not-checked Deployment/llm strange:v1 pods=2")
		wantCode(t, name+" with another context", h.ours(t, "scan-cluster", "--list", "--kube-context", "none"), exitError, "none")
	}
	wantCode(t, "-n", g.ours(t, "scan-cluster", "--list", "-n", "rollout"), exitUsage, "hint: the namespace is named in full: kubectl weightseal scan-cluster --namespace NAME")
}

// clusterKServe reads a kind that not every cluster has, and one that lists
// its models in several ways.
func clusterKServe(t *testing.T, c *realtools.Cluster, registry string) {
	g := clusterGuest(t, c)
	namespace(t, c, "kserve")
	c.Do(t, inferenceServices, "apply", "-f", "-")
	c.Do(t, "", "wait", "--for", "condition=Established", "crd/inferenceservices.serving.kserve.io", "--timeout=60s")
	text := ""
	for name, uri := range map[string]string{"chat": "oci://" + registry + "/team/good:v1", "bucket": "s3://bucket/model", "strange": "oci+native://" + registry + "/team/strange:v1"} {
		text += fmt.Sprintf("apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: %s}\nspec: {predictor: {model: {modelFormat: {name: x}, storageUri: %q}}}\n---\n", name, uri)
	}
	text += fmt.Sprintf("apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec: {schedule: '1 1 * * *', jobTemplate: {spec: {template: {spec: %s}}}}\n", strings.Replace(imageVolume(registry+"/team/none:v1"), "{", "{restartPolicy: Never, ", 1))
	c.Do(t, text, "--namespace", "kserve", "apply", "-f", "-")
	r := g.scanned(t, exitAttestation, "--namespace", "kserve", "--key", keyFile(t, "ours.pub"))
	wantModels(t, r, "unreachable CronJob/nightly none:v1", "unsupported InferenceService/bucket model", "verified InferenceService/chat good:v1", "untrusted InferenceService/strange strange:v1")
}

// clusterLimited has a user who may read some kinds only: what could not be
// read is named, and is never taken for verified.
func clusterLimited(t *testing.T, c *realtools.Cluster, registry string) {
	g := clusterGuest(t, c)
	namespace(t, c, "limited")
	c.Do(t, "", "--namespace", "limited", "create", "role", "reader", "--verb=list", "--resource=pods,replicationcontrollers,deployments.apps")
	c.Do(t, "", "--namespace", "limited", "create", "rolebinding", "reader", "--role=reader", "--user=limited")
	args := []string{"--context", "limited", "--namespace", "limited", "--key", keyFile(t, "ours.pub")}
	unread := []string{"cronjobs.batch", "daemonsets.apps", "jobs.batch", "replicasets.apps", "statefulsets.apps"}
	r := g.scanned(t, exitError, args...)
	for _, want := range unread {
		if !slices.ContainsFunc(r.Unread, func(u unreadSource) bool {
			return u.What == want && u.Reason == "Forbidden" && strings.Contains(u.Detail, `User "limited" cannot list resource`)
		}) {
			t.Errorf("%s is not told as unread: %+v", want, r.Unread)
		}
	}
	if slices.ContainsFunc(r.Unread, func(u unreadSource) bool { return u.What == "pods" || u.What == "deployments.apps" }) {
		t.Errorf("%+v", r.Unread)
	}
	c.Do(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: "+imageVolume(registry+"/team/strange:v1"), "--namespace", "limited", "apply", "-f", "-")
	wantModels(t, g.scanned(t, exitAttestation, args...), "untrusted Pod/p strange:v1")
	// Verified, as far as could be read: that is not 0.
	r = g.scanned(t, exitError, append(args, "--key", keyFile(t, "other.pub"))...)
	wantModels(t, r, "verified Pod/p strange:v1")
	text := g.ours(t, append([]string{"scan-cluster", "--plain-http", "--key", keyFile(t, "other.pub")}, args...)...)
	wantCode(t, "text", text, exitError, "not read  daemonsets.apps: kubectl get daemonsets.apps: Error from server (Forbidden)", "error: not all was read: ")
}

// clusterChunks has more pods than one answer of the API server.
func clusterChunks(t *testing.T, c *realtools.Cluster) {
	g := clusterGuest(t, c)
	namespace(t, c, "many")
	const pods = 520
	var posts errgroup.Group
	posts.SetLimit(8)
	for i := range pods {
		posts.Go(func() error {
			return c.Post(t.Context(), "/api/v1/namespaces/many/pods", fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p%d",
				"ownerReferences":[{"apiVersion":"example.com/v1","kind":"Thing","name":"many","uid":"u1","controller":true}]},
				"spec":{"containers":[{"name":"c","image":"x"}],"volumes":[{"name":"m","image":{"reference":"registry.example/m:v1"}}]}}`, i))
		})
	}
	if err := posts.Wait(); err != nil {
		t.Fatal(err)
	}
	wantModels(t, g.scanned(t, 0, "--namespace", "many", "--list"), fmt.Sprintf("not-checked Thing/many m:v1 pods=%d", pods))
}

// clusterUnreachable has an API server that refuses, and one that never
// answers.
func clusterUnreachable(t *testing.T, c *realtools.Cluster) {
	g := clusterGuest(t, c)
	wantCode(t, "context", g.ours(t, "scan-cluster", "--list", "--context", "none"), exitError, "error: kubectl get --raw: ", "none")
	config := silentServer(t, c)
	start := time.Now()
	wantCode(t, "silent", g.ours(t, "scan-cluster", "--list", "--kubeconfig", config, "--request-timeout", "1s"), exitError, "error: kubectl get --raw: ")
	if d := time.Since(start); d > 40*time.Second {
		t.Errorf("it took %s", d)
	}
	g.env = append(g.env, "KUBECTL="+filepath.Join(g.home, "no-kubectl"))
	wantCode(t, "KUBECTL", g.ours(t, "scan-cluster", "--list"), exitError, "hint: name it: --kubectl")
}

// silentServer takes connections and says nothing; it gives a kubeconfig for it.
func silentServer(t *testing.T, c *realtools.Cluster) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "kubeconfig")
	b = regexp.MustCompile(`https://127\.0\.0\.1:\d+`).ReplaceAll(b, []byte("https://"+l.Addr().String()))
	if err := os.WriteFile(config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// clusterInterrupted stops the command while kubectl waits: both end.
func clusterInterrupted(t *testing.T, c *realtools.Cluster) {
	g := clusterGuest(t, c)
	config := silentServer(t, c)
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), c.Kubectl, program, "scan-cluster", "--list", "--kubeconfig", config)
	cmd.Env, cmd.Dir, cmd.Stderr, cmd.WaitDelay = g.env, g.home, &errs, 20*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); len(processesWith(t, "--kubeconfig="+config)) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("kubectl does not begin")
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(errs.String(), "error: interrupted") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if left := processesWith(t, "--kubeconfig="+config); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// kubectlHowto runs docs/howto/kubectl.md: its manifests are applied to a real
// API server, and its role is enough for the scan.
func kubectlHowto(t *testing.T, c *realtools.Cluster, registry string) {
	namespace(t, c, "team")
	execute(t, "push", pickled(t), registry+"/team/model:v1", "--key", keyFile(t, "ours.key"), "--plain-http").succeeded(t)
	pub, err := os.ReadFile(keyFile(t, "ours.pub"))
	if err != nil {
		t.Fatal(err)
	}
	docPage{
		path: "docs/howto/kubectl.md", least: 15, registry: registry, env: []string{"KUBECONFIG=" + c.Kubeconfig},
		files: map[string]pageFile{
			"cosign.pub":            {text: string(pub)},
			"manifests/llm.yaml":    {text: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: llm, namespace: team}\nspec: {selector: {matchLabels: {app: llm}}, template: {metadata: {labels: {app: llm}}, spec: " + imageVolume(registry+"/team/model:v1") + "}}\n"},
			"manifests/bucket.yaml": {text: "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: bucket}\nspec: {predictor: {model: {storageUri: 's3://bucket/model'}}}\n"},
		},
		// The role of the page is enough: nothing is left unread.
		then: []block{{kind: "sh", body: "weightseal scan-cluster --list --all-namespaces --context nightly | grep -F registry.k8s.io/kubectl:v1.36.3\n"}},
	}.run(t)
}
