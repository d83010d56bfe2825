package torch

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// WholeRoot is the path that takes the root of a checkpoint as it is,
// whatever it holds.
const WholeRoot = "."

// SelectOptions says what to take from a checkpoint.
type SelectOptions struct {
	// Path is the subtree, keys joined by dots; "" to find it, WholeRoot for
	// everything.
	Path string
	// AllowInert lets known inert objects (see Inert), and those of unknown
	// classes (see Foreign), be beside the tensors:
	// they are listed as dropped. Without it they give a *ForbiddenError.
	AllowInert bool
	// SplitQuantized writes quantised tensors as their integers, NAME.scale and
	// NAME.zero_point (and NAME.axis); SplitSparse sparse ones as
	// NAME.indices and NAME.values, or the like of their layout, and NAME.size.
	SplitQuantized, SplitSparse bool
}

// Select finds the tensors to convert, as SelectWith does without allowing
// inert objects.
func (c *Checkpoint) Select(path string) (*StateDict, error) {
	return c.SelectWith(SelectOptions{Path: path})
}

// SelectWith finds the tensors to convert. Without a path it takes
//
//   - the one known weights subtree at the top (state_dict,
//     model_state_dict, model, module, ...) when no tensor lies beside it;
//   - otherwise the root, unless that would mix weights with other things:
//     when a known weights subtree is a flat state dict and tensors lie
//     beside it, when there are two of them, or when tensors lie under what
//     training leaves behind (optimizer, ...) and elsewhere too, an
//     *AmbiguousError lists the candidates.
//
// A torch.nn.Module, wherever it lies, and the objects of a TorchScript archive
// stand for their state_dict(): parameters, persistent buffers and modules by
// name, read from the state that the pickle gives them. Their classes are
// never looked for, and are inert objects in what follows.
//
// What cannot be converted without loss gives an *UnsupportedError; a global
// that the converter does not know a *ForbiddenError; a checkpoint that has
// findings with Refuse set a *RefusedError; a tensor or name that is broken a
// *FormatError.
func (c *Checkpoint) SelectWith(opt SelectOptions) (*StateDict, error) {
	if c.Root == nil {
		return nil, broken(ErrContainer, "", -1, "the checkpoint has no object")
	}
	var refused []Finding
	for _, f := range c.Findings {
		if f.Refuse {
			refused = append(refused, f)
		}
	}
	if len(refused) > 0 {
		return nil, &RefusedError{Findings: refused}
	}
	forbidden, known := c.checkGlobals(opt.AllowInert)
	if known != nil {
		return nil, known
	}
	if forbidden != nil && !forbidden.Inert {
		return nil, forbidden
	}
	if err := c.checkCalls(); err != nil {
		return nil, err
	}
	w := &walker{c: c, b: builder{c}, cache: map[pickle.Value]*resolved{}, dups: c.hasDuplicates(),
		splitQuantised: opt.SplitQuantized, splitSparse: opt.SplitSparse}
	state, err := w.selectTree(opt.Path)
	var ambiguous *AmbiguousError
	var unsupported *UnsupportedError
	switch {
	case forbidden == nil, errors.As(err, &ambiguous):
		return state, err // which part is meant would be the first question
	case errors.As(err, &unsupported):
		unsupported.Forbidden = forbidden // to allow inert objects would be in vain
		return nil, unsupported
	}
	return nil, forbidden
}

// checkGlobals holds every imported name against what is known. Classes of
// tensors that cannot be converted are an answer of their own where nothing
// worse is there.
func (c *Checkpoint) checkGlobals(allowInert bool) (*ForbiddenError, error) {
	e := &ForbiddenError{Inert: true}
	called := c.called()
	var known *UnsupportedError
	for _, s := range c.Streams {
		if s.Stream == nil {
			continue
		}
		for _, g := range s.Globals {
			module, name := g.Mapped()
			if Allowed(module, name) || rebuildKind(module, name) != notRebuild {
				continue
			}
			inert := harmless(module, name, called)
			if inert && allowInert {
				continue
			}
			if u := recognise(module, name); u != nil && !inert {
				known = u
				continue
			}
			e.Inert = e.Inert && inert
			e.Globals = append(e.Globals, g)
		}
	}
	switch {
	case known != nil && e.Inert:
		if len(e.Globals) > 0 {
			known.Forbidden = e
		}
		return nil, known
	case len(e.Globals) == 0:
		return nil, nil
	}
	return e, nil
}

