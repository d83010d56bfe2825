package model_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weightseal/weightseal/model"
	"github.com/weightseal/weightseal/model/modeltest"
)

// write puts files below a folder.
func write(tb testing.TB, root string, files map[string][]byte) {
	tb.Helper()
	for name, b := range files {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o666); err != nil {
			tb.Fatal(err)
		}
	}
}

func text(names ...string) map[string][]byte {
	files := map[string][]byte{}
	for _, name := range names {
		files[name] = []byte("text of " + name)
	}
	return files
}

func link(tb testing.TB, root, name, target string) {
	tb.Helper()
	p := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
		tb.Fatal(err)
	}
	if err := os.Symlink(target, p); err != nil {
		tb.Fatal(err)
	}
}

func TestDirIsASource(t *testing.T) {
	t.Parallel()
	modeltest.TestSource(t, func(files map[string][]byte) model.Source {
		root := t.TempDir()
		write(t, root, files)
		return model.Dir(root)
	})
}

// TestHubCacheIsASource: the same, as the Hugging Face cache lays it out.
func TestHubCacheIsASource(t *testing.T) {
	t.Parallel()
	modeltest.TestSource(t, func(files map[string][]byte) model.Source {
		repo := filepath.Join(t.TempDir(), "models--org--name")
		blobs := map[string][]byte{}
		snapshot := filepath.Join(repo, "snapshots", "0123abc")
		write(t, snapshot, nil)
		if err := os.MkdirAll(snapshot, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			id := strings.NewReplacer("/", "_").Replace(name)
			blobs[id] = b
			up := strings.Repeat("../", 2+strings.Count(name, "/"))
			link(t, snapshot, name, up+"blobs/"+id)
		}
		write(t, filepath.Join(repo, "blobs"), blobs)
		return model.Dir(snapshot)
	})
}

func paths(entries []model.Entry) string {
	var list []string
	for _, e := range entries {
		if e.Link != "" {
			e.Path += " -> " + e.Link
		}
		list = append(list, e.Path)
	}
	return strings.Join(list, ", ")
}

// TestDirLinks says which links are followed, and that the others are named
// with their target.
func TestDirLinks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		build func(t *testing.T, root string)
		want  string   // the listing
		wrong []string // or parts of the error
	}{
		"inside": {func(t *testing.T, root string) {
			link(t, root, "b", "a")
			link(t, root, "sub/c", "../b")
		}, "a, b -> a, sub/c -> ../b", nil},
		"absolute but inside": {func(t *testing.T, root string) { link(t, root, "b", filepath.Join(root, "a")) }, "", nil},
		"outside": {func(t *testing.T, root string) { link(t, root, "b", "/etc/hostname") },
			"", []string{"b, a link to /etc/hostname,", "leads out", "replace the link"}},
		"one up":   {func(t *testing.T, root string) { link(t, root, "b", "../outside") }, "", []string{"b, a link to ../outside", "leads out"}},
		"dangling": {func(t *testing.T, root string) { link(t, root, "b", "gone") }, "", []string{"b is a link to gone", "cannot be followed", "remove the link"}},
		"loop":     {func(t *testing.T, root string) { link(t, root, "b", "b") }, "", []string{"b is a link to b", "cannot be followed"}},
		"to a folder": {func(t *testing.T, root string) {
			write(t, root, text("sub/x"))
			link(t, root, "b", "sub")
		}, "", []string{"b, a link to sub, is a directory"}},
		"to the folder above": {func(t *testing.T, root string) { link(t, root, "b", "..") }, "", []string{"b, a link to .., is a directory"}},
		"to a device":         {func(t *testing.T, root string) { link(t, root, "b", "/dev/null") }, "", []string{"b, a link to /dev/null, is a device"}},
		"skipped name":        {func(t *testing.T, root string) { link(t, root, ".git", "/etc") }, "a", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "root")
			write(t, root, text("a"))
			write(t, filepath.Dir(root), text("outside"))
			tt.build(t, root)
			entries, err := model.Dir(root).List(t.Context())
			if len(tt.wrong) > 0 {
				checkError(t, err, model.ErrNotFollowed, tt.wrong)
				if b, err := model.Dir(root).Open(t.Context(), "b"); !errors.Is(err, model.ErrNotFollowed) {
					t.Errorf("open: %v, %v", b, err)
				}
				return
			}
			if err != nil || tt.want != "" && paths(entries) != tt.want {
				t.Errorf("%v, %q, want %q", err, paths(entries), tt.want)
			}
		})
	}
}

