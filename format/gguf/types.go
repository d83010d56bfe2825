package gguf

import "github.com/weightseal/weightseal/format/safetensors"

// kind is a tensor type of ggml (ggml/include/ggml.h, enum ggml_type).
type kind struct {
	name  string
	dtype safetensors.DType // 0 for the quantised ones
	// A block has so many elements in so many bytes.
	elements, bytes uint64
}

// kinds are the tensor types by number. The numbers that are left out belonged
// to types that were removed.
var kinds = map[uint64]kind{
	0: {"F32", safetensors.F32, 1, 4}, 1: {"F16", safetensors.F16, 1, 2},
	24: {"I8", safetensors.I8, 1, 1}, 25: {"I16", safetensors.I16, 1, 2},
	26: {"I32", safetensors.I32, 1, 4}, 27: {"I64", safetensors.I64, 1, 8},
	28: {"F64", safetensors.F64, 1, 8}, 30: {"BF16", safetensors.BF16, 1, 2},

	2: {"Q4_0", 0, 32, 18}, 3: {"Q4_1", 0, 32, 20}, 6: {"Q5_0", 0, 32, 22}, 7: {"Q5_1", 0, 32, 24},
	8: {"Q8_0", 0, 32, 34}, 9: {"Q8_1", 0, 32, 40},
	10: {"Q2_K", 0, 256, 84}, 11: {"Q3_K", 0, 256, 110}, 12: {"Q4_K", 0, 256, 144}, 13: {"Q5_K", 0, 256, 176},
	14: {"Q6_K", 0, 256, 210}, 15: {"Q8_K", 0, 256, 292},
	16: {"IQ2_XXS", 0, 256, 66}, 17: {"IQ2_XS", 0, 256, 74}, 18: {"IQ3_XXS", 0, 256, 98}, 19: {"IQ1_S", 0, 256, 50},
	20: {"IQ4_NL", 0, 32, 18}, 21: {"IQ3_S", 0, 256, 110}, 22: {"IQ2_S", 0, 256, 82}, 23: {"IQ4_XS", 0, 256, 136},
	29: {"IQ1_M", 0, 256, 56}, 34: {"TQ1_0", 0, 256, 54}, 35: {"TQ2_0", 0, 256, 66},
	39: {"MXFP4", 0, 32, 17}, 40: {"NVFP4", 0, 64, 36},
}

// The types of metadata values (enum gguf_metadata_value_type).
const (
	typeBool   = 7
	typeString = 8
	typeArray  = 9
)

// values gives the name and the bytes of the value types; those of text and
// arrays vary.
var values = [...]struct {
	name  string
	bytes int64
}{
	{"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4}, {"float32", 4},
	typeBool: {"bool", 1}, typeString: {"string", 0}, typeArray: {"array", 0},
	{"uint64", 8}, {"int64", 8}, {"float64", 8},
}
