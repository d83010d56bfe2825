package onnx

import (
	"fmt"

	"github.com/weightseal/weightseal/format/safetensors"
)

// Where the elements of a tensor stand when they are not in raw_data: the
// number of the field (onnx/onnx.proto, message TensorProto).
const (
	floatData  = 4
	int32Data  = 5
	stringData = 6
	int64Data  = 7
	doubleData = 10
	uint64Data = 11
)

// dataType is an element type (enum TensorProto.DataType).
type dataType struct {
	name  string
	dtype safetensors.DType // 0 for what safetensors cannot hold
	field uint64            // of typed data
}

var dataTypes = map[uint64]dataType{
	1: {"FLOAT", safetensors.F32, floatData}, 2: {"UINT8", safetensors.U8, int32Data}, 3: {"INT8", safetensors.I8, int32Data},
	4: {"UINT16", safetensors.U16, int32Data}, 5: {"INT16", safetensors.I16, int32Data}, 6: {"INT32", safetensors.I32, int32Data},
	7: {"INT64", safetensors.I64, int64Data}, 8: {"STRING", 0, stringData}, 9: {"BOOL", safetensors.BOOL, int32Data},
	10: {"FLOAT16", safetensors.F16, int32Data}, 11: {"DOUBLE", safetensors.F64, doubleData},
	12: {"UINT32", safetensors.U32, uint64Data}, 13: {"UINT64", safetensors.U64, uint64Data},
	14: {"COMPLEX64", safetensors.C64, floatData}, 15: {"COMPLEX128", 0, doubleData},
	16: {"BFLOAT16", safetensors.BF16, int32Data},
	17: {"FLOAT8E4M3FN", safetensors.F8E4M3, int32Data}, 18: {"FLOAT8E4M3FNUZ", safetensors.F8E4M3FNUZ, int32Data},
	19: {"FLOAT8E5M2", safetensors.F8E5M2, int32Data}, 20: {"FLOAT8E5M2FNUZ", safetensors.F8E5M2FNUZ, int32Data},
	21: {"UINT4", 0, int32Data}, 22: {"INT4", 0, int32Data}, 23: {"FLOAT4E2M1", safetensors.F4, int32Data},
	24: {"FLOAT8E8M0", safetensors.F8E8M0, int32Data}, 25: {"UINT2", 0, int32Data}, 26: {"INT2", 0, int32Data},
}

// next is what to do about a type that cannot be converted.
func (d dataType) next() string {
	switch d.name {
	case "STRING":
		return "take the texts out of the model: they are no weights"
	case "COMPLEX128":
		return "convert the tensor to COMPLEX64, or to two DOUBLE tensors, in the ONNX model first"
	}
	return "convert the weights that the model was quantised from, or unpack the tensor to INT8 or UINT8 in the ONNX model first"
}

// elementBytes is the size of one element; of F4 that of two.
func (d dataType) elementBytes() uint64 { return max(1, d.dtype.Bits()/8) }

func typeName(number uint64) string {
	if d, ok := dataTypes[number]; ok {
		return d.name
	}
	return fmt.Sprintf("type %d", number)
}
