package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/oci"
)

// maxChain is how many manifests without a tag are followed from one that was
// made from them.
const maxChain = 100

type historyOptions struct {
	registry registryFlags
	trust    trustFlags
	output   string
}

func newHistory(s *streams) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history REPOSITORY|REF",
		Short: "Show the versions of a model and what changed between them",
		Long: `Show the versions of a model, newest first, and what changed from each to the next:
files, and whether the weights are the same. Equal weights digests mean that the model
was only repackaged. A version is a digest with its tags; one that an annotation names as
the base of another is shown without a tag too. Of a reference with a tag or digest, that
version and those before it are shown.

Manifests, configs and statements are read, no weights. What a statement says is marked
unverified, unless --key is given and it verifies.`,
		Example: `  weightseal history registry.example/team/model
  weightseal history registry.example/team/model:v2 --key cosign.pub --output json`,
		Args: exactArgs("REPOSITORY|REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHistory(cmd.Context(), s, args[0], &o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.trust.add(f)
	o.registry.add(f)
	return cmd
}

func runHistory(ctx context.Context, s *streams, ref string, o *historyOptions) error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	trusted, err := o.trust.optional(s)
	if err != nil {
		return err
	}
	store, id, err := oci.Open(ref, opt)
	if err != nil {
		return err
	}
	list := newLister(store, trusted, opt.Concurrency)
	versions, unread, err := list.history(ctx)
	if err != nil {
		return err
	}
	if oci.NamesVersion(ref) {
		unread = nil // what is newer or older than that version is not known
		if versions, err = list.upTo(ctx, versions, id); err != nil {
			return err
		}
	}
	return printHistory(s, o.output, repositoryName(store), versions, unread)
}

// history gives all versions, newest first, and the tags behind which none
// could be read.
func (l *lister) history(ctx context.Context) (versions, unread []*version, err error) {
	tags, err := listTags(ctx, l.store, false)
	if err != nil {
		return nil, nil, err
	}
	tagged, err := l.tags(ctx, tags)
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for _, v := range tagged {
		switch {
		case v.Digest == "":
			unread = append(unread, v)
		case !seen[v.Digest]:
			seen[v.Digest] = true
			versions = append(versions, v)
		}
	}
	if versions, err = l.withBases(ctx, versions, seen); err != nil {
		return nil, nil, err
	}
	newestFirst(versions)
	return versions, unread, nil
}

// withBases adds the manifests without a tag that others were made from, as
// long as they are in the same repository.
func (l *lister) withBases(ctx context.Context, versions []*version, seen map[string]bool) ([]*version, error) {
	for i := 0; i < len(versions) && len(seen) < len(versions)+maxChain; i++ {
		base := versions[i].base
		if base == "" || seen[base] {
			continue
		}
		seen[base] = true
		v, err := l.version(ctx, base)
		if err != nil {
			return nil, err
		}
		if v.Digest == base {
			versions = append(versions, v)
		}
	}
	return versions, nil
}

// newestFirst sorts by the time of creation, and where that says nothing by the
// last tag's name; what another version was made from comes after it.
func newestFirst(versions []*version) {
	slices.SortStableFunc(versions, func(a, b *version) int {
		return cmp.Or(b.created.Compare(a.created), compareNatural(b.lastTag(), a.lastTag()))
	})
	for range versions { // as many moves as there can be in a chain
		moved := false
		for i, v := range versions {
			from := slices.IndexFunc(versions, func(w *version) bool { return w.Digest == v.base })
			if v.base == "" || from < 0 || from > i || versions[from].created.After(v.created) && !v.created.IsZero() {
				continue
			}
			base := versions[from]
			versions = slices.Insert(slices.Delete(versions, from, from+1), i, base)
			moved = true
			break
		}
		if !moved {
			return
		}
	}
}

func (v *version) lastTag() string {
	if len(v.Tags) == 0 {
		return ""
	}
	return v.Tags[len(v.Tags)-1]
}

// upTo keeps the version behind id and those before it.
func (l *lister) upTo(ctx context.Context, versions []*version, id string) ([]*version, error) {
	d, err := l.store.Resolve(ctx, id)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(versions, func(v *version) bool { return v.Digest == d.Digest.String() })
	if i >= 0 {
		return versions[i:], nil
	}
	v, err := l.version(ctx, d.Digest.String())
	if err != nil {
		return nil, err
	}
	versions = append(versions, v)
	newestFirst(versions)
	return versions[slices.Index(versions, v):], nil
}

// What can be known of the weights of two versions.
const (
	weightsSame      = "same"
	weightsDifferent = "different"
	weightsUnknown   = "unknown"
)

// changes is what differs between a version and the one before it.
type changes struct {
	Since   string   `json:"since"`   // the digest of the one before
	Weights string   `json:"weights"` // same, different or unknown
	From    string   `json:"from"`    // how that is known: verified or unverified statements, or the files' digests
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
}

