package weightseal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/weightseal/weightseal"

// A room is a package, or with a trailing /* every package under a folder.
// The first room of doors that matches a package is its room.
type room struct {
	name string
	// ours lists the packages of this module that it may import; "*" is all.
	ours []string
	why  string // what an import of another one would break
	// never lists what it may not reach, directly or through anything else.
	never []ban
	// standardOnly says that it may import nothing of third parties.
	standardOnly bool
}

// A ban is an import path, and everything below it.
type ban struct{ path, why string }

const (
	cobra   = "github.com/spf13/cobra"
	ggcr    = "github.com/google/go-containerregistry"
	netHTTP = "net/http"
)

func bans(why string, paths ...string) []ban {
	var list []ban
	for _, p := range paths {
		list = append(list, ban{p, why})
	}
	return list
}

// signing is what only attest may import.
func signing() []string {
	return []string{
		"github.com/sigstore", "github.com/in-toto", "github.com/secure-systems-lab/go-securesystemslib",
	}
}

// formatNever is what no format package may reach.
func formatNever() []ban {
	return bans("whoever wants a codec as a library pulls in nothing else",
		append(signing(), cobra, ggcr, netHTTP)...)
}

// doors is the table of docs/architecture.md.
func doors() []room {
	const codec = "a codec reads and writes bytes, and knows of no model, registry or command"
	return []room{
		{name: "format/pickle", why: codec, never: formatNever(), standardOnly: true},
		{name: "format", ours: []string{"format/safetensors"}, why: codec, never: formatNever(), standardOnly: true},
		{name: "format/safetensors", ours: []string{"internal/sha256x2"}, why: codec, never: formatNever(), standardOnly: true},
		{name: "format/dcp", ours: []string{"format", "format/pickle", "format/safetensors", "format/torch"}, why: codec, never: formatNever(), standardOnly: true},
		{
			name: "format/*", ours: []string{"format", "format/pickle", "format/safetensors", "format/numpy", "format/xz"},
			why: codec, never: formatNever(), standardOnly: true,
		},
		{
			name: "model", ours: []string{"format/*"},
			why: "an inventory recognises files; what they mean or where they go is for the rooms above it",
		},
		{
			name: "scan", ours: []string{"model", "format", "format/*"},
			why: "a verdict follows from a file's bytes, not from where they lie or what is planned with them",
		},
		{
			name: "convert", ours: []string{"model", "format", "format/*", "internal/sha256x2"},
			why: "a conversion is a view over a file, whatever the scan or the policy said of it",
		},
		{
			name: "oci", ours: []string{"model"},
			why:   "a layer is an opener with a size: transport does not know what is in it",
			never: bans("registries must be usable without the signing stack and without a command line", append(signing(), cobra)...),
		},
		{
			// Cosign's packages bring cobra along: attest must not name it, but
			// cannot help reaching it.
			name: "attest", ours: []string{"oci"},
			why: "a statement is made from plain values; nothing is judged or converted while it is signed",
		},
		{
			name: "policy",
			why:  "a decision is made on plain facts, so that another engine could make it from the same ones",
			never: bans("a decision is made on plain facts, so that another engine could make it from the same ones",
				append(signing(), ggcr, cobra)...),
		},
		{
			name: "workload",
			why:  "what a manifest names is found without asking anybody, so that a gate can use it too",
			never: bans("what a manifest names is found without asking anybody, so that a gate can use it too",
				append(signing(), ggcr, cobra, netHTTP)...),
		},
		{
			name: "gate", ours: []string{"attest", "policy", "oci"},
			why: "a gate verifies and decides; it never reads weights",
		},
		{
			name:  "internal/*",
			why:   "what every room may use must not lean on one of them",
			never: bans("internal packages serve every room; signing and commands belong to theirs", append(signing(), cobra)...),
		},
		{name: "cmd/*", ours: []string{"*"}},
		{
			name: "tools/*", ours: []string{"attest"},
			why: "a tool works on the sources and on what was built from them; what it signs goes through attest",
		},
		{name: "", why: "the root package holds tests only"},
	}
}

