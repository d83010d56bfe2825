package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/internal/writers"
	"github.com/weightseal/weightseal/model"
)

// given is a tensor of a file that a test wrote, as safetensors should have it.
type given struct {
	name  string
	dtype safetensors.DType
	shape []uint64
	data  []byte
}

func noiseOf(seed uint64, n int) []byte { return randomBytes(rand.New(rand.NewPCG(seed, 11)), n) }

func tensorsOf(dtypes []safetensors.DType) []given {
	var all []given
	for i, d := range dtypes {
		for j, shape := range [][]uint64{{4, 3}, {}, {0, 2}, {2, 1, 5}} {
			n := int(d.Bits() / 8)
			for _, s := range shape {
				n *= int(s)
			}
			all = append(all, given{fmt.Sprintf("layers.%d.w%d", i, j), d, shape, noiseOf(uint64(i*7+j), n)})
		}
	}
	return all
}

var flaxNames = map[safetensors.DType]string{
	safetensors.F32: "float32", safetensors.BF16: "bfloat16", safetensors.F16: "float16", safetensors.F64: "float64",
	safetensors.I32: "int32", safetensors.BOOL: "bool", safetensors.C64: "complex64", safetensors.F8E4M3: "float8_e4m3fn",
}

// flaxFile puts tensors under params, nested by the dots of their names, the
// last one in chunks.
func flaxFile(tb testing.TB, all []given) []byte {
	layers := writers.Map{}
	at := map[string]int{}
	for i, g := range all {
		parts := strings.Split(g.name, ".")
		dims := []int{}
		shape := writers.Map{}
		for d, n := range g.shape {
			dims = append(dims, int(n))
			shape = append(shape, writers.Pair{Key: fmt.Sprint(d), Value: int(n)})
		}
		value := any(writers.Array{Shape: dims, DType: flaxNames[g.dtype], Data: g.data})
		if elem := int(g.dtype.Bits() / 8); i == len(all)-1 {
			cut := 3 * elem
			value = writers.Map{{Key: "__msgpack_chunked_array__", Value: true}, {Key: "shape", Value: shape}, {Key: "chunks", Value: writers.Map{
				{Key: "0", Value: writers.Array{Shape: []int{3}, DType: flaxNames[g.dtype], Data: g.data[:cut]}},
				{Key: "1", Value: writers.Array{Shape: []int{(len(g.data) - cut) / elem}, DType: flaxNames[g.dtype], Data: g.data[cut:]}},
			}}}
		}
		if _, ok := at[parts[1]]; !ok {
			at[parts[1]] = len(layers)
			layers = append(layers, writers.Pair{Key: parts[1], Value: writers.Map{}})
		}
		l := &layers[at[parts[1]]]
		l.Value = append(l.Value.(writers.Map), writers.Pair{Key: parts[2], Value: value})
	}
	return writers.Msgpack(tb, writers.Map{
		{Key: "step", Value: 17}, {Key: "params", Value: writers.Map{{Key: "layers", Value: layers}}},
	})
}

var ggufNumbers = map[safetensors.DType]uint32{
	safetensors.F32: 0, safetensors.F16: 1, safetensors.BF16: 30, safetensors.F64: 28,
	safetensors.I8: 24, safetensors.I16: 25, safetensors.I32: 26, safetensors.I64: 27,
}

func ggufFile(tb testing.TB, all []given, order binary.AppendByteOrder) []byte {
	g := &writers.GGUF{Version: 3, Order: order}
	g.Keys = []writers.GGUFKey{{Name: "general.architecture", Type: 8, Value: g.Text("test")}}
	for _, x := range all {
		dims, data := slices.Clone(x.shape), slices.Clone(x.data)
		slices.Reverse(dims)
		if order == binary.AppendByteOrder(binary.BigEndian) {
			for i, size := 0, int(x.dtype.Bits()/8); i < len(data); i += size {
				slices.Reverse(data[i : i+size])
			}
		}
		g.Tensors = append(g.Tensors, writers.GGUFTensor{Name: x.name, Dims: dims, Type: ggufNumbers[x.dtype], Data: data})
	}
	return g.Bytes(tb)
}

