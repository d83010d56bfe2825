package scan_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"text/tabwriter"

	"github.com/weightseal/weightseal/scan"
)

var compare = flag.Bool("compare", false, "print the table of verdicts over the shared corpus")

// Every sample of the corpus is here, none that is unsafe or for review is let
// through, and every clean one is called what it is. With -compare the table is
// printed: `go test ./scan -run TestCompare -compare -v`.
func TestCompare(t *testing.T) {
	t.Parallel()
	const malicious, benign = 210, 48
	table := map[string]map[scan.Verdict]int{}
	n := 0
	for half, want := range map[string]int{"malicious": malicious, "benign": benign} {
		dir := filepath.Join("..", "testdata", "threats", half)
		samples := manifest(t, dir)
		if len(samples) != want {
			t.Errorf("%s: %d samples, want %d", half, len(samples), want)
		}
		for _, s := range samples {
			v := scanPath(t, filepath.Join(dir, filepath.FromSlash(s.File))).Verdict
			if table[s.Expected] == nil {
				table[s.Expected] = map[scan.Verdict]int{}
			}
			table[s.Expected][v]++
			n++
		}
	}
	for expected, row := range table {
		let := row[scan.Safe] + row[scan.Convertible]
		switch expected {
		case "unsafe":
			if let+row[scan.Review] > 0 {
				t.Errorf("unsafe: %v", row)
			}
		case "review":
			if let > 0 {
				t.Errorf("review: %v", row)
			}
		default:
			if v, err := scan.ParseVerdict(expected); err != nil || len(row) != 1 || row[v] == 0 {
				t.Errorf("%s: %v", expected, row)
			}
		}
	}
	if *compare {
		printTable(table, n)
	}
}

func printTable(table map[string]map[scan.Verdict]int, n int) {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d files, expected\tsafe\tconvertible\treview\tunknown\tunsafe\t\n", n)
	for _, e := range []string{"safe", "convertible", "review", "unsafe"} {
		fmt.Fprintf(w, "%s\t", e)
		for v := scan.Safe; v <= scan.Unsafe; v++ {
			fmt.Fprintf(w, "%d\t", table[e][v])
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}
