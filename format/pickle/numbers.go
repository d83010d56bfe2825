package pickle

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// maxDigits bounds a number in text: CPython refuses decimal numbers of more
// than 4300 digits (sys.set_int_max_str_digits).
const maxDigits = 4300

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// parseInteger reads an integer as CPython's PyLong_FromString does: white
// space around it, a sign, single underscores between digits, and for base 0
// the prefixes 0x, 0o and 0b. plain says that it is what a pickler writes.
func parseInteger(s string, base int) (v *big.Int, plain bool, err error) {
	bad := fmt.Errorf("%w: %q is no integer", ErrSyntax, shorten(s))
	body := strings.Trim(s, " \t\n\v\f\r")
	plain = len(body) == len(s)
	neg := strings.HasPrefix(body, "-")
	if neg || strings.HasPrefix(body, "+") {
		plain = plain && neg
		body = body[1:]
	}
	digits := strings.ReplaceAll(body, "_", "")
	plain = plain && len(digits) == len(body) && (digits == "0" || !strings.HasPrefix(digits, "0"))
	if digits == "" || strings.Contains(body, "__") || strings.HasSuffix(body, "_") || strings.ContainsAny(digits, "+-") {
		return nil, false, bad
	}
	if base == 10 {
		if body[0] == '_' {
			return nil, false, bad
		}
	} else if len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "0") != "" && digits[1] >= '0' && digits[1] <= '9' {
		return nil, false, bad // 010: Python refuses what looks octal
	}
	if strings.Trim(digits, "0") == "" {
		digits = "0"
	}
	v, ok := new(big.Int).SetString(digits, base)
	if !ok || body[0] == '_' {
		return nil, false, bad
	}
	if neg {
		v.Neg(v)
	}
	return v, plain, nil
}

// integer gives the value its type.
func integer(v *big.Int) Value {
	if v.IsInt64() {
		return Int(v.Int64())
	}
	return BigInt{v}
}

// opInt reads a decimal line as the C unpickler does: strtol with base 0
// first (where 010 is 8 and 0x1 is 1), then PyLong_FromString; 00 and 01 are
// the booleans.
func opInt(m *machine) error {
	s, err := m.number()
	if err != nil {
		return err
	}
	if s == "00" || s == "01" {
		return m.push(Bool(s == "01"))
	}
	if v, ok := octal(s); ok {
		m.find(RuleTextNumber, "%q is %d in one unpickler and an error in another", shorten(s), v)
		if len(s) == 2 && (v == 0 || v == 1) {
			return m.push(Bool(v == 1))
		}
		return m.push(Int(v))
	}
	v, plain, err := parseInteger(s, 0)
	if err != nil {
		return err
	}
	truth := len(s) == 2 && v.IsInt64() && (v.Int64() == 0 || v.Int64() == 1)
	if !plain || truth { // -0 is a number for the Python unpickler
		m.find(RuleTextNumber, "%q", shorten(s))
	}
	if truth {
		return m.push(Bool(v.Int64() == 1)) // "+1": only its length decides
	}
	return m.pushInteger(v)
}

// number reads a line. C's readers of numbers take it to end at a NUL.
func (m *machine) number() (string, error) {
	line, err := m.w.line(maxDigits)
	if err != nil {
		return "", err
	}
	s, _, cut := strings.Cut(string(line), "\x00")
	if !cut || !m.lim.Lenient {
		return string(line), nil
	}
	m.find(RuleTextNumber, "%q ends at a NUL in one unpickler", shorten(string(line)))
	return s, nil
}

// octal is strtol's reading of a number with a leading zero.
func octal(s string) (int64, bool) {
	body := strings.TrimLeft(s, " \t\n\v\f\r")
	sign := ""
	if strings.HasPrefix(body, "-") || strings.HasPrefix(body, "+") {
		sign, body = strings.Trim(body[:1], "+"), body[1:]
	}
	if len(body) < 2 || body[0] != '0' || body[1] < '0' || body[1] > '9' {
		return 0, false
	}
	v, err := strconv.ParseInt(sign+body, 8, 64)
	return v, err == nil
}

func (m *machine) pushInteger(v *big.Int) error {
	if err := m.charge(scalarCost + int64(v.BitLen()/8)); err != nil {
		return err
	}
	return m.push(integer(v))
}

