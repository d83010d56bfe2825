package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// understandsEscapes asks the console to read escape sequences, which older ones
// do not do by themselves, and says whether it does.
func understandsEscapes(f *os.File) bool {
	var mode uint32
	console := windows.Handle(f.Fd())
	if windows.GetConsoleMode(console, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
