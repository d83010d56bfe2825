package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nearest is the candidate that a word was probably meant to be: the one with
// the fewest changed letters, at most a third of them, or one that it begins;
// "" when none is near.
func nearest(word string, candidates []string) string {
	best, fewest := "", 1+min(max(len([]rune(word))/3, 1), 4)
	for _, c := range candidates {
		d := distance(strings.ToLower(word), strings.ToLower(c))
		if len(word) > 2 && strings.HasPrefix(c, word) {
			d = min(d, 1)
		}
		if d < fewest {
			best, fewest = c, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken away, replaced or swapped
// with their neighbour to make b of a.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 256 || len(y) > 256 {
		return 256
	}
	var before, row []int
	next := make([]int, len(y)+1)
	for j := range next {
		next[j] = j
	}
	for i := range x {
		before, row, next = row, next, make([]int, len(y)+1)
		next[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
	}
	return next[len(y)]
}

// nearFile is what lies beside a path that is not there and has nearly its name;
// "" when nothing has.
func nearFile(path string) string {
	dir, base := filepath.Split(filepath.Clean(path))
	folder, err := os.Open(filepath.Clean(dir + "."))
	if err != nil {
		return ""
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(2000) // of a large folder, some
	slices.Sort(names)
	if near := nearest(base, names); near != "" {
		return dir + near
	}
	return ""
}
