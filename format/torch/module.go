package torch

import (
	"fmt"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
)

// module is a torch.nn.Module, or an object of a TorchScript archive, as its
// pickle has it: what its state_dict() gives, and what is lost. The class is
// never looked for.
type module struct {
	class string
	items []pickle.Item // parameters, buffers, modules: in the order of state_dict()
	lost  []lostPart
	hooks bool // state_dict() would call something
}

// lostPart is a value of a module that state_dict() leaves out.
type lostPart struct {
	name  string
	value pickle.Value
	why   string
}

const (
	whyAttribute     = "neither parameter nor buffer: state_dict() does not have it"
	whyNonPersistent = "registered with persistent=False: state_dict() does not have it"
	whyClass         = "the code and plain attributes of a class are not taken"
)

// module gives the module that v is; nil where it is none.
func (w *walker) module(v pickle.Value) *module {
	call, ok := v.(*pickle.Call)
	if !ok {
		return nil
	}
	m, ok := w.modules[call]
	if !ok {
		m = w.readModule(call)
		if w.modules == nil {
			w.modules = map[*pickle.Call]*module{}
		}
		w.modules[call] = m
	}
	return m
}

func (w *walker) readModule(call *pickle.Call) *module {
	if !isInstance(call) || len(call.States) != 1 || len(call.Items)+len(call.Appends) > 0 || call.Kwargs != nil {
		return nil
	}
	if _, ok := call.States[0].Value.(*pickle.Dict); !ok {
		return nil
	}
	state, _ := w.items(call.States[0].Value)
	if w.c.Container == TorchScript {
		return w.scripted(call, state)
	}
	return w.eager(call, state)
}

// isInstance says whether a call makes an object of a class without its
// constructor: cls.__new__(cls), as object.__reduce_ex__ has it.
func isInstance(call *pickle.Call) bool {
	switch pickle.OpcodeName(call.Opcode) {
	case "NEWOBJ":
		args, ok := call.Args.(*pickle.Tuple)
		return ok && len(args.Items) == 0
	case "REDUCE":
		module, name := calleeName(call)
		args, ok := call.Args.(*pickle.Tuple)
		return ok && module == "copyreg" && name == "_reconstructor" && len(args.Items) == 3
	}
	return false
}

// eager reads the attributes that torch.nn.Module keeps its parts in, and that
// Module.state_dict walks (torch/nn/modules/module.py).
func (w *walker) eager(call *pickle.Call, state []pickle.Item) *module {
	m := &module{class: callKind(call)}
	var parts [3][]pickle.Item // _parameters, _buffers, _modules
	var found [3]bool
	transient := map[string]bool{}
	for _, it := range state {
		name, ok := textOf(it.Key)
		if !ok {
			return nil
		}
		i := moduleAttribute(name)
		switch {
		case i >= 0:
			if parts[i], found[i] = w.items(it.Value); !found[i] {
				return nil
			}
		case name == "_non_persistent_buffers_set":
			if !addTexts(transient, it.Value) {
				return nil
			}
		case name == "_state_dict_hooks" || name == "_state_dict_pre_hooks":
			items, ok := w.items(it.Value)
			m.hooks = m.hooks || !ok || len(items) > 0
		default:
			m.lost = append(m.lost, lostPart{name, it.Value, whyAttribute})
		}
	}
	if found != [3]bool{true, true, true} {
		return nil
	}
	m.keep(parts, transient)
	return m
}

// keep takes what is set, and what is no buffer that is only for the running
// process.
func (m *module) keep(parts [3][]pickle.Item, transient map[string]bool) {
	for i, items := range parts {
		for _, it := range items {
			name, _ := textOf(it.Key)
			switch _, none := it.Value.(pickle.None); {
			case none:
			case i == 1 && transient[name]:
				m.lost = append(m.lost, lostPart{name, it.Value, whyNonPersistent})
			default:
				m.items = append(m.items, it)
			}
		}
	}
}

func moduleAttribute(name string) int {
	switch name {
	case "_parameters":
		return 0
	case "_buffers":
		return 1
	case "_modules":
		return 2
	}
	return -1
}

// addTexts enters the members of a set of names.
func addTexts(to map[string]bool, v pickle.Value) bool {
	names, ok := setItems(v)
	for _, n := range names {
		s, isText := textOf(n)
		ok = ok && isText
		to[s] = true
	}
	return ok
}

