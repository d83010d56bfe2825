package torch

import (
	"errors"
	"math"
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/safetensors"
)

// storageClass is what a storage class of torch says about its elements.
type storageClass struct {
	dtype   safetensors.DType // 0 where safetensors has none
	bytes   int64             // of an element
	what    string            // what it is where dtype is 0
	untyped bool
	packed  bool // several elements a byte: numel does not give the length
}

// classOf knows the storage classes by module and name: torch itself looks at
// the name alone. torch/storage.py, _storage_classes in torch/__init__.py.
func classOf(module, name string) (storageClass, bool) {
	switch module {
	case "torch.storage":
		switch name {
		case "UntypedStorage", "_UntypedStorage":
			return storageClass{bytes: 1, what: "untyped storage", untyped: true}, true
		}
		return storageClass{}, false
	case "torch", "torch.cuda":
	default:
		return storageClass{}, false
	}
	base, ok := strings.CutSuffix(name, "Storage")
	if !ok {
		return storageClass{}, false
	}
	switch base {
	case "Double":
		return storageClass{dtype: safetensors.F64, bytes: 8}, true
	case "Float":
		return storageClass{dtype: safetensors.F32, bytes: 4}, true
	case "Half":
		return storageClass{dtype: safetensors.F16, bytes: 2}, true
	case "BFloat16":
		return storageClass{dtype: safetensors.BF16, bytes: 2}, true
	case "Long":
		return storageClass{dtype: safetensors.I64, bytes: 8}, true
	case "Int":
		return storageClass{dtype: safetensors.I32, bytes: 4}, true
	case "Short":
		return storageClass{dtype: safetensors.I16, bytes: 2}, true
	case "Char":
		return storageClass{dtype: safetensors.I8, bytes: 1}, true
	case "Byte":
		return storageClass{dtype: safetensors.U8, bytes: 1}, true
	case "Bool":
		return storageClass{dtype: safetensors.BOOL, bytes: 1}, true
	case "ComplexFloat":
		return storageClass{dtype: safetensors.C64, bytes: 8}, true
	case "ComplexDouble":
		return storageClass{bytes: 16, what: "complex128"}, true
	case "QInt8", "QUInt8":
		return storageClass{bytes: 1, what: "quantised"}, true
	case "QInt32":
		return storageClass{bytes: 4, what: "quantised"}, true
	case "QUInt4x2", "QUInt2x4":
		return storageClass{bytes: 1, what: "quantised", packed: true}, true
	case "Untyped":
		return storageClass{bytes: 1, what: "untyped storage", untyped: true}, true
	}
	return storageClass{}, false
}

// storageRef is a persistent id that names a storage:
// ('storage', class, key, location, numel), and in legacy files a sixth item,
// None or (key, offset, numel) of a view.
type storageRef struct {
	key, class  string
	elements    storageClass
	numel       int64
	first, view int64 // of the storage's elements, those that the reference covers
	module      *pickle.Global
}

// textOf gives text of either Python.
func textOf(v pickle.Value) (string, bool) {
	switch v := v.(type) {
	case pickle.String:
		return v.S, v.Valid
	case *pickle.Bytes:
		return string(v.Data), v.Text() && int64(len(v.Data)) == v.Len
	}
	return "", false
}

// countOf gives a number that counts something: an int, and no bool.
func countOf(v pickle.Value) (int64, bool) {
	n, ok := v.(pickle.Int)
	return int64(n), ok && n >= 0
}

