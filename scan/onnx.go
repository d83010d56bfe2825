package scan

import (
	"strings"
)

// onnxWalk goes through an ONNX model: its graphs, functions, tensors.
// Field numbers: onnx/onnx.proto3.
type onnxWalk struct {
	r *report
	// local are the operators that the model defines itself.
	local map[operator]bool
}

// operator is what a node names.
type operator struct{ domain, name string }

func (o *onnxWalk) model(m *message) error {
	// Functions may follow the graph that uses them.
	first := newMessage(m.c.r, m.start, m.c.end)
	if err := first.each(func() error {
		if first.num != 25 {
			return nil
		}
		return o.define(first)
	}); err != nil {
		return err
	}
	return m.each(func() error {
		switch m.num {
		case 7: // graph
			return o.enter(m, o.graph)
		case 20: // training_info
			return o.enter(m, o.training)
		case 25: // functions
			return o.enter(m, o.function)
		}
		return nil
	})
}

func (o *onnxWalk) enter(m *message, f func(*message) error) error {
	sub, err := m.sub()
	if err != nil {
		return err
	}
	return f(sub)
}

// define notes the operator that a function defines.
func (o *onnxWalk) define(m *message) error {
	sub, err := m.sub()
	if err != nil {
		return err
	}
	var op operator
	err = sub.each(func() (err error) {
		switch sub.num {
		case 1:
			op.name, err = sub.text()
		case 10:
			op.domain, err = sub.text()
		}
		return err
	})
	o.local[op] = true
	return err
}

func (o *onnxWalk) training(m *message) error {
	return m.each(func() error {
		if m.num == 1 || m.num == 2 { // initialization, algorithm
			return o.enter(m, o.graph)
		}
		return nil
	})
}

func (o *onnxWalk) function(m *message) error {
	return m.each(func() error {
		switch m.num {
		case 7: // node
			return o.enter(m, o.node)
		case 11: // attribute_proto: attributes with a default
			return o.enter(m, o.attribute)
		}
		return nil
	})
}

func (o *onnxWalk) graph(m *message) error {
	return m.each(func() error {
		switch m.num {
		case 1:
			return o.enter(m, o.node)
		case 5: // initializer
			return o.enter(m, o.tensor)
		case 15: // sparse_initializer
			return o.enter(m, o.sparse)
		}
		return nil
	})
}

func (o *onnxWalk) sparse(m *message) error {
	return m.each(func() error {
		if m.num == 1 || m.num == 2 { // values, indices
			return o.enter(m, o.tensor)
		}
		return nil
	})
}

func (o *onnxWalk) node(m *message) error {
	var op, domain string
	at := m.start
	err := m.each(func() (err error) {
		switch m.num {
		case 4:
			op, err = m.text()
		case 7:
			domain, err = m.text()
		case 5:
			err = o.enter(m, o.attribute)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case op == "PyOp" || op == "PythonOp" || op == "PythonOpGrad":
		o.r.add("WS-ONNX-002", at, "the operator %s of the domain %q calls Python", op, clip(domain))
	case !standardDomain(domain) && !o.local[operator{domain, op}]:
		o.r.add("WS-ONNX-003", at, "the operator %s is of the domain %q", clip(op), clip(domain))
	}
	return nil
}

// standardDomain says whether the runtimes bring the operators of a domain.
func standardDomain(d string) bool {
	switch d {
	case "", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.preview", "ai.onnx.training",
		"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc":
		return true
	}
	return false
}

func (o *onnxWalk) attribute(m *message) error {
	return m.each(func() error {
		switch m.num {
		case 5, 10: // t, tensors
			return o.enter(m, o.tensor)
		case 6, 11: // g, graphs
			return o.enter(m, o.graph)
		case 22, 23: // sparse_tensor, sparse_tensors
			return o.enter(m, o.sparse)
		}
		return nil
	})
}

func (o *onnxWalk) tensor(m *message) error {
	return m.each(func() error {
		if m.num != 13 { // external_data
			return nil
		}
		return o.enter(m, o.external)
	})
}

func (o *onnxWalk) external(m *message) error {
	var key, value string
	at := m.start
	err := m.each(func() (err error) {
		switch m.num {
		case 1:
			key, err = m.text()
		case 2:
			value, err = m.text()
		}
		return err
	})
	if err == nil && key == "location" && outside(value) {
		o.r.add("WS-ONNX-001", at, "the data of a tensor lies at %q", clip(value))
	}
	return err
}

// outside says whether a path that a model names is not one of its own files.
func outside(p string) bool {
	return p == "" || leaves(p) || strings.ContainsAny(p, "\\\x00") || strings.Contains(p, "://") || strings.HasPrefix(p, "~")
}
