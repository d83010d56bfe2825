package scan

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// numpyDetector judges .npy arrays and .npz archives of them.
type numpyDetector struct{}

func (numpyDetector) Name() string { return "numpy" }

func (numpyDetector) Wants(f model.File) bool {
	return f.Format == model.NPY || f.Format == model.NPZ || f.Format == model.ZIP && f.Declared == model.NPZ
}

func (numpyDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	if f.Format == model.NPY {
		if err := scanArray(ctx, r, b); err != nil {
			return r.verdict, r.findings, err
		}
		return r.result()
	}
	d := readZip(r, b, b.Size())
	if d == nil {
		return r.result()
	}
	// numpy.load unpickles every member that is no array when it may.
	for _, e := range d.entries {
		if !strings.HasSuffix(e.name, ".npy") {
			r.add("WS-NUMPY-003", e.header, "the member %q is no array", clip(e.name)).Inner = clip(e.name)
		}
	}
	err := d.scanEntries(ctx, b, func(string) bool { return true })
	if err != nil {
		return r.verdict, r.findings, err
	}
	for _, f := range r.findings {
		if f.Rule == "WS-FORMAT-002" {
			r.add("WS-NUMPY-003", -1, "%s is no array", f.Inner).Inner = f.Inner
		}
	}
	return r.result()
}

// scanArray judges one .npy file.
func scanArray(ctx context.Context, r *report, b model.Blob) error {
	h, err := readArrayHeader(b, b.Size())
	if err != nil {
		r.add("WS-NUMPY-002", 0, "%v", err)
		return nil
	}
	if h.objects {
		r.add("WS-NUMPY-001", 0, "the dtype %s holds Python objects", clip(h.descr))
		if n := len(r.findings); n < maxFindings {
			return scanObjects(ctx, r, b, h.data)
		}
		return nil
	}
	if have := uint64(b.Size() - h.data); have != h.bytes {
		r.add("WS-NUMPY-002", h.data, "the array takes %d bytes, the file has %d", h.bytes, have)
	}
	return nil
}

// scanObjects judges the pickle that an array of objects is. The verdict is
// unsafe already; this says why.
func scanObjects(ctx context.Context, r *report, b model.Blob, at int64) error {
	return scanStreams(ctx, r, b, at)
}

// arrayHeader is what is needed of a .npy header (NEP 1).
type arrayHeader struct {
	descr   string
	objects bool
	data    int64  // offset of the numbers
	bytes   uint64 // that the numbers take
}

// maxArrayHeader bounds the header; numpy itself refuses more than 10,000
// characters unless told otherwise.
const maxArrayHeader = 1 << 20

func readArrayHeader(r io.ReaderAt, size int64) (*arrayHeader, error) {
	first := peek(r, size, 0, 12)
	if len(first) < 10 || !bytes.HasPrefix(first, []byte("\x93NUMPY")) {
		return nil, fmt.Errorf("no .npy signature")
	}
	start, n := int64(10), int64(le16(first[8:]))
	switch first[6] {
	case 1:
	case 2, 3:
		if len(first) < 12 {
			return nil, fmt.Errorf("the header is cut short")
		}
		start, n = 12, int64(le32(first[8:]))
	default:
		return nil, fmt.Errorf("version %d.%d is unknown", first[6], first[7])
	}
	if n > maxArrayHeader || n > size-start {
		return nil, fmt.Errorf("the header declares %d bytes, %d are left", n, size-start)
	}
	text := peek(r, size, start, int(n))
	if int64(len(text)) < n {
		return nil, io.ErrUnexpectedEOF
	}
	h := &arrayHeader{data: start + n}
	return h, h.parse(string(text))
}

// parse reads the dictionary of the header: exactly the keys descr,
// fortran_order and shape.
func (h *arrayHeader) parse(s string) error {
	p := &literal{s: s}
	v, err := p.value(0)
	if err != nil {
		return err
	}
	if p.space(); p.i < len(p.s) {
		return fmt.Errorf("text after the header's dictionary")
	}
	d, ok := v.(litDict)
	if !ok || len(d.keys) != 3 {
		return fmt.Errorf("the header is no dictionary of descr, fortran_order and shape")
	}
	descr, shape, order := d.get("descr"), d.get("shape"), d.get("fortran_order")
	if _, ok := order.(bool); !ok || descr == nil || shape == nil {
		return fmt.Errorf("the header is no dictionary of descr, fortran_order and shape")
	}
	item, objects, err := dtypeBytes(descr, 0)
	if err != nil {
		return err
	}
	h.descr, h.objects = fmt.Sprint(descr), objects
	dims, ok := shape.(litTuple)
	if !ok {
		return fmt.Errorf("the shape is no tuple")
	}
	return h.measure(item, dims)
}

