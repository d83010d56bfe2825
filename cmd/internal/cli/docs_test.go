//go:build unix

package cli

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/realtools"
)

// docPages are the pages that TestDocs runs as they stand.
func docPages() map[string]docPage {
	pages := map[string]docPage{
		"README.md": {}, "CONTRIBUTING.md": {}, "docs/tutorial.md": {}, "docs/scanner.md": {}, "docs/statement.md": {},
		"docs/terminal.md":     {least: 10, files: corpusFiles("my-model/pytorch_model.bin", "gpt2_tiny.bin")},
		"docs/howto/docker.md": {least: 9},
		"docs/convert.md": {least: 25, files: corpusFiles(
			"checkpoint.ckpt", "lightning.ckpt", "module.pt", "module.pt", "weights.npz", "arrays.npz", "weights.joblib", "joblib_zlib.joblib",
			"weights.h5", "keras_like.h5", "array.npy", "array.npy", "big.pt", "many.pt", "quantized.pt", "quantized.pt", "sparse.pt", "sparse.pt",
			"my-model/pytorch_model.bin", "tied.pt", "my-model/extra.npz", "arrays.npz", "my-model/config.json", "")},
	}
	for name, p := range pages {
		p.path = name
		pages[name] = p
	}
	return pages
}

// pagesOfOthers are run by a test of their own: with two Helms, a registry that
// wants a password, an API server, a runner of pipelines.
func pagesOfOthers() []string {
	return []string{
		"docs/howto/helm.md", "docs/howto/kubectl.md", "docs/howto/registry.md",
		"docs/howto/argo.md", "docs/howto/github.md", "docs/howto/gitlab.md", "docs/howto/jenkins.md", "docs/howto/pre-commit.md", "docs/howto/tekton.md",
	}
}

// corpusFiles pairs names that a page speaks of with the checkpoints that stand
// for them; a name with none is not there.
func corpusFiles(pairs ...string) map[string]pageFile {
	out := map[string]pageFile{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pageFile{checkpoint: pairs[i+1]}
	}
	return out
}

// TestDocs runs every command of the pages, in their order, in one shell with
// the real programs, and compares what is shown of their output.
func TestDocs(t *testing.T) {
	t.Parallel()
	for name, page := range docPages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page.run(t)
		})
	}
}

// TestHelmHowto runs the page of Helm with both of them.
func TestHelmHowto(t *testing.T) {
	t.Parallel()
	for _, helm := range []string{"helm3", "helm4"} {
		t.Run(helm, func(t *testing.T) {
			t.Parallel()
			docPage{
				path: "docs/howto/helm.md", least: 9, programs: map[string]string{"helm": realtools.Path(t, helm)},
				files: map[string]pageFile{
					"my-chart/Chart.yaml":         {text: "apiVersion: v2\nname: mine\nversion: 0.1.0\n"},
					"my-chart/templates/uri.yaml": {text: "  uri: oci://{{ .Values.model.reference }}\n"},
				},
			}.run(t)
		})
	}
}

// TestRegistryHowto runs docs/howto/registry.md with a real registry that has
// TLS and a password.
func TestRegistryHowto(t *testing.T) {
	t.Parallel()
	sec := realtools.NewSecurity(t, "user", "secret")
	ca, err := os.ReadFile(sec.CA)
	if err != nil {
		t.Fatal(err)
	}
	files := corpusFiles("my-model/pytorch_model.bin", "bert_tiny.bin", "same-model/pytorch_model.bin", "bert_tiny.bin", "other-model/pytorch_model.bin", "gpt2_tiny.bin")
	maps.Copy(files, map[string]pageFile{
		"ca.pem": {text: string(ca)}, "password": {text: "secret\n"}, "same-model/README.md": {text: "# A model\n"},
		"my-model/config.json": {text: bertConfig}, "same-model/config.json": {text: bertConfig}, "other-model/config.json": {text: bertConfig},
	})
	docPage{path: "docs/howto/registry.md", least: 14, registry: realtools.SecuredRegistry(t, sec), files: files}.run(t)
}

const bertConfig = `{"model_type": "bert"}`

// TestDocsAreRun: each page with commands is run by a test, and commands stand
// in blocks that are run.
func TestDocsAreRun(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(checkout, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "reference") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if filepath.Ext(p) != ".md" {
			return nil
		}
		page, err := filepath.Rel(checkout, p)
		if err != nil {
			return err
		}
		_, run := docPages()[page]
		run = run || slices.Contains(pagesOfOthers(), page)
		for _, b := range blocks(t, page) {
			switch {
			case b.kind == "sh" && !run:
				t.Errorf("%s:%d: no test runs this page", page, b.line)
			case b.kind == "" && command.MatchString(b.body):
				t.Errorf("%s:%d: commands in a block that is not of sh", page, b.line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
