//go:build !windows

package cli

import "os"

// understandsEscapes says whether escape sequences do what they say.
func understandsEscapes(*os.File) bool { return true }