func (h *arrayHeader) measure(item uint64, dims litTuple) error {
	n := item
	for _, d := range dims {
		k, ok := d.(int64)
		if !ok || k < 0 {
			return fmt.Errorf("a dimension that is no number")
		}
		hi, lo := bits.Mul64(n, uint64(k))
		if hi != 0 || lo > 1<<62 {
			return fmt.Errorf("the array is larger than any file")
		}
		n = lo
	}
	h.bytes = n
	return nil
}

// dtypeBytes is the itemsize of a dtype description, and whether it holds
// Python objects.
func dtypeBytes(v any, depth int) (size uint64, objects bool, err error) {
	switch v := v.(type) {
	case string:
		return codeBytes(v)
	case litTuple: // (base, shape)
		if len(v) == 2 {
			return subarrayBytes(v[0], v[1], depth)
		}
	case litList: // fields: (name, dtype) or (name, dtype, shape)
		for _, f := range v {
			t, ok := f.(litTuple)
			if !ok || len(t) < 2 || len(t) > 3 || depth > 16 {
				return 0, false, fmt.Errorf("a dtype field that is none")
			}
			var n uint64
			var o bool
			if len(t) == 3 {
				n, o, err = subarrayBytes(t[1], t[2], depth+1)
			} else {
				n, o, err = dtypeBytes(t[1], depth+1)
			}
			if err != nil {
				return 0, objects || o, err
			}
			size, objects = size+n, objects || o
			if size > 1<<40 {
				return 0, objects, fmt.Errorf("an item of %d bytes", size)
			}
		}
		return size, objects, nil
	}
	return 0, false, fmt.Errorf("the dtype %v is unknown", v)
}

func subarrayBytes(base, shape any, depth int) (uint64, bool, error) {
	n, objects, err := dtypeBytes(base, depth+1)
	if err != nil {
		return 0, objects, err
	}
	dims, ok := shape.(litTuple)
	if k, single := shape.(int64); single {
		dims, ok = litTuple{k}, true
	}
	if !ok || depth > 16 {
		return 0, objects, fmt.Errorf("a field's shape that is none")
	}
	for _, d := range dims {
		k, ok := d.(int64)
		if !ok || k < 0 || k > 1<<40 {
			return 0, objects, fmt.Errorf("a field's dimension that is none")
		}
		hi, lo := bits.Mul64(n, uint64(k))
		if hi != 0 || lo > 1<<40 {
			return 0, objects, fmt.Errorf("an item that is too large")
		}
		n = lo
	}
	return n, objects, nil
}

// codeBytes is the itemsize of a simple dtype such as "<f4" or "<M8[ns]".
func codeBytes(s string) (size uint64, objects bool, err error) {
	t := strings.TrimLeft(s, "<>=|")
	if t == "" || len(s)-len(t) > 1 {
		return 0, false, fmt.Errorf("the dtype %q is unknown", clip(s))
	}
	digits, unit := t[1:], ""
	if i := strings.IndexByte(digits, '['); i >= 0 {
		digits, unit = digits[:i], digits[i:]
	}
	n := uint64(0)
	if digits != "" {
		if n, err = strconv.ParseUint(digits, 10, 40); err != nil {
			return 0, false, fmt.Errorf("the dtype %q is unknown", clip(s))
		}
	}
	switch t[0] {
	case 'O':
		return 8, true, nil
	case '?':
		return 1, false, nil
	case 'b', 'i', 'u', 'f', 'c', 'S', 'a', 'V':
		if unit == "" && (n > 0 || t[0] == 'S' || t[0] == 'V' || t[0] == 'a') {
			return n, false, nil
		}
	case 'U':
		if unit == "" {
			return 4 * n, false, nil
		}
	case 'M', 'm':
		if n == 8 && (unit == "" || strings.HasSuffix(unit, "]")) {
			return n, false, nil
		}
	}
	return 0, false, fmt.Errorf("the dtype %q is unknown", clip(s))
}
