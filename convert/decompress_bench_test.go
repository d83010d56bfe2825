package convert

import (
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// writeCompressed has numpy, joblib and h5py write the same 32 MiB of float32,
// half of whose mantissa bits are zero so that there is something to compress,
// in eight tensors.
const writeCompressed = `
import os, sys, zlib, h5py, joblib, numpy as np
out = sys.argv[1]
rng = np.random.default_rng(1)
a = {'w%d' % i: (rng.standard_normal((1024, 1024), dtype='f4').view('u4') & 0xfffff000).view('f4') for i in range(8)}
np.savez_compressed(os.path.join(out, 'npz'), **a)
for c in ['zlib', 'gzip', 'bz2', 'xz', 'lzma']:
    joblib.dump(a, os.path.join(out, c), compress=(c, 3))
with h5py.File(os.path.join(out, 'h5'), 'w') as f:
    for k, v in a.items():
        f.create_dataset(k, data=v, chunks=(64, 1024), compression='gzip', compression_opts=3)
with open(os.path.join(out, 'h5.floor'), 'wb') as f: # the same chunks, one after the other
    for v in a.values():
        for i in range(0, 1024, 64):
            f.write(zlib.compress(v[i:i + 64].tobytes(), 3))
`

// BenchmarkDecompress plans and reads compressed formats, and beside each what
// its decompressor alone takes for the same bytes: the floor. For xz and lzma
// that is the program xz.
func BenchmarkDecompress(b *testing.B) {
	dir := b.TempDir()
	if out, err := exec.Command(realtools.Python(b), "-c", writeCompressed, dir).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	if err := os.Rename(filepath.Join(dir, "npz.npz"), filepath.Join(dir, "npz")); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, floor string
		inflate     func(file []byte) (io.Reader, error)
	}{
		{"npz", "npz", inflateMembers},
		{"zlib", "zlib", func(file []byte) (io.Reader, error) { return zlib.NewReader(bytes.NewReader(file)) }},
		{"gzip", "gzip", func(file []byte) (io.Reader, error) { return gzip.NewReader(bytes.NewReader(file)) }},
		{"bz2", "bz2", func(file []byte) (io.Reader, error) { return bzip2.NewReader(bytes.NewReader(file)), nil }},
		{"xz", "xz", inflateByXZ},
		{"lzma", "lzma", inflateByXZ},
		{"h5", "h5.floor", inflateChunks},
	} {
		file, err := os.ReadFile(filepath.Join(dir, c.name))
		if err != nil {
			b.Fatal(err)
		}
		floor, err := os.ReadFile(filepath.Join(dir, c.floor))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name+"/convert", func(b *testing.B) { readPlan(b, c.name, file) })
		b.Run(c.name+"/floor", func(b *testing.B) {
			b.SetBytes(8 << 22)
			for b.Loop() {
				r, err := c.inflate(floor)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n < 8<<22 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// readPlan plans the file and reads the whole output, in order.
func readPlan(b *testing.B, name string, file []byte) {
	b.SetBytes(8 << 22)
	buf := make([]byte, 1<<20)
	for b.Loop() {
		p, err := File(context.Background(), Input{Path: name, Blob: blobOf(file)}, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.NewSectionReader(p, 0, p.Size())}, buf); err != nil || n < 8<<22 {
			b.Fatal(n, err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func inflateMembers(file []byte) (io.Reader, error) {
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	var members []io.Reader
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		members = append(members, r)
	}
	return io.MultiReader(members...), nil
}

func inflateByXZ(file []byte) (io.Reader, error) {
	cmd := exec.Command("xz", "-dc", "-T1")
	cmd.Stdin = bytes.NewReader(file)
	out, err := cmd.Output()
	return bytes.NewReader(out), err
}

// chunks reads zlib streams that follow each other.
type chunks struct {
	file *bytes.Reader
	z    io.ReadCloser
}

func inflateChunks(file []byte) (io.Reader, error) {
	r := bytes.NewReader(file)
	z, err := zlib.NewReader(r)
	return &chunks{r, z}, err
}

func (c *chunks) Read(p []byte) (int, error) {
	n, err := c.z.Read(p)
	if err == io.EOF && c.file.Len() > 0 {
		err = c.z.(zlib.Resetter).Reset(c.file, nil)
	}
	return n, err
}
