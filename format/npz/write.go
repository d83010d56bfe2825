// Package npz lays out NumPy's .npz archives: a ZIP of .npy files
// (numpy/lib/format.py, numpy/lib/npyio.py).
package npz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/safetensors"
)

const (
	npyExt = ".npy"
	// maxDims is how many dimensions an array of NumPy 1 can have.
	maxDims = 32
	// npyAlignment is what numpy aligns an array's data to in its file.
	npyAlignment = 64
)

// descriptors are the dtypes that NumPy has.
var descriptors = map[safetensors.DType]string{
	safetensors.BOOL: "|b1", safetensors.I8: "|i1", safetensors.U8: "|u1",
	safetensors.I16: "<i2", safetensors.U16: "<u2", safetensors.I32: "<i4", safetensors.U32: "<u4",
	safetensors.I64: "<i8", safetensors.U64: "<u8",
	safetensors.F16: "<f2", safetensors.F32: "<f4", safetensors.F64: "<f8", safetensors.C64: "<c8",
}

// NewLayout lays out an uncompressed archive with an array for each spec, in
// their order; its data records are the arrays' elements, little-endian and
// row-major, at multiples of 64 bytes. Tensors that NumPy has no dtype for,
// and names that its archives cannot hold, give a *format.UnsupportedError.
func NewLayout(specs []safetensors.Spec) (*format.Archive, error) {
	if err := checkNames(specs); err != nil {
		return nil, err
	}
	a := &format.Archive{}
	for i := range specs {
		s := &specs[i]
		head, err := header(s)
		if err != nil {
			return nil, err
		}
		n, err := safetensors.ByteSize(s.DType, s.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", s.Name, err)
		}
		if n > math.MaxInt64 {
			return nil, fmt.Errorf("tensor %q: %d bytes are more than a file holds", s.Name, n)
		}
		if err := a.Data(s.Name+npyExt, head, int64(n)); err != nil {
			return nil, err
		}
	}
	return a, a.Finish()
}

// checkNames refuses what numpy.load or an unpacker would take for another
// name.
func checkNames(specs []safetensors.Spec) error {
	names := make(map[string]bool, len(specs))
	for i := range specs {
		names[specs[i].Name] = true
	}
	for i := range specs {
		name := specs[i].Name
		switch short, isFile := strings.CutSuffix(name, npyExt); {
		case len(name) > format.MaxRecordName-len(npyExt):
			return unsupported(name, fmt.Sprintf("name of %d bytes, more than a ZIP record can have", len(name)))
		case !utf8.ValidString(name):
			return unsupported(name, "name that is not UTF-8")
		case strings.Contains(name, "\x00"):
			return unsupported(name, "name with a NUL, at which Python ends the names of records")
		case strings.HasPrefix(name, "/") || climbs(name):
			return unsupported(name, "name that leads out of the folder when the archive is unpacked")
		case isFile && names[short]:
			return unsupported(name, fmt.Sprintf("name that numpy.load takes for the array %q", short))
		}
	}
	return nil
}

func climbs(name string) bool {
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == ".." {
			return true
		}
	}
	return false
}

func unsupported(name, what string) error {
	return &format.UnsupportedError{Format: "npz", Where: name, What: what, Next: "rename the tensor: --rename FROM=TO"}
}

// header is what an .npy file of format version 1.0 begins with, padded to a
// multiple of 64 bytes.
func header(s *safetensors.Spec) ([]byte, error) {
	descr, ok := descriptors[s.DType]
	switch {
	case !ok:
		return nil, &format.UnsupportedError{
			Format: "npz", Where: s.Name, What: fmt.Sprintf("%s tensor, which NumPy has no dtype for", s.DType),
			Next: "write safetensors (--to safetensors), or cast the tensor to a dtype of NumPy first",
		}
	case len(s.Shape) > maxDims:
		return nil, &format.UnsupportedError{
			Format: "npz", Where: s.Name, What: fmt.Sprintf("tensor of %d dimensions, of which NumPy has at most %d", len(s.Shape), maxDims),
			Next: "write safetensors (--to safetensors)",
		}
	}
	shape, err := shapeText(s)
	if err != nil {
		return nil, err
	}
	text := "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }"
	const fixed = len("\x93NUMPY\x01\x00") + 2
	pad := (npyAlignment - (fixed+len(text)+1)%npyAlignment) % npyAlignment
	text += strings.Repeat(" ", pad) + "\n"
	b := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(text))) // 32 numbers are below 64 KiB
	return append(b, text...), nil
}

func shapeText(s *safetensors.Spec) (string, error) {
	var parts []string
	for _, n := range s.Shape {
		if n > math.MaxInt64 {
			return "", errors.New("tensor " + strconv.Quote(s.Name) + ": a dimension of 2^63 or more")
		}
		parts = append(parts, strconv.FormatUint(n, 10))
	}
	if len(parts) == 1 {
		return parts[0] + ",", nil
	}
	return strings.Join(parts, ", "), nil
}
