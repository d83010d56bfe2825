package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/internal/embedded"
	"github.com/weightseal/weightseal/internal/realtools"
)

var update = flag.Bool("update", false, "rewrite the golden parts of the scripts")

// tidy removes what tests share when all have run.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	// Most tests wait for other processes or for a second try at a registry
	// that fails. A flag on the command line has the last word.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	defer func() {
		if dir, err := keys(); err == nil {
			os.RemoveAll(dir)
		}
	}()
	return m.M.Run()
}

func TestMain(m *testing.M) {
	testscript.Main(tidy{m}, map[string]func(){
		program: func() { os.Exit(Main(os.Args, os.Environ())) },
	})
}

// TestScripts runs the scripts of testdata/script: each is a session at the
// command line, with the real binary in a process of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	corpus, err := filepath.Abs("../../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	tools := map[string]string{}
	for _, name := range []string{"oras", "crane", "cosign2", "cosign3"} {
		tools[name] = realtools.Path(t, name)
	}
	torch := realtools.Python(t)
	scripts, err := filepath.Abs("testdata/python")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("COSIGN_PASSWORD", "secret")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("CORPUS", corpus)
			env.Setenv("PYTHON3", torch)
			env.Setenv("PYTHON", scripts)
			env.Setenv("TYPE", attest.PredicateType)
			for name, path := range tools {
				env.Setenv(strings.ToUpper(name), path)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    cmdExits,
			"registry": func(ts *testscript.TestScript, neg bool, args []string) { cmdRegistry(t, ts, neg, args) },
			"lastline": cmdLastLine,
			"poke":     cmdPoke,
			"clean":    cmdClean,
			"envfile":  cmdEnvFile,
		},
	})
}

// cmdExits runs a command and wants its exit code: exits 3 weightseal scan x
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdRegistry starts a registry for the script: registry REG (variable that
// gets host:port). It is the embedded one, with -no-referrers without that API,
// with -distribution a real one, with -secured a real one with TLS (its CA is in
// VARIABLE_CA) that lets in "user" with the password "secret".
func cmdRegistry(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry VARIABLE [-no-referrers | -distribution | -secured]")
	}
	if args[len(args)-1] == "-secured" {
		sec := realtools.NewSecurity(t, "user", "secret")
		ts.Setenv(args[0], realtools.SecuredRegistry(t, sec))
		ts.Setenv(args[0]+"_CA", sec.CA)
		return
	}
	if args[len(args)-1] == "-distribution" {
		ts.Setenv(args[0], realtools.Registry(t))
		return
	}
	r, err := embedded.Start(context.Background(), len(args) == 1)
	ts.Check(err)
	ts.Defer(func() { r.Close() })
	ts.Setenv(args[0], r.Addr)
}

// cmdLastLine puts the last line of the last standard output into a variable.
func cmdLastLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lastline VARIABLE")
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	ts.Setenv(args[0], lines[len(lines)-1])
}

// cmdEnvFile puts the content of a file into a variable: envfile VARIABLE FILE
func cmdEnvFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: envfile VARIABLE FILE")
	}
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}

// cmdPoke overwrites bytes of a file: poke FILE OFFSET TEXT
func cmdPoke(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: poke FILE OFFSET TEXT")
	}
	off, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt([]byte(args[2]), off)
	ts.Check(errors.Join(err, f.Close()))
}

// cmdClean wants a directory to hold nothing but what is listed: no partial or
// staging file was left behind.
func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: clean DIR [NAME...]")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got bytes.Buffer
	for _, e := range entries {
		got.WriteString(" " + e.Name())
	}
	want := ""
	for _, a := range args[1:] {
		want += " " + a
	}
	if got.String() != want {
		ts.Fatalf("%s holds%s, want%s", args[0], got.String(), want)
	}
}
