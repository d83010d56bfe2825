package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weightseal/weightseal/workload"
)

// coreKinds are in every cluster.
func coreKinds() []string {
	return []string{
		"pods", "replicationcontrollers", "deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps",
		"jobs.batch", "cronjobs.batch",
	}
}

// addedKinds are those of other API groups: KServe's, and what has pod
// templates and serves models. A cluster without them is no error.
func addedKinds() map[string][]string {
	return map[string][]string{
		"serving.kserve.io": {
			"inferenceservices", "llminferenceservices", "llminferenceserviceconfigs", "trainedmodels", "servingruntimes",
			"clusterservingruntimes", "localmodelcaches", "localmodelnamespacecaches",
		},
		"leaderworkerset.x-k8s.io": {"leaderworkersets"},
		"ray.io":                   {"rayservices", "rayclusters", "rayjobs"},
		"jobset.x-k8s.io":          {"jobsets"},
		"serving.knative.dev":      {"services"},
		"argoproj.io":              {"rollouts"},
	}
}

// kubectlErrors is how much of kubectl's standard error is kept, in bytes.
const kubectlErrors = 16 << 10

// maxDiscovery bounds what the API server says about itself, in bytes.
const maxDiscovery = 16 << 20

// kubectl runs the user's own: it honours the kubeconfig, contexts, credential
// plugins and proxies exactly as the user has them, whatever its version.
type kubectl struct {
	path  string
	flags []string
	env   []string
	s     *streams
}

// read reads the kinds that name models from a cluster.
func (c *clusterFlags) read(ctx context.Context, s *streams, bar *progress) (*foundWorkloads, error) {
	k, err := c.client(s)
	if err != nil {
		return nil, err
	}
	found := &foundWorkloads{set: workload.NewSet(true), source: c.describe()}
	bar.say("read", "kinds of the cluster")
	kinds, err := c.kinds(ctx, k, found)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, kind := range kinds {
		g.Go(func() error {
			bar.say("read", kind)
			var objects []*workload.Object
			err := k.get(gctx, c.scope(kind), func(r io.Reader) error {
				_, err := workload.Read(gctx, kind, r, func(o *workload.Object) error {
					objects = append(objects, o)
					return nil
				})
				return err
			})
			if gctx.Err() != nil {
				return gctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			for _, o := range objects {
				o.Origin = workload.Origin{File: kind}
				found.set.Add(o)
			}
			for _, e := range joined(err) {
				found.unreadable(kind, serverReason(e), e)
			}
			return nil
		})
	}
	err = g.Wait()
	slices.SortFunc(found.unread, func(a, b unreadSource) int { return strings.Compare(a.What, b.What) })
	return found, err
}

func (c *clusterFlags) client(s *streams) (*kubectl, error) {
	name := c.kubectl
	if name == "" {
		name = s.getenv("KUBECTL")
	}
	if name == "" {
		name = "kubectl"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("the cluster is read by kubectl: %w", err),
			"name it: --kubectl /path/to/kubectl", "or give manifests: kubectl get pods,deployments --output json | weightseal scan-cluster -f -")
	}
	k := &kubectl{path: path, s: s}
	for name, value := range s.env {
		k.env = append(k.env, name+"="+value)
	}
	slices.Sort(k.env)
	kubeContext := c.context
	if s.getenv("HELM_PLUGIN_NAME") != "" {
		// Helm keeps --namespace and --kube-context for itself, and says so here.
		if kubeContext == "" {
			kubeContext = s.getenv("HELM_KUBECONTEXT")
		}
		if c.namespace == "" && !c.allNamespaces {
			c.namespace = s.getenv("HELM_NAMESPACE")
		}
	}
	for _, f := range [][2]string{{"--kubeconfig", c.kubeconfig}, {"--context", kubeContext}} {
		if f[1] != "" {
			k.flags = append(k.flags, f[0]+"="+f[1])
		}
	}
	k.flags = append(k.flags, "--request-timeout="+c.requestTimeout.String())
	return k, nil
}

func (c *clusterFlags) describe() string {
	switch {
	case c.allNamespaces:
		return "all namespaces"
	case c.namespace != "":
		return "namespace " + c.namespace
	}
	return "the context's namespace"
}

// scope are the arguments that get objects of a kind. A list comes in chunks,
// so that no answer of the API server grows with the cluster.
func (c *clusterFlags) scope(kind string) []string {
	args := []string{"get", kind, "--output=json", "--chunk-size=500"}
	switch {
	case c.allNamespaces:
		args = append(args, "--all-namespaces")
	case c.namespace != "":
		args = append(args, "--namespace="+c.namespace)
	}
	if c.selector != "" {
		args = append(args, "--selector="+c.selector)
	}
	return args
}

