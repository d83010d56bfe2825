package cli

import (
	"strings"
	"testing"
)

func TestIgnorePatterns(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file string
		yes  string
		no   string
	}{
		{"*.bin", "a.bin x/y.bin", "a.binx bin"},
		{"/a.bin", "a.bin", "x/a.bin"},
		{"data/", "data/x data/y/z x/data/y", "data datax"},
		{"/data/", "data/x", "x/data/y"},
		{"old", "old old/x a/old/b", "older"},
		{"a/b", "a/b a/b/c", "x/a/b a/bc"},
		{"a/**/b", "a/b a/x/b a/x/y/b", "b a/xb"},
		{"**/b.pt", "b.pt x/y/b.pt", "ab.pt"},
		{"a/**", "a/x a/x/y", "b/a"},
		{"*.bin\n!keep.bin", "a.bin", "keep.bin x/keep.bin"},
		{"!keep.bin\n*.bin", "keep.bin", "keep.pt"},
		{"# x\n\n  \n*.pt  \r\n", "a.pt", "# x"},
		{`\#x`, "#x", "x"},
		{`\!x`, "!x", "x"},
		{"[ab].pt", "a.pt", "c.pt"},
		{"[!ab].pt", "c.pt", "a.pt"},
		{"gr\u00f6\u00dfe*", "gr\u00f6\u00dfe.pt", "grosse.pt"},
		{"\ufeff*.x", "a.x", "a.y"},
		{"a?c", "abc", "a/c ac"},
	}
	for _, test := range tests {
		rules, err := parseIgnore([]byte(test.file))
		if err != nil {
			t.Errorf("%q: %v", test.file, err)
			continue
		}
		for p := range strings.FieldsSeq(test.yes) {
			if m := ignored(rules, p); m == nil || m.Line < 1 || m.Pattern == "" || m.File != ignoreName {
				t.Errorf("%q does not ignore %s: %v", test.file, p, m)
			}
		}
		for p := range strings.FieldsSeq(test.no) {
			if m := ignored(rules, p); m != nil {
				t.Errorf("%q ignores %s: %v", test.file, p, m)
			}
		}
	}
	for _, bad := range []string{"[a", "!", "a\\"} {
		if _, err := parseIgnore([]byte("ok\n" + bad)); err == nil || !strings.Contains(err.Error(), ignoreName+":2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*.bin\n!a", "/data/\n# x", "a/**/b", "[!ab]?\\*", "[]]", "\\", "[z-a]", "***/"} {
		f.Add(s, "data/a.bin")
	}
	f.Fuzz(func(t *testing.T, file, path string) {
		rules, err := parseIgnore([]byte(file))
		if err != nil {
			return
		}
		m := ignored(rules, path)
		if m == nil {
			return
		}
		lines := strings.Split(strings.TrimPrefix(file, "\ufeff"), "\n")
		if m.Line < 1 || m.Line > len(lines) || !strings.Contains(lines[m.Line-1], m.Pattern) || strings.HasPrefix(m.Pattern, "!") {
			t.Errorf("%+v is no line of %q", m, file)
		}
	})
}

// TestIgnoreTooMany: patterns take memory, and the file may come from anybody.
func TestIgnoreTooMany(t *testing.T) {
	t.Parallel()
	if _, err := parseIgnore([]byte(strings.Repeat("a*b?c\n# x\n\n", maxIgnoreRules))); err != nil {
		t.Error(err)
	}
	if _, err := parseIgnore([]byte(strings.Repeat("a\n", maxIgnoreRules+1))); err == nil {
		t.Error("more patterns than allowed are taken")
	}
}
