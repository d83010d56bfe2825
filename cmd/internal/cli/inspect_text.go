package cli

import (
	"fmt"
	"math"
	"sort"
	"strings"
)

// inspectBar is how wide the bars of inspect are where there is room.
const inspectBar = 24

// listedDetails is how many ties and entries without tensors are listed of a
// file, unless every tensor is.
const listedDetails = 10

func barColumn() column {
	return column{least: 8, drop: 1, first: true, cut: func(bar string, n int) string {
		return barText(float64(strings.Count(bar, "█"))/float64(textWidth(bar)), n)
	}}
}

func barCell(part, whole int64) cell {
	if whole <= 0 {
		return text("")
	}
	return styled(accent, barText(float64(part)/float64(whole), inspectBar))
}

func shareCell(part, whole int64) cell {
	if whole <= 0 {
		return text("")
	}
	share := math.Round(float64(part) / float64(whole) * 100)
	if share < 1 && part > 0 {
		return styled(faint, "<1%")
	}
	return text(fmt.Sprintf("%.0f%%", share))
}

// printInspection draws the model.
func printInspection(p *page, in *inspection, o *inspectOptions) error {
	printArtifact(p, in.Artifact)
	sections := []func() error{
		func() error { return printFiles(p, in) },
		func() error { return printDTypes(p, in) },
		func() error { return printGroups(p, in) },
	}
	if o.tree {
		sections = []func() error{func() error { return printTree(p, in) }}
	}
	for i, section := range sections {
		if i > 0 && in.Tensors > 0 {
			fmt.Fprintln(p)
		}
		if err := section(); err != nil {
			return err
		}
	}
	for i := range in.Files {
		if err := printFileDetails(p, &in.Files[i], o.tensors || o.digests, len(in.Files) > 1); err != nil {
			return err
		}
	}
	if in.Tensors > 0 {
		fmt.Fprintf(p, "\n%s, %s parameters, %s\n", plural(in.Tensors, "tensor"), parameterText(in.Parameters), bytesText(in.TensorBytes))
	}
	if in.WeightsDigest != "" {
		fmt.Fprintf(p, "weights digest %s\n", in.WeightsDigest)
	}
	return nil
}

// printArtifact says where the model lies and how far it can be trusted.
func printArtifact(p *page, a *artifactView) {
	if a == nil {
		return
	}
	fmt.Fprintf(p, "%s\n  %s\n", p.paint(strong, a.Reference), a.ArtifactType)
	st := doubtful
	switch a.Trust.State {
	case trustVerified:
		st = good
	case trustUntrusted:
		st = bad
	}
	for i, l := range wrapped(oneLine(a.Trust.text(a.Reference)), p.columns-9) {
		head := "  trust  "
		if i > 0 {
			head = "         "
		}
		fmt.Fprintf(p, "%s%s\n", head, p.paint(st, l))
	}
	for _, at := range a.Attestations {
		fmt.Fprintf(p, "  %s\n", p.paint(faint, oneLine("attestation "+cutMiddleOn(p, at.Digest, 16+len(at.ArtifactType))+"  "+at.ArtifactType)))
	}
	fmt.Fprintln(p)
}

// cutMiddleOn shortens a digest where the terminal has not the room for it and
// for other columns beside it.
func cutMiddleOn(p *page, s string, other int) string {
	if p.columns == 0 {
		return s
	}
	return cutMiddle(s, max(p.columns-other, 20))
}

func printFiles(p *page, in *inspection) error {
	t := newTable(
		column{title: "FILE", cut: cutName, least: 16}, column{title: "FORMAT"}, column{title: "ROLE", drop: 3},
		column{title: "SIZE", number: true}, column{title: "TENSORS", number: true, drop: 2}, barColumn(),
	)
	var whole int64
	for _, f := range in.Files {
		whole += f.Size
	}
	for _, f := range in.Files {
		tensors := ""
		if len(f.Tensors) > 0 {
			tensors = fmt.Sprint(len(f.Tensors))
		}
		bar := text("")
		if len(in.Files) > 1 {
			bar = barCell(f.Size, whole)
		}
		t.row(text(f.Path), text(string(f.Format)), text(string(f.Role)), text(bytesText(f.Size)), text(tensors), bar)
	}
	return t.print(p)
}

func printDTypes(p *page, in *inspection) error {
	if in.Tensors == 0 {
		return nil
	}
	sums := map[string]*tensorGroup{}
	for _, f := range in.Files {
		for i := range f.Tensors {
			x := &f.Tensors[i]
			if sums[x.DType] == nil {
				sums[x.DType] = &tensorGroup{Name: x.DType}
			}
			sums[x.DType].Tensors++
			sums[x.DType].Parameters += x.elements()
			sums[x.DType].Bytes += int64(x.Bytes)
		}
	}
	groups := make([]tensorGroup, 0, len(sums))
	for _, name := range sortedKeys(sums) {
		groups = append(groups, *sums[name])
	}
	sort.SliceStable(groups, func(a, b int) bool { return groups[a].Bytes > groups[b].Bytes })
	return printSums(p, "DTYPE", groups, in.TensorBytes)
}

