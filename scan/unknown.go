package scan

import (
	"context"

	"github.com/weightseal/weightseal/model"
)

// unknownDetector judges what nobody else wants. It looks for a pickle that
// begins here, and for the signatures of formats that are recognised only to
// say what they are; the rest is unknown.
type unknownDetector struct{}

func (unknownDetector) Name() string            { return "unknown" }
func (unknownDetector) Wants(f model.File) bool { return true }

func (unknownDetector) Scan(ctx context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{}
	start := head(b, b.Size(), 4096)
	if signature(r, start) {
		return r.result()
	}
	skip := leading(start)
	switch {
	case isPickle(b), unpickledByName(f):
		r.verdict = Convertible
		if f.Declared != model.Pickle {
			r.add("WS-NAME-002", 0, "the content is a pickle, or what an unpickler would be given")
		}
		if skip > 0 && !isPickle(b) {
			r.add("WS-PICKLE-014", 0, "%d bytes before the first opcode", skip)
		} else {
			skip = 0
		}
		if err := scanStreams(ctx, r, b, skip); err != nil {
			return r.verdict, r.findings, err
		}
		return r.result()
	}
	if width, ok := bareNumbers(b); ok {
		r.add("WS-FORMAT-004", 0, "numbers of %d bytes and nothing else", width)
		return r.result()
	}
	r.add("WS-FORMAT-002", 0, "the content is of no format that is known here")
	if skip > 0 {
		// Filling at the beginning hides what follows from a look at the
		// first bytes.
		if err := behindFilling(ctx, r, b, skip); err != nil {
			return r.verdict, r.findings, err
		}
	}
	return r.result()
}

// unpickledByName says whether programs hand the file to an unpickler because
// of its name. The ending .bin is used for too many other things.
func unpickledByName(f model.File) bool {
	return isPickleName(f.Declared) && ext(f.Path) != ".bin"
}

// behindFilling judges a pickle that begins after filling.
func behindFilling(ctx context.Context, r *report, b model.Blob, skip int64) error {
	rest := &member{ReaderAt: b, size: b.Size()}
	off := &shifted{rest, skip}
	if !isPickle(&member{ReaderAt: off, size: b.Size() - skip}) {
		return nil
	}
	r.add("WS-PICKLE-014", 0, "%d bytes before the first opcode", skip)
	return scanStreams(ctx, r, b, skip)
}

// shifted is a reader that begins further on in another one.
type shifted struct {
	r   *member
	off int64
}

func (s *shifted) ReadAt(p []byte, off int64) (int, error) { return s.r.ReadAt(p, off+s.off) }

// signature knows formats by their first bytes, and judges them by that.
func signature(r *report, b []byte) bool {
	at := func(off int, sig string) bool { return len(b) >= off+len(sig) && string(b[off:off+len(sig)]) == sig }
	switch {
	case at(4, "ET12"):
		r.add("WS-PROGRAM-001", 4, "an ExecuTorch program")
	case at(4, "TFL3"):
		r.add("WS-PROGRAM-001", 4, "a TensorFlow Lite model")
	case isRData(b):
		r.add("WS-RDS-001", 0, "an R serialisation")
	case at(0, "\x7fELF"), at(0, "MZ"), at(0, "\xcf\xfa\xed\xfe"), at(0, "\xce\xfa\xed\xfe"), at(0, "\xfe\xed\xfa\xcf"), at(0, "\xfe\xed\xfa\xce"):
		r.add("WS-CODE-001", 0, "machine code")
	case at(0, "\xca\xfe\xba\xbe"), len(b) > 16 && b[2] == '\r' && b[3] == '\n' && (b[1] >= 0x0b && b[1] <= 0x10 || b[1] >= 0xf2 && b[1] <= 0xf5):
		r.add("WS-CODE-006", 0, "bytecode")
	case at(0, "\x00asm"):
		r.add("WS-CODE-006", 0, "WebAssembly")
	case at(0, "%PDF-"):
		r.add("WS-FORMAT-002", 0, "a PDF document, which is not judged")
	case at(0, "PK\x03\x04"), at(0, "PK\x05\x06"):
		r.add("WS-ARCHIVE-007", 0, "an archive that cannot be read")
	case at(0, "Rar!"), at(0, "\x04\x22\x4d\x18"), at(0, "\x02\x21\x4c\x18"), at(0, "\xff\x06\x00\x00sNaPpY"),
		at(0, "LZIP"), at(0, "\x89LZO\x00"), at(0, "\x1f\x9d"), at(0, "xar!"), at(0, "070701"), at(4097, "CD001"), at(0, "MSCF"), at(0, "!<arch>\n"):
		r.add("WS-ARCHIVE-009", 0, "an archive or compressed file of a kind that is not opened")
	case at(257, "ustar"):
		r.add("WS-ARCHIVE-007", 0, "a tar archive that cannot be read")
	default:
		return false
	}
	return true
}

// isRData says whether R's readRDS or load would read the file (R Internals,
// 1.8 Serialization Formats): as XDR, in the machine's own order, or as text.
func isRData(b []byte) bool {
	for _, start := range []string{"X\n\x00\x00\x00", "A\n2\n", "A\n3\n", "A\r\n2", "A\r\n3", "RDX2\n", "RDX3\n", "RDA2\n", "RDA3\n", "RDB2\n", "RDB3\n",
		"B\n\x02\x00\x00\x00", "B\n\x03\x00\x00\x00"} {
		if len(b) >= len(start) && string(b[:len(start)]) == start {
			return true
		}
	}
	return false
}
