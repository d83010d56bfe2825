// Package helmplugin holds the files of the Helm plugin, and packs them as
// `helm plugin install` takes them. The files are copies of plugin.yaml,
// plugin.complete and tools/plugin-hook at the root of the module, where Helm
// looks for them in a checkout; a test keeps the copies equal.
package helmplugin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Name is the plugin's name, and that of its folder.
const Name = "weightseal"

// Getter is the name of the plugin with the downloader. Helm 4 takes a plugin
// in the older schema either as a command or as a downloader, so there are two.
const Getter = Name + "-getter"

// Scheme is that of the URLs that the downloader serves.
const Scheme = "weightseal+oci"

// ArtifactType is that of a plugin in a registry, for Helm 4. Its one layer is
// the archive, titled NAME-VERSION.tgz.
const ArtifactType = "application/vnd.helm.plugin.v1+json"

var (
	//go:embed plugin.yaml
	manifest []byte
	//go:embed plugin.complete
	complete []byte
	//go:embed plugin-hook
	hook []byte
)

// getter is the manifest of the downloader, whose program is the one of the
// plugin beside it. Helm joins the command to the plugin's folder and splits it
// at spaces.
const getter = `# Written by weightseal: Helm's downloader for ` + Scheme + `:// URLs.
name: ` + Getter + `
version: 0.1.0
usage: verified models as charts, values and files
description: Serves ` + Scheme + `:// URLs with the weightseal plugin beside it.
downloaders:
  - command: ../` + Name + `/bin/` + Name + ` helm-download
    protocols:
      - ` + Scheme + `
`

// A File of a plugin: Path has slashes and is relative to the plugin's folder.
type File struct {
	Path    string
	Content []byte
	Program bool // it can be executed
}

var versionLine = regexp.MustCompile(`(?m)^version: .*$`)

// Files gives the files of the plugin without its program. An empty version
// leaves the one that the manifest has.
func Files(version string) []File {
	return []File{
		{Path: "plugin.yaml", Content: withVersion(manifest, version)},
		{Path: "plugin.complete", Content: complete, Program: true},
		{Path: "tools/plugin-hook", Content: hook, Program: true},
	}
}

// GetterFiles gives the files of the plugin with the downloader.
func GetterFiles(version string) []File {
	return []File{{Path: "plugin.yaml", Content: withVersion([]byte(getter), version)}}
}

func withVersion(manifest []byte, version string) []byte {
	if version == "" {
		return bytes.Clone(manifest)
	}
	return versionLine.ReplaceAllLiteral(manifest, []byte("version: "+version))
}

// Archive writes a .tgz of files below a folder. The same files give the same
// bytes: order, times, owners and modes come from nowhere else.
func Archive(w io.Writer, folder string, modified time.Time, files ...File) error {
	zw, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	for _, f := range files {
		mode := int64(0o644)
		if f.Program {
			mode = 0o755
		}
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: folder + "/" + f.Path, Size: int64(len(f.Content)),
			Mode: mode, ModTime: modified.UTC().Truncate(time.Second), Format: tar.FormatUSTAR,
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if _, err := tw.Write(f.Content); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return zw.Close()
}
