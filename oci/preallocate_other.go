//go:build !linux

package oci

import "os"

// preallocate is for Linux; elsewhere a full disk is found while writing.
func preallocate(*os.File, int64) error { return nil }
