package sha256x2

import (
	"crypto/md5"
	"crypto/sha256"
	"hash"
	"math/rand/v2"
	"runtime"
	"testing"
)

// check writes data in the pieces that cuts gives, after both hashes took
// different beginnings, and compares with crypto/sha256 alone.
func check(t *testing.T, before [2]int, data []byte, cuts []int) {
	t.Helper()
	head := make([]byte, max(before[0], before[1]))
	for i := range head {
		head[i] = byte(i * 7)
	}
	var got, want [2]hash.Hash
	for i := range got {
		got[i], want[i] = sha256.New(), sha256.New()
		got[i].Write(head[:before[i]])
		want[i].Write(head[:before[i]])
		want[i].Write(data)
	}
	at := 0
	for _, cut := range append(cuts, len(data)) {
		cut = max(at, min(cut, len(data)))
		Write(got[0], got[1], data[at:cut])
		at = cut
	}
	for i := range got {
		if g, w := got[i].Sum(nil), want[i].Sum(nil); string(g) != string(w) {
			t.Errorf("hash %d after %v, %d bytes cut at %v: %x, want %x", i, before, len(data), cuts, g, w)
		}
	}
}

func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

func TestEveryAlignment(t *testing.T) {
	t.Parallel()
	data := noise(1, 5*bulk)
	for a := range 65 {
		for b := range 65 {
			check(t, [2]int{a, b}, data[:bulk+(a*65+b)%130], nil)
		}
	}
}

func TestSizesAndPieces(t *testing.T) {
	t.Parallel()
	data := noise(2, 1<<20+13)
	for _, n := range []int{0, 1, 63, 64, bulk - 1, bulk, bulk + 1, 1 << 16, 1<<20 + 13} {
		check(t, [2]int{0, 0}, data[:n], nil)
		check(t, [2]int{9, 40}, data[:n], []int{n / 3, n/3 + 100, n / 2})
	}
}

// A hash of another kind, or none, gets the same bytes.
func TestOtherHashes(t *testing.T) {
	t.Parallel()
	data := noise(3, 3*bulk)
	want := sha256.Sum256(data)
	wantMD5 := md5.Sum(data)
	for name, pair := range map[string][2]hash.Hash{
		"first":  {md5.New(), sha256.New()},
		"second": {sha256.New(), md5.New()},
		"none":   {sha256.New(), nil},
	} {
		Write(pair[0], pair[1], data)
		for _, h := range pair {
			if h == nil {
				continue
			}
			got := string(h.Sum(nil))
			if got != string(want[:]) && got != string(wantMD5[:]) {
				t.Errorf("%s: a %d-byte hash is wrong", name, h.Size())
			}
		}
	}
}

// The layout of crypto/sha256's state is not documented: a Go version that
// changes it must not silently cost the speed.
func TestStateIsReadable(t *testing.T) {
	t.Parallel()
	var s state
	if !s.take(sha256.New()) {
		t.Error("crypto/sha256 gives its state in a form that this package does not know")
	}
	if runtime.GOARCH == "amd64" && !available {
		t.Log("this processor has no SHA extensions: only the plain way was tested")
	}
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte("a"), uint16(0), uint16(0), uint16(0))
	f.Add(noise(4, 3*bulk), uint16(5), uint16(70), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, a, b, cut uint16) {
		for len(data) > 0 && len(data) < bulk {
			data = append(data, data...)
		}
		check(t, [2]int{int(a % 200), int(b % 200)}, data, []int{int(cut)})
	})
}

func BenchmarkWrite(b *testing.B) {
	data := noise(5, 256<<10)
	for name, partner := range map[string]hash.Hash{"one": nil, "two": sha256.New()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			h := sha256.New()
			for b.Loop() {
				Write(h, partner, data)
			}
		})
	}
	b.Run("apart", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		h, partner := sha256.New(), sha256.New()
		for b.Loop() {
			_, _ = h.Write(data)
			_, _ = partner.Write(data)
		}
	})
}