// owners says which rooms may name a third party in an import.
func owners() []struct {
	paths []string
	rooms []string
	why   string
} {
	return []struct {
		paths []string
		rooms []string
		why   string
	}{
		{
			[]string{cobra, "github.com/spf13/pflag"},
			[]string{"cmd/*"},
			"the packages are the product, the command line is one client of them",
		},
		{
			[]string{ggcr},
			[]string{"oci", "attest", "internal/*", "tools/*"},
			"one room speaks to registries; the others take its store",
		},
		{
			signing(),
			[]string{"attest", "attest/*"},
			"one room signs and verifies; what has not gone through it is not verified",
		},
	}
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath  string
	Standard    bool
	Dir         string
	Imports     []string
	TestImports []string
	XTestImport []string `json:"XTestImports"`
	Error       *struct{ Err string }
}

// listed runs go list once for all tests.
var listed = sync.OnceValues(func() (map[string]*pkg, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Dir,Imports,TestImports,XTestImports,Error", "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	all := map[string]*pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = &p
	}
})

// ourPackages gives the module's packages by their path inside it; "" is the
// root.
func ourPackages(t *testing.T) (ours map[string]*pkg, all map[string]*pkg) {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	ours = map[string]*pkg{}
	for imp, p := range all {
		if rel, ok := inModule(imp); ok {
			ours[rel] = p
		}
	}
	if len(ours) < 8 {
		t.Fatalf("go list found only %d packages of ours", len(ours))
	}
	return ours, all
}

func inModule(imp string) (rel string, ok bool) {
	if imp == module {
		return "", true
	}
	return strings.CutPrefix(imp, module+"/")
}

// matches says whether a package's path is pattern, or under it for "dir/*".
func matches(pattern, path string) bool {
	if pattern == "*" {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, dir)
	}
	return pattern == path
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

func below(root, imp string) bool { return imp == root || strings.HasPrefix(imp, root+"/") }

func roomOf(rel string) (room, bool) {
	for _, r := range doors() {
		if matches(r.name, rel) {
			return r, true
		}
	}
	return room{}, false
}

// TestDoors checks every package's imports against the table. Test files are
// free to bring together what the rooms keep apart; only their third parties
// are held to the owners.
func TestDoors(t *testing.T) {
	t.Parallel()
	ours, all := ourPackages(t)
	for rel, p := range ours {
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
			continue
		}
		r, ok := roomOf(rel)
		if parent := path.Dir(rel); !ok && isTestSupport(p) && path.Base(rel) == path.Base(parent)+"test" {
			// As net/http/httptest is to net/http: it knows its parent.
			r, ok = roomOf(parent)
			r.ours = append(slices.Clone(r.ours), parent)
		}
		if !ok {
			t.Errorf("%s is in no room: enter it in doors_test.go, .golangci.yml and docs/architecture.md", rel)
			continue
		}
		for _, imp := range p.Imports {
			for _, v := range directViolations(r, rel, imp, all) {
				t.Error(v)
			}
		}
		for _, b := range r.never {
			if chain := reach(all, p.ImportPath, b.path); chain != nil {
				t.Errorf("%s reaches %s, which it never may: %s\n\tby %s", rel, b.path, b.why, strings.Join(chain, " -> "))
			}
		}
	}
}

// directViolations says what is wrong with one import of a package.
func directViolations(r room, rel, imp string, all map[string]*pkg) []string {
	var bad []string
	if other, ok := inModule(imp); ok {
		if !matchesAny(r.ours, other) {
			allowed := "none of our packages"
			if len(r.ours) > 0 {
				allowed = strings.Join(r.ours, ", ")
			}
			bad = append(bad, fmt.Sprintf("%s imports %s, but may import %s: %s", rel, other, allowed, r.why))
		}
		return bad
	}
	if p := all[imp]; r.standardOnly && p != nil && !p.Standard {
		bad = append(bad, fmt.Sprintf("%s imports %s, but may import the standard library only: %s", rel, imp, formatNever()[0].why))
	}
	if v := ownerViolation(rel, imp); v != "" {
		bad = append(bad, v)
	}
	return bad
}

func ownerViolation(rel, imp string) string {
	for _, o := range owners() {
		for _, path := range o.paths {
			if below(path, imp) && !matchesAny(o.rooms, rel) {
				return fmt.Sprintf("%s imports %s, which only %s may: %s", rel, imp, strings.Join(o.rooms, ", "), o.why)
			}
		}
	}
	return ""
}

