package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/workload"
)

type scanClusterOptions struct {
	registry registryFlags
	progress progressFlags
	trust    trustFlags
	policy   string
	files    []string
	list     bool
	strict   bool
	output   string
	cluster  clusterFlags
}

func newScanCluster(s *streams) *cobra.Command {
	var o scanClusterOptions
	cmd := &cobra.Command{
		Use:   "scan-cluster",
		Short: "Find the models that a cluster or manifests use, and verify each",
		Long: `Find the models that the workloads of a Kubernetes cluster use, or those of manifests
(-f), and verify each as verify does. The cluster is read by kubectl, with the contexts and
credentials that it has; nothing is changed in it.

Models are named by image volumes, by KServe (storageUri and its like) and by containers
that fetch one: these are declared. What an argument or a variable only looks like is
mentioned: it is shown, and counts with --strict.

  verified     a trusted key signed the statement, and the policy allows it
  failed       the policy does not allow it, or a trusted statement says FAILED      3
  unsigned     no statement                                                          4
  untrusted    statements, none of which can be trusted                              4
  unsupported  not in a registry, so that nothing can be verified: s3://, hf://, ... 4
  invalid      no reference that can be understood                                   4
  unreachable  the registry did not give it                                          6
  not-a-model  an image volume without weights

The exit code is that of the worst, in the order 3, 4, 6, and then 1 when a kind or a file
could not be read: what was not looked at never counts as verified.`,
		Example: `  weightseal scan-cluster --key cosign.pub --all-namespaces
  weightseal scan-cluster --key cosign.pub -f manifests/
  helm template my-chart | weightseal scan-cluster --list -f -`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runScanCluster(cmd.Context(), s, &o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "manifest `FILE`, folder of manifests, or - for standard input, instead of a cluster (repeatable)")
	f.BoolVar(&o.list, "list", false, "only list what is used; no registry is asked")
	f.BoolVar(&o.strict, "strict", false, "what is only mentioned counts too")
	o.trust.add(f)
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	addPolicy(f, &o.policy)
	o.cluster.add(f)
	// No user and password: the manifests say which registries are asked, and
	// one registry's password must not go to another.
	o.registry.addTransport(f)
	f.IntVar(&o.registry.concurrency, "concurrency", 4, "models in verification at a time")
	o.progress.add(f)
	cmd.SetFlagErrorFunc(namespaceHint)
	return cmd
}

// namespaceHint answers who types kubectl's -n: Helm keeps that for itself
// wherever it stands, so it has no meaning here.
func namespaceHint(cmd *cobra.Command, err error) error {
	var short *pflag.NotExistError
	if errors.As(err, &short) && short.GetSpecifiedName() == "n" {
		return usage("the namespace is named in full: "+cmd.CommandPath()+" --namespace NAME", "%w", err)
	}
	if errors.As(err, &short) && short.GetSpecifiedName() == "A" {
		return usage(cmd.CommandPath()+" --all-namespaces", "%w", err)
	}
	return flagError(cmd, err)
}

func (o *scanClusterOptions) check() error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	if o.list && o.trust.given() {
		return usage("", "--list and --key exclude each other: a list is not verified")
	}
	if !o.list && !o.trust.given() {
		return usage("name the key that signed the models: --key cosign.pub (or --list, and nothing is verified)", "nobody to trust: --key is missing")
	}
	if len(o.files) > 0 {
		if name := o.cluster.given(); name != "" {
			return usage("", "--%s is for a cluster, and -f reads files", name)
		}
		return nil
	}
	return o.cluster.check()
}

func runScanCluster(ctx context.Context, s *streams, o *scanClusterOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	check, err := o.checker(s)
	if err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	found, err := o.read(ctx, s, bar)
	if err != nil {
		return err
	}
	rows := found.set.Rows()
	verdicts, err := check.all(ctx, rows, bar)
	if err != nil {
		return err
	}
	bar.close()
	report := newClusterReport(o, found, rows, verdicts)
	if o.output == "json" {
		err = printJSON(s.out, report)
	} else {
		err = printCluster(s.page(), report)
	}
	if err != nil {
		return err
	}
	return report.failure(o)
}

