package torch

import (
	"github.com/weightseal/weightseal/format/pickle"
)

// partition recognises checkpoints that hold a part of every weight, or of
// some, by what training frameworks write at the top: taking them for whole
// would lose weights without a word.
func (w *walker) partition() *UnsupportedError {
	root, _ := w.items(w.c.Root)
	optimizer, _ := w.items(itemOf(root, "optimizer_state_dict"))
	for _, key := range []string{"zero_stage", "partition_count", "single_partition_of_fp32_groups", "fp32_flat_groups"} {
		if itemOf(optimizer, key) != nil {
			return &UnsupportedError{What: "a ZeRO partition of DeepSpeed", Next: nextZeRO}
		}
	}
	if itemOf(root, "ds_version") != nil || itemOf(root, "ds_config") != nil {
		if w.hollow(itemOf(root, "module")) {
			return &UnsupportedError{What: "a ZeRO 3 checkpoint of DeepSpeed, whose weights lie in the files of the optimizer", Next: nextZeRO}
		}
		if n, ok := itemOf(root, "mp_world_size").(pickle.Int); ok && n > 1 {
			return &UnsupportedError{What: "a model-parallel partition of DeepSpeed", Next: nextMegatron}
		}
	}
	if itemOf(root, "checkpoint_version") != nil || itemOf(root, "iteration") != nil {
		args := itemOf(root, "args")
		for _, key := range []string{"tensor_model_parallel_size", "pipeline_model_parallel_size", "model_parallel_size"} {
			if n, ok := attributeOf(args, key).(pickle.Int); ok && n > 1 {
				return &UnsupportedError{What: "a model-parallel partition of Megatron (" + key + " > 1)", Next: nextMegatron}
			}
		}
	}
	return nil
}

// itemOf gives a dictionary's value; nil where there is none.
func itemOf(items []pickle.Item, key string) pickle.Value {
	for _, it := range items {
		if s, ok := textOf(it.Key); ok && s == key {
			return it.Value
		}
	}
	return nil
}

// attributeOf gives an attribute of an object that a BUILD filled.
func attributeOf(v pickle.Value, key string) pickle.Value {
	call, ok := v.(*pickle.Call)
	if !ok {
		return nil
	}
	for _, st := range call.States {
		if d, ok := st.Value.(*pickle.Dict); ok {
			if x := itemOf(d.Items, key); x != nil {
				return x
			}
		}
	}
	return nil
}

// hollow says whether a state dict has tensors, and all of them are empty.
func (w *walker) hollow(v pickle.Value) bool {
	items, _ := w.items(v)
	found := false
	for _, it := range items {
		if !w.c.isTensor(it.Value) {
			continue
		}
		r, err := w.resolve(it.Value)
		if err != nil || r.built == nil {
			return false
		}
		for _, n := range r.built.Size {
			if n == 0 {
				found = true
			}
		}
		if !found {
			return false
		}
	}
	return found
}
