//go:build !unix

package cli

// watchSuspend does nothing where programs cannot be stopped from the keyboard.
func (b *progress) watchSuspend() func() { return func() {} }
