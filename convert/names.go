package convert

import (
	"path"
	"strings"

	"github.com/weightseal/weightseal/format/dcp"
	"github.com/weightseal/weightseal/model"
)

const (
	torchStem = "pytorch_model"
	stStem    = "model"
	torchExt  = ".bin"
	stExt     = ".safetensors"
	npzExt    = ".npz"
	indexExt  = ".index.json"
)

// OutputPath is the name of the converted file: pytorch_model*.bin becomes
// model*.safetensors as the Hugging Face tools have it, otherwise only the
// extension changes. It does the same to the name of an index file, and the
// other way round for model.TorchZip. For model.NPZ the extension is .npz.
func OutputPath(name string, to model.Format) string {
	dir, base := path.Split(name)
	base, isIndex := strings.CutSuffix(base, indexExt)
	oldStem, newStem, newExt := torchStem, stStem, stExt
	switch to {
	case model.TorchZip:
		oldStem, newStem, newExt = stStem, torchStem, torchExt
	case model.NPZ:
		newExt = npzExt
	}
	if base == dcp.MetadataName { // of the folder
		return dir + newStem + newExt
	}
	ext := path.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	if stem == "" { // a name that is all extension
		stem = base
	}
	if rest, ok := strings.CutPrefix(stem, oldStem); ok && (ext == torchExt || ext == stExt) && endsWord(rest) {
		stem = newStem + rest
	}
	out := dir + stem + newExt
	if isIndex {
		out += indexExt
	}
	return out
}

// endsWord says that a stem ends here or goes on with a separator, so that
// "models.safetensors" is not taken for "model" and an s.
func endsWord(rest string) bool {
	return rest == "" || strings.ContainsRune("-._", rune(rest[0]))
}
