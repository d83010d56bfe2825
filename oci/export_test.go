package oci

import "time"

// Hurry makes a registry's pauses and timeouts short.
func Hurry(s Store, stall time.Duration) Store {
	if r, ok := s.(*registry); ok {
		r.pause = time.Millisecond
		if stall > 0 {
			r.stall = stall
		}
	}
	return s
}
