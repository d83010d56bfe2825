package workload

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// extractor gathers what one object names.
type extractor struct {
	object *Object
	kserve bool // the kind is one of serving.kserve.io
	core   bool // the kind is Kubernetes' own: its fields have known types
	err    error
}

// maxDepth bounds how deep objects are looked into.
const maxDepth = 100

var containerLists = []string{"initContainers", "containers", "ephemeralContainers"}

// walk looks for pod specifications and for KServe's fields in a value,
// wherever they are: kinds that nobody here knows have templates too.
func (e *extractor) walk(place string, v any, depth int) {
	if depth > maxDepth {
		return
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			e.walk(index(place, i), item, depth+1)
		}
	case map[string]any:
		e.podSpec(place, v)
		for _, key := range sortedKeys(v) {
			at := join(place, key)
			if e.kserve && e.storage(at, key, v[key]) {
				continue
			}
			if key != "volumes" && key != "containers" && key != "initContainers" && key != "ephemeralContainers" {
				e.walk(at, v[key], depth+1)
			}
		}
	}
}

// podSpec reads the volumes and containers of a map, if it has any.
func (e *extractor) podSpec(place string, m map[string]any) {
	for i, v := range e.list(join(place, "volumes"), m["volumes"]) {
		e.volume(index(join(place, "volumes"), i), v)
	}
	for _, key := range containerLists {
		for i, c := range e.list(join(place, key), m[key]) {
			e.container(index(join(place, key), i), key, c)
		}
	}
}

func (e *extractor) volume(place string, v map[string]any) {
	name := text(v["name"])
	if image := e.mapAt(join(place, "image"), v["image"]); image != nil {
		at := join(join(place, "image"), "reference")
		if ref := e.textAt(at, image["reference"]); ref != "" {
			e.add(Use{Place: at, Via: "image volume " + name, Certainty: Declared, Reference: ParseImage(ref), AnyContent: true})
		}
	}
	// The ModelPack CSI driver names the model in an attribute under its own
	// name (modelpack/model-csi-driver, pkg/config/config.go).
	if csi := e.mapAt(join(place, "csi"), v["csi"]); csi != nil {
		attributes := e.mapAt(join(join(place, "csi"), "volumeAttributes"), csi["volumeAttributes"])
		key := text(csi["driver"]) + "/reference"
		if ref := text(attributes[key]); ref != "" {
			e.add(Use{Place: join(join(join(place, "csi"), "volumeAttributes"), key), Via: "CSI volume " + name, Certainty: Declared, Reference: ParseImage(ref)})
		}
	}
}

func (e *extractor) container(place, list string, c map[string]any) {
	name := text(c["name"])
	what := strings.TrimSuffix(list, "s") + " " + name
	if list == "initContainers" {
		what = "init container " + name
	}
	image := e.textAt(join(place, "image"), c["image"])
	// KServe's names: pkg/constants, ModelcarContainerName; several models give
	// each a number.
	if (name == "modelcar" || strings.HasPrefix(name, "modelcar-") && !strings.HasPrefix(name, "modelcar-init")) && image != "" {
		e.add(Use{Place: join(place, "image"), Via: "modelcar " + what, Certainty: Declared, Reference: ParseImage(image)})
	}
	env := e.environment(place, what, c)
	command := e.words(join(place, "command"), c["command"], env)
	args := e.words(join(place, "args"), c["args"], env)
	if strings.HasPrefix(name, "storage-initializer") {
		// Pairs of a source and where to put it (KServe's
		// storage_initializer_injector.go).
		for i := 0; i < len(args); i += 2 {
			if r := ParseURI(args[i].text); r.Problem == "" {
				e.add(Use{Place: args[i].place, Via: "KServe storage initializer", Certainty: Declared, Reference: r})
			}
		}
		return
	}
	argv := slices.Concat(command, args)
	if len(command) == 0 && image != "" {
		// The image's own program, which often gave the image its name.
		argv = append([]word{{place: join(place, "image"), text: imageProgram(image)}}, argv...)
	}
	e.commandLine(what, argv, Declared)
}

// imageProgram is the last part of an image's name.
func imageProgram(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}

// environment reads the variables that have a value of their own, and those
// among them that name a model.
func (e *extractor) environment(place, what string, c map[string]any) map[string]string {
	env := map[string]string{}
	for i, v := range e.list(join(place, "env"), c["env"]) {
		name, value := text(v["name"]), text(v["value"])
		if name == "" || value == "" {
			continue
		}
		value = expand(value, env)
		env[name] = value
		if !modelVariable().MatchString(name) {
			continue
		}
		if r, ok := guess(value); ok {
			e.add(Use{
				Place: index(join(place, "env"), i) + ".value", Via: what + ", " + name,
				Certainty: Mentioned, Reference: r,
			})
		}
	}
	return env
}

// word is one word of a command line, and where it is.
type word struct{ place, text string }

func (e *extractor) words(place string, v any, env map[string]string) []word {
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		e.shape(place, v, "a list")
		return nil
	}
	words := make([]word, 0, len(list))
	for i, item := range list {
		words = append(words, word{index(place, i), expand(text(item), env)})
	}
	return words
}

// add keeps a use unless the same place of the same object has named it.
func (e *extractor) add(u Use) {
	u.Via = strings.TrimSpace(u.Via)
	for _, have := range e.object.Uses {
		if have.Place == u.Place && have.Reference.Key() == u.Reference.Key() {
			return
		}
	}
	if len(e.object.Uses) >= maxUses {
		if e.err == nil {
			e.err = &LimitError{What: "places that name models in one object", Max: maxUses}
		}
		return
	}
	e.object.Uses = append(e.object.Uses, u)
}

// maxUses bounds what one object may name.
const maxUses = 1000

// list gives a list of maps. Kinds of Kubernetes' own must have a list there,
// in others a key of that name may mean anything.
func (e *extractor) list(place string, v any) []map[string]any {
	if v == nil {
		return nil
	}
	items, ok := v.([]any)
	if !ok {
		e.shape(place, v, "a list")
		return nil
	}
	maps := make([]map[string]any, 0, len(items))
	for i, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			e.shape(index(place, i), item, "a map")
			m = nil
		}
		maps = append(maps, m)
	}
	return maps
}

func (e *extractor) mapAt(place string, v any) map[string]any {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		e.shape(place, v, "a map")
	}
	return m
}

func (e *extractor) textAt(place string, v any) string {
	s, ok := v.(string)
	if !ok && v != nil {
		e.shape(place, v, "a string")
	}
	return s
}

// shape notes the first field with another type than it has to have.
func (e *extractor) shape(place string, v any, want string) {
	if e.err != nil || !e.core && !e.kserve {
		return
	}
	e.err = &ShapeError{Object: e.object.Kind + " " + e.object.Name, Place: place, Got: typeName(v), Want: want}
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	}
	return "a number"
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// join adds a key to a path, as kubectl's JSONPath writes it.
func join(place, key string) string {
	switch {
	case strings.ContainsAny(key, ".[]'\"") || key == "":
		return fmt.Sprintf("%s[%q]", place, key)
	case place == "":
		return key
	}
	return place + "." + key
}

func index(place string, i int) string { return fmt.Sprintf("%s[%d]", place, i) }
