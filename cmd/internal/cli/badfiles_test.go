package cli

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTruncated leaves the beginning of good files of each container.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for path, name := range map[string]string{
		"checkpoints/tied.pt":                      "pytorch_model.bin",
		"checkpoints/views_legacy.pt":              "pytorch_model.bin",
		"checkpoints/handmade/good/tar.pt":         "pytorch_model.bin",
		"checkpoints/handmade/st/ok.safetensors":   "model.safetensors",
		"checkpoints/numpy_p3.pkl":                 "model.pkl",
		"checkpoints/jit_script.pt":                "model.pt",
		"checkpoints/handmade/good/deflated.pt":    "pytorch_model.bin",
		"checkpoints/handmade/good/torch2.pt":      "pytorch_model.bin",
		"checkpoints/handmade/good/unaligned.pt":   "pytorch_model.bin",
		"checkpoints/handmade/good/v3_dtypes.pt":   "pytorch_model.bin",
		"checkpoints/handmade/good/legacy_view.pt": "pytorch_model.bin",
	} {
		whole := readCorpus(t, path)
		for _, left := range []int{0, 3, 64, len(whole) / 2, len(whole) - 30, len(whole) - 1} {
			if left >= len(whole) || left < 0 || strings.Contains(path, "tar.pt") && left != 0 && left != 64 {
				continue // the beginning of a tar is text, and its end padding
			}
			t.Run(fmt.Sprintf("%s/%d", path, left), func(t *testing.T) {
				t.Parallel()
				dir := placed(t, map[string][]byte{name: whole[:left]})
				hostile(t, dir, name, codes(exitPolicy, exitLossy))
				if r := execute(t, "scan", dir, "--fail-on", "unknown"); r.code != exitPolicy {
					t.Errorf("scan of what is left of it: exit code %d\n%s%s", r.code, r.out, r.err)
				}
			})
		}
	}
}

// refusedModel is a model that neither convert nor push takes.
type refusedModel struct {
	build func(t *testing.T, dir string)
	codes []int
	parts []string
}

