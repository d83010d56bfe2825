package scan

import (
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// skopsNode is a node of a skops schema (skops/io): the kind of object, its
// class, and for types and functions what its content names.
type skopsNode struct {
	loader, module, class string
	inModule, inName      string
}

func (n *skopsNode) set(key, s string) {
	switch key {
	case "__loader__":
		n.loader = s
	case "__module__":
		n.module = s
	case "__class__":
		n.class = s
	}
}

// setContent takes a member of the node's content.
func (n *skopsNode) setContent(key, s string) {
	switch key {
	case "module_path", "__module__":
		n.inModule = s
	case "function", "__class__":
		n.inName = s
	}
}

// judge judges the kinds that call what they name, and what the others import:
// that as a pickle's.
func (n *skopsNode) judge(r *report, off int64) {
	module, class := n.module, n.class
	switch n.loader {
	case "", "JsonNode":
		return
	case "OperatorFuncNode", "MethodNode", "PartialNode":
		r.add("WS-CONFIG-002", off, "skops: %s calls %s", n.loader, clip(module+"."+class))
		return
	case "FunctionNode", "TypeNode":
		if n.inModule != "" && n.inName != "" {
			module, class = n.inModule, n.inName
		}
	}
	if module == "" || class == "" || module == "builtins" && isSkopsBuiltin(class) {
		return
	}
	name := module + "." + class
	switch u := classify(&pickle.Global{Module: module, Name: class}); {
	case u == dangerous, (u == forbidden || u == dotted) && !isEstimators(module):
		r.add("WS-CONFIG-002", off, "skops: %s imports %s", n.loader, clip(name)).Global = name
	case !isSkopsData(n.loader) || !u.inert():
		r.add("WS-CONFIG-001", off, "skops: %s imports %s", n.loader, clip(name))
	}
}

// isEstimators says whether a module is one that estimators are made of.
func isEstimators(module string) bool {
	top, rest, _ := strings.Cut(module, ".")
	return (top == "sklearn" || top == "scipy" || top == "numpy") && !isToolModule(topOf(rest))
}

// isToolModule knows what those packages have for building and testing.
var isToolModule = words(`testing tests distutils f2py ctypeslib compat datasets conftest _build_utils _lib setup`)

// isSkopsData knows the kinds of nodes that hold data.
var isSkopsData = words(`DictNode ListNode TupleNode SetNode BytesNode BytearrayNode SliceNode NdArrayNode MaskedArrayNode DTypeNode
DefaultDictNode OrderedDictNode SparseMatrixNode DatetimeTimedeltaNode CachedNode`)

var isSkopsBuiltin = words(`dict list tuple set frozenset str bytes bytearray int float bool complex slice NoneType`)
