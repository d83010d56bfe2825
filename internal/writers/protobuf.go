package writers

import (
	"encoding/binary"
	"testing"
)

// Message is a protobuf message as it is written.
type Message []byte

// Number adds a varint field.
func (m Message) Number(field int, v uint64) Message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3), v)
}

// Bytes adds a field with a length: bytes, text, or a message.
func (m Message) Bytes(field int, v []byte) Message {
	return append(binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3|2), uint64(len(v))), v...)
}

// Text adds a text.
func (m Message) Text(field int, s string) Message { return m.Bytes(field, []byte(s)) }

// Fixed32 adds a field of four bytes.
func (m Message) Fixed32(field int, v uint32) Message {
	return binary.LittleEndian.AppendUint32(binary.AppendUvarint(m, uint64(field)<<3|5), v)
}

// Fixed64 adds a field of eight bytes.
func (m Message) Fixed64(field int, v uint64) Message {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(m, uint64(field)<<3|1), v)
}

// Packed adds a field of packed varints.
func (m Message) Packed(field int, v ...uint64) Message {
	var b []byte
	for _, n := range v {
		b = binary.AppendUvarint(b, n)
	}
	return m.Bytes(field, b)
}

// TensorProto starts a tensor: dims, data_type and name.
func TensorProto(name string, dataType uint64, dims ...uint64) Message {
	var m Message
	for _, d := range dims {
		m = m.Number(1, d)
	}
	return m.Number(2, dataType).Text(8, name)
}

// ONNX writes a model whose graph has a node and these initialisers, and what
// else is given of GraphProto.
func ONNX(tb testing.TB, more Message, tensors ...Message) []byte {
	tb.Helper()
	node := Message(nil).Text(1, "x").Text(2, "y").Text(3, "relu").Text(4, "Relu")
	graph := Message(nil).Bytes(1, node).Text(2, "main")
	for _, t := range tensors {
		graph = graph.Bytes(5, t)
	}
	graph = append(graph, more...)
	opset := Message(nil).Text(1, "").Number(2, 17)
	return Message(nil).Number(1, 8).Text(2, "writers").Bytes(7, graph).Bytes(8, opset)
}
