//go:build linux || darwin

package oci

import (
	"os"
	"syscall"
)

// checkSpace fails when a file system has less room than size bytes, so that
// a full disk is known before gigabytes are fetched. It is a look, no
// reservation: reserving costs a second pass over the pages on some file
// systems.
func checkSpace(dir string, size int64) error {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil || st.Bsize <= 0 {
		return nil // then writing will tell
	}
	if uint64(size)/uint64(st.Bsize) > uint64(st.Bavail) { //nolint:unconvert // types differ between systems; none is negative
		return &os.PathError{Op: "write to", Path: dir, Err: syscall.ENOSPC}
	}
	return nil
}
