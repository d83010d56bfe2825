package realtools

import (
	"bufio"
	_ "embed"
	"encoding/binary"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

//go:embed genops.py
var genopsScript string

// Genops is a Python process that tells the opcodes of pickles.
type Genops struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// StartGenops starts the process; the test's end stops it.
func StartGenops(tb testing.TB) *Genops {
	tb.Helper()
	python := "/usr/bin/python3"
	if _, err := exec.LookPath(python); err != nil {
		python = "python3"
	}
	cmd := exec.Command(python, "-c", genopsScript)
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal("python3 is needed: ", err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &Genops{in, bufio.NewReaderSize(out, 1<<20)}
}

// Offsets gives where the opcodes of a pickle begin, as pickletools.genops of
// CPython tells; failed is its error where it refuses the stream, and the
// offsets are those before.
func (g *Genops) Offsets(tb testing.TB, stream []byte) (offsets []int64, failed string) {
	tb.Helper()
	msg := binary.LittleEndian.AppendUint32(nil, uint32(len(stream)))
	if _, err := g.in.Write(append(msg, stream...)); err != nil {
		tb.Fatal("genops: ", err)
	}
	line, err := g.out.ReadString('\n')
	if err != nil {
		tb.Fatal("genops: ", err)
	}
	line = strings.TrimSuffix(line, "\n")
	numbers := line
	if i := strings.IndexAny(line, ".!"); i >= 0 {
		numbers, failed = line[:i], strings.TrimPrefix(strings.TrimPrefix(line[i:], "."), "!")
	}
	for _, s := range strings.Fields(numbers) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			tb.Fatal("genops: ", line)
		}
		offsets = append(offsets, n)
	}
	return offsets, failed
}
