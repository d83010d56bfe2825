// Package pickle runs pickle streams symbolically. The machine keeps the real
// stack and memo, but GLOBAL yields a name, REDUCE yields a node that says
// what would be called with what, and nothing is ever imported, called or
// looked up.
//
// Opcodes and their meaning: CPython Lib/pickletools.py and Modules/_pickle.c,
// protocols 0 to 5. Where the C and the Python unpickler disagree the stream
// is refused or a finding says so.
package pickle

import "math/big"

// Value is what a stream builds. The set of types is closed: None, Bool, Int,
// Float, BigInt and String as they are, and pointers to Bytes, List, Tuple,
// Set, Dict, Global, Call, Persistent, Extension and Buffer. Containers are shared by pointer exactly as the stream shares them,
// so a graph may be a DAG with exponentially many paths, and may hold cycles:
// walk it by identity, without recursion.
type Value interface{ value() }

// The plain values.
type (
	None  struct{}
	Bool  bool
	Int   int64
	Float float64
	// BigInt is an integer outside int64.
	BigInt struct{ *big.Int }
	// String is text. Text of a stream that is not valid UTF-8 (a lone
	// surrogate) has Valid false and keeps the raw bytes.
	String struct {
		S     string
		Valid bool
	}
)

// Bytes is a bytes, bytearray or Python 2 str object. Its content stays in the
// stream: it is the Len bytes at Offset of the reader given to Load, unless
// Data is set (escaped text, or bytes that were too short to be worth a
// reference).
type Bytes struct {
	Offset, Len int64
	Data        []byte
	Opcode      byte
}

// LongText is text that is longer than Limits.Text: it stays in the stream, as
// the Len bytes at Offset of the reader given to Load, encoded as Opcode says.
// Picklers write the bytes of arrays so, where the protocol has no bytes.
type LongText struct {
	Offset, Len int64
	Runes       int64 // how many characters it has
	Latin1      bool  // none is above U+00FF
	Opcode      byte
}

// The containers.
type (
	List struct {
		Items []Value
		More  int64 // numbers that were left out: see Limits.Numbers
		used  uint8 // see markUsed
	}
	Tuple struct {
		Items []Value
		used  uint8
	}
	Set struct {
		Items  []Value
		Frozen bool
		used   uint8
	}
	// Dict keeps items in the order of insertion, each SETITEM as it came:
	// a key set twice is there twice (the last one wins in Python).
	Dict struct {
		Items []Item
		keys  *keySet
		used  uint8
	}
	Item struct{ Key, Value Value }
)

// Global is a name that the stream asks the loader to import (GLOBAL,
// STACK_GLOBAL, INST). Module and Name are verbatim; Py2 says that the
// protocol is below 3, where an unpickler maps Python 2 names first:
// see Mapped. A name that the stream computes, so that only a run would tell it,
// is ComputedName.
type Global struct {
	Module, Name string
	Offset       int64 // of the opcode
	Opcode       byte
	Py2          bool

	toModule, toName string // what Mapped gives, where the machine made it
}

// Call is the result of REDUCE, NEWOBJ, NEWOBJ_EX, INST or OBJ: an object that
// a real unpickler would have made by calling Callee. What the stream did to
// the object afterwards is kept beside it.
type Call struct {
	Opcode  byte
	Offset  int64
	Callee  Value
	Args    Value   // a *Tuple in every well-formed stream
	Kwargs  Value   // NEWOBJ_EX only
	States  []State // BUILD, in order
	Items   []Item  // SETITEM(S)
	Appends []Value // APPEND(S), ADDITEMS
	keys    *keySet
}

// State is one BUILD.
type State struct {
	Value  Value
	Offset int64
}

// Persistent is the object that a persistent id stands for.
type Persistent struct {
	ID     Value
	Offset int64
	Opcode byte
}

// Extension is an EXT1, EXT2 or EXT4 reference: a name that only the loading
// process knows.
type Extension struct {
	Code   int64
	Offset int64
}

// Buffer is an out-of-band buffer (NEXT_BUFFER, READONLY_BUFFER): its content
// is not in the stream.
type Buffer struct{ Offset int64 }

// Limits bounds what a stream may use. The zero value of a field means its
// default.
type Limits struct {
	Bytes  int64 // length of the stream, referenced Bytes not counted; default 64 MiB
	Ops    int64 // opcodes; default 20 million
	Stack  int   // stack and mark depth; default 1 million
	Memo   int   // memo entries; default 20 million
	String int64 // one text or line operand that is kept; default 16 MiB
	Text   int64 // text up to this length is kept, longer one is a LongText; default String
	Inline int64 // Bytes up to this length are copied into Data; default 4 KiB
	Memory int64 // bytes that all values may take, estimated; default 512 MiB
	// Numbers, where it is set, is how many items a list has before further
	// numbers are only counted: for who looks for names, not for values.
	Numbers int

	// Lenient goes on where only one of CPython's unpicklers would stop: a
	// frame that is longer than the stream, a number that C or Python alone
	// can read. A finding says so. It is for readers that want to see what
	// comes behind; such a stream is never to be trusted.
	Lenient bool

	// AfterBuild, where it is set, is asked after each BUILD for the number
	// of bytes at offset end that are no opcodes but data which the
	// object's own unpickler takes from the file (joblib writes arrays so).
	AfterBuild func(b Build, end int64) int64
}

// Finding is something about a stream that no ordinary writer produces. The
// machine goes on after it.
type Finding struct {
	Rule   string // one of the Rule constants
	Offset int64
	Opcode byte
	Detail string
}

// Stream is the result of running one pickle.
type Stream struct {
	Root     Value
	Protocol int       // of the first PROTO opcode; 0 without one
	Start    int64     // offset of the first opcode
	End      int64     // offset just after STOP
	Ops      int64     // opcodes run
	Opcodes  [256]bool // which opcodes occurred
	// Globals holds every import in order, also those whose value was
	// popped: the import alone is a side effect.
	Globals []*Global
	Calls   []*Call // every call in order, also popped ones
	Builds  []Build // every BUILD in order
	// Persistents holds every persistent id in order, also popped ones.
	Persistents []*Persistent
	Findings    []Finding
}

// Build is one BUILD opcode: the object and the state that was applied.
type Build struct {
	Object Value
	State  State
}

func (None) value()        {}
func (Bool) value()        {}
func (Int) value()         {}
func (Float) value()       {}
func (BigInt) value()      {}
func (String) value()      {}
func (*LongText) value()   {}
func (*Bytes) value()      {}
func (*List) value()       {}
func (*Tuple) value()      {}
func (*Set) value()        {}
func (*Dict) value()       {}
func (*Global) value()     {}
func (*Call) value()       {}
func (*Persistent) value() {}
func (*Extension) value()  {}
func (*Buffer) value()     {}