var onnxNumbers = map[safetensors.DType]uint64{
	safetensors.F32: 1, safetensors.U8: 2, safetensors.I64: 7, safetensors.F16: 10, safetensors.BF16: 16, safetensors.F8E5M2: 19, safetensors.F64: 11,
}

// onnxFile writes raw data, and every F16 tensor as typed data.
func onnxFile(tb testing.TB, all []given) []byte {
	var tensors []writers.Message
	for _, x := range all {
		m := writers.TensorProto(x.name, onnxNumbers[x.dtype], x.shape...)
		if x.dtype != safetensors.F16 {
			tensors = append(tensors, m.Bytes(9, x.data))
			continue
		}
		var values []uint64
		for i := 0; i < len(x.data); i += 2 {
			values = append(values, uint64(binary.LittleEndian.Uint16(x.data[i:])))
		}
		tensors = append(tensors, m.Packed(5, values...))
	}
	return writers.ONNX(tb, nil, tensors...)
}

// framework is a file of a framework, and what is in it.
type framework struct {
	file   []byte
	format model.Format
	prefix string
	all    []given
}

func frameworks(tb testing.TB) map[string]framework {
	flax := tensorsOf([]safetensors.DType{safetensors.F32, safetensors.BF16, safetensors.F16, safetensors.F64, safetensors.I32, safetensors.BOOL, safetensors.C64, safetensors.F8E4M3})
	gguf := tensorsOf([]safetensors.DType{safetensors.F32, safetensors.F16, safetensors.BF16, safetensors.F64, safetensors.I8, safetensors.I16, safetensors.I32, safetensors.I64})
	onnx := tensorsOf([]safetensors.DType{safetensors.F32, safetensors.U8, safetensors.I64, safetensors.F16, safetensors.BF16, safetensors.F8E5M2, safetensors.F64})
	return map[string]framework{
		"flax.msgpack":    {flaxFile(tb, flax), model.Flax, "params.", flax},
		"plain.gguf":      {ggufFile(tb, gguf, binary.LittleEndian), model.GGUF, "", gguf},
		"plain_be.gguf":   {ggufFile(tb, gguf, binary.BigEndian), model.GGUF, "", gguf},
		"weights.onnx":    {onnxFile(tb, onnx), model.ONNX, "", onnx},
		"q4_0.gguf":       {quantisedFile(tb), model.GGUF, "", nil},
		"external.onnx":   {externalFile(tb), model.ONNX, "", nil},
		"complex.msgpack": {writers.Msgpack(tb, writers.Map{{Key: "z", Value: writers.Array{Shape: []int{1}, DType: "complex128", Data: noiseOf(1, 16)}}}), model.Flax, "", nil},
	}
}

func quantisedFile(tb testing.TB) []byte {
	return (&writers.GGUF{Version: 3, Order: binary.LittleEndian, Tensors: []writers.GGUFTensor{
		{Name: "output_norm.weight", Dims: []uint64{32}, Data: noiseOf(1, 128)},
		{Name: "blk.0.attn_q.weight", Dims: []uint64{32, 2}, Type: 2, Data: noiseOf(2, 36)},
	}}).Bytes(tb)
}

func externalFile(tb testing.TB) []byte {
	where := writers.Message(nil).Text(1, "location").Text(2, "external.onnx.data")
	return writers.ONNX(tb, nil, writers.TensorProto("w", 1, 2).Bytes(13, where).Number(14, 1))
}