func checkError(t *testing.T, err, kind error, parts []string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error is %v, want %v", err, kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q: %v", part, err)
		}
	}
}

// TestHubCacheEdges: only the blobs of the same repository are another home.
func TestHubCacheEdges(t *testing.T) {
	t.Parallel()
	hub := t.TempDir()
	write(t, hub, text("models--a--b/blobs/1", "models--c--d/blobs/2", "models--a--b/refs/main", "models--a--b/snapshots/r/own", "plain/snapshots/r/own", "plain/blobs/3"))
	snapshot := filepath.Join(hub, "models--a--b/snapshots/r")
	link(t, snapshot, "sub/ok", "../../../blobs/1")
	link(t, hub, "alias", snapshot)
	for _, root := range []string{snapshot, filepath.Join(snapshot, "sub"), filepath.Join(hub, "alias"), filepath.Join(hub, "alias", "sub")} {
		entries, err := model.Dir(root).List(t.Context())
		if err != nil || !strings.HasSuffix(paths(entries), "ok -> ../../../blobs/1") {
			t.Errorf("%s: %v, %s", root, err, paths(entries))
		}
	}
	link(t, snapshot, "z", "../../refs/main")
	_, err := model.Dir(snapshot).List(t.Context())
	checkError(t, err, model.ErrNotFollowed, []string{"z, a link to ../../refs/main"})
	link(t, filepath.Join(hub, "models--c--d/snapshots/r"), "x", "../../../models--a--b/blobs/1")
	_, err = model.Dir(filepath.Join(hub, "models--c--d/snapshots/r")).List(t.Context())
	checkError(t, err, model.ErrNotFollowed, []string{"x, a link to"})
	link(t, filepath.Join(hub, "plain/snapshots/r"), "x", "../../blobs/3")
	_, err = model.Dir(filepath.Join(hub, "plain/snapshots/r")).List(t.Context())
	checkError(t, err, model.ErrNotFollowed, []string{"x, a link to"})
}

// TestLinksIntoAHub: a download elsewhere whose files are links into the cache,
// of one repository.
func TestLinksIntoAHub(t *testing.T) {
	t.Parallel()
	hub, root := t.TempDir(), t.TempDir()
	sha1, sha256 := strings.Repeat("0a", 20), strings.Repeat("f9", 32)
	write(t, hub, text("models--a--b/blobs/"+sha1, "models--a--b/blobs/"+sha256, "models--a--b/blobs/other", "models--c--d/blobs/"+sha1, "blobs/"+sha1, "models--a--b/snapshots/r/x"))
	link(t, root, "config.json", filepath.Join(hub, "models--a--b/blobs", sha1))
	link(t, root, "sub/model.bin", filepath.Join(hub, "models--a--b/blobs", sha256))
	entries, err := model.Dir(root).List(t.Context())
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %s", err, paths(entries))
	}
	blob, err := model.Dir(root).Open(t.Context(), "sub/model.bin")
	if err != nil {
		t.Fatal(err)
	}
	_ = blob.Close()

	for name, target := range map[string]string{
		"another repository": "models--c--d/blobs/" + sha1,
		"no blob":            "models--a--b/blobs/other",
		"no repository":      "blobs/" + sha1,
	} {
		bad := t.TempDir()
		link(t, bad, "config.json", filepath.Join(hub, "models--a--b/blobs", sha1))
		link(t, bad, "x", filepath.Join(hub, target))
		_, err := model.Dir(bad).List(t.Context())
		checkError(t, err, model.ErrNotFollowed, []string{"x"})
		if err == nil {
			t.Errorf("%s: followed", name)
		}
	}
	link(t, filepath.Join(hub, "models--a--b/snapshots/r"), "y", filepath.Join(hub, "models--c--d/blobs", sha1))
	_, err = model.Dir(filepath.Join(hub, "models--a--b/snapshots/r")).List(t.Context())
	checkError(t, err, model.ErrNotFollowed, []string{"y, a link to"})
}

