package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

var manifestVersion = regexp.MustCompile(`(?m)^version: .*$`)

// helmPlugin is the archive that `helm plugin install` takes: the manifest of
// this version and the hook that fetches the platform's archive. The public
// key travels with it, so that the hook has something to check against.
func (r *release) helmPlugin(public []byte) ([]byte, error) {
	var list []entry
	for _, f := range []struct {
		name              string
		program, optional bool
	}{
		{name: "plugin.yaml"}, {name: "plugin.complete", program: true, optional: true},
		{name: "tools/plugin-hook", program: true}, {name: "LICENSE"},
	} {
		content, err := os.ReadFile(filepath.Join(r.source, filepath.FromSlash(f.name)))
		if f.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.name == "plugin.yaml" {
			content = manifestVersion.ReplaceAll(content, []byte("version: "+r.version))
		}
		list = append(list, entry{name: "weightseal/" + f.name, content: content, program: f.program})
	}
	if public != nil {
		list = append(list, entry{name: "weightseal/weightseal.pub", content: public})
	}
	var b bytes.Buffer
	err := writeTarGz(&b, list, r.date)
	return b.Bytes(), err
}