// parseReference reads a persistent id.
func parseReference(p *pickle.Persistent, legacy bool) (*storageRef, error) {
	bad := func(format string, args ...any) (*storageRef, error) {
		return nil, broken(ErrStorage, "", p.Offset, "persistent id: "+format, args...)
	}
	id, ok := p.ID.(*pickle.Tuple)
	if !ok || len(id.Items) == 0 {
		return bad("it is no tuple")
	}
	kind, _ := textOf(id.Items[0])
	if kind == "module" && legacy {
		return moduleReference(p, id)
	}
	if kind != "storage" {
		return bad("kind %s is not a storage", quote(kind))
	}
	want := 5
	if legacy {
		want = 6
	}
	if len(id.Items) != want {
		return bad("%d items, %d are needed", len(id.Items), want)
	}
	class, ok := id.Items[1].(*pickle.Global)
	if !ok {
		return bad("the storage class is no global")
	}
	module, name := class.Mapped()
	elements, ok := classOf(module, name)
	if !ok {
		return bad("unknown storage class %s", quote(module+"."+name))
	}
	ref := &storageRef{class: module + "." + name, elements: elements}
	if ref.key, ok = textOf(id.Items[2]); !ok {
		return bad("the storage key is no text")
	}
	if _, ok = textOf(id.Items[3]); !ok {
		return bad("the location of storage %s is no text", quote(ref.key))
	}
	if ref.numel, ok = countOf(id.Items[4]); !ok {
		return bad("the size of storage %s is no count", quote(ref.key))
	}
	if ref.numel > math.MaxInt64/elements.bytes {
		return bad("storage %s of %d elements overflows", quote(ref.key), ref.numel)
	}
	ref.view = ref.numel
	if legacy {
		return ref, ref.parseView(id.Items[5], p.Offset)
	}
	return ref, nil
}

// parseView reads view_metadata: None or (key, offset, numel).
func (ref *storageRef) parseView(v pickle.Value, offset int64) error {
	if _, ok := v.(pickle.None); ok {
		return nil
	}
	t, ok := v.(*pickle.Tuple)
	if !ok || len(t.Items) != 3 {
		return broken(ErrStorage, "", offset, "persistent id: view of storage %s is no triple", quote(ref.key))
	}
	first, ok1 := countOf(t.Items[1])
	numel, ok2 := countOf(t.Items[2])
	if _, ok := textOf(t.Items[0]); !ok || !ok1 || !ok2 || first > ref.numel || numel > ref.numel-first {
		return broken(ErrStorage, "", offset, "persistent id: view of storage %s does not fit in it", quote(ref.key))
	}
	ref.first, ref.view = first, numel
	return nil
}

// moduleReference reads ('module', class, source file, source): torch kept
// the source of a module's class beside it.
func moduleReference(p *pickle.Persistent, id *pickle.Tuple) (*storageRef, error) {
	if len(id.Items) != 4 {
		return nil, broken(ErrStorage, "", p.Offset, "persistent id: a module of %d items", len(id.Items))
	}
	g, ok := id.Items[1].(*pickle.Global)
	if !ok {
		return nil, broken(ErrStorage, "", p.Offset, "persistent id: the module class is no global")
	}
	return &storageRef{module: g}, nil
}

// reference is parseReference for a value of this checkpoint.
func (c *Checkpoint) reference(p *pickle.Persistent) (*storageRef, error) {
	return parseReference(p, c.Container == Legacy)
}

// declare enters the storages that the object's stream names. What a storage
// is must be the same wherever it is named.
func (c *Checkpoint) declare(s *pickle.Stream, record string, found func(*Storage, *storageRef, *pickle.Persistent) error) []error {
	var errs []error
	fail := func(err error) {
		var e *FormatError
		if errors.As(err, &e) && e.Record == "" {
			e.Record = record
		}
		if len(errs) < maxErrors {
			errs = append(errs, err)
		}
	}
	for _, p := range s.Persistents {
		ref, err := c.reference(p)
		if err != nil {
			fail(err)
			continue
		}
		if ref.module != nil {
			continue
		}
		if st, ok := c.Storages[ref.key]; ok {
			if trimCUDA(st.Class) != trimCUDA(ref.class) || st.Numel != ref.numel {
				fail(broken(ErrStorage, "", p.Offset, "storage %s is once %s of %d, once %s of %d",
					quote(ref.key), st.Class, st.Numel, ref.class, ref.numel))
			}
			continue
		}
		st := &Storage{Key: ref.key, Class: ref.class, DType: ref.elements.dtype, ElementSize: ref.elements.bytes, Numel: ref.numel}
		if err := found(st, ref, p); err != nil {
			fail(err)
			continue
		}
		c.Storages[ref.key] = st
	}
	return errs
}

func trimCUDA(class string) string { return strings.Replace(class, "torch.cuda.", "torch.", 1) }
