package model

import (
	"path"
	"strings"
)

// DeclaredFormat is what a file's name promises; Unknown when it promises
// nothing. Of the formats that share a name (.bin, .pt, .ckpt: zip, legacy or
// tar) it gives the usual one.
func DeclaredFormat(p string) Format {
	base := strings.ToLower(path.Base(p))
	if f, ok := formatByName[base]; ok {
		return f
	}
	if f, ok := formatByExt[path.Ext(base)]; ok {
		return f
	}
	for _, start := range []string{"readme", "license", "licence", "notice", "authors", "copying"} {
		if strings.HasPrefix(base, start) && path.Ext(base) == "" {
			return Text
		}
	}
	return Unknown
}

var formatByName = map[string]Format{
	"dockerfile": Text, "makefile": Text, ".gitattributes": Text, ".gitignore": Text, "modelfile": Text,
}

var formatByExt = map[string]Format{
	".safetensors": Safetensors,
	".bin":         TorchZip, ".pt": TorchZip, ".pth": TorchZip, ".ckpt": TorchZip, ".pt2": TorchZip, ".distcp": TorchZip,
	".torchscript": TorchScript,
	".pkl":         Pickle, ".pickle": Pickle, ".joblib": Pickle, ".dill": Pickle, ".pdparams": Pickle, ".metadata": Pickle,
	".npy": NPY, ".npz": NPZ, ".gguf": GGUF, ".onnx": ONNX, ".msgpack": Flax,
	".h5": HDF5, ".hdf5": HDF5, ".keras": Keras,
	".zip": ZIP, ".mar": ZIP, ".whl": ZIP,
	".tar": TAR, ".nemo": TAR,
	".gz": Gzip, ".tgz": Gzip, ".bz2": Bzip2, ".xz": XZ, ".lzma": LZMA, ".zst": Zstd, ".7z": SevenZip,
	".so": ELF, ".dll": PE, ".exe": PE, ".pyd": PE, ".dylib": MachO,
	".json": JSON, ".ipynb": Notebook, ".yaml": YAML, ".yml": YAML, ".md": Markdown, ".py": Python,
	".sh": Script, ".bash": Script,
	".txt": Text, ".jsonl": Text, ".csv": Text, ".tsv": Text, ".xml": Text, ".pmml": Text, ".toml": Text, ".ini": Text,
	".cfg": Text, ".jinja": Text, ".jinja2": Text, ".tiktoken": Text, ".html": Text, ".rst": Text, ".lock": Text,
	".png": Image, ".jpg": Image, ".jpeg": Image, ".gif": Image, ".webp": Image,
	".model": Protobuf,
}

// refine lets a name tell apart what content alone cannot.
func refine(content, declared Format) Format {
	if content == Text {
		switch declared {
		case Markdown, YAML, Python:
			return declared
		}
	}
	return content
}

// Textual says whether a format is some kind of text.
func (f Format) Textual() bool {
	switch f {
	case Text, JSON, YAML, Markdown, Notebook, Python, Script:
		return true
	}
	return false
}

// Weights says whether a format holds weights, or can.
func (f Format) Weights() bool {
	switch f {
	case Safetensors, TorchZip, TorchLegacy, TorchTar, TorchScript, Pickle, DCP, DCPShard, NPY, NPZ, GGUF, Flax, ONNX, HDF5, Keras:
		return true
	}
	return false
}

// roleOf decides by content first: a pickle is a weight file whatever its name.
func roleOf(p string, content, declared Format) Role {
	base := strings.ToLower(path.Base(p))
	switch {
	case content.Weights():
		return Weight
	case content == ELF || content == PE || content == MachO || content == Script || content == Python || content == Notebook:
		return Code
	case content.Textual() && codeExt[path.Ext(base)]:
		return Code
	case isTokenizer(base, content):
		return Tokenizer
	case isConfig(base, content):
		return Config
	case isDoc(base, content):
		return Doc
	case !content.Textual() && content != Empty && content != Image && declared.Weights():
		return Weight // compressed, or not recognised
	}
	return Other
}

var codeExt = map[string]bool{
	".py": true, ".sh": true, ".bash": true, ".js": true, ".mjs": true, ".ts": true, ".c": true, ".cc": true, ".cpp": true,
	".h": true, ".hpp": true, ".cu": true, ".cuh": true, ".rs": true, ".go": true, ".java": true, ".lua": true, ".rb": true,
	".pl": true, ".r": true, ".jl": true, ".bat": true, ".cmd": true, ".ps1": true, ".pyx": true,
}

func isTokenizer(base string, content Format) bool {
	ext := path.Ext(base)
	switch {
	case content == Protobuf:
		return true
	case !content.Textual():
		return false
	case ext == ".jinja" || ext == ".jinja2" || ext == ".tiktoken":
		return true
	}
	switch base {
	case "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.json", "normalizer.json", "bpe.codes", "dict.txt":
		return true
	}
	return strings.HasPrefix(base, "tokenizer") || strings.HasPrefix(base, "vocab.") || strings.HasPrefix(base, "vocab-")
}

func isConfig(base string, content Format) bool {
	switch content {
	case JSON:
		switch base {
		case "modules.json", "model_index.json", "params.json":
			return true
		}
		return strings.Contains(base, "config") || strings.HasSuffix(base, ".index.json")
	case YAML:
		return true
	}
	return content.Textual() && (path.Ext(base) == ".toml" || base == "modelfile")
}

func isDoc(base string, content Format) bool {
	if content == Markdown {
		return true
	}
	if !content.Textual() {
		return false
	}
	for _, start := range []string{"readme", "license", "licence", "notice", "authors", "copying", "citation", "usage_policy", "use_policy"} {
		if strings.HasPrefix(base, start) {
			return true
		}
	}
	return path.Ext(base) == ".rst"
}

// isTraining says whether a name or its folder is one that trainers write
// beside the weights: transformers (optimizer.pt, scheduler.pt, rng_state*.pth,
// scaler.pt, training_args.bin), accelerate (optimizer*.bin,
// random_states_*.pkl), DeepSpeed (global_step*/, *_optim_states.pt).
func isTraining(p string) bool {
	p = strings.ToLower(p)
	dir, base := path.Split(p)
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, "global_step") {
			return true
		}
	}
	switch ext := path.Ext(base); ext {
	case ".pt", ".pth", ".bin", ".pkl", ".ckpt", ".safetensors":
		stem := strings.TrimSuffix(base, ext)
		for _, start := range []string{"optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args"} {
			if rest, ok := strings.CutPrefix(stem, start); ok && strings.Trim(rest, "_0123456789") == "" {
				return true
			}
		}
		return strings.HasSuffix(stem, "_optim_states")
	}
	return strings.HasPrefix(base, "events.out.tfevents")
}
