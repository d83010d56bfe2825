//go:build unix

package model_test

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weightseal/weightseal/model"
)

// TestDirSpecial has a short name because a socket's path must be short.
func TestDirSpecial(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := model.Dir(root).List(t.Context())
	checkError(t, err, model.ErrNotFollowed, []string{"pipe is a named pipe", "remove it"})
	_, err = model.Dir(root).Open(t.Context(), "pipe")
	checkError(t, err, model.ErrNotFollowed, []string{"pipe"})
	_, err = model.SingleFile(filepath.Join(root, "pipe")).Open(t.Context(), "pipe")
	checkError(t, err, model.ErrNotFollowed, []string{"pipe"})

	short := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(short, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = model.Dir(short).List(t.Context())
	checkError(t, err, model.ErrNotFollowed, []string{"sock is a socket"})
}