// setItems reads a set, of any protocol.
func setItems(v pickle.Value) ([]pickle.Value, bool) {
	switch v := v.(type) {
	case *pickle.Set:
		return v.Items, true
	case *pickle.Call:
		module, name := calleeName(v)
		args, ok := v.Args.(*pickle.Tuple)
		if module != "builtins" || name != "set" || !ok || len(args.Items) > 1 {
			return nil, false
		}
		if len(args.Items) == 0 {
			return v.Appends, true
		}
		items, ok := sequence(args.Items[0])
		return append(items[:len(items):len(items)], v.Appends...), ok
	}
	return nil, false
}

// scripted reads an object of a TorchScript archive. Its attributes are
// parameters, buffers and modules by name; the code of its class says which
// tensors are which, where it was read.
func (w *walker) scripted(call *pickle.Call, state []pickle.Item) *module {
	m := &module{class: callKind(call)}
	class, known := w.c.classes[m.class]
	if known && !class.module {
		return nil
	}
	for _, it := range state {
		name, ok := textOf(it.Key)
		if !ok {
			return nil
		}
		part, isObject := it.Value.(*pickle.Call)
		switch {
		case isObject && w.c.isTensor(part) && (!class.listed || class.tensors[name]), isObject && w.isScripted(part):
			m.items = append(m.items, it)
		default:
			m.lost = append(m.lost, lostPart{name, it.Value, whyAttribute})
		}
	}
	return m
}

// isScripted says whether a value is a module of the archive's own code.
func (w *walker) isScripted(call *pickle.Call) bool {
	module, name := calleeName(call)
	if !isInstance(call) || !isScriptModule(module) {
		return false
	}
	class, known := w.c.classes[module+"."+name]
	return !known || class.module
}

func isScriptModule(module string) bool {
	return module == "__torch__" || strings.HasPrefix(module, "__torch__.")
}

// lostClass counts the objects of a class whose code is lost.
type lostClass struct {
	path, class string
	objects     int
}

// lose lists what is lost with a module. Plain attributes go with the class;
// tensors are named one by one.
func (e *emitter) lose(m *module) error {
	if i, ok := e.classAt[m.class]; ok {
		e.classes[i].objects++
	} else {
		if e.classAt == nil {
			e.classAt = map[string]int{}
		}
		e.classAt[m.class] = len(e.classes)
		path := e.shownPath()
		if path == "" {
			path = WholeRoot
		}
		e.classes = append(e.classes, lostClass{path, m.class, 1})
	}
	if m.hooks {
		e.found("state-dict-hooks", "state_dict() of %s calls hooks of its own, which may change names or tensors; they were not run", m.class)
	}
	here := e.shownPath()
	for _, l := range m.lost {
		n, err := e.countOnce(l.value)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		d := Dropped{Path: join(here, l.name), Kind: leafKind(l.value), Reason: l.why}
		if e.c.isTensor(l.value) {
			d.Kind = "tensor"
		} else {
			d.Reason += fmt.Sprintf(" (%d tensors)", n)
		}
		if err := e.drop(d); err != nil {
			return err
		}
	}
	return nil
}

// countOnce is tensors, remembered: modules may all refer to one other.
func (e *emitter) countOnce(v pickle.Value) (int, error) {
	switch v.(type) {
	case *pickle.List, *pickle.Tuple, *pickle.Dict, *pickle.Set, *pickle.Call:
	default:
		return e.tensors(v)
	}
	if n, ok := e.counts[v]; ok {
		return n, nil
	}
	n, err := e.tensors(v)
	if e.counts == nil {
		e.counts = map[pickle.Value]int{}
	}
	e.counts[v] = n
	return n, err
}

// loseClasses lists the classes of all modules that were met.
func (e *emitter) loseClasses() error {
	for _, c := range e.classes {
		reason := whyClass
		if c.objects > 1 {
			reason += fmt.Sprintf(" (%d objects)", c.objects)
		}
		if err := e.drop(Dropped{Path: c.path, Kind: c.class, Reason: reason}); err != nil {
			return err
		}
	}
	if len(e.classes) == 0 {
		return nil
	}
	detail := "names are those of torch.nn.Module.state_dict(); a class that overrides it, or has get_extra_state() or __setstate__(), may give others"
	if e.c.Container == TorchScript {
		detail = "names are the attribute paths of parameters and buffers, as torch.jit.load(FILE).state_dict() gives them, buffers registered with persistent=False included"
		for _, s := range e.c.Streams {
			if s.Name == "constants.pkl" && s.Stream != nil && len(s.Persistents) > 0 {
				d := Dropped{Path: "constants", Kind: fmt.Sprintf("%d tensors", len(s.Persistents)), Reason: "constants of the code have no names"}
				if err := e.drop(d); err != nil {
					return err
				}
			}
		}
	}
	e.out.Findings = append(e.out.Findings, Finding{Rule: "module-names", Inner: e.c.objectName(), Offset: -1, Detail: detail})
	return nil
}
