package torch

import (
	"bufio"
	"bytes"
	"strings"
)

// scriptClass is what the code of a TorchScript class says of its tensors.
type scriptClass struct {
	module  bool            // it is a torch.nn.Module
	listed  bool            // both lists were there
	tensors map[string]bool // parameters and buffers
}

const (
	codeRecord = 16 << 20 // one source file
	codeTotal  = 64 << 20 // all of them
)

// readCode reads the lists of parameters and buffers that every class of a
// TorchScript archive begins with (torch/csrc/jit/serialization/python_print.cpp).
// Code that cannot be read only means that all tensors are taken.
func (z *zipOpener) readCode() {
	left := int64(codeTotal)
	z.c.classes = map[string]scriptClass{}
	for _, e := range z.a.entries {
		path, ok := strings.CutPrefix(e.inner, "code/")
		path, isPython := strings.CutSuffix(path, ".py")
		if !ok || !isPython || !e.located || e.bomb || e.size > min(codeRecord, left) {
			continue
		}
		left -= e.size
		if b, err := z.a.content(e, codeRecord); err == nil {
			z.c.readClasses(strings.ReplaceAll(path, "/", "."), b)
		}
	}
}

// readClasses enters the classes of one source file.
func (c *Checkpoint) readClasses(module string, code []byte) {
	lines := bufio.NewScanner(bytes.NewReader(code))
	lines.Buffer(nil, codeRecord)
	name, lists := "", 0
	for lines.Scan() {
		line := lines.Text()
		if head, ok := strings.CutPrefix(line, "class "); ok {
			var base string
			name, base, _ = strings.Cut(strings.TrimSuffix(head, ":"), "(")
			name, lists = module+"."+name, 0
			c.classes[name] = scriptClass{module: base == "Module)", tensors: map[string]bool{}}
			continue
		}
		class, ok := c.classes[name]
		list, parameters := strings.CutPrefix(line, "  __parameters__ = [")
		if !parameters {
			var buffers bool
			if list, buffers = strings.CutPrefix(line, "  __buffers__ = ["); !buffers {
				continue
			}
		}
		if !ok || !addNames(class.tensors, list) {
			continue
		}
		lists++
		class.listed = lists == 2
		c.classes[name] = class
	}
}

// addNames reads `"a", "b", ]`.
func addNames(to map[string]bool, list string) bool {
	list, ok := strings.CutSuffix(list, "]")
	if !ok {
		return false
	}
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if len(part) < 2 || part[0] != '"' || part[len(part)-1] != '"' || strings.ContainsAny(part[1:len(part)-1], `"\`) {
			return false
		}
		to[part[1:len(part)-1]] = true
	}
	return true
}
