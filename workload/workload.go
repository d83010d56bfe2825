// Package workload reads Kubernetes objects, from manifests or as an API server
// gives them, and tells which models they name: image volumes, KServe's storage
// URIs, programs that fetch models. It contacts nobody.
package workload

import (
	"fmt"
	"strings"
)

// Certainty says how sure it is that a reference names a model.
type Certainty string

// The certainties.
const (
	// Declared: the place is one for models, or for volumes that hold them.
	Declared Certainty = "declared"
	// Mentioned: an argument or a variable looks like a model's name; what the
	// program does with it is not known.
	Mentioned Certainty = "mentioned"
)

// A Use is one place where an object names a model.
type Use struct {
	Place     string // such as spec.template.spec.volumes[0].image.reference
	Via       string // what names it, such as "image volume models"
	Certainty Certainty
	Reference Reference
	// AnyContent says that what the reference stands for may be no model at all:
	// an image volume may hold anything.
	AnyContent bool
}

// An Owner is an object that another one belongs to.
type Owner struct {
	APIVersion, Kind, Name, UID string
}

// Origin is where an object was read from.
type Origin struct {
	File     string `json:"file"`               // or what was asked of the cluster
	Document int    `json:"document,omitempty"` // from 1
	Line     int    `json:"line,omitempty"`     // where the object begins, from 1
}

// String gives FILE:LINE, as compilers write it.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// An Object is a Kubernetes object, reduced to what names models.
type Object struct {
	APIVersion, Kind, Namespace, Name, UID string

	Owner  *Owner // the controller, or else the first owner; nil without one
	Origin Origin
	Uses   []Use
	// Running are the digests that the status of a pod gives, by the place in
	// the specification: what runs, whatever a tag leads to by now.
	Running map[string]string
	// Ended says that a pod runs no more, by its status.
	Ended bool
	// Idle says that a replica set wants no pods: that of an earlier rollout.
	Idle bool
}

// Group is the API group, "" for the core.
func (o *Object) Group() string {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// A ShapeError is a field of another type than its kind has. Such an object
// cannot be judged.
type ShapeError struct {
	Object string // kind and name
	Place  string
	Got    string
	Want   string
}

func (e *ShapeError) Error() string {
	return fmt.Sprintf("%s: %s is %s, want %s", e.Object, e.Place, e.Got, e.Want)
}

// A ReadError is input that cannot be read, with its place.
type ReadError struct {
	Origin Origin
	Err    error
}

func (e *ReadError) Error() string {
	where := e.Origin.File
	if e.Origin.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, e.Origin.Line)
	}
	if e.Origin.Document > 0 {
		where = fmt.Sprintf("%s: document %d", where, e.Origin.Document)
	}
	return where + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *ReadError) Unwrap() error { return e.Err }

// A LimitError is input that is larger than what is read.
type LimitError struct {
	What string
	Max  int
}

func (e *LimitError) Error() string { return fmt.Sprintf("more than %d %s", e.Max, e.What) }