func TestDirSkips(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, text(".git/config", "sub/.git/config", ".hg/x", ".svn/x", ".cache/huggingface/download/x", ".DS_Store", "sub/.DS_Store", "Thumbs.db",
		".gitattributes", ".cache/other", "sub/.cache/huggingface/x", "git/x", "__pycache__/x.pyc"))
	entries, err := model.Dir(root).List(t.Context())
	const want = ".cache/other, .gitattributes, __pycache__/x.pyc, git/x, sub/.cache/huggingface/x"
	if err != nil || paths(entries) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, paths(entries), want)
	}
	for _, p := range []string{".git/config", "sub/.git/config", ".DS_Store", ".cache/huggingface/download/x"} {
		if _, err := model.Dir(root).Open(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestDirNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a:b", "a\\b", "a\nb", "con.txt", "a\xffb", "dot."} {
		root := t.TempDir()
		write(t, root, text("sub/"+name))
		_, err := model.Dir(root).List(t.Context())
		checkError(t, err, model.ErrPath, []string{"rename the file"})
	}
}

func TestDirMissing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := model.Dir(filepath.Join(root, "x")).List(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	write(t, root, text("file"))
	if _, err := model.Dir(filepath.Join(root, "file")).List(t.Context()); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Error(err)
	}
}

// TestDirSwappedFolder: a folder that became a link after the listing.
func TestDirSwappedFolder(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	root := filepath.Join(top, "root")
	write(t, top, text("root/sub/x", "elsewhere/x"))
	src := model.Dir(root)
	if _, err := src.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "sub"), filepath.Join(root, "old")); err != nil {
		t.Fatal(err)
	}
	link(t, root, "sub", "../elsewhere")
	_, err := src.Open(t.Context(), "sub/x")
	checkError(t, err, model.ErrNotFollowed, []string{"sub/x lies outside"})
}

