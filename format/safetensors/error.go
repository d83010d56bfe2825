package safetensors

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error gives kind, tensor, what is wrong and the byte offset in the file.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("safetensors: ")
	b.WriteString(string(e.Kind))
	if e.Tensor != "" {
		b.WriteString(": tensor ")
		b.WriteString(quote(e.Tensor))
	}
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	b.WriteString(" (at byte ")
	b.WriteString(strconv.FormatInt(e.Offset, 10))
	b.WriteByte(')')
	return b.String()
}

// Strict gives an *Error for the first finding that has Refuse set.
func (h *Header) Strict() error {
	for _, f := range h.Findings {
		if f.Refuse {
			return &Error{Kind: InvalidHeader, Tensor: f.Tensor, Offset: f.Offset, Detail: f.Rule + ": " + f.Detail}
		}
	}
	return nil
}

// quote shows a name from the input in a message: without control characters
// and never more than a line of it, since a name can have 100 MB.
func quote[T string | []byte](name T) string {
	const most = 120
	if len(name) <= most {
		return strconv.Quote(string(name))
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return fmt.Sprintf("%q... (%d bytes)", string(name[:cut]), len(name))
}
