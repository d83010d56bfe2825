//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// watchSuspend gives the terminal back to the shell, cursor and all, before
// Ctrl-Z stops the program. The function it returns ends that.
func (b *progress) watchSuspend() func() {
	stops, over := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(stops, syscall.SIGTSTP)
	go func() {
		defer signal.Stop(stops)
		for {
			select {
			case <-over:
				return
			case <-stops:
				b.whileSuspended(func() {
					// SIGSTOP cannot be missed by a thread that is busy.
					_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
					time.Sleep(frameInterval / 2) // it stops here, and goes on when the shell says so
				})
			}
		}
	}()
	return func() { close(over) }
}
