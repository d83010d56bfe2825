package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/oci"
)

func newTags(s *streams) *cobra.Command {
	var registry registryFlags
	var all bool
	var output string
	cmd := &cobra.Command{
		Use:   "tags REPOSITORY",
		Short: "List the tags of a repository",
		Long: `List the tags of a repository, in a registry or in a layout on disk (oci:DIR), numbers
in them by their value. Tags that only carry the signatures, attestations and referrers
of a manifest are left out; --all lists them too.`,
		Example: `  weightseal tags registry.example/team/model
  weightseal tags oci:layout --output json`,
		Args: exactArgs("REPOSITORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			opt, err := registry.options(s)
			if err != nil {
				return err
			}
			store, err := openRepository(cmd, args[0], opt)
			if err != nil {
				return err
			}
			tags, err := listTags(cmd.Context(), store, all)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(s.out, struct {
					SchemaVersion int      `json:"schemaVersion"`
					Repository    string   `json:"repository"`
					Tags          []string `json:"tags"`
				}{1, args[0], tags})
			}
			for _, t := range tags {
				fmt.Fprintln(s.out, t)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "list the tags of signatures, attestations and referrers too")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	registry.add(f)
	return cmd
}

// openRepository opens a reference that names no version.
func openRepository(cmd *cobra.Command, ref string, opt oci.Options) (oci.Store, error) {
	store, _, err := oci.Open(ref, opt)
	if err != nil {
		return nil, err
	}
	if oci.NamesVersion(ref) {
		return nil, usage(cmd.CommandPath()+" "+repositoryName(store), "%s names one version: this is about a whole repository", ref)
	}
	return store, nil
}

// repositoryName is a store's name without a version.
func repositoryName(store oci.Store) string { return strings.TrimSuffix(store.Reference("x"), ":x") }

// listTags lists the tags of a store by name, those of attachments only with
// all.
func listTags(ctx context.Context, store oci.Store, all bool) ([]string, error) {
	tags, err := oci.Tags(ctx, store)
	if err != nil {
		return nil, err
	}
	if !all {
		tags = slices.DeleteFunc(tags, oci.IsAttachmentTag)
	}
	slices.SortFunc(tags, compareNatural)
	if tags == nil {
		tags = []string{}
	}
	return tags, nil
}

// compareNatural orders texts as people do: runs of digits by their value, so
// that v2 comes before v10.
func compareNatural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		p, q := leadingDigits(x), leadingDigits(y)
		if p == 0 || q == 0 {
			if x[0] != y[0] {
				return int(x[0]) - int(y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		m, n := strings.TrimLeft(x[:p], "0"), strings.TrimLeft(y[:q], "0")
		if len(m) != len(n) {
			return len(m) - len(n)
		}
		if c := strings.Compare(m, n); c != 0 {
			return c
		}
		x, y = x[p:], y[q:]
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(a, b) // 01 and 1
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
