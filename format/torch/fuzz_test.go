package torch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// seeds adds the files of the corpus that have a prefix of their content.
func seeds(f *testing.F, prefixes ...string) {
	n := 0
	for _, root := range []string{checkpoints, threats} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if info, err := d.Info(); err != nil || info.Size() > 1<<16 {
				return err
			}
			b := readFile(f, path)
			for _, p := range prefixes {
				if bytes.HasPrefix(b, []byte(p)) {
					n++
					f.Add(b)
					break
				}
			}
			return nil
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
}

// check opens and selects, and reads every tensor that came out: whatever a
// file says, its tensors lie in it.
func check(t *testing.T, b []byte) {
	begin := time.Now()
	c, err := open(b)
	if err != nil {
		checkTyped(t, err)
		return
	}
	for _, opt := range []SelectOptions{{}, {Path: WholeRoot, AllowInert: true, SplitQuantized: true, SplitSparse: true}} {
		sd, err := c.SelectWith(opt)
		if err != nil {
			checkTyped(t, err)
			continue
		}
		seen := map[string]bool{}
		for i := range sd.Tensors {
			tt := &sd.Tensors[i]
			if seen[tt.Name] {
				t.Fatalf("%q twice", tt.Name)
			}
			seen[tt.Name] = true
			inside(t, tt)
		}
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Fatalf("took %v", d)
	}
}

// inside reads the first and the last element of a tensor.
func inside(t *testing.T, tt *Tensor) {
	last := tt.Offset
	for i, n := range tt.Size {
		if n == 0 {
			return
		}
		last += (n - 1) * tt.Stride[i]
	}
	size := elementSize(tt.DType)
	for _, at := range []int64{tt.Offset, last} {
		if at < 0 || (at+1)*size > tt.Storage.Length {
			t.Fatalf("%s: element %d of a storage of %d bytes", tt.Name, at, tt.Storage.Length)
		}
		if n, err := tt.Storage.Data.ReadAt(make([]byte, size), at*size); int64(n) < size && (!tt.Storage.Deflated || err == io.EOF) {
			t.Fatalf("%s: %v", tt.Name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	seeds(f, "PK", "\x80\x02", "sys_info", "\x89HDF")
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b) })
}

func FuzzZipDirectory(f *testing.F) {
	seeds(f, "PK\x03\x04")
	f.Fuzz(func(t *testing.T, b []byte) {
		a := readArchive(bytes.NewReader(b), int64(len(b)), Limits{}.defaults())
		if len(a.errs) > 0 {
			return
		}
		used := int64(0)
		for _, e := range a.entries {
			if !e.located || e.data < used || e.end() > int64(len(b)) {
				t.Fatalf("%q at %d to %d, the one before ends at %d", e.name, e.data, e.end(), used)
			}
			used = e.end()
		}
	})
}

func FuzzLegacy(f *testing.F) {
	f.Add(pickled(pDict(pStr("a"), legacyTensor("k", 4, pNone))), pickled(pList(pStr("k"))), sixteen)
	f.Fuzz(func(t *testing.T, object, keys, data []byte) {
		head := legacyOf("", nil)
		head = head[:len(head)-len(pickled(""))-len(pickled(pList()))]
		check(t, concat(head, object, keys, data))
	})
}

func FuzzTar(f *testing.F) {
	f.Add(pickled(pDict(pStr("w"), pInt(7)+"Q")), []byte(tarTensors(pInt(5), 1, []int64{3}, []int64{1})), []byte(tarStorages(4, string(sixteen), pList())))
	f.Fuzz(func(t *testing.T, object, tensors, storages []byte) {
		check(t, tarOf("sys_info", string(pickled(pDict())), "pickle", string(object), "tensors", string(tensors), "storages", string(storages)))
	})
}

// FuzzObject fuzzes data.pkl alone, in a sound archive.
func FuzzObject(f *testing.F) {
	for _, value := range []string{pTensor("0", 4), pDict(pStr("w"), pTensor("0", 4)),
		pDict(pStr("model"), pDict(pStr("w"), pTensor("0", 4)), pStr("optimizer"), pList(pTensor("1", 2)))} {
		f.Add(pickled(value))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := torchZip("archive", record{name: "data.pkl", data: data}, record{name: "data/0", data: make([]byte, 16)},
			record{name: "data/1", data: make([]byte, 8)})
		check(t, m.bytes())
	})
}
