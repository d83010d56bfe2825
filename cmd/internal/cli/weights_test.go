package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/internal/embedded"
)

// generated is a model made from a seed: the tensors of one safetensors file.
type generated struct {
	specs []safetensors.Spec
	data  map[string][]byte
	ties  map[string]string // removed -> kept
}

// generate makes tensors of the dtypes that torch has, with odd shapes and
// names, any bits, and ties.
func generate(seed uint64) *generated {
	r := rand.New(rand.NewPCG(seed, 0x5ea1))
	g := &generated{data: map[string][]byte{}, ties: map[string]string{}}
	words := []string{"weight", "bias", "layers.0", "größe", "a/b", "x y", `q"\`, "层", "format", "W"}
	for i := range 3 + r.IntN(12) {
		d := safetensors.BOOL + safetensors.DType(r.IntN(int(safetensors.U64)))
		if d == safetensors.F6E2M3 || d == safetensors.F6E3M2 {
			d = safetensors.BF16
		}
		shape := []uint64{}
		for range r.IntN(4) {
			shape = append(shape, []uint64{0, 1, 2, 3, 7, 30}[r.IntN(6)])
		}
		if d == safetensors.F4 {
			shape = append(shape, 2*r.Uint64N(5))
		}
		n := d.Bits()
		for _, s := range shape {
			n *= s
		}
		b := make([]byte, n/8)
		for k := range b {
			if b[k] = byte(r.Uint32()); d == safetensors.BOOL {
				b[k] &= 1
			}
		}
		name := fmt.Sprintf("%s.%d", words[r.IntN(len(words))], i)
		g.specs = append(g.specs, safetensors.Spec{Name: name, DType: d, Shape: shape})
		g.data[name] = b
		for k := range r.IntN(3) {
			if len(b) > 0 {
				g.ties[fmt.Sprintf("%s.tie%d", name, k)] = name
			}
		}
	}
	return g
}

// file is the safetensors file of some of the tensors, with their ties.
func (g *generated) file(tb testing.TB, specs []safetensors.Spec) []byte {
	tb.Helper()
	meta := map[string]string{"format": "pt"}
	for removed, kept := range g.ties {
		for _, s := range specs {
			if s.Name == kept {
				meta[removed] = kept
			}
		}
	}
	h, raw, err := safetensors.NewHeader(specs, meta)
	if err != nil {
		tb.Fatal(err)
	}
	for _, t := range h.Tensors {
		raw = append(raw, g.data[t.Name]...)
	}
	return raw
}

// shards parts the tensors at random, and writes an index. name gives a
// shard's file.
func (g *generated) shards(tb testing.TB, r *rand.Rand, count int, name func(i int) string) map[string][]byte {
	tb.Helper()
	parts := make([][]safetensors.Spec, count)
	for i, s := range g.specs {
		k := i % count // none is empty
		if i >= count {
			k = r.IntN(count)
		}
		parts[k] = append(parts[k], s)
	}
	files, where, total := map[string][]byte{}, map[string]string{}, 0
	for i, part := range parts {
		files[name(i)] = g.file(tb, part)
		for _, s := range part {
			where[s.Name] = name(i)
			total += len(g.data[s.Name])
		}
	}
	index, err := json.Marshal(map[string]any{"metadata": map[string]int{"total_size": total}, "weight_map": where})
	if err != nil {
		tb.Fatal(err)
	}
	files["model.safetensors.index.json"] = index
	return files
}

// setDigest is the tensor-set digest of a safetensors file.
func setDigest(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	h, err := safetensors.ReadHeader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	d := safetensors.NewDigester(h)
	_, _ = d.Write(b)
	all, err := d.Sum()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := safetensors.SetDigest(all)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// journey takes one generated model through everything that must leave its
// digests alone.
type journey struct {
	*testing.T
	base, want string // the model, and its weights digest
	tensors    int    // names
	dir        string
	flags      []string
}

// run runs a command and gives what it printed as JSON.
func (j *journey) run(args ...string) map[string]any {
	j.Helper()
	if args[0] != "convert" {
		args = append(args, j.flags...)
	}
	res := execute(j, append(args, "--output", "json")...)
	if res.code != exitOK {
		j.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), res.code, res.out, res.err)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(res.out), &out); err != nil {
		j.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, res.out)
	}
	return out
}

// same wants a model to hold the weights of the first, by all digests.
func (j *journey) same(source string) {
	j.Helper()
	d := j.run("diff", j.base, source)
	if d["same"] != true || d["weightsDigestA"] != j.want || d["weightsDigestB"] != j.want || d["names"] != float64(j.tensors) {
		j.Errorf("%s: %v, want %s", source, d, j.want)
	}
}

// push pushes, and wants the statement's digest to be that of the weights.
func (j *journey) push(source, target string) {
	j.Helper()
	if d := j.run("push", source, target, "--no-sign"); d["weightsDigest"] != j.want {
		j.Errorf("push %s %s: weights digest %v, want %s", source, target, d["weightsDigest"], j.want)
	}
	j.same(target)
}

// TestDigestsAreInvariant: tensor digests, tensor-set digest and weights digest
// do not change under conversion, either way, under sharding, renaming, push
// and pull, and from one registry to another.
func TestDigestsAreInvariant(t *testing.T) {
	t.Parallel()
	first, err := embedded.Start(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	second, err := embedded.Start(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close(); second.Close() })
	seen := map[string]uint64{}
	for seed := range uint64(12) {
		g := generate(seed)
		j := &journey{T: t, dir: t.TempDir(), tensors: len(g.specs) + len(g.ties), flags: []string{"--plain-http", "--progress", "none"}}
		if !j.travel(g, seed, first.Addr, second.Addr) {
			t.Fatalf("seed %d", seed)
		}
		if other, ok := seen[j.want]; ok {
			t.Errorf("seeds %d and %d have one weights digest", seed, other)
		}
		seen[j.want] = seed
	}
}

func (j *journey) travel(g *generated, seed uint64, first, second string) bool {
	r := rand.New(rand.NewPCG(seed, 1))
	at := func(name string) string { return filepath.Join(j.dir, name) }
	j.base = placed(j, map[string][]byte{"model.safetensors": g.file(j, g.specs)})
	single := filepath.Join(j.base, "model.safetensors")
	set := setDigest(j, single)
	j.want = "sha256:" + set // of a model that is one file
	j.same(single)

	// To torch and back, and with every name written.
	j.run("convert", single, at("pytorch_model.bin"), "--to", "torch")
	j.same(at("pytorch_model.bin"))
	j.run("convert", at("pytorch_model.bin"), at("back.safetensors"), "--select", ".")
	j.run("convert", at("pytorch_model.bin"), at("all.safetensors"), "--select", ".", "--keep-aliases")
	for _, name := range []string{"back.safetensors", "all.safetensors"} {
		if got := setDigest(j, at(name)); got != set {
			j.Errorf("%s: tensor-set digest %s, want %s", name, got, set)
		}
	}

	// Sharded twice, under the usual names and under others, and as pickles.
	count := 1 + r.IntN(len(g.specs))
	usual := placed(j, g.shards(j, r, count, func(i int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, count) }))
	j.same(usual)
	j.same(placed(j, g.shards(j, r, 1+r.IntN(len(g.specs)), func(i int) string { return fmt.Sprintf("part_%c.safetensors", 'z'-rune(i)) })))
	j.run("convert", usual, at("bins"), "--to", "torch")
	j.same(at("bins"))

	// Pushed, converting; to another registry and to a layout; pulled.
	name := fmt.Sprintf("/m%d:v1", seed)
	j.push(at("bins"), first+name)
	j.push(first+name, second+name)
	j.push(second+name, "oci:"+at("layout")+":v1")
	for i, source := range []string{first + name, second + name, "oci:" + at("layout") + ":v1"} {
		out := at(fmt.Sprintf("pulled%d", i))
		execute(j, "pull", source, out, "--no-verify", "--plain-http").succeeded(j)
		j.same(out)
	}
	return !j.Failed()
}