// checkCalls looks at every call and every BUILD, also at those whose result
// is thrown away.
func (c *Checkpoint) checkCalls() error {
	for _, s := range c.Streams {
		if s.Stream == nil {
			continue
		}
		for _, call := range s.Calls {
			if why := c.badCall(call); why != "" {
				return broken(ErrRefused, s.Name, call.Offset, "%s", why)
			}
		}
		for _, b := range s.Builds {
			if why := c.badBuild(b); why != "" {
				return broken(ErrRefused, s.Name, b.State.Offset, "%s", why)
			}
		}
	}
	return nil
}

func (c *Checkpoint) badCall(call *pickle.Call) string {
	module, name := calleeName(call)
	inert := Inert(module, name)
	why := ""
	switch op := pickle.OpcodeName(call.Opcode); {
	case module == "":
		return "something is called that is no global"
	case op == "INST", op == "OBJ", op == "NEWOBJ_EX" && !inert:
		why = "is called by an opcode that no checkpoint needs"
	case inert, rebuildKind(module, name) != notRebuild, op == "NEWOBJ" && Foreign(module, name):
	default:
		why = badArgs(call, module+"."+name)
	}
	if why != "" {
		why = quote(module+"."+name) + " " + why
	}
	return why
}

// badArgs knows the callables that are neither inert nor make tensors.
func badArgs(call *pickle.Call, name string) string {
	switch name {
	case "collections.OrderedDict", "collections.Counter":
		return badDict(call, name)
	case "torch.Size":
		if _, ok := sizeItems(call); !ok {
			return "is called with something that is no tuple"
		}
	case "_codecs.encode":
		if !isLatin1(call) {
			return "is called with an encoding that no pickler uses"
		}
	case "builtins.set", "builtins.bytearray", "builtins.complex", "torch.device", "torch.serialization._get_layout":
	default:
		return "is called"
	}
	return ""
}

// badDict looks at the arguments of OrderedDict and Counter.
func badDict(call *pickle.Call, name string) string {
	items, ok := dictItems(call)
	if !ok {
		return "is called with something that is no list of pairs"
	}
	args, _ := call.Args.(*pickle.Tuple)
	if args == nil || len(args.Items) == 0 {
		return ""
	}
	_, isDict := args.Items[0].(*pickle.Dict)
	switch {
	case name == "collections.Counter" && !isDict:
		return "is called with what it would count"
	case pickle.OpcodeName(call.Opcode) != "REDUCE":
		return "is made without the call that would take its arguments"
	case mixedKeys(items):
		return "is called with keys that may equal others"
	}
	return ""
}

// isLatin1 knows the one way in which picklers write bytes before protocol 3.
func isLatin1(call *pickle.Call) bool {
	args, ok := call.Args.(*pickle.Tuple)
	if !ok || len(args.Items) != 2 {
		return false
	}
	_, isText := textOf(args.Items[0])
	name, _ := textOf(args.Items[1])
	return isText && name == "latin1"
}

// badBuild demands that a state is set on nothing but dictionaries
// and inert objects (on a tensor it would replace the storage), and is a plain dictionary of attributes.
func (c *Checkpoint) badBuild(b pickle.Build) string {
	call, ok := b.Object.(*pickle.Call)
	if !ok {
		return "a state is set on something that is no object"
	}
	module, name := calleeName(call)
	full := quote(module + "." + name)
	if Inert(module, name) || Foreign(module, name) && pickle.OpcodeName(call.Opcode) == "NEWOBJ" {
		return ""
	}
	switch kind := rebuildKind(module, name); {
	case kind != notRebuild:
		return "a state is set on the tensor that " + full + " makes"
	case module == "collections" && name == "OrderedDict":
	default:
		return "a state is set on what " + full + " makes"
	}
	items, ok := dictItems(b.State.Value)
	if !ok {
		return "the state set on what " + full + " makes is no dictionary"
	}
	for _, it := range items {
		key, ok := textOf(it.Key)
		if !ok || strings.HasPrefix(key, "__") {
			return "attribute " + quote(key) + " is set on what " + full + " makes"
		}
	}
	return ""
}

func (c *Checkpoint) hasDuplicates() bool {
	return slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Rule == pickle.RuleDuplicateKey })
}

// The bounds of a walk. A graph of shared containers has more paths than
// anybody can visit.
const (
	maxLeaves = 1 << 20
	maxVisits = 8 << 20
	maxDepth  = 1000
	maxName   = 64 << 10
)

