package pickle

import (
	"errors"
	"fmt"
)

// Why a stream cannot be run. An *Error unwraps to one of these, or to the
// error of the reader.
var (
	ErrTruncated  = errors.New("stream ends too early")
	ErrOpcode     = errors.New("unknown opcode")
	ErrProtocol   = errors.New("unknown protocol")
	ErrStack      = errors.New("stack underflow")
	ErrMark       = errors.New("no mark on the stack")
	ErrMemo       = errors.New("memo entry does not exist")
	ErrLength     = errors.New("impossible length")
	ErrLimit      = errors.New("limit reached")
	ErrSyntax     = errors.New("malformed operand")
	ErrType       = errors.New("operation on the wrong type")
	ErrUnhashable = errors.New("unhashable dictionary key or set member")
)

// Error says why a stream cannot be run, and where. It unwraps to one of the
// sentinel errors above.
type Error struct {
	Offset int64 // of the opcode
	Opcode byte
	Reason error
	Detail string
}

func (e *Error) Error() string {
	name := ""
	if e.Opcode != 0 { // 0 is no opcode: none could be read
		name = OpcodeName(e.Opcode) + " "
	}
	s := fmt.Sprintf("pickle: %sat offset %d: %v", name, e.Offset, e.Reason)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *Error) Unwrap() error { return e.Reason }

// The rules of findings.
const (
	RuleDuplicateKey  = "duplicate-key"     // a key set twice: the last value wins
	RuleEqualKeys     = "equal-keys"        // keys of several types that are one key in Python: 1, 1.0 and True
	RuleMutated       = "mutated-argument"  // a container changed after a call, BUILD or persistent id took it
	RuleExtension     = "extension"         // EXT1, EXT2, EXT4: the name is not in the file
	RuleSurrogate     = "surrogate"         // text that is not UTF-8
	RuleBuildOnGlobal = "build-on-global"   // BUILD changes an imported object
	RuleBuildOnPlain  = "build-on-plain"    // BUILD without effect on a plain value
	RuleOnOpaque      = "change-of-unknown" // BUILD, SETITEM or APPEND on an object whose kind the stream does not tell
	RuleMemoSparse    = "memo-sparse"       // a memo index far beyond what was stored
	RulePutOverwrites = "put-overwrites"    // a memo index stored twice
	RuleTextNumber    = "text-number"       // a number that readers may read differently
	RuleFrame         = "frame-mismatch"    // FRAME and opcodes disagree
	RuleProto         = "proto-again"       // PROTO elsewhere than at the start
	RuleStackRest     = "stack-rest"        // values left under the result
	RuleDup           = "dup"               // DUP: no pickler writes it
	RuleComputedName  = "computed-name"     // STACK_GLOBAL of something that is no text
	RuleArgs          = "odd-arguments"     // arguments that are not a plain tuple
	RuleBuffer        = "out-of-band"       // NEXT_BUFFER, READONLY_BUFFER
	RuleListItem      = "setitem-on-list"   // SETITEM on a list
	RuleOddName       = "odd-name"          // a global whose name no source file could spell
	RuleMore          = "more-findings"     // further ones of a rule were left out
)

// ComputedName stands in a Global for a name that the stream computes.
const ComputedName = "<computed>"

// findingsPerRule bounds how many findings of one rule are kept.
const findingsPerRule = 100
