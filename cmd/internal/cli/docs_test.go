//go:build unix

package cli

import (
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weightseal/weightseal/internal/embedded"
	"github.com/weightseal/weightseal/internal/realtools"
)

// docPages are the pages that TestDocs runs.
func docPages() []string {
	return []string{"README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/scanner.md", "docs/statement.md"}
}

// pagesOfOthers are run by a test of their own, since they need more: hosts, an
// API server, a runner of pipelines.
func pagesOfOthers() []string {
	return []string{
		"docs/convert.md", "docs/terminal.md", "docs/howto/docker.md", "docs/howto/helm.md", "docs/howto/kubectl.md", "docs/howto/registry.md",
		"docs/howto/argo.md", "docs/howto/github.md", "docs/howto/gitlab.md", "docs/howto/jenkins.md", "docs/howto/pre-commit.md", "docs/howto/tekton.md",
	}
}

// TestDocs runs every command of the pages, in their order, in one shell with
// the real programs, and compares what is shown of their output.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, page := range docPages() {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			home := docHome(t)
			r, err := embedded.Start(context.Background(), true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			script := docScript(t, page, home, r.Addr)
			cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
			cmd.Dir = home
			cmd.Env = docEnv(t, home)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

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
		run := slices.Contains(docPages(), page) || slices.Contains(pagesOfOthers(), page)
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

var (
	fence    = regexp.MustCompile("(?ms)^(?:<!-- file: (\\S+) -->\n)?```([a-z]*)\n(.*?)^```$")
	command  = regexp.MustCompile(`(?m)^(\$ )?(weightseal|docker|helm|kubectl|cosign|oras|make|curl|git|echo|export|sh) `)
	exitCode = regexp.MustCompile(`(?m)^(.*?)\s+# exit code (\d+)$`)
	heredoc  = regexp.MustCompile(`<<'?([A-Z]+)'?`)
)

// block is a fenced block of a page. file is where it says that its text is
// saved: <!-- file: NAME --> in the line before.
type block struct {
	file, kind, body string
	line             int
}

func blocks(tb testing.TB, page string) []block {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, page))
	if err != nil {
		tb.Fatal(err)
	}
	var out []block
	for _, at := range fence.FindAllStringSubmatchIndex(string(text), -1) {
		part := func(i int) string {
			if at[2*i] < 0 {
				return ""
			}
			return string(text[at[2*i]:at[2*i+1]])
		}
		out = append(out, block{part(1), part(2), part(3), 1 + strings.Count(string(text[:at[0]]), "\n")})
	}
	return out
}

// docScript is a page as one shell script. registry.example, which pages speak
// of, is the registry at addr.
func docScript(t *testing.T, page, home, addr string) string {
	t.Helper()
	var script strings.Builder
	fmt.Fprintf(&script, docPrelude, page, filepath.Join(home, ".out"), filepath.Join(home, ".err"))
	commands := 0
	for _, b := range blocks(t, page) {
		body := strings.ReplaceAll(b.body, "registry.example.com", addr)
		body = strings.ReplaceAll(body, "registry.example", addr)
		if b.file != "" {
			fmt.Fprintf(&script, "mkdir -p \"$(dirname %s)\"; cat >%s <<'__END__'\n%s__END__\n", b.file, b.file, body)
		}
		switch b.kind {
		case "sh":
			for _, c := range shellCommands(body) {
				c, code := exitOf(c)
				fmt.Fprintf(&script, "__run %d %s <<'__END__'\n%s\n__END__\n", b.line, code, c)
				commands++
			}
		case "text":
			fmt.Fprintf(&script, "__shows %d <<'__END__'\n%s__END__\n", b.line, body)
		default:
			parseBlock(t, page, b)
		}
	}
	if commands == 0 {
		t.Fatalf("%s has no commands: are its blocks still found?", page)
	}
	return script.String()
}

