package workload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlLine is where the parser's messages name a line.
var yamlLine = pattern(`line (\d+)(: )?`)

// parseYAML reads one document, whose first line has the number first. Maps
// with a key twice are refused: two readers could see two objects.
func parseYAML(doc []byte, first int) (v any, line int, err error) {
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil {
		line = first
		msg := strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine().FindStringSubmatch(msg); m != nil {
			n, _ := strconv.Atoi(m[1])
			line = first + n - 1
			msg = strings.Replace(msg, m[0], "", 1)
		}
		return nil, line, fmt.Errorf("not YAML: %s", msg)
	}
	if root.Kind == 0 {
		return nil, first, nil
	}
	y := &yamlValues{first: first}
	v, err = y.value(&root, 0)
	if err != nil {
		var at *lineError
		if errors.As(err, &at) {
			return nil, at.line, at.err
		}
		return nil, first, err
	}
	return v, first + max(root.Content[0].Line, 1) - 1, nil
}

// lineError is an error and the line of its document.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// yamlValues turns nodes into values, and counts them: an alias is counted
// again each time it is followed.
type yamlValues struct {
	first, count int
}

func (y *yamlValues) fail(n *yaml.Node, err error) error {
	return &lineError{y.first + n.Line - 1, err}
}

func (y *yamlValues) value(n *yaml.Node, depth int) (any, error) {
	if y.count++; y.count > maxValues {
		return nil, y.fail(n, &LimitError{What: "values in a document, with its aliases followed", Max: maxValues})
	}
	if depth > maxDepth {
		return nil, y.fail(n, &LimitError{What: "levels of nesting", Max: maxDepth})
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return y.value(n.Content[0], depth)
	case yaml.AliasNode:
		return y.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := y.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return y.mapping(n, depth)
	}
	return y.scalar(n)
}

func (y *yamlValues) scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!binary":
		return n.Value, nil
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int", "!!float":
		return number(n.Value), nil
	}
	return nil, y.fail(n, fmt.Errorf("the tag %s has no meaning in a manifest", n.Tag))
}

// number is a number as it is written: no field that is read here holds one.
type number string

func (y *yamlValues) mapping(n *yaml.Node, depth int) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	var merged []map[string]any
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			more, err := y.merge(value, depth)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, y.fail(key, errors.New("a key is no scalar"))
		}
		if _, twice := m[key.Value]; twice {
			return nil, y.fail(key, fmt.Errorf("the key %q is there twice", key.Value))
		}
		v, err := y.value(value, depth+1)
		if err != nil {
			return nil, err
		}
		m[key.Value] = v
	}
	for _, more := range merged { // keys of the map itself win, then those of earlier merges
		for k, v := range more {
			if _, have := m[k]; !have {
				m[k] = v
			}
		}
	}
	return m, nil
}

// merge gives the maps that a << key takes in.
func (y *yamlValues) merge(n *yaml.Node, depth int) ([]map[string]any, error) {
	v, err := y.value(n, depth+1)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var maps []map[string]any
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return nil, y.fail(n, errors.New("<< takes maps only"))
		}
		maps = append(maps, m)
	}
	return maps, nil
}
