package oci

import (
	"errors"
	"os"
	"syscall"
)

// preallocate reserves a file's space, so that a full disk is known before
// gigabytes are fetched. File systems that cannot reserve just go on.
func preallocate(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	err := syscall.Fallocate(int(f.Fd()), 0, 0, size) //nolint:gosec // a descriptor fits
	if err == nil || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EPERM) {
		return nil
	}
	return &os.PathError{Op: "reserve space for", Path: f.Name(), Err: err}
}
