package scan_test

import (
	"strings"
	"testing"
	"time"
)

// TestCost: small files that would take minutes if each part of them were
// looked at against each other one.
func TestCost(t *testing.T) {
	t.Parallel()
	const many = 1 << 17
	deep := func(item string) string {
		return strings.Repeat(`{"a":`, 500) + "[" + strings.TrimSuffix(strings.Repeat(item+",", many), ",") + "]" + strings.Repeat("}", 500)
	}
	// A dtype of twelve fields, each of them a dtype of twelve, and so on.
	tree := "\x80\x04" + named("numpy", "dtype") + short("V4") + "\x89\x88\x87Rq\x00"
	for d := range 12 {
		tree += named("numpy", "dtype") + short("V4") + "\x89\x88\x87R(K\x03" + short("|") + "N" + short("a") + "\x85}("
		for i := range 12 {
			tree += short("f"+string(rune('a'+i))) + "h" + string([]byte{byte(d)}) + "K\x00\x86"
		}
		tree += "uK\x04K\x01K\x00tbq" + string([]byte{byte(d + 1)})
	}
	for _, tt := range []struct{ name, file, in string }{
		{"calls in a template", "a.jinja", "{{ " + strings.Repeat("a(", 4*many)},
		{"raw blocks that never end", "a.jinja", strings.Repeat("{%raw%}", 2*many)},
		{"targets, deep", "a.json", deep(`{"_target_":"a"}`)},
		{"texts, deep", "a.json", deep(`{"b":"c"}`)},
		{"keys in a line", "a.yaml", "a: " + strings.Repeat("auto_map ", 4*many)},
		{"targets in a line", "a.yaml", strings.Repeat("target:x. ", 2*many)},
		{"trust in a line", "a.yaml", strings.Repeat("{trust_remote_code: a, ", 2*many)},
		{"requirements over lines", "requirements.txt", strings.Repeat("a\\\n", 2*many)},
		{"keys of an array's header", "a.npy", "\x93NUMPY\x02\x00\x00\x00\x10\x00" + (strings.Repeat("{", 1) + strings.Repeat("'aaaaaaa':1,", many))[:1<<20]},
		{"braces in formatted texts", "m.py", strings.Repeat("f'{{{", many) + "\nx = f'''" + strings.Repeat("{f'{", many) + "'''"},
		{"attributes", "m.py", "import os\n" + strings.Repeat("a.", 4*many)},
		{"imports", "m.py", "from a import (" + strings.Repeat("b as c,\n", many)},
		{"texts between names", "m.py", strings.Repeat("a ''' x ''' # y\n", many)},
		{"subscripts", "a.jinja", "{% set a = b %}" + strings.Repeat("{{ x[a] }}", many/8)},
		{"subscripts in subscripts", "a.jinja", "{{ " + strings.Repeat("a[", many)},
		{"macros that call", "a.jinja", "{% macro m(a) %}{{ x[a] }}{% endmacro %}{{ " + strings.Repeat("m(", many/2)},
		{"names from names", "a.jinja", strings.Repeat("{% set a = b %}", many/10) + "{{ x[a] }}"},
		{"references in markup", "a.html", "<a>" + strings.Repeat("&#115;", many)},
		{"dtypes in dtypes", "a.pkl", tree + "."},
		{"pairs in pairs", "a.pkl", "\x80\x02" + global("pandas.core.indexes.base", "_new_Index") + "q\x00N" + strings.Repeat("2\x86", 60) + "q\x010h\x00h\x01\x85R."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			verdictOf(t, tt.file, tt.in)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}
