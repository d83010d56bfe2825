package cli

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weightseal/weightseal/internal/embedded"
)

// demoCheckpoint is a real one: a small BERT with tied weights, saved by
// torch.save.
//
//go:embed demo/pytorch_model.bin
var demoCheckpoint []byte

// demoPickle names os.system and would call it in a real unpickler. It is only
// ever looked at; the command in it does nothing but print a word.
const demoPickle = "\x80\x02cposix\nsystem\nX\x0b\x00\x00\x00echo picked\x85R."

const demoConfig = `{"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 32}
`

func newDemo(s *streams) *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole line on an embedded registry",
		Long: `Run the main job on a registry inside this process: a pickled model goes in, a signed
and verified safetensors model comes out, and a malicious one is refused. Nothing needs
to be installed, and nothing is left behind unless --keep names a directory.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), s, keep) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "new `directory` to work in, and to leave")
	return cmd
}

func runDemo(ctx context.Context, s *streams, keep string) error {
	dir, err := demoDir(keep)
	if err != nil {
		return err
	}
	if keep == "" {
		defer os.RemoveAll(dir)
	}
	if err := demoFiles(dir); err != nil {
		return err
	}
	registry, err := embedded.Start(ctx, true)
	if err != nil {
		return err
	}
	defer registry.Close()
	d := &demo{s: s, dir: dir, ref: registry.Addr + "/team/bert-tiny:v1"}
	return d.run(ctx)
}

func demoDir(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "weightseal-demo-*")
	}
	return keep, os.Mkdir(keep, 0o755)
}

func demoFiles(dir string) error {
	var errs []error
	for name, content := range map[string][]byte{
		"my-model/pytorch_model.bin": demoCheckpoint,
		"my-model/config.json":       []byte(demoConfig),
		"my-model/README.md":         []byte("# A tiny BERT\n"),
		"evil/pytorch_model.bin":     []byte(demoPickle),
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644))
	}
	return errors.Join(errs...)
}

// demo runs our own commands as a user would, in this process.
type demo struct {
	s        *streams
	dir, ref string
}

func (d *demo) run(ctx context.Context) error {
	key, pub := filepath.Join(d.dir, "cosign.key"), filepath.Join(d.dir, "cosign.pub")
	in, out := filepath.Join(d.dir, "my-model"), filepath.Join(d.dir, "out")
	for _, step := range []struct {
		title string
		want  int
		args  []string
	}{
		{"A model as people have it: torch.save, a pickle inside.", exitOK, []string{"scan", in, "--fail-on", "review"}},
		{"A key to sign with.", exitOK, []string{"keygen", "--output-key-prefix", filepath.Join(d.dir, "cosign")}},
		{"Push: converted on the way, attested, signed.", exitOK, []string{"push", in, d.ref, "--key", key, "--plain-http"}},
		{"The gate: verify without the weights.", exitOK, []string{"verify", d.ref, "--key", pub, "--plain-http"}},
		{"Pull: verified before anything gets its name.", exitOK, []string{"pull", d.ref, out, "--key", pub, "--plain-http"}},
		{"Nothing was lost: the same weights, bit for bit.", exitOK, []string{"diff", filepath.Join(in, "pytorch_model.bin"), filepath.Join(out, "model.safetensors")}},
		{"And one that would run a command when it is loaded.", exitPolicy, []string{"push", filepath.Join(d.dir, "evil"), d.ref + "-evil", "--key", key, "--plain-http"}},
	} {
		if err := d.step(ctx, step.title, step.want, step.args); err != nil {
			return err
		}
	}
	fmt.Fprintln(d.s.out, "\nDone: a pickle went in, verified safetensors came out; the malicious one was refused.")
	return nil
}

func (d *demo) step(ctx context.Context, title string, want int, args []string) error {
	shown := strings.ReplaceAll(strings.Join(args, " "), d.dir+string(filepath.Separator), "")
	fmt.Fprintf(d.s.out, "\n# %s\n$ %s %s\n", title, program, shown)
	var output bytes.Buffer
	env := map[string]string{"COSIGN_PASSWORD": "demo", "PATH": d.s.getenv("PATH"), "HOME": d.dir}
	code := run(ctx, append([]string{program}, args...), &streams{in: strings.NewReader(""), out: &output, err: &output, env: env, quiet: true})
	text := strings.ReplaceAll(output.String(), d.dir+string(filepath.Separator), "")
	if _, err := io.WriteString(d.s.out, text); err != nil {
		return err
	}
	if code != want {
		return fail(exitError, fmt.Errorf("%s ended with exit code %d, not %d", args[0], code, want))
	}
	if code != exitOK {
		fmt.Fprintf(d.s.out, "(exit code %d)\n", code)
	}
	return ctx.Err()
}