// TestFrameworks converts a file of each framework bit for bit and proves it.
func TestFrameworks(t *testing.T) {
	t.Parallel()
	for name, f := range frameworks(t) {
		if got, err := model.Sniff(bytes.NewReader(f.file), int64(len(f.file))); got != f.format {
			t.Errorf("%s is %s, want %s: %v", name, got, f.format, err)
		}
		p, err := File(context.Background(), Input{Path: name, Blob: blobOf(f.file)}, Options{})
		if f.all == nil {
			var u *format.UnsupportedError
			if !errors.As(err, &u) || u.Next == "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out := whole(t, p)
		h := header(t, out)
		if len(h.Tensors) != len(f.all) {
			t.Errorf("%s: %d tensors, want %d", name, len(h.Tensors), len(f.all))
		}
		for _, g := range f.all {
			x := lookup(h, f.prefix+g.name)
			if x == nil || x.DType != g.dtype || !slices.Equal(x.Shape, g.shape) ||
				!bytes.Equal(out[uint64(h.DataStart())+x.Begin:uint64(h.DataStart())+x.End], g.data) {
				t.Errorf("%s: %s: %+v, want %s %v", name, g.name, x, g.dtype, g.shape)
			}
		}
		proveAll(t, p, out)
	}
}

func lookup(h *safetensors.Header, name string) *safetensors.Tensor {
	for i := range h.Tensors {
		if h.Tensors[i].Name == name {
			return &h.Tensors[i]
		}
	}
	return nil
}

func header(tb testing.TB, file []byte) *safetensors.Header {
	tb.Helper()
	h, err := safetensors.ReadHeader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Strict(); err != nil {
		tb.Fatal(err)
	}
	return h
}

// TestFrameworkSelect takes a subtree where there are any.
func TestFrameworkSelect(t *testing.T) {
	t.Parallel()
	for name, f := range frameworks(t) {
		if f.all == nil {
			continue
		}
		p, err := File(context.Background(), Input{Path: name, Blob: blobOf(f.file)}, Options{Select: "params.layers"})
		if f.format != model.Flax {
			if !errors.As(err, new(*format.UnsupportedError)) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		h := header(t, whole(t, p))
		if lookup(h, "0.w0") == nil || p.Subtree != "params.layers" {
			t.Errorf("%s: %v", p.Subtree, h.Tensors)
		}
		if h.Metadata["format"] != "flax" {
			t.Errorf("metadata %v", h.Metadata)
		}
	}
}

// TestFlaxJoinedNames refuses two keys that become one name.
func TestFlaxJoinedNames(t *testing.T) {
	t.Parallel()
	a := writers.Array{Shape: []int{1}, DType: "int8", Data: []byte{1}}
	file := writers.Msgpack(t, writers.Map{{Key: "a.b", Value: a}, {Key: "a", Value: writers.Map{{Key: "b", Value: a}}}})
	_, err := File(context.Background(), Input{Path: "x", Blob: blobOf(file)}, Options{})
	if !errors.As(err, new(*format.UnsupportedError)) || !strings.Contains(err.Error(), "a.b") {
		t.Errorf("%v", err)
	}
}

// TestFrameworkCorpus holds the corpus to what the writers write.
func TestFrameworkCorpus(t *testing.T) {
	t.Parallel()
	for name, f := range frameworks(t) {
		if name == "plain_be.gguf" { // the same tensors
			continue
		}
		o := corpusOracle{
			Case: strings.TrimSuffix(name, filepath.Ext(name)), Container: string(f.format), Expect: "convert", File: name,
			SHA256: fmt.Sprintf("%x", sha256.Sum256(f.file)), Size: len(f.file), Tensors: []corpusTensor{},
		}
		if f.all == nil {
			o.Expect = "reject-tensor"
		}
		for _, g := range f.all {
			shape := append([]uint64{}, g.shape...)
			o.Tensors = append(o.Tensors, corpusTensor{g.dtype.String(), f.prefix + g.name, len(g.data), fmt.Sprintf("%x", sha256.Sum256(g.data)), shape})
		}
		text, err := json.MarshalIndent(o, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string][]byte{name: f.file, name + ".oracle.json": append(text, '\n')} {
			path = filepath.Join(checkpoints, path)
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the test writes: %v; run with -update", path, err)
			}
		}
	}
}

type corpusOracle struct {
	Case      string         `json:"case"`
	Container string         `json:"container"`
	Expect    string         `json:"expect"`
	File      string         `json:"file"`
	SHA256    string         `json:"file_sha256"`
	Size      int            `json:"size"`
	Tensors   []corpusTensor `json:"tensors"`
}

type corpusTensor struct {
	DType  string   `json:"dtype"`
	Name   string   `json:"name"`
	NBytes int      `json:"nbytes"`
	SHA256 string   `json:"sha256"`
	Shape  []uint64 `json:"shape"`
}
