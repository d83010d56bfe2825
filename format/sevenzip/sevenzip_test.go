package sevenzip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// content are files of many kinds: none of the lengths is a whole number of
// anything.
func content() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 80_003)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	// Calls and jumps, some of them close together, for the filter of machine code.
	code := make([]byte, 40_001)
	for i := range code {
		code[i] = []byte{0xe8, 0xe9, 0x00, 0xff, byte(r.Uint32()), byte(r.Uint32())}[r.IntN(6)]
	}
	return map[string][]byte{
		"empty.txt": {}, "a.txt": []byte("a"), "random.bin": random, "code.bin": code,
		"run.txt": bytes.Repeat([]byte("abc"), 100_000), "sub/é 日本 😀.txt": []byte("a name outside ASCII\n"),
		"sub/deep/empty.txt": {}, "sub/b.txt": []byte(strings.Repeat("layer.weight\n", 3000)),
	}
}

// written is an archive that 7z wrote of the content.
func written(t *testing.T, args ...string) []byte {
	t.Helper()
	tool, err := exec.LookPath("7z")
	if err != nil {
		t.Fatal("7z is needed: ", err)
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	for name, b := range content() {
		p := filepath.Join(in, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.txt", filepath.Join(in, "link")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "a.7z")
	cmd := exec.Command(tool, append([]string{"a", "-snl", out, "."}, args...)...)
	cmd.Dir = in
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		if b, err = os.ReadFile(out + ".001"); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func open(b []byte) (*Archive, error) {
	return Open(bytes.NewReader(b), int64(len(b)), Limits{})
}

// extract reads all members, and compares their checksums.
func extract(a *Archive) (map[string][]byte, error) {
	got := map[string][]byte{}
	var full []*Member
	for m := range a.Members {
		if m.HasStream {
			full = append(full, m)
		} else if !m.Dir {
			got[m.Name] = []byte{}
		}
	}
	for f := range a.Folders {
		r, err := f.Open()
		if err != nil {
			return got, err
		}
		for range f.Streams() {
			m := full[0]
			full = full[1:]
			b, err := io.ReadAll(io.LimitReader(r, m.Size))
			if err != nil {
				return got, fmt.Errorf("%s: %w", m.Name, err)
			}
			if int64(len(b)) != m.Size || !m.HasCRC || crc32.ChecksumIEEE(b) != m.CRC {
				return got, fmt.Errorf("%s: %d of %d bytes, or another checksum", m.Name, len(b), m.Size)
			}
			got[m.Name] = b
		}
		if n, err := io.Copy(io.Discard, r); n > 0 || err != nil {
			return got, fmt.Errorf("%d bytes more: %w", n, err)
		}
	}
	return got, nil
}

// What 7z wrote is read, for every method, filter and form of header.
func TestReal(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"", "-m0=copy", "-m0=lzma", "-m0=lzma2", "-m0=deflate", "-m0=bzip2", "-m0=lzma:lc=0:lp=2:pb=0", "-mx=9", "-mx=1",
		"-ms=off", "-ms=on", "-ms=off -m0=deflate", "-ms=2f -m0=lzma", "-mhc=off", "-mhc=on", "-mhc=off -m0=copy",
		"-m0=bcj -m1=lzma", "-m0=bcj -m1=copy", "-m0=delta:3 -m1=lzma2", "-m0=delta:1 -m1=bcj -m2=deflate",
		"-m0=delta:256 -m1=bzip2", "-mtc=on -mta=on", "-mtr=off", "-m0=lzma2:d=4m:c=64k -mmt=2",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := written(t, strings.Fields(args)...)
			a, err := open(b)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Remarks) > 0 {
				t.Errorf("remarks: %v", a.Remarks)
			}
			got, err := extract(a)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range content() {
				if !bytes.Equal(got[name], want) {
					t.Errorf("%s: %d bytes, want %d", name, len(got[name]), len(want))
				}
			}
			if len(got) != len(content())+1 {
				t.Errorf("%d members with content or empty", len(got))
			}
			for m := range a.Members {
				if special := m.Special(); special != (m.Name == "link" && args != "-mtr=off") {
					t.Errorf("%s: special %v, attributes %#x", m.Name, special, m.Attributes)
				}
				if dir := m.Name == "sub" || m.Name == "sub/deep"; dir != m.Dir {
					t.Errorf("%s: a folder: %v", m.Name, m.Dir)
				}
			}
		})
	}
}

