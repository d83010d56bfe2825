//go:build unix && !race

package cli

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// zeros is a reader of n zero bytes.
func zeros(n int64) io.Reader { return io.LimitReader(endless{}, n) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// heavy are inputs that other readers need gigabytes for. Each writes a file.
var heavy = map[string]func(f *os.File) error{
	// A bytes object of 1 GiB: a hole in the file.
	"bytes.pkl": func(f *os.File) error {
		head := binary.LittleEndian.AppendUint64([]byte("\x80\x04\x8e"), 1<<30)
		_, err := f.Write(head)
		return errors.Join(err, f.Truncate(int64(len(head))+1<<30), writeAt(f, ".", int64(len(head))+1<<30))
	},
	"floats.pkl": func(f *os.File) error {
		batch := "(" + strings.Repeat("G\x3f\xf1\x02\x03\x04\x05\x06\x07", 1000) + "e"
		_, err := f.WriteString("\x80\x04]\x94" + strings.Repeat(batch, 3000) + ".")
		return err
	},
	"tuples.pkl":  manyItems(1_000_000, "]\x94", "K\x01K\x02\x86\x94", "e"),
	"dicts.pkl":   manyItems(1_000_000, "]\x94", "}\x94K\x01K\x02s", "e"),
	"objects.pkl": manyItems(1_000_000, "\x8c\x0bcollections\x8c\x0bOrderedDict\x93\x940]\x94", "h\x00)R\x94", "e"),
	"globals.pkl": manyItems(1_000_000, "]\x94", "ccollections\nOrderedDict\n\x94", "e"),
	"calls.pkl":   manyItems(300_000, "]\x94", "cos\ngetcwd\n)R\x94", "e"),
	"keys.pkl":    manyItems(1_000_000, "}\x94", "\x8c\x07%07d\x94J\x01\x02\x03\x00", "u"),
	"texts.pkl":   manyItems(1_000_000, "]\x94", "\x8c\x07%07d\x94", "e"),
	"deep.pkl": func(f *os.File) error {
		return repeated(f, "\x80\x04", "]", 1_000_000, strings.Repeat("a", 999_999)+".")
	},
	"tuple.pkl": func(f *os.File) error { return repeated(f, "\x80\x04N", "\x85", 1_000_000, ".") },
	"marks.pkl": func(f *os.File) error {
		return repeated(f, "\x80\x04", "(]", 1_000_000, strings.Repeat("t", 1_000_000)+".")
	},
	"many.zip": func(f *os.File) error {
		z := zip.NewWriter(f)
		for i := range 100_000 {
			if _, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("f/%d.txt", i)}); err != nil {
				return err
			}
		}
		return z.Close()
	},
	"nested.zip": func(f *os.File) error {
		inner := []byte("plain text\n")
		for range 40 {
			var b bytes.Buffer
			if err := zipped(&b, "inner.zip", bytes.NewReader(inner)); err != nil {
				return err
			}
			inner = b.Bytes()
		}
		_, err := f.Write(inner)
		return err
	},
	"names.zip": func(f *os.File) error {
		z := zip.NewWriter(f)
		for i := range 1000 {
			if _, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%d%s", i, strings.Repeat("n", 60_000))}); err != nil {
				return err
			}
		}
		return z.Close()
	},
	"bomb.7z":  packed7z("-m0=lzma2:d=64m", zeros(256<<20)),
	"lzma.7z":  packed7z("-m0=lzma:d=64m", zeros(64<<20)),
	"bzip2.7z": packed7z("-m0=bzip2", zeros(64<<20)),
	"array.pkl.xz": packedXZ("\x80\x03}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"+
		"(K\x01J\x00\x00\x00\x08\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"+
		"B\x00\x00\x00\x08", 128<<20, "tbs."),
	"memo.pkl": func(f *os.File) error { return repeated(f, "\x80\x04", "N\x94", 3_000_000, ".") },
	"names.pkl": func(f *os.File) error {
		name := strings.Repeat("a", 60_000)
		return repeated(f, "\x80\x02", "c"+name+"\n"+name+"\n0", 300, "N.")
	},
	"keys.yaml": func(f *os.File) error { return repeated(f, "", "key: !!python/name:os.system value\n", 1<<19, "") },
	"keys.json": numberedParts(1_000_000, "{", "\"key%07d\":%[1]d,", "\"z\":0}"),
	"graph.pbtxt": func(f *os.File) error {
		return repeated(f, "node { name: \"a\" op: \"Const\" }\n", "float_val: 0.125\n", 3_000_000, "")
	},
	"large.safetensors": func(f *os.File) error {
		return safetensorsHeader(f, "\"__metadata__\":{"+strings.Repeat("\"a\":\"b\",", 8<<20)+"\"z\":\"\"}")
	},
	"full.safetensors": func(f *os.File) error {
		var b strings.Builder
		for i := range 270_000 {
			fmt.Fprintf(&b, "\"k%06d\":\"v\",", i)
		}
		return safetensorsHeader(f, "\"__metadata__\":{"+b.String()+"\"z\":\"\"}")
	},
	"keys.gguf": func(f *os.File) error {
		w := bufio.NewWriter(f)
		w.WriteString("GGUF\x03\x00\x00\x00" + strings.Repeat("\x00", 8) + "\xe8\x03" + strings.Repeat("\x00", 6))
		for i := range 1000 {
			w.WriteString("\x60\xea\x00\x00\x00\x00\x00\x00" + fmt.Sprintf("%08d", i) + strings.Repeat("k", 59_992) + "\x07\x00\x00\x00\x01")
		}
		return w.Flush()
	},
	"bomb.zip": func(f *os.File) error { return zipped(f, "archive/data.pkl", zeros(1<<30)) },
	"bomb.gz": func(f *os.File) error {
		return packed(gzip.NewWriter(f), io.MultiReader(strings.NewReader("\x80\x04]"), zeros(1<<30)))
	},
	"bomb.joblib": func(f *os.File) error {
		return packed(zlib.NewWriter(f), io.MultiReader(strings.NewReader("\x80\x04\x8e\x00\x00\x00\x40\x00\x00\x00\x00"), zeros(1<<30), strings.NewReader(".")))
	},
}

