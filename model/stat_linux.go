package model

import (
	"io/fs"
	"syscall"
)

// openFlags keep a pipe that took a file's place from blocking for ever.
const openFlags = syscall.O_NONBLOCK | syscall.O_CLOEXEC

// changeTime is when the inode last changed, which a writer cannot set back, in
// nanoseconds since 1970.
func changeTime(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ctim.Nano()
	}
	return 0
}
