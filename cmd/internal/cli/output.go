package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/weightseal/weightseal/convert"
)

// outputFlags say what a converted file looks like.
type outputFlags struct {
	keepAliases  bool
	maxShardSize string
	rename       []string
	align        int
	metadata     bool
}

func (o *outputFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&o.keepAliases, "keep-aliases", false, "write every name of tied tensors")
	f.StringVar(&o.maxShardSize, "max-shard-size", "", "split converted files at tensors into shards of at most this `SIZE` of tensors, such as 5GB or 500MiB, and write their index")
	f.StringArrayVar(&o.rename, "rename", nil, "rename converted tensors, `FROM=TO`: a regular expression and what takes the place of every match, with $1 or ${1} for its groups (repeatable, in order)")
	f.IntVar(&o.align, "align", 0, "start the tensors of converted safetensors at a multiple of `N` bytes, a power of two from 8 on; beyond 8 the file and its digest are not those of the canonical file")
	f.BoolVar(&o.metadata, "metadata", false, "put plain numbers and texts that would be left behind into the safetensors metadata")
}

// fill sets what the flags say about the output.
func (o *outputFlags) fill(opt *convert.Options) error {
	opt.KeepAliases = o.keepAliases
	opt.Output = convert.Output{Align: o.align, Metadata: o.metadata}
	if o.maxShardSize != "" {
		n, err := parseSize(o.maxShardSize)
		if err != nil {
			return usage("a size is a number with KB, MB, GB or TB (powers of 1000), or KiB, MiB, GiB or TiB (powers of 1024): --max-shard-size 5GB", "--max-shard-size %q: %w", o.maxShardSize, err)
		}
		opt.Output.MaxShardSize = n
	}
	for _, text := range o.rename {
		r, err := convert.ParseRename(text)
		if err != nil {
			return usage("--rename '^module\\.=' takes a prefix away; $1 stands for the first group", "--rename: %w", err)
		}
		opt.Rename = append(opt.Rename, r)
	}
	if err := opt.Check(); err != nil {
		return usage("--align 4096, --max-shard-size 5GB", "%w", err)
	}
	return nil
}

// sizeUnits are the units that Hugging Face takes, and those beside them.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// parseSize reads a size such as 5GB, 1.5 GiB or 1000000, in bytes.
func parseSize(s string) (int64, error) {
	number, unit := strings.ToUpper(strings.TrimSpace(s)), 1.0
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	if strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no number", number)
	}
	n, err := strconv.ParseFloat(number, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no number", number)
	case n*unit < 1:
		return 0, fmt.Errorf("less than one byte")
	case n*unit >= math.MaxInt64:
		return 0, fmt.Errorf("more than a file can have")
	}
	return int64(n * unit), nil
}
