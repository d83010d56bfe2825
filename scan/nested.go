package scan

import (
	"context"
	"errors"
	"io"
	"path"
	"sync/atomic"

	"github.com/weightseal/weightseal/model"
)

// Bounds on files inside files.
const (
	maxDepth    = 8       // containers in containers
	maxInflated = 1 << 30 // bytes decompressed for one file of the model, re-reading counted
	maxMembers  = 200_000 // members judged for one file of the model
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
	size   int64
	depth  int
	budget *budget
}

func (m *member) Size() int64      { return m.size }
func (m *member) Close() error     { return nil }
func (m *member) Unchanged() error { return nil }

// nest gives the depth of a blob and the budget that it shares with what it
// lies in.
func nest(b model.Blob) (depth int, shared *budget) {
	for {
		switch v := b.(type) {
		case *member:
			return v.depth, v.budget
		case *guardedBlob:
			if v.top != nil {
				return 0, v.top
			}
			b = v.Blob
		default:
			return 0, new(budget)
		}
	}
}

// nested judges files inside files with the same detectors as files of the
// model.
type nested struct{}

// scan judges a member of the container b; name is its path in the container.
// What is found is merged into r.
func (nested) scan(ctx context.Context, r *report, b model.Blob, name string, ra io.ReaderAt, size int64) error {
	depth, shared := nest(b)
	return nested{}.scanWith(ctx, r, depth, shared, name, ra, size)
}

func (nested) scanWith(ctx context.Context, r *report, depth int, shared *budget, name string, ra io.ReaderAt, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth >= maxDepth {
		r.add("WS-LIMIT-001", -1, "%s lies more than %d containers deep", name, maxDepth).Inner = name
		return nil
	}
	if shared.members.Add(1) > maxMembers {
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
		v, fs, err = judge(ctx, Default(), f, &guardedBlob{Blob: &member{ra, size, depth + 1, shared}})
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
	case errors.Is(err, errLimit):
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
