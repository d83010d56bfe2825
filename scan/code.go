package scan

import (
	"context"
	"path"
	"strings"

	"github.com/weightseal/weightseal/model"
)

// executableDetector judges machine code and scripts.
type executableDetector struct{}

func (executableDetector) Name() string { return "executable" }

func (executableDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.ELF, model.PE, model.MachO:
		return true
	}
	return false
}

func (executableDetector) Scan(_ context.Context, f model.File, _ model.Blob) (Verdict, []Finding, error) {
	r := &report{}
	r.add("WS-CODE-001", 0, "the content is %s machine code", f.Format)
	return r.result()
}

// pythonDetector judges Python sources, scripts and notebooks. Any of them is
// a program; what it plainly does with processes or the network makes it worse.
type pythonDetector struct{}

func (pythonDetector) Name() string { return "python" }

func (pythonDetector) Wants(f model.File) bool {
	switch f.Format {
	case model.Python, model.Script, model.Notebook:
		return true
	case model.Text:
		return ext(f.Path) == ".py" || ext(f.Path) == ".pyw" || isSourceExt(ext(f.Path))
	}
	return false
}

// isSourceExt knows the endings of programs in other languages, which nothing
// but the name tells from text.
var isSourceExt = words(`.sh .bash .zsh .bat .cmd .ps1 .psm1 .vbs .js .mjs .cjs .ts .lua .rb .pl .php .r .jl .c .cc .cpp .cu .cuh .h .hpp
.java .go .rs .cmake .mk .service .desktop .reg .pyx .pxd .pyi .fish .ksh .csh .awk .sed .tcl .vbe .wsf .hta .jse .applescript .groovy
.gradle .kts .kt .scala .swift .m .mm .cs .vb .fs .dart .nim .zig .hs .ml .el .clj .ex .exs .erl .f .f90 .f95 .s .asm .ll .wat .ptx .cl
.metal .wgsl .glsl .hlsl .jsx .tsx .coffee .ipy .sage .rmd .qmd`)

// maxSource bounds the source that is looked through.
const maxSource = 16 << 20

func (pythonDetector) Scan(_ context.Context, f model.File, b model.Blob) (Verdict, []Finding, error) {
	r := &report{}
	start := head(b, b.Size(), 256)
	first, _, _ := strings.Cut(string(start), "\n")
	switch {
	case f.Format == model.Notebook:
		r.add("WS-CODE-005", 0, "a notebook")
		scanNotebook(r, b)
		if ext(f.Path) != ".ipynb" { // a program may take it for its configuration
			scanJSON(r, path.Base(f.Path), b)
		}
		return r.result()
	case f.Format == model.Text && isSourceExt(ext(f.Path)):
		r.add("WS-CODE-004", 0, "a program, going by its name")
		return r.result()
	case f.Format == model.Script && !strings.Contains(first, "python"):
		r.add("WS-CODE-004", 0, "a script for %s", clip(strings.TrimPrefix(first, "#!")))
		scanTextKinds(r, f, b, start) // the first line is a comment in YAML, or text of a template
		return r.result()
	}
	if f.Format == model.Script {
		scanTextKinds(r, f, b, start)
	}
	r.add("WS-CODE-002", 0, "Python source: %s", clip(path.Base(f.Path)))
	if b.Size() > maxSource {
		r.add("WS-LIMIT-001", -1, "a source of more than %d bytes", maxSource)
		return r.result()
	}
	scanPython(r, peekText(b, b.Size(), maxSource))
	return r.result()
}
