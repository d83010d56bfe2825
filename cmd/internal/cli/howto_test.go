package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weightseal/weightseal/internal/realtools"
)

// howtoFiles are the files that docs/convert.md speaks of, and those of the
// corpus that stand for them.
func howtoFiles() map[string]string {
	return map[string]string{
		"checkpoint.ckpt":            "lightning.ckpt",
		"module.pt":                  "module.pt",
		"weights.npz":                "arrays.npz",
		"weights.joblib":             "joblib_zlib.joblib",
		"weights.h5":                 "keras_like.h5",
		"array.npy":                  "array.npy",
		"big.pt":                     "many.pt",
		"quantized.pt":               "quantized.pt",
		"sparse.pt":                  "sparse.pt",
		"my-model/pytorch_model.bin": "tied.pt",
		"my-model/extra.npz":         "arrays.npz",
	}
}

// TestConvertHowto runs docs/convert.md: the commands of its sh blocks with
// the exit codes beside them, what its text blocks show of the output of the
// command before, and its Python.
func TestConvertHowto(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/convert.md")
	if err != nil {
		t.Fatal(err)
	}
	script, commands := howtoScript(t, string(doc))
	if commands < 25 {
		t.Fatalf("docs/convert.md has %d commands: are its blocks still found?", commands)
	}
	runPage(t, script, howtoFiles())
}

// TestTerminalPage runs docs/terminal.md in the same way.
func TestTerminalPage(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/terminal.md")
	if err != nil {
		t.Fatal(err)
	}
	script, commands := howtoScript(t, string(doc))
	if commands < 10 {
		t.Fatalf("docs/terminal.md has %d commands: are its blocks still found?", commands)
	}
	runPage(t, script, map[string]string{"my-model/pytorch_model.bin": "gpt2_tiny.bin"})
}

// runPage runs the script of a page beside files of the corpus.
func runPage(t *testing.T, script string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	python := realtools.Python(t)
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COSIGN_PASSWORD", keyPassword)
			env.Setenv("PYTHON3", python)
			for name, from := range files {
				content, err := os.ReadFile(filepath.Join("../../../testdata/checkpoints", from))
				if err != nil {
					return err
				}
				target, err := makeParent(env.WorkDir, name)
				if err != nil {
					return err
				}
				if err := os.WriteFile(target, content, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits},
	})
}

// howtoScript makes a script of the fenced blocks of a page, and counts its
// commands.
func howtoScript(t *testing.T, page string) (script string, commands int) {
	t.Helper()
	var run, files strings.Builder
	exit := regexp.MustCompile(`^(.*?)\s+# exit code (\d+)$`)
	for i, block := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		switch kind, body := block[1], block[2]; kind {
		case "sh":
			for line := range strings.Lines(body) {
				command, code := strings.TrimSpace(line), "0"
				if m := exit.FindStringSubmatch(command); m != nil {
					command, code = m[1], m[2]
				}
				// What a shell needs quoted has no space: the script's own language
				// has no double quotes, and needs none.
				command = regexp.MustCompile(`"([^" ]*)"`).ReplaceAllString(command, "$1")
				if line, file, ok := strings.Cut(command, " < "); ok {
					fmt.Fprintf(&run, "stdin %s\n", file)
					command = line
				}
				fmt.Fprintf(&run, "exits %s %s\n", code, command)
				commands++
			}
		case "text":
			for line := range strings.Lines(body) {
				line = strings.TrimSuffix(line, "\n")
				stream := "stdout"
				if strings.HasPrefix(line, "hint: ") || strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "convert  ") {
					stream = "stderr"
				}
				fmt.Fprintf(&run, "%s '(?m)^%s'\n", stream, strings.ReplaceAll(regexp.QuoteMeta(line), "'", "''"))
			}
		case "python":
			fmt.Fprintf(&run, "exec $PYTHON3 block%d.py\n", i)
			fmt.Fprintf(&files, "-- block%d.py --\n%s", i, body)
		default:
			t.Errorf("docs/convert.md has a block of %q, which nothing runs", kind)
		}
	}
	return run.String() + files.String(), commands
}
