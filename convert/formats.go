package convert

import (
	"slices"

	"github.com/weightseal/weightseal/model"
)

// FormatInfo says of one format, for people, how it is recognised and what
// becomes of it. docs/formats.md is made from these.
type FormatInfo struct {
	Name       string
	Formats    []model.Format // what model.Sniff calls it; empty where only a folder or a reader tells
	Recognised string
	Converts   string // "" where nothing does
	Lost       string
	Refused    string // and what to do then
}

// Formats lists every format that is converted, or recognised and refused.
func Formats() []FormatInfo { return slices.Clone(formats) }

var formats = []FormatInfo{
	{
		Name: "torch.save, zip (since torch 1.6)", Formats: []model.Format{model.TorchZip},
		Recognised: "a zip archive with one top folder and data.pkl in it",
		Converts:   "all tensors, of every dtype that safetensors has; ZIP64, compressed records, big-endian files, all pickle protocols; views, strides, ties; whole modules (in a push with --weights-only): what state_dict() gives, read from their pickled state; with --split-quantized and --split-sparse the parts of such tensors",
		Lost:       "everything that is no tensor: listed with its path as dropped; of modules the classes and their code, buffers that are not persistent, tensors that are plain attributes",
		Refused:    "complex128, quantised, sparse, nested and meta tensors: the error says how to save them instead; partitions of DeepSpeed, Megatron and FSDP: the error says how to gather them; archives that two readers read differently",
	},
	{
		Name: "torch.save, legacy (before torch 1.6)", Formats: []model.Format{model.TorchLegacy},
		Recognised: "a pickle that begins with the magic number of torch.save",
		Converts:   "as the zip form", Lost: "as the zip form", Refused: "as the zip form",
	},
	{
		Name: "torch.save, tar (before torch 0.1.10)", Formats: []model.Format{model.TorchTar},
		Recognised: "a tar archive with sys_info, pickle, tensors and storages",
		Converts:   "as the zip form", Lost: "as the zip form", Refused: "as the zip form",
	},
	{
		Name: "TorchScript", Formats: []model.Format{model.TorchScript},
		Recognised: "a torch.save zip with constants.pkl or code/ in it",
		Converts:   "parameters and buffers, by attribute path (in a push with --weights-only)",
		Lost:       "the code",
		Refused:    "frozen modules, whose weights have no names any more: export them before torch.jit.freeze",
	},
	{
		Name: "numpy .npy", Formats: []model.Format{model.NPY},
		Recognised: "the signature \\x93NUMPY",
		Converts:   "the array, under the empty name (--rename '^$=NAME' gives it one); versions 1 to 3, both byte orders, Fortran order",
		Refused:    "object arrays, which are pickles; structured, text, date, complex128 and long double arrays: the error says how to save them instead",
	},
	{
		Name: "numpy .npz", Formats: []model.Format{model.NPZ},
		Recognised: "a zip archive of nothing but .npy entries",
		Converts:   "every array, under its name without .npy; stored or deflated, ZIP64",
		Refused:    "as .npy; entries twice, and archives that two readers read differently",
	},
	{
		Name: "pickles of numpy arrays (also Paddle .pdparams, joblib)", Formats: []model.Format{model.Pickle},
		Recognised: "a stream of pickle opcodes",
		Converts:   "arrays in dictionaries, lists and tuples, under their keys joined by dots; all pickle protocols; joblib's arrays between the opcodes, aligned or not",
		Lost:       "everything that is no array: listed with its path as dropped",
		Refused:    "as .npy; every global that no array needs; scikit-learn estimators: export them with skl2onnx or skops; Paddle parameters cut into slices: save them with protocol 4",
	},
	{
		Name: "joblib, compressed", Formats: []model.Format{model.Zlib, model.Gzip, model.Bzip2, model.XZ, model.LZMA},
		Recognised: "a zlib, gzip, bzip2, xz or lzma stream with a pickle inside",
		Converts:   "as pickles of numpy arrays", Lost: "as pickles of numpy arrays",
		Refused: "as pickles of numpy arrays; lz4: dump it again with compress=0",
	},
	{
		Name: "HDF5 (.h5)", Formats: []model.Format{model.HDF5},
		Recognised: "the HDF5 signature",
		Converts:   "every dataset under its path: contiguous, compact and chunked ones, deflate, shuffle and fletcher32, both byte orders; hard links are ties. A push keeps HDF5 as it is under safetensors-first",
		Lost:       "attributes, and the groups optimizer and optimizer_weights: listed as dropped; --select takes another group",
		Refused:    "external links and files, virtual datasets, texts and references, other filters: the error names what to repack",
	},
	{
		Name: "Keras 3 (.keras)", Formats: []model.Format{model.Keras},
		Recognised: "a zip archive with config.json, metadata.json and model.weights.h5",
		Converts:   "the weights, as HDF5, with --weights-only in a push; stored or deflated",
		Lost:       "the architecture in config.json: the weights alone are no model",
		Refused:    "as HDF5; weights that inflate to more than 128 MiB: unzip them first",
	},
	{
		Name: "Flax / JAX msgpack", Formats: []model.Format{model.Flax},
		Recognised: "msgpack maps that lead to a packed array of Flax: shape, dtype, as many bytes as they need",
		Converts:   "every array and numpy scalar, under its keys joined by dots; bfloat16 and fp8; arrays in chunks; --select takes a subtree",
		Lost:       "numbers, texts, None and empty dicts: listed with their path as dropped",
		Refused:    "complex128, int4 and other dtypes that safetensors has not: save the array as another dtype",
	},
	{
		Name: "GGUF", Formats: []model.Format{model.GGUF},
		Recognised: "the signature GGUF",
		Converts:   "files of F32, F16, BF16, F64, I8, I16, I32 and I64 tensors, by convert; versions 2 and 3, both byte orders. A push keeps GGUF as it is where the policy allows it (safetensors-first), else refuses it",
		Lost:       "the metadata and the tokenizer: listed as dropped",
		Refused:    "quantised tensors, with their names and types: convert the weights they were made from; version 1: make the file again",
	},
	{
		Name: "ONNX", Formats: []model.Format{model.ONNX},
		Recognised: "the fields of a ModelProto with a graph",
		Converts:   "the initialisers of the main graph, raw, typed or in other files beside the model or below it, by convert. A push keeps ONNX as it is where the policy allows it (safetensors-first), else refuses it",
		Lost:       "the graph, the constants and subgraphs in it, and metadata: listed as dropped",
		Refused:    "data in files that are not there, that a link leads to or that lie elsewhere: put them beside the model; texts, complex128, 2- and 4-bit integers, sparse initialisers",
	},
	{
		Name: "torch.distributed.checkpoint", Formats: []model.Format{model.DCP, model.DCPShard},
		Recognised: "a folder with a .metadata pickle of its classes and .distcp files beside it",
		Converts:   "the folder becomes one file, model.safetensors: chunks of any number of ranks and dimensions are put in place, and must cover each tensor exactly once",
		Lost:       "entries that are no tensors: listed with their names as dropped",
		Refused:    "weights beside training state: choose with --select; blobs that are safetensors or compressed: save again as the error says; files missing or left over",
	},
	{
		Name:       "ExecuTorch, Core ML, torch.package, TensorFlow SavedModel and checkpoints",
		Recognised: "their own signatures, directories and names",
		Refused:    "all: they are programs, or weights without the names that a model's code knows; the error says what to export instead",
	},
	{
		Name:       "DeepSpeed ZeRO, Megatron and FSDP partitions",
		Recognised: "the classes and keys in the checkpoint",
		Refused:    "all: one file holds a part of each tensor; the error says how to consolidate them first",
	},
}
