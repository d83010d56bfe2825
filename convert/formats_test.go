package convert

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/weightseal/weightseal/model"
)

var update = flag.Bool("update", false, "rewrite docs/formats.md")

// TestFormatsTable: what converters take is in the table, and nothing in it is
// said to convert that none takes.
func TestFormatsTable(t *testing.T) {
	t.Parallel()
	described := map[model.Format]bool{}
	for _, f := range Formats() {
		if f.Name == "" || f.Recognised == "" || f.Converts == "" && f.Refused == "" {
			t.Errorf("%q: a row must say how the format is recognised, and what is converted or refused", f.Name)
		}
		for _, format := range f.Formats {
			described[format] = described[format] || f.Converts != ""
		}
	}
	taken := map[model.Format]bool{model.Safetensors: true}
	for _, c := range Default() {
		for _, from := range c.From() {
			taken[from] = true
			if !described[from] && from != model.Safetensors {
				t.Errorf("%s takes %s, of which Formats says nothing", c.Name(), from)
			}
		}
	}
	for format, converts := range described {
		if converts && !taken[format] {
			t.Errorf("Formats says that %s converts, and no converter takes it", format)
		}
	}
}

// TestFormatsDoc: docs/formats.md is what the table says.
func TestFormatsDoc(t *testing.T) {
	t.Parallel()
	const path = "../docs/formats.md"
	want := formatsDoc()
	if *update {
		if err := os.WriteFile(path, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what Formats() says: make golden", path)
	}
}

func formatsDoc() []byte {
	var b bytes.Buffer
	b.WriteString(`# Formats

What weightseal makes of each format, whatever the file is called: the content
decides. Nothing is executed, and Python is not needed. What cannot be converted
without loss is refused with the next step, never mended silently. This page is
made from the table in [convert/formats.go](../convert/formats.go).

| format | recognised by | what converts | what is lost | what is refused, and what to do then |
|---|---|---|---|---|
`)
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, f := range Formats() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell.Replace(f.Name), cell.Replace(f.Recognised),
			cell.Replace(orNothing(f.Converts)), cell.Replace(orNothing(f.Lost)), cell.Replace(orNothing(f.Refused)))
	}
	return b.Bytes()
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
