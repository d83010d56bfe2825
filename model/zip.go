package model

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"strings"
)

// Lengths of zip records. Source: PKWARE APPNOTE 6.3.
const (
	zipEndLen     = 22
	zipEntryLen   = 46
	zip64EndLen   = 56
	zip64FindLen  = 20
	zipComment    = 0xffff
	maxZipEntries = 1 << 20 // looked at
)

func isZipStart(b []byte) bool {
	if len(b) < 4 || string(b[:2]) != "PK" {
		return false
	}
	switch string(b[2:4]) {
	case "\x03\x04", "\x05\x06", "\x07\x08":
		return true
	}
	return false
}

// zipEnd is where a zip archive has its directory. An empty archive has one
// of length 0.
type zipEnd struct {
	start, length int64
}

// findZipEnd looks for the last end record that leads to a directory; nil
// without one. As common readers do it allows bytes behind the record, and takes
// the directory to lie right before it.
func (s *sniffer) findZipEnd() (*zipEnd, error) {
	n := min(s.size, zipEndLen+zipComment+zip64EndLen+zip64FindLen)
	base := s.size - n
	tail, err := s.bytesAt(base, int(n))
	if err != nil {
		return nil, err
	}
	for i := len(tail) - zipEndLen; i >= 0; i-- {
		if i = bytes.LastIndex(tail[:i+4], []byte("PK\x05\x06")); i < 0 {
			break
		}
		end, err := s.directory(tail, i, base)
		if end != nil || err != nil {
			return end, err
		}
	}
	return nil, nil
}

// directory finds the directory of the end record at tail[i].
func (s *sniffer) directory(tail []byte, i int, base int64) (*zipEnd, error) {
	rec := tail[i:]
	length := uint64(binary.LittleEndian.Uint32(rec[12:]))
	at := base + int64(i) // where the directory ends
	if i >= zip64FindLen && string(tail[i-zip64FindLen:i-zip64FindLen+4]) == "PK\x06\x07" {
		if j := bytes.LastIndex(tail[:i], []byte("PK\x06\x06")); j >= 0 && len(tail)-j >= zip64EndLen {
			length = binary.LittleEndian.Uint64(tail[j+40:])
			at = base + int64(j)
		}
	}
	if length > uint64(at) {
		return nil, nil
	}
	end := &zipEnd{start: at - int64(length), length: int64(length)}
	if length == 0 {
		return end, nil
	}
	sig, err := s.bytesAt(end.start, 4)
	if err != nil || string(sig) != "PK\x01\x02" {
		return nil, err
	}
	return end, nil
}

// zipKind tells what an archive is by the names in its directory; without a
// directory by the first local name.
func (s *sniffer) zipKind() (Format, error) {
	var names zipNames
	end, err := s.findZipEnd()
	if err != nil {
		return "", err
	}
	if end == nil {
		names.add(firstLocalName(s.head))
		return names.kind(), nil
	}
	in := bufio.NewReader(io.NewSectionReader(s, end.start, end.length))
	for range maxZipEntries {
		name, err := nextZipName(in)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errNoEntry) {
			break
		}
		if err != nil {
			return "", err
		}
		names.add(name)
	}
	return names.kind(), nil
}

var errNoEntry = errors.New("no directory entry")

// nextZipName reads one entry of the directory.
func nextZipName(in *bufio.Reader) (string, error) {
	var rec [zipEntryLen]byte
	if _, err := io.ReadFull(in, rec[:]); err != nil {
		return "", err
	}
	if string(rec[:4]) != "PK\x01\x02" {
		return "", errNoEntry
	}
	name := make([]byte, binary.LittleEndian.Uint16(rec[28:]))
	if _, err := io.ReadFull(in, name); err != nil {
		return "", err
	}
	rest := int(binary.LittleEndian.Uint16(rec[30:])) + int(binary.LittleEndian.Uint16(rec[32:]))
	_, err := in.Discard(rest)
	return string(name), err
}

func firstLocalName(head []byte) string {
	if len(head) < 30 || string(head[:4]) != "PK\x03\x04" {
		return ""
	}
	n := int(binary.LittleEndian.Uint16(head[26:]))
	return string(head[30:min(len(head), 30+n)])
}

// zipNames notes what of an archive's names tells its kind.
type zipNames struct {
	all, npy        int
	roots           map[string]bool // folders with a data.pkl in them
	code            map[string]bool // folders with constants.pkl or code/ in them
	config, weights bool            // of Keras
}

func (z *zipNames) add(name string) {
	z.all++
	if strings.HasSuffix(name, ".npy") {
		z.npy++
	}
	z.config = z.config || name == "config.json"
	z.weights = z.weights || name == "model.weights.h5"
	root, rest, ok := strings.Cut(path.Clean(name), "/")
	switch {
	case !ok:
	case rest == "data.pkl":
		note(&z.roots, root)
	case rest == "constants.pkl" || rest == "code" || strings.HasPrefix(rest, "code/"):
		note(&z.code, root)
	}
}

func note(set *map[string]bool, name string) {
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[name] = true
}

func (z *zipNames) kind() Format {
	for root := range z.roots {
		if z.code[root] {
			return TorchScript
		}
	}
	switch {
	case len(z.roots) > 0:
		return TorchZip
	case z.config && z.weights:
		return Keras
	case z.all > 0 && z.npy == z.all:
		return NPZ
	}
	return ZIP
}