func opLong(m *machine) error {
	s, err := m.number()
	if err != nil {
		return err
	}
	s = strings.TrimSuffix(s, "L")
	v, plain, err := parseInteger(s, 0)
	if err != nil {
		return err
	}
	if !plain {
		m.find(RuleTextNumber, "%q", shorten(s))
	}
	return m.pushInteger(v)
}

func opLong1(m *machine) error {
	n, err := m.w.uint(1)
	if err != nil {
		return err
	}
	return m.binaryLong(int64(n))
}

func opLong4(m *machine) error {
	u, err := m.w.uint(4)
	if err != nil {
		return err
	}
	n := int32(u)
	if n < 0 {
		return fmt.Errorf("%w: %d", ErrLength, n)
	}
	return m.binaryLong(int64(n))
}

// binaryLong reads n bytes of little-endian two's complement.
func (m *machine) binaryLong(n int64) error {
	if err := m.operand(uint64(n)); err != nil {
		return err
	}
	b, err := m.w.bytes(n)
	if err != nil {
		return err
	}
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	v := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return m.pushInteger(v)
}

func opBinint(m *machine) error {
	v, err := m.w.uint(4)
	if err != nil {
		return err
	}
	return m.pushInt(int64(int32(v)))
}

func opBinint1(m *machine) error {
	v, err := m.w.uint(1)
	if err != nil {
		return err
	}
	return m.pushInt(int64(v))
}

func opBinint2(m *machine) error {
	v, err := m.w.uint(2)
	if err != nil {
		return err
	}
	return m.pushInt(int64(v))
}

func (m *machine) pushInt(v int64) error {
	if v < 0 || v > 255 {
		if err := m.charge(scalarCost); err != nil {
			return err
		}
	}
	return m.push(Int(v))
}

func opBinfloat(m *machine) error {
	v, err := m.w.uint(8)
	if err != nil {
		return err
	}
	var big uint64 // the only big-endian operand
	for i := range 8 {
		big |= (v >> (8 * i) & 0xff) << (8 * (7 - i))
	}
	if err := m.charge(scalarCost); err != nil {
		return err
	}
	return m.push(Float(math.Float64frombits(big)))
}

// opFloat reads a line as both unpicklers do: what only one of them takes
// (white space, underscores, a value out of range) is refused.
func opFloat(m *machine) error {
	s, err := m.number()
	if err != nil {
		return err
	}
	v, ok := parseFloat(s)
	if !ok && m.lim.Lenient {
		if v, ok = pythonFloat(s); ok {
			m.find(RuleTextNumber, "%q is a float in one unpickler and an error in another", shorten(s))
		}
	}
	if !ok {
		return fmt.Errorf("%w: %q is no float", ErrSyntax, shorten(s))
	}
	if err := m.charge(scalarCost); err != nil {
		return err
	}
	return m.push(Float(v))
}

func parseFloat(s string) (float64, bool) {
	if !floatSyntax(s) {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

// pythonFloat reads what Python's float takes and C's reader does not: white
// space around the number, underscores between digits, numbers out of range.
func pythonFloat(s string) (float64, bool) {
	s = strings.Trim(s, " \t\n\v\f\r")
	for i, c := range s {
		if c == '_' && (i == 0 || i+1 == len(s) || !isDigit(s[i-1]) || !isDigit(s[i+1])) {
			return 0, false
		}
	}
	s = strings.ReplaceAll(s, "_", "")
	if !floatSyntax(s) {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil || errors.Is(err, strconv.ErrRange)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// floatSyntax leaves out what strconv takes and Python does not:
// hexadecimal numbers and underscores.
func floatSyntax(s string) bool {
	body := strings.TrimLeft(s, "+-")
	switch strings.ToLower(body) {
	case "inf", "infinity", "nan":
		return len(s)-len(body) <= 1
	}
	return body != "" && strings.Trim(body, "0123456789.eE+-") == ""
}

func opNone(m *machine) error     { return m.push(None{}) }
func opNewtrue(m *machine) error  { return m.push(Bool(true)) }
func opNewfalse(m *machine) error { return m.push(Bool(false)) }
