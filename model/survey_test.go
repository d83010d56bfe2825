//go:build unix

package model_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/weightseal/weightseal/model"
)

// A survey tells of everything; a list refuses what a survey only notes.
func TestLook(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, dir := range []string{".git", "sub/.hg", "closed"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(root, "a.txt"), []byte("text"), 0o600),
		os.WriteFile(filepath.Join(root, "sub/.DS_Store"), nil, 0o600),
		os.Symlink("../elsewhere", filepath.Join(root, "sub/link")),
		syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s, err := model.Look(t.Context(), model.Dir(root))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range s.Entries {
		paths = append(paths, e.Path)
		_, err := model.Dir(root).Open(t.Context(), e.Path)
		if broken := s.Broken[e.Path]; (broken != nil) != (err != nil) {
			t.Errorf("%s: the survey says %v, opening it %v", e.Path, broken, err)
		}
	}
	if want := []string{"a.txt", "pipe", "sub/link"}; !slices.Equal(paths, want) {
		t.Errorf("entries %q, want %q", paths, want)
	}
	if want := []string{".git/", "sub/.DS_Store", "sub/.hg/"}; !slices.Equal(s.LeftOut, want) {
		t.Errorf("left out %q, want %q", s.LeftOut, want)
	}
	for _, p := range []string{"pipe", "sub/link"} {
		if !errors.Is(s.Broken[p], model.ErrNotFollowed) {
			t.Errorf("%s: %v", p, s.Broken[p])
		}
	}
	if _, err := model.Dir(root).List(t.Context()); !errors.Is(err, model.ErrNotFollowed) {
		t.Errorf("listed: %v", err)
	}
	if _, err := model.Look(t.Context(), model.Dir(filepath.Join(root, "none"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// Paths that no model may have do not keep a survey from the others.
func TestLookRefuses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	names := []string{"A.pkl", "Z.pkl", "a.pkl", "c:d.pkl", "e\x1b[31m.pkl", "f\xff.pkl"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(root, name), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := model.Look(t.Context(), model.Dir(root))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range s.Entries {
		paths = append(paths, e.Path)
		refused := !slices.Contains([]string{"A.pkl", "Z.pkl"}, e.Path)
		if refused != e.Refused || refused != errors.Is(s.Broken[e.Path], model.ErrPath) {
			t.Errorf("%q: refused %t: %v", e.Path, e.Refused, s.Broken[e.Path])
		}
	}
	if !slices.Equal(paths, names) {
		t.Errorf("got %q, want %q", paths, names)
	}
	if _, err := model.Load(t.Context(), "m", model.Dir(root)); !errors.Is(err, model.ErrPath) {
		t.Errorf("Load: %v, want ErrPath", err)
	}
}