func TestRefusedModels(t *testing.T) {
	t.Parallel()
	tied := readCorpus(t, "checkpoints/tied.pt")
	put := func(name string, content []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(target string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Symlink(target, filepath.Join(dir, "bad.bin")); err != nil {
				t.Fatal(err)
			}
		}
	}
	index := func(shard string) func(*testing.T, string) {
		return put("pytorch_model.bin.index.json", []byte(`{"metadata":{},"weight_map":{"w":"`+shard+`"}}`))
	}
	for name, m := range map[string]refusedModel{
		"index names a missing shard": {index("pytorch_model-00001-of-00002.bin"), codes(exitLossy), []string{"pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "hint: "}},
		"index climbs out":            {index("../x.bin"), codes(exitPolicy, exitLossy), []string{"pytorch_model.bin.index.json", "../x.bin", "hint: "}},
		"index names an absolute":     {index("/etc/passwd"), codes(exitPolicy, exitLossy), []string{"pytorch_model.bin.index.json", "hint: "}},
		"index is no JSON":            {put("pytorch_model.bin.index.json", []byte("{")), codes(exitLossy), []string{"pytorch_model.bin.index.json"}},
		"safetensors index names a missing shard": {put("model.safetensors.index.json", []byte(`{"metadata":{},"weight_map":{"w":"model-00001-of-00002.safetensors"}}`)),
			codes(exitLossy), []string{"model.safetensors.index.json", "model-00001-of-00002.safetensors", "hint: "}},
		"safetensors index climbs out": {put("model.safetensors.index.json", []byte(`{"metadata":{},"weight_map":{"w":"../x.safetensors"}}`)),
			codes(exitPolicy, exitLossy), []string{"model.safetensors.index.json", "hint: "}},
		"two inputs, one name": {put("model.safetensors", readCorpus(t, "checkpoints/handmade/st/ok.safetensors")), codes(exitLossy),
			[]string{"model.safetensors", "pytorch_model.bin", "hint: ", "--exclude pytorch_model.bin"}},
		"two pickles, one name": {func(t *testing.T, dir string) {
			t.Helper()
			put("a.pt", tied)(t, dir)
			put("a.bin", tied)(t, dir)
		}, codes(exitLossy), []string{"a.safetensors", "hint: ", "--exclude"}},
		"names that differ in case": {put("Pytorch_model.bin", tied), codes(exitError, exitLossy), []string{"ytorch_model.bin", "case"}},
		"dangling link":             {link("gone"), codes(exitError), []string{"bad.bin is a link to gone"}},
		"link that leads out":       {link("/etc/hostname"), codes(exitError), []string{"bad.bin", "/etc/hostname"}},
		"link to a folder":          {link(".."), codes(exitError), []string{"bad.bin", "is a directory"}},
		"link loop":                 {link("bad.bin"), codes(exitError), []string{"bad.bin"}},
		"device":                    {link("/dev/zero"), codes(exitError), []string{"bad.bin", "device"}},
		"socket": {func(t *testing.T, dir string) {
			t.Helper()
			here := filepath.Join(t.TempDir(), "s") // a socket's path is short
			var lc net.ListenConfig
			l, err := lc.Listen(t.Context(), "unix", here)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			if err := os.Rename(here, filepath.Join(dir, "bad.bin")); err != nil {
				t.Fatal(err)
			}
		}, codes(exitError), []string{"bad.bin", "socket"}},
		"named pipe":           {func(t *testing.T, dir string) { t.Helper(); makePipe(t, filepath.Join(dir, "bad.bin")) }, codes(exitError), []string{"bad.bin", "named pipe"}},
		"a name for terminals": {put("a\x1b[31m.bin", tied), codes(exitError), []string{"rename the file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := watched(t)
			dir := placed(t, map[string][]byte{"pytorch_model.bin": tied, "config.json": []byte("{}")})
			m.build(t, dir)
			out := t.TempDir()
			push := execute(t, "push", dir, p.Addr+"/a/b:v1", "--plain-http", "--no-sign")
			push.failed(t, m.codes, m.parts...)
			untouched(t, p)
			layout := execute(t, "push", dir, "oci:"+filepath.Join(out, "layout")+":v1", "--no-sign")
			layout.failed(t, m.codes, m.parts...)
			conv := execute(t, "convert", dir, filepath.Join(out, "converted"))
			parts := m.parts
			if i := len(parts) - 1; strings.HasPrefix(parts[i], "--exclude") {
				parts = parts[:i] // convert has no such flag
			}
			conv.failed(t, m.codes, parts...)
			holds(t, out)
			for _, r := range []result{push, layout, conv} {
				if strings.Contains(r.err, "\x1b") {
					t.Errorf("an escape sequence got through: %q", r.err)
				}
			}
		})
	}
}

// A single file that cannot be read, for each command that takes one.
func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makePipe(t, filepath.Join(dir, "pipe.bin"))
	if err := os.Symlink("gone", filepath.Join(dir, "dangling.bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe.bin", "dangling.bin", "missing.bin", "folder.bin"} {
		file, out := filepath.Join(dir, name), t.TempDir()
		allowed := codes(exitError)
		if name == "folder.bin" {
			allowed = codes(exitUsage) // an empty directory, no model
		}
		for _, args := range [][]string{
			{"push", file, "oci:" + filepath.Join(out, "layout") + ":v1", "--no-sign"},
			{"convert", file, filepath.Join(out, "x.safetensors")},
			{"scan", file}, {"inspect", file}, {"diff", file, file},
		} {
			t.Run(name+"/"+args[0], func(t *testing.T) {
				if name == "folder.bin" && args[0] != "push" && args[0] != "scan" && args[0] != "convert" {
					return
				}
				execute(t, args...).failed(t, allowed, name)
				holds(t, out)
			})
		}
	}
}

// Keys that are none: a usage error, before anything is uploaded.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	dir := placed(t, map[string][]byte{"pytorch_model.bin": readCorpus(t, "checkpoints/tied.pt")})
	files := t.TempDir()
	for name, content := range map[string][]byte{"empty": nil, "garbage": []byte("x"), "huge": bytes.Repeat([]byte("x"), 1<<20)} {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := watched(t)
	for _, key := range []string{filepath.Join(files, "empty"), filepath.Join(files, "garbage"), filepath.Join(files, "huge"), filepath.Join(files, "gone"), files, keyFile(t, "ours.pub")} {
		r := execute(t, "push", dir, p.Addr+"/a/b:v1", "--plain-http", "--key", key)
		r.failed(t, codes(exitUsage), "--key", "hint: ")
	}
	for _, key := range []string{filepath.Join(files, "garbage"), filepath.Join(files, "gone"), files} {
		for _, args := range [][]string{{"verify", p.Addr + "/a/b:v1"}, {"pull", p.Addr + "/a/b:v1", filepath.Join(files, "out")}} {
			execute(t, append(args, "--plain-http", "--key", key)...).failed(t, codes(exitUsage), "--key", "hint: ")
		}
	}
	if reqs := p.Requests(""); len(reqs) > 0 {
		t.Errorf("the registry was asked: %q", reqs)
	}
}
