package scan

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// archiveDetector opens archives and compressed files and judges what is in
// them, with limits on the depth and on the bytes decompressed.
type archiveDetector struct{}

func (archiveDetector) Name() string { return "archive" }

func (archiveDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.ZIP, model.TAR, model.Gzip, model.Bzip2, model.XZ, model.LZMA, model.Zstd, model.Zlib, model.SevenZip:
		return true
	}
	return false
}

func (archiveDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{verdict: Safe}
	var err error
	switch f.Format {
	case model.ZIP:
		err = scanZip(ctx, r, b)
	case model.TAR:
		err = scanTar(ctx, r, b)
	case model.SevenZip:
		err = scanSevenZip(ctx, r, b)
	default:
		err = scanCompressed(ctx, r, f, b)
	}
	if err != nil {
		return r.verdict, r.findings, err
	}
	if r.verdict == Convertible {
		packed(r, f, b)
	}
	return r.result()
}

// packed judges a carrier of something that converts by itself: only joblib's
// own compressed files are converted as they are.
func packed(r *report, f model.File, b model.Blob) {
	switch f.Format {
	case model.Gzip, model.Zlib, model.Bzip2, model.XZ, model.LZMA:
		if arraysConvert(r, b) {
			return
		}
	}
	r.add("WS-ARCHIVE-010", -1, "the %s archive holds what has to be converted", f.Format)
}

// innerName is the name of a compressed file without the ending that says so.
func innerName(name string) string {
	base := path.Base(name)
	switch e := ext(base); e {
	case ".gz", ".bz2", ".xz", ".zst", ".zstd", ".lzma", ".z":
		return base[:len(base)-len(e)]
	case ".tgz", ".tbz", ".tbz2", ".txz":
		return base[:len(base)-len(e)] + ".tar"
	}
	return base
}

// scanTar judges every entry of a tar archive.
func scanTar(ctx context.Context, r *report, b model.Blob) error {
	section := &offsetReader{r: b, end: b.Size()}
	tr := tar.NewReader(section)
	seen := entryNames{}
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.add("WS-ARCHIVE-007", section.pos, "%v", err)
			return nil
		}
		if n >= maxMembers {
			r.add("WS-LIMIT-001", section.pos, "more than %d entries", maxMembers)
			return nil
		}
		start := section.pos
		checkEntryName(r, h.Name, start, seen)
		if _, again := h.PAXRecords["size"]; again && h.Size < 8<<30 {
			r.add("WS-ARCHIVE-001", start, "%s has a second size that it does not need: readers take different ones", clip(h.Name)).Inner = clip(h.Name)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			if h.Size > b.Size()-start {
				r.add("WS-ARCHIVE-007", start, "%s is longer than the archive", clip(h.Name)).Inner = clip(h.Name)
			}
			size := min(h.Size, b.Size()-start)
			if err := (nested{}).scan(ctx, r, b, h.Name, io.NewSectionReader(b, start, size), size); err != nil {
				return err
			}
		case tar.TypeDir, tar.TypeXGlobalHeader:
		case tar.TypeGNUSparse:
			r.add("WS-ARCHIVE-009", start, "%s is a sparse entry", clip(h.Name)).Inner = clip(h.Name)
		default:
			r.add("WS-ARCHIVE-004", start, "%s is a link or special file", clip(h.Name)).Inner = clip(h.Name)
		}
	}
	return tarTail(r, b, section.pos)
}

// maxTarFilling bounds the zeros after the last entry that are read: records
// are of some kilobytes.
const maxTarFilling = 64 << 20

// tarTail looks at what follows the end blocks: filling up to the record size,
// of zeros only.
func tarTail(r *report, b model.Blob, from int64) error {
	c := newCursor(b, from, b.Size())
	for c.left() > 0 {
		if c.pos-from >= maxTarFilling {
			r.add("WS-LIMIT-001", c.pos, "more than %d bytes of filling after the last entry", maxTarFilling)
			return nil
		}
		n := int(min(c.left(), 4096))
		at := c.pos
		buf, err := c.bytes(n)
		if err != nil {
			return nil
		}
		for i, v := range buf {
			if v != 0 {
				r.add("WS-ARCHIVE-002", at+int64(i), "%d bytes after the last entry", b.Size()-at-int64(i))
				return nil
			}
		}
	}
	return nil
}

// offsetReader is a reader that knows where it is, and skips by seeking.
type offsetReader struct {
	r   io.ReaderAt
	pos int64
	end int64
}

func (o *offsetReader) Read(p []byte) (int, error) {
	if o.pos >= o.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), o.end-o.pos)]
	n, err := o.r.ReadAt(p, o.pos)
	o.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek lets archive/tar pass over contents unread.
func (o *offsetReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.pos
	case io.SeekEnd:
		offset += o.end
	}
	if offset < 0 {
		return o.pos, errors.New("seek before the beginning")
	}
	o.pos = offset
	return o.pos, nil
}

// entryNames are the names of entries, keys or tensors, by their digests: there
// may be very many, and each may be long.
type entryNames map[[12]byte]struct{}

// add says whether a name is there already.
func (n entryNames) add(name string) bool {
	sum := sha256.Sum256([]byte(name))
	key := [12]byte(sum[:12])
	_, again := n[key]
	n[key] = struct{}{}
	return again
}

// maxNames bounds the names of one archive, in bytes, where all are kept.
const maxNames = 8 << 20

// checkEntryName judges an entry's name: it may not leave the folder that the
// archive is extracted to, and not be there twice, case not counted.
func checkEntryName(r *report, name string, off int64, seen entryNames) {
	clean := strings.ReplaceAll(name, "\\", "/")
	key := strings.ToLower(strings.TrimSuffix(path.Clean(clean), "/"))
	again := seen.add(key)
	switch {
	case leaves(clean):
		r.add("WS-ARCHIVE-003", off, "the entry %q leaves the folder", clip(name)).Inner = clip(name)
	case strings.Contains(name, "\\"), strings.ContainsRune(name, 0):
		r.add("WS-ARCHIVE-001", off, "the entry %q has a backslash or NUL in its name", clip(name)).Inner = clip(name)
	case key != "." && again:
		r.add("WS-ARCHIVE-001", off, "the entry %q is there twice (case not counted)", clip(name)).Inner = clip(name)
	}
}

// leaves says whether a slash-separated path is absolute or climbs out.
func leaves(p string) bool {
	if strings.HasPrefix(p, "/") || len(p) > 1 && p[1] == ':' {
		return true
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