// changesSince compares the files of two versions by their digests, and their
// weights by what their statements say of them.
func (v *version) changesSince(old *version) *changes {
	c := &changes{Since: old.Digest, Weights: weightsUnknown, Added: []string{}, Removed: []string{}, Changed: []string{}}
	for _, path := range slices.SortedFunc(maps.Keys(v.digests), compareNatural) {
		switch before, ok := old.digests[path]; {
		case !ok:
			c.Added = append(c.Added, path)
		case before != v.digests[path]:
			c.Changed = append(c.Changed, path)
		}
	}
	for _, path := range slices.SortedFunc(maps.Keys(old.digests), compareNatural) {
		if _, ok := v.digests[path]; !ok {
			c.Removed = append(c.Removed, path)
		}
	}
	c.compareWeights(v, old)
	return c
}

func (c *changes) compareWeights(v, old *version) {
	a, b := v.Statement, old.Statement
	switch {
	case len(v.weights) > 0 && maps.Equal(v.weightDigests(), old.weightDigests()):
		c.Weights, c.From = weightsSame, "files"
	case a == nil || b == nil || a.WeightsDigest == "" || b.WeightsDigest == "":
	default:
		c.Weights, c.From = weightsDifferent, "unverified statements"
		if a.WeightsDigest == b.WeightsDigest {
			c.Weights = weightsSame
		}
		if a.Trust == trustVerified && b.Trust == trustVerified {
			c.From = "verified statements"
		}
	}
}

func (v *version) weightDigests() map[string]string {
	out := map[string]string{}
	for path := range v.weights {
		out[path] = v.digests[path]
	}
	return out
}

// historyEntry is a version with what changed in it.
type historyEntry struct {
	*version
	Changes *changes `json:"changes"` // null for the first version
}

func printHistory(s *streams, output, repository string, versions, unread []*version) error {
	entries := make([]historyEntry, len(versions))
	for i, v := range versions {
		entries[i].version = v
		if i+1 < len(versions) {
			entries[i].Changes = v.changesSince(versions[i+1])
		}
	}
	if output == "json" {
		return printJSON(s.out, struct {
			SchemaVersion int            `json:"schemaVersion"`
			Repository    string         `json:"repository"`
			Versions      []historyEntry `json:"versions"`
			Unread        []unreadTag    `json:"unread,omitempty"`
		}{1, repository, entries, unreadTags(unread)})
	}
	p := s.page()
	fmt.Fprintln(p, oneLine(repository))
	for _, e := range entries {
		e.print(p)
	}
	for _, u := range unreadTags(unread) {
		fmt.Fprintf(p, "\n%s\n  not read   %s\n", p.paint(strong, oneLine(u.Tag)), oneLine(u.Problem))
	}
	return nil
}

// unreadTag is a tag behind which no version could be read.
type unreadTag struct {
	Tag     string `json:"tag"`
	Problem string `json:"problem"`
}

func unreadTags(unread []*version) []unreadTag {
	var out []unreadTag
	for _, v := range unread {
		out = append(out, unreadTag{strings.Join(v.Tags, ", "), v.Problem})
	}
	return out
}

func (e *historyEntry) print(p *page) {
	tags := strings.Join(e.Tags, ", ")
	if tags == "" {
		tags = "(no tag)"
	}
	fmt.Fprintf(p, "\n%s\n  %s\n", p.paint(strong, oneLine(tags)), e.Digest)
	fmt.Fprintf(p, "  created    %s\n", e.createdText())
	fmt.Fprintf(p, "  files      %d, %s, %s\n", e.Files, bytesText(e.Size), oneLine(e.format()))
	fmt.Fprintf(p, "  statement  %s\n", p.paint(e.style(), e.verdict()))
	if e.Problem != "" {
		fmt.Fprintf(p, "  problem    %s\n", oneLine(e.Problem))
	}
	if e.Statement != nil && e.Statement.WeightsDigest != "" {
		digest := oneLine(e.Statement.WeightsDigest)
		if p.columns > 0 && p.columns < len("  weights    ")+len(digest) {
			digest = shortDigest(digest)
		}
		fmt.Fprintf(p, "  weights    %s\n", digest)
	}
	if e.Changes == nil {
		return
	}
	fmt.Fprintf(p, "  since %s: %s\n", shortDigest(e.Changes.Since), e.Changes.weightsText())
	for _, group := range []struct {
		mark  string
		style style
		paths []string
	}{{"+", good, e.Changes.Added}, {"-", bad, e.Changes.Removed}, {"~", doubtful, e.Changes.Changed}} {
		for _, path := range group.paths {
			fmt.Fprintf(p, "    %s\n", p.paint(group.style, group.mark+" "+oneLine(path)))
		}
	}
}

func (v *version) createdText() string {
	if v.CreatedFrom == "statement" {
		return v.shortTime() + " UTC (when the statement was made)"
	}
	if v.Created == "" {
		return "not said"
	}
	return v.shortTime() + " UTC"
}

func (c *changes) weightsText() string {
	switch {
	case c.Weights == weightsUnknown:
		return "whether the weights are the same is not known"
	case c.From == "files":
		return "the same weight files"
	case c.Weights == weightsSame:
		return "the same weights, only repackaged (" + c.From + ")"
	}
	return "other weights (" + c.From + ")"
}
