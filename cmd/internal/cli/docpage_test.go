//go:build unix

package cli

import (
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
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

var (
	fence    = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	saved    = regexp.MustCompile(`\A# ([a-z-]+\.[a-z]+)\n`)
	command  = regexp.MustCompile(`(?m)^(\$ )?(weightseal|docker|helm|kubectl|cosign|oras|make|curl|git|echo|export|sh) `)
	exitCode = regexp.MustCompile(`(?m)^(.*?)\s+# exit code (\d+)$`)
	heredoc  = regexp.MustCompile(`<<'?([A-Z]+)'?`)
)

// block is a fenced block of a page. What is to be saved says so in its first
// line: # NAME.
type block struct {
	kind, body string
	line       int
}

func blocks(tb testing.TB, page string) []block {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, page))
	if err != nil {
		tb.Fatal(err)
	}
	var out []block
	for _, at := range fence.FindAllStringSubmatchIndex(string(text), -1) {
		part := func(i int) string { return string(text[at[2*i]:at[2*i+1]]) }
		out = append(out, block{part(1), part(2), 1 + strings.Count(string(text[:at[0]]), "\n")})
	}
	return out
}

// docPage is a page of the documentation, and what it takes for granted beside
// the programs and a model.
type docPage struct {
	path     string            // from the top of the checkout
	least    int               // commands that it has at least; 0 for one
	registry string            // what $REG and registry.example stand for; an embedded one where this is empty
	programs map[string]string // by name, in place of those that every page has
	files    map[string]pageFile
	env      []string
	then     []block // run after the page's own
}

// pageFile is a file that a page speaks of: a checkpoint of the corpus, or a
// text; neither where a page is not to have it.
type pageFile struct{ checkpoint, text string }

// run runs the page's commands in one shell, in their order.
func (p docPage) run(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	p.put(t, home)
	if p.registry == "" {
		r, err := embedded.Start(context.Background(), true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		p.registry = r.Addr
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", p.script(t, home))
	cmd.Dir = home
	cmd.Env = p.environ(t, home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// script is the page as one shell script.
func (p docPage) script(t *testing.T, home string) string {
	t.Helper()
	var script strings.Builder
	fmt.Fprintf(&script, docPrelude, p.path, filepath.Join(home, ".out"), filepath.Join(home, ".err"))
	commands := 0
	for _, b := range append(blocks(t, p.path), p.then...) {
		body := strings.ReplaceAll(b.body, "registry.example.com", p.registry)
		body = strings.ReplaceAll(body, "registry.example", p.registry)
		if m := saved.FindStringSubmatch(body); m != nil && b.kind != "sh" {
			fmt.Fprintf(&script, "cat >%s <<'__END__'\n%s__END__\n", m[1], body)
		}
		switch b.kind {
		case "sh":
			for _, c := range shellCommands(body) {
				c, code := exitOf(c)
				fmt.Fprintf(&script, "__run %d %s <<'__END__'\n%s\n__END__\n", b.line, code, c)
				commands++
			}
		case "python":
			fmt.Fprintf(&script, "__run %d 0 <<'__END__'\n\"$PYTHON3\" - <<'__PYTHON__'\n%s__PYTHON__\n__END__\n", b.line, body)
		case "text":
			fmt.Fprintf(&script, "__shows %d <<'__END__'\n%s__END__\n", b.line, body)
		default:
			parseBlock(t, p.path, b)
		}
	}
	if commands < max(p.least, 1) {
		t.Fatalf("%s has %d commands: are its blocks still found?", p.path, commands)
	}
	return script.String()
}

// docPrelude defines how a command is run, and how output is compared: each
// line of a text block begins a line of what the last command printed, on the
// stream where it belongs, and "..." in it stands for anything.
const docPrelude = `set -o pipefail
page=%s out=%s err=%s
__run() {
	command=$(cat)
	case $command in make\ *) command="make -n -C \"$CHECKOUT\" ${command#make }" ;; esac
	{ eval "$command"; } >"$out" 2>"$err" </dev/null
	code=$?
	[ $code = $2 ] || { echo "$page:$1: exit code $code, want $2: $command"; cat "$out" "$err"; exit 1; }
}
__shows() {
	while IFS= read -r line; do
		case $line in hint:\ *|error:\ *|refused:\ *|PASSED,*|*converted\ from*|convert\ \ *) stream=$err ;; *) stream=$out ;; esac
		LINE=$line awk '
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
		' "$stream" || { echo "$page:$1: not printed: $line"; cat "$out" "$err"; exit 1; }
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

// put makes what the page takes for granted.
func (p docPage) put(t *testing.T, home string) {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Fatalf("kubectl is missing: `make test-deps` installs it (%v)", err)
	}
	programs := map[string]string{
		program: builtProgram(t), "docker": docker(t), "kubectl": kubectl, "helm": realtools.Path(t, "helm4"),
		"oras": realtools.Path(t, "oras"), "cosign2": realtools.Path(t, "cosign2"), "cosign": realtools.Path(t, "cosign3"),
	}
	maps.Copy(programs, p.programs)
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range programs {
		if err := os.Symlink(path, filepath.Join(home, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]pageFile{"my-model/pytorch_model.bin": {text: string(demoCheckpoint)}, "my-model/config.json": {text: strings.TrimSpace(demoConfig)}}
	maps.Copy(files, p.files)
	for name, f := range files {
		content := []byte(f.text)
		if f.checkpoint != "" {
			content = readCorpus(t, "checkpoints/"+f.checkpoint)
		} else if f.text == "" {
			continue
		}
		target, err := makeParent(home, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p docPage) environ(t *testing.T, home string) []string {
	t.Helper()
	top, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	env := append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GITHUB_") }),
		"HOME="+home, "DOCKER_CONFIG="+home+"/.docker", "KUBECONFIG="+home+"/.kube/config", "COSIGN_PASSWORD="+keyPassword,
		"HELM_DATA_HOME="+home+"/data", "HELM_CACHE_HOME="+home+"/cache", "HELM_CONFIG_HOME="+home+"/config",
		"CHECKOUT="+top, "GITHUB_STEP_SUMMARY="+home+"/summary.md", "REG="+p.registry, "PYTHON3="+realtools.Python(t),
		"PATH="+filepath.Join(home, "bin")+":"+filepath.Join(home, ".local/bin")+":"+os.Getenv("PATH"))
	return append(env, p.env...)
}
