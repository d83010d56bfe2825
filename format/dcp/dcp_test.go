package dcp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/torch"
)

// folder is a checkpoint in memory: name -> content.
type folder map[string][]byte

func readFolder(tb testing.TB, name string) folder {
	tb.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	f := folder{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join("testdata", name, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		f[e.Name()] = b
	}
	return f
}

func (f folder) source() Source {
	s := Source{Metadata: bytes.NewReader(f[MetadataName]), Size: int64(len(f[MetadataName]))}
	at := s.Size
	for name, b := range f {
		if name != MetadataName {
			s.Files = append(s.Files, File{Name: name, Data: bytes.NewReader(b), Size: int64(len(b)), Offset: at})
			at += int64(len(b))
		}
	}
	return s
}

func open(f folder, sel string) (*Checkpoint, error) {
	return Open(context.Background(), f.source(), Options{Select: sel})
}

type oracle map[string]struct {
	DType  string
	Shape  []uint64
	SHA256 string
}

func readOracle(t *testing.T, name string) oracle {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".oracle.json"))
	if err != nil {
		t.Fatal(err)
	}
	o := oracle{}
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// content reads a tensor's elements one by one through its strides.
func content(t *testing.T, x *format.Tensor, data io.ReaderAt) []byte {
	t.Helper()
	elem := int64(x.DType.Bits() / 8)
	var out []byte
	var walk func(d int, at int64)
	walk = func(d int, at int64) {
		if d == len(x.Size) {
			one := make([]byte, elem)
			if _, err := data.ReadAt(one, at*elem); err != nil && err != io.EOF {
				t.Fatalf("%s: %v", x.Name, err)
			}
			out = append(out, one...)
			return
		}
		for i := range x.Size[d] {
			walk(d+1, at+i*x.Stride[d])
		}
	}
	walk(0, x.Offset)
	return out
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, prefix, subtree, sel string }{
		{"fsdp", "model.", "model", ""}, {"flat", "", "", ""}, {"grid", "", "", ""}, {"train", "model.", "model", "model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ck, err := open(readFolder(t, c.name), c.sel)
			if err != nil {
				t.Fatal(err)
			}
			if ck.Subtree != c.subtree {
				t.Errorf("subtree %q", ck.Subtree)
			}
			again := ck.Again()
			want, n := readOracle(t, c.name), 0
			for i := range ck.Tensors {
				x := &ck.Tensors[i]
				w, ok := want[c.prefix+x.Name]
				if !ok {
					t.Errorf("%s: nobody has saved it", x.Name)
					continue
				}
				n++
				if !slices.Equal(x.Shape, w.Shape) {
					t.Errorf("%s: shape %v, want %v", x.Name, x.Shape, w.Shape)
				}
				check := func(how string, data io.ReaderAt) {
					sum := sha256.Sum256(content(t, x, data))
					if hex.EncodeToString(sum[:]) != w.SHA256 {
						t.Errorf("%s, %s: other bytes", x.Name, how)
					}
				}
				check("by place", x.Storage.Data)
				if x.Storage.Offset < 0 {
					check("by chunk", again[x.Storage.Key])
					windows(t, x, again[x.Storage.Key])
				}
			}
			for name := range want {
				if strings.HasPrefix(name, c.prefix) {
					n--
				}
			}
			if n != 0 {
				t.Errorf("%d tensors are missing", -n)
			}
		})
	}
}

// windows compares the two ways to read a tensor of several chunks, at every
// place and in several lengths.
func windows(t *testing.T, x *format.Tensor, other io.ReaderAt) {
	t.Helper()
	for at := int64(0); at < x.Storage.Length; at += 3 {
		for _, n := range []int64{1, 7, 64, x.Storage.Length} {
			a, b := make([]byte, n), make([]byte, n)
			i, err := x.Storage.Data.ReadAt(a, at)
			j, err2 := other.ReadAt(b, at)
			if i != j || !bytes.Equal(a, b) || (err == nil) != (err2 == nil) {
				t.Fatalf("%s at %d, %d bytes: %d %v and %d %v", x.Name, at, n, i, err, j, err2)
			}
		}
	}
}

