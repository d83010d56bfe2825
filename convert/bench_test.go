package convert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
)

// sparseTorch writes a torch.save file whose tensors are holes, so that it
// takes no room.
func sparseTorch(b *testing.B, specs []safetensors.Spec) string {
	b.Helper()
	h, raw, err := safetensors.NewHeader(specs, map[string]string{"format": "pt"})
	if err != nil {
		b.Fatal(err)
	}
	src := &sparseST{header: raw, size: int64(len(raw)) + int64(h.Tensors[len(h.Tensors)-1].End)}
	p, err := File(context.Background(), Input{Path: "model.safetensors", Format: model.Safetensors, Blob: src}, Options{To: model.TorchZip})
	if err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(b.TempDir(), "pytorch_model.bin")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	err = f.Truncate(p.Size())
	for _, s := range p.segments {
		if s.src != nil || err != nil {
			continue
		}
		piece := make([]byte, s.size)
		if _, err = p.ReadAt(piece, s.at); err == nil {
			_, err = f.WriteAt(piece, s.at)
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	return name
}

// BenchmarkPlanFile opens and plans files as a command does: one of 2 GiB, one
// of 100,000 tensors. Their tensors are not read.
func BenchmarkPlanFile(b *testing.B) {
	var large, many []safetensors.Spec
	for i := range 16 {
		large = append(large, safetensors.Spec{Name: fmt.Sprintf("layers.%d.a", i), DType: safetensors.F32, Shape: []uint64{4096, 4096}},
			safetensors.Spec{Name: fmt.Sprintf("layers.%d.b", i), DType: safetensors.F16, Shape: []uint64{4096, 8192}})
	}
	for i := range 100_000 {
		many = append(many, safetensors.Spec{Name: fmt.Sprintf("layers.%d.weight", i), DType: safetensors.F32, Shape: []uint64{4, 4}})
	}
	for _, c := range []struct {
		name  string
		specs []safetensors.Spec
	}{{"2GiB", large}, {"100000-tensors", many}} {
		b.Run(c.name, func(b *testing.B) {
			name := sparseTorch(b, c.specs)
			b.ReportAllocs()
			for b.Loop() {
				blob, err := model.SingleFile(name).Open(context.Background(), filepath.Base(name))
				if err != nil {
					b.Fatal(err)
				}
				p, err := File(context.Background(), Input{Path: filepath.Base(name), Blob: blob}, Options{})
				if err != nil || len(p.Header.Tensors) != len(c.specs) {
					b.Fatal(err)
				}
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
