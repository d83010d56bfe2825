package picklegen

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// A Checkpoint is a file as torch.save or numpy users write them, with any
// encoding of its values that some pickler would choose.
type Checkpoint struct {
	Name    string
	Data    []byte
	Pickles [][]byte // the streams, in order
	Archive *Archive // where it is one
}

// tensors writes the opcodes of values that convert.
type tensors struct {
	stream
	legacy   bool
	storages []storage
	globals  map[string]int // memo indexes
}

type storage struct {
	key   string
	numel int
	data  []byte
}

var storageTypes = []struct {
	name string
	size int
}{
	{"FloatStorage", 4}, {"HalfStorage", 2}, {"DoubleStorage", 8}, {"LongStorage", 8}, {"IntStorage", 4},
	{"ShortStorage", 2}, {"CharStorage", 1}, {"ByteStorage", 1}, {"BoolStorage", 1}, {"BFloat16Storage", 2},
}

// Torch makes a checkpoint of torch.save.
func Torch(c *Choices) *Checkpoint {
	t := &tensors{stream: stream{c: c, proto: pick(c, []int{2, 2, 2, 3, 4, 5})}, legacy: c.One(3), globals: map[string]int{}}
	t.out = append(t.out, 0x80, byte(t.proto))
	t.state(0)
	t.out = append(t.out, '.')
	if t.legacy {
		return t.legacyFile()
	}
	a := &Archive{Align: pick(c, []int{64, 0})}
	root := pick(c, []string{"archive", "model", "a b"})
	a.Entries = append(a.Entries, Entry{Name: root + "/data.pkl", Data: t.out})
	for _, s := range t.storages {
		a.Entries = append(a.Entries, Entry{Name: root + "/data/" + s.key, Data: s.data})
	}
	a.Entries = append(a.Entries, Entry{Name: root + "/version", Data: []byte("3\n")})
	if c.One(3) {
		a.Entries = append(a.Entries, Entry{Name: root + "/byteorder", Data: []byte("little")})
	}
	return &Checkpoint{"model.pt", a.Bytes(), [][]byte{t.out}, a}
}

