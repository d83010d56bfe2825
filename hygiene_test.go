package weightseal_test

import (
	"bytes"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// repositoryFiles lists what is tracked and what could be: all that git does
// not ignore. Without git, or outside a checkout, it lists every file.
func repositoryFiles(t *testing.T) []string {
	t.Helper()
	if out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output(); err == nil {
		var files []string
		for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
			if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() {
				files = append(files, name)
			}
		}
		return files
	}
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "bench/out"}, filepath.ToSlash(name)):
			return fs.SkipDir
		case d.Type().IsRegular():
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// isText is what git asks too: no NUL in the beginning.
func isText(b []byte) bool {
	head := b[:min(len(b), 8000)]
	return bytes.IndexByte(head, 0) < 0 && utf8.Valid(b)
}

// machinePaths finds folders of whoever wrote a file: they exist nowhere else.
// A folder in the file system's root is taken for one when it is where people
// work or live.
var machinePaths = regexp.MustCompile(`(?:^|[\s"'` + "`" + `=:(,>])/(?:work|root|home/[a-z][a-z0-9_-]*|Users/[A-Za-z][A-Za-z0-9_-]*)/[\w.+-]+`)

// mirrors lists the hosts that this machine fetches packages through. What
// they are called is this machine's business.
func mirrors(t *testing.T) []string {
	t.Helper()
	var hosts []string
	add := func(address string) {
		u, err := url.Parse(strings.TrimSpace(address))
		if err == nil && strings.Contains(u.Hostname(), ".") && u.Hostname() != "127.0.0.1" {
			hosts = append(hosts, u.Hostname())
		}
	}
	out, err := exec.Command("go", "env", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.FieldsFunc(string(out), func(r rune) bool { return strings.ContainsRune(",| \n", r) }) {
		add(field)
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		add(os.Getenv(name))
	}
	return hosts
}

func TestNothingOfThisMachineIsCommitted(t *testing.T) {
	t.Parallel()
	hosts := mirrors(t)
	files := repositoryFiles(t)
	if len(files) < 100 {
		t.Fatalf("only %d files found in the repository", len(files))
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !isText(b) {
			continue
		}
		for i, line := range strings.Split(string(b), "\n") {
			if m := machinePaths.FindString(line); m != "" {
				t.Errorf("%s:%d: a path of the machine it was written on: %s", name, i+1, strings.TrimSpace(m))
			}
			for _, host := range hosts {
				if strings.Contains(line, host) {
					t.Errorf("%s:%d: the name of a package mirror: %s", name, i+1, host)
				}
			}
		}
	}
}

func TestMachinePathsFire(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"see " + "/ro" + "ot/.cache/x":         true,
		`"` + "/wo" + `rk/tree/file"`:          true,
		"out=" + "/ho" + "me/someone/models/a": true,
		"https://host.example/work/tree":       false,
		"a/root/b":                             false,
		"the path /work/ alone":                false,
		"testdata/home/x/y":                    false,
	} {
		if got := machinePaths.MatchString(text); got != want {
			t.Errorf("%q: found %v, want %v", text, got, want)
		}
	}
}

// TestNoSecretsCommitted: a private key in the repository is either a leak or,
// made for tests, one that people would copy.
func TestNoSecretsCommitted(t *testing.T) {
	t.Parallel()
	begin := []byte("-----BEGIN ENCRYPTED " + "SIGSTORE PRIVATE KEY")
	plain := regexp.MustCompile(`-----BEGIN (EC |RSA |OPENSSH )?PRIVATE` + ` KEY-----`)
	for _, name := range repositoryFiles(t) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, begin) || plain.Match(b) {
			t.Errorf("%s holds a private key: make keys where they are used", name)
		}
	}
}

// TestScriptsRun: what is meant to be run can be, and says with what.
func TestScriptsRun(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		".ci/run", "bench/run", "bench/scanners", "tools/build", "tools/debian", "tools/fuzz", "tools/plugin-hook", "tools/reproducible",
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode()&0o111 == 0 {
			t.Errorf("%s is not executable", name)
		}
		if b, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(b, []byte("#!/")) {
			t.Errorf("%s does not begin with #! (%v)", name, err)
		}
	}
}

func TestLicence(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("LICENSE does not hold %q", want)
		}
	}
}

// TestDocsLinksLead: a relative link in a document leads to a file.
func TestDocsLinksLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, name := range repositoryFiles(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, target)
			}
		}
	}
}
