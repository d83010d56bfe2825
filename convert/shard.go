package convert

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format/safetensors"
)

// split parts tensors into files of at most limit bytes of tensors, in their
// order: a file is closed when the next tensor does not fit. A tensor that is
// larger gets a file of its own, which closes no other
// (split_state_dict_into_shards_factory of huggingface_hub does the same).
func (c *contents) split(kept []int, limit int64) ([][]int, error) {
	if limit <= 0 {
		return [][]int{kept}, nil
	}
	var parts [][]int
	var open []int
	var held int64
	for _, i := range kept {
		t := &c.tensors[i]
		size, err := safetensors.ByteSize(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if size > uint64(limit) {
			parts = append(parts, []int{i})
			continue
		}
		if held+int64(size) > limit || held+int64(size) < held {
			parts = append(parts, open)
			open, held = nil, 0
		}
		open = append(open, i)
		held += int64(size)
	}
	if len(open) > 0 || len(parts) == 0 {
		parts = append(parts, open)
	}
	return parts, nil
}

// together makes plans over one blob belong together: it is closed with the
// last of them, and one witness can be of all.
func together(plans []*Plan) *Plan {
	p := plans[0]
	if p.shards = plans[1:]; len(p.shards) == 0 {
		return p
	}
	p.source = &shared{}
	p.source.plans.Store(int32(len(plans)))
	for _, q := range p.shards {
		q.source, q.seed = p.source, p.seed
	}
	return p
}

// Files plans the conversion of one file as File does, into as many files as
// opt.Output.MaxShardSize asks for: the plans and, where there are several,
// their index. The set owns in.Blob once Files succeeds.
func Files(ctx context.Context, in Input, opt Options) (*Set, error) {
	p, err := planFirst(ctx, in, opt)
	if err != nil {
		return nil, err
	}
	set := &Set{Plans: append([]*Plan{p}, p.shards...), Gone: map[string]string{in.Path: "converted to " + p.Path}}
	if len(set.Plans) == 1 {
		return set, nil
	}
	made, err := number(set.Plans, p.Path)
	if err != nil {
		return nil, err
	}
	set.Made = []MadeFile{*made}
	set.Gone[in.Path] = "converted to " + outputs(set.Plans)
	return set, nil
}

// number gives plans the names of the shards of one file, and makes the index.
func number(plans []*Plan, file string) (*MadeFile, error) {
	rename(plans, file)
	content, err := indexOver(&safetensors.Index{}, headersOf(plans), plans[0].Format).Encode()
	if err != nil {
		return nil, err
	}
	return &MadeFile{Path: file + indexExt, Content: content}, nil
}

// rename numbers the shards of a file: model-00001-of-00003.safetensors.
func rename(plans []*Plan, file string) {
	ext := path.Ext(file)
	for i, p := range plans {
		p.Path = fmt.Sprintf("%s-%05d-of-%05d%s", strings.TrimSuffix(file, ext), i+1, len(plans), ext)
	}
}

func headersOf(plans []*Plan) map[string]*safetensors.Header {
	headers := make(map[string]*safetensors.Header, len(plans))
	for _, p := range plans {
		headers[path.Base(p.Path)] = p.Header
	}
	return headers
}

// union is a header with all tensors of several files, without their places.
func union(plans []*Plan) *safetensors.Header {
	if len(plans) == 1 {
		return plans[0].Header
	}
	all := &safetensors.Header{Metadata: map[string]string{}}
	for _, p := range plans {
		all.Tensors = append(all.Tensors, p.Header.Tensors...)
		maps.Copy(all.Metadata, p.Header.Metadata)
	}
	return all
}

// Outputs says what a source file is converted to: the path of the first file,
// and how many more there are; "" for one that is not converted.
func (s *Set) Outputs(source string) string {
	var plans []*Plan
	for _, p := range s.Plans {
		if p.Source.Path == source {
			plans = append(plans, p)
		}
	}
	if len(plans) == 0 {
		return ""
	}
	return outputs(plans)
}

// Name gives the files of a set that Files made other names: file is the path
// that the one file would have.
func (s *Set) Name(file string) error {
	if len(s.Plans) == 1 {
		s.Plans[0].Path = file
		return nil
	}
	made, err := number(s.Plans, file)
	if err == nil {
		s.Made = []MadeFile{*made}
	}
	return err
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// outputs lists the names that a plan's source is converted to.
func outputs(plans []*Plan) string {
	if len(plans) == 1 {
		return plans[0].Path
	}
	return fmt.Sprintf("%s and %d more", plans[0].Path, len(plans)-1)
}
