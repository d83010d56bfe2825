package convert

import "github.com/weightseal/weightseal/model"

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
func Formats() []FormatInfo {
	return []FormatInfo{
		{
			Name: "torch.save, zip (since torch 1.6)", Formats: []model.Format{model.TorchZip},
			Recognised: "a zip archive with one top folder and data.pkl in it",
			Converts:   "all tensors, of every dtype that safetensors has; ZIP64, compressed records, big-endian files, all pickle protocols; views, strides, ties",
			Lost:       "everything that is no tensor: listed with its path as dropped",
			Refused:    "complex128, quantised, sparse, nested and meta tensors: the error says how to save them instead; archives that two readers read differently",
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
			Converts:   "parameters and buffers, by attribute path, with --weights-only",
			Lost:       "the code",
			Refused:    "frozen modules, whose weights have no names any more: export them before torch.jit.freeze",
		},
		{
			Name: "torch.distributed.checkpoint", Formats: []model.Format{model.DCP, model.DCPShard},
			Recognised: "a folder with a .metadata pickle of its classes and .distcp files beside it",
			Converts:   "the folder becomes one file, model.safetensors: chunks of any number of ranks and dimensions are put in place, and must cover each tensor exactly once",
			Lost:       "entries that are no tensors: listed with their names as dropped",
			Refused:    "weights beside training state: choose with --select; blobs that are safetensors or compressed: save again as the error says; files missing or left over",
		},
	}
}