func (t *tensors) legacyFile() *Checkpoint {
	keys := "\x80\x02]("
	for _, s := range t.storages {
		keys += "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s.key)))) + s.key
	}
	streams := [][]byte{
		[]byte("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),
		[]byte("\x80\x02M\xe9\x03."),
		[]byte("\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88" +
			"X\x0a\x00\x00\x00type_sizes}(X\x05\x00\x00\x00shortK\x02X\x03\x00\x00\x00intK\x04X\x04\x00\x00\x00longK\x04uu."),
		t.out,
		[]byte(keys + "e."),
	}
	var out []byte
	for _, s := range streams {
		out = append(out, s...)
	}
	for _, s := range t.storages {
		out = append(binary.LittleEndian.AppendUint64(out, uint64(s.numel)), s.data...)
	}
	return &Checkpoint{"model.pth", out, streams, nil}
}

// Arrays makes a bare pickle of numpy arrays.
func Arrays(c *Choices) *Checkpoint {
	t := &tensors{stream: stream{c: c, proto: pick(c, []int{2, 3, 4, 5})}, globals: map[string]int{}}
	t.out = append(t.out, 0x80, byte(t.proto))
	n := 1 + c.Below(4)
	t.dictOf("", n, func(i int) { t.str("a" + strconv.Itoa(i)) }, func(int) {
		if c.One(4) {
			t.plain()
			return
		}
		t.array()
	})
	t.out = append(t.out, '.')
	return &Checkpoint{"arrays.pkl", t.out, [][]byte{t.out}, nil}
}

// str writes text, and may store it in the memo.
func (t *tensors) str(s string) {
	if t.proto >= 4 && t.c.One(2) {
		t.sized(0x8c, 1, []byte(s))
	} else {
		t.sized('X', 4, []byte(s))
	}
	t.put()
}

func (t *tensors) put() {
	if !t.c.One(2) {
		return
	}
	t.push(scalar)
	t.store()
	t.drop(1)
}

func (t *tensors) integer(n int) {
	le := binary.LittleEndian
	switch {
	case t.c.One(8):
		t.op(0x8a, append([]byte{5}, le.AppendUint64(nil, uint64(n))[:5]...)...)
	case n >= 0 && n < 256 && !t.c.One(6):
		t.op('K', byte(n))
	case n >= 0 && n < 1<<16 && !t.c.One(6):
		t.op('M', le.AppendUint16(nil, uint16(n))...)
	default:
		t.op('J', le.AppendUint32(nil, uint32(n))...)
	}
}

// global imports a name once and then takes it from the memo.
func (t *tensors) global(module, name string) {
	key := module + "\n" + name + "\n"
	if i, ok := t.globals[key]; ok && !t.c.One(3) {
		if i < 256 {
			t.op('h', byte(i))
		} else {
			t.op('j', binary.LittleEndian.AppendUint32(nil, uint32(i))...)
		}
		return
	}
	if t.proto >= 4 && t.c.One(2) {
		t.str(module)
		t.str(name)
		t.op(0x93)
	} else {
		t.line('c', module, name)
	}
	t.push(global)
	t.globals[key] = t.next
	t.store()
	t.drop(1)
}

// tupleOf writes n items and makes a tuple of them.
func (t *tensors) tupleOf(n int, item func(i int)) {
	short := n >= 1 && n <= 3 && !t.c.One(4)
	if n == 0 && !t.c.One(4) {
		t.op(')')
		return
	}
	if !short {
		t.op('(')
	}
	for i := range n {
		item(i)
	}
	if short {
		t.op(0x84 + byte(n))
	} else {
		t.op('t')
	}
	t.put()
}

// dictOf writes a dictionary, or an OrderedDict where class says so.
func (t *tensors) dictOf(class string, n int, key, value func(i int)) {
	if class != "" {
		t.global("collections", class)
		t.op(')')
		t.op('R')
	} else {
		t.op('}')
	}
	t.put()
	batch := t.c.One(2) && n > 0
	if batch {
		t.op('(')
	}
	for i := range n {
		key(i)
		value(i)
		if !batch {
			t.op('s')
		}
	}
	if batch {
		t.op('u')
	}
}

// state writes a state dict, perhaps with others inside.
func (t *tensors) state(depth int) {
	class := pick(t.c, []string{"", "OrderedDict"})
	n := 1 + t.c.Below(5)
	t.dictOf(class, n, func(i int) { t.str(fmt.Sprintf("%c%d.weight", 'a'+depth, i)) }, func(i int) {
		switch way := t.c.Below(8); {
		case way == 0 && i > 0:
			t.plain()
		case way == 1 && i > 0 && depth < 2:
			t.state(depth + 1)
		default:
			t.tensor()
		}
	})
	if class != "" && t.c.One(3) { // what torch adds to state dicts
		t.op('}')
		t.str("_metadata")
		t.op('}')
		t.op('s')
		t.op('b')
	}
}

// plain writes a value that is no tensor.
func (t *tensors) plain() {
	switch t.c.Below(6) {
	case 0:
		t.integer(t.c.Below(1 << 16))
	case 1:
		t.str("text")
	case 2:
		t.op('N')
	case 3:
		t.op('G', t.c.Bytes(8)...)
	case 4:
		t.tupleOf(t.c.Below(5), func(i int) { t.integer(i) })
	default:
		t.op(']')
		t.integer(t.c.Below(100))
		t.op('a')
	}
}

// tensor writes a view of a new storage, or of one that is there.
func (t *tensors) tensor() {
	kind := pick(t.c, storageTypes)
	shape := make([]int, t.c.Below(4))
	numel := 1
	for i := range shape {
		shape[i] = t.c.Below(5)
		if shape[i] == 0 && !t.c.One(4) {
			shape[i] = 1
		}
		numel *= shape[i]
	}
	offset := 0
	if t.c.One(4) {
		offset = t.c.Below(7)
	}
	s := storage{key: strconv.Itoa(len(t.storages)), numel: offset + numel + t.c.Below(2)*t.c.Below(9)}
	s.data = t.c.Bytes(s.numel * kind.size)
	if kind.name == "BoolStorage" {
		for i := range s.data {
			s.data[i] &= 1
		}
	}
	t.storages = append(t.storages, s)
	t.global("torch._utils", "_rebuild_tensor_v2")
	t.op('(')
	t.storageID(s, kind.name)
	t.integer(offset)
	t.tupleOf(len(shape), func(i int) { t.integer(shape[i]) })
	strides := stridesOf(t.c, shape)
	t.tupleOf(len(shape), func(i int) { t.integer(strides[i]) })
	t.op(0x89)
	t.global("collections", "OrderedDict")
	t.op(')')
	t.op('R')
	t.op('t')
	t.put()
	t.op('R')
	t.put()
}

func (t *tensors) storageID(s storage, class string) {
	t.op('(')
	t.str("storage")
	t.global("torch", class)
	t.str(s.key)
	t.str("cpu")
	t.integer(s.numel)
	if t.legacy {
		t.op('N')
	}
	t.op('t')
	t.put()
	t.op('Q')
}

// stridesOf gives a layout of the elements: dense, in any order of the
// dimensions.
func stridesOf(c *Choices, shape []int) []int {
	order := make([]int, len(shape))
	for i := range order {
		order[i] = len(shape) - 1 - i
	}
	if len(order) > 1 && c.One(3) {
		order[0], order[1] = order[1], order[0]
	}
	strides, step := make([]int, len(shape)), 1
	for _, d := range order {
		strides[d] = step
		step *= max(shape[d], 1)
	}
	return strides
}

// array writes a numpy array as numpy.ndarray.__reduce__ gives it.
func (t *tensors) array() {
	code := pick(t.c, []struct {
		code string
		size int
	}{{"f4", 4}, {"f8", 8}, {"i4", 4}, {"u1", 1}, {"f2", 2}, {"i8", 8}})
	shape := []int{1 + t.c.Below(4), t.c.Below(4)}
	t.global("numpy.core.multiarray", "_reconstruct")
	t.tupleOf(3, func(i int) {
		switch i {
		case 0:
			t.global("numpy", "ndarray")
		case 1:
			t.tupleOf(1, func(int) { t.integer(0) })
		default:
			t.bytes("b")
		}
	})
	t.op('R')
	t.put()
	t.op('(')
	t.integer(1)
	t.tupleOf(2, func(i int) { t.integer(shape[i]) })
	t.dtype(code.code)
	t.op(pick(t.c, []byte{0x88, 0x89}))
	t.bytes(string(t.c.Bytes(shape[0] * shape[1] * code.size)))
	t.op('t')
	t.op('b')
}

func (t *tensors) dtype(code string) {
	order := "<"
	if code == "u1" {
		order = "|"
	}
	t.global("numpy", "dtype")
	t.tupleOf(3, func(i int) {
		switch i {
		case 0:
			t.str(code)
		case 1:
			t.op(0x89)
		default:
			t.op(0x88)
		}
	})
	t.op('R')
	t.put()
	t.op('(')
	t.integer(3)
	t.str(order)
	t.out = append(t.out, "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"...)
}

// bytes writes a bytes object; protocol 2 has none, and calls _codecs.encode.
func (t *tensors) bytes(s string) {
	if t.proto >= 3 {
		if len(s) < 256 {
			t.sized('C', 1, []byte(s))
		} else {
			t.sized('B', 4, []byte(s))
		}
		return
	}
	latin := make([]rune, len(s))
	for i := range len(s) {
		latin[i] = rune(s[i])
	}
	t.global("_codecs", "encode")
	t.tupleOf(2, func(i int) { t.str([]string{string(latin), "latin1"}[i]) })
	t.op('R')
}
