package scan

import (
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// findMembers finds the imports of getattr of which every use reads an
// attribute of a class, or of an object, that needs review anyway: Python 3.11
// pickles the members of enumerations so, every Python the methods of objects.
// What is read is an object of that package, as if it were imported from there;
// it must only be kept.
func (j *streamJudge) findMembers() {
	j.members = map[*pickle.Global]bool{}
	for _, c := range j.s.Calls {
		g, ok := c.Callee.(*pickle.Global)
		if !ok {
			continue
		}
		if m, n := g.Mapped(); m != "builtins" || n != "getattr" {
			continue
		}
		before, seen := j.members[g]
		j.members[g] = j.readsMember(c) && (before || !seen)
	}
}

// readsMember says whether a call is getattr(class or object, "name").
func (j *streamJudge) readsMember(c *pickle.Call) bool {
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || c.Opcode != opReduce || len(args.Items) != 2 {
		return false
	}
	name, ok := text(args.Items[1])
	if !ok || strings.HasPrefix(name, "__") || !pickle.IsIdentifier(name) {
		return false
	}
	of, ok := args.Items[0].(*pickle.Global)
	if made, isCall := args.Items[0].(*pickle.Call); isCall {
		of, ok = j.callee(made)
	}
	if !ok {
		return false
	}
	module, class := of.Mapped()
	switch j.use(of) {
	case holder, builder, foreign:
		return isSimpleClass(class) && !isStdlib(topOf(module))
	}
	return false
}

// member judges such a call.
func (j *streamJudge) member(c *pickle.Call, g *pickle.Global) {
	if len(c.Items)+len(c.Appends)+len(c.States) > 0 {
		j.r.add("WS-PICKLE-024", c.Offset, "an attribute that %s reads is changed", globalName(g)).withGlobal(g)
	}
}

// isNoneType says whether a call of type makes the class of None, which has no
// name to be imported by.
func isNoneType(c *pickle.Call) bool {
	args, ok := c.Args.(*pickle.Tuple)
	if !ok || c.Opcode != opReduce || len(args.Items) != 1 {
		return false
	}
	_, none := args.Items[0].(pickle.None)
	return none && len(c.Items)+len(c.Appends)+len(c.States) == 0
}