// What is not read says why.
func TestRealRefused(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]error{
		"-m0=ppmd": ErrUnsupported, "-psecret": ErrEncrypted, "-psecret -mhe": ErrEncrypted, "-m0=deflate64": ErrUnsupported,
		"-m0=bcj2 -m1=lzma -m2=lzma -m3=lzma -mb0:1 -mb0s1:2 -mb0s2:3": ErrUnsupported, "-v100k": ErrVolume, "-m0=arm64 -m1=lzma": ErrUnsupported,
	} {
		a, err := open(written(t, strings.Fields(args)...))
		if err == nil {
			_, err = extract(a)
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// A dictionary larger than the window matters only where something lies
// further back.
func TestWindow(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-m0=lzma2:d=1m", "-m0=lzma:d=1m"} {
		b := written(t, strings.Fields(args)...)
		for _, tt := range []struct {
			window int64
			want   error
		}{{64 << 10, nil}, {1 << 12, ErrLimit}} {
			a, err := Open(bytes.NewReader(b), int64(len(b)), Limits{Window: tt.window})
			if err == nil {
				_, err = extract(a)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, a window of %d: %v", args, tt.window, err)
			}
		}
	}
}

// A byte that is another, and a file cut short, are errors, and none is a panic.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-m0=lzma2 -mhc=off", "-m0=copy", "-m0=bzip2", "-m0=deflate -ms=off", "-m0=bcj -m1=lzma"} {
		b := written(t, strings.Fields(args)...)
		for n := 0; n < len(b); n += 1 + len(b)/200 {
			if _, err := open(b[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are taken", args, n, len(b))
			}
			if 6 <= n && n < 8 {
				continue // the minor version
			}
			bad := bytes.Clone(b)
			bad[n] ^= 0x11
			a, err := open(bad)
			if err == nil {
				_, err = extract(a)
			}
			if err == nil {
				t.Errorf("%s: byte %d is another, and it is taken", args, n)
			}
		}
	}
}

// archiveOf is an archive with a header as a test wants it.
func archiveOf(packed, header string) []byte {
	next := binary.LittleEndian.AppendUint64(nil, uint64(len(packed)))
	next = binary.LittleEndian.AppendUint64(next, uint64(len(header)))
	next = binary.LittleEndian.AppendUint32(next, crc32.ChecksumIEEE([]byte(header)))
	start := binary.LittleEndian.AppendUint32([]byte(signature+"\x00\x04"), crc32.ChecksumIEEE(next))
	return []byte(string(append(start, next...)) + packed + header)
}

