package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weightseal/weightseal/attest"
	"github.com/weightseal/weightseal/internal/embedded"
	"github.com/weightseal/weightseal/internal/faultproxy"
)

const (
	corpus      = "../../../testdata"
	keyPassword = "secret"
)

// result is what a command line came to.
type result struct {
	code     int
	out, err string
}

// execute runs a command line in this process.
func execute(tb testing.TB, args ...string) result {
	tb.Helper()
	return executeContext(tb.Context(), args...)
}

func executeContext(ctx context.Context, args ...string) result {
	var out, errs bytes.Buffer
	code := run(ctx, append([]string{program}, args...), &streams{
		in: strings.NewReader(""), out: &out, err: &errs, env: map[string]string{"COSIGN_PASSWORD": keyPassword},
	})
	return result{code, out.String(), errs.String()}
}

// failed wants a command to have ended with one of the codes, with nothing on
// standard output and with a cause on standard error that holds all parts.
func (r result) failed(tb testing.TB, codes []int, parts ...string) {
	tb.Helper()
	if !slices.Contains(codes, r.code) {
		tb.Errorf("exit code %d, want one of %v\n%s", r.code, codes, r.err)
	}
	if r.out != "" {
		tb.Errorf("a failure wrote to standard output: %q", r.out)
	}
	if !strings.HasPrefix(r.err, "error: ") && !strings.Contains(r.err, "\nerror: ") {
		tb.Errorf("no cause on standard error: %q", r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.err, part) {
			tb.Errorf("standard error lacks %q:\n%s", part, r.err)
		}
	}
}

// succeeded wants exit code 0.
func (r result) succeeded(tb testing.TB) {
	tb.Helper()
	if r.code != exitOK {
		tb.Fatalf("exit code %d\n%s", r.code, r.err)
	}
}

// codes is a list of exit codes to choose from.
func codes(list ...int) []int { return list }

// holds wants a directory to hold these names and no others; a directory that
// is not there holds none.
func holds(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		tb.Errorf("%s holds %q, want %q", dir, got, names)
	}
}

func readCorpus(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(corpus, filepath.FromSlash(path)))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// place puts files into a new directory and gives its path.
func placed(tb testing.TB, files map[string][]byte) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "m")
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// keys makes two key pairs for the tests of this package: NAME.key, NAME.pub.
var keys = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weightseal-keys")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"ours", "other"} {
		private, public, err := attest.GenerateKey([]byte(keyPassword))
		if err != nil {
			return dir, err
		}
		for ext, b := range map[string][]byte{".key": private, ".pub": public} {
			if err := os.WriteFile(filepath.Join(dir, name+ext), b, 0o600); err != nil {
				return dir, err
			}
		}
	}
	return dir, nil
})

func keyFile(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := keys()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// watched starts a registry with a proxy before it, which sees every request.
func watched(tb testing.TB) *faultproxy.Proxy {
	tb.Helper()
	r, err := embedded.Start(context.Background(), true)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return faultproxy.Start(tb, r.Addr)
}

// untouched wants no request that writes to have reached the registry.
func untouched(tb testing.TB, p *faultproxy.Proxy) {
	tb.Helper()
	for _, method := range []string{"POST ", "PUT ", "PATCH ", "DELETE "} {
		if sent := p.Requests(method); len(sent) > 0 {
			tb.Errorf("the registry was written to: %q", sent)
		}
	}
}

// untagged wants no manifest to have been stored under the tag.
func untagged(tb testing.TB, p *faultproxy.Proxy, tag string) {
	tb.Helper()
	p.Set()
	parts := strings.SplitN(tag, ":", 2)
	r := execute(tb, "inspect", p.Addr+"/"+parts[0]+":"+parts[1], "--plain-http")
	r.failed(tb, codes(exitNetwork), "404")
}

// TestHostileCheckpoints puts every hand-made file through convert and push:
// what the manifest says is to be rejected is, with the code of a policy or of
// a conversion, and leaves nothing. Never is it an unexpected error.
func TestHostileCheckpoints(t *testing.T) {
	t.Parallel()
	var manifest map[string]struct{ Outcome, Why string }
	if err := json.Unmarshal(readCorpus(t, "checkpoints/handmade/manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	rejected := 0
	for name, m := range manifest {
		if strings.HasPrefix(name, "good/") {
			continue
		}
		allowed := codes(exitOK, exitPolicy, exitLossy)
		if m.Outcome == "reject" {
			rejected++
			allowed = allowed[1:]
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := placed(t, map[string][]byte{filepath.Base(name): readCorpus(t, "checkpoints/handmade/"+name)})
			hostile(t, dir, filepath.Base(name), allowed)
		})
	}
	if rejected < 90 {
		t.Errorf("%d files are to be rejected: is the corpus complete?", rejected)
	}
}

// hostile scans, converts and pushes the one file of a directory.
func hostile(t *testing.T, dir, name string, allowed []int) {
	t.Helper()
	out := t.TempDir()
	emptied(t, filepath.Join(out, "c", "x.safetensors"))
	outputs := map[string]string{"convert": "c/x.safetensors", "convert-dir": "d", "push": "layout"}
	for verb, args := range map[string][]string{
		"scan":        {"scan", dir},
		"convert":     {"convert", filepath.Join(dir, name), filepath.Join(out, "c", "x.safetensors")},
		"convert-dir": {"convert", dir, filepath.Join(out, "d")},
		"push":        {"push", "--no-sign", dir, "oci:" + filepath.Join(out, "layout") + ":x"},
	} {
		r := execute(t, args...)
		switch {
		case verb == "scan":
			if r.code != exitOK && r.code != exitPolicy {
				t.Errorf("scan: exit code %d: %s", r.code, r.err)
			}
			continue
		case r.code == exitOK && slices.Contains(allowed, exitOK):
			emptied(t, filepath.Join(out, outputs[verb]))
			continue
		}
		t.Run(verb, func(t *testing.T) { r.failed(t, allowed, name) })
	}
	holds(t, filepath.Join(out, "c"))
	holds(t, out, "c") // no d, no layout, no staging directory
	holds(t, dir, name)
}

// emptied removes what a command that succeeded has written.
func emptied(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestPushOfThreats pushes every unsafe sample of the corpus, in a folder with good
// weights: it is refused by the policy, and the registry is sent nothing at
// all.
func TestPushOfThreats(t *testing.T) {
	t.Parallel()
	var manifest []struct{ File, Expected, Technique string }
	if err := json.Unmarshal(readCorpus(t, "threats/malicious/manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	p := watched(t)
	good := readCorpus(t, "checkpoints/tied.pt")
	t.Run("all", func(t *testing.T) {
		for _, m := range manifest {
			if m.Expected != "unsafe" {
				continue
			}
			t.Run(m.File, func(t *testing.T) {
				t.Parallel()
				dir := placed(t, map[string][]byte{"good/pytorch_model.bin": good, filepath.Base(m.File): readCorpus(t, "threats/malicious/"+m.File)})
				r := execute(t, "push", dir, p.Addr+"/a/b:v1", "--plain-http", "--no-sign")
				r.failed(t, codes(exitPolicy), "refused: "+filepath.Base(m.File), "nothing was uploaded")
			})
		}
	})
	untouched(t, p)
}
