package scan_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/weightseal/weightseal/scan"
)

// seven is a member of a 7z archive as a test wants it.
type seven struct {
	name, data string
	noStream   bool   // a folder, or with empty set a file of no bytes
	empty      bool   // the file is marked as one of no bytes
	anti       bool   // extracting deletes it
	attributes uint32 // of Windows, and those of Unix in the upper half
	crc        uint32 // another checksum
}

// sevenOptions are the ways in which an archive is not as a writer would have
// it.
type sevenOptions struct {
	method         string // bytes of the folder's coder; Copy when empty
	properties     string // before the last one of the members
	hole, behind   string // after the packed stream, after the header
	header         string // after the header's last record
	headerOffset   uint64 // more than there is
	noNames, twice bool
}

// number is a count as 7z has it.
func sevenNumber(n int) string {
	return "\xff" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func sevenZipOf(list ...seven) string { return rawSevenZip(sevenOptions{}, list...) }

// rawSevenZip writes an archive of one folder, in which everything is stored.
func rawSevenZip(o sevenOptions, list ...seven) string {
	var packed, sizes, sums, names, attributes string
	empty, emptyFile, anti := make([]byte, (len(list)+7)/8), make([]byte, (len(list)+7)/8), make([]byte, (len(list)+7)/8)
	streams, empties := 0, 0
	for i, m := range list {
		for _, c := range utf16.Encode([]rune(m.name + "\x00")) {
			names += string(binary.LittleEndian.AppendUint16(nil, c))
		}
		attributes += le32s(int(m.attributes))
		if m.noStream {
			empty[i/8] |= 0x80 >> (i % 8)
			if m.empty {
				emptyFile[empties/8] |= 0x80 >> (empties % 8)
			}
			if m.anti {
				anti[empties/8] |= 0x80 >> (empties % 8)
			}
			empties++
			continue
		}
		packed += m.data
		streams++
		sizes += sevenNumber(len(m.data))
		if m.crc == 0 {
			m.crc = crc32.ChecksumIEEE([]byte(m.data))
		}
		sums += le32s(int(m.crc))
	}
	if o.method == "" {
		o.method = "\x01\x00"
	}
	h := "\x01"
	if streams > 0 {
		h += "\x04\x06\x00" + sevenNumber(1) + "\x09" + sevenNumber(len(packed)) + "\x00" +
			"\x07\x0b\x01\x00\x01" + o.method + "\x0c" + sevenNumber(len(packed)) + "\x00" +
			"\x08\x0d" + sevenNumber(streams)
		if streams > 1 {
			h += "\x09" + sizes[:len(sizes)-9]
		}
		h += "\x0a\x01" + sums + "\x00\x00"
	}
	property := func(id, data string) string { return id + sevenNumber(len(data)) + data }
	h += "\x05" + sevenNumber(len(list))
	if empties > 0 {
		n := (empties + 7) / 8
		h += property("\x0e", string(empty)) + property("\x0f", string(emptyFile[:n])) + property("\x10", string(anti[:n]))
	}
	if !o.noNames {
		h += property("\x11", "\x00"+names)
	}
	if o.twice {
		h += property("\x11", "\x00"+names)
	}
	h += o.properties + property("\x15", "\x01\x00"+attributes) + "\x00\x00" + o.header
	next := binary.LittleEndian.AppendUint64(nil, uint64(len(packed)+len(o.hole))+o.headerOffset)
	next = binary.LittleEndian.AppendUint64(next, uint64(len(h)))
	next = binary.LittleEndian.AppendUint32(next, crc32.ChecksumIEEE([]byte(h)))
	return "7z\xbc\xaf\x27\x1c\x00\x04" + le32s(int(crc32.ChecksumIEEE(next))) + string(next) + packed + o.hole + h + o.behind
}

// Techniques with which a 7z archive hides what is in it.
func TestSevenZipAttacks(t *testing.T) {
	t.Parallel()
	safe, review, unknown, unsafe := scan.Safe, scan.Review, scan.Unknown, scan.Unsafe
	text := seven{name: "a.txt", data: "hello"}
	evil := seven{name: "data.pkl", data: evilPickle}
	raw := func(o sevenOptions) string { return rawSevenZip(o, text) }
	long := strings.Repeat("x", 5<<20)
	checkAttacks(t, []attack{
		{"T2", "7z of text", "a.7z", sevenZipOf(text, seven{name: "b", noStream: true}, seven{name: "c", noStream: true, empty: true}), safe, ""},
		{"T2", "7z of nothing", "a.7z", "7z\xbc\xaf\x27\x1c\x00\x04\x8d\x9b\xd5\x0f" + strings.Repeat("\x00", 20), safe, ""},
		{"T2", "7z of a pickle", "a.7z", sevenZipOf(text, evil), unsafe, "WS-PICKLE-002"},
		{"T2", "7z of a pickle behind a large file", "a.7z", sevenZipOf(text, seven{name: "b.txt", data: long}, evil), unsafe, "WS-PICKLE-002"},
		{"T2", "7z of a large pickle", "a.7z", sevenZipOf(text, seven{name: "b.pkl", data: "\x80\x04B" + le32s(len(long)) + long + "0" + evilPickle}), unsafe, "WS-PICKLE-002"},
		{"T2", "7z of a large zip", "a.7z", sevenZipOf(text, seven{name: "b.zip", data: rawZip(zipPart{name: "a", data: long}, zipPart{name: "b.pkl", data: evilPickle})}), unsafe, "WS-PICKLE-002"},
		{"T2", "7z of a plain pickle", "a.7z", sevenZipOf(seven{name: "x.pkl", data: "\x80\x02}X\x01\x00\x00\x00aK\x01s."}), review, "WS-ARCHIVE-010"},
		{"T2", "7z in 7z", "a.7z", sevenZipOf(seven{name: "b.7z", data: sevenZipOf(evil)}), unsafe, "WS-PICKLE-002"},
		{"T2", "7z named as a checkpoint", "a.pt", sevenZipOf(text), unsafe, "WS-NAME-003"},
		{"T2", "7z, a name that leaves", "a.7z", sevenZipOf(seven{name: "../a.txt", data: "x"}), unsafe, "WS-ARCHIVE-003"},
		{"T2", "7z, an absolute name", "a.7z", sevenZipOf(seven{name: "/etc/a", data: "x"}), unsafe, "WS-ARCHIVE-003"},
		{"T2", "7z, a name twice", "a.7z", sevenZipOf(text, seven{name: "A.txt", data: "x"}), unsafe, "WS-ARCHIVE-001"},
		{"T2", "7z, a name of nothing", "a.7z", sevenZipOf(seven{data: "x"}), unsafe, "WS-ARCHIVE-001"},
		{"T2", "7z, a symbolic link", "a.7z", sevenZipOf(seven{name: "a", data: "/etc", attributes: 0xa1ff8000}), unsafe, "WS-ARCHIVE-004"},
		{"T2", "7z, a link of Windows", "a.7z", sevenZipOf(seven{name: "a", data: "x", attributes: 0x400}), unsafe, "WS-ARCHIVE-004"},
		{"T2", "7z, a device", "a.7z", sevenZipOf(seven{name: "a", noStream: true, empty: true, attributes: 0x21ff8000}), unsafe, "WS-ARCHIVE-004"},
		{"T2", "7z, a deletion", "a.7z", sevenZipOf(seven{name: "a", noStream: true, empty: true, anti: true}), unsafe, "WS-ARCHIVE-001"},
		{"T2", "7z, another checksum", "a.7z", sevenZipOf(text, seven{name: "b", data: "x", crc: 1}), unsafe, "WS-ARCHIVE-007"},
		{"T2", "7z, a hole", "a.7z", raw(sevenOptions{hole: evilPickle}), unsafe, "WS-ARCHIVE-002"},
		{"T2", "7z, a pickle in a hole", "a.7z", raw(sevenOptions{hole: evilPickle}), unsafe, "WS-PICKLE-002"},
		{"T2", "7z, bytes behind", "a.7z", raw(sevenOptions{behind: evilPickle}), unsafe, "WS-PICKLE-002"},
		{"T2", "7z and a zip", "a.7z", raw(sevenOptions{behind: zipOf("a.pkl", evilPickle)}), unsafe, "WS-FORMAT-001"},
		{"T2", "7z, bytes behind the header's records", "a.7z", raw(sevenOptions{header: "x"}), unsafe, "WS-ARCHIVE-002"},
		{"T2", "7z, filling that is none", "a.7z", raw(sevenOptions{properties: "\x19\x03abc"}), review, "WS-ARCHIVE-008"},
		{"T2", "7z, filling", "a.7z", raw(sevenOptions{properties: "\x19\x03\x00\x00\x00"}), safe, ""},
		{"T2", "7z, a comment", "a.7z", raw(sevenOptions{properties: "\x16\x02ab"}), review, "WS-ARCHIVE-008"},
		{"T2", "7z, names twice", "a.7z", raw(sevenOptions{twice: true}), unsafe, "WS-ARCHIVE-007"},
		{"T2", "7z without names", "a.7z", raw(sevenOptions{noNames: true}), unsafe, "WS-ARCHIVE-007"},
		{"T2", "7z of a volume", "a.7z", raw(sevenOptions{headerOffset: 1 << 20}), unknown, "WS-ARCHIVE-009"},
		{"T2", "7z, PPMd", "a.7z", raw(sevenOptions{method: "\x03\x03\x04\x01"}), unknown, "WS-ARCHIVE-009"},
		{"T2", "7z, AES", "a.7z", raw(sevenOptions{method: "\x04\x06\xf1\x07\x01"}), unknown, "WS-ARCHIVE-005"},
		{"T2", "7z, a method that is none", "a.7z", raw(sevenOptions{method: "\x01\x77"}), unknown, "WS-ARCHIVE-009"},
		{"T2", "7z, LZMA that is none", "a.7z", raw(sevenOptions{method: "\x23\x03\x01\x01\x05\x5d\x00\x00\x01\x00"}), unsafe, "WS-ARCHIVE-007"},
	})
}

// What 7z writes of a model is judged as the model is, solid or not, and with
// every method that is opened.
func TestSevenZipReal(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("7z")
	if err != nil {
		t.Fatal("7z is needed: ", err)
	}
	large := strings.Repeat("0123456789abcdef", 400<<10) // more than is kept whole
	files := map[string]string{
		"config.json": `{"model_type": "x"}`, "b/large.txt": large, "b/README.md": "# A model\n",
		"c.safetensors": safetensorsOf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "1234"),
	}
	for _, args := range []string{"-m0=lzma2", "-m0=lzma -ms=off", "-m0=deflate", "-m0=bzip2 -ms=off", "-m0=copy", "-m0=bcj -m1=lzma2 -mhc=off", "-m0=ppmd", "-psecret", "-psecret -mhe=on"} {
		for _, evil := range []bool{false, true} {
			dir := t.TempDir()
			list := []string{"a", "-mx=1", filepath.Join(dir, "a.7z")}
			for name, content := range files {
				p := filepath.Join(dir, filepath.FromSlash(name))
				if os.MkdirAll(filepath.Dir(p), 0o755) != nil || os.WriteFile(p, []byte(content), 0o644) != nil {
					t.Fatal(p)
				}
				list = append(list, name)
			}
			if evil {
				if err := os.WriteFile(filepath.Join(dir, "z.bin"), []byte(evilPickle), 0o644); err != nil {
					t.Fatal(err)
				}
				list = append(list, "z.bin")
			}
			cmd := exec.Command(tool, append(list, strings.Fields(args)...)...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", args, err, out)
			}
			b, err := os.ReadFile(filepath.Join(dir, "a.7z"))
			if err != nil {
				t.Fatal(err)
			}
			want := scan.Safe
			switch {
			case strings.Contains(args, "secret"), strings.Contains(args, "ppmd"):
				want = scan.Unknown
			case evil:
				want = scan.Unsafe
			}
			if rep := verdictOf(t, "a.7z", string(b)); rep.Verdict != want {
				t.Errorf("%s, evil %v: %s, want %s\n%s", args, evil, rep.Verdict, want, explain(rep))
			} else if evil && want == scan.Unsafe && rep.Files[0].Findings[0].Inner != "z.bin" {
				t.Errorf("%s: found in %q", args, rep.Files[0].Findings[0].Inner)
			}
		}
	}
}
