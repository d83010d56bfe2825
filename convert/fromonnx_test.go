package convert

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/internal/writers"
	"github.com/weightseal/weightseal/model"
)

// onnxBeside writes a model whose tensors a, b and c lie in two other files.
func onnxBeside(t *testing.T, locations ...string) (dir string, data []byte) {
	t.Helper()
	dir, data = t.TempDir(), noiseOf(7, 96)
	var tensors []writers.Message
	for i, x := range []struct{ name, offset string }{{"a", "32"}, {"b", "0"}, {"c", "0"}} {
		m := writers.TensorProto(x.name, 1, 8)
		for _, pair := range [][2]string{{"location", locations[i%len(locations)]}, {"offset", x.offset}, {"length", "32"}} {
			m = m.Bytes(13, writers.Message(nil).Text(1, pair[0]).Text(2, pair[1]))
		}
		tensors = append(tensors, m.Number(14, 1))
	}
	for name, content := range map[string][]byte{"m.onnx": writers.ONNX(t, nil, tensors...), "one.bin": data[:64], "below/two.bin": data[64:]} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, data
}

func planONNXIn(t *testing.T, src model.Source) (*Plan, error) {
	t.Helper()
	m, err := model.Load(context.Background(), "m", src)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Files, func(f model.File) bool { return f.Path == "m.onnx" })
	in, err := OpenInput(context.Background(), m, m.Files[i])
	if err != nil {
		t.Fatal(err)
	}
	p, err := File(context.Background(), in, Options{})
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	t.Cleanup(func() { p.Close() })
	return p, nil
}

// TestONNXBeside: data in other files is read from there, and the proof names
// every file.
func TestONNXBeside(t *testing.T) {
	t.Parallel()
	dir, data := onnxBeside(t, "one.bin", "./one.bin", "below/two.bin")
	for name, src := range map[string]model.Source{"file": model.SingleFile(filepath.Join(dir, "m.onnx")), "folder": model.Dir(dir)} {
		p, err := planONNXIn(t, src)
		if err != nil {
			t.Fatal(name, err)
		}
		out := whole(t, p)
		h := header(t, out)
		for tensor, want := range map[string][]byte{"a": data[32:64], "b": data[:32], "c": data[64:]} {
			x := lookup(h, tensor)
			if x == nil || !bytes.Equal(out[uint64(h.DataStart())+x.Begin:uint64(h.DataStart())+x.End], want) {
				t.Errorf("%s: %s is %+v", name, tensor, x)
			}
		}
		var paths []string
		for _, part := range proveAll(t, p, out).SourceParts {
			paths = append(paths, part.Path)
		}
		if want := []string{"m.onnx", "one.bin", "below/two.bin"}; !slices.Equal(paths, want) {
			t.Errorf("%s: the proof names %v", name, paths)
		}
	}
}

func TestONNXBesideRefused(t *testing.T) {
	t.Parallel()
	for location, says := range map[string]string{
		"missing.bin": "is not there", "../one.bin": "not beside the model", "/etc/hostname": "not beside the model",
		"link.bin": "link", "linked/two.bin": "", "below": "",
	} {
		dir, data := onnxBeside(t, location)
		outside := filepath.Join(t.TempDir(), "two.bin")
		if err := errors.Join(os.WriteFile(outside, data, 0o600), os.Symlink(outside, filepath.Join(dir, "link.bin")),
			os.Symlink(filepath.Dir(outside), filepath.Join(dir, "linked"))); err != nil {
			t.Fatal(err)
		}
		_, err := planONNXIn(t, model.SingleFile(filepath.Join(dir, "m.onnx")))
		if err == nil {
			t.Errorf("%s was read", location)
			continue
		}
		var u *format.UnsupportedError
		if location == "missing.bin" && (!errors.As(err, &u) || u.Next == "") || !strings.Contains(err.Error(), says) && says != "link" {
			t.Errorf("%s: %v", location, err)
		}
	}
}