// reach gives a shortest chain of imports from one package to anything under
// target, or nil.
func reach(all map[string]*pkg, from, target string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != from && below(target, at) {
			chain := []string{at}
			for at = before[at]; at != ""; at = before[at] {
				chain = append(chain, at)
			}
			slices.Reverse(chain)
			return chain
		}
		if all[at] == nil {
			continue
		}
		for _, next := range all[at].Imports {
			if _, seen := before[next]; !seen {
				before[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// TestDoorsOfTests: a test may start a registry or check with another room,
// but the format packages' tests stay as light as their packages, and nothing
// outside cmd tests a command line.
func TestDoorsOfTests(t *testing.T) {
	t.Parallel()
	ours, _ := ourPackages(t)
	for rel, p := range ours {
		for _, imp := range append(slices.Clone(p.TestImports), p.XTestImport...) {
			if below(cobra, imp) && !matches("cmd/*", rel) {
				t.Errorf("a test of %s imports %s: only cmd has a command line", rel, imp)
			}
			for _, b := range formatNever() {
				if matches("format/*", rel) && below(b.path, imp) {
					t.Errorf("a test of %s imports %s: %s", rel, imp, b.why)
				}
			}
		}
	}
}

// isTestSupport says whether a package is for tests only: it takes a testing.T.
func isTestSupport(p *pkg) bool { return slices.Contains(p.Imports, "testing") }

// TestTestSupportStaysInTests: what starts registries and fails tests is not
// linked into the program.
func TestTestSupportStaysInTests(t *testing.T) {
	t.Parallel()
	ours, all := ourPackages(t)
	for rel, p := range ours {
		if isTestSupport(p) {
			continue
		}
		for _, imp := range p.Imports {
			if _, own := inModule(imp); own && isTestSupport(all[imp]) {
				t.Errorf("%s imports %s, which is for tests: it imports testing", rel, imp)
			}
		}
	}
}

// TestDoorsFire: the checks themselves find what they are for.
func TestDoorsFire(t *testing.T) {
	t.Parallel()
	all := map[string]*pkg{
		module + "/scan":     {Imports: []string{module + "/model", "a.example/x"}},
		module + "/model":    {Imports: []string{"io"}},
		"a.example/x":        {Imports: []string{"net/http/internal"}},
		"net/http/internal":  {Standard: true},
		"example.com/lib":    {},
		"encoding/json":      {Standard: true},
		"github.com/x/other": {},
	}
	for _, c := range []struct {
		rel, imp string
		want     bool
	}{
		{"scan", module + "/oci", true},
		{"scan", module + "/model", false},
		{"scan", module + "/format/torch", false},
		{"format/pickle", module + "/format/safetensors", true},
		{"format/torch", module + "/format/pickle", false},
		{"format/torch", module + "/model", true},
		{"format/torch", "example.com/lib", true},
		{"format/torch", "encoding/json", false},
		{"policy", module + "/model", true},
		{"policy", "github.com/x/other", false},
		{"model", ggcr + "/pkg/name", true},
		{"attest", ggcr + "/pkg/name", false},
		{"oci", "github.com/sigstore/sigstore-go/pkg/bundle", true},
		{"oci", cobra, true},
		{"cmd/internal/cli", cobra, false},
		{"cmd/internal/cli", ggcr + "/pkg/registry", true},
		{"internal/anything", module + "/oci", true},
	} {
		r, ok := roomOf(c.rel)
		if !ok {
			t.Errorf("%s: in no room", c.rel)
			continue
		}
		if got := directViolations(r, c.rel, c.imp, all); (len(got) > 0) != c.want {
			t.Errorf("%s importing %s: found %q, want a violation: %v", c.rel, c.imp, got, c.want)
		}
	}
	if chain := reach(all, module+"/scan", netHTTP); len(chain) != 3 {
		t.Errorf("chain to net/http is %q, want three steps", chain)
	}
	if chain := reach(all, module+"/model", netHTTP); chain != nil {
		t.Errorf("model reaches net/http by %q, want nothing", chain)
	}
	if _, ok := roomOf("util"); ok {
		t.Error("a package that no row of the table names has a room")
	}
}
