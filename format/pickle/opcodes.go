package pickle

import "fmt"

// opcodes is the table of all opcodes of protocols 0 to 5, named as in
// Lib/pickletools.py.
var opcodes = [256]struct {
	name string
	run  func(*machine) error
}{
	'(':  {"MARK", opMark},
	')':  {"EMPTY_TUPLE", opEmptyTuple},
	'.':  {"STOP", opStop},
	'0':  {"POP", opPop},
	'1':  {"POP_MARK", opPopMark},
	'2':  {"DUP", opDup},
	'B':  {"BINBYTES", opBinbytes},
	'C':  {"SHORT_BINBYTES", opShortBinbytes},
	'F':  {"FLOAT", opFloat},
	'G':  {"BINFLOAT", opBinfloat},
	'I':  {"INT", opInt},
	'J':  {"BININT", opBinint},
	'K':  {"BININT1", opBinint1},
	'L':  {"LONG", opLong},
	'M':  {"BININT2", opBinint2},
	'N':  {"NONE", opNone},
	'P':  {"PERSID", opPersid},
	'Q':  {"BINPERSID", opBinpersid},
	'R':  {"REDUCE", opReduce},
	'S':  {"STRING", opString},
	'T':  {"BINSTRING", opBinstring},
	'U':  {"SHORT_BINSTRING", opShortBinstring},
	'V':  {"UNICODE", opUnicode},
	'X':  {"BINUNICODE", opBinunicode},
	']':  {"EMPTY_LIST", opEmptyList},
	'a':  {"APPEND", opAppend},
	'b':  {"BUILD", opBuild},
	'c':  {"GLOBAL", opGlobal},
	'd':  {"DICT", opDict},
	'e':  {"APPENDS", opAppends},
	'g':  {"GET", opGet},
	'h':  {"BINGET", opBinget},
	'i':  {"INST", opInst},
	'j':  {"LONG_BINGET", opLongBinget},
	'l':  {"LIST", opList},
	'o':  {"OBJ", opObj},
	'p':  {"PUT", opPut},
	'q':  {"BINPUT", opBinput},
	'r':  {"LONG_BINPUT", opLongBinput},
	's':  {"SETITEM", opSetitem},
	't':  {"TUPLE", opTuple},
	'u':  {"SETITEMS", opSetitems},
	'}':  {"EMPTY_DICT", opEmptyDict},
	0x80: {"PROTO", opProto},
	0x81: {"NEWOBJ", opReduce},
	0x82: {"EXT1", opExt1},
	0x83: {"EXT2", opExt2},
	0x84: {"EXT4", opExt4},
	0x85: {"TUPLE1", opTuple1},
	0x86: {"TUPLE2", opTuple2},
	0x87: {"TUPLE3", opTuple3},
	0x88: {"NEWTRUE", opNewtrue},
	0x89: {"NEWFALSE", opNewfalse},
	0x8a: {"LONG1", opLong1},
	0x8b: {"LONG4", opLong4},
	0x8c: {"SHORT_BINUNICODE", opShortBinunicode},
	0x8d: {"BINUNICODE8", opBinunicode8},
	0x8e: {"BINBYTES8", opBinbytes8},
	0x8f: {"EMPTY_SET", opEmptySet},
	0x90: {"ADDITEMS", opAdditems},
	0x91: {"FROZENSET", opFrozenset},
	0x92: {"NEWOBJ_EX", opNewobjEx},
	0x93: {"STACK_GLOBAL", opStackGlobal},
	0x94: {"MEMOIZE", opMemoize},
	0x95: {"FRAME", opFrame},
	0x96: {"BYTEARRAY8", opBytearray8},
	0x97: {"NEXT_BUFFER", opNextBuffer},
	0x98: {"READONLY_BUFFER", opReadonlyBuffer},
}

const opcodeBytearray8 = 0x96

// OpcodeName is the name of an opcode in Lib/pickletools.py, such as
// "STACK_GLOBAL"; an unknown one gives its number.
func OpcodeName(op byte) string {
	if name := opcodes[op].name; name != "" {
		return name
	}
	return fmt.Sprintf("0x%02x", op)
}
