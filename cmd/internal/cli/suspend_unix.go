//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
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
				b.suspended()
				signal.Reset(syscall.SIGTSTP)
				_ = syscall.Kill(syscall.Getpid(), syscall.SIGTSTP) // returns when the shell says go on
				signal.Notify(stops, syscall.SIGTSTP)
			}
		}
	}()
	return func() { close(over) }
}
