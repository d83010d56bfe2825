package dcp

import (
	"errors"
	"fmt"

	"github.com/weightseal/weightseal/format/pickle"
)

// The modules whose classes the metadata names.
const (
	metadataModule = "torch.distributed.checkpoint.metadata"
	fileModule     = "torch.distributed.checkpoint.filesystem"
	shardModule    = "torch.distributed._shard.sharded_tensor.metadata" // TensorProperties before torch 2.3
)

// isData says whether a name is one of the dataclasses of the metadata:
// making one runs no code of the checkpoint.
func isData(module, name string) bool {
	switch module {
	case metadataModule:
		switch name {
		case "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties", "ChunkStorageMetadata", "MetadataIndex", "StorageMeta":
			return true
		}
	case fileModule:
		return name == "_StorageInfo"
	case shardModule:
		return name == "TensorProperties"
	}
	return false
}

func isEncoding(v pickle.Value) bool {
	g, ok := v.(*pickle.Global)
	if !ok {
		return false
	}
	module, name := g.Mapped()
	return module == metadataModule && name == "_MEM_FORMAT_ENCODING" || module == shardModule && name == "MEM_FORMAT_ENCODING"
}

// Check says why a pickle is not one that torch.distributed.checkpoint writes
// as metadata; nil when every name, call and state in it is. The names are
// harmless as they are used there, and only there: no other file may have
// them allowed because of this.
func Check(s *pickle.Stream) error {
	called := map[*pickle.Global]bool{}
	for _, c := range s.Calls {
		if err := checkCall(c); err != nil {
			return err
		}
		called[c.Callee.(*pickle.Global)] = true
	}
	for _, g := range s.Globals {
		if !called[g] && !isKept(g) {
			module, name := g.Mapped()
			return brokenAt(g.Offset, fmt.Sprintf("it names %s, which no metadata needs", quote(module+"."+name)))
		}
	}
	for _, b := range s.Builds {
		c, ok := b.Object.(*pickle.Call)
		if !ok {
			return brokenAt(b.State.Offset, "a state is set on something that is no object")
		}
		if g, ok := c.Callee.(*pickle.Global); !ok || !isData(g.Mapped()) {
			return brokenAt(b.State.Offset, "a state is set on what is no part of the metadata")
		}
	}
	if len(s.Persistents) > 0 {
		return brokenAt(s.Persistents[0].Offset, "it has a persistent id, and nothing to resolve it")
	}
	if len(s.Findings) > 0 {
		f := s.Findings[0]
		return brokenAt(f.Offset, f.Rule+": "+f.Detail)
	}
	return nil
}

// isKept says which names may be there without being called: dtypes, and the
// classes, which a pickle names again where it does not remember them.
func isKept(g *pickle.Global) bool {
	module, name := g.Mapped()
	switch {
	case isData(module, name), isEncoding(g):
		return true
	case module == "torch":
		return name == "Size" || isTypeName(name)
	}
	return false
}

// isTypeName knows how torch spells dtypes and layouts: a lower-case word
// and the bits. What it is exactly is asked where the tensor is taken.
func isTypeName(name string) bool {
	switch name {
	case "bool", "half", "float", "double", "long", "int", "short", "strided", "cfloat", "cdouble", "chalf":
		return true
	}
	for _, stem := range []string{"float", "bfloat", "int", "uint", "complex", "qint", "quint", "bits"} {
		if len(name) > len(stem) && name[:len(stem)] == stem && name[len(stem)] >= '1' && name[len(stem)] <= '9' {
			return true
		}
	}
	return false
}

var errCall = errors.New("nothing that metadata needs")

// checkCall looks at one call and its arguments.
func checkCall(c *pickle.Call) error {
	g, ok := c.Callee.(*pickle.Global)
	if !ok {
		return brokenAt(c.Offset, "something is called that is no name")
	}
	module, name := g.Mapped()
	full := module + "." + name
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || c.Kwargs != nil || len(c.Items) > 0 || len(c.Appends) > 0 {
		return brokenAt(c.Offset, quote(full)+" gets odd arguments")
	}
	if !allowedCall(g, pickle.OpcodeName(c.Opcode), full, args.Items) {
		return brokenAt(c.Offset, quote(full)+" is called: "+errCall.Error())
	}
	return nil
}

func allowedCall(g *pickle.Global, op, full string, args []pickle.Value) bool {
	if isData(g.Mapped()) {
		return op == "NEWOBJ" && len(args) == 0
	}
	if op != "REDUCE" {
		return false
	}
	switch full {
	case "torch.Size":
		if len(args) != 1 {
			return false
		}
		_, ok := args[0].(*pickle.Tuple)
		return ok
	case "torch.serialization._get_layout":
		return len(args) == 1 && isText(args[0])
	case "builtins.getattr": // how some Python 3.11 pickle an enumeration
		return len(args) == 2 && isEncoding(args[0]) && isMember(args[1])
	case "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath",
		"pathlib._local.PosixPath", "pathlib._local.WindowsPath":
		for _, a := range args {
			if !isText(a) {
				return false
			}
		}
		return true
	}
	if isEncoding(g) && len(args) == 1 {
		_, ok := args[0].(pickle.Int)
		return ok
	}
	return false
}

func isText(v pickle.Value) bool {
	s, ok := v.(pickle.String)
	return ok && s.Valid
}

func isMember(v pickle.Value) bool {
	s, _ := v.(pickle.String)
	switch s.S {
	case "TORCH_CONTIGUOUS_FORMAT", "TORCH_CHANNELS_LAST", "TORCH_PRESERVE_FORMAT":
		return true
	}
	return false
}
