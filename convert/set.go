package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// Set is a converted model: every file of it under its new name.
type Set struct {
	Plans []*Plan           // converted files, by path
	Kept  []model.File      // files that stay as they are
	Made  []MadeFile        // small files written anew: the rewritten index
	Gone  map[string]string // source path -> why it is not in the output (replaced by ...)
}

// MadeFile is a small file with its content.
type MadeFile struct {
	Path    string
	From    string // the file that it replaces; "" for none
	Content []byte
}

// Close closes the sources of all plans.
func (s *Set) Close() error {
	var errs []error
	for _, p := range s.Plans {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// ClashError says that several inputs would write one name.
type ClashError struct {
	Path   string   // of the output
	Inputs []string // files of the source that end up there, sorted
	// Exclude lists those of Inputs without which there is no clash: the
	// ones that would be converted, beside one that needs no conversion; or
	// all but the first.
	Exclude []string
}

func (e *ClashError) Error() string {
	return fmt.Sprintf("%s would be written from %s", e.Path, strings.Join(e.Inputs, " and "))
}

// Model plans a whole model: pickle-based weights are converted, sharded sets
// get their index rewritten, everything else is kept. skip lists files that
// must not be converted; nil converts all that can be. Two inputs that would
// write one name give a *ClashError, an index that does not fit its shards an
// *IndexError; the failures of all files come joined, each as *FileError, and
// then there is no set and nothing is left open.
func Model(ctx context.Context, m *model.Model, opt Options, skip func(model.File) bool) (*Set, error) {
	b := &setBuilder{m: m, opt: opt, set: &Set{Gone: map[string]string{}}, plans: map[string][]*Plan{}, kept: map[string]model.File{}}
	if err := opt.Check(); err != nil {
		return nil, err
	}
	if err := b.build(ctx, skip); err != nil {
		return nil, errors.Join(err, b.set.Close())
	}
	return b.set, nil
}

// setBuilder collects a set.
type setBuilder struct {
	m     *model.Model
	opt   Options
	set   *Set
	plans map[string][]*Plan    // by source path
	kept  map[string]model.File // by path
}

func (b *setBuilder) build(ctx context.Context, skip func(model.File) bool) error {
	convert, rest := b.sort(skip)
	indexes, rest, errs := b.indexes(ctx, convert, rest)
	for _, f := range rest {
		b.keep(f)
	}
	// Clashes first: they need no file to be opened, and are what a folder
	// with both forms of a model has.
	if clash := b.clashes(convert, indexes); clash != nil {
		return errors.Join(append(errs, clash)...)
	}
	for _, f := range convert {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.plan(ctx, f); err != nil {
			errs = append(errs, &FileError{Path: f.Path, Err: err})
		}
	}
	for _, ix := range indexes {
		if err := b.rewrite(ix); err != nil {
			errs = append(errs, &FileError{Path: ix.file.Path, Err: err})
		}
	}
	if err := cmp.Or(b.number(indexes), b.clashesLate()); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	slices.SortFunc(b.set.Plans, func(x, y *Plan) int { return cmp.Compare(x.Path, y.Path) })
	return model.CheckPaths(b.outputs())
}

// sort parts the files into those to convert and the rest.
func (b *setBuilder) sort(skip func(model.File) bool) (convert, rest []model.File) {
	whole := b.whole(skip)
	for _, f := range b.m.Files {
		switch {
		case f.Format == model.DCPShard && whole[f.Set]:
			// Converted as part of its checkpoint.
		case f.Format == model.DCP && whole[f.Path]:
			convert = append(convert, f)
		case f.Format == model.DCP || f.Format == model.DCPShard:
			rest = append(rest, f)
		case converterFor(f.Format, b.opt) != nil && (skip == nil || !skip(f)):
			convert = append(convert, f)
		default:
			rest = append(rest, f)
		}
	}
	return convert, rest
}

// whole gives the metadata files whose distributed checkpoints are converted:
// all of their files, or none.
func (b *setBuilder) whole(skip func(model.File) bool) map[string]bool {
	whole := map[string]bool{}
	for _, f := range b.m.Files {
		if f.Format == model.DCP {
			whole[f.Path] = converterFor(f.Format, b.opt) != nil
		}
	}
	for _, f := range b.m.Files {
		if (f.Format == model.DCP || f.Format == model.DCPShard) && skip != nil && skip(f) {
			whole[f.Set] = false
		}
	}
	return whole
}

func (b *setBuilder) keep(f model.File) {
	b.set.Kept = append(b.set.Kept, f)
	b.kept[f.Path] = f
}

// plan plans one file, or the several of a distributed checkpoint.
func (b *setBuilder) plan(ctx context.Context, f model.File) error {
	in, err := OpenInput(ctx, b.m, f)
	if err != nil {
		return err
	}
	p, err := planFirst(ctx, in, b.opt)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	b.plans[f.Path] = append([]*Plan{p}, p.shards...)
	b.set.Plans = append(b.set.Plans, b.plans[f.Path]...)
	return nil
}

// gone says of a source, and of all files of its checkpoint, why it is not in
// the output.
func (b *setBuilder) gone(source, why string) {
	for _, f := range b.m.Files {
		if f.Path == source || f.Set == source {
			b.set.Gone[f.Path] = why
		}
	}
}

// number names the files of those sources that were split and are in no set
// with an index.
func (b *setBuilder) number(indexes []indexFile) error {
	indexed := map[string]bool{}
	for _, ix := range indexes {
		for _, s := range ix.index.Shards() {
			indexed[ix.shardPath(s)] = true
		}
	}
	for _, source := range sortedKeys(b.plans) {
		plans := b.plans[source]
		if len(plans) > 1 && !indexed[source] {
			made, err := number(plans, plans[0].Path)
			if err != nil {
				return &FileError{Path: source, Err: err}
			}
			b.set.Made = append(b.set.Made, *made)
		}
		b.gone(source, "converted to "+outputs(plans))
	}
	return nil
}

// clashesLate finds shards and indexes that would be written over a file that
// stays: their names are known only when all is planned.
func (b *setBuilder) clashesLate() error {
	var errs []error
	for _, p := range b.set.Plans {
		if _, kept := b.kept[p.Path]; kept {
			inputs := []string{p.Path, p.Source.Path}
			slices.Sort(inputs)
			errs = append(errs, &ClashError{Path: p.Path, Inputs: inputs, Exclude: []string{p.Path}})
		}
	}
	for _, m := range b.set.Made {
		if _, kept := b.kept[m.Path]; kept {
			errs = append(errs, &ClashError{Path: m.Path, Inputs: []string{m.Path}, Exclude: []string{m.Path}})
		}
	}
	return errors.Join(errs...)
}

// clashes finds names that two inputs would write.
func (b *setBuilder) clashes(convert []model.File, indexes []indexFile) error {
	converted := map[string][]string{}
	add := func(source string) {
		out := OutputPath(source, b.opt.to())
		converted[out] = append(converted[out], source)
	}
	for _, f := range convert {
		add(f.Path)
	}
	for _, ix := range indexes {
		add(ix.file.Path)
	}
	var errs []error
	for _, out := range slices.Sorted(maps.Keys(converted)) {
		sources := converted[out]
		slices.Sort(sources)
		_, kept := b.kept[out]
		switch {
		case kept:
			inputs := append([]string{out}, sources...)
			slices.Sort(inputs)
			errs = append(errs, &ClashError{Path: out, Inputs: inputs, Exclude: sources})
		case len(sources) > 1:
			errs = append(errs, &ClashError{Path: out, Inputs: sources, Exclude: sources[1:]})
		}
	}
	return errors.Join(errs...)
}

// outputs lists all names of the set.
func (b *setBuilder) outputs() []string {
	var all []string
	for _, p := range b.set.Plans {
		all = append(all, p.Path)
	}
	for _, f := range b.set.Kept {
		all = append(all, f.Path)
	}
	for _, f := range b.set.Made {
		all = append(all, f.Path)
	}
	slices.Sort(all)
	return all
}
