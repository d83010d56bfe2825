package weightseal_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// source is a package's code without its tests, checked for types as far as
// that goes without its imports: enough to tell a package's own names from
// local ones.
type source struct {
	rel   string // path inside the module
	fset  *token.FileSet
	files []*ast.File
	pkg   *types.Package
	info  *types.Info
	// forTests says that the package serves tests only.
	forTests bool
}

// noImports stands in for every import with an empty package.
type noImports struct{}

func (noImports) Import(p string) (*types.Package, error) {
	empty := types.NewPackage(p, path.Base(p))
	empty.MarkComplete()
	return empty, nil
}

func checkTypes(rel string, fset *token.FileSet, files []*ast.File) *source {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}}
	// Errors are expected: the imports are empty. The compiler reports the
	// real ones.
	p, _ := conf.Check(module+"/"+rel, fset, files, info)
	return &source{rel: rel, fset: fset, files: files, pkg: p, info: info}
}

func sources(t *testing.T) []*source {
	t.Helper()
	ours, _ := ourPackages(t)
	var all []*source
	for rel, p := range ours {
		fset := token.NewFileSet()
		var files []*ast.File
		names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		s := checkTypes(rel, fset, files)
		s.forTests = isTestSupport(p)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *source) int { return cmp.Compare(a.rel, b.rel) })
	return all
}

func (s *source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", path.Join(s.rel, filepath.Base(p.Filename)), p.Line)
}

// isCommand says whether a package is part of the program, which alone has
// streams, an environment and an exit code.
func (s *source) isCommand() bool { return matches("cmd/*", s.rel) || matches("tools/*", s.rel) }

// TestPackagesAreNamedAndDescribed: a name says what is in a package, and a
// comment says it in a sentence.
func TestPackagesAreNamedAndDescribed(t *testing.T) {
	t.Parallel()
	drawers := []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "types", "consts"}
	for _, s := range sources(t) {
		if len(s.files) == 0 {
			continue
		}
		name := s.files[0].Name.Name
		if slices.Contains(drawers, name) {
			t.Errorf("%s: package %s is a drawer: name it after what it holds", s.rel, name)
		}
		if name != "main" && s.rel != "" && name != path.Base(s.rel) {
			t.Errorf("%s: package %s is not named as its folder", s.rel, name)
		}
		start := "Package " + name + " "
		if name == "main" {
			start = "Command "
		}
		if !slices.ContainsFunc(s.files, func(f *ast.File) bool {
			return f.Doc != nil && strings.HasPrefix(f.Doc.Text(), start)
		}) {
			t.Errorf("%s: no package comment that begins with %q", s.rel, start)
		}
	}
}

// TestLibraryCodeIsQuiet: outside cmd nothing prints, exits, logs or reads the
// environment; nowhere is there an init function.
func TestLibraryCodeIsQuiet(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, v := range loudness(s) {
			t.Error(v)
		}
	}
}

// loud lists what only cmd may use, by import path; "*" is the whole package.
func loud() map[string][]string {
	return map[string][]string{
		"os": {
			"Exit", "Stdin", "Stdout", "Stderr", "Args", "Chdir",
			"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv",
		},
		"fmt":      {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
		"log":      {"*"},
		"log/slog": {"*"},
		"flag":     {"*"},
	}
}

func loudness(s *source) []string {
	var bad []string
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					bad = append(bad, s.at(n)+": func init: importing a package must do nothing; return what it would register")
				}
			case *ast.CallExpr:
				id, ok := n.Fun.(*ast.Ident)
				if !ok {
					break
				}
				if b, ok := s.info.Uses[id].(*types.Builtin); ok && (b.Name() == "print" || b.Name() == "println") {
					bad = append(bad, s.at(n)+": "+b.Name()+" writes to stderr")
				}
			case *ast.SelectorExpr:
				if s.isCommand() || s.forTests {
					break
				}
				id, ok := n.X.(*ast.Ident)
				if !ok {
					break
				}
				name, ok := s.info.Uses[id].(*types.PkgName)
				if !ok {
					break
				}
				if quiet(name.Imported().Path(), n.Sel.Name) {
					break
				}
				bad = append(bad, fmt.Sprintf("%s: %s.%s: library code returns values and errors; it prints, exits and asks the environment nothing",
					s.at(n), name.Imported().Path(), n.Sel.Name))
			}
			return true
		})
	}
	return bad
}

// quiet says whether library code may use a name of the standard library.
func quiet(importPath, name string) bool {
	// A server of net/http logs to stderr unless it is given a logger that
	// discards.
	if importPath == "log" && (name == "New" || name == "Logger") {
		return true
	}
	names := loud()[importPath]
	return !slices.Contains(names, name) && !slices.Contains(names, "*")
}

