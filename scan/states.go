package scan

import (
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// build judges one BUILD: only where PyTorch's restricted unpickler has it, or
// on an instance of a class that needs review anyway.
func (j *streamJudge) build(b pickle.Build) {
	off := b.State.Offset
	c, ok := b.Object.(*pickle.Call)
	if !ok {
		if _, none := b.State.Value.(pickle.None); none && !isOpaque(b.Object) {
			return // without effect, and noted by the machine
		}
		j.r.add("WS-PICKLE-010", off, "state is set on %s", describe(b.Object)).withOpcode(opBuild)
		return
	}
	g, ok := j.callee(c)
	if !ok {
		j.r.add("WS-PICKLE-010", off, "state is set on the result of a computed call").withOpcode(opBuild)
		return
	}
	if len(c.States) > 1 && c.States[0].Offset != off {
		j.r.add("WS-PICKLE-010", off, "state is set a second time on the result of %s", globalName(g)).withGlobal(g).withOpcode(opBuild)
	}
	if cls, _ := j.reconstructed(c); cls != nil && isReconstructor(g) {
		g = cls
	}
	module, name := g.Mapped()
	switch u := j.use(g); u {
	case function, value, constant:
		if !strings.HasPrefix(module, "numpy.") { // _reconstruct: the state of an array
			j.r.add("WS-PICKLE-010", off, "state is set on the result of %s", globalName(g)).withGlobal(g).withOpcode(opBuild)
			return
		}
		j.arrayState(b.State)
	case class:
		if module == "builtins" {
			j.r.add("WS-PICKLE-010", off, "state is set on a %s", name).withGlobal(g).withOpcode(opBuild)
			return
		}
		if module == "torch" {
			j.r.add("WS-PICKLE-016", off, "state is set on a %s", name).withGlobal(g).withOpcode(opBuild)
		}
		if module == "numpy" {
			j.arrayState(b.State)
		}
		j.state(b.State.Value, off, opBuild)
	default:
		j.state(b.State.Value, off, opBuild)
	}
}

// isReconstructor says whether a global is the function with which protocols 0
// and 1 make instances.
func isReconstructor(g *pickle.Global) bool {
	m, n := g.Mapped()
	return m == "copyreg" && n == "_reconstructor"
}

func isOpaque(v pickle.Value) bool {
	switch v.(type) {
	case *pickle.Global, *pickle.Call, *pickle.Persistent, *pickle.Extension, *pickle.Buffer:
		return true
	}
	return false
}

// arrayState looks at the state of a numpy array: (version, shape, dtype,
// fortran, data). Data that is a list holds Python objects.
func (j *streamJudge) arrayState(s pickle.State) {
	t, ok := s.Value.(*pickle.Tuple)
	if !ok || len(t.Items) == 0 {
		j.r.add("WS-PICKLE-020", s.Offset, "an array with an unusual state").withOpcode(opBuild)
		return
	}
	if _, objects := t.Items[len(t.Items)-1].(*pickle.List); objects {
		j.r.add("WS-PICKLE-020", s.Offset, "an array of Python objects").withOpcode(opBuild)
	}
}

// state checks what BUILD sets as attributes: a dict, or (dict, slots).
func (j *streamJudge) state(v pickle.Value, off int64, op byte) {
	parts := []pickle.Value{v}
	if t, ok := v.(*pickle.Tuple); ok && len(t.Items) == 2 {
		parts = t.Items
	}
	for _, p := range parts {
		switch p := p.(type) {
		case *pickle.Dict:
			if j.stated[p] {
				continue // has its findings
			}
			if j.stated == nil {
				j.stated = map[*pickle.Dict]bool{}
			}
			j.stated[p] = true
			j.attributes(p.Items, off, op)
		case *pickle.Call:
			j.madeState(p, off, op, 0)
		case *pickle.Global, *pickle.Extension, *pickle.Persistent, *pickle.Buffer:
			j.r.add("WS-PICKLE-010", off, "the state is %s", describe(p)).withOpcode(op)
		}
	}
}

// attributes judges the names that a state sets.
func (j *streamJudge) attributes(items []pickle.Item, off int64, op byte) {
	for _, it := range items {
		j.attribute(it.Key, off, op)
	}
}

func (j *streamJudge) attribute(key pickle.Value, off int64, op byte) {
	if k, ok := text(key); ok {
		if strings.HasPrefix(k, "__") && k != "__orig_class__" {
			j.r.add("WS-PICKLE-011", off, "the attribute %s is set", clip(k)).withOpcode(op)
		}
		return
	}
	if isOpaque(key) {
		j.r.add("WS-PICKLE-011", off, "the name of an attribute is %s", describe(key)).withOpcode(op)
	}
}

// madeState judges a state that is the result of a call: a dictionary of
// another class sets attributes as a plain one does.
func (j *streamJudge) madeState(c *pickle.Call, off int64, op byte, depth int) {
	g, ok := j.callee(c)
	if !ok {
		return // has a finding as a call
	}
	if !makesDict(g) {
		return // only a class with a __setstate__ of its own takes it
	}
	j.attributes(c.Items, off, op)
	args, _ := c.Args.(*pickle.Tuple)
	if args == nil {
		return
	}
	for _, a := range args.Items {
		j.pairs(a, off, op, depth)
	}
}

// pairs judges what a dictionary is made of: another one, or keys with values.
func (j *streamJudge) pairs(v pickle.Value, off int64, op byte, depth int) {
	var items []pickle.Value
	switch v := v.(type) {
	case *pickle.Dict:
		j.attributes(v.Items, off, op)
	case *pickle.List:
		items = v.Items
	case *pickle.Tuple:
		items = v.Items
	case *pickle.Set:
		items = v.Items
	case *pickle.Call:
		if g, ok := j.callee(v); depth < maxDepth && ok && makesDict(g) {
			j.madeState(v, off, op, depth+1)
			return
		}
		j.r.add("WS-PICKLE-011", off, "the names of attributes come from %s", describe(v)).withOpcode(op)
	}
	for _, it := range items {
		switch it := it.(type) {
		case *pickle.Tuple:
			if len(it.Items) > 0 {
				j.attribute(it.Items[0], off, op)
			}
		case *pickle.List:
			if len(it.Items) > 0 {
				j.attribute(it.Items[0], off, op)
			}
		default:
			j.r.add("WS-PICKLE-011", off, "the name of an attribute comes from %s", describe(it)).withOpcode(op)
		}
	}
}

// makesDict says whether a class is a dictionary.
func makesDict(g *pickle.Global) bool {
	m, n := g.Mapped()
	switch m + "." + n {
	case "builtins.dict", "collections.OrderedDict", "collections.Counter", "collections.defaultdict":
		return true
	}
	return strings.HasSuffix(n, "AttributeDict") || n == "Bunch"
}
