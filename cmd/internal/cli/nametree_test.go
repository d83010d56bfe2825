package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func called(names ...string) []inspectedTensor {
	var out []inspectedTensor
	for _, n := range names {
		out = append(out, inspectedTensor{Name: n, DType: "F32", Shape: []uint64{2, 3}, Bytes: 24})
	}
	return out
}

func TestSplitName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"h.0.attn/w": "h|.0|.attn|/w", "a": "a", "": "", ".a": ".a", "a..b": "a|.|.b",
		strings.Repeat("a.", 100): strings.TrimSuffix("a|"+strings.Repeat(".a|", 62), "|") + "|." + strings.Repeat("a.", 37),
	} {
		if got := splitName(in); strings.Join(got, "|") != want && len(in) < 100 || strings.Join(got, "") != in || len(got) > maxDepth {
			t.Errorf("%q is split into %q", in, got)
		}
	}
	for in, want := range map[string]int{".0": 0, ".11": 11, "layer_3": 3, ".01": -1, "conv1d": -1, "x9999999999": -1, "": -1} {
		if _, got := splitNumber(in); got != want {
			t.Errorf("%q has the number %d, want %d", in, got, want)
		}
	}
}

func TestRangeText(t *testing.T) {
	t.Parallel()
	for want, in := range map[string][]int{
		"{0..11}": {11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, "{0,1}": {0, 1}, "{0..2,5,7..9}": {0, 1, 2, 5, 7, 8, 9}, "{0,2,4,6,8,10,…}": {0, 2, 4, 6, 8, 10, 12, 14},
	} {
		if got := rangeText(in); got != want {
			t.Errorf("%v is %s, want %s", in, got, want)
		}
	}
}

// llama names the tensors of a model with n layers, as Hugging Face does.
func llama(n int) []inspectedTensor {
	tensors := []inspectedTensor{
		{Name: "model.embed_tokens.weight", DType: "BF16", Shape: []uint64{32000, 4096}, Bytes: 262144000},
		{Name: "model.norm.weight", DType: "BF16", Shape: []uint64{4096}, Bytes: 8192},
		{Name: "lm_head.weight", DType: "BF16", Shape: []uint64{32000, 4096}, Bytes: 262144000},
	}
	for i := range n {
		for _, part := range []struct {
			name  string
			shape []uint64
		}{
			{"self_attn.q_proj", []uint64{4096, 4096}}, {"self_attn.k_proj", []uint64{1024, 4096}}, {"self_attn.v_proj", []uint64{1024, 4096}}, {"self_attn.o_proj", []uint64{4096, 4096}},
			{"mlp.gate_proj", []uint64{11008, 4096}}, {"mlp.up_proj", []uint64{11008, 4096}}, {"mlp.down_proj", []uint64{4096, 11008}},
			{"input_layernorm", []uint64{4096}}, {"post_attention_layernorm", []uint64{4096}},
		} {
			x := inspectedTensor{Name: fmt.Sprintf("model.layers.%d.%s.weight", i, part.name), DType: "BF16", Shape: part.shape}
			x.Bytes = uint64(x.elements()) * 2
			tensors = append(tensors, x)
		}
	}
	return tensors
}

func TestGroups(t *testing.T) {
	t.Parallel()
	var whole, bytes int64
	tensors := llama(32)
	for i := range tensors {
		whole += int64(tensors[i].Bytes)
	}
	var names []string
	for _, g := range groupTensors(tensors) {
		names = append(names, fmt.Sprintf("%s %d", g.Name, g.Tensors))
		bytes += g.Bytes
	}
	want := []string{
		"model.layers.{0..31}.mlp.down_proj.weight 32", "model.layers.{0..31}.mlp.gate_proj.weight 32", "model.layers.{0..31}.mlp.up_proj.weight 32",
		"model.layers.{0..31}.self_attn.o_proj.weight 32", "model.layers.{0..31}.self_attn.q_proj.weight 32",
		"model.layers.{0..31}.self_attn.k_proj.weight 32", "model.layers.{0..31}.self_attn.v_proj.weight 32",
		"lm_head.weight 1", "model.embed_tokens.weight 1",
		"model.layers.{0..31}.input_layernorm.weight 32", "model.layers.{0..31}.post_attention_layernorm.weight 32", "model.norm.weight 1",
	}
	if !slices.Equal(names, want) || bytes != whole {
		t.Errorf("%d of %d bytes in\n\t%s\nwant\n\t%s", bytes, whole, strings.Join(names, "\n\t"), strings.Join(want, "\n\t"))
	}
	for in, want := range map[string]string{
		"w": "w 1", "a.w a.b": "a 2", "x.0 x.1 x.2": "x.{0..2} 3", "a a.b": "a 2", "": "all 1",
	} {
		var got []string
		tensors := called(strings.Fields(in)...)
		if in == "" {
			tensors = called("")
		}
		for _, g := range groupTensors(tensors) {
			got = append(got, fmt.Sprintf("%s %d", g.Name, g.Tensors))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestTree: layers with the same tensors are one, others stay apart, and the
// bytes of the parts add up.
func TestTree(t *testing.T) {
	t.Parallel()
	tensors := called("h.0.a.w", "h.0.a.b", "h.1.a.w", "h.1.a.b", "h.3.a.w", "h.3.a.b", "h.2.a.w", "e.w", "evil\x1b[2J")
	var out strings.Builder
	in := &inspection{Files: []inspectedFile{{Tensors: tensors}}}
	if err := printTree(&page{Writer: &out}, in); err != nil {
		t.Fatal(err)
	}
	want := `TENSOR        DTYPE  SHAPE   TIMES  BYTES
e.w           F32    [2, 3]          24 B
evil\x1b[2J   F32    [2, 3]          24 B
h                                   168 B
├─ {0,1,3}.a                    x3  144 B
│  ├─ b       F32    [2, 3]     x3   72 B
│  └─ w       F32    [2, 3]     x3   72 B
└─ 2.a.w      F32    [2, 3]          24 B
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}

// TestTreeOfManyNames: names are data from outside, and may be many and deep.
func TestTreeOfManyNames(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 50_000 {
		names = append(names, fmt.Sprintf("x.%d.%d.w", i%7, i))
	}
	names = append(names, strings.Repeat("deep.", 1_000_000), strings.Repeat("/", 1_000_000))
	tensors := called(names...)
	if got := groupTensors(tensors); len(got) > maxGroups {
		t.Errorf("%d groups", len(got))
	}
	root := newNameTree(tensors, false)
	root.foldSame()
	if root.tensors != len(names) {
		t.Errorf("%d tensors in the tree, want %d", root.tensors, len(names))
	}
}
