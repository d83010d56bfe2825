// Package onnx reads the initialisers of ONNX models (onnx/onnx.proto): the
// weights, without the graph that uses them. Raw data are ranges of the file;
// typed data that are not are decoded within a budget.
package onnx

import (
	"fmt"
	"io"

	"github.com/weightseal/weightseal/format"
)

const name = "onnx"

// Limits bound what is read. Zero fields take the default.
type Limits struct {
	Depth   int   // of messages in each other: 64
	Fields  int   // of the whole file: 2^24
	Tensors int   // and other things with a name: 2^18
	Decoded int64 // bytes of tensors whose typed data must be decoded: 64 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = 64
	}
	if l.Fields <= 0 {
		l.Fields = 1 << 24
	}
	if l.Tensors <= 0 {
		l.Tensors = 1 << 18
	}
	if l.Decoded <= 0 {
		l.Decoded = 64 << 20
	}
	return l
}

// Options say how to read.
type Options struct {
	Limits Limits
	// External opens a file that tensors lie in, by its path relative to the
	// model, which leads nowhere else. nil refuses such tensors.
	External func(location string) (File, error)
}

// File is one that tensors lie in.
type File struct {
	Data io.ReaderAt
	Size int64
	// At is where the file begins in what the storages' offsets count in, as
	// when the model and its files are read as one; negative for nowhere.
	At int64
}

// reader is a file being read.
type reader struct {
	*format.Cursor
	file    io.ReaderAt
	opt     Options
	lim     Limits
	budget  *format.Budget
	fields  int
	depth   int
	decoded int64 // bytes that may still be decoded
	kept    uint64
	graphs  int
	nodes   int
	names   map[string]bool
	others  map[string]*File // files that tensors lie in
	ck      *format.Checkpoint
}

// Open reads the structure of a model of size bytes. A damaged one gives a
// *format.Error; tensors that safetensors cannot hold, or that lie in files
// that cannot be opened, a *format.UnsupportedError.
func Open(r io.ReaderAt, size int64, opt Options) (*format.Checkpoint, error) {
	m := &reader{
		Cursor: format.NewCursor(name, r, size), file: r, opt: opt, lim: opt.Limits.withDefaults(), kept: 16 << 20,
		names: map[string]bool{}, others: map[string]*File{},
		ck: &format.Checkpoint{Metadata: map[string]string{}},
	}
	m.budget, m.fields, m.decoded = format.NewBudget(name, m.lim.Tensors), m.lim.Fields, m.lim.Decoded
	if err := m.each(m.model); err != nil {
		return nil, err
	}
	if m.graphs == 0 {
		return nil, m.Errorf(size, "", "no graph")
	}
	return m.ck, nil
}

// model takes a field of ModelProto.
func (m *reader) model(f *field) error {
	switch f.number {
	case 1, 5:
		v, err := m.number(f)
		if err != nil {
			return err
		}
		key := "ir_version"
		if f.number == 5 {
			key = "model_version"
		}
		return m.keep(key, "int", fmt.Sprint(int64(v)))
	case 2, 3, 4, 6:
		return m.keepText(f, map[uint64]string{2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}[f.number])
	case 7:
		return m.graph(f)
	case 14:
		return m.property(f)
	case 20:
		return m.drop("training_info", "TrainingInfoProto", "how to train the model; no part of the weights")
	case 25:
		return m.drop("functions", "FunctionProto", "safetensors holds no code")
	}
	return nil
}

// graph takes the main graph: its initialisers are the weights.
func (m *reader) graph(f *field) error {
	if m.graphs++; m.graphs > 1 {
		return m.Errorf(f.at, "", "two graphs")
	}
	title, at := "", len(m.ck.Dropped)
	if err := m.drop("graph", "ONNX graph", ""); err != nil {
		return err
	}
	err := m.message(f, func(f *field) (err error) {
		switch f.number {
		case 1:
			err = m.node(f, "graph")
		case 2:
			title, err = m.text(f, maxText)
		case 5:
			err = m.initializer(f)
		case 15:
			err = m.sparse(f)
		}
		return err
	})
	d := &m.ck.Dropped[at]
	if title != "" {
		d.Path += " " + title
	}
	d.Reason = fmt.Sprintf("safetensors holds no computation; %d nodes", m.nodes)
	return err
}

// sparse refuses a sparse initialiser.
func (m *reader) sparse(f *field) error {
	where := ""
	err := m.message(f, func(f *field) error {
		if f.number != 1 { // values, whose name is the initialiser's
			return nil
		}
		return m.message(f, func(f *field) (err error) {
			if f.number == 8 {
				where, err = m.text(f, maxName)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	return &format.UnsupportedError{Format: name, Where: where, What: "sparse initialiser", Next: "make it a dense initialiser in the ONNX model first"}
}

// node looks for tensors in a node's attributes: constants, and the
// initialisers of graphs within. They belong to the computation, and are named
// as lost with it.
func (m *reader) node(f *field, where string) error {
	m.nodes++
	op, title := "", ""
	number := m.nodes
	first := len(m.ck.Dropped)
	err := m.message(f, func(f *field) (err error) {
		switch f.number {
		case 3:
			title, err = m.text(f, maxText)
		case 4:
			op, err = m.text(f, maxText)
		case 5:
			err = m.attribute(f)
		}
		return err
	})
	if len(m.ck.Dropped) == first { // the usual case
		return err
	}
	if title == "" {
		title = fmt.Sprintf("node %d", number)
	}
	prefix := where + "/" + title + " (" + op + ")/"
	for i := first; i < len(m.ck.Dropped); i++ {
		d := &m.ck.Dropped[i]
		if err := m.budget.Take(len(prefix)); err != nil {
			return err
		}
		d.Path = prefix + d.Path
	}
	return err
}

// attribute takes an AttributeProto.
func (m *reader) attribute(f *field) error {
	return m.message(f, func(f *field) error {
		switch f.number {
		case 5, 10: // t, tensors
			return m.constant(f)
		case 6, 11: // g, graphs
			return m.subgraph(f)
		case 22, 23: // sparse_tensor, sparse_tensors
			return m.drop("constant", "sparse tensor", inGraph)
		}
		return nil
	})
}

const inGraph = "part of the computation, not an initialiser of the main graph"

func (m *reader) subgraph(f *field) error {
	return m.message(f, func(f *field) error {
		switch f.number {
		case 1:
			return m.node(f, "subgraph")
		case 5:
			return m.constant(f)
		case 15:
			return m.drop("initialiser", "sparse tensor", inGraph)
		}
		return nil
	})
}

// constant names a tensor that is lost.
func (m *reader) constant(f *field) error {
	t, err := m.head(f)
	if err != nil {
		return err
	}
	title := t.name
	if title == "" {
		title = "constant"
	}
	return m.drop(title, fmt.Sprintf("%s tensor %v", typeName(t.kind), t.shape), inGraph)
}
