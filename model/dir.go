package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrNotFollowed is in the errors about what a directory may not hold: links
// that lead elsewhere, sockets, devices.
var ErrNotFollowed = errors.New("not a file of the model")

// Dir is the source for a directory. Symbolic links to regular files are
// followed when they stay inside the directory, lead into the blobs folder of
// the Hugging Face cache that the directory lies in
// (models--ORG--NAME/snapshots/REV, with models--ORG--NAME/blobs beside), or, in
// a directory elsewhere, to blobs of one repository of such a cache, as a
// download with links into the cache leaves it. Any other link, and whatever is
// neither file nor directory, is an error.
//
// Left out are, and nothing else: .git, .hg and .svn in any folder; the folder
// .cache/huggingface of the root; files named .DS_Store or Thumbs.db.
func Dir(root string) Source { return &dir{root: root} }

type dir struct{ root string }

// skipped says whether a path is left out without a word.
func skipped(rel string) bool {
	switch path.Base(rel) {
	case ".git", ".hg", ".svn", ".DS_Store", "Thumbs.db":
		return true
	}
	return rel == ".cache/huggingface"
}

// List gives all files.
func (d *dir) List(ctx context.Context) ([]Entry, error) { return d.list(ctx, nil) }

func (d *dir) list(ctx context.Context, all *Survey) ([]Entry, error) {
	homes, err := d.homes()
	if err != nil {
		return nil, err
	}
	entries, err := d.walk(ctx, homes, "", nil, all)
	if err != nil {
		return nil, err
	}
	if err := d.oneHub(homes, entries); err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

// walk appends the files below a folder. Without a survey the first one that
// cannot be taken is an error; with one it is noted there.
func (d *dir) walk(ctx context.Context, homes []string, rel string, entries []Entry, all *Survey) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	items, err := os.ReadDir(filepath.Join(d.root, filepath.FromSlash(rel)))
	if err != nil && (all == nil || rel == "") {
		return nil, err
	}
	if err != nil {
		return append(entries, all.broken(rel, err)), nil
	}
	for _, item := range items {
		p := path.Join(rel, item.Name())
		if skipped(p) {
			all.leftOut(p, item.IsDir())
			continue
		}
		if err := CheckPath(p); err != nil {
			err = fmt.Errorf("%w; rename the file or leave it out", err)
			if all == nil {
				return nil, err
			}
			entries = append(entries, all.refused(p, err))
			continue
		}
		if item.IsDir() {
			entries, err = d.walk(ctx, homes, p, entries, all)
		} else {
			entries, err = d.add(homes, p, entries, all)
		}
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// add appends one file.
func (d *dir) add(homes []string, rel string, entries []Entry, all *Survey) ([]Entry, error) {
	var info fs.FileInfo
	target, link, err := d.resolve(homes, rel)
	if err == nil {
		info, err = os.Lstat(target)
	}
	if err != nil && all != nil {
		return append(entries, all.broken(rel, err)), nil
	}
	if err != nil {
		return nil, err
	}
	return append(entries, Entry{Path: rel, Size: info.Size(), Link: link}), nil
}

// Open opens one file. The way to it is looked at again: a directory may have
// become a link since it was listed.
func (d *dir) Open(ctx context.Context, p string) (Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckPath(p); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}, err)
	}
	for part := p; part != "."; part = path.Dir(part) {
		if skipped(part) {
			return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
	}
	homes, err := d.homes()
	if err != nil {
		return nil, err
	}
	target, _, err := d.resolve(homes, p)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	return openLocal(filepath.Join(d.root, filepath.FromSlash(p)), target)
}

// homes lists the real folders that files may lie in: the root, and the blobs
// of a Hugging Face cache around it.
func (d *dir) homes() ([]string, error) {
	abs, err := filepath.Abs(d.root)
	if err != nil {
		return nil, err
	}
	target, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(target); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, &fs.PathError{Op: "list", Path: d.root, Err: errors.New("not a directory")}
	}
	homes := []string{target}
	for _, p := range []string{abs, target} {
		if blobs, err := filepath.EvalSymlinks(hubBlobs(p)); err == nil && filepath.IsAbs(blobs) && !slices.Contains(homes, blobs) {
			homes = append(homes, blobs)
		}
	}
	return homes, nil
}

// hubBlobs gives the blobs folder of the Hugging Face cache entry in whose
// snapshot a folder lies, "" if it lies in none.
func hubBlobs(abs string) string {
	for p := abs; ; {
		up := filepath.Dir(p) // snapshots?
		if up == p {
			return ""
		}
		repo := filepath.Dir(up)
		if filepath.Base(up) == "snapshots" && strings.HasPrefix(filepath.Base(repo), "models--") {
			return filepath.Join(repo, "blobs")
		}
		p = up
	}
}

