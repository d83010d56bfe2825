package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// checkout is the top of it, from here.
const checkout = "../../.."

// TestReference: docs/reference has a page for each command and man has its
// manual page, both as the commands themselves say; -update writes them.
func TestReference(t *testing.T) {
	t.Parallel()
	root := newRoot(&streams{}, host{name: program})
	root.Version = ""
	root.InitDefaultCompletionCmd("bash")
	visit(root, func(c *cobra.Command) {
		c.DisableAutoGenTag = true
		c.Long = verbatim(c.Long)
		// The tree is not run, so what running it adds is added here.
		c.InitDefaultHelpFlag()
	})
	markdown, manual := map[string]string{}, map[string]string{}
	visit(root, func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "_")
		markdown[name+".md"] = referencePage(t, c)
		manual[strings.ReplaceAll(name, "_", "-")+".1"] = manualPage(t, c)
	})
	compareFolder(t, filepath.Join(checkout, "docs/reference"), markdown)
	compareFolder(t, filepath.Join(checkout, "docs/man"), manual)
}

func visit(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		visit(sub, f)
	}
}

// verbatim makes blocks of the indented lines of a help text: Markdown, which
// manual pages are made from too, takes two spaces for nothing and four, after an
// empty line, for lines that stay as they are.
func verbatim(long string) string {
	var b strings.Builder
	empty := true
	for line := range strings.Lines(long) {
		if strings.HasPrefix(line, "  ") {
			if !empty {
				b.WriteString("\n")
			}
			line = "  " + line
			empty = true // the next one belongs to it
		} else {
			empty = strings.TrimSpace(line) == ""
		}
		b.WriteString(line)
	}
	return b.String()
}

func referencePage(t *testing.T, c *cobra.Command) string {
	t.Helper()
	var page bytes.Buffer
	if err := doc.GenMarkdownCustom(c, &page, func(link string) string { return link }); err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(page.String(), "\n") + "\n"
}

func manualPage(t *testing.T, c *cobra.Command) string {
	t.Helper()
	// A manual page carries a date, and the same commands give the same page.
	date := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var page bytes.Buffer
	header := doc.GenManHeader{Section: "1", Date: &date, Source: program, Manual: "weightseal manual"}
	if err := doc.GenMan(c, &header, &page); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// compareFolder wants exactly these files in a folder.
func compareFolder(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if *update {
		if err := writeFolder(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%v: `make golden` writes it", err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
		got, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if page, ok := want[f.Name()]; !ok || page != string(got) {
			t.Errorf("%s is not what the commands say: `make golden` rewrites it", filepath.Join(dir, f.Name()))
		}
	}
	for name := range want {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing: `make golden` writes it", filepath.Join(dir, name))
		}
	}
}

func writeFolder(dir string, files map[string]string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
