package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/oci"
)

type diffOptions struct {
	registry   registryFlags
	progress   progressFlags
	selectPath string
	output     string
}

func newDiff(s *streams) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say whether two models hold the same weights",
		Long: `Compare the tensors of two models, bit for bit: in any two formats, on disk or in a
registry, however they are sharded. The exit code is 3 when they differ.`,
		Example: `  weightseal diff pytorch_model.bin model.safetensors
  weightseal diff ./my-model registry.example/team/model:v1`,
		Args: exactArgs("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDiff(cmd.Context(), s, args[0], args[1], &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.selectPath, "select", "", "`path` of the weights in a nested checkpoint, such as state_dict")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	o.registry.add(f)
	o.progress.add(f)
	return cmd
}

// diffOutput is what diff prints as JSON.
type diffOutput struct {
	SchemaVersion  int          `json:"schemaVersion"`
	Same           bool         `json:"same"`
	Tensors        int          `json:"tensors"`
	WeightsDigestA string       `json:"weightsDigestA"`
	WeightsDigestB string       `json:"weightsDigestB"`
	Differences    []difference `json:"differences"`
}

type difference struct {
	Name string `json:"name"`
	What string `json:"what"` // only-a, only-b, dtype, shape, bytes
	A    string `json:"a,omitempty"`
	B    string `json:"b,omitempty"`
}

func runDiff(ctx context.Context, s *streams, a, b string, o *diffOptions) error {
	if err := oneOf("output", o.output, "text", "json"); err != nil {
		return err
	}
	if err := o.progress.check(); err != nil {
		return err
	}
	opt, err := o.registry.options(s)
	if err != nil {
		return err
	}
	bar := o.progress.start(s)
	defer bar.close()
	left, leftDigest, err := modelTensors(ctx, a, opt, o.selectPath, bar)
	if err != nil {
		return err
	}
	right, rightDigest, err := modelTensors(ctx, b, opt, o.selectPath, bar)
	if err != nil {
		return err
	}
	bar.close()
	out := diffOutput{SchemaVersion: 1, Tensors: len(left), WeightsDigestA: leftDigest, WeightsDigestB: rightDigest, Differences: compare(left, right)}
	out.Same = len(out.Differences) == 0
	if o.output == "json" {
		err = printJSON(s.out, out)
	} else {
		err = printDiff(s, out)
	}
	if err == nil && !out.Same {
		err = fail(exitPolicy, fmt.Errorf("the weights differ in %d of %d names", len(out.Differences), len(union(left, right))))
	}
	return err
}

// modelTensors digests all tensors of a model's weight files, by name.
func modelTensors(ctx context.Context, source string, opt oci.Options, selectPath string, bar *progress) (map[string]safetensors.TensorDigest, string, error) {
	m, _, err := openModel(ctx, source, opt)
	if err != nil {
		return nil, "", err
	}
	byFile := map[string][]safetensors.TensorDigest{}
	all := map[string]safetensors.TensorDigest{}
	for _, f := range m.Files {
		tensors, err := fileTensors(ctx, m, f, selectPath, bar)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", f.Path, err)
		}
		if tensors == nil {
			continue
		}
		byFile[f.Path] = tensors
		for _, t := range inFolder(f.Path, "/", tensors) {
			if _, twice := all[t.Name]; twice {
				return nil, "", fail(exitUsage, fmt.Errorf("%s: two files hold a tensor named %q", source, t.Name), "compare file by file")
			}
			all[t.Name] = t
		}
	}
	if len(byFile) == 0 {
		return nil, "", fail(exitError, errors.New(source+": holds no weights"))
	}
	return all, weightsDigest(byFile), nil
}

func fileTensors(ctx context.Context, m *model.Model, f model.File, selectPath string, bar *progress) ([]safetensors.TensorDigest, error) {
	w, err := openWeights(ctx, m, f, selectPath)
	if err != nil || w == nil {
		return nil, err
	}
	defer w.close()
	bar.say("read", f.Path)
	tensors, err := w.digests(ctx)
	if tensors == nil && err == nil {
		tensors = []safetensors.TensorDigest{}
	}
	return tensors, err
}

func compare(a, b map[string]safetensors.TensorDigest) []difference {
	out := []difference{}
	for _, name := range union(a, b) {
		x, inA := a[name]
		y, inB := b[name]
		switch {
		case !inB:
			out = append(out, difference{Name: name, What: "only-a"})
		case !inA:
			out = append(out, difference{Name: name, What: "only-b"})
		case x.DType != y.DType:
			out = append(out, difference{name, "dtype", x.DType.String(), y.DType.String()})
		case !slices.Equal(x.Shape, y.Shape):
			out = append(out, difference{name, "shape", shapeText(x.Shape), shapeText(y.Shape)})
		case x.Digest != y.Digest:
			out = append(out, difference{name, "bytes", "sha256:" + x.Digest, "sha256:" + y.Digest})
		}
	}
	return out
}

func union(a, b map[string]safetensors.TensorDigest) []string {
	names := make(map[string]bool, len(a))
	for n := range a {
		names[n] = true
	}
	for n := range b {
		names[n] = true
	}
	return sortedKeys(names)
}

func printDiff(s *streams, out diffOutput) error {
	if out.Same {
		_, err := fmt.Fprintf(s.out, "same weights: %d tensors, %s\n", out.Tensors, out.WeightsDigestA)
		return err
	}
	for _, d := range out.Differences {
		switch d.What {
		case "only-a":
			fmt.Fprintf(s.out, "- %s\n", printable(d.Name))
		case "only-b":
			fmt.Fprintf(s.out, "+ %s\n", printable(d.Name))
		default:
			fmt.Fprintf(s.out, "~ %s: %s %s, %s\n", printable(d.Name), d.What, d.A, d.B)
		}
	}
	return nil
}