// Headers that promise what would take memory or time, or that fit nothing:
// each is an error, and none of them is believed before it is checked.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	const (
		huge   = "\xff\xff\xff\xff\xff\xff\xff\xff\x7f" // 2^63 - 1
		mebi   = "\xf0\x00\x00\x00\x10"                 // 2^28
		stored = "\x07\x0b\x01\x00\x01\x01\x00\x0c\x01\x00"
	)
	names := func(n int) string {
		b := bytes.Repeat([]byte("a\x00\x00\x00"), n)
		return "\x11" + "\xe0" + string([]byte{byte(len(b) + 1), byte((len(b) + 1) >> 8), byte((len(b) + 1) >> 16)}) + "\x00" + string(b)
	}
	for name, header := range map[string]string{
		"nothing":                       "\x00",
		"no header":                     "\x05",
		"a number cut short":            "\x01\x04\x06\xff",
		"packed streams":                "\x01\x04\x06\x00" + mebi + "\x09",
		"a packed stream behind":        "\x01\x04\x06\x00\x01\x09" + mebi + "\x00\x00",
		"a packed stream far behind":    "\x01\x04\x06\x00\x01\x09" + huge + "\x00\x00",
		"packed streams that overflow":  "\x01\x04\x06\x00\x03\x09" + strings.Repeat("\xff\xff\xff\xff\xff\xff\xff\xff\x3f", 3) + "\x00\x00",
		"packed streams at the end":     "\x01\x04\x06" + huge + "\x01\x09\x01\x00\x00",
		"folders":                       "\x01\x04\x07\x0b" + mebi + "\x00",
		"folders without coders":        "\x01\x04\x07\x0b\x01\x00\x00",
		"coders":                        "\x01\x04\x07\x0b\x01\x00\x40",
		"a coder of many streams":       "\x01\x04\x07\x0b\x01\x00\x01\x11\x00" + mebi + "\x01",
		"properties of a coder":         "\x01\x04\x07\x0b\x01\x00\x01\x21\x00" + mebi,
		"coders in a circle":            "\x01\x04\x07\x0b\x01\x00\x02\x01\x00\x01\x00\x00\x00\x0c\x01\x01\x00\x00\x00",
		"a coder that feeds itself":     "\x01\x04\x07\x0b\x01\x00\x02\x01\x00\x01\x00\x01\x01\x0c\x01\x01\x00\x00\x00",
		"a bind that is none":           "\x01\x04\x07\x0b\x01\x00\x02\x01\x00\x01\x00\x07\x07",
		"no packed stream for a folder": "\x01\x04" + stored + "\x00\x00",
		"streams in a folder":           "\x01\x04\x06\x00\x01\x09\x01\x00" + stored + "\x08\x0d" + mebi,
		"streams without sizes":         "\x01\x04\x06\x00\x01\x09\x01\x00" + stored + "\x08\x0d\x03\x00\x00",
		"streams longer than a folder":  "\x01\x04\x06\x00\x01\x09\x01\x00" + stored + "\x08\x0d\x02\x09" + huge + "\x00\x00",
		"members":                       "\x01\x05" + mebi,
		"members without names":         "\x01\x05\x01\x0e\x01\x80\x00\x00",
		"members without streams":       "\x01\x05\x01" + names(1) + "\x00\x00",
		"fewer names":                   "\x01\x05\x03\x0e\x01\xe0" + names(2) + "\x00\x00",
		"a property too long":           "\x01\x05\x01\x11" + mebi,
		"attributes that are not there": "\x01\x05\x01\x0e\x01\x80" + names(1) + "\x15\x02\x01\x00\x00\x00",
		"records twice":                 "\x01\x05\x00\x00\x05\x00\x00\x00",
		"a record that is none":         "\x01\x17",
		"an encoded header of nothing":  "\x17\x00",
		"a header that is its own":      "\x17\x06\x20\x01\x09\x01\x00" + stored + "\x00\x00",
		"an encoded header that is huge": "\x17\x06\x00\x01\x09\x01\x00\x07\x0b\x01\x00\x01\x23\x03\x01\x01\x05\x5d\xff\xff\xff\xff\x0c" +
			"\xff\xff\xff\xff\xff\xff\xff\xff\x3f\x00\x00",
	} {
		b := archiveOf("x", header)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a, err := open(b)
		if err == nil {
			_, err = extract(a)
		}
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: is taken", name)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 { // other tests run beside this one
			t.Errorf("%s: %d MiB", name, got>>20)
		}
	}
}

// Any bytes: no panic, no hang, and no more than what is declared.
func FuzzOpen(f *testing.F) {
	for _, p := range []string{"../../testdata/threats/malicious/torch/nullifai_7z.pt"} {
		b, err := os.ReadFile(filepath.FromSlash(p))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(archiveOf("", "\x01\x05\x00\x00\x00"))
	f.Add(archiveOf("hello", "\x01\x04\x06\x00\x01\x09\x05\x00\x07\x0b\x01\x00\x01\x01\x00\x0c\x05\x00\x08\x0a\x01\x86\xa6\x10\x36\x00\x00"+
		"\x05\x01\x11\x05\x00a\x00\x00\x00\x00\x00"))
	f.Add(archiveOf("x", "\x17\x06\x00\x01\x09\x01\x00\x07\x0b\x01\x00\x02\x21\x21\x01\x00\x21\x03\x01\x00\x01\x00\x0c\x01\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		// The checksums would keep nearly all that a fuzzer makes out.
		if len(b) >= startSize {
			off, n := binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint64(b[20:])
			if left := uint64(len(b) - startSize); off <= left && n <= left-off {
				binary.LittleEndian.PutUint32(b[28:], crc32.ChecksumIEEE(b[startSize+off:startSize+off+n]))
			}
			binary.LittleEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[12:startSize]))
		}
		a, err := Open(bytes.NewReader(b), int64(len(b)), Limits{Members: 1000, Header: 1 << 16, Window: 1 << 16})
		if err != nil {
			return
		}
		members := 0
		for m := range a.Members {
			members++
			_ = m.Special()
		}
		if members > 1000 {
			t.Fatal(members)
		}
		for folder := range a.Folders {
			r, err := folder.Open()
			if err != nil {
				continue
			}
			if n, _ := io.Copy(io.Discard, io.LimitReader(r, 1<<22)); n > folder.Size() {
				t.Fatalf("%d bytes of %d", n, folder.Size())
			}
		}
	})
}