// resolved is a tensor that was built, or why it was not.
type resolved struct {
	built       *built
	unsupported *UnsupportedError
}

// walker finds tensors in the object graph. It never recurses: a graph may be
// deeper than any stack, and may hold cycles.
type walker struct {
	c      *Checkpoint
	b      builder
	cache  map[pickle.Value]*resolved
	sound  bool // every tensor was validated
	dups   bool
	visits int
	out    *StateDict

	modules                     map[*pickle.Call]*module
	counts                      map[pickle.Value]int // of tensors, for attributes of modules
	splitQuantised, splitSparse bool

	arrays int // numpy arrays that were left out
}

func (w *walker) visit() error {
	w.visits++
	if w.visits > maxVisits {
		return broken(ErrLimit, "", -1, "the object has more than %d parts", maxVisits)
	}
	return nil
}

// resolve builds a tensor once, however often it is met.
func (w *walker) resolve(v pickle.Value) (*resolved, error) {
	if r, ok := w.cache[v]; ok {
		return r, nil
	}
	r := &resolved{}
	var err error
	if r.built, err = w.b.tensor(v); err != nil && !errors.As(err, &r.unsupported) {
		var fe *FormatError
		if errors.As(err, &fe) {
			return nil, err
		}
		return nil, broken(ErrTensor, w.c.objectName(), offsetOf(v), "%v", err)
	}
	w.cache[v] = r
	return r, nil
}

// objectName is the stream that holds the object.
func (c *Checkpoint) objectName() string {
	switch c.Container {
	case Legacy:
		return "object"
	case Tar:
		return "pickle"
	}
	return "data.pkl"
}

func offsetOf(v pickle.Value) int64 {
	switch v := v.(type) {
	case *pickle.Call:
		return v.Offset
	case *pickle.Persistent:
		return v.Offset
	}
	return -1
}

// items gives a dictionary's items as Python would have them.
func (w *walker) items(v pickle.Value) ([]pickle.Item, bool) {
	items, ok := dictItems(v)
	if ok && w.dups {
		items = lastWins(items)
	}
	return items, ok
}

// isContainer says whether v is a plain container, whose parts are walked.
func isContainer(v pickle.Value) bool {
	if _, ok := dictItems(v); ok {
		return true
	}
	_, ok := seqItems(v)
	return ok
}

// tensors counts the tensors that v reaches by any way, objects and
// attributes included, and validates each.
func (w *walker) tensors(v pickle.Value) (int, error) {
	n := 0
	var seen map[pickle.Value]bool
	todo := []pickle.Value{v}
	for len(todo) > 0 {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := w.visit(); err != nil {
			return 0, err
		}
		if w.c.isTensor(v) {
			if !w.sound {
				if _, err := w.resolve(v); err != nil {
					return 0, err
				}
			}
			n++
			continue
		}
		switch v.(type) {
		case *pickle.List, *pickle.Tuple, *pickle.Dict, *pickle.Set, *pickle.Call:
			if seen[v] {
				continue
			}
			if seen == nil {
				seen = map[pickle.Value]bool{}
			}
			seen[v] = true
			if err := w.checkDuplicates(v); err != nil {
				return 0, err
			}
			todo = appendParts(todo, v)
		}
	}
	return n, nil
}

// checkDuplicates refuses a key that is set to a tensor and to something else.
func (w *walker) checkDuplicates(v pickle.Value) error {
	if w.sound || !w.dups && !fillsByArgument(v) {
		return nil
	}
	items, ok := dictItems(v)
	if !ok {
		return nil
	}
	again, key := w.c.shapeShift(items)
	w.dups = w.dups || again
	if key != "" {
		return broken(ErrRefused, w.c.objectName(), offsetOf(v), "key %s is set again, to a value of another sort", key)
	}
	return nil
}

// appendParts adds everything that v holds.
func appendParts(todo []pickle.Value, v pickle.Value) []pickle.Value {
	switch v := v.(type) {
	case *pickle.List:
		todo = append(todo, v.Items...)
	case *pickle.Tuple:
		todo = append(todo, v.Items...)
	case *pickle.Set:
		todo = append(todo, v.Items...)
	case *pickle.Dict:
		for _, it := range v.Items {
			todo = append(todo, it.Key, it.Value)
		}
	case *pickle.Call:
		todo = append(todo, v.Args)
		if v.Kwargs != nil {
			todo = append(todo, v.Kwargs)
		}
		for _, st := range v.States {
			todo = append(todo, st.Value)
		}
		for _, it := range v.Items {
			todo = append(todo, it.Key, it.Value)
		}
		todo = append(todo, v.Appends...)
	}
	return todo
}