// kinds asks the API server which of the kinds it has. Its groups are asked one
// by one: one that does not answer keeps only its own kinds from being read.
func (c *clusterFlags) kinds(ctx context.Context, k *kubectl, found *foundWorkloads) ([]string, error) {
	var groups struct {
		Groups []struct {
			Name     string `json:"name"`
			Versions []struct {
				GroupVersion string `json:"groupVersion"`
			} `json:"versions"`
		} `json:"groups"`
	}
	kinds := coreKinds()
	if err := k.raw(ctx, true, "/apis", &groups); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if serverReason(err) != "Forbidden" {
			return nil, fail(exitError, err, "what does kubectl say? kubectl get pods")
		}
		found.unreadable("API groups", "Forbidden", err)
		return kinds, nil
	}
	added := addedKinds()
	for _, g := range groups.Groups {
		if added[g.Name] == nil {
			continue
		}
		for _, v := range g.Versions {
			more, err := c.versionKinds(ctx, k, v.GroupVersion, added[g.Name])
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				found.unreadable(v.GroupVersion, serverReason(err), err)
			}
			for _, name := range more {
				if name += "." + g.Name; !slices.Contains(kinds, name) {
					kinds = append(kinds, name)
				}
			}
		}
	}
	return kinds, nil
}

// versionKinds gives those of the kinds that a version of a group has. Kinds in
// no namespace are read when all namespaces are.
func (c *clusterFlags) versionKinds(ctx context.Context, k *kubectl, version string, want []string) ([]string, error) {
	var list struct {
		Resources []struct {
			Name       string `json:"name"`
			Namespaced bool   `json:"namespaced"`
		} `json:"resources"`
	}
	if !groupVersion.MatchString(version) {
		return nil, fmt.Errorf("%q is no group and version", version)
	}
	if err := k.raw(ctx, false, "/apis/"+version, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range list.Resources {
		if slices.Contains(want, r.Name) && (r.Namespaced || c.allNamespaces) {
			names = append(names, r.Name)
		}
	}
	return names, nil
}

var (
	groupVersion = regexp.MustCompile(`^[a-z0-9.-]+/[a-z0-9]+$`)
	// serverError is how kubectl begins the message of an API server's refusal,
	// with the reason of its Status (metav1.StatusReason).
	serverError = regexp.MustCompile(`Error from server \((\w+)\)`)
)

// kubectlError is a run of kubectl that failed.
type kubectlError struct {
	args   []string
	stderr string
	err    error
}

func (e *kubectlError) Error() string {
	text := strings.TrimSpace(e.stderr)
	if lines := strings.Split(text, "\n"); len(lines) > 1 {
		text = strings.TrimSpace(lines[len(lines)-1]) // warnings come before
	}
	if text == "" {
		text = e.err.Error()
	}
	return fmt.Sprintf("kubectl %s: %s", strings.Join(e.args[:2], " "), text)
}

func (e *kubectlError) Unwrap() error { return e.err }

// serverReason is the API server's word for why it refused; "" for other errors.
func serverReason(err error) string {
	var k *kubectlError
	if errors.As(err, &k) {
		if m := serverError.FindStringSubmatch(k.stderr); m != nil {
			return m[1]
		}
	}
	return ""
}

// raw gets a path of the API server as JSON. In the first call the user can be
// asked by a credential plugin.
func (k *kubectl) raw(ctx context.Context, first bool, path string, v any) error {
	return k.run(ctx, first, []string{"get", "--raw", path}, func(r io.Reader) error {
		b, err := io.ReadAll(io.LimitReader(r, maxDiscovery+1))
		if err == nil && len(b) > maxDiscovery {
			err = fmt.Errorf("%s is longer than %d bytes", path, maxDiscovery)
		}
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil // kubectl's own error says why
		}
		return json.Unmarshal(b, v)
	})
}

func (k *kubectl) get(ctx context.Context, args []string, use func(io.Reader) error) error {
	return k.run(ctx, false, args, use)
}

// run starts kubectl and reads its standard output.
func (k *kubectl) run(ctx context.Context, first bool, args []string, use func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, k.path, append(slices.Clone(args), k.flags...)...)
	cmd.Env = k.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	said := &tail{max: kubectlErrors}
	cmd.Stderr = said
	if first && k.s.inTTY {
		cmd.Stdin, cmd.Stderr = k.s.in, io.MultiWriter(said, &printableWriter{w: k.s.err})
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	used := use(out)
	if used != nil {
		_ = out.Close() // kubectl need not go on
	} else {
		_, _ = io.Copy(io.Discard, out)
	}
	err = cmd.Wait()
	if err != nil && (used == nil || said.b.Len() > 0) {
		return errors.Join(&kubectlError{args: args, stderr: said.String(), err: err}, used)
	}
	return used
}

// tail keeps the last bytes of what is written.
type tail struct {
	b   bytes.Buffer
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if over := t.b.Len() - t.max; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.b.String() }

// printableWriter passes on what kubectl tells the user, such as where to log
// in, with no control over the terminal.
type printableWriter struct{ w io.Writer }

func (p *printableWriter) Write(b []byte) (int, error) {
	fmt.Fprint(p.w, printable(strings.ReplaceAll(string(b), "\r\n", "\n")))
	return len(b), nil
}
