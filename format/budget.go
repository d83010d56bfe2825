package format

import "fmt"

// Budget bounds what a checkpoint may hold, so that a small file cannot take
// much memory: names are joined from keys, and a long key may stand above many
// tensors. Take it from NewBudget.
type Budget struct {
	format  string
	items   int
	names   int
	longest int
}

// The bounds, many times what real checkpoints have.
const (
	maxItems   = 1 << 18 // tensors, and other things that have a name
	maxNames   = 64 << 20
	maxOneName = 64 << 10
)

// NewBudget gives the bounds of one file. Zero stands for the usual number of
// named things.
func NewBudget(name string, items int) *Budget {
	if items <= 0 {
		items = maxItems
	}
	return &Budget{format: name, items: items, names: maxNames, longest: maxOneName}
}

// Take counts one more thing with a name of some bytes.
func (b *Budget) Take(name int) error {
	b.items--
	b.names -= name
	switch {
	case b.items < 0:
		return &Error{Format: b.format, Offset: -1, Detail: "more tensors and values than are read from one file"}
	case name > b.longest:
		return &Error{Format: b.format, Offset: -1, Detail: fmt.Sprintf("a name of %d bytes, at most %d are read", name, b.longest)}
	case b.names < 0:
		return &Error{Format: b.format, Offset: -1, Detail: fmt.Sprintf("names of more than %d bytes together", maxNames)}
	}
	return nil
}