// TestLoadUnreadable: the error names the file.
func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	src := brokenSource{"broken/one.bin"}
	_, err := model.Load(t.Context(), "m", src)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "broken/one.bin") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := t.TempDir()
	write(t, root, text("a", "b"))
	if _, err := model.Load(ctx, "m", model.Dir(root)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// brokenSource lists a good file and one that cannot be read.
type brokenSource struct{ path string }

func (s brokenSource) List(context.Context) ([]model.Entry, error) {
	return []model.Entry{{Path: "a", Size: 9}, {Path: s.path, Size: 9}}, nil
}

func (s brokenSource) Open(_ context.Context, p string) (model.Blob, error) {
	return brokenBlob{broken: p == s.path}, nil
}

type brokenBlob struct{ broken bool }

func (b brokenBlob) ReadAt(p []byte, off int64) (int, error) {
	if b.broken {
		return 0, fs.ErrPermission
	}
	return copy(p, "123456789"), nil
}
func (brokenBlob) Close() error     { return nil }
func (brokenBlob) Size() int64      { return 9 }
func (brokenBlob) Unchanged() error { return nil }

func TestLoadRefusesPaths(t *testing.T) {
	t.Parallel()
	_, err := model.Load(t.Context(), "m", brokenSource{"A"})
	checkError(t, err, model.ErrPath, []string{"differ in case"})
	_, err = model.Load(t.Context(), "m", brokenSource{"../a"})
	checkError(t, err, model.ErrPath, []string{"the part .."})
}

func TestSingleFile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, text("sub/file.txt", "other"))
	link(t, root, "link.txt", "sub/file.txt")
	for _, name := range []string{"sub/file.txt", "link.txt"} {
		src := model.SingleFile(filepath.Join(root, name))
		m, err := model.Load(t.Context(), name, src)
		if err != nil {
			t.Fatal(err)
		}
		f := m.Files[0]
		if len(m.Files) != 1 || f.Path != filepath.Base(name) || f.Size != 20 || f.Format != model.Text || (f.Link != "") != (name == "link.txt") {
			t.Errorf("%s: %+v", name, m.Files)
		}
		b, err := m.Open(t.Context(), f.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Unchanged(); err != nil {
			t.Error(err)
		}
		b.Close()
		if _, err := src.Open(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	// What lies beside it can be opened; what a link leads to, or lies
	// elsewhere, can not.
	src := model.SingleFile(filepath.Join(root, "sub", "file.txt"))
	write(t, root, text("sub/beside.txt", "sub/below/it.txt"))
	link(t, root, "sub/link.txt", "beside.txt")
	for name, ok := range map[string]bool{"beside.txt": true, "below/it.txt": true, "below": false, "link.txt": false, "../other": false, "/etc/hostname": false} {
		b, err := src.Open(t.Context(), name)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			b.Close()
		}
	}
	if _, err := model.SingleFile(root).List(t.Context()); !errors.Is(err, model.ErrNotFollowed) {
		t.Error(err)
	}
}

// TestUnchanged: every way in which a file can stop being what was opened.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	old := time.Now().Add(-time.Hour)
	tests := map[string]func(p string) error{
		"grown":  func(p string) error { return os.WriteFile(p, []byte("longer than before, surely"), 0o666) },
		"shrunk": func(p string) error { return os.Truncate(p, 3) },
		"rewritten": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("TEXT OF x"), 0o666), os.Chtimes(p, old, old.Add(time.Second)))
		},
		"rewritten, time restored": func(p string) error {
			time.Sleep(20 * time.Millisecond) // the clock of change times is coarse
			return errors.Join(os.WriteFile(p, []byte("TEXT OF x"), 0o666), os.Chtimes(p, old, old))
		},
		"replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("text of x"), 0o666), os.Chtimes(p+"2", old, old), os.Rename(p+"2", p))
		},
		"gone": os.Remove,
	}
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		delete(tests, "rewritten, time restored")
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			write(t, root, text("x"))
			p := filepath.Join(root, "x")
			if err := os.Chtimes(p, old, old); err != nil {
				t.Fatal(err)
			}
			b, err := model.Dir(root).Open(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.Unchanged(); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := change(p); err != nil {
				t.Fatal(err)
			}
			err = b.Unchanged()
			checkError(t, err, model.ErrChanged, []string{p})
			t.Log(err)
			if b.Size() != 9 {
				t.Errorf("size %d", b.Size())
			}
		})
	}
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	good := []string{"a", "a/b", ".gitattributes", "..a", "a..b", "modèle 1", "console", "com10", "nul2", "lpt", "a b/c", strings.Repeat("a/", 511) + "a"}
	for _, p := range good {
		if err := model.CheckPath(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	bad := map[string]string{
		"": "empty", "/a": "absolute", "../a": "part ..", "a/..": "part ..", "a/../b": "part ..", "./a": "part .", "a/.": "part .",
		"a//b": "empty part", "a/": "empty part", "a\x00": "control", "a\nb": "control", "a\x7f": "control", "a\u0085b": "control",
		`a\b`: "backslash", "C:/a": "colon", "a:b": "colon", "a\xff": "UTF-8", "con": "device", "a/NUL.txt": "device", "Com1": "device",
		"lpt¹.x": "device", "aux .txt": "device", "conin$": "device", "a.": "dot", "a./b": "dot", "a ": "space",
		strings.Repeat("a/", 512) + "a": "1025 bytes", strings.Repeat("a", 256): "256 bytes",
	}
	for p, why := range bad {
		err := model.CheckPath(p)
		if !errors.Is(err, model.ErrPath) || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", p, err, why)
		}
	}
}

func TestCheckPaths(t *testing.T) {
	t.Parallel()
	tests := []struct {
		paths []string
		why   string
	}{
		{nil, ""},
		{[]string{"b", "a", "a.b", "ab/c", "ab/d"}, ""},
		{[]string{"a", "b", "a"}, `"a" is there twice`},
		{[]string{"A/b", "a/B"}, "differ in case"},
		{[]string{"straße", "STRAẞE"}, "differ in case"},
		{[]string{"K", "\u212a"}, "differ in case"},
		{[]string{"mod\u00e8le", "mode\u0300le"}, "how characters are composed"},
		{[]string{"MOD\u00c8LE", "mode\u0300le"}, "how characters are composed"},
		{[]string{"\uac00", "\u1100\u1161"}, "how characters are composed"},
		{[]string{"a\u0323\u0307", "a\u0307\u0323"}, "how characters are composed"},
		{[]string{"con\u200cfig.json", "config.json"}, "invisible"},
		{[]string{"mod\u00e8le/a", "mode\u0300le"}, "is a file and the directory of"},
		{[]string{"\ufb01le", "file"}, ""}, // a ligature is another name everywhere
		{[]string{"a/b", "a"}, `"a" is a file and the directory of "a/b"`},
		{[]string{"A", "a/b/c"}, `"A" is a file and the directory`},
		{[]string{"a", "../b"}, "part .."},
	}
	for _, tt := range tests {
		err := model.CheckPaths(tt.paths)
		if tt.why == "" && err != nil || tt.why != "" && (!errors.Is(err, model.ErrPath) || !strings.Contains(err.Error(), tt.why)) {
			t.Errorf("%q: %v, want %q", tt.paths, err, tt.why)
		}
	}
}

