package scan_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/internal/picklegen"
	"github.com/weightseal/weightseal/internal/realtools"
)

// mark is a pickle that calls a harmless function of the module of markers.
func mark(name string) string { return "\x80\x02cwsmark\n" + name + "\n)R." }

// hidden is one way of hiding an import: a file, and which marker at least one
// real loader imports from it.
type hidden struct {
	name, file, in string
	imports        string // "" where no loader gets there
}

// pickleTricks are streams that reach a function in another way than GLOBAL
// and REDUCE.
func pickleTricks() []hidden {
	p2, p4 := "\x80\x02", "\x80\x04"
	m := func(n string) string { return "cwsmark\n" + n + "\n" }
	return []hidden{
		{"call", "a.pkl", mark("call"), "call"},
		{"named bin", "a.bin", mark("bin"), "bin"},
		{"protocol 0", "a.ckpt", "cwsmark\nzero\n(tR.", "zero"},
		{"only imported", "a.pkl", p2 + m("only") + "0N.", "only"},
		{"Python 2 name", "a.pkl", p2 + "c__builtin__\nxrange\n0citertools\nizip\n0" + m("py2") + ".", "py2"},
		{"Python 2 name from the stack", "a.pkl", short("__builtin__") + short("xrange") + "\x93" + "0" + m("py2s") + ".", "py2s"},
		{"dotted", "a.pkl", p4 + short("wsmark") + short("Holder.dotted") + "\x93)R.", "Holder.dotted"},
		{"by the stack", "a.pkl", p4 + short("wsmark") + short("stacked") + "\x93)R.", "stacked"},
		{"names from the memo", "a.pkl", p4 + short("wsmark") + "\x94" + short("x") + "\x940" + "0h\x00" + short("memo") + "\x93)R.", "memo"},
		{"PUT stores the top", "a.pkl", p4 + short("harmless") + "0" + short("wsmark") + "q\x010" + short("put") + "q\x02" + "0h\x01h\x02\x93)R.", "put"},
		{"INST", "a.pkl", "(iwsmark\ninst\n.", "inst"},
		{"OBJ", "a.pkl", p2 + "(" + m("obj") + "o.", "obj"},
		{"NEWOBJ", "a.pkl", p2 + m("Box") + ")\x81.", "Box"},
		{"NEWOBJ_EX", "a.pkl", p4 + m("Box") + ")}\x92.", "Box"},
		{"callee as an argument", "a.pkl", p2 + "ccopy_reg\n__newobj__\n" + m("Box") + "\x85R.", "Box"},
		{"rebuild that calls", "a.pkl", p2 + "ctorch._tensor\n_rebuild_from_type_v2\n(" + m("rebuild") + "ctorch\nTensor\n)}tR.", "rebuild"},
		{"BUILD with a hook", "a.pkl", p2 + m("Box") + ")\x81}" + text("__setstate__") + m("hook") + "sbNb.", "hook"},
		{"in the state", "a.pkl", p2 + m("Box") + ")\x81}" + text("x") + m("state") + ")Rsb.", "state"},
		{"as a key", "a.pkl", p2 + "}" + m("key") + "Ns.", "key"},
		{"persistent id", "a.pkl", p2 + m("pid") + "Q.", "pid"},
		{"popped with its mark", "a.pkl", p2 + "(" + m("popped") + ")R1N.", "popped"},
		{"before an error", "a.pkl", mark("before")[:len(mark("before"))-1] + "\xff\xff", "before"},
		{"before the end", "a.pkl", mark("cut")[:len(mark("cut"))-1], "cut"},
		{"second stream", "a.pkl", p2 + "N." + mark("second"), "second"},
		{"third stream", "a.pkl", p2 + "N." + p2 + "}." + mark("third"), "third"},
		{"hexadecimal number", "a.pkl", "I0x1\n0L0x1L\n0" + "cwsmark\nhex\n.", "hex"},
		{"octal number", "a.pkl", "I010\n0cwsmark\noctal\n.", "octal"},
		{"out of its frame", "a.pkl", p4 + "\x95\x01\x00\x00\x00\x00\x00\x00\x00N0" + m("frame") + ".", "frame"},
		{"frame in a frame", "a.pkl", p4 + "\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x95\x01\x00\x00\x00\x00\x00\x00\x00N0" + m("frame2") + ".", "frame2"},
		{"PROTO again", "a.pkl", p4 + p2 + p2 + m("proto") + ".", "proto"},
		{"gzip", "a.pkl.gz", gzipOf(mark("gz")), "gz"},
		{"gzip in two members", "a.pkl", gzipOf("\x80\x02") + gzipOf(mark("gz2")[2:]), "gz2"},
	}
}

// legacyTricks puts a call into each of the streams of the legacy layout.
func legacyTricks() []hidden {
	streams := []string{
		"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "\x80\x02M\xe9\x03.", "\x80\x02}.", "\x80\x02}.", "\x80\x02].",
	}
	call := func(n string) string { return "cwsmark\n" + n + "\n)R0" }
	var out []hidden
	for i := range streams {
		name := fmt.Sprintf("legacy%d", i)
		changed := append([]string{}, streams...)
		changed[i] = changed[i][:2] + call(name) + changed[i][2:]
		out = append(out, hidden{name, "model.pt", strings.Join(changed, ""), name})
	}
	return append(out, hidden{"behind the legacy layout", "model.pt", strings.Join(streams, "") + mark("behind"), ""})
}

func torchArchive(first ...picklegen.Entry) *picklegen.Archive {
	a := &picklegen.Archive{Align: 64, Entries: first}
	a.Entries = append(a.Entries, picklegen.Entry{Name: "archive/version", Data: []byte("3\n")})
	return a
}

