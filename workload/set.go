package workload

import (
	"cmp"
	"slices"
	"strings"
)

// A Workload is what somebody deployed: the owner of all owners of some pods,
// or an object without an owner.
type Workload struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// A Row is one model that a workload names in one place.
type Row struct {
	Workload Workload
	Origin   Origin
	Use
	// Pods is the number of pods that name it, where they differ from what
	// their owner says or where their owner was not read; else 0.
	Pods int
	// Pod is the name of the first of them.
	Pod string
	// Running says that the reference is not in any specification: a pod's
	// status gives it.
	Running bool

	between bool // an object that has an owner and is no pod
}

// same is alike for rows of one workload and one model.
func (r *Row) same() string {
	return strings.Join([]string{r.Workload.APIVersion, r.Workload.Kind, r.Workload.Namespace, r.Workload.Name, r.Reference.Key()}, "\x00")
}

// A Set gathers objects and finds out which belongs to which.
type Set struct {
	live    bool
	objects []*Object
	byUID   map[string]*Object
}

// NewSet makes an empty set. live says that the objects are those of an API
// server: the status that a file gives its objects proves nothing.
func NewSet(live bool) *Set { return &Set{live: live, byUID: map[string]*Object{}} }

// Add takes an object. One that an API server has given already is passed over;
// in files two objects may claim one UID, and both count.
func (s *Set) Add(o *Object) {
	if o.UID != "" {
		if s.byUID[o.UID] == nil {
			s.byUID[o.UID] = o
		} else if s.live {
			return
		}
	}
	s.objects = append(s.objects, o)
}

// Len is the number of objects.
func (s *Set) Len() int { return len(s.objects) }

// top follows the owners as far as they were read. known is the last object
// that was, which is o itself where its owner was not; name is the workload,
// which may be one that was only named.
func (s *Set) top(o *Object) (known *Object, name Workload) {
	known = o
	for range 20 {
		if known.Owner == nil {
			break
		}
		next := s.byUID[known.Owner.UID]
		if next == nil || next == o || next.Namespace != known.Namespace && next.Namespace != "" {
			return known, Workload{known.Owner.APIVersion, known.Owner.Kind, known.Namespace, known.Owner.Name}
		}
		known = next
	}
	return known, Workload{known.APIVersion, known.Kind, known.Namespace, known.Name}
}

// Rows gives what the workloads name, sorted. Objects that belong to another
// one that was read are told of only where they name something else than it
// does, as pods do before a rollout has ended; and what the status of pods says
// is running.
func (s *Set) Rows() []Row {
	r := &rows{byKey: map[string]*Row{}}
	for _, o := range s.objects {
		known, name := s.top(o)
		isPod := o.Kind == "Pod" && o.APIVersion == "v1"
		ended := s.live && (o.Ended || o.Idle)
		for _, u := range o.Uses {
			switch {
			case known == o:
				r.add(name, o, u, isPod && o.Owner != nil, false)
			case !ended && !names(known, u.Reference):
				r.add(name, o, u, isPod, false)
			}
			digest := o.Running[u.Place]
			if ended || digest == "" || u.Reference.Scheme != OCI || u.Reference.Digest == digest {
				continue
			}
			u.Reference = u.Reference.At(digest)
			u.Via += ", running"
			r.add(name, o, u, true, true)
		}
	}
	return r.sorted()
}

// names says whether an object names a reference anywhere.
func names(o *Object, ref Reference) bool {
	return slices.ContainsFunc(o.Uses, func(u Use) bool { return u.Reference.Key() == ref.Key() })
}

// rows puts together what many pods of one workload say alike.
type rows struct {
	byKey map[string]*Row
	order []*Row
}

func (r *rows) add(w Workload, o *Object, u Use, pod, running bool) {
	key := strings.Join([]string{w.APIVersion, w.Kind, w.Namespace, w.Name, o.Kind, u.Place, u.Reference.Key(), u.Via}, "\x00")
	if !pod {
		key += "\x00" + o.Origin.String() // the same object in two files is two
	}
	row := r.byKey[key]
	if row == nil {
		row = &Row{Workload: w, Origin: o.Origin, Use: u, Running: running, between: !pod && w.Kind+"/"+w.Name != o.Kind+"/"+o.Name}
		if row.between {
			row.Via += ", " + o.Kind + " " + o.Name
		}
		if pod {
			row.Pod = o.Name
		}
		r.byKey[key] = row
		r.order = append(r.order, row)
	}
	if pod {
		row.Pods++
	}
}

func (r *rows) sorted() []Row {
	// What pods name says more than what the replica set above them does.
	byPods := map[string]bool{}
	for _, row := range r.order {
		if row.Pods > 0 && !row.Running {
			byPods[row.same()] = true
		}
	}
	list := make([]Row, 0, len(r.order))
	for _, row := range r.order {
		if row.between && byPods[row.same()] {
			continue
		}
		list = append(list, *row)
	}
	slices.SortStableFunc(list, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Workload.Namespace, b.Workload.Namespace), cmp.Compare(a.Workload.Kind, b.Workload.Kind),
			cmp.Compare(a.Workload.Name, b.Workload.Name), cmp.Compare(a.Pods, b.Pods), cmp.Compare(a.Place, b.Place),
			cmp.Compare(a.Reference.Key(), b.Reference.Key()), cmp.Compare(a.Origin.File, b.Origin.File), cmp.Compare(a.Origin.Line, b.Origin.Line))
	})
	return list
}