// selectTree finds the subtree and emits it.
func (w *walker) selectTree(path string) (*StateDict, error) {
	w.out = &StateDict{}
	if _, err := w.tensors(w.c.Root); err != nil { // all of them are sound, or nothing is converted
		return nil, err
	}
	w.sound = true
	if u := w.partition(); u != nil {
		return nil, u
	}
	tree := []step{{value: w.c.Root}}
	var err error
	switch path {
	case "":
		tree, err = w.choose()
	case WholeRoot:
	default:
		tree, err = w.follow(path)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range tree[1:] {
		w.out.Subtree = join(w.out.Subtree, s.label.text)
	}
	if err := w.dropBeside(tree); err != nil {
		return nil, err
	}
	e := &emitter{walker: w, names: map[string]int{}, taken: map[view]bool{}}
	e.limit = e.totalLimit()
	for _, s := range tree[1:] {
		e.prefix = append(e.prefix, s.label)
	}
	if err := e.emit(tree[len(tree)-1].value); err != nil {
		return nil, err
	}
	if w.lostAll() {
		return nil, w.nothing()
	}
	return w.out, nil
}

// nothing says why there is no tensor.
func (w *walker) nothing() *UnsupportedError {
	if w.c.Container == TorchScript {
		for _, s := range w.c.Streams {
			if s.Name == "constants.pkl" && s.Stream != nil && len(s.Persistents) > 0 {
				return &UnsupportedError{What: fmt.Sprintf("a frozen TorchScript archive, whose %d weights are constants without names", len(s.Persistents)), Next: nextFrozen}
			}
		}
	}
	if w.arrays > 0 {
		return &UnsupportedError{What: "a checkpoint whose weights are numpy arrays", Next: nextArrays}
	}
	return &UnsupportedError{What: "a checkpoint without tensors", Next: nextEmpty}
}

// lostAll says whether nothing is left of a tree that held something. An empty
// dictionary is not that.
func (w *walker) lostAll() bool {
	return len(w.out.Tensors) == 0 && slices.ContainsFunc(w.out.Dropped, func(d Dropped) bool {
		return d.Path != w.out.Subtree || !strings.HasPrefix(d.Kind, "empty ")
	})
}

// step is a value on the way from the root.
type step struct {
	label label
	value pickle.Value
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "." + b
}

// weightsKeys are the names under which training code keeps weights.
func isWeightsKey(s string) bool {
	switch s {
	case "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "net_state_dict",
		"weights", "params", "state_dict_ema", "model_ema", "ema", "ema_state_dict", "params_ema", "ema_model":
		return true
	}
	return false
}

// isTrainingKey knows the names under which training code keeps what is of no
// use for inference.
func isTrainingKey(s string) bool {
	switch s {
	case "optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict", "optim", "optim_state_dict",
		"opt", "lr_scheduler", "lr_schedulers", "lr_scheduler_state_dict", "scheduler", "scheduler_state_dict", "scaler",
		"grad_scaler", "amp", "amp_scaling_state", "rng_state", "rng_states", "cuda_rng_state", "callbacks", "loops":
		return true
	}
	return false
}

// choose takes the root or a known subtree of it: see SelectWith.
func (w *walker) choose() ([]step, error) {
	root := []step{{value: w.c.Root}}
	items, ok := w.items(w.c.Root)
	if !ok {
		return root, nil
	}
	var weights, candidates []string
	var chosen pickle.Value
	total, inside, training, flat := 0, 0, 0, false
	for _, it := range items {
		if w.c.isTensor(it.Value) {
			total++
			continue
		}
		n, err := w.tensors(it.Value)
		if err != nil {
			return nil, err
		}
		total += n
		l := labelOf(it.Key)
		if n == 0 || l.bad != "" {
			continue
		}
		candidates = append(candidates, l.text)
		switch _, isDict := w.items(it.Value); {
		case isWeightsKey(l.text) && (isDict || !isContainer(it.Value)):
			weights, chosen, inside = append(weights, l.text), it.Value, n
			flat = flat || w.flat(it.Value)
		case isTrainingKey(l.text):
			training += n
		}
	}
	switch {
	case len(weights) == 1 && inside == total:
		return append(root, step{label{text: weights[0]}, chosen}), nil
	case len(weights) > 1, flat && total > inside, training > 0 && training < total:
		return nil, &AmbiguousError{Candidates: candidates}
	}
	return root, nil
}

// flat says whether v is a state dict as torch makes them: a dictionary whose
// tensors are its direct values.
func (w *walker) flat(v pickle.Value) bool {
	items, ok := w.items(v)
	if !ok {
		return false
	}
	for _, it := range items {
		if isContainer(it.Value) && !w.c.isTensor(it.Value) {
			if n, err := w.tensors(it.Value); err != nil || n > 0 {
				return false
			}
		}
	}
	return true
}

// follow finds the values that a path names. Keys may have dots themselves:
// a path that fits in two ways is refused.
func (w *walker) follow(path string) ([]step, error) {
	type state struct {
		steps []step
		rest  string
	}
	type place struct {
		value pickle.Value
		rest  int
	}
	var found [][]step
	seen := map[place]bool{}
	todo := []state{{[]step{{value: w.c.Root}}, path}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		here := s.steps[len(s.steps)-1].value
		err := w.children(here, func(l label, v pickle.Value) error {
			if err := w.visit(); err != nil {
				return err
			}
			rest, ok := strings.CutPrefix(s.rest, l.text)
			if !ok || l.bad != "" || (rest != "" && rest[0] != '.') {
				return nil
			}
			next := append(slices.Clip(s.steps), step{l, v})
			if rest == "" {
				found = append(found, next)
			} else if key := (place{v, len(rest)}); (isContainer(v) || w.module(v) != nil) && !seen[key] {
				seen[key] = true
				todo = append(todo, state{next, rest[1:]})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	switch len(found) {
	case 0:
		return nil, &FormatError{Reason: ErrNoSubtree, Offset: -1, Path: path, Detail: "there are " + w.topKeys()}
	case 1:
		return found[0], nil
	}
	return nil, &FormatError{Reason: ErrNoSubtree, Offset: -1, Path: path, Detail: "the path fits in several ways"}
}

// topKeys lists the first keys of the root, for messages.
func (w *walker) topKeys() string {
	var keys []string
	const shown = 10
	err := w.children(w.c.Root, func(l label, _ pickle.Value) error {
		if len(keys) == shown {
			return errors.New("enough")
		}
		keys = append(keys, quote(l.text))
		return nil
	})
	if len(keys) == 0 {
		return "no keys"
	}
	if err != nil {
		keys = append(keys, "...")
	}
	return strings.Join(keys, ", ")
}

// children visits the parts of a plain container.
func (w *walker) children(v pickle.Value, visit func(label, pickle.Value) error) error {
	if items, ok := w.items(v); ok {
		for _, it := range items {
			if err := visit(labelOf(it.Key), it.Value); err != nil {
				return err
			}
		}
		return nil
	}
	if m := w.module(v); m != nil {
		for _, it := range m.items {
			if err := visit(labelOf(it.Key), it.Value); err != nil {
				return err
			}
		}
		return nil
	}
	items, _ := seqItems(v)
	for i, v := range items {
		if err := visit(label{text: strconv.Itoa(i), number: true}, v); err != nil {
			return err
		}
	}
	return nil
}

// dropBeside lists what lies beside the way to the subtree.
func (w *walker) dropBeside(tree []step) error {
	prefix := ""
	for i := 0; i+1 < len(tree); i++ {
		next := tree[i+1].label
		err := w.children(tree[i].value, func(l label, v pickle.Value) error {
			if l == next {
				return nil
			}
			n, err := w.tensors(v)
			if err != nil {
				return err
			}
			d := Dropped{Path: join(prefix, l.text), Kind: leafKind(v), Reason: "outside " + quote(w.out.Subtree), Value: valueOf(v)}
			switch {
			case w.c.isTensor(v):
				d.Kind = "tensor"
			case isTrainingKey(l.text):
				d.Kind = "training state"
			default:
				w.inside(d.Path, v)
			}
			if n > 0 && d.Kind != "tensor" {
				d.Reason += fmt.Sprintf(", %d tensors", n)
			}
			return w.drop(d)
		})
		if err != nil {
			return err
		}
		prefix = join(prefix, next.text)
	}
	return nil
}

func (w *walker) drop(d Dropped) error {
	if len(w.out.Dropped)+len(w.out.Tensors) >= maxLeaves {
		return broken(ErrLimit, "", -1, "the object has more than %d leaves", maxLeaves)
	}
	w.out.Dropped = append(w.out.Dropped, d)
	return nil
}
