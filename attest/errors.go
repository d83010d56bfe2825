package attest

import (
	"errors"
	"fmt"
	"strings"
)

// What a caller may want to tell apart with errors.Is.
var (
	// ErrPassword: the private key cannot be decrypted with this password.
	ErrPassword = errors.New("wrong password for the private key")
	// ErrNoAttestation: the artifact has no statement of our predicate type
	// at all, verifiable or not.
	ErrNoAttestation = errors.New("no safetensors compliance attestation")
	// ErrFailed: a trusted signer's newest statement about the artifact says
	// FAILED. It comes inside a *VerifyError.
	ErrFailed = errors.New("a trusted statement says FAILED")
)

// VerifyError says that attestations were found and that none of them is good.
type VerifyError struct {
	Subject string // digest
	Tried   []Attempt
}

// Attempt is one attestation that was looked at and did not count.
type Attempt struct {
	Where  string `json:"where"`  // such as "bundle sha256:..."
	Reason string `json:"reason"` // one line
	Err    error  `json:"-"`
}

// maxTold is how many reasons an error's text names: all are in Tried.
const maxTold = 5

func (e *VerifyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no attestation of %s can be trusted (%d looked at)", e.Subject, len(e.Tried))
	sep, left := ": ", len(e.Tried)
	for i, g := range e.byReason() {
		if i == maxTold {
			fmt.Fprintf(&b, "; and %d more", left)
			break
		}
		where := g.first.Where
		if g.n > 1 {
			where = fmt.Sprintf("%d attestations", g.n)
		}
		b.WriteString(sep + where + ": " + g.first.Reason)
		sep, left = "; ", left-g.n
	}
	return b.String()
}

// alike is attempts with one reason.
type alike struct {
	first Attempt
	n     int
}

// byReason groups the attempts, in the order in which the reasons came up.
func (e *VerifyError) byReason() []alike {
	var groups []alike
	at := map[string]int{}
	for _, a := range e.Tried {
		i, ok := at[a.Reason]
		if !ok {
			i = len(groups)
			at[a.Reason] = i
			groups = append(groups, alike{first: a})
		}
		groups[i].n++
	}
	return groups
}

// Unwrap gives the causes.
func (e *VerifyError) Unwrap() []error {
	errs := make([]error, 0, len(e.Tried))
	for _, a := range e.Tried {
		if a.Err != nil {
			errs = append(errs, a.Err)
		}
	}
	return errs
}

// KeyError says what is wrong with a key file.
type KeyError struct {
	File string
	Err  error
}

func (e *KeyError) Error() string { return "key " + e.File + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// RootError says what is wrong with a trusted root.
type RootError struct{ Err error }

func (e *RootError) Error() string { return "trusted root: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *RootError) Unwrap() error { return e.Err }

// IdentityError says what is wrong with an identity to be trusted.
type IdentityError struct{ Err error }

func (e *IdentityError) Error() string { return "identity: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *IdentityError) Unwrap() error { return e.Err }
