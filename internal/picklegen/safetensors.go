package picklegen

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Safetensors makes a valid safetensors file; broken ones have a changed
// header or changed bytes.
func Safetensors(c *Choices, broken bool) []byte {
	var entries []string
	if c.One(2) {
		entries = append(entries, `"__metadata__":{"format":"pt","note":"x"}`)
	}
	at := 0
	for i := range c.Below(5) {
		dtype := pick(c, []struct {
			name string
			size int
		}{{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"U8", 1}, {"BOOL", 1}, {"F8_E4M3", 1}, {"C64", 8}})
		shape, n := []string{}, dtype.size
		for range c.Below(4) {
			d := c.Below(5)
			shape, n = append(shape, fmt.Sprint(d)), n*d
		}
		entries = append(entries, fmt.Sprintf(`"t%d":{"dtype":%q,"shape":[%s],"data_offsets":[%d,%d]}`,
			i, dtype.name, strings.Join(shape, ","), at, at+n))
		at += n
	}
	if len(entries) > 1 && c.One(2) {
		entries[0], entries[1] = entries[1], entries[0] // any order will do
	}
	header := []byte("{" + strings.Join(entries, ",") + "}")
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	data := make([]byte, at)
	switch {
	case !broken:
	case c.One(4):
		data = Mutate(c, data)
	default:
		header = Mutate(c, header)
		if c.One(2) {
			header = changeNumber(c, header)
		}
	}
	out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	out = append(out, data...)
	if broken && c.One(4) {
		return Mutate(c, out)
	}
	return out
}

// changeNumber puts another digit in the place of one.
func changeNumber(c *Choices, b []byte) []byte {
	for range 20 {
		i := c.Below(len(b) + 1)
		if i < len(b) && b[i] >= '0' && b[i] <= '9' {
			b[i] = '0' + byte(c.Below(10))
			break
		}
	}
	return b
}
