package scan

import (
	"slices"
	"strings"
	"sync"
)

// Rule describes a finding's kind: one table for documentation and outputs.
type Rule struct {
	ID       string // WS-...
	Title    string
	Severity string
	Verdict  Verdict
	Means    string
	Fix      string
}

// Rules is the table, sorted by ID.
func Rules() []Rule {
	rules := ruleTable()
	slices.SortFunc(rules, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return rules
}

// ruleByID gives the rule; a finding without one would be a mistake of ours,
// and is then shown as the worst.
func ruleByID(id string) Rule {
	if r, ok := rulesByID()[id]; ok {
		return r
	}
	return Rule{ID: id, Severity: critical, Verdict: Unsafe}
}

var rulesByID = sync.OnceValue(func() map[string]Rule {
	m := map[string]Rule{}
	for _, r := range ruleTable() {
		m[r.ID] = r
	}
	return m
})

// The severities of findings.
const (
	info     = "info"
	low      = "low"
	medium   = "medium"
	high     = "high"
	critical = "critical"
)

const (
	fixConvert = "convert the weights to safetensors: weightseal convert FILE OUT.safetensors"
	fixSource  = "do not load this file; get the weights as safetensors from a source you trust"
	fixRewrite = "write the file again with the library that made it, and compare the digests"
	fixRemove  = "remove the file from the model, or keep it out with --exclude"
	fixRead    = "read the code before anything loads it, and pin its digest"
	fixRename  = "give the file the name of what it holds"
)

func ruleTable() []Rule {
	return slices.Concat(pickleRules(), torchRules(), archiveRules(), dataRules(), textRules(), generalRules())
}

func pickleRules() []Rule {
	return []Rule{
		{"WS-PICKLE-001", "global that reaches code", high, Unsafe,
			"The pickle imports a name outside the allow-list from a package that a process loading models has. Importing it, or calling it, is an action of the pickle's author in that process.", fixSource},
		{"WS-PICKLE-002", "global known to run code", critical, Unsafe,
			"As WS-PICKLE-001, and the name is a known way to run commands or code, or to reach files or the network.", fixSource},
		{"WS-PICKLE-003", "class that needs code", medium, Review,
			"The pickle needs a class that is known to hold data only (a module of torch.nn, an estimator, a namespace). It loads only where that package is, and only outside the weights-only mode.", fixConvert},
		{"WS-PICKLE-004", "global of an unknown package", medium, Review,
			"The pickle imports a name of a package that nobody can judge from the file alone.", "look at the package that the name comes from, or convert the weights with --weights-only"},
		{"WS-PICKLE-005", "dotted attribute path", critical, Unsafe,
			"The name has a dot: the unpickler would walk attributes from the module, which reaches anything that the module itself imported.", fixSource},
		{"WS-PICKLE-006", "callee computed by the pickle", critical, Unsafe,
			"What is called is not a name but the result of something else in the pickle.", fixSource},
		{"WS-PICKLE-007", "argument that an allowed call must not have", high, Unsafe,
			"An allowed function gets an argument that it would call, keep as a hook, or hand on: the allow-list holds only for plain arguments.", fixSource},
		{"WS-PICKLE-008", "extension registry", high, Unsafe,
			"An EXT opcode takes an object from a registry of the loading process: the name is not in the file.", fixSource},
		{"WS-PICKLE-009", "object made by INST, OBJ or NEWOBJ_EX", high, Unsafe,
			"These opcodes import and call in ways that no writer of weights uses and that PyTorch's restricted unpickler refuses.", fixSource},
		{"WS-PICKLE-010", "state applied where none belongs", high, Unsafe,
			"BUILD sets attributes of an imported function or module, or of an object whose state is not plain data.", fixSource},
		{"WS-PICKLE-011", "double-underscore name in a state", high, Unsafe,
			"BUILD plants an attribute that Python itself looks up, such as __setstate__ or __class__.", fixSource},
		{"WS-PICKLE-012", "persistent id of an unknown kind", high, Unsafe,
			"A persistent id is resolved by the loading program; only torch's storage tuples are understood.", fixSource},
		{"WS-PICKLE-013", "malformed pickle", high, Unsafe,
			"The stream cannot be run to its end. A loader acts on what comes before the error before it fails.", fixSource},
		{"WS-PICKLE-014", "bytes outside the pickle", high, Unsafe,
			"There are bytes before the first opcode or after the last STOP that are no pickle: other readers may see another file.", fixSource},
		{"WS-PICKLE-015", "several pickles in one file", low, Review,
			"After the first STOP another pickle follows. Every one is judged; a loader may read only the first.", "check that the program that loads the file expects several objects"},
		{"WS-PICKLE-016", "unusual stream", low, Review,
			"The stream has something that no ordinary writer produces and that unpicklers take in the same way.", fixRewrite},
		{"WS-PICKLE-017", "stream that unpicklers read differently", high, Unsafe,
			"The C and the Python unpickler, or two versions of them, disagree about this stream.", fixSource},
		{"WS-PICKLE-018", "deep nesting", low, Review,
			"Objects are nested deeper than a program that walks them recursively can follow.", "check where the file comes from; ordinary weights are nested a few levels deep"},
		{"WS-PICKLE-019", "object to be instantiated from data", medium, Review,
			"A configuration inside the pickle names a callable (_target_): loading it is harmless, handing it to hydra.utils.instantiate calls it.", "do not instantiate this configuration without reading it"},
		{"WS-PICKLE-020", "array of objects or of an unusual dtype", low, Review,
			"An array holds Python objects or a dtype that has no plain layout.", "store such data apart from the weights"},
		{"WS-PICKLE-021", "pickle inside a pickle", medium, Review,
			"A bytes object is loaded as a checkpoint of its own while the outer pickle loads. It has been judged too.", fixConvert},
		{"WS-PICKLE-022", "malformed import", high, Unsafe,
			"The module or name of an import is not one that Python could import: loaders fail or map it to something else.", fixSource},
		{"WS-PICKLE-023", "out-of-band buffer", medium, Review,
			"The stream takes a buffer that is not in the file.", fixRewrite},
		{"WS-PICKLE-024", "object called or filled in an unusual way", high, Unsafe,
			"An object is called, appended to or indexed where PyTorch's restricted unpickler does not allow it.", fixSource},
	}
}

func torchRules() []Rule {
	return []Rule{
		{"WS-TORCH-001", "readers disagree about the container", high, Unsafe,
			"Two programs that read this checkpoint may see different contents.", fixSource},
		{"WS-TORCH-002", "unusual container", low, Review,
			"The container has something that no torch.save writes and that all readers take in the same way.", fixRewrite},
		{"WS-TORCH-003", "broken checkpoint", high, Unsafe,
			"The container is that of torch.save, but breaks its rules. A loader acts on the pickle before it fails.", fixSource},
		{"WS-TORCH-004", "tensor that does not fit its storage", high, Unsafe,
			"A tensor's sizes and strides do not fit the storage, or its description is impossible; some versions of PyTorch read outside the memory then.", fixSource},
		{"WS-TORCH-005", "TorchScript program", medium, Review,
			"The archive holds code that runs when the model is called.", "read the code, or export the state dict and convert it"},
		{"WS-TORCH-006", "record that is not weights", medium, Review,
			"The archive holds a record that torch.save does not write. It has been judged as a file of its own.", fixRewrite},
		{"WS-TORCH-008", "tensors that safetensors cannot hold", info, Convertible,
			"All that is named is on the allow-list, but the conversion would lose something and refuses.", "see the message: weightseal convert names the next step"},
		{"WS-TORCH-009", "weights in a subtree", info, Convertible,
			"The checkpoint holds several things that could be the weights.", "convert with --select PATH"},
		{"WS-TORCH-010", "executed by the Python start-up", critical, Unsafe,
			"A .pth file of text is a path configuration file: Python runs its import lines at start when it lies in site-packages.", fixRemove},
		{"WS-TORCH-011", "what safetensors has no place for", low, Review,
			"All that is named is on the allow-list, but no conversion gives a safetensors file: no tensors, their dtype, or their names.", "see the message: weightseal convert names the next step"},
	}
}

func archiveRules() []Rule {
	return []Rule{
		{"WS-ARCHIVE-001", "archive directory that readers see differently", high, Unsafe,
			"The archive's records do not agree with its directory, or are there twice: readers see different files.", fixSource},
		{"WS-ARCHIVE-002", "bytes outside the archive's records", high, Unsafe,
			"There are bytes before, between or after the records: the file may be something else for another reader.", fixSource},
		{"WS-ARCHIVE-003", "name that leaves the target folder", high, Unsafe,
			"Extracting the archive writes outside the folder.", fixSource},
		{"WS-ARCHIVE-004", "link or device in an archive", high, Unsafe,
			"Extracting the archive makes a link or special file that later entries can write through.", fixSource},
		{"WS-ARCHIVE-005", "encrypted entry", medium, Unknown,
			"The entry is encrypted and could not be judged.", "decrypt it and scan it again"},
		{"WS-ARCHIVE-006", "compression or flags that readers take differently", high, Unsafe,
			"The entry has a compression method or flag that some readers refuse or ignore.", fixSource},
		{"WS-ARCHIVE-007", "broken archive", medium, Unsafe,
			"The archive cannot be read to its end. What could be read has been judged; a more lenient reader may read more.", fixRewrite},
		{"WS-ARCHIVE-008", "archive comment or extra data", low, Review,
			"The archive carries free bytes that no tool for models writes.", fixRewrite},
		{"WS-ARCHIVE-009", "archive of a kind that is not opened", medium, Unknown,
			"The container, its compression method or a part of it is recognised but not opened, so its content is not judged.", "unpack it and scan the content"},
		{"WS-ARCHIVE-010", "weights inside an archive", low, Review,
			"What the archive holds could be converted, but not in the archive: it would be shipped as it is.", "unpack the archive, and convert what is in it"},
	}
}

func dataRules() []Rule {
	return []Rule{
		{"WS-SAFETENSORS-001", "file that readers see differently", high, Unsafe,
			"The header can be read in two ways, its sizes contradict each other or cannot be, or bytes of the file belong to no tensor.", fixSource},
		{"WS-SAFETENSORS-002", "not valid safetensors", medium, Unknown,
			"Every reader refuses the file: it is cut short, or its header breaks the format.", "write the file again with the safetensors library"},
		{"WS-SAFETENSORS-003", "header outside the specification", low, Review,
			"Reference readers accept or refuse the header without harm, but the specification forbids it.", "write the file again with the safetensors library"},
		{"WS-SAFETENSORS-004", "remark on the header", info, Safe,
			"The header is unusual, and read in the same way by every reader.", "nothing needs to be done"},
		{"WS-NUMPY-001", "array of objects", high, Unsafe,
			"The dtype holds Python objects: the data is a pickle that numpy.load runs when it may.", "write the array again with a plain dtype"},
		{"WS-NUMPY-002", "broken array file", medium, Unsafe,
			"The header or the size of the data breaks the format.", "write the array again with numpy.save"},
		{"WS-NUMPY-003", "member that is no array", high, Unsafe,
			"numpy.load treats every other member of the archive as a pickle or hands out its bytes.", "write the archive again with numpy.savez"},
		{"WS-GGUF-001", "lengths that do not fit the file", high, Unsafe,
			"A count, length, type or offset points outside the file or overflows: readers written in C have been broken by such files.", fixSource},
		{"WS-GGUF-002", "readers may disagree", medium, Unsafe,
			"A key or tensor is there twice, tensors overlap, or bytes belong to nothing.", fixRewrite},
		{"WS-ONNX-001", "external data outside the model", high, Unsafe,
			"A tensor's data lies at a path that is absolute or climbs out of the model's folder.", fixSource},
		{"WS-ONNX-002", "operator that runs Python", critical, Unsafe,
			"The graph has an operator that calls Python code.", fixSource},
		{"WS-ONNX-003", "operator of a custom domain", medium, Review,
			"The graph needs operators that come from a native library outside the runtime.", "look at the library that provides the operators"},
		{"WS-ONNX-004", "broken protobuf", medium, Unknown,
			"The file is not well formed, so it could not be judged.", fixRewrite},
		{"WS-TF-001", "operator that reaches files, processes or Python", critical, Unsafe,
			"The graph has an operator that reads or writes files or calls Python when the model runs.", fixSource},
		{"WS-TF-002", "TensorFlow graph", medium, Review,
			"A graph is a program that the runtime executes.", "convert the variables to safetensors"},
		{"WS-TF-003", "unknown operator", medium, Review,
			"The graph needs an operator from a native library.", "look at the library that provides the operator"},
		{"WS-PROGRAM-001", "model that is a program", medium, Review,
			"The file is a compiled or interpreted program for a runtime (Core ML, ExecuTorch, TFLite, OpenVINO, ...), not weights.", "use it only in the runtime's sandbox, or take the weights"},
		{"WS-KERAS-001", "layer that runs code", critical, Unsafe,
			"The configuration holds a Lambda layer, a function, or a wrapper that unpickles: loading or calling the model runs it.", fixSource},
		{"WS-KERAS-002", "object outside the built-in layers", medium, Review,
			"The configuration names a class or function that is not one of Keras's own layers.", "register and review the class, or convert the weights"},
		{"WS-KERAS-003", "configuration that readers see differently", high, Unsafe,
			"The configuration has a key twice or is not JSON.", fixRewrite},
		{"WS-KERAS-004", "file that Keras does not write", medium, Review,
			"The archive has a member that Keras does not write. It has been judged as a file of its own.", fixRewrite},
		{"WS-HDF5-001", "data outside the file", high, Unsafe,
			"A link or dataset points to another file, which the reader opens.", fixSource},
		{"WS-HDF5-002", "pickle in a dataset", medium, Review,
			"A dataset of bytes holds a pickle: harmless to HDF5, dangerous in a program that unpickles it.", "do not unpickle the dataset"},
		{"WS-HDF5-003", "structure that could not be followed", medium, Unknown,
			"The file uses a part of the format that is not understood, so it could not be judged wholly.", "write the file again with a current h5py, or convert it"},
		{"WS-HDF5-004", "bytes outside the structure", low, Review,
			"There are bytes before or after what the file declares to be its own.", fixRewrite},
		{"WS-HDF5-005", "filter from a plugin", medium, Review,
			"Reading a dataset loads a native library of the machine, by a number.", fixRewrite},
		{"WS-HDF5-006", "file without content", info, Safe,
			"The file has the signature and no structure: no reader finds anything in it.", "nothing needs to be done"},
		{"WS-RDS-001", "R object", high, Unsafe,
			"An R serialisation may hold promises and code that run when the object is touched.", fixSource},
	}
}

func textRules() []Rule {
	return []Rule{
		{"WS-CONFIG-001", "configuration that makes a loader import code", medium, Review,
			"A key such as auto_map makes the loader run Python files of the model when it is allowed to (trust_remote_code).", "read the code and pin it, or remove the key"},
		{"WS-CONFIG-002", "configuration that runs code", critical, Unsafe,
			"Reading the configuration with the loader it is written for runs what it names.", fixSource},
		{"WS-CONFIG-003", "duplicate key", low, Review,
			"A key is there twice: readers keep different ones.", "remove one of them"},
		{"WS-CONFIG-004", "not well-formed", low, Review,
			"The file is not what its name and first bytes promise; readers may take it differently.", fixRewrite},
		{"WS-CONFIG-005", "path or address that leads elsewhere", medium, Review,
			"A key names a file or repository outside the model.", "vendor what it points to, and remove the key"},
		{"WS-CONFIG-006", "path outside the model", high, Unsafe,
			"A key that a loader follows names a file that is not the model's own.", fixSource},
		{"WS-TEMPLATE-001", "template that reaches Python internals", critical, Unsafe,
			"A chat template uses names with which templates break out of the sandbox.", "take the template of the model's original publisher"},
		{"WS-TEMPLATE-002", "template outside the usual subset", medium, Review,
			"A chat template calls or includes something that ordinary templates do not.", "read the template before it is rendered"},
		{"WS-CODE-001", "native executable or library", critical, Unsafe,
			"The file is machine code.", fixRemove},
		{"WS-CODE-002", "Python source", medium, Review,
			"A loader may import the file, which runs it.", fixRead},
		{"WS-CODE-003", "Python source that reaches processes, files or the network", high, Unsafe,
			"The source runs commands or code, or opens connections.", fixRemove},
		{"WS-CODE-004", "script", medium, Review,
			"The file is a program for an interpreter.", fixRead},
		{"WS-CODE-005", "notebook", medium, Review,
			"A notebook is a program; opening it can also render active content.", fixRead},
		{"WS-CODE-006", "compiled Python or Java code", high, Unsafe,
			"The file is bytecode, which cannot be reviewed as text.", fixRemove},
		{"WS-TEXT-001", "XML with external entities", high, Unsafe,
			"Parsing the document reads files or addresses that it names.", fixSource},
		{"WS-TEXT-002", "model as a document", medium, Review,
			"The document is a model that a runtime interprets (PMML, OpenVINO, a graph in the text form of protobuf).", fixRead},
		{"WS-TEXT-003", "Git LFS pointer", medium, Unknown,
			"The file only says where the content is: it was not downloaded.", "run: git lfs pull"},
	}
}

func generalRules() []Rule {
	return []Rule{
		{"WS-NAME-001", "name of data, content that loaders execute", high, Unsafe,
			"The file's name promises data, but its content is a pickle, an archive or code.", fixRename},
		{"WS-NAME-002", "name that does not fit the content", low, Review,
			"Programs that choose the reader by name take another one than those that look inside.", fixRename},
		{"WS-NAME-003", "name of a pickle, content that is none", high, Unsafe,
			"Programs that go by the name hand the file to an unpickler; what it holds is something that some loaders unpack or run.", fixRename},
		{"WS-FORMAT-001", "two formats in one file", high, Unsafe,
			"The beginning of the file is of one format and its end of another: each reader sees its own.", fixSource},
		{"WS-FORMAT-002", "not recognised", medium, Unknown,
			"The content is of no format that is known here.", "keep it out with --exclude, or convert it to safetensors"},
		{"WS-FORMAT-003", "pickle-based weights", info, Convertible,
			"The file is a pickle, or holds one, of which everything is known: it converts to safetensors and loses nothing. Only as safetensors can nothing in it be executed.", fixConvert},
		{"WS-FORMAT-004", "bare numbers", info, Safe,
			"The file is floating-point numbers from its first byte to its last, as the weights beside an ONNX, OpenVINO or TensorFlow.js model are. What they mean, another file says.", "nothing needs to be done"},
		{"WS-LIMIT-001", "over a limit", medium, Unknown,
			"The file needs more work or memory than is allowed for one file.", "scan it apart, unpacked; a large pickle with a larger --memory"},
		{"WS-READ-001", "could not be read", high, Unknown,
			"Reading the file failed, so it was not judged.", "make the file readable and scan again"},
		{"WS-LINK-001", "link or special file", high, Unknown,
			"The path is a link that leads out of the model, to a folder or to nothing, or a pipe, socket or device: what a loader gets from it is not part of the model.",
			"replace a link with a copy of the file, and remove what is no file"},
		{"WS-MORE-001", "more findings", info, Safe,
			"There are more findings of these kinds than are listed.", "look at the listed ones first"},
	}
}
