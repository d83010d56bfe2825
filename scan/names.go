package scan

import (
	"bytes"
	"path"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// family groups formats by what a program that goes by the name would do.
type family int

const (
	noFamily family = iota
	dataFamily
	pickleFamily
	archiveFamily
	codeFamily
	textFamily
)

func familyOf(f model.Format) family {
	switch f {
	case model.Safetensors, model.NPY, model.GGUF, model.Flax, model.ONNX, model.HDF5, model.Image, model.Protobuf:
		return dataFamily
	case model.TorchZip, model.TorchLegacy, model.TorchTar, model.TorchScript, model.Pickle, model.DCP, model.DCPShard:
		return pickleFamily
	case model.NPZ, model.Keras, model.ZIP, model.TAR, model.Gzip, model.Bzip2, model.XZ, model.LZMA, model.Zstd, model.Zlib, model.SevenZip:
		return archiveFamily
	case model.ELF, model.PE, model.MachO, model.Python, model.Script, model.Notebook:
		return codeFamily
	case model.JSON, model.YAML, model.Markdown, model.Text:
		return textFamily
	}
	return noFamily
}

// checkName compares the name's promise with the content.
func checkName(r *report, f model.File) {
	d, c := f.Declared, f.Format
	if c == model.Empty && f.Declared != model.Image && (familyOf(d) == dataFamily || familyOf(d) == pickleFamily) && len(r.findings) == 0 {
		// Weights of no bytes are a download that failed.
		r.add("WS-FORMAT-002", -1, "the name promises %s, the file is empty", d)
		return
	}
	if d == "" || d == model.Unknown || c == d || c == model.Empty || c == "" || hasRule(r, "WS-TEXT-003") {
		return
	}
	if ext(f.Path) == ".bin" && hasRule(r, "WS-FORMAT-004") {
		return // the usual name of bare numbers
	}
	df, cf := familyOf(d), familyOf(c)
	switch {
	case df == noFamily || agree(d, c):
	case cf == pickleFamily && ext(f.Path) == ".model": // sentencepiece's, and that of whoever pickles a model
	case df == pickleFamily && (cf == archiveFamily || cf == codeFamily):
		r.add("WS-NAME-003", -1, "the name promises %s, the content is %s", d, c)
	case df == pickleFamily:
		r.add("WS-NAME-002", -1, "the name promises %s, the content is %s", d, c)
	case cf == pickleFamily || cf == codeFamily && c != model.Python || cf == archiveFamily:
		if df != archiveFamily && df != codeFamily || cf == pickleFamily {
			r.add("WS-NAME-001", -1, "the name promises %s, the content is %s", d, c)
			return
		}
		r.add("WS-NAME-002", -1, "the name promises %s, the content is %s", d, c)
	case df == textFamily && cf == textFamily || c == model.Unknown && df == textFamily:
		// What a text file is called makes no difference to a loader.
	default:
		r.add("WS-NAME-002", -1, "the name promises %s, the content is %s", d, c)
	}
}

// agree says that one name is customary for both formats.
func agree(declared, content model.Format) bool {
	df, cf := familyOf(declared), familyOf(content)
	switch {
	case df == pickleFamily && cf == pickleFamily:
		return true // .pt, .bin, .pkl, .ckpt are used for all of them
	case declared == model.Pickle:
		return content == model.Zlib || content == model.Gzip || content == model.Bzip2 || content == model.XZ || content == model.LZMA // joblib
	case declared == model.ZIP:
		return content == model.NPZ || content == model.Keras || cf == pickleFamily && content != model.Pickle && content != model.TorchLegacy
	case declared == model.TAR:
		return content == model.Gzip || content == model.Bzip2 || content == model.XZ || content == model.LZMA || content == model.Zstd || content == model.TorchTar
	case declared == model.Keras:
		return content == model.HDF5 || content == model.ZIP
	case declared == model.NPZ:
		return content == model.ZIP
	case declared == model.JSON:
		return content == model.Notebook
	case declared == model.Protobuf || declared == model.ONNX:
		return content == model.Protobuf || content == model.ONNX
	}
	return false
}

// checkPolyglot looks for a zip directory at the end of files whose own format
// does not reach there: zip readers look at the end first. Formats whose
// detector accounts for every byte are left alone, so that no tensor is read.
func checkPolyglot(r *report, f model.File, b model.Blob) {
	switch f.Format {
	case model.Image, model.Text, model.JSON, model.YAML, model.Markdown, model.Python, model.Script, model.Notebook,
		model.Protobuf, model.ONNX, model.Flax, model.HDF5, model.Unknown, model.Gzip, model.Bzip2, model.Zstd, model.Zlib, model.XZ, model.SevenZip:
	default:
		return
	}
	if hasRule(r, "WS-FORMAT-001") {
		return
	}
	if off, ok := findZipEnd(b, b.Size()); ok {
		r.add("WS-FORMAT-001", off, "the file is %s at its beginning and ends with a zip directory", f.Format)
	}
}

// checkUnpickled looks at data that is named as a pickle with the eyes of a
// loader that goes by the name: the first bytes of some formats are opcodes.
func checkUnpickled(r *report, f model.File, b model.Blob) {
	if familyOf(f.Declared) != pickleFamily || r.verdict >= Unsafe {
		return
	}
	switch familyOf(f.Format) {
	case dataFamily, textFamily, noFamily:
		if f.Format != model.Empty && isPickle(b) {
			r.add("WS-FORMAT-001", 0, "the file is %s, and an unpickler, which its name leads to, runs it too", f.Format)
		}
	}
}

// findZipEnd looks for an end-of-central-directory record that a zip reader
// would accept.
func findZipEnd(r model.Blob, size int64) (int64, bool) {
	n := min(size, 22+0xffff)
	buf := make([]byte, n)
	if k, _ := r.ReadAt(buf, size-n); int64(k) < n {
		return 0, false
	}
	for i := len(buf) - 22; i >= 0; i-- {
		if !bytes.Equal(buf[i:i+4], []byte("PK\x05\x06")) {
			continue
		}
		cdSize := int64(le32(buf[i+12:]))
		at := size - n + int64(i)
		if cdSize == 0 || cdSize > at {
			continue
		}
		sig := make([]byte, 4)
		if k, _ := r.ReadAt(sig, at-cdSize); k == 4 && string(sig) == "PK\x01\x02" {
			return at, true
		}
	}
	return 0, false
}

func hasRule(r *report, id string) bool {
	for _, f := range r.findings {
		if f.Rule == id {
			return true
		}
	}
	return false
}

// ext is the name's extension in lower case, with the dot.
func ext(name string) string { return strings.ToLower(path.Ext(name)) }
