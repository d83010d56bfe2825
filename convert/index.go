package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
)

// maxIndex bounds the size of an index file, in bytes.
const maxIndex = 256 << 20

// IndexError says that an index does not fit its shards.
type IndexError struct {
	Path string // of the index
	Err  error
}

func (e *IndexError) Error() string { return "the index does not fit its shards: " + e.Err.Error() }
func (e *IndexError) Unwrap() error { return e.Err }

// indexFile is an index over files that are to be converted.
type indexFile struct {
	file  model.File
	index *safetensors.Index
}

func (ix *indexFile) shardPath(shard string) string { return path.Join(path.Dir(ix.file.Path), shard) }

// shardNumber is what the names of a set's shards have after the stem.
var shardNumber = regexp.MustCompile(`^-\d+-of-\d+$`)

// indexes picks the indexes that must be rewritten out of the files that are
// not converted themselves, and checks that their shards are there.
func (b *setBuilder) indexes(ctx context.Context, convert, rest []model.File) (indexes []indexFile, other []model.File, errs []error) {
	converted := map[string]bool{}
	for _, f := range convert {
		converted[f.Path] = true
	}
	for _, f := range rest {
		if !b.mayIndex(f) {
			if err := b.checkKeptIndex(ctx, f, convert); err != nil {
				errs = append(errs, &FileError{Path: f.Path, Err: &IndexError{Path: f.Path, Err: err}})
			}
			other = append(other, f)
			continue
		}
		ix, err := b.readIndex(ctx, f)
		if err == nil {
			err = b.present(ix, converted)
		}
		if err != nil {
			errs = append(errs, &FileError{Path: f.Path, Err: &IndexError{Path: f.Path, Err: err}})
			continue
		}
		if slices.ContainsFunc(ix.index.Shards(), func(s string) bool { return converted[ix.shardPath(s)] }) {
			indexes = append(indexes, *ix)
		} else {
			other = append(other, f)
		}
	}
	return indexes, other, errs
}

// mayIndex says whether a file has the name of an index over files of the
// kind that is converted here.
func (b *setBuilder) mayIndex(f model.File) bool {
	stem, ok := strings.CutSuffix(path.Base(f.Path), indexExt)
	native := path.Ext(stem) == stExt
	switch {
	case !ok || b.opt.to() == model.NPZ, native && !b.opt.canonical():
		return ok
	}
	return native == (b.opt.to() == model.TorchZip)
}

