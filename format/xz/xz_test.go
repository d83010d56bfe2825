package xz

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func samplesForXZ() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 70_000) // more than a chunk that is not compressed
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var mixed bytes.Buffer
	for i := range 8_000 {
		mixed.WriteString(strings.Repeat("layer.", i%7))
		mixed.WriteByte(byte(r.Uint32()))
	}
	return map[string][]byte{
		"empty": {}, "short": []byte("a"), "run": bytes.Repeat([]byte("abc"), 800_000),
		"random": random, "mixed": mixed.Bytes(),
	}
}

// The decoder gives what the xz tool compressed, for all its formats, presets
// and checks.
func TestXZ(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("xz")
	if err != nil {
		t.Fatal("the xz tool is needed: ", err)
	}
	args := [][]string{{"-0"}, {"-6"}, {"-9e", "--check=sha256"}, {"--check=crc32", "--block-size=65536"}, {"--check=none"},
		{"--lzma2=preset=6,lc=1,lp=3,pb=0"}, {"--format=lzma", "-6"}, {"--format=lzma", "--lzma1=preset=3,lc=4,lp=0,pb=4"}}
	for name, data := range samplesForXZ() {
		for _, a := range args {
			cmd := exec.Command(tool, append([]string{"-c"}, a...)...)
			cmd.Stdin = bytes.NewReader(data)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			open := NewReader
			if a[0] == "--format=lzma" {
				open = NewLZMAReader
			}
			got, err := readAllFrom(open, packed)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s %v: %d of %d bytes, %v", name, a, len(got), len(data), err)
			}
			if name == "run" {
				continue // long: a chunk has at most 2 MiB
			}
			if len(packed) > 40 {
				if _, err := readAllFrom(open, packed[:len(packed)-9]); err == nil {
					t.Errorf("%s %v: a file cut short is taken", name, a)
				}
			}
			if a[0] != "--format=lzma" {
				for _, back := range []int{13, 14, 15, 16, 20} { // the index's checksum, and the index
					bad := bytes.Clone(packed)
					bad[len(bad)-back] ^= 0x10
					if _, err := readAllFrom(open, bad); err == nil {
						t.Errorf("%s %v: a byte of the index %d before the end is another, and it is taken", name, a, back)
					}
				}
				twice := append(bytes.Clone(packed), packed...)
				if got, err := readAllFrom(open, twice); err != nil || len(got) != 2*len(data) {
					t.Errorf("%s %v: two streams give %d bytes, %v", name, a, len(got), err)
				}
			}
		}
	}
}

func readAllFrom(open func(io.Reader) (io.ReadCloser, error), b []byte) ([]byte, error) {
	r, err := open(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func FuzzXZ(f *testing.F) {
	for _, p := range []string{"../../testdata/checkpoints/joblib_xz.joblib", "../../testdata/checkpoints/joblib_lzma.joblib", "../../testdata/threats/malicious/archive/model.pkl.xz"} {
		b, err := os.ReadFile(filepath.FromSlash(p))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	tiny, _ := base64.StdEncoding.DecodeString("/Td6WFoAAATm1rRGAAAAABzfRCEftvN9AQAAAAAEWVo=")
	f.Add(tiny)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, open := range []func(io.Reader) (io.ReadCloser, error){NewReader, NewLZMAReader} {
			r, err := open(bytes.NewReader(b))
			if err != nil {
				continue
			}
			if n, _ := io.Copy(io.Discard, io.LimitReader(r, 1<<24)); n > 1<<24 {
				t.Fatal("more than was asked for")
			}
		}
	})
}
