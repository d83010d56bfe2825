package scan

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// scanNotebook judges the cells of code of a Jupyter notebook as the Python
// source that they are (nbformat 4, nbformat 3 has them in worksheets).
func scanNotebook(r *report, b model.Blob) {
	if b.Size() > maxSource {
		r.add("WS-LIMIT-001", -1, "a notebook of more than %d bytes", maxSource)
		return
	}
	type cell struct {
		Kind   string          `json:"cell_type"`
		Source json.RawMessage `json:"source"`
		Input  json.RawMessage `json:"input"`
	}
	var book struct {
		Cells  []cell `json:"cells"`
		Sheets []struct {
			Cells []cell `json:"cells"`
		} `json:"worksheets"`
	}
	if err := json.Unmarshal(peek(b, b.Size(), 0, maxSource), &book); err != nil {
		r.add("WS-CONFIG-004", -1, "the notebook is not of the usual form: %v", err)
		return
	}
	cells := book.Cells
	for _, s := range book.Sheets {
		cells = append(cells, s.Cells...)
	}
	for i, c := range cells {
		if c.Kind != "code" {
			continue
		}
		sub := &report{}
		scanPython(sub, pythonOf(cellText(c.Source)+cellText(c.Input)))
		for _, f := range sub.findings {
			f.Offset, f.Inner = nil, fmt.Sprintf("cell %d", i+1)
			r.keep(f)
		}
	}
}

// cellText is a cell's source: one text, or a list of its lines.
func cellText(raw json.RawMessage) string {
	var lines []string
	if json.Unmarshal(raw, &lines) == nil {
		return strings.Join(lines, "")
	}
	var whole string
	if json.Unmarshal(raw, &whole) == nil {
		return whole
	}
	return ""
}

// pythonOf leaves out the lines that IPython takes for itself or for a shell.
func pythonOf(source string) string {
	var b strings.Builder
	for line := range strings.Lines(source) {
		if s := strings.TrimLeft(line, " \t"); strings.HasPrefix(s, "%") || strings.HasPrefix(s, "!") {
			line = "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}