// foundWorkloads is what was read, and what could not be.
type foundWorkloads struct {
	set    *workload.Set
	source string
	others int // documents that are no Kubernetes objects
	unread []unreadSource
}

// unreadSource is a kind or a file that could not be read, in whole or in part.
type unreadSource struct {
	What   string `json:"what"`
	Reason string `json:"reason,omitempty"` // the API server's word, such as Forbidden
	Detail string `json:"detail"`
}

func (o *scanClusterOptions) read(ctx context.Context, s *streams, bar *progress) (*foundWorkloads, error) {
	if len(o.files) > 0 {
		return readManifests(ctx, s, o.files, bar)
	}
	return o.cluster.read(ctx, s, bar)
}

// clusterFlags say which cluster, and what of it. They have kubectl's names.
type clusterFlags struct {
	kubectl, kubeconfig, context, namespace, selector string
	allNamespaces                                     bool
	requestTimeout                                    time.Duration
}

func (c *clusterFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.kubectl, "kubectl", "", "`program` that reads the cluster (default: $KUBECTL, or kubectl on the PATH)")
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `file` (default: as kubectl finds it)")
	f.StringVar(&c.context, "context", "", "`name` of the kubeconfig's context")
	f.StringVar(&c.namespace, "namespace", "", "`namespace` to read (default: the context's)")
	f.BoolVar(&c.allNamespaces, "all-namespaces", false, "read all namespaces, and what is in none")
	f.StringVarP(&c.selector, "selector", "l", "", "only objects with these `labels`")
	f.DurationVar(&c.requestTimeout, "request-timeout", 30*time.Second, "longest wait for one answer of the API server")
}

// given names a flag about the cluster that was given.
func (c *clusterFlags) given() string {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"kubeconfig", c.kubeconfig != ""}, {"context", c.context != ""}, {"namespace", c.namespace != ""},
		{"all-namespaces", c.allNamespaces}, {"selector", c.selector != ""}, {"kubectl", c.kubectl != ""},
	} {
		if f.set {
			return f.name
		}
	}
	return ""
}

func (c *clusterFlags) check() error {
	if c.allNamespaces && c.namespace != "" {
		return usage("", "--namespace and --all-namespaces exclude each other")
	}
	if c.requestTimeout < time.Second {
		return usage("", "--request-timeout %s: want at least 1s", c.requestTimeout)
	}
	return nil
}

// failure is the end of a scan: nil when all that counts is verified.
func (r *clusterReport) failure(o *scanClusterOptions) error {
	var hints []string
	if r.ExitCode == exitOK {
		return nil
	}
	if r.Summary.States[stateUnreachable] > 0 {
		hints = append(hints, "models of private registries need a login on this machine too: docker login REGISTRY")
	}
	if r.Summary.States[stateUnsupported] > 0 {
		hints = append(hints, "only what is in a registry can be verified: weightseal push SOURCE REGISTRY/REPOSITORY:TAG --key cosign.key, and name that")
	}
	if ref := r.unproven(); ref != "" {
		hints = append(hints, "see what is attached: weightseal inspect "+policy.ShellQuote(ref))
	}
	err := fmt.Errorf("%s of %d not verified", plural(r.Summary.NotVerified, "model reference"), r.Summary.References)
	switch {
	case r.ExitCode == exitError:
		err = fmt.Errorf("not all was read: %s", r.Unread[0].What)
		if len(r.Unread) > 1 {
			err = fmt.Errorf("%w and %d more", err, len(r.Unread)-1)
		}
	case r.ExitCode == exitPolicy:
		err = fmt.Errorf("%w, %d of them by policy %s", err, r.Summary.Failed, o.policyName())
	}
	return fail(r.ExitCode, err, hints...)
}

// unproven is the first model in a registry that no trusted statement speaks for.
func (r *clusterReport) unproven() string {
	for _, m := range r.Models {
		if m.State == stateUnsigned || m.State == stateUntrusted {
			return m.Reference
		}
	}
	return ""
}

func (o *scanClusterOptions) policyName() string {
	if o.policy == "" {
		return policy.DefaultName
	}
	return o.policy
}
