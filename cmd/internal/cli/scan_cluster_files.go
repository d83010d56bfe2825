package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weightseal/weightseal/workload"
)

// manifestNames are how the files of a folder end that are read.
var manifestNames = []string{".yaml", ".yml", ".json"}

// readManifests reads manifests from files, folders and standard input. What
// cannot be read is kept as such: the rest counts all the same.
func readManifests(ctx context.Context, s *streams, names []string, bar *progress) (*foundWorkloads, error) {
	found := &foundWorkloads{set: workload.NewSet(false), source: strings.Join(names, ", ")}
	stdin := false
	for _, name := range names {
		if name != "-" {
			if err := found.path(ctx, name, bar); err != nil {
				return nil, err
			}
			continue
		}
		if stdin {
			return nil, usage("", "-f - is given twice: standard input is read once")
		}
		stdin = true
		if err := found.manifest(ctx, "standard input", s.in); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// path reads a file, or the manifests of a folder and those below it.
func (w *foundWorkloads) path(ctx context.Context, name string, bar *progress) error {
	info, err := os.Stat(name)
	if err != nil {
		return fail(exitUsage, fmt.Errorf("-f: %w", err))
	}
	if !info.IsDir() {
		return w.file(ctx, name, bar)
	}
	read := 0
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			w.unreadable(path, "", err)
			return nil
		}
		if d.IsDir() {
			if path != name && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.Contains(manifestNames, strings.ToLower(filepath.Ext(path))) {
			return nil
		}
		// A link counts as the file it leads to: mounted ConfigMaps are links.
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil
		}
		read++
		return w.file(ctx, path, bar)
	})
	if err == nil && read == 0 {
		w.unreadable(name, "", fmt.Errorf("no file in it ends in %s", strings.Join(manifestNames, ", ")))
	}
	return err
}

func (w *foundWorkloads) file(ctx context.Context, name string, bar *progress) error {
	info, err := os.Stat(name)
	if err != nil {
		w.unreadable(name, "", err)
		return nil
	}
	// A named pipe is what a shell's <(...) gives; other devices never end.
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeNamedPipe == 0 {
		w.unreadable(name, "", errors.New("not a regular file"))
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		w.unreadable(name, "", err)
		return nil
	}
	defer f.Close()
	bar.say("read", name)
	return w.manifest(ctx, name, f)
}

// manifest reads one input. Only the end of the context is an error: what is
// broken in it is noted.
func (w *foundWorkloads) manifest(ctx context.Context, name string, r io.Reader) error {
	others, err := workload.Read(ctx, name, r, func(o *workload.Object) error {
		w.set.Add(o)
		return nil
	})
	w.others += others
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, e := range joined(err) {
		w.unreadable(name, "", e)
	}
	return nil
}

// joined takes errors.Join apart.
func joined(err error) []error {
	if list, ok := err.(interface{ Unwrap() []error }); ok { // this level only
		return list.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

func (w *foundWorkloads) unreadable(what, reason string, err error) {
	w.unread = append(w.unread, unreadSource{What: what, Reason: reason, Detail: err.Error()})
}