func printGroups(p *page, in *inspection) error {
	if in.Tensors == 0 {
		return nil
	}
	return printSums(p, "GROUP", in.Groups, in.TensorBytes)
}

func printSums(p *page, title string, groups []tensorGroup, whole int64) error {
	t := newTable(
		column{title: title, cut: cutMiddle, least: 16}, column{title: "TENSORS", number: true, drop: 2},
		column{title: "PARAMETERS", number: true, drop: 3}, column{title: "BYTES", number: true},
		column{title: "SHARE", number: true}, barColumn(),
	)
	for _, g := range groups {
		t.row(text(g.Name), text(fmt.Sprint(g.Tensors)), text(parameterText(g.Parameters)), text(bytesText(g.Bytes)), shareCell(g.Bytes, whole), barCell(g.Bytes, whole))
	}
	return t.print(p)
}

// printTree draws the names of all tensors as a tree.
func printTree(p *page, in *inspection) error {
	t := newTable(
		column{title: "TENSOR", cut: cutEnd, least: 20}, column{title: "DTYPE"}, column{title: "SHAPE", cut: cutEnd, least: 10},
		column{title: "TIMES", number: true, drop: 2}, column{title: "BYTES", number: true, drop: 1},
	)
	var all []inspectedTensor
	for _, f := range in.Files {
		all = append(all, f.Tensors...)
	}
	root := newNameTree(all, false)
	root.foldSame()
	for _, kid := range root.kids {
		drawTree(t, kid, "", "", 1)
	}
	return t.print(p)
}

// drawTree adds a row for a part and for all below it. head stands before the
// row and below before those under it.
func drawTree(t *table, n *nameTree, head, below string, times int) {
	name, end, repeats := n.chain()
	bytes := n.bytes * int64(times)
	times *= repeats
	dtype, shape := "", ""
	if end.tensor != nil {
		dtype, shape = end.tensor.DType, shapeText(end.tensor.Shape)
	}
	often := ""
	if times > 1 {
		often = fmt.Sprintf("x%d", times)
	}
	t.row(text(head+strings.TrimLeft(name, "./")), text(dtype), text(shape), text(often), text(bytesText(bytes)))
	for i, kid := range end.kids {
		if i < len(end.kids)-1 {
			drawTree(t, kid, below+"├─ ", below+"│  ", times)
		} else {
			drawTree(t, kid, below+"└─ ", below+"   ", times)
		}
	}
}

// printFileDetails lists what is worth knowing of one file, and its tensors when
// they are asked for.
func printFileDetails(p *page, f *inspectedFile, tensors, several bool) error {
	var notes []string
	list := func(format string, n int, item func(int) []any) {
		for i := range n {
			if !tensors && i == listedDetails {
				notes = append(notes, fmt.Sprintf("and %d more (--tensors lists all)", n-i))
				return
			}
			notes = append(notes, fmt.Sprintf(format, item(i)...))
		}
	}
	if f.Problem != "" {
		notes = append(notes, f.Problem)
	}
	if f.Subtree != "" {
		notes = append(notes, "taken: "+f.Subtree)
	}
	list("tied: %s is %s", len(f.Aliases), func(i int) []any { return []any{f.Aliases[i].Removed, f.Aliases[i].Kept} })
	list("no tensor: %s (%s)", len(f.Dropped), func(i int) []any { return []any{f.Dropped[i].Path, f.Dropped[i].Kind} })
	for _, k := range sortedKeys(f.Metadata) {
		notes = append(notes, fmt.Sprintf("metadata %s: %s", k, f.Metadata[k]))
	}
	if len(notes) == 0 && (!tensors || len(f.Tensors) == 0) {
		return nil
	}
	fmt.Fprintln(p)
	if several {
		fmt.Fprintln(p, p.paint(strong, oneLine(f.Path)))
	}
	if tensors {
		t := newTable(column{title: "TENSOR", cut: cutMiddle, least: 16}, column{title: "DTYPE"}, column{title: "SHAPE", cut: cutEnd}, column{title: "BYTES", number: true, drop: 2}, column{title: "DIGEST", cut: cutMiddle, least: 16, drop: 1})
		t.indent, t.bare = 2, true
		for _, x := range f.Tensors {
			t.row(text(x.Name), text(x.DType), text(shapeText(x.Shape)), text(bytesText(int64(x.Bytes))), text(x.Digest))
		}
		if err := t.print(p); err != nil {
			return err
		}
	}
	for _, n := range notes {
		fmt.Fprintf(p, "  %s\n", oneLine(n))
	}
	return nil
}
