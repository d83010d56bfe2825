package helmplugin_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weightseal/weightseal/internal/helmplugin"
)

var update = flag.Bool("update", false, "copy the plugin's files from the root of the module")

// TestCopies: what is embedded is what lies at the root.
func TestCopies(t *testing.T) {
	t.Parallel()
	for _, f := range helmplugin.Files("") {
		want, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(f.Path)))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(filepath.Base(f.Path), want, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !bytes.Equal(f.Content, want) {
			t.Errorf("internal/helmplugin has another %s than the root: go test ./internal/helmplugin -update", f.Path)
		}
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 1, 2, 3, 4, 5, 6, time.Local)
	var one, two bytes.Buffer
	for _, b := range []*bytes.Buffer{&one, &two} {
		if err := helmplugin.Archive(b, "weightseal", date, helmplugin.Files("1.2.3")...); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of the same files differ")
	}
	zr, err := gzip.NewReader(&one)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]int64{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[h.Name] = h.Mode
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "weightseal/plugin.yaml" && !strings.Contains(string(content), "\nversion: 1.2.3\n") {
			t.Errorf("plugin.yaml has another version:\n%s", content)
		}
	}
	if len(modes) != 3 || modes["weightseal/plugin.yaml"] != 0o644 || modes["weightseal/plugin.complete"] != 0o755 || modes["weightseal/tools/plugin-hook"] != 0o755 {
		t.Errorf("the archive holds %v", modes)
	}
}