func record(name, content string) picklegen.Entry {
	return picklegen.Entry{Name: "archive/" + name, Data: []byte(content)}
}

// zipTricks are archives that readers see differently.
func zipTricks() []hidden {
	plain := "\x80\x02}."
	add := func(name, imports string, a *picklegen.Archive) hidden {
		return hidden{name, "model.pt", string(a.Bytes()), imports}
	}
	out := []hidden{
		add("archive", "zip", torchArchive(record("data.pkl", mark("zip")))),
		add("two records, the second", "", torchArchive(record("data.pkl", plain), record("data.pkl", mark("dup")))),
		add("two records, the first", "", torchArchive(record("data.pkl", mark("dup1")), record("data.pkl", plain))),
		add("upper case", "upper", torchArchive(record("DATA.PKL", mark("upper")))),
		add("no extension", "", torchArchive(record("data.pkl", plain), record("data/0", "cwsmark\nzero\n(tR."))),
		add("archive in an archive", "", torchArchive(record("data.pkl", plain), record("data/0", zipOf("x", mark("nested"))))),
	}
	for _, flag := range []uint16{1, 0x20, 0x40} {
		decoy := record("decoy.pkl", "x")
		decoy.Flags = flag
		out = append(out, add(fmt.Sprintf("decoy with the flag %#x", flag), "decoy", torchArchive(decoy, record("data.pkl", mark("decoy")))))
	}
	change := func(name, imports string, f func(*picklegen.Entry)) {
		e := record("data.pkl", mark(imports))
		f(&e)
		out = append(out, add(name, imports, torchArchive(e)))
	}
	change("local name", "localname", func(e *picklegen.Entry) { e.LocalName = "archive/data.txt" })
	change("local sum", "localcrc", func(e *picklegen.Entry) { e.LocalCRC = 1 })
	change("local size", "localsize", func(e *picklegen.Entry) { e.LocalSize = 1 })
	change("local flags", "localflags", func(e *picklegen.Entry) { e.LocalFlags = 1 })
	change("sum", "crc", func(e *picklegen.Entry) { e.CRC = 1 })
	out = append(out, outsideTricks(add)...)
	return append(out, storageTrick())
}

// outsideTricks are archives with something outside the directory.
func outsideTricks(add func(string, string, *picklegen.Archive) hidden) []hidden {
	a := torchArchive(record("data.pkl", "\x80\x02}."))
	a.Prefix = []byte(mark("prefix"))
	b := torchArchive(record("data.pkl", mark("suffix")))
	b.Suffix = []byte(mark("trailing"))
	e := record("data.pkl", mark("outside"))
	e.Outside = true
	c := torchArchive(e, record("data.pkl", "\x80\x02}."))
	return []hidden{add("pickle before the archive", "prefix", a), add("pickle behind the archive", "suffix", b), add("not in the directory", "", c)}
}

// storageTrick is a call beside a tensor whose storage is too short.
func storageTrick() hidden {
	p := stateDict("w", 4)
	p = p[:2] + "cwsmark\nstorage\n)R0" + p[2:]
	return hidden{"short storage", "model.pt", string(torchArchive(record("data.pkl", p), record("data/0", "1234567812345678")).Bytes()), "storage"}
}

// tarTrick is the layout of the first versions of PyTorch.
func tarTrick() hidden {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"sys_info", "\x80\x02}."}, {"pickle", mark("tar")}, {"tensors", "\x80\x02K\x00."}, {"storages", "\x80\x02K\x00.\x80\x02]."}} {
		must(0, w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o644}))
		must(w.Write([]byte(f[1])))
	}
	must(0, w.Close())
	return hidden{"tar", "model.pt", b.String(), "tar"}
}

// loadedNames are the names that real loaders import from the files.
func loadedNames(t *testing.T, files []string) []map[string]bool {
	t.Helper()
	cmd := exec.Command(realtools.Python(t), append([]string{filepath.Join("testdata", "imports.py")}, files...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("imports.py: %v\n%s", err, errs.String())
	}
	var all []map[string]bool
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var l struct {
			Names  [][2]string
			Errors []string
		}
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, n := range l.Names {
			names[n[0]+"."+n[1]] = true
		}
		all = append(all, names)
	}
	if len(all) != len(files) {
		t.Fatalf("%d of %d files", len(all), len(files))
	}
	return all
}

// What torch.load, the C and the Python unpickler import of the markers is in
// our report, whatever hides it. All callables are markers: nothing else is
// ever imported by the loaders.
func TestImportsOfRealLoaders(t *testing.T) {
	t.Parallel()
	tricks := append(append(append(pickleTricks(), legacyTricks()...), zipTricks()...), tarTrick())
	dir := t.TempDir()
	var files []string
	for i, h := range tricks {
		name := filepath.Join(dir, fmt.Sprint(i)+"-"+h.file)
		if err := os.WriteFile(name, []byte(h.in), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	for i, loaded := range loadedNames(t, files) {
		h := tricks[i]
		if h.imports != "" && !loaded["wsmark."+h.imports] {
			t.Errorf("%s: no loader imports %s: the trick is no longer one (%v)", h.name, h.imports, loaded)
		}
		ours := map[string]bool{}
		rep := verdictOf(t, h.file, h.in)
		for _, f := range rep.Files {
			for _, fd := range f.Findings {
				name, _, _ := strings.Cut(fd.Global, " (")
				ours[name] = true
			}
		}
		for name := range loaded {
			if strings.HasPrefix(name, "wsmark.") && !ours[name] {
				t.Errorf("%s: a real loader imports %s, the report does not name it\n%s", h.name, name, explain(rep))
			}
		}
	}
}
