package model

import "context"

// Survey is a source seen whole, for who must not miss what a push would refuse.
type Survey struct {
	// Entries are all files, also those in Broken, which have no size.
	Entries []Entry
	// Broken says of a path why it is not a file that can be opened: a link
	// that leads elsewhere, a socket, a folder that may not be read, a path that
	// no model may have.
	Broken map[string]error
	// LeftOut are the paths that are passed over (see Dir); a folder's ends in
	// a slash, and stands for all that is in it.
	LeftOut []string
}

// Look surveys a source. Only a directory has more to tell than its list.
func Look(ctx context.Context, src Source) (*Survey, error) {
	s := &Survey{Broken: map[string]error{}}
	var err error
	if d, ok := src.(*dir); ok {
		if s.Entries, err = d.list(ctx, s); err == nil {
			s.refuseCollisions()
		}
	} else {
		s.Entries, err = src.List(ctx)
	}
	return s, err
}

// broken notes a path that cannot be opened.
func (s *Survey) broken(rel string, err error) Entry {
	s.Broken[rel] = err
	return Entry{Path: rel}
}

// refused notes a path that no model may have.
func (s *Survey) refused(rel string, err error) Entry {
	s.Broken[rel] = err
	return Entry{Path: rel, Refused: true}
}

// refuseCollisions refuses each path that some system takes for one before it,
// or for a file in a file, as CheckPaths does. The others can still be judged.
func (s *Survey) refuseCollisions() {
	seen := make(map[string]string, len(s.Entries))
	each := func(check func(map[string]string, string) error) {
		for i, e := range s.Entries {
			if e.Refused {
				continue
			}
			if err := check(seen, e.Path); err != nil {
				s.Entries[i] = s.refused(e.Path, err)
			} else {
				seen[fold(e.Path)] = e.Path
			}
		}
	}
	each(checkTwice)
	each(checkBelow)
}

// leftOut notes a path that is passed over. Without a survey nobody asks.
func (s *Survey) leftOut(rel string, isDir bool) {
	if s == nil {
		return
	}
	if isDir {
		rel += "/"
	}
	s.LeftOut = append(s.LeftOut, rel)
}
