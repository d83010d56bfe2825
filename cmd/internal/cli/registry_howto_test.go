package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weightseal/weightseal/internal/realtools"
)

// TestRegistryHowto runs docs/howto/registry.md with a real registry that has
// TLS and a password.
func TestRegistryHowto(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/howto/registry.md")
	if err != nil {
		t.Fatal(err)
	}
	script, commands := howtoScript(t, string(page))
	if commands < 14 {
		t.Fatalf("registry.md has %d commands: are its blocks still found?", commands)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "registry.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	sec := realtools.NewSecurity(t, "user", "secret")
	addr := realtools.SecuredRegistry(t, sec)
	ca, err := os.ReadFile(sec.CA)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"ca.pem": ca, "password": []byte("secret\n"), "same-model/README.md": []byte("# A model\n"),
		"my-model/pytorch_model.bin":    readCorpus(t, "checkpoints/bert_tiny.bin"),
		"same-model/pytorch_model.bin":  readCorpus(t, "checkpoints/bert_tiny.bin"),
		"other-model/pytorch_model.bin": readCorpus(t, "checkpoints/gpt2_tiny.bin"),
	}
	for _, model := range []string{"my-model", "same-model", "other-model"} {
		files[model+"/config.json"] = []byte(`{"model_type": "bert"}`)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("REG", addr)
			env.Setenv("COSIGN_PASSWORD", "secret")
			for name, content := range files {
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
