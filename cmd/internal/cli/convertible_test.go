package cli

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/convert"
	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/scan"
)

// oneFile is a model of one file in memory.
type oneFile struct {
	name string
	b    []byte
}

func (o oneFile) List(context.Context) ([]model.Entry, error) {
	return []model.Entry{{Path: o.name, Size: o.Size()}}, nil
}
func (o oneFile) Open(context.Context, string) (model.Blob, error) { return o, nil }
func (o oneFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(o.b).ReadAt(p, off)
}
func (o oneFile) Size() int64    { return int64(len(o.b)) }
func (oneFile) Close() error     { return nil }
func (oneFile) Unchanged() error { return nil }

// keepsPromise checks that what the scan calls convertible converts. It may
// have said that it does not: there is nothing to convert, safetensors cannot
// hold it, or a part has to be chosen.
func keepsPromise(t *testing.T, o oneFile) (convertible bool) {
	t.Helper()
	ctx := context.Background()
	m, err := model.Load(ctx, o.name, o)
	if err != nil {
		return false // refused before anything is judged
	}
	rep, err := scan.Run(ctx, m, scan.Default())
	if err != nil {
		t.Fatal(err)
	}
	if rep.Verdict != scan.Convertible {
		return false
	}
	for _, f := range rep.Files[0].Findings {
		if f.Rule == "WS-TORCH-008" || f.Rule == "WS-TORCH-009" {
			return false
		}
	}
	p, err := convert.File(ctx, convert.Input{Path: o.name, Format: m.Files[0].Format, Blob: o}, convert.Options{})
	if err != nil {
		t.Errorf("%s is called convertible and does not convert: %v", o.name, err)
		return true
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	return true
}

// A file that the scan calls convertible converts; so does one of which some
// bytes were changed.
func TestConvertibleConverts(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..", "testdata")
	var files []oneFile
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(p, ".json") || strings.HasSuffix(p, ".distcp") {
			return err
		}
		b, err := os.ReadFile(p)
		files = append(files, oneFile{filepath.Base(p), b})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if !keepsPromise(t, f) {
			continue
		}
		n++
		if len(f.b) > 8<<10 {
			continue
		}
		rng := rand.New(rand.NewPCG(1, uint64(len(f.b))))
		for range 60 {
			c := oneFile{f.name, bytes.Clone(f.b)}
			for range 1 + rng.IntN(3) {
				c.b[rng.IntN(len(c.b))] = byte(rng.Uint32())
			}
			keepsPromise(t, c)
		}
		for range 20 {
			keepsPromise(t, oneFile{f.name, f.b[:rng.IntN(len(f.b))]})
		}
	}
	if n < 40 {
		t.Errorf("only %d files are convertible", n)
	}
}
