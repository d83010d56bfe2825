package dcp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/torch"
)

// chosen is a tensor that is taken, under the name that it gets.
type chosen struct {
	tensor *Tensor
	name   string
}

// choose picks the tensors of the subtree that is asked for; without one, the
// known key that holds all tensors, or all there is unless that would mix
// weights with training state.
func choose(m *Metadata, path string, ck *Checkpoint) ([]chosen, error) {
	if path == "" {
		var err error
		if path, err = guess(m); err != nil {
			return nil, err
		}
	}
	if path == torch.WholeRoot {
		path = ""
	}
	ck.Subtree = path
	var out []chosen
	beside := &beside{tensors: map[string]int{}, subtree: path}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if !inside(t.Path, path) {
			beside.add(t.Path, 1)
			continue
		}
		n := t.Name
		if path != "" {
			n = strings.TrimPrefix(t.Name[len(path):], ".")
		}
		if n == "" {
			return nil, noSubtree(m, path, "it is a tensor")
		}
		out = append(out, chosen{t, n})
	}
	for _, x := range m.Objects {
		if !inside(x.Path, path) {
			beside.add(x.Path, 0)
		}
	}
	if len(out) == 0 && path != "" {
		return nil, noSubtree(m, path, "there is no tensor in it")
	}
	if len(out) == 0 && len(m.Objects) > 0 {
		return nil, unsupported("", "a checkpoint without tensors", "leave it out: --exclude")
	}
	ck.Dropped = beside.dropped()
	return out, nil
}

// inside says whether keys lie in a subtree: the first of them, joined, are
// its path.
func inside(keys []string, path string) bool {
	if path == "" {
		return true
	}
	for i := range keys {
		if joined := strings.Join(keys[:i+1], "."); joined == path {
			return true
		} else if len(joined) > len(path) {
			return false
		}
	}
	// Keys may have dots themselves: a state dict saved flat.
	return strings.HasPrefix(strings.Join(keys, "."), path+".")
}

// guess finds the subtree where none is asked for; torch.WholeRoot for all.
func guess(m *Metadata) (string, error) {
	var keys, weights []string // first keys
	training, within := 0, map[string]int{}
	nested := map[string]bool{}
	for _, t := range m.Tensors {
		first := t.Path[0]
		if len(t.Path) == 1 {
			// Saved flat: model.layers.0 is a name like any other, but
			// optim.state.0 says by its first word what it is.
			first, _, _ = strings.Cut(first, ".")
		} else {
			nested[first] = true
		}
		if within[first]++; within[first] == 1 {
			keys = append(keys, first)
		}
		if isTraining(first) {
			training++
		}
	}
	for _, k := range keys {
		if isWeights(k) && nested[k] {
			weights = append(weights, k)
		}
	}
	total := len(m.Tensors)
	switch {
	case training > 0 && training < total, len(weights) > 1:
		return "", &torch.AmbiguousError{Candidates: candidates(keys)}
	case len(weights) == 1 && within[weights[0]] == total && flatIn(m, weights[0]):
		return weights[0], nil
	}
	return torch.WholeRoot, nil
}

// flatIn says whether all tensors lie under a key that is one, as the
// planner's record of the keys has it: of names cut at their dots nobody
// knows whether "model" is a key or part of the model's own names.
func flatIn(m *Metadata, key string) bool {
	return !slices.ContainsFunc(m.Tensors, func(t Tensor) bool { return !t.planned || len(t.Path) < 2 || t.Path[0] != key })
}

// candidates lists first keys, weights before what training leaves.
func candidates(keys []string) []string {
	out := slices.Clone(keys)
	slices.SortStableFunc(out, func(a, b string) int {
		switch x, y := isTraining(a), isTraining(b); {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
	return out
}

func noSubtree(m *Metadata, path, why string) error {
	var keys []string
	for _, t := range m.Tensors {
		first, _, _ := strings.Cut(t.Name, ".")
		if !slices.Contains(keys, first) && len(keys) < 10 {
			keys = append(keys, first)
		}
	}
	return &torch.FormatError{Reason: torch.ErrNoSubtree, Offset: -1, Path: path, Detail: why + "; there are " + strings.Join(keys, ", ")}
}

// beside collects what lies outside the subtree, by the key that leads away
// from it.
type beside struct {
	subtree string
	order   []string
	tensors map[string]int
}

func (b *beside) add(keys []string, tensors int) {
	parts := strings.Split(strings.Join(keys, "."), ".")
	way := strings.Split(b.subtree, ".")
	n := 0
	for n < len(parts)-1 && n < len(way) && parts[n] == way[n] {
		n++
	}
	key := strings.Join(parts[:n+1], ".")
	if _, ok := b.tensors[key]; !ok {
		b.order = append(b.order, key)
	}
	b.tensors[key] += tensors
}

func (b *beside) dropped() []format.Dropped {
	var out []format.Dropped
	for _, key := range b.order {
		d := format.Dropped{Path: key, Kind: "object", Reason: "outside " + b.subtree}
		if n := b.tensors[key]; n > 0 {
			d.Kind = "dict"
			d.Reason += fmt.Sprintf(", %d tensors", n)
		}
		if isTraining(key) {
			d.Kind = "training state"
		}
		out = append(out, d)
	}
	return out
}

// isTraining knows the keys of what is of no use for inference.
func isTraining(key string) bool {
	switch key {
	case "optim", "optimizer", "optimizers", "optimizer_state", "optimizer_state_dict", "optim_state_dict", "optimizer_states",
		"lr_scheduler", "lr_schedulers", "scheduler", "scaler", "grad_scaler", "rng_state", "rng_states", "train_state", "dataloader", "callbacks", "loops":
		return true
	}
	return false
}

// isWeights knows the keys under which training code keeps weights.
func isWeights(key string) bool {
	switch key {
	case "model", "state_dict", "model_state_dict", "model_state", "app", "module", "weights":
		return true
	}
	return false
}

// kindOf names a value that is no tensor.
func kindOf(v pickle.Value) string {
	switch v := v.(type) {
	case pickle.None:
		return "None"
	case pickle.Bool:
		return "bool"
	case pickle.Int, pickle.BigInt:
		return "int"
	case pickle.Float:
		return "float"
	case pickle.String, *pickle.LongText:
		return "str"
	case *pickle.Bytes:
		return "bytes"
	case *pickle.List:
		return "list"
	case *pickle.Tuple:
		return "tuple"
	case *pickle.Dict:
		return "dict"
	case *pickle.Call:
		if g, ok := v.Callee.(*pickle.Global); ok {
			module, name := g.Mapped()
			return module + "." + name
		}
	}
	return "object"
}
