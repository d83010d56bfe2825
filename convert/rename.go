package convert

import (
	"fmt"
	"regexp"
	"strings"
)

// Rename replaces every match of From in a name by To, in which $1 or ${name}
// stand for what a group matched, as regexp.Expand has it.
type Rename struct {
	From *regexp.Regexp
	To   string
}

// ParseRename reads FROM=TO: FROM, which ends at the first =, is a regular
// expression of package regexp.
func ParseRename(s string) (Rename, error) {
	from, to, ok := strings.Cut(s, "=")
	if !ok || from == "" {
		return Rename{}, fmt.Errorf("%q is not FROM=TO", s)
	}
	re, err := regexp.Compile(from)
	if err != nil {
		return Rename{}, err
	}
	return Rename{From: re, To: to}, nil
}

// RenameError says that a renaming makes a name that cannot be.
type RenameError struct {
	Names []string // in the source: the two that become one, or the one
	To    string
}

func (e *RenameError) Error() string {
	if e.To == "" {
		return fmt.Sprintf("renaming leaves nothing of the name %q", e.Names[0])
	}
	return fmt.Sprintf("renaming gives the tensors %q and %q one name, %q", e.Names[0], e.Names[1], e.To)
}

// NextStep is what to do instead.
func (e *RenameError) NextStep() string {
	return "make --rename match less: anchor it with ^, or name more of the path"
}

func (o *Options) newName(name string) string {
	for _, r := range o.Rename {
		name = r.From.ReplaceAllString(name, r.To)
	}
	return name
}

// rename gives the tensors their new names, and lists those that changed.
func (c *contents) rename(opt *Options) ([]Renamed, error) {
	if len(opt.Rename) == 0 {
		return nil, nil
	}
	var list []Renamed
	was := make(map[string]string, len(c.tensors)) // new name -> old
	for i := range c.tensors {
		t := &c.tensors[i]
		from, to := t.Name, opt.newName(t.Name)
		if to == "" && from != "" {
			return nil, &RenameError{Names: []string{from}}
		}
		if other, twice := was[to]; twice && other != from { // a name twice is found later
			return nil, &RenameError{Names: []string{other, from}, To: to}
		}
		was[to] = from
		if to != from {
			t.Name = to
			list = append(list, Renamed{From: from, To: to})
		}
	}
	return list, nil
}