// manyItems is a pickle of n items, a thousand of them between a mark and the
// opcode that takes them, as unpicklers expect it. The item may hold its number.
func manyItems(n int, head, item, taken string) func(f *os.File) error {
	return func(f *os.File) error {
		w := bufio.NewWriter(f)
		w.WriteString("\x80\x04" + head)
		for i := range n {
			if i%1000 == 0 {
				w.WriteByte('(')
			}
			if strings.Contains(item, "%") {
				fmt.Fprintf(w, item, i)
			} else {
				w.WriteString(item)
			}
			if i%1000 == 999 {
				w.WriteString(taken)
			}
		}
		w.WriteByte('.')
		return w.Flush()
	}
}

// numberedParts is a text of n parts that hold their number.
func numberedParts(n int, head, part, tail string) func(f *os.File) error {
	return func(f *os.File) error {
		w := bufio.NewWriter(f)
		w.WriteString(head)
		for i := range n {
			fmt.Fprintf(w, part, i)
		}
		w.WriteString(tail)
		return w.Flush()
	}
}

// packedXZ is a file that asks for a dictionary of 64 MiB, as those of xz -9 do.
func packedXZ(head string, n int64, tail string) func(f *os.File) error {
	return func(f *os.File) error {
		cmd := exec.Command("xz", "-c", "-T1", "--lzma2=preset=1,dict=64MiB")
		cmd.Stdin, cmd.Stdout = io.MultiReader(strings.NewReader(head), zeros(n), strings.NewReader(tail)), f
		return cmd.Run()
	}
}

// packed7z is an archive that 7z writes, with a dictionary of which the scanner
// keeps a part.
func packed7z(method string, content io.Reader) func(f *os.File) error {
	return func(f *os.File) error {
		name := f.Name() + ".tmp.7z"
		cmd := exec.Command("7z", "a", "-mx=1", method, "-sia.bin", name)
		cmd.Stdin = content
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return os.Rename(name, f.Name())
	}
}

// safetensorsHeader writes a file of nothing but a header.
func safetensorsHeader(f *os.File, members string) error {
	h := "{" + members + "}"
	h += strings.Repeat(" ", -len(h)&7)
	_, err := f.WriteString(string(binary.LittleEndian.AppendUint64(nil, uint64(len(h)))) + h)
	return err
}

func repeated(f *os.File, head, part string, n int, tail string) error {
	_, err := f.WriteString(head + strings.Repeat(part, n) + tail)
	return err
}

func writeAt(f *os.File, s string, off int64) error {
	_, err := f.WriteAt([]byte(s), off)
	return err
}

func zipped(w io.Writer, name string, content io.Reader) error {
	z := zip.NewWriter(w)
	e, err := z.Create(name)
	if err == nil {
		_, err = io.Copy(e, content)
	}
	return errors.Join(err, z.Close())
}

func packed(w io.WriteCloser, content io.Reader) error {
	_, err := io.Copy(w, content)
	return errors.Join(err, w.Close())
}

// measured runs a program and prints its exit code and its peak resident memory
// in KiB. What Go reports for a child that it starts includes its own memory.
const measured = `
import os, sys
null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=null), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
`

// TestScanMemory: no input takes more than 64 MiB of resident memory. It is the
// program that is measured, in a process of its own.
func TestScanMemory(t *testing.T) {
	t.Parallel()
	bin := builtProgram(t) // not this test's own binary, which is larger
	dir, python := t.TempDir(), realtools.Python(t)
	for name, write := range heavy {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			t.Fatal(name, err)
		}
		out, err := exec.CommandContext(t.Context(), python, "-c", measured, bin, "scan", f.Name(), "--output", "json", "--progress", "none").Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		var code, kib int
		if _, err := fmt.Sscan(string(out), &code, &kib); err != nil || code != exitPolicy && code != 0 {
			t.Errorf("%s: exit code %d, %v", name, code, err)
		}
		t.Logf("%s: %d MiB", name, kib>>10)
		if kib > 64<<10 {
			t.Errorf("%s: %d MiB", name, kib>>10)
		}
	}
}
