package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

const short = "Ship models as safetensors, with the proof"

const long = `weightseal puts models into any OCI registry as safetensors: pickled weights are
converted on the way, without Python and without executing a pickle, and a signed
statement records what was converted from which bytes. On the way out, and in
deploy gates, the statement is verified before anything is used.`

const exitCodeHelp = `Exit codes:
  0  ok                      4  attestation missing, invalid or not trusted
  1  unexpected error        5  cannot convert without loss
  2  usage                   6  network or registry
  3  policy violated         130  interrupted`

func newRoot(s *streams, h host) *cobra.Command {
	root := &cobra.Command{
		Use:           program,
		Short:         short,
		Long:          long + "\n\n" + exitCodeHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          rootArgs,
		Version:       buildVersion(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: h.name},
		// Suggestions below are ours, so that they come as hints.
		DisableSuggestions:         true,
		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&s.color, "color", "auto", "colours: auto, always or never")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return oneOf("color", s.color, "auto", "always", "never") }
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetVersionTemplate(program + " " + buildVersion() + "\n")
	root.AddGroup(
		&cobra.Group{ID: "ship", Title: "Ship and use models:"},
		&cobra.Group{ID: "look", Title: "Look into models:"},
		&cobra.Group{ID: "registry", Title: "Look into registries:"},
		&cobra.Group{ID: "file", Title: "Sign and verify files, such as a release:"},
	)
	for _, c := range []struct {
		group string
		cmd   *cobra.Command
	}{
		{"ship", newPush(s)}, {"ship", newPull(s)}, {"ship", newVerify(s)}, {"ship", newKeygen(s)},
		{"look", newScan(s)}, {"look", newScanCluster(s)}, {"look", newConvert(s)}, {"look", newInspect(s)}, {"look", newDiff(s)},
		{"registry", newTags(s)}, {"registry", newLs(s)}, {"registry", newHistory(s)}, {"registry", newLogin(s)}, {"registry", newLogout(s)},
		{"file", newSignBlob(s)}, {"file", newVerifyBlob(s)}, {"file", newAttestBlob(s)}, {"file", newVerifyBlobAttestation(s)},
		{"", newPlugin(s, h)}, {"", newHelmDownload(s)}, {"", newDemo(s)}, {"", newVersion(s)},
	} {
		c.cmd.GroupID = c.group
		c.cmd.DisableFlagsInUseLine = true
		root.AddCommand(c.cmd)
	}
	addCompletion(s, root)
	return root
}

func rootArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean: " + cmd.CommandPath() + " " + strings.Join(near, ", ")
	}
	return usage(hint, "unknown command %q", args[0])
}

// exactArgs wants the named arguments, no more and no fewer.
func exactArgs(names ...string) cobra.PositionalArgs { return rangeArgs(len(names), names...) }

// rangeArgs wants at least least of the named arguments.
func rangeArgs(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(cmd.CommandPath()+" --help", "missing argument %s (usage: %s)", names[len(args)], cmd.UseLine())
		case len(args) > len(names):
			return usage(cmd.CommandPath()+" --help", "unexpected argument %q (usage: %s)", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// oneOf checks the value of a flag that takes a word from a list.
func oneOf(flag, value string, words ...string) error {
	for _, w := range words {
		if value == w {
			return nil
		}
	}
	return usage(oneOfHint(flag, value, words), "--%s %q: want one of %s", flag, value, strings.Join(words, ", "))
}
