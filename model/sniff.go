package model

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// headLen is what is read of every file.
const headLen = 8192

// Sniff says what a blob is, by its content alone. It reads a few kilobytes,
// the directory of a zip archive, and text of up to a megabyte whole. Text that
// only a name tells apart (Markdown, YAML, Python) is Text here; Load looks at
// the name too. A failure to read is an error, a strange file is Unknown.
//
// Where the bytes allow several readings the most dangerous one wins: what an
// unpickler would run is a pickle even if it is text, an image or a tar
// archive, and what a zip reader would open at the end of a text, script, image
// or unknown file is what that archive is. Formats with a magic number that no
// pickle can begin with, and safetensors, are named after their first bytes.
func Sniff(r io.ReaderAt, size int64) (Format, error) {
	if size <= 0 {
		return Empty, nil
	}
	s, err := newSniffer(r, size)
	if err != nil {
		return Unknown, err
	}
	f, err := s.sniff()
	if err != nil {
		return Unknown, fmt.Errorf("look into file: %w", err)
	}
	return f, nil
}

// sniffer is a file whose beginning is at hand.
type sniffer struct {
	r    io.ReaderAt
	size int64
	head []byte
}

func newSniffer(r io.ReaderAt, size int64) (*sniffer, error) {
	s := &sniffer{r: r, size: size}
	head, err := s.bytesAt(0, headLen)
	s.head = head
	return s, err
}

// ReadAt serves the head from memory.
func (s *sniffer) ReadAt(p []byte, off int64) (int, error) {
	if off >= 0 && off+int64(len(p)) <= int64(len(s.head)) {
		return copy(p, s.head[off:]), nil
	}
	return s.r.ReadAt(p, off)
}

// bytesAt reads up to n bytes, fewer at the end of the file.
func (s *sniffer) bytesAt(off int64, n int) ([]byte, error) {
	if off < 0 || off >= s.size {
		return nil, nil
	}
	p := make([]byte, min(int64(n), s.size-off))
	got, err := s.ReadAt(p, off)
	if got < len(p) && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p[:got], nil
}

func (s *sniffer) sniff() (Format, error) {
	if isZipStart(s.head) {
		return s.zipKind()
	}
	if looksSafetensors(s.head) { // first: a length may look like a short magic number
		return Safetensors, nil
	}
	if f := s.magic(); f != "" {
		return f, nil
	}
	if f, err := s.pickleKind(); f != "" || err != nil {
		return f, err
	}
	if f, err := s.tarKind(); f != "" || err != nil {
		return f, err
	}
	f, err := s.plainKind()
	if err != nil {
		return "", err
	}
	// A zip reader starts at the end and does not care what stands before.
	if end, err := s.findZipEnd(); err != nil {
		return "", err
	} else if end != nil && end.length > 0 {
		return s.zipKind()
	}
	return f, nil
}

// magic knows the formats by numbers that no pickle can begin with.
func (s *sniffer) magic() Format {
	for _, m := range magics {
		if bytes.HasPrefix(s.head, []byte(m.bytes)) {
			return m.format
		}
	}
	switch {
	case isBzip2(s.head):
		return Bzip2
	case isMachO(s.head):
		return MachO
	case s.isPE():
		return PE
	}
	return ""
}

var magics = []struct {
	bytes  string
	format Format
}{
	{"GGUF", GGUF},
	{"\x89HDF\r\n\x1a\n", HDF5},
	{"\x93NUMPY", NPY},
	{"\x1f\x8b", Gzip},
	{"\xfd7zXZ\x00", XZ},
	{"\x28\xb5\x2f\xfd", Zstd},
	{"7z\xbc\xaf\x27\x1c", SevenZip},
	{"\x7fELF", ELF},
}

