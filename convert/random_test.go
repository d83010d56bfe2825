package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/weightseal/weightseal/format/torch"
	"github.com/weightseal/weightseal/internal/realtools"
)

var (
	dictSeed  = flag.String("dict-seed", "1", "seed of the random state dicts: any text")
	dictCount = flag.Int("dict-count", 1000, "number of random state dicts")
)

// randomDict is a state dict that torch made at random and saved.
type randomDict struct {
	File    string
	How     map[string]any
	Tensors map[string]loadedTensor
	Aliases map[string]string
	Plain   int // entries that are no tensors
}

// randomDicts lets the real torch write them.
func randomDicts(tb testing.TB, dir string) []randomDict {
	tb.Helper()
	cmd := exec.Command(realtools.Python(tb), filepath.Join("testdata", "dicts.py"), dir, *dictSeed, strconv.Itoa(*dictCount))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("dicts.py: %v\n%s", err, errs.String())
	}
	var all []randomDict
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var d randomDict
		if err := dec.Decode(&d); err == io.EOF {
			break
		} else if err != nil {
			tb.Fatal(err)
		}
		all = append(all, d)
	}
	if len(all) != *dictCount {
		tb.Fatalf("%d state dicts, want %d", len(all), *dictCount)
	}
	return all
}

// TestRandomDicts reads state dicts that the real torch wrote: names, dtypes,
// shapes, bytes and ties must be those that torch had in memory, and what we
// write back to torch must load there with the same bytes. The file that fails
// depends on -dict-seed and its number alone.
func TestRandomDicts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plans := map[string]*Plan{}
	args := []string{"--weights-only"}
	for _, d := range randomDicts(t, dir) {
		p, err := planFile(t, d.File, Options{Select: torch.WholeRoot})
		if len(d.Tensors) == 0 && err != nil {
			continue // nothing to convert, and said so
		}
		if err != nil {
			t.Errorf("seed %s: %s (%v): %v", *dictSeed, filepath.Base(d.File), d.How, err)
			continue
		}
		st := whole(t, p)
		d.check(t, p, st)
		back := toTorchPlan(t, st)
		name := d.File + ".bin"
		if err := back.WriteFile(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		again, err := planFile(t, name, Options{Select: torch.WholeRoot})
		if err != nil {
			t.Errorf("seed %s: %s: our own archive: %v", *dictSeed, filepath.Base(d.File), err)
			continue
		}
		if !bytes.Equal(whole(t, again), st) {
			t.Errorf("seed %s: %s: safetensors -> torch -> safetensors differs", *dictSeed, filepath.Base(d.File))
		}
		args = append(args, name)
		plans[name] = p
	}
	if len(plans) < *dictCount*95/100 {
		t.Errorf("only %d of %d state dicts have tensors", len(plans), *dictCount)
	}
	for _, l := range torchLoad(t, args...) {
		p := plans[l.File]
		if l.Error != "" {
			t.Errorf("seed %s: %s: torch: %s", *dictSeed, p.Source.Path, l.Error)
			continue
		}
		compareLoaded(t, l, p, whole(t, p))
		for _, a := range p.Aliases {
			if l.Tensors[a.Removed].Ptr != l.Tensors[a.Kept].Ptr {
				t.Errorf("seed %s: %s: %s and %s are not tied", *dictSeed, p.Source.Path, a.Removed, a.Kept)
			}
		}
	}
}

// check compares a plan and its output with what torch had in memory.
func (d *randomDict) check(t *testing.T, p *Plan, out []byte) {
	t.Helper()
	where := "seed " + *dictSeed + ": " + filepath.Base(d.File)
	proof := proveAll(t, p, out)
	if len(proof.Tensors) != len(d.Tensors) {
		t.Errorf("%s (%v): %d tensors, torch has %d", where, d.How, len(proof.Tensors), len(d.Tensors))
	}
	for _, x := range proof.Tensors {
		w := d.Tensors[x.Name]
		if w.SHA256 != x.Digest || w.DType != torchNames[x.DType] || !slices.Equal(w.Shape, x.Shape) {
			t.Errorf("%s (%v): %s: %v, torch has %v", where, d.How, x.Name, x, w)
		}
	}
	ties := map[string]string{}
	for _, a := range p.Aliases {
		ties[a.Removed] = a.Kept
	}
	if !maps.Equal(ties, d.Aliases) {
		t.Errorf("%s (%v): ties %v, torch has %v", where, d.How, ties, d.Aliases)
	}
	if len(p.Notes) > 0 {
		t.Errorf("%s (%v): notes %v", where, d.How, p.Notes)
	}
	if len(p.Dropped) < d.Plain {
		t.Errorf("%s (%v): %d entries left behind, torch has %d that are no tensors", where, d.How, len(p.Dropped), d.Plain)
	}
}
