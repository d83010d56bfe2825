package cli

import "testing"

func TestGlobs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.bin", "model.bin", true},
		{"*.bin", "unet/model.bin", true},
		{"*.bin", "model.bin.json", false},
		{"model.bin", "unet/model.bin", true},
		{"unet/*.bin", "unet/model.bin", true},
		{"unet/*.bin", "unet/a/model.bin", false},
		{"unet/**/*.bin", "unet/a/b/model.bin", true},
		{"unet/**/*.bin", "unet/model.bin", true},
		{"unet/**", "unet/a/b", true},
		{"unet", "unet/a/b", true},
		{"unet/", "unet/a", true},
		{"./unet/a", "unet/a", true},
		{"un?t", "unet", true},
		{"[a-c].pt", "b.pt", true},
		{"[!a-c].pt", "b.pt", false},
		{"a.b", "axb", false},
		{`a\*b`, "a*b", true},
		{`a\*b`, "axb", false},
		{"optimizer.pt", "optimizer.pt2", false},
	} {
		g, err := compileGlobs("exclude", []string{tt.pattern})
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		if got := g.match(tt.path); got != tt.want {
			t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.path, got, tt.want)
		}
	}
	for _, bad := range []string{"", "[", "[a", `a\`} {
		if _, err := compileGlobs("include", []string{bad}); err == nil {
			t.Errorf("%q: no error", bad)
		} else if f := classify(err); f.code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", bad, f.code, exitUsage)
		}
	}
}

func FuzzGlobs(f *testing.F) {
	for _, s := range []string{"*.bin", "a/**/b", "[a-z]", "[!x]", `\*`, "**", "[]a]"} {
		f.Add(s, "a/b.bin")
	}
	f.Fuzz(func(_ *testing.T, pattern, path string) {
		if g, err := compileGlobs("include", []string{pattern}); err == nil {
			g.match(path)
		}
	})
}
