package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	"github.com/weightseal/weightseal/format"
	"github.com/weightseal/weightseal/format/sevenzip"
	"github.com/weightseal/weightseal/model"
)

// sevenZip judges the members of a 7z archive. Those of one folder are one
// compressed stream, which is read once, from the beginning to the end.
type sevenZip struct {
	ctx context.Context
	r   *report
	b   model.Blob
	a   *sevenzip.Archive
	at  place
	// window is what a decompressor keeps. There may be two, and what is inside
	// needs as much.
	window int64
}

// scanSevenZip judges every member of a 7z archive, and the archive itself.
func scanSevenZip(ctx context.Context, r *report, b model.Blob) error {
	at := nest(b)
	window := max(1, at.room()/3)
	a, err := sevenzip.Open(b, b.Size(), sevenzip.Limits{Members: maxMembers, Window: window, Spend: at.budget.inflate})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sevenZipRemarks(r, a)
	if err != nil {
		sevenZipError(r, "", err)
		return nil
	}
	s := &sevenZip{ctx: ctx, r: r, b: b, a: a, at: at, window: window}
	s.members()
	if err := s.folders(); err != nil {
		return err
	}
	for i, g := range a.Gaps {
		if i == maxGaps {
			break
		}
		name := fmt.Sprintf("bytes %d-%d", g[0], g[1])
		if err := (nested{}).scan(ctx, r, b, name, io.NewSectionReader(b, g[0], g[1]-g[0]), g[1]-g[0]); err != nil {
			return err
		}
	}
	return nil
}

func sevenZipRemarks(r *report, a *sevenzip.Archive) {
	rules := map[sevenzip.Kind]string{
		sevenzip.Differs: "WS-ARCHIVE-001", sevenzip.Outside: "WS-ARCHIVE-002", sevenzip.Free: "WS-ARCHIVE-008",
	}
	for _, m := range a.Remarks {
		r.add(rules[m.Kind], m.Offset, "%s", m.Text)
	}
}

// sevenZipError records why an archive, or a member with a name, is not read.
func sevenZipError(r *report, name string, err error) {
	rule, off := "WS-ARCHIVE-007", int64(-1)
	var broken *format.Error
	switch {
	case errors.Is(err, sevenzip.ErrEncrypted):
		rule = "WS-ARCHIVE-005"
	case errors.Is(err, sevenzip.ErrUnsupported), errors.Is(err, sevenzip.ErrVolume):
		rule = "WS-ARCHIVE-009"
	case errors.Is(err, sevenzip.ErrLimit), errors.Is(err, errLimit):
		rule = "WS-LIMIT-001"
	case errors.As(err, &broken):
		off = broken.Offset
	}
	if name == "" {
		r.add(rule, off, "%v", err)
		return
	}
	r.add(rule, off, "%s: %v", name, err).Inner = name
}

// members judges what the header says of each member.
func (s *sevenZip) members() {
	seen := entryNames{}
	for m := range s.a.Members {
		name := clip(m.Name)
		checkEntryName(s.r, m.Name, -1, seen)
		switch {
		case m.Unclear:
			s.r.add("WS-ARCHIVE-001", -1, "the name of %q is not UTF-16: readers make different ones of it", name).Inner = name
		case m.Name == "":
			s.r.add("WS-ARCHIVE-001", -1, "an entry without a name: readers call it differently")
		}
		if m.Special() {
			s.r.add("WS-ARCHIVE-004", -1, "the entry %q is a link or special file", name).Inner = name
		}
		if m.Anti {
			s.r.add("WS-ARCHIVE-001", -1, "the entry %q deletes a file for some readers, and is an empty one for others", name).Inner = name
		}
	}
}

// folders judges the contents.
func (s *sevenZip) folders() error {
	next, stop := iter.Pull(func(yield func(*sevenzip.Member) bool) {
		for m := range s.a.Members {
			if m.HasStream && !yield(m) {
				return
			}
		}
	})
	defer stop()
	for f := range s.a.Folders {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if err := s.folder(f, next); err != nil {
			return err
		}
	}
	return nil
}

// folder judges the members of one folder, in one pass over it.
func (s *sevenZip) folder(f *sevenzip.Folder, next func() (*sevenzip.Member, bool)) error {
	in, why := f.Open()
	in = &charged{&cancelled{s.ctx, in}, s.at.budget}
	at := int64(0)
	for range f.Streams() {
		m, ok := next()
		if !ok {
			return nil // the archive says otherwise, and was refused
		}
		if why != nil {
			// What comes after bytes that cannot be decompressed is lost too.
			sevenZipError(s.r, clip(m.Name), why)
			continue
		}
		var err error
		if why, err = s.member(f, in, m, at); err != nil {
			return err
		}
		at += m.Size
	}
	if why == nil {
		if _, err := in.Read(make([]byte, 1)); err != io.EOF {
			sevenZipError(s.r, "", err)
		}
	}
	return s.ctx.Err()
}

// member judges one member, which the folder's reader stands before, and goes
// to its end. What ends the folder is returned as why.
func (s *sevenZip) member(f *sevenzip.Folder, in io.Reader, m *sevenzip.Member, start int64) (why, err error) {
	name := clip(m.Name)
	seq := &memberReader{r: in, left: m.Size}
	at := s.at
	at.held += s.windowOf(f)
	if m.Size <= at.whole() {
		why, err = s.whole(at, seq, m.Name)
	} else {
		err = nested{}.scanAt(s.ctx, s.r, at, m.Name, &rewinding{
			open:  opener{start: func(int64) (io.ReadCloser, error) { return s.reopen(f, start) }},
			place: at, size: m.Size, holds: s.windowOf(f) + rewindWindow,
			r: io.NopCloser(seq), window: make([]byte, 0, rewindWindow),
		}, m.Size)
		if why = seq.err; why == nil && err == nil {
			why = seq.drain()
		}
	}
	switch {
	case err != nil:
		return nil, err
	case why != nil:
		sevenZipError(s.r, name, why)
	case m.HasCRC && seq.sum != m.CRC:
		s.r.add("WS-ARCHIVE-007", -1, "%s: the checksum does not fit", name).Inner = name
	}
	return why, nil
}

// whole judges a small member. Where only a part of it can be read, that is
// judged: a loader has seen it.
func (s *sevenZip) whole(at place, in io.Reader, name string) (why, err error) {
	b, why := io.ReadAll(in)
	if len(b) > 0 {
		err = nested{}.scanAt(s.ctx, s.r, at, name, bytes.NewReader(b), int64(len(b)))
	}
	return why, err
}

// windowOf is the memory that a decompressor of the folder takes.
func (s *sevenZip) windowOf(f *sevenzip.Folder) int64 { return min(s.window, f.Size()) }

// reopen decompresses a folder anew, up to where a member starts.
func (s *sevenZip) reopen(f *sevenzip.Folder, start int64) (io.ReadCloser, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	in := &cancelled{s.ctx, r}
	if _, err := io.CopyN(io.Discard, &charged{in, s.at.budget}, start); err != nil {
		return nil, err
	}
	return io.NopCloser(in), nil
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// memberReader reads one member of a folder, and keeps its checksum and what
// went wrong.
type memberReader struct {
	r    io.Reader
	left int64
	sum  uint32
	err  error
}

func (m *memberReader) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if m.left == 0 {
		return 0, io.EOF
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	m.sum = crc32.Update(m.sum, crc32.IEEETable, p[:n])
	if err == io.EOF && m.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		m.err = err
	}
	return n, err
}

// drain reads what the member's judge did not.
func (m *memberReader) drain() error {
	_, err := io.Copy(io.Discard, m)
	return err
}