// checkKeptIndex checks that the shards of an index that stays as it is will
// be there: a model without them cannot be loaded.
func (b *setBuilder) checkKeptIndex(ctx context.Context, f model.File, convert []model.File) error {
	stem, ok := strings.CutSuffix(path.Base(f.Path), indexExt)
	if !ok || path.Ext(stem) != stExt || b.opt.to() != model.Safetensors {
		return nil
	}
	ix, err := b.readIndex(ctx, f)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, x := range b.m.Files {
		there[x.Path] = true
	}
	for _, x := range convert {
		there[OutputPath(x.Path, model.Safetensors)] = true
	}
	var lost []string
	for _, s := range ix.index.Shards() {
		if !there[ix.shardPath(s)] {
			lost = append(lost, s)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("the index names shards that are not there: %s", strings.Join(lost, ", "))
	}
	return nil
}

func (b *setBuilder) readIndex(ctx context.Context, f model.File) (*indexFile, error) {
	if f.Size > maxIndex {
		return nil, fmt.Errorf("%d bytes are too many for an index", f.Size)
	}
	blob, err := b.m.Open(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	content := make([]byte, min(blob.Size(), maxIndex))
	if err := readFull(blob, content, 0); err != nil {
		return nil, err
	}
	ix, err := safetensors.ParseIndex(content)
	if err != nil {
		return nil, err
	}
	return &indexFile{file: f, index: ix}, nil
}

// present checks that the shards are all there, all converted or none, and no
// others beside them.
func (b *setBuilder) present(ix *indexFile, converted map[string]bool) error {
	files := map[string]bool{}
	for _, f := range b.m.Files {
		files[f.Path] = true
	}
	shards := ix.index.Shards()
	var lost, left, extra []string
	for _, s := range shards {
		at := ix.shardPath(s)
		switch {
		case !files[at]:
			lost = append(lost, s)
		case !converted[at]:
			left = append(left, s)
		}
	}
	stem := strings.TrimSuffix(path.Base(ix.file.Path), indexExt)
	ext := path.Ext(stem)
	stem = strings.TrimSuffix(stem, ext)
	for _, f := range b.m.Files {
		dir, base := path.Split(f.Path)
		number, ok := strings.CutPrefix(strings.TrimSuffix(base, ext), stem)
		if ok && path.Clean(dir) == path.Dir(ix.file.Path) && path.Ext(base) == ext && shardNumber.MatchString(number) && !slices.Contains(shards, base) {
			extra = append(extra, base)
		}
	}
	switch {
	case len(lost) > 0:
		return fmt.Errorf("the index names shards that are not there: %s", strings.Join(lost, ", "))
	case len(extra) > 0:
		return fmt.Errorf("there are shards that the index does not name: %s", strings.Join(extra, ", "))
	case len(left) > 0 && len(left) < len(shards):
		return fmt.Errorf("some shards of the set would not be converted: %s", strings.Join(left, ", "))
	}
	return nil
}

// rewrite makes the index of the converted shards: exactly the tensors that
// their headers hold (the names left out as ties are in the shards' metadata,
// where loaders look for them), each in its file. Where a shard was split, all
// of the set are numbered anew.
func (b *setBuilder) rewrite(ix indexFile) error {
	to := b.opt.to()
	if to == model.NPZ {
		b.set.Gone[ix.file.Path] = "npz files have no index"
		return nil
	}
	headers := map[string]*safetensors.Header{} // as they were split in the source
	renamed := map[string]string{}
	var plans []*Plan
	shards := ix.index.Shards()
	for _, s := range shards {
		of := b.plans[ix.shardPath(s)]
		if of == nil {
			return nil // its own error is in the list
		}
		renamed[s] = path.Base(OutputPath(s, to))
		headers[renamed[s]] = union(of)
		plans = append(plans, of...)
	}
	old := &safetensors.Index{WeightMap: map[string]string{}}
	was := map[string]string{}
	for _, name := range sortedKeys(ix.index.WeightMap) {
		now := b.opt.newName(name)
		if other, twice := was[now]; twice {
			return &IndexError{Path: ix.file.Path, Err: &RenameError{Names: []string{other, name}, To: now}}
		}
		was[now] = name
		old.WeightMap[now] = renamed[ix.index.WeightMap[name]]
	}
	if err := errors.Join(old.Check(headers), tieClash(headers)); err != nil {
		return &IndexError{Path: ix.file.Path, Err: err}
	}
	made := MadeFile{Path: OutputPath(ix.file.Path, to), From: ix.file.Path}
	if len(plans) > len(shards) {
		rename(plans, strings.TrimSuffix(made.Path, indexExt))
	}
	var err error
	if made.Content, err = indexOver(ix.index, headersOf(plans), to).Encode(); err != nil {
		return err
	}
	b.set.Made = append(b.set.Made, made)
	b.set.Gone[ix.file.Path] = "rewritten as " + made.Path
	return nil
}

// indexOver lists the tensors of the shards; what else an older index says
// stays. A torch file holds tied names, too.
func indexOver(old *safetensors.Index, headers map[string]*safetensors.Header, to model.Format) *safetensors.Index {
	ix := &safetensors.Index{Metadata: maps.Clone(old.Metadata), WeightMap: map[string]string{}, Extra: old.Extra}
	var total uint64
	for shard, h := range headers {
		for i := range h.Tensors {
			ix.WeightMap[h.Tensors[i].Name] = shard
			total += h.Tensors[i].End - h.Tensors[i].Begin
		}
		if to == model.TorchZip {
			for removed := range h.Aliases() {
				ix.WeightMap[removed] = shard
			}
		}
	}
	if ix.Metadata == nil {
		ix.Metadata = map[string]any{}
	}
	ix.Metadata["total_size"] = json.Number(strconv.FormatUint(total, 10))
	return ix
}

// tieClash finds a name that one shard left out as a tie and another shard
// has as well.
func tieClash(headers map[string]*safetensors.Header) error {
	holder := map[string]string{}
	for _, shard := range slices.Sorted(maps.Keys(headers)) {
		for i := range headers[shard].Tensors {
			holder[headers[shard].Tensors[i].Name] = shard
		}
	}
	for _, shard := range slices.Sorted(maps.Keys(headers)) {
		aliases := headers[shard].Aliases()
		for _, name := range slices.Sorted(maps.Keys(aliases)) {
			if other, twice := holder[name]; twice && other != shard {
				return fmt.Errorf("the tensor %q is in two shards, %s and %s", name, other, shard)
			}
			holder[name] = shard
		}
	}
	return nil
}
