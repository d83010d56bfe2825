package convert

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// kernelCopy copies a range from file to file inside the kernel. It returns 0
// and no error when the kernel or the file systems cannot.
func kernelCopy(out *os.File, to int64, in *os.File, from, n int64) (int64, error) {
	src, err := in.SyscallConn()
	if err != nil {
		return 0, err
	}
	dst, err := out.SyscallConn()
	if err != nil {
		return 0, err
	}
	var copied int
	var failed error
	err = src.Control(func(r uintptr) {
		bad := dst.Control(func(w uintptr) {
			for {
				copied, failed = unix.CopyFileRange(int(r), &from, int(w), &to, int(n), 0)
				if !errors.Is(failed, unix.EINTR) {
					return
				}
			}
		})
		failed = errors.Join(failed, bad)
	})
	switch {
	case err != nil:
		return 0, err
	case cannotCopy(failed):
		return 0, nil
	case failed != nil:
		return 0, fmt.Errorf("copying %d bytes from %s at %d: %w", n, in.Name(), from, failed)
	case copied == 0 && atEnd(in, from):
		return 0, fmt.Errorf("%s ends at %d: %w", in.Name(), from, io.ErrUnexpectedEOF)
	}
	return int64(copied), nil
}

// cannotCopy tells errors that a plain read and write would not have.
func cannotCopy(err error) bool {
	for _, e := range []error{unix.ENOSYS, unix.EXDEV, unix.EINVAL, unix.EOPNOTSUPP, unix.EPERM, unix.EBADF, unix.ETXTBSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// atEnd says whether there is nothing to read. Some file systems report a copy
// of nothing where reading would give bytes.
func atEnd(f *os.File, at int64) bool {
	var one [1]byte
	_, err := f.ReadAt(one[:], at)
	return err == io.EOF
}