// docPrelude defines how a command is run, and how output is compared: each
// line of a text block begins a line of what the last command printed, and
// "..." in it stands for anything.
const docPrelude = `page=%s out=%s err=%s
__run() {
	command=$(cat)
	case $command in make\ *) command="make -n -C \"$CHECKOUT\" ${command#make }" ;; esac
	{ eval "$command"; } >"$out" 2>"$err" </dev/null
	code=$?
	[ $code = $2 ] || { echo "$page:$1: exit code $code, want $2: $command"; cat "$out" "$err"; exit 1; }
}
__shows() {
	while IFS= read -r line; do
		cat "$out" "$err" | LINE=$line awk '
			BEGIN { n = split(ENVIRON["LINE"], part, /\.\.\./) }
			{
				rest = $0; good = index(rest, part[1]) == 1
				for (i = 1; good && i <= n; i++) {
					at = index(rest, part[i]); good = part[i] == "" || at > 0
					if (part[i] != "") rest = substr(rest, at + length(part[i]))
				}
				if (good) found = 1
			}
			END { exit !found }
		' || { echo "$page:$1: not printed: $line"; cat "$out" "$err"; exit 1; }
	done
}
`

// shellCommands splits a block into commands: a line, with those that a
// backslash or a here document joins to it.
func shellCommands(body string) []string {
	var out []string
	lines := strings.Split(strings.TrimRight(body, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		c := lines[i]
		for strings.HasSuffix(c, `\`) && i+1 < len(lines) {
			i++
			c += "\n" + lines[i]
		}
		if m := heredoc.FindStringSubmatch(c); m != nil {
			for i+1 < len(lines) {
				i++
				c += "\n" + lines[i]
				if lines[i] == m[1] {
					break
				}
			}
		}
		if s := strings.TrimSpace(c); s != "" && !strings.HasPrefix(s, "#") {
			out = append(out, c)
		}
	}
	return out
}

// exitOf takes the exit code that a command's comment promises.
func exitOf(c string) (command, code string) {
	if m := exitCode.FindStringSubmatch(c); m != nil {
		return exitCode.ReplaceAllString(c, "$1"), m[2]
	}
	return c, "0"
}

// parseBlock checks what is shown and not run.
func parseBlock(t *testing.T, page string, b block) {
	t.Helper()
	var err error
	switch b.kind {
	case "yaml", "json":
		var v any
		err = yaml.Unmarshal([]byte(b.body), &v)
	case "go":
		_, err = parser.ParseFile(token.NewFileSet(), "", "package p\nfunc f() {\n"+b.body+"}", 0)
	case "", "rego":
	default:
		err = fmt.Errorf("a block of %q, which nothing reads", b.kind)
	}
	if err != nil {
		t.Errorf("%s:%d: %v", page, b.line, err)
	}
}

// docHome is what pages take for granted: a model and the programs.
func docHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	bin := filepath.Join(home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Fatalf("kubectl is missing: `make test-deps` installs it (%v)", err)
	}
	for name, path := range map[string]string{
		program: builtProgram(t), "docker": docker(t), "kubectl": kubectl, "helm": realtools.Path(t, "helm4"),
		"oras": realtools.Path(t, "oras"), "cosign2": realtools.Path(t, "cosign2"), "cosign": realtools.Path(t, "cosign3"),
	} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, content []byte) {
		target, err := makeParent(home, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("my-model/pytorch_model.bin", demoCheckpoint)
	put("my-model/config.json", []byte(demoConfig))
	return home
}

func docEnv(t *testing.T, home string) []string {
	t.Helper()
	top, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GITHUB_") }),
		"HOME="+home, "DOCKER_CONFIG="+home+"/.docker", "KUBECONFIG="+home+"/.kube/config", "COSIGN_PASSWORD=secret",
		"HELM_DATA_HOME="+home+"/data", "HELM_CACHE_HOME="+home+"/cache", "HELM_CONFIG_HOME="+home+"/config",
		"CHECKOUT="+top, "GITHUB_STEP_SUMMARY="+home+"/summary.md",
		"PATH="+filepath.Join(home, "bin")+":"+filepath.Join(home, ".local/bin")+":"+os.Getenv("PATH"))
}
