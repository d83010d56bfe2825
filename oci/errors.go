package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// What a caller may want to tell apart with errors.Is.
var (
	// ErrNotFound: no such repository, tag, manifest or blob.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry wants credentials, or refuses those given.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrDenied: the credentials are good but do not allow this.
	ErrDenied = errors.New("denied")
	// ErrUnverified: a verifying reader was closed before its last byte.
	ErrUnverified = errors.New("closed before all bytes were read and verified")
)

// NetworkError is everything that is the fault of the network or of the
// registry: a broken connection, an error status, an answer that is not what
// was asked for. The cause is in Err: a *RegistryError, a *DigestError, or an
// error of package net.
type NetworkError struct {
	Op  string // what was attempted, such as "upload blob"
	Ref string // on what: repository, with tag or digest; no credentials
	Err error
}

func (e *NetworkError) Error() string { return e.Op + " " + e.Ref + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *NetworkError) Unwrap() error { return e.Err }

// RegistryError is an answer with an error status (distribution-spec, "Error
// codes").
type RegistryError struct {
	Status  int    // HTTP status
	Code    string // such as MANIFEST_UNKNOWN; empty where the body held none
	Message string // at most a few hundred bytes
	Method  string
	URL     string // without query and user
}

func (e *RegistryError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// Is maps the status to ErrNotFound, ErrUnauthorized and ErrDenied.
func (e *RegistryError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized
	case ErrDenied:
		return e.Status == http.StatusForbidden
	}
	return false
}

// DigestError says that bytes are not those that a descriptor promises.
type DigestError struct {
	What string // such as "blob" or "manifest"
	Want string // digest; empty where only the size is wrong
	Got  string
	// WantSize and GotSize are in bytes. GotSize is what was seen before
	// reading stopped, where there was too much.
	WantSize, GotSize int64
}

func (e *DigestError) Error() string {
	if e.Got == "" || e.Want == e.Got {
		return fmt.Sprintf("%s %s: size is %d, expected %d", e.What, e.Want, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("%s: digest is %s, expected %s", e.What, e.Got, e.Want)
}

// UnsupportedError names something well-formed that this version does not
// handle.
type UnsupportedError struct {
	What   string // such as a layer's path or digest
	Type   string // media type
	Reason string
}

func (e *UnsupportedError) Error() string {
	if e.Type == "" {
		return e.What + ": " + e.Reason
	}
	return fmt.Sprintf("%s (%s): %s", e.What, e.Type, e.Reason)
}

// LimitError says that something is larger than what is accepted.
type LimitError struct {
	What  string
	Limit int64 // in the unit that What names
}

func (e *LimitError) Error() string { return fmt.Sprintf("more than %d %s", e.Limit, e.What) }

// ReferenceError is a reference that cannot be parsed.
type ReferenceError struct {
	Ref    string // user and password are masked
	Reason string
}

func (e *ReferenceError) Error() string {
	return fmt.Sprintf("reference %q: %s", maskUserinfo(e.Ref), e.Reason)
}

// localError marks what is not the network's fault although it came up while
// talking to it: reading the source, writing the target.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// networkError wraps err, unless it is a cancellation or local.
func networkError(ctx context.Context, op, ref string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var local *localError
	if errors.As(err, &local) {
		return local.err
	}
	var already *NetworkError
	if errors.As(err, &already) {
		return err
	}
	// The standard client's error repeats method and URL, with its query:
	// upload sessions and signed links are nobody's business.
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return &NetworkError{Op: op, Ref: ref, Err: err}
}