func TestAmbiguous(t *testing.T) {
	t.Parallel()
	_, err := open(readFolder(t, "train"), "")
	var ambiguous *torch.AmbiguousError
	if !errors.As(err, &ambiguous) || !slices.Equal(ambiguous.Candidates, []string{"model", "optim"}) {
		t.Fatalf("got %v", err)
	}
	if _, err := open(readFolder(t, "train"), "nowhere"); !errors.Is(err, torch.ErrNoSubtree) {
		t.Errorf("a subtree that is not there: %v", err)
	}
	ck, err := open(readFolder(t, "train"), "model")
	if err != nil {
		t.Fatal(err)
	}
	var dropped []string
	for _, d := range ck.Dropped {
		dropped = append(dropped, d.Path)
	}
	if !slices.Equal(dropped, []string{"optim", "step"}) {
		t.Errorf("dropped %v", dropped)
	}
	if ck, err = open(readFolder(t, "train"), torch.WholeRoot); err != nil || len(ck.Tensors) != 3 || len(ck.Dropped) != 3 {
		t.Errorf("everything: %v, %+v", err, ck)
	}
}

// TestHostile changes a checkpoint in one place. What is replaced has the
// length of what replaces it, so that frames stay right.
func TestHostile(t *testing.T) {
	t.Parallel()
	swap := func(old, next string) func(*testing.T, folder) {
		return func(t *testing.T, f folder) {
			t.Helper()
			if len(old) != len(next) || !bytes.Contains(f[MetadataName], []byte(old)) {
				t.Fatalf("%q cannot take the place of %q", next, old)
			}
			f[MetadataName] = bytes.Replace(f[MetadataName], []byte(old), []byte(next), 1)
		}
	}
	for _, c := range []struct {
		name, want string
		change     func(*testing.T, folder)
	}{
		{"parent", "no file of the folder", swap("__1_0.distcp", "../_0.distcp")},
		{"absolute", "no file of the folder", swap("__1_0.distcp", "/etc/hosts12")},
		{"backslash", "no file of the folder", swap("__1_0.distcp", `..\_0.distcp`)},
		{"another file", "not in the folder", swap("__1_0.distcp", "__7_0.distcp")},
		{"missing", "not in the folder", func(_ *testing.T, f folder) { delete(f, "__2_0.distcp") }},
		{"cut", "its bytes are", func(_ *testing.T, f folder) { f["__2_0.distcp"] = f["__2_0.distcp"][:1000] }},
		{"left over", "does not name", func(_ *testing.T, f folder) { f["__9_0.distcp"] = f["__0_0.distcp"] }},
		{"another class", "is called", swap("StorageMeta\x94", "StorageMetb\x94")},
		{"code", "is called", swap("filesystem", "filesystex")},
		{"call", "is called", swap("torch.serialization", "torch.serializatiox")},
		{"no strided", "sparse", swap("torch.strided", "torch.stridex")},
		{"dtype", "holds F32", swap("float32", "float64")},
		{"unknown dtype", "cannot be converted", swap("float32", "float99")},
		{"after the pickle", "follow the pickle", func(_ *testing.T, f folder) { f[MetadataName] = append(f[MetadataName], 'x') }},
		{"swapped files", "", func(_ *testing.T, f folder) {
			f["__1_0.distcp"], f["__2_0.distcp"] = f["__2_0.distcp"], f["__1_0.distcp"]
		}},
		{"no zip", "no local header", func(_ *testing.T, f folder) { copy(f["__1_0.distcp"], "\x28\xb5\x2f\xfd") }},
		{"safetensors inside", "SAFETENSORS", func(_ *testing.T, f folder) { copy(f["__1_0.distcp"], "\x40\x00\x00\x00\x00\x00\x00\x00{") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := readFolder(t, "fsdp")
			c.change(t, f)
			_, err := open(f, "")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	b := func(offset, size []int64) box { return box{offset: offset, size: size} }
	for _, c := range []struct {
		name, want string
		boxes      []box
	}{
		{"rows", "", []box{b([]int64{0, 0}, []int64{2, 4}), b([]int64{2, 0}, []int64{2, 4})}},
		{"pinwheel", "", []box{b([]int64{0, 0}, []int64{1, 3}), b([]int64{0, 3}, []int64{3, 1}), b([]int64{3, 1}, []int64{1, 3}), b([]int64{1, 0}, []int64{3, 1}), b([]int64{1, 1}, []int64{2, 2})}},
		{"gap", "gaps", []box{b([]int64{0, 0}, []int64{2, 4}), b([]int64{3, 0}, []int64{1, 4})}},
		{"more than all", "overlap", []box{b([]int64{0, 0}, []int64{4, 4}), b([]int64{3, 0}, []int64{1, 4})}},
		{"as many, but one twice", "overlap", []box{b([]int64{0, 0}, []int64{2, 4}), b([]int64{1, 0}, []int64{2, 4})}},
		{"columns twice", "overlap", []box{b([]int64{0, 0}, []int64{4, 2}), b([]int64{0, 1}, []int64{4, 2})}},
	} {
		work := 100
		_, err := assemble(c.name, []int64{4, 4}, 4, c.boxes, &work)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	work := 0
	_, err := assemble("bounded", []int64{4, 4}, 4, []box{b([]int64{0, 0}, []int64{4, 2}), b([]int64{0, 2}, []int64{4, 2})}, &work)
	if err != nil {
		t.Errorf("chunks beside each other need no comparison: %v", err)
	}
}

// TestStrided reads chunks whose own bytes do not lie in order.
func TestStrided(t *testing.T) {
	t.Parallel()
	// A 4 by 6 tensor of bytes 0..23; the left half stored column by column,
	// the right half as rows with a gap between them.
	left, right := make([]byte, 12), bytes.Repeat([]byte{0xee}, 20)
	for i := range 4 {
		for k := range 3 {
			left[k*4+i] = byte(i*6 + k)
			right[i*5+k] = byte(i*6 + 3 + k)
		}
	}
	work := 10
	a, err := assemble("x", []int64{4, 6}, 1, []box{
		{offset: []int64{0, 0}, size: []int64{4, 3}, data: bytes.NewReader(left), stride: []int64{1, 4}},
		{offset: []int64{0, 3}, size: []int64{4, 3}, data: bytes.NewReader(right), stride: []int64{5, 1}},
	}, &work)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 24)
	for i := range want {
		want[i] = byte(i)
	}
	for at := range 24 {
		for n := 1; at+n <= 24; n++ {
			got, other := make([]byte, n), make([]byte, n)
			if _, err := a.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, want[at:at+n]) {
				t.Fatalf("by place: %v at %d: %v", got, at, err)
			}
			if _, err := (&scattered{a}).ReadAt(other, int64(at)); err != nil || !bytes.Equal(other, want[at:at+n]) {
				t.Fatalf("by chunk: %v at %d: %v", other, at, err)
			}
		}
	}
}

func FuzzReadMetadata(f *testing.F) {
	for _, name := range []string{"fsdp", "flat", "grid", "train"} {
		f.Add(readFolder(f, name)[MetadataName])
	}
	ranks := readFolder(f, "fsdp")
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := Limits{Torch: torch.Limits{Pickle: pickle.Limits{Ops: 1 << 20, Memory: 64 << 20}}}
		m, err := ReadMetadata(bytes.NewReader(b), int64(len(b)), lim)
		if err != nil {
			return
		}
		for _, x := range m.Tensors {
			for _, c := range x.Chunks {
				if !filepath.IsLocal(c.Place.File) {
					t.Fatalf("%s lies at %q", x.Name, c.Place.File)
				}
			}
		}
		files := maps.Clone(ranks)
		files[MetadataName] = b
		ck, err := Open(context.Background(), files.source(), Options{Select: torch.WholeRoot, Limits: lim})
		if err != nil {
			return
		}
		for i := range ck.Tensors {
			x := &ck.Tensors[i]
			if x.Storage.Offset >= 0 || x.Storage.Length > 1<<16 {
				continue
			}
			one, other := make([]byte, x.Storage.Length), make([]byte, x.Storage.Length)
			if _, err := x.Storage.Data.ReadAt(one, 0); err != nil {
				t.Fatalf("%s: %v", x.Name, err)
			}
			if _, err := ck.Again()[x.Storage.Key].ReadAt(other, 0); err != nil || !bytes.Equal(one, other) {
				t.Fatalf("%s by chunk: %v", x.Name, err)
			}
		}
	})
}
