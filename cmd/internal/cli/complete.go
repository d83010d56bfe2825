package cli

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/oci"
	"github.com/weightseal/weightseal/policy"
	"github.com/weightseal/weightseal/scan"
)

// completionTimeout is how long a shell waits for the tags of a registry.
const completionTimeout = 2 * time.Second

// argument is what stands at a place of a command line.
type argument int

const (
	argSource     argument = iota // a path, a layout or a reference
	argReference                  // a layout or a reference
	argRepository                 // the same, without a tag
	argDirectory
	argLogin // a registry with a login
	argFile
)

// argumentsOf says what the commands take. The last one may be repeated.
func argumentsOf() map[string][]argument {
	return map[string][]argument{
		"push": {argSource, argReference}, "pull": {argReference, argDirectory}, "verify": {argReference},
		"scan": {argSource}, "convert": {argSource, argFile}, "inspect": {argSource}, "diff": {argSource, argSource},
		"tags": {argRepository}, "ls": {argReference}, "history": {argReference}, "login": {argLogin}, "logout": {argLogin},
	}
}

// flagWords gives the words that a flag of a command takes; nil where it takes
// something else.
func flagWords(command, flag string) []string {
	switch flag {
	case "output":
		switch command {
		case "verify":
			return []string{"text", "json", "statement"}
		case "verify-blob-attestation":
			return []string{"text", "statement"}
		case "scan":
			words := []string{}
			for _, form := range scanOutputs {
				words = append(words, form.name)
			}
			return words
		}
		return []string{"text", "json"}
	case "to":
		return []string{"safetensors", "torch", "npz"}
	case "progress":
		return []string{"auto", "plain", "json", "none"}
	case "color":
		return []string{"auto", "always", "never"}
	case "policy":
		return policy.Names()
	case "fail-on":
		words := []string{}
		for v := scan.Convertible; v <= scan.Unsafe; v++ {
			words = append(words, v.String())
		}
		return words
	}
	return nil
}

// takesFile says whether a flag takes the path of a file; all others that take
// a value get no files offered.
func takesFile(f *pflag.Flag) bool {
	name, _ := pflag.UnquoteUsage(f)
	return strings.HasPrefix(strings.ToLower(name), "file") || strings.HasPrefix(name, "path")
}

// addCompletion makes the shells complete arguments and the values of flags.
// Nothing is looked up before a shell asks.
func addCompletion(s *streams, root *cobra.Command) {
	arguments := argumentsOf()
	for _, cmd := range root.Commands() {
		kinds := arguments[cmd.Name()]
		if len(kinds) > 0 && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
				kind := kinds[min(len(args), len(kinds)-1)]
				if len(args) >= len(kinds) && !strings.HasSuffix(cmd.Use, "...") {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return (&completer{s: s, cmd: cmd}).argument(kind, word)
			}
		}
		completeFlags(cmd, cmd.Flags())
	}
	completeFlags(root, root.PersistentFlags())
}

func completeFlags(cmd *cobra.Command, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		complete := cobra.NoFileCompletions
		if words := flagWords(cmd.Name(), f.Name); words != nil {
			complete = cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		} else if f.Value.Type() == "bool" || takesFile(f) {
			return
		}
		// It fails only for a flag that is not there, or that has one already.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
	})
}

// completer completes one word for a command.
type completer struct {
	s   *streams
	cmd *cobra.Command
}

func (c *completer) argument(kind argument, word string) ([]string, cobra.ShellCompDirective) {
	switch kind {
	case argFile:
		return nil, cobra.ShellCompDirectiveDefault
	case argDirectory:
		return nil, cobra.ShellCompDirectiveFilterDirs
	case argLogin:
		return c.logins(word), cobra.ShellCompDirectiveNoFileComp
	}
	if rest, ok := strings.CutPrefix(word, "oci:"); ok {
		return c.layouts(kind, rest)
	}
	if looksRemote(word) && !strings.HasPrefix(word, ".") {
		if at := strings.LastIndexByte(word, ':'); at > strings.LastIndexByte(word, '/') && kind != argRepository {
			return c.tags(word[:at], word[at+1:]), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		}
	}
	if kind == argSource {
		return nil, cobra.ShellCompDirectiveDefault
	}
	if strings.HasPrefix("oci:", word) {
		return []string{"oci:"}, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// layouts completes DIR or DIR:TAG after "oci:".
func (c *completer) layouts(kind argument, word string) ([]string, cobra.ShellCompDirective) {
	if at := strings.LastIndexByte(word, ':'); at > 0 && isLayout(word[:at]) && kind != argRepository {
		return c.tags("oci:"+word[:at], word[at+1:]), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
	parent, prefix := filepath.Split(word)
	entries, err := os.ReadDir(cmp.Or(parent, "."))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	for _, e := range entries {
		path := parent + e.Name()
		hidden := strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(prefix, ".")
		if info, err := os.Stat(path); err != nil || !info.IsDir() || hidden || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		switch {
		case !isLayout(path):
			found = append(found, "oci:"+path+"/")
		case kind == argRepository:
			found = append(found, "oci:"+path)
		default:
			found = append(found, "oci:"+path+":")
		}
	}
	if kind == argRepository && len(found) == 1 && !strings.HasSuffix(found[0], "/") {
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	return found, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

func isLayout(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "oci-layout"))
	return err == nil
}

// tags lists the tags of a repository that begin with a prefix. What goes wrong
// is not said: a shell is waiting.
func (c *completer) tags(repository, prefix string) []string {
	registry := registryFlags{concurrency: 1}
	flags := c.cmd.Flags()
	registry.plainHTTP, _ = flags.GetBool("plain-http") // false where there is no such flag
	registry.insecure, _ = flags.GetBool("insecure")
	registry.caFile, _ = flags.GetString("ca-file")
	registry.config, _ = flags.GetString("registry-config")
	opt, err := registry.options(c.s)
	if err != nil {
		return nil
	}
	store, _, err := oci.Open(repository, opt)
	if err != nil {
		return nil
	}
	ctx := c.cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	tags, err := listTags(ctx, store, false)
	if err != nil {
		return nil
	}
	found := []string{}
	for _, t := range tags {
		if strings.HasPrefix(t, prefix) {
			found = append(found, repository+":"+t)
		}
	}
	return found
}

// logins lists the registries that there is a login for.
func (c *completer) logins(prefix string) []string {
	config, _ := c.cmd.Flags().GetString("registry-config") // "" where there is no such flag
	file, err := (&registryFlags{config: config}).authFile(c.s)
	if err != nil {
		return nil
	}
	names, err := oci.Logins(file)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
}