// windowsName is what Windows makes of a name, by its own rules: it drops dots
// and spaces at the end, has devices in every folder, and separates at both
// slashes.
func windowsName(p string) (name string, device bool) {
	var parts []string
	for part := range strings.FieldsFuncSeq(p, func(r rune) bool { return r == '/' || r == '\\' }) {
		part = strings.TrimRight(part, ". ")
		stem, _, _ := strings.Cut(part, ".")
		stem = strings.ToUpper(strings.TrimRight(stem, " "))
		for _, d := range []string{"CON", "PRN", "AUX", "NUL", "COM1", "COM9", "LPT1", "LPT9"} {
			device = device || stem == d
		}
		parts = append(parts, strings.ToUpper(part))
	}
	return strings.Join(parts, "/"), device || len(p) > 1 && p[1] == ':'
}

// TestPathsOfOtherSystems emulates the rules of Windows: of what passes, no
// two paths are one there, and none is a device, a drive or outside.
func TestPathsOfOtherSystems(t *testing.T) {
	t.Parallel()
	pieces := []string{"a", "A", "b", "..", ".", "a.", "a ", "con", "NUL.txt", "Com1", "c:", `a\b`, "a b", "é", "e\u0301", "lpt9.x.y", "a. .", "PRN "}
	var all []string
	for _, x := range pieces {
		all = append(all, x)
		for _, y := range pieces {
			all = append(all, x+"/"+y)
		}
	}
	passed := 0
	for _, x := range all {
		if model.CheckPath(x) != nil {
			continue
		}
		passed++
		name, device := windowsName(x)
		if device || strings.ToUpper(x) != name || !fs.ValidPath(x) {
			t.Errorf("%q is allowed, and is %q on Windows (device: %v)", x, name, device)
		}
		for _, y := range all {
			other, _ := windowsName(y)
			if x != y && name == other && model.CheckPaths([]string{x, y}) == nil {
				t.Errorf("%q and %q are allowed together, and are one on Windows", x, y)
			}
		}
	}
	if passed < 20 {
		t.Errorf("only %d paths passed", passed)
	}
}

func TestCheckNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a<b", "a>b", `a"b`, "a|b", "a?b", "a/*"} {
		for _, goos := range []string{"linux", "darwin"} {
			if err := model.CheckNames(goos, []string{"x", bad}); err != nil {
				t.Errorf("%s, %q: %v", goos, bad, err)
			}
		}
		if err := model.CheckNames("windows", []string{"x", bad}); !errors.Is(err, model.ErrPath) || !strings.Contains(err.Error(), "no name on Windows") {
			t.Errorf("windows, %q: %v", bad, err)
		}
	}
	if err := model.CheckNames("windows", []string{"a/b c", "é"}); err != nil {
		t.Error(err)
	}
}

// FuzzCheckPath: what is allowed stays below the folder it is joined to, and is
// the same after cleaning.
func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"a/b", "../a", "a/../../b", "/a", "C:\\a", "a\x00", "con", "a//b", "./a", "a.", "\xff", "…/é"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		err := model.CheckPath(p)
		if err != nil {
			if !errors.Is(err, model.ErrPath) {
				t.Fatal(err)
			}
			return
		}
		if !fs.ValidPath(p) || !filepath.IsLocal(filepath.FromSlash(p)) || p == "." {
			t.Fatalf("allowed: %q", p)
		}
		if filepath.Join("root", p) != "root/"+p {
			t.Fatalf("not clean: %q", p)
		}
		if err := model.CheckPaths([]string{p, strings.ToUpper(p)}); err == nil && !slices.Contains([]string{p}, strings.ToUpper(p)) && strings.EqualFold(p, strings.ToUpper(p)) {
			t.Fatalf("case: %q", p)
		}
	})
}
