package scan_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/scan"
)

// pbField is a length-delimited field of a protobuf message.
func pbField(num int, parts ...string) string {
	body := strings.Join(parts, "")
	b := binary.AppendUvarint(nil, uint64(num)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return string(b) + body
}

// Models of other frameworks.
func TestModelAttacks(t *testing.T) {
	t.Parallel()
	safe, review, unknown, unsafe := scan.Safe, scan.Review, scan.Unknown, scan.Unsafe
	onnx := func(graph ...string) string { return "\x08\x08" + pbField(7, graph...) + pbField(8, "\x10\x0d") }
	node := func(op, domain string, more ...string) string {
		return pbField(1, pbField(1, "x"), pbField(2, "y"), pbField(4, op), pbField(7, domain), strings.Join(more, ""))
	}
	external := func(path string) string {
		return "\x10\x01" + pbField(8, "w") + pbField(13, pbField(1, "location"), pbField(2, path)) + "\x70\x01"
	}
	keras := func(config string) string {
		return zipOf("metadata.json", `{"keras_version": "3.0.0"}`, "config.json", config, "model.weights.h5", "")
	}
	layer := func(s string) string {
		return `{"module": "keras", "class_name": "Sequential", "config": {"layers": [` + s + `]}, "registered_name": null}`
	}
	graph := func(fn string, ops ...string) string {
		var nodes string
		for _, op := range ops {
			nodes += pbField(3, pbField(1, "n"), pbField(2, op))
		}
		return "\x08\x01" + pbField(2, pbField(2, pbField(1, pbField(1, "x"), pbField(2, "Placeholder")), pbField(2, pbField(1, pbField(1, pbField(1, fn)), nodes))))
	}
	tests := []attack{
		{"X1", "plain", "a.onnx", onnx(node("Add", "")), safe, ""},
		{"X1", "custom domain", "a.onnx", onnx(node("Thing", "com.acme")), review, "WS-ONNX-003"},
		{"X1", "climbs", "a.onnx", onnx(node("Add", ""), pbField(5, external("../../etc/passwd"))), unsafe, "WS-ONNX-001"},
		{"X1", "absolute", "a.onnx", onnx(node("Add", ""), pbField(5, external("/etc/passwd"))), unsafe, "WS-ONNX-001"},
		{"X1", "of Windows", "a.onnx", onnx(node("Add", ""), pbField(5, external(`..\x`))), unsafe, "WS-ONNX-001"},
		{"X1", "in a branch", "a.onnx", onnx(node("If", "", pbField(5, pbField(1, "then"), pbField(6, pbField(5, external("/etc/passwd")))))), unsafe, "WS-ONNX-001"},
		{"X1", "in an attribute", "a.onnx", onnx(node("Constant", "", pbField(5, pbField(1, "value"), pbField(5, external("/etc/passwd"))))), unsafe, "WS-ONNX-001"},
		{"X1", "Python in a branch", "a.onnx", onnx(node("If", "", pbField(5, pbField(1, "then"), pbField(6, node("PyOp", "x"))))), unsafe, "WS-ONNX-002"},

		{"S1", "file read in a function", "saved_model.pb", graph("f", "ReadFile"), unsafe, "WS-TF-001"},
		{"S1", "Python", "saved_model.pb", graph("f", "PyFunc"), unsafe, "WS-TF-001"},
		{"S1", "saves where it is told", "saved_model.pb", graph("__inference__traced_save_10", "SaveV2"), review, "WS-TF-002"},
		{"S1", "saves while it serves", "saved_model.pb", graph("f", "SaveV2"), unsafe, "WS-TF-001"},
		{"S1", "own operator", "saved_model.pb", graph("f", "AcmeOp"), review, "WS-TF-003"},

		{"K1", "plain", "a.keras", keras(layer(`{"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}}`)), safe, ""},
		{"K1", "Lambda, deep", "a.keras", keras(layer(`{"module": "keras.layers", "class_name": "TimeDistributed", "config": {"layer": {"module": "keras.layers", "class_name": "Lambda", "config": {}}}}`)), unsafe, "WS-KERAS-001"},
		{"K1", "Lambda by an escape", "a.keras", keras(layer(`{"module": "keras.layers", "class_name": "Lam\u0062da", "config": {}}`)), unsafe, "WS-KERAS-001"},
		{"K1", "key escaped", "a.keras", keras(layer(`{"module": "keras.layers", "class\u005fname": "Lambda", "config": {}}`)), unsafe, "WS-KERAS-001"},
		{"K1", "class twice", "a.keras", keras(layer(`{"module": "keras.layers", "class_name": "Dense", "class_name": "Dense", "config": {}}`)), unsafe, "WS-KERAS-003"},
		{"K1", "function of the system", "a.keras", keras(layer(`{"module": "keras.layers", "class_name": "Dense", "config": {"activation": {"module": "os", "class_name": "function", "config": "system"}}}`)), unsafe, "WS-KERAS-001"},
		{"K1", "class of another package", "a.keras", keras(layer(`{"module": "acme", "class_name": "Layer", "config": {}}`)), review, "WS-KERAS-002"},
		{"K1", "class of the system", "a.keras", keras(layer(`{"module": "subprocess", "class_name": "Popen", "config": {"args": "ls"}}`)), unsafe, ""},
		{"K1", "function of Keras that fetches", "a.keras", keras(layer(`{"module": "keras.utils", "class_name": "get_file", "config": {}}`)), unsafe, ""},
		{"K1", "pickle beside it", "a.keras", zipOf("metadata.json", "{}", "config.json", layer(""), "model.weights.h5", "", "assets/x.pkl", "\x80\x02cos\nsystem\n)R."), unsafe, "WS-PICKLE-002"},
		{"K1", "configuration that is no JSON", "a.keras", keras("{'a': 1}"), unsafe, ""},
		{"H1", "cut", "a.h5", "\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00", unknown, ""},
	}
	checkAttacks(t, tests)
}