// isBzip2 checks level and block header: the digits of pi, or the end.
func isBzip2(b []byte) bool {
	return len(b) >= 10 && bytes.HasPrefix(b, []byte("BZh")) && b[3] >= '1' && b[3] <= '9' &&
		(string(b[4:10]) == "\x31\x41\x59\x26\x53\x59" || string(b[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// isMachO knows the four thin magic numbers and the fat one, which Java classes
// share: a class has a version where a fat file has a small count.
func isMachO(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	switch binary.BigEndian.Uint32(b) {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe, 0xbebafeca:
		return true
	case 0xcafebabe, 0xcafebabf:
		n := binary.BigEndian.Uint32(b[4:])
		return n > 0 && n < 45
	}
	return false
}

// isPE takes MZ with the PE signature where it says, and the portable
// executables that are a shell script and more at once (llamafile). Other files
// that begin with MZ are PE if they are not text: old DOS programs.
func (s *sniffer) isPE() bool {
	if !bytes.HasPrefix(s.head, []byte("MZ")) {
		return false
	}
	if bytes.HasPrefix(s.head, []byte("MZqFpD")) {
		return true
	}
	if len(s.head) < 64 {
		return false
	}
	at := int64(binary.LittleEndian.Uint32(s.head[60:]))
	sig, err := s.bytesAt(at, 4)
	return err == nil && string(sig) == "PE\x00\x00" || !isText(s.head[:64], true)
}

// looksSafetensors wants a length below 2^40 and, at its place, the beginning
// of a JSON object. A file that is cut off is still one: the reader says how.
func looksSafetensors(b []byte) bool {
	if len(b) < 10 || binary.LittleEndian.Uint64(b) >= 1<<40 {
		return false
	}
	text := bytes.TrimLeft(b[8:], " \t\r\n")
	if len(text) < 2 || text[0] != '{' {
		return false
	}
	text = bytes.TrimLeft(text[1:], " \t\r\n")
	return len(text) > 0 && (text[0] == '"' || text[0] == '}')
}

// torchMagic is the number that the first stream of a torch.save file from
// before 1.6 holds (MAGIC_NUMBER in torch/serialization.py).
var torchMagic, _ = new(big.Int).SetString("1950a86a20f9469cfc6c", 16)

// pickleKind tells pickles and torch's legacy container.
func (s *sniffer) pickleKind() (Format, error) {
	if isLegacyTorch(s.head) {
		return TorchLegacy, nil
	}
	if len(s.head) >= 3 && s.head[0] == 0x80 && s.head[1] <= 5 && isOpcode(s.head[2]) {
		return Pickle, nil
	}
	yes, err := Pickled(s, s.size)
	if yes {
		return Pickle, err
	}
	return "", err
}

// isLegacyTorch reads a first stream that is nothing but the magic number, in
// whatever protocol: PROTO and FRAME, an integer, memo opcodes, STOP.
func isLegacyTorch(b []byte) bool {
	if len(b) > 2 && b[0] == 0x80 {
		b = b[2:]
	}
	if len(b) > 9 && b[0] == 0x95 {
		b = b[9:]
	}
	n, rest := integerOperand(b)
	if n == nil || n.Cmp(torchMagic) != 0 {
		return false
	}
	for len(rest) > 1 && rest[0] != '.' {
		switch rest[0] {
		case 0x94:
			rest = rest[1:]
		case 'q':
			rest = rest[2:]
		case 'p':
			_, after, ok := bytes.Cut(rest, []byte("\n"))
			if !ok {
				return false
			}
			rest = after
		default:
			return false
		}
	}
	return len(rest) > 0 && rest[0] == '.'
}

// integerOperand reads LONG1, LONG4, LONG or INT with a number of moderate size.
func integerOperand(b []byte) (n *big.Int, rest []byte) {
	var le []byte
	switch {
	case len(b) > 2 && b[0] == 0x8a && len(b)-2 > int(b[1]):
		end := 2 + int(b[1])
		le, rest = b[2:end], b[end:]
	case len(b) > 5 && b[0] == 0x8b && binary.LittleEndian.Uint32(b[1:]) < 64 && len(b)-5 > int(b[1]):
		end := 5 + int(b[1])
		le, rest = b[5:end], b[end:]
	case len(b) > 2 && (b[0] == 'L' || b[0] == 'I'):
		line, after, ok := bytes.Cut(b[1:], []byte("\n"))
		if !ok || len(line) > 64 {
			return nil, nil
		}
		n, ok = new(big.Int).SetString(strings.TrimSuffix(strings.TrimSpace(string(line)), "L"), 0)
		if !ok {
			return nil, nil
		}
		return n, after
	default:
		return nil, nil
	}
	be := slices.Clone(le)
	slices.Reverse(be)
	return new(big.Int).SetBytes(be), rest // negative numbers are no magic
}

// isOpcode says whether a byte is an opcode of any protocol.
func isOpcode(c byte) bool {
	return c >= 0x80 && c <= 0x98 || strings.IndexByte("().01 2BCFGIJKLMNPQRSTUVX]abcdeghijlopqrstu}", c) >= 0 && c != ' '
}

// tarKind checks the first header by its checksum, which the oldest archives
// have too, and looks for the members of torch's tar container.
func (s *sniffer) tarKind() (Format, error) {
	if len(s.head) < 512 || !tarHeader(s.head[:512]) {
		return "", nil
	}
	members := map[string]bool{}
	for at, n := int64(0), 0; n < 32; n++ {
		h, err := s.bytesAt(at, 512)
		if err != nil {
			return "", err
		}
		if len(h) < 512 || !tarHeader(h) {
			break
		}
		members[strings.TrimPrefix(cString(h[:100]), "./")] = true
		size, err := strconv.ParseInt(strings.Trim(cString(h[124:136]), " "), 8, 64)
		if err != nil || size < 0 || size > s.size-at {
			break
		}
		at += 512 + (size+511)&^511
	}
	if members["pickle"] && members["storages"] && members["tensors"] {
		return TorchTar, nil
	}
	return TAR, nil
}

// tarHeader checks a header's sum: all bytes, with the sum's own taken as
// blanks. Old writers summed signed bytes.
func tarHeader(h []byte) bool {
	want, err := strconv.ParseInt(strings.Trim(cString(h[148:156]), " "), 8, 64)
	if err != nil || h[0] == 0 {
		return false
	}
	var unsigned, signed int64
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// plainKind tells what has no magic number or a harmless one.
func (s *sniffer) plainKind() (Format, error) {
	switch {
	case bytes.HasPrefix(s.head, []byte("#!")):
		return Script, nil
	case isImage(s.head):
		return Image, nil
	}
	if f, err := s.textKind(); f != "" || err != nil {
		return f, err
	}
	switch {
	case isZlib(s.head):
		return Zlib, nil
	case isLZMA(s.head):
		return LZMA, nil
	}
	if f, err := s.protobufKind(); f != "" || err != nil {
		return f, err
	}
	if yes, err := s.isFlax(); yes || err != nil {
		return Flax, err
	}
	return s.userBlock()
}

func isImage(b []byte) bool {
	for _, magic := range []string{"\x89PNG\r\n\x1a\n", "\xff\xd8\xff", "GIF87a", "GIF89a"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP"
}

// isZlib checks the two header bytes (RFC 1950) and that deflate starts: two
// bytes alone are too little, "x^" begins many a formula.
func isZlib(b []byte) bool {
	if len(b) < 6 || b[0]&15 != 8 || b[0]>>4 > 7 || b[1]&0x20 != 0 || binary.BigEndian.Uint16(b)%31 != 0 {
		return false
	}
	var out [16]byte
	n, err := flate.NewReader(bytes.NewReader(b[2:])).Read(out[:])
	return n > 0 || errors.Is(err, io.EOF)
}

// isLZMA checks the header of the .lzma container: the properties that all
// writers choose, a dictionary of 2^n or 2^n+2^(n-1) bytes, a size that is
// unknown or below 2^40, and the zero that the data starts with.
func isLZMA(b []byte) bool {
	if len(b) < 18 || b[0] != 0x5d || b[13] != 0 {
		return false
	}
	dict := binary.LittleEndian.Uint32(b[1:])
	size := binary.LittleEndian.Uint64(b[5:])
	if dict < 4096 || size != 1<<64-1 && size >= 1<<40 {
		return false
	}
	for n := 12; n < 32; n++ {
		if dict == 1<<n || dict == 1<<n+1<<(n-1) {
			return true
		}
	}
	return dict == 1<<32-1
}

// userBlock looks for an HDF5 file behind a block of the user's: the signature
// may be at 512 bytes and at every doubling (HDF5 format, section II.A).
func (s *sniffer) userBlock() (Format, error) {
	for at := int64(512); at < s.size && at <= 1<<30; at *= 2 {
		b, err := s.bytesAt(at, 8)
		if err != nil {
			return "", err
		}
		if string(b) == "\x89HDF\r\n\x1a\n" {
			return HDF5, nil
		}
	}
	return Unknown, nil
}
