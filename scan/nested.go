package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"sync/atomic"

	"github.com/weightseal/weightseal/format/sevenzip"
	"github.com/weightseal/weightseal/format/xz"
	"github.com/weightseal/weightseal/model"
)

// Bounds on files inside files.
const (
	maxDepth    = 8       // containers in containers
	maxInflated = 1 << 30 // bytes decompressed for one file of the model, re-reading counted
	maxMembers  = 200_000 // members judged for one file of the model

	// inflateRoom is the memory in bytes that all decompressors of one file may
	// hold, however they are nested.
	inflateRoom = 24 << 20
)

var (
	// errLimit says that a file needs more than is allowed for it.
	errLimit       = errors.New("over the limit for one file")
	errUnsupported = errors.New("not supported")
)

// budget is what one file of the model may still use, with all that is nested
// in it.
type budget struct {
	memory   int64 // see Scanner.Memory
	inflated atomic.Int64
	members  atomic.Int64
}

func (b *budget) inflate(n int64) error {
	if b.inflated.Add(n) > maxInflated {
		return errLimit
	}
	return nil
}

// member is a file inside a file, as a blob of its own. What it reads belongs
// to the outer blob, so there is nothing to close.
type member struct {
	io.ReaderAt
	size int64
	place
}

// place is where a file lies inside a file of the model.
type place struct {
	depth  int
	budget *budget // shared by all that lies in one file of the model
	held   int64   // by the decompressors around it, in bytes of memory
}

func (p place) room() int64 { return max(0, inflateRoom-p.held) }

// window is how much of what it wrote a decompressor may keep. Half of the room
// is left for what is inside.
func (p place) window() int64 { return p.room() / 2 }

// whole is up to which size decompressed content is kept whole.
func (p place) whole() int64 { return min(smallMember, p.room()/4) }

// held is how much memory an open file inside a file holds.
func held(r io.ReaderAt) int64 {
	switch v := r.(type) {
	case *rewinding:
		return v.holds
	case *bytes.Reader:
		return v.Size()
	}
	return 0
}

func (m *member) Size() int64      { return m.size }
func (m *member) Close() error     { return nil }
func (m *member) Unchanged() error { return nil }

// nest gives the place of a blob.
func nest(b model.Blob) place {
	for {
		switch v := b.(type) {
		case *member:
			return v.place
		case *guardedBlob:
			if v.top != nil {
				return place{budget: v.top}
			}
			b = v.Blob
		default:
			return place{budget: new(budget)}
		}
	}
}

// nested judges files inside files with the same detectors as files of the
// model.
type nested struct{}

// scan judges a member of the container b; name is its path in the container.
// What is found is merged into r.
func (nested) scan(ctx context.Context, r *report, b model.Blob, name string, ra io.ReaderAt, size int64) error {
	return nested{}.scanAt(ctx, r, nest(b), name, ra, size)
}

func (nested) scanAt(ctx context.Context, r *report, at place, name string, ra io.ReaderAt, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if at.depth >= maxDepth {
		r.add("WS-LIMIT-001", -1, "%s lies more than %d containers deep", name, maxDepth).Inner = name
		return nil
	}
	if at.budget.members.Add(1) > maxMembers {
		if r.verdict < Unknown {
			r.add("WS-LIMIT-001", -1, "more than %d members", maxMembers)
		}
		return nil
	}
	f := model.File{Entry: model.Entry{Path: name, Size: size}, Role: model.Other}
	format, err := model.Sniff(ra, size)
	if err == nil {
		f.Declared = declared(name)
		f.Format = refine(format, f.Declared)
		var v Verdict
		var fs []Finding
		v, fs, err = judge(ctx, Default(), f, &guardedBlob{Blob: &member{ra, size, place{at.depth + 1, at.budget, at.held + held(ra)}}})
		r.merge(name, v, fs)
	}
	return memberError(ctx, r, name, err)
}

// memberError turns a failure inside a member into findings: one bad member
// never ends the scan. Only a cancelled context does.
func memberError(ctx context.Context, r *report, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errLimit), errors.Is(err, sevenzip.ErrLimit), errors.Is(err, xz.ErrLimit):
		r.add("WS-LIMIT-001", -1, "%s: %v", name, err).Inner = name
	default:
		r.add("WS-ARCHIVE-007", -1, "%s cannot be read: %v", name, err).Inner = name
	}
	return nil
}

// declared is what a name promises. A member's name may be anything, so only
// its last element counts.
func declared(name string) model.Format {
	return model.DeclaredFormat(path.Base(name))
}

// refine lets a name tell apart what content alone cannot, as model.Load does
// for files of the model.
func refine(content, declared model.Format) model.Format {
	if content == model.Text {
		switch declared {
		case model.Markdown, model.YAML, model.Python:
			return declared
		}
	}
	return content
}
