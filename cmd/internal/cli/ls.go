package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
)

type lsOptions struct {
	registry registryFlags
	trust    trustFlags
	all      bool
	output   string
}

func newLs(s *streams) *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:   "ls REPOSITORY|REF",
		Short: "List the models of a repository, or the files of one",
		Long: `List what is in a registry or in a layout on disk, without its weights.

Of a repository: its tags with digest, size, format, what the statement says, and when it
was made. What a statement says is marked unverified, unless --key is given and it
verifies. This is for looking: the gate is verify.

Of a reference with a tag or digest: the files, with their size, what they are by their
first bytes, and their digest.`,
		Example: `  weightseal ls registry.example/team/model
  weightseal ls registry.example/team/model --key cosign.pub --output json
  weightseal ls registry.example/team/model:v1`,
		Args: exactArgs("REPOSITORY|REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("output", o.output, "text", "json"); err != nil {
				return err
			}
			opt, err := o.registry.options(s)
			if err != nil {
				return err
			}
			if oci.NamesVersion(args[0]) {
				return listFiles(cmd.Context(), s, args[0], opt, o.output)
			}
			return listVersions(cmd, s, args[0], opt, &o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "list the tags of signatures, attestations and referrers too")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.trust.add(f)
	o.registry.add(f)
	return cmd
}

func listVersions(cmd *cobra.Command, s *streams, ref string, opt oci.Options, o *lsOptions) error {
	trusted, err := o.trust.optional(s)
	if err != nil {
		return err
	}
	store, err := openRepository(cmd, ref, opt)
	if err != nil {
		return err
	}
	tags, err := listTags(cmd.Context(), store, o.all)
	if err != nil {
		return err
	}
	versions, err := newLister(store, trusted, opt.Concurrency).tags(cmd.Context(), tags)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(s.out, listedVersions(ref, tags, versions))
	}
	t := newTable(column{title: "TAG", cut: cutMiddle, least: 12}, column{title: "DIGEST", drop: 2}, column{title: "SIZE", number: true},
		column{title: "FORMAT", drop: 3}, column{title: "STATEMENT"}, column{title: "CREATED", drop: 1})
	for i, v := range versions {
		t.row(text(tags[i]), text(shortDigest(v.Digest)), text(bytesText(v.Size)), text(v.format()), styled(v.style(), v.verdict()), text(v.shortTime()))
	}
	return t.print(s.page())
}

// versionsOutput is what ls prints as JSON of a repository: one entry a tag.
type versionsOutput struct {
	SchemaVersion int         `json:"schemaVersion"`
	Repository    string      `json:"repository"`
	Tags          []taggedOne `json:"tags"`
}

type taggedOne struct {
	Tag string `json:"tag"`
	version
	Tags any `json:"tags,omitempty"` // hides the list of version
}

func listedVersions(ref string, tags []string, versions []*version) versionsOutput {
	out := versionsOutput{SchemaVersion: 1, Repository: ref, Tags: []taggedOne{}}
	for i, v := range versions {
		out.Tags = append(out.Tags, taggedOne{Tag: tags[i], version: *v})
	}
	return out
}

// listedFile is a file of a model that ls shows.
type listedFile struct {
	Path   string       `json:"path"`
	Size   int64        `json:"size"`
	Format model.Format `json:"format"`
	Role   model.Role   `json:"role"`
	Digest string       `json:"digest"`
}

func listFiles(ctx context.Context, s *streams, ref string, opt oci.Options, output string) error {
	m, from, err := openModel(ctx, ref, opt)
	if err != nil {
		return err
	}
	files := make([]listedFile, len(m.Files))
	for i, f := range m.Files {
		files[i] = listedFile{Path: f.Path, Size: f.Size, Format: f.Format, Role: f.Role, Digest: f.Digest}
	}
	slices.SortFunc(files, func(a, b listedFile) int { return compareNatural(a.Path, b.Path) })
	if output == "json" {
		return printJSON(s.out, struct {
			SchemaVersion int          `json:"schemaVersion"`
			Reference     string       `json:"reference"`
			Files         []listedFile `json:"files"`
		}{1, from.statement.URI, files})
	}
	total := int64(0)
	t := newTable(column{title: "PATH", cut: cutMiddle, least: 16}, column{title: "SIZE", number: true}, column{title: "FORMAT", drop: 2}, column{title: "DIGEST", drop: 1})
	for _, f := range files {
		t.row(text(f.Path), text(bytesText(f.Size)), text(string(f.Format)), text(shortDigest(f.Digest)))
		total += f.Size
	}
	if err := t.print(s.page()); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s, %s in %s\n", plural(len(files), "file"), bytesText(total), from.statement.URI)
	return nil
}
