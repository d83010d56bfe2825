package pickle_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/weightseal/weightseal/format/pickle"
)

// stateDict writes what torch.save writes for n tensors of shape [2, 3].
func stateDict(n int) []byte {
	var b bytes.Buffer
	memo := uint32(0)
	put := func() {
		b.WriteByte('r')
		b.Write(binary.LittleEndian.AppendUint32(nil, memo))
		memo++
	}
	text := func(s string) {
		b.WriteByte('X')
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
		b.WriteString(s)
		put()
	}
	global := func(s string) uint32 { b.WriteString("c" + s + "\n"); put(); return memo - 1 }
	get := func(i uint32) { b.WriteByte('j'); b.Write(binary.LittleEndian.AppendUint32(nil, i)) }
	b.WriteString("\x80\x02")
	od := global("collections\nOrderedDict")
	v2 := global("torch._utils\n_rebuild_tensor_v2")
	st := global("torch\nFloatStorage")
	get(od)
	b.WriteString(")R")
	put()
	for i := range n {
		if i%1000 == 0 {
			b.WriteByte('(')
		}
		text(fmt.Sprintf("model.layers.%d.self_attn.q_proj.weight", i))
		get(v2)
		b.WriteString("((")
		text("storage")
		get(st)
		text(fmt.Sprint(i))
		text("cpu")
		b.WriteString("K\x06t")
		put()
		b.WriteString("QK\x00K\x02K\x03\x86")
		put()
		b.WriteString("K\x03K\x01\x86")
		put()
		b.WriteString("\x89")
		get(od)
		b.WriteString(")R")
		put()
		b.WriteByte('t')
		put()
		b.WriteByte('R')
		put()
		if i%1000 == 999 || i == n-1 {
			b.WriteByte('u')
		}
	}
	b.WriteByte('.')
	return b.Bytes()
}

func BenchmarkLoad100kTensors(b *testing.B) {
	data := stateDict(100_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pickle.Load(bytes.NewReader(data), 0, int64(len(data)), pickle.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
