package convert

import (
	"archive/zip"
	"bytes"
	"path"
	"strings"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/model"
)

// recognise gives an error with the next step for files that no converter
// takes but that are known; nil for all others.
func recognise(in Input, opt Options) error {
	if opt.to() != model.Safetensors {
		return nil
	}
	no := func(name, what, next string) error {
		return &format.UnsupportedError{Format: name, What: what, Next: next}
	}
	head := make([]byte, min(64, max(in.Blob.Size(), 0)))
	if n, _ := in.Blob.ReadAt(head, 0); n < len(head) {
		return nil
	}
	base := path.Base(in.Path)
	switch {
	case len(head) >= 8 && bytes.HasPrefix(head[4:], []byte("ET")) && isDigits(head[6:8]):
		return no("executorch", "an ExecuTorch program, lowered for a device",
			"take the model that it was exported from: torch.save(model.state_dict(), \"weights.pt\"), and convert weights.pt")
	case in.Format == model.ZIP && isTorchPackage(in.Blob):
		return no("torch.package", "a torch.package archive, whose objects need the code in it",
			"where that code may be run: torch.save(torch.package.PackageImporter(FILE).load_pickle(PACKAGE, RESOURCE).state_dict(), \"weights.pt\"), and convert weights.pt")
	case base == "saved_model.pb" || base == "keras_metadata.pb":
		return no("tensorflow", "a TensorFlow SavedModel: a program beside its variables", nextTensorFlow)
	case isBundle(base):
		return no("tensorflow", "a TensorBundle, variables of TensorFlow", nextTensorFlow)
	case strings.HasSuffix(base, ".mlmodel") || base == "weight.bin" && strings.Contains(in.Path, ".mlpackage/"):
		return no("coreml", "a Core ML model, compiled from another one",
			"take the model that it was converted from: torch.save(model.state_dict(), \"weights.pt\"), and convert weights.pt")
	}
	return nil
}

const nextTensorFlow = "m = tf.saved_model.load(DIR); numpy.savez(\"weights.npz\", **{v.name: v.numpy() for v in m.variables}), and convert weights.npz"

// isBundle knows the names of TensorBundle files: variables.index and
// variables.data-00000-of-00001, model.ckpt-7.index, ...
func isBundle(base string) bool {
	_, shard, data := strings.Cut(base, ".data-")
	number, of, ok := strings.Cut(shard, "-of-")
	switch {
	case data:
		return ok && len(number) == 5 && len(of) == 5 && isDigits([]byte(number+of))
	case strings.HasSuffix(base, ".index"):
		return base == "variables.index" || strings.Contains(base, "ckpt")
	}
	return false
}

func isDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// isTorchPackage says whether a zip archive has what torch.package writes
// (torch/package/package_exporter.py).
func isTorchPackage(blob model.Blob) bool {
	const most = 100 << 20 // directories beyond are no models
	if blob.Size() < 22 {
		return false
	}
	z, err := zip.NewReader(blob, blob.Size())
	if err != nil || len(z.File) > most/46 {
		return false
	}
	for _, f := range z.File {
		if _, inner, ok := strings.Cut(f.Name, "/"); ok && inner == ".data/extern_modules" {
			return true
		}
	}
	return false
}
