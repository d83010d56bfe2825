package cli

import (
	"fmt"
	"slices"
	"strings"
)

// A table prints rows in columns. Cells are made harmless (see oneLine) and
// measured as a terminal shows them. On a terminal the table fits its columns:
// those that may shrink are cut, those marked first before the others, and of
// these the widest first, down to their least width;
// when that is not enough, columns are left out in the order of their drop, and
// the last resort is to cut the line. Elsewhere nothing is cut: a pipe gets all.
//
//	t := newTable(column{title: "FILE", cut: cutMiddle, least: 12}, column{title: "SIZE", number: true, drop: 1})
//	t.row(text(f.Path), text(bytesText(f.Size)))
//	t.row(text(g.Path), styled(bad, "gone"))
//	err := t.print(s.page())
type table struct {
	columns []column
	rows    [][]cell
	indent  int  // blanks before each line
	bare    bool // without the line of titles
}

// column says how a column behaves.
type column struct {
	title  string
	number bool                     // set right
	cut    func(string, int) string // how it is shortened; nil: it keeps its width
	least  int                      // columns that it keeps when it is shortened; 0 is 8
	first  bool                     // it is cut before the others are
	drop   int                      // 1 goes first when there is no room; 0 never goes
}

// cell is a text with its meaning.
type cell struct {
	text  string
	style style
}

func text(s string) cell { return cell{text: s} }

func styled(st style, s string) cell { return cell{text: s, style: st} }

// columnGap is how many blanks are between columns.
const columnGap = 2

func newTable(columns ...column) *table { return &table{columns: columns} }

// row adds a row; cells that are missing at its end are empty.
func (t *table) row(cells ...cell) {
	line := make([]cell, len(t.columns))
	for i := range min(len(cells), len(line)) {
		line[i] = cell{text: oneLine(cells[i].text), style: cells[i].style}
	}
	t.rows = append(t.rows, line)
}

// print writes the table.
func (t *table) print(p *page) error {
	widths := t.widths()
	shown := t.fit(widths, p.columns)
	var out strings.Builder
	if !t.bare {
		head := make([]cell, len(t.columns))
		for i, c := range t.columns {
			head[i] = styled(strong, c.title)
		}
		t.line(&out, p, head, widths, shown)
	}
	for _, row := range t.rows {
		t.line(&out, p, row, widths, shown)
	}
	_, err := fmt.Fprint(p, out.String())
	return err
}

// widths gives what each column needs; a column without content needs nothing.
func (t *table) widths() []int {
	widths := make([]int, len(t.columns))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], textWidth(c.text))
		}
	}
	for i, c := range t.columns {
		if !t.bare && (widths[i] > 0 || len(t.rows) == 0) {
			widths[i] = max(widths[i], textWidth(c.title))
		}
	}
	return widths
}

// fit shrinks the widths to the terminal's columns, and gives the columns that
// are shown. 0 columns are as many as it takes.
func (t *table) fit(widths []int, columns int) []int {
	var shown []int
	for i, w := range widths {
		if w > 0 {
			shown = append(shown, i)
		}
	}
	if columns == 0 {
		return shown
	}
	room := func() int {
		left := columns - t.indent - columnGap*max(len(shown)-1, 0)
		for _, i := range shown {
			left -= t.floor(i, widths[i])
		}
		return left
	}
	for room() < 0 {
		first := t.nextDrop(shown)
		if first < 0 {
			break
		}
		shown = slices.Delete(shown, first, first+1)
	}
	t.shrink(widths, shown, columns-t.indent-columnGap*max(len(shown)-1, 0))
	return shown
}

// floor is the least width of a column.
func (t *table) floor(i, width int) int {
	c := t.columns[i]
	if c.cut == nil {
		return width
	}
	least := c.least
	if least == 0 {
		least = 8
	}
	return min(width, least)
}

// nextDrop is the index in shown of the column that goes next; -1 for none.
func (t *table) nextDrop(shown []int) int {
	first := -1
	for at, i := range shown {
		if d := t.columns[i].drop; d > 0 && (first < 0 || d < t.columns[shown[first]].drop) {
			first = at
		}
	}
	return first
}

// shrink takes columns away from the widest until all fit.
func (t *table) shrink(widths, shown []int, columns int) {
	over := -columns
	for _, i := range shown {
		over += widths[i]
	}
	floors := make([]int, len(widths))
	for i, w := range widths {
		floors[i] = t.floor(i, w)
	}
	for ; over > 0; over-- {
		best := -1
		for _, i := range shown {
			if widths[i] > floors[i] && (best < 0 || t.before(i, best, widths)) {
				best = i
			}
		}
		if best < 0 {
			return // the lines are cut
		}
		widths[best]--
	}
}

// before says whether column i is cut before column j.
func (t *table) before(i, j int, widths []int) bool {
	if t.columns[i].first != t.columns[j].first {
		return t.columns[i].first
	}
	return widths[i] > widths[j]
}

// line writes one row. The last column is not filled up.
func (t *table) line(out *strings.Builder, p *page, row []cell, widths, shown []int) {
	last := len(shown) - 1
	for last >= 0 && row[shown[last]].text == "" {
		last--
	}
	used := t.indent
	out.WriteString(strings.Repeat(" ", t.indent))
	for at, i := range shown[:last+1] {
		shape, c := t.columns[i], row[i]
		content := c.text
		if cut := shape.cut; cut != nil && textWidth(content) > widths[i] {
			content = cut(content, widths[i])
		}
		blanks := strings.Repeat(" ", max(widths[i]-textWidth(content), 0))
		gap := strings.Repeat(" ", columnGap)
		if at == last {
			gap = ""
			if !shape.number {
				blanks = ""
			}
		}
		if room := p.columns - used; p.columns > 0 && textWidth(content) > room {
			content, blanks, gap = cutEnd(content, max(room, 0)), "", ""
		}
		painted := p.paint(c.style, content)
		if shape.number {
			painted = blanks + painted
		} else {
			painted += blanks
		}
		out.WriteString(painted + gap)
		used += textWidth(content) + len(blanks) + len(gap)
	}
	out.WriteString("\n")
}