// TestNoMutableGlobals: a package-level variable is a table or a sentinel that
// nothing writes after it is made. Two calls never see each other.
func TestNoMutableGlobals(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, v := range mutableGlobals(s) {
			t.Error(v)
		}
	}
}

func mutableGlobals(s *source) []string {
	var bad []string
	for _, f := range s.files {
		for _, d := range f.Decls {
			bad = append(bad, emptyGlobals(s, d)...)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			for _, target := range written(s, n) {
				if name := s.global(target); name != "" {
					bad = append(bad, s.at(n)+": "+name+" is a package-level variable and is written here")
				}
			}
			return true
		})
	}
	return bad
}

// emptyGlobals finds variables that are declared without a value: they can
// only be meant to get one later. In cmd the linker gives one (-X).
func emptyGlobals(s *source, d ast.Decl) []string {
	gen, ok := d.(*ast.GenDecl)
	if !ok || gen.Tok != token.VAR || s.isCommand() {
		return nil
	}
	var bad []string
	for _, spec := range gen.Specs {
		v := spec.(*ast.ValueSpec)
		_, isMap := v.Type.(*ast.MapType) // nil until it is written to, and that is found
		if len(v.Values) > 0 || isMap || embedded(gen.Doc) || embedded(v.Doc) {
			continue
		}
		bad = append(bad, fmt.Sprintf("%s: %s is declared at package level without a value: state that calls would share", s.at(v), v.Names[0].Name))
	}
	return bad
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// written gives the expressions that a statement or call writes to.
func written(s *source, n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 {
			b, ok := s.info.Uses[id].(*types.Builtin)
			if ok && (b.Name() == "delete" || b.Name() == "clear" || b.Name() == "copy") {
				return n.Args[:1]
			}
		}
	}
	return nil
}

// global names the package-level variable at the root of x, x.f, x[i] or *x.
func (s *source) global(x ast.Expr) string {
	for {
		switch e := x.(type) {
		case *ast.ParenExpr:
			x = e.X
		case *ast.IndexExpr:
			x = e.X
		case *ast.StarExpr:
			x = e.X
		case *ast.SliceExpr:
			x = e.X
		case *ast.SelectorExpr:
			x = e.X
		case *ast.Ident:
			if v, ok := s.info.Uses[e].(*types.Var); ok && s.pkg != nil && v.Parent() == s.pkg.Scope() {
				return e.Name
			}
			return ""
		default:
			return ""
		}
	}
}

// TestHouseChecksFire: the checks above find what they are for, and nothing
// else.
func TestHouseChecksFire(t *testing.T) {
	t.Parallel()
	const code = `package p

import (
	"errors"
	"fmt"
	out "os"
)

var table = map[string]int{"a": 1}
var counter int
var errX = errors.New("x")

func init() {}

func f(fmt interface{ Println(string) }) error {
	fmt.Println("the parameter, not the package")
	table := map[string]int{}
	table["mine"] = 1
	return errX
}

func g() {
	fmt.Println("loud")
	println("loud")
	out.Exit(1)
	table["b"] = 2
	counter++
	delete(table, "a")
}
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", code, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rel   string
		check func(*source) []string
		lines []int
	}{
		{"scan", loudness, []int{13, 23, 24, 25}},
		{"cmd/internal/cli", loudness, []int{13, 24}},
		{"scan", mutableGlobals, []int{10, 26, 27, 28}},
		{"cmd/internal/cli", mutableGlobals, []int{26, 27, 28}},
	} {
		got := c.check(checkTypes(c.rel, fset, []*ast.File{f}))
		var want []string
		for _, line := range c.lines {
			want = append(want, fmt.Sprintf("%s/p.go:%d: ", c.rel, line))
		}
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: found\n\t%s\nwant lines %d", c.rel, strings.Join(got, "\n\t"), c.lines)
		}
	}
}

// TestEveryParserIsFuzzed: a package that reads untrusted bytes has a fuzz
// target.
func TestEveryParserIsFuzzed(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"format/pickle", "format/safetensors", "format/sevenzip", "format/torch", "format/xz", "model", "oci", "attest", "scan"} {
		names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(names, func(name string) bool {
			b, err := os.ReadFile(name)
			return err == nil && strings.Contains(string(b), "\nfunc Fuzz")
		}) {
			t.Errorf("%s reads untrusted bytes and has no fuzz target", dir)
		}
	}
}
