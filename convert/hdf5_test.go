package convert

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
	"github.com/weightseal/weightseal/model"
)

const hdf5Seeds = "../format/hdf5/testdata/"

// hdf5Proved reads a plan's output beside the witness, and proves it.
func hdf5Proved(t *testing.T, p *Plan) []byte {
	t.Helper()
	w, err := p.Witness(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	rec := p.NewRecorder()
	var out bytes.Buffer
	if _, err := io.Copy(io.MultiWriter(rec, &out), io.NewSectionReader(p, 0, p.Size())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Prove(rec, w); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// hdf5Hashes gives the digest of each tensor's bytes by name.
func hdf5Hashes(t *testing.T, file []byte) map[string]string {
	t.Helper()
	h, err := safetensors.ReadHeader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for i := range h.Tensors {
		x := &h.Tensors[i]
		sum := sha256.Sum256(file[int64(len(file))-int64(h.Tensors[len(h.Tensors)-1].End)+int64(x.Begin):][:x.End-x.Begin])
		all[x.Name] = hex.EncodeToString(sum[:])
	}
	return all
}

func kerasArchive(t *testing.T, method uint16, weights []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for name, content := range map[string][]byte{"config.json": []byte(`{"class_name": "Lambda"}`), "metadata.json": []byte("{}"), "model.weights.h5": weights} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestHDF5 converts files that h5py wrote, plainly and in Keras archives.
func TestHDF5(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"seed_earliest", "seed_latest"} {
		var want map[string]struct {
			SHA256 string `json:"sha256"`
		}
		readJSON(t, hdf5Seeds+name+".json", &want)
		weights, err := os.ReadFile(hdf5Seeds + name + ".h5")
		if err != nil {
			t.Fatal(err)
		}
		for kind, file := range map[string][]byte{"plain": weights, "stored": kerasArchive(t, zip.Store, weights), "deflated": kerasArchive(t, zip.Deflate, weights)} {
			p, err := File(context.Background(), Input{Path: "x", Blob: blobOf(file)}, Options{WeightsOnly: true, KeepAliases: true})
			if err != nil {
				t.Fatal(kind, err)
			}
			got := hdf5Hashes(t, hdf5Proved(t, p))
			if len(got) != len(want) {
				t.Errorf("%s: %d tensors, h5py reads %d", kind, len(got), len(want))
			}
			for n, w := range want {
				if got[n] != w.SHA256 {
					t.Errorf("%s: %s is %s, h5py reads %s", kind, n, got[n], w.SHA256)
				}
			}
			var lost []string
			for _, d := range p.Dropped {
				if d.Kind == "file" {
					lost = append(lost, d.Path)
				}
			}
			if kind != "plain" && len(lost) != 2 {
				t.Error(kind, lost)
			}
		}
	}
}

// TestHDF5Ties writes a dataset with several links once.
func TestHDF5Ties(t *testing.T) {
	t.Parallel()
	p, err := planFile(t, hdf5Seeds+"seed_latest.h5", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Alias{{Removed: "soft", Kept: "a"}, {Removed: "tied", Kept: "a"}}
	if len(p.Aliases) != 2 || p.Aliases[0] != want[0] || p.Aliases[1] != want[1] {
		t.Errorf("%v, want %v", p.Aliases, want)
	}
	if p, err = planFile(t, hdf5Seeds+"seed_latest.h5", Options{Select: "/wide"}); err != nil || len(p.Header.Tensors) != 12 || p.Header.Tensors[0].Name != "0" {
		t.Error(p, err)
	}
	if _, err = planFile(t, hdf5Seeds+"seed_latest.h5", Options{Select: "narrow"}); !errors.As(err, new(*format.UnsupportedError)) {
		t.Error(err)
	}
}

// TestKerasWhole wants to be told that the architecture may be lost.
func TestKerasWhole(t *testing.T) {
	t.Parallel()
	weights, err := os.ReadFile(hdf5Seeds + "seed_latest.h5")
	if err != nil {
		t.Fatal(err)
	}
	_, err = File(context.Background(), Input{Path: "x.keras", Blob: blobOf(kerasArchive(t, zip.Store, weights))}, Options{})
	var lossy *format.UnsupportedError
	if !errors.As(err, &lossy) || lossy.Next != "take the tensors alone: --weights-only" {
		t.Error(err)
	}
}

// TestKerasLike converts what Keras 2 writes.
func TestKerasLike(t *testing.T) {
	t.Parallel()
	p, err := planFile(t, checkpoints+"/keras_like.h5", Options{})
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := json.Marshal(p.Dropped)
	if err != nil {
		t.Fatal(err)
	}
	if h := p.Header; len(h.Tensors) != 1 || h.Tensors[0].Name != "model_weights/dense/dense/kernel:0" || h.Metadata["format"] != "tf" ||
		!bytes.Contains(dropped, []byte("@keras_version")) || p.Source.Format != model.HDF5 {
		t.Errorf("%+v %s", h, dropped)
	}
	hdf5Proved(t, p)
}
