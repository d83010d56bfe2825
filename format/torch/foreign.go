package torch

import (
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// Foreign says whether a global is of a package that nobody knows: a user's
// own code, which has to be there before a loader could import it. What such
// a class does is unknown, so it is never more than a name.
func Foreign(module, name string) bool {
	if !pickle.IsModuleName(module) || !pickle.IsIdentifier(name) || strings.HasPrefix(name, "__") || module == pickle.ComputedName || name == pickle.ComputedName {
		return false
	}
	top, _, _ := strings.Cut(module, ".")
	return !pickle.IsStandardLibrary(top) && !pickle.IsCommonPackage(top)
}

// isActivation knows functions that modules keep as attributes: they may be
// there, but not be called.
func isActivation(module, name string) bool {
	var names string
	switch module {
	case "torch.nn.functional", "torch._C._nn":
		names = "relu relu6 gelu silu elu selu celu leaky_relu sigmoid tanh softmax log_softmax hardtanh hardswish mish softplus"
	case "torch":
		names = "relu tanh sigmoid"
	}
	for n := range strings.SplitSeq(names, " ") {
		if n == name {
			return true
		}
	}
	return false
}

// called gives the globals that the streams call, otherwise than to make an
// object of a class.
func (c *Checkpoint) called() map[string]bool {
	out := map[string]bool{}
	for _, s := range c.Streams {
		if s.Stream == nil {
			continue
		}
		for _, call := range s.Calls {
			if module, name := calleeName(call); isActivation(module, name) || pickle.OpcodeName(call.Opcode) != "NEWOBJ" {
				out[module+"."+name] = true
			}
		}
	}
	return out
}

// harmless says whether leaving a global out loses code and nothing else.
func harmless(module, name string, called map[string]bool) bool {
	if Inert(module, name) {
		return true
	}
	return (Foreign(module, name) || isActivation(module, name)) && !called[module+"."+name]
}

// recognise knows the classes of tensors that are in parts, or of other
// layouts, by their packages.
func recognise(module, name string) *UnsupportedError {
	switch {
	case strings.HasPrefix(module, "torch.distributed._shard."):
		return &UnsupportedError{What: "sharded tensors of FSDP (" + quote(module+"."+name) + "), a part of each only", Next: nextSharded}
	case module == "torch.distributed._tensor" || strings.HasPrefix(module, "torch.distributed._tensor."),
		module == "torch.distributed.tensor" || strings.HasPrefix(module, "torch.distributed.tensor."),
		module == "torch.distributed.device_mesh", module == "torch.distributed.remote_device":
		return &UnsupportedError{What: "distributed tensors (" + quote(module+"."+name) + "), a part of each only", Next: nextSharded}
	case strings.HasPrefix(module, "torchao."):
		return &UnsupportedError{What: "quantised tensors of torchao (" + quote(module+"."+name) + ")", Next: nextTorchao}
	case strings.HasPrefix(module, "torch.masked.") || strings.HasPrefix(module, "torch.nested._internal."):
		return &UnsupportedError{What: "tensors of class " + quote(module+"."+name), Next: nextNested}
	case strings.HasPrefix(module, "deepspeed."):
		return &UnsupportedError{What: "a partition of DeepSpeed (" + quote(module+"."+name) + ")", Next: nextZeRO}
	case strings.HasPrefix(module, "megatron."):
		return &UnsupportedError{What: "a partition of Megatron (" + quote(module+"."+name) + ")", Next: nextMegatron}
	}
	return nil
}