// hubBlob gives the blobs folder that a file lies in when it is one of the
// Hugging Face cache's: models--ORG--NAME/blobs/HEX, named by its Git (SHA-1) or
// LFS (SHA-256) hash.
func hubBlob(target string) (blobs string, ok bool) {
	blobs, name := filepath.Split(target)
	blobs = filepath.Clean(blobs)
	ok = (len(name) == 40 || len(name) == 64) && strings.Trim(name, "0123456789abcdef") == "" &&
		filepath.Base(blobs) == "blobs" && strings.HasPrefix(filepath.Base(filepath.Dir(blobs)), "models--")
	return blobs, ok
}

// oneHub refuses links into the caches of several repositories: a model comes
// from one, and a link must not draw in what belongs to another.
func (d *dir) oneHub(homes []string, entries []Entry) error {
	var hub, first string
	for _, e := range entries {
		if e.Link == "" {
			continue
		}
		target, err := filepath.EvalSymlinks(filepath.Join(d.root, filepath.FromSlash(e.Path)))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(homes, func(home string) bool { return within(home, target) }) {
			continue
		}
		blobs, _ := hubBlob(target)
		if hub == "" {
			hub, first = blobs, e.Path
		}
		if blobs != hub {
			return fmt.Errorf("%w: %s is a link into %s, and %s one into %s: a model comes from one repository; replace the links with copies of the files",
				ErrNotFollowed, first, hub, e.Path, blobs)
		}
	}
	return nil
}

// resolve finds the regular file that a path stands for, and the target as it
// is written if it is a link.
func (d *dir) resolve(homes []string, rel string) (target, link string, err error) {
	full := filepath.Join(d.root, filepath.FromSlash(rel))
	info, err := os.Lstat(full)
	if err != nil {
		return "", "", err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(full); err != nil {
			return "", "", err
		}
	}
	abs, err := filepath.Abs(full)
	if err != nil {
		return "", "", err
	}
	target, err = filepath.EvalSymlinks(abs)
	if err != nil {
		if link != "" {
			return "", "", fmt.Errorf("%w: %s is a link to %s, which cannot be followed: %w; restore the target or remove the link", ErrNotFollowed, rel, link, err)
		}
		return "", "", err
	}
	if info, err = os.Lstat(target); err != nil {
		return "", "", err
	}
	return target, link, allowed(homes, rel, link, target, info)
}

// allowed says why a file is not one of the model's.
func allowed(homes []string, rel, link, target string, info fs.FileInfo) error {
	what := rel
	if link != "" {
		what = fmt.Sprintf("%s, a link to %s,", rel, link)
	}
	inside := slices.ContainsFunc(homes, func(home string) bool { return within(home, target) })
	_, isHub := hubBlob(target)
	isHub = isHub && len(homes) == 1 // a snapshot has its own blobs
	switch {
	case info.IsDir():
		return fmt.Errorf("%w: %s is a directory; links to directories are not followed: copy it in its place or remove the link", ErrNotFollowed, what)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is a %s; remove it from the model's folder", ErrNotFollowed, what, typeName(info.Mode()))
	case !inside && link != "" && isHub:
	case !inside && link != "":
		return fmt.Errorf("%w: %s leads out of the model's folder, to %s; replace the link with a copy of the file", ErrNotFollowed, what, target)
	case !inside:
		return fmt.Errorf("%w: %s lies outside the model's folder, at %s: a folder above it is a link; replace that link with a copy", ErrNotFollowed, what, target)
	}
	return nil
}

func within(home, p string) bool {
	rel, err := filepath.Rel(home, p)
	return err == nil && filepath.IsLocal(rel)
}

func typeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

// SingleFile is the source for one file, listed under its base name. A link is
// followed: the user named it.
func SingleFile(path string) Source { return &single{path} }

type single struct{ path string }

// List gives the one file.
func (s *single) List(ctx context.Context) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrNotFollowed, s.path)
	}
	e := Entry{Path: filepath.Base(s.path), Size: info.Size()}
	if err := CheckPath(e.Path); err != nil {
		return nil, fmt.Errorf("%w; rename the file", err)
	}
	if target, err := os.Readlink(s.path); err == nil {
		e.Link = target
	}
	return []Entry{e}, nil
}

// Open opens the one file; or one beside or below it, which no link leads to:
// formats may keep their data there.
func (s *single) Open(ctx context.Context, p string) (Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p == filepath.Base(s.path) {
		return openLocal(s.path, s.path)
	}
	if err := CheckPath(p); err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	info, err := dir.Lstat(filepath.FromSlash(p))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrNotFollowed, p)
	}
	name := filepath.Join(filepath.Dir(s.path), filepath.FromSlash(p))
	return openLocal(name, name)
}
