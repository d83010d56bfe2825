//go:build !unix

package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// lockFile creates a file that must not exist. One left behind by a process
// that died has to be removed by hand.
func lockFile(path string) (unlock func(), err error) {
	for end := time.Now().Add(lockTimeout); ; time.Sleep(5 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err == nil {
			return func() { _ = f.Close(); _ = os.Remove(path) }, nil
		}
		if !errors.Is(err, fs.ErrExist) || time.Now().After(end) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
